"""``dsmooth``: what a person types. Every command is a thin reading of arguments around a function of the package."""

# Commands register themselves; --help lists them in the order of these lines.
# ruff: isort: off
from . import training  # noqa: F401
from . import paper  # noqa: F401
from . import data  # noqa: F401
from . import measuring  # noqa: F401
from . import planning  # noqa: F401
from . import configs  # noqa: F401
from . import llm  # noqa: F401
from .app import app, main

__all__ = ["app", "main"]
