"""The type of an answer."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Value"]


class Value(NamedTuple):
    """An answer: its ``kind``, of which ``values`` has the list, and its ``parts``."""

    kind: str
    parts: Any
    unit: str = ""
    qualifier: str = ""  # "all integers", "k in Z": a condition that is written beside the answer
    text: str = ""  # the whole answer as it reads, of the outermost value
    rounded: tuple | None = None  # what stands behind \\approx
