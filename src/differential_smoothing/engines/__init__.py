"""What draws completions for an evaluation: our sampler, transformers, or vLLM, behind one signature."""

from .engine import ENGINES, Draw, Engine, end_tokens, make_engine

__all__ = ["ENGINES", "Draw", "Engine", "end_tokens", "make_engine"]
