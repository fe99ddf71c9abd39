"""Tasks: a task is its prompts, the verifier that shares their format contract, and what makes two answers the same."""
