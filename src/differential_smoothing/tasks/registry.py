"""The tasks by name. A new task is a subclass of ``Task`` with its abstract methods, and a line in ``TASKS``."""

from __future__ import annotations

import importlib
import inspect
import json
from typing import Any

from .task import Task

__all__ = ["TASKS", "make_task", "read_options"]

#: Kind of task -> where its class is. ``kind:name`` passes the name to the class, as in ``reasoning_gym:gcd``.
TASKS = {
    "countdown": "differential_smoothing.tasks.countdown:Countdown",
    "math": "differential_smoothing.tasks.math:Math",
    "route": "differential_smoothing.tasks.route:Route",
    "reasoning_gym": "differential_smoothing.tasks.gym:ReasoningGym",
}


def make_task(name: str, **options: Any) -> Task:
    """The task of that name: ``countdown``, ``math``, or a kind and a name such as ``reasoning_gym:gcd``.

    ValueError names an unknown task or option, and the known ones.
    """
    kind, _, which = str(name).partition(":")
    if kind not in TASKS:
        raise ValueError(f"There is no task {name!r}. Known: {', '.join(TASKS)}.")
    module, _, attribute = TASKS[kind].partition(":")
    maker = getattr(importlib.import_module(module), attribute)
    taken = inspect.signature(maker).parameters
    if bool(which) != ("dataset" in taken):
        raise ValueError(
            f"The task {name!r} needs the name of a data set, as in '{kind}:NAME'."
            if "dataset" in taken
            else f"The task is {kind!r}; it has no {which!r}."
        )
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    known = [n for n, p in taken.items() if n != "dataset" and p.kind is not inspect.Parameter.VAR_KEYWORD]
    for option in options:
        if option == "dataset" or not (open_ended or option in known):
            raise ValueError(f"The task {name!r} has no option {option!r}. It knows {', '.join(known)}.")
    return maker(which, **options) if which else maker(**options)


def read_options(options: Any, name: str = "task_options") -> dict[str, Any] | None:
    """``task_options``, or those of that ``name``, as a mapping, from JSON where it came as text; None if there are none. ValueError otherwise."""
    given = options
    if isinstance(options, str) and not options:
        return None
    if isinstance(options, str):
        try:
            options = json.loads(options)
        except ValueError as error:
            raise ValueError(f"{name} cannot be read as JSON ({error}); got {given!r:.200}.") from None
    if not (options is None or isinstance(options, dict)):
        raise ValueError(f'{name} must be a mapping such as {{"max_solutions": 1}}; got {given!r:.200}.')
    return options or None
