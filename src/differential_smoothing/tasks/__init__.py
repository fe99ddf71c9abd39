"""Tasks: a task is its prompts, the verifier that shares their format contract, and what makes two answers the same."""

from .registry import make_task, read_options
from .task import Task, Verdict

__all__ = ["Task", "Verdict", "make_task", "read_options"]
