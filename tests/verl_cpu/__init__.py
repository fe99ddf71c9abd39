"""A CPU for verl, for tests only: real Ray, real FSDP2 over gloo, a Hugging Face model as the rollout server. Imports no verl."""
