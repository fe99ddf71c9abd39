"""Which answer a completion gives, by a function of the user's: asked in one way by the trainer and by the monitor."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from differential_smoothing.tasks.task import text_of

__all__ = ["Answers"]

_log = logging.getLogger(__name__)


class Answers:
    """``canonical(completion_text, **columns) -> str | None`` of a completion and its row of the data set.

    The text is given by position and the row's columns by name. A column that has the name of the function's first parameter is left
    out, since the text stands there; ``def canonical(text, /, **columns)`` receives it. A function that fails, or returns neither text
    nor None, gives None, with one warning: a training does not end over a completion that cannot be read.
    """

    def __init__(self, canonical: Callable[..., str | None]):
        if not callable(canonical):
            raise ValueError(
                f"canonical must be a function of a completion's text and the row's columns, got {canonical!r:.80}."
            )
        self._canonical, self._first, self._failed = canonical, _first_parameter(canonical), False

    def __call__(self, completion: Any, row: Mapping[str, Any]) -> str | None:
        """The answer of a correct completion, text or messages; None if it has none to compare."""
        columns = {name: value for name, value in row.items() if name != self._first}
        try:
            answer = self._canonical(text_of(completion), **columns)
            if not (answer is None or isinstance(answer, str)):
                raise TypeError(f"it returned {answer!r:.40}, which is neither text nor None")
        except Exception as error:  # a user's function on a model's output
            if not self._failed:
                _log.warning(
                    "canonical failed on a correct completion (%s: %s). Such completions are left out: they have no answer that is "
                    "compared. It must take the text and the row's columns (**columns) and return text or None.",
                    type(error).__name__,
                    error,
                )
            self._failed = True
            return None
        return answer


def _first_parameter(function: Callable[..., Any]) -> str | None:
    """Its name, if the first parameter can also be given by name."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):  # a builtin without a signature
        return None
    return first.name if first is not None and first.kind is first.POSITIONAL_OR_KEYWORD else None
