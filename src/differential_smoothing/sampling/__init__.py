"""Completions from a model: ``shared_prefix`` draws them in this process, an ``engine``, one of ``engines``, wherever the model runs, ``jobs`` draws them for a task's
problems and scores them, ``parts`` does so in pieces that survive an interruption and can be drawn on several machines.
"""

from .engine import Draw, Engine, end_tokens
from .engines import ENGINES, make_engine
from .shared_prefix import Sample, sample

__all__ = ["ENGINES", "Draw", "Engine", "Sample", "end_tokens", "make_engine", "sample"]
