"""Sets of real numbers: intervals, inequalities in one name, unions of them, all numbers but some."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

from .trees import names
from .value import Value

__all__ = ["BRACKETS", "Regions"]

BRACKETS = ("()", "[]", "(]", "[)")
_INFINITY, _MINUS_INFINITY = ("name", "infty"), ("*", (("number", Fraction(-1), False), ("name", "infty")))
_Region = tuple[str | None, list]  # a name or None; intervals (low, closed, high, closed) with None for infinity


class Regions:
    """Reads values as regions and compares them. ``oracle`` compares and orders the ends."""

    def __init__(self, oracle: Any) -> None:
        self.oracle = oracle

    def region(self, value: Value) -> tuple[str | None, list] | None:
        """(name or None, intervals (low, closed, high, closed) with None for infinity) of a set of real numbers; None if it is none."""
        kind = value.kind
        if kind == "reals":
            return None, [(None, False, None, False)]
        if kind == "empty":
            return None, []
        if kind in BRACKETS and len(value.parts) == 2 and all(v.kind == "one" and not v.unit for v in value.parts):
            low, high = (v.parts for v in value.parts)
            ends = None if low == _MINUS_INFINITY else low, None if high == _INFINITY else high
            if (
                _INFINITY in ends
                or _MINUS_INFINITY in ends
                or (ends[0] is None and kind[0] == "[")
                or (ends[1] is None and kind[1] == "]")
            ):
                return None
            return None, [(ends[0], kind[0] == "[", ends[1], kind[1] == "]")]
        if (
            kind == "named"
            and (inner := self.region(value.parts[1])) is not None
            and len(value.parts[0]) < 12
            and value.parts[1].kind != "()"
        ):
            return value.parts[0], inner[1]
        if (
            kind == "named"
            and value.parts[2] is not None
            and value.parts[1].kind == "()"
            and len(value.parts[0]) == 1
            and (inner := self.region(value.parts[1]))
        ):
            return value.parts[0], inner[1]
        if kind == "{}" and value.parts and all(v.kind == "one" and not v.unit for v in value.parts):
            return None, [(v.parts, True, v.parts, True) for v in value.parts]
        if kind == "relation":
            return self._half_lines(*value.parts)
        if kind == "union":
            inner = [self.region(v) for v in value.parts]
            return None if None in inner else (None, [i for _, part in inner for i in part])
        if kind == "minus" and len(value.parts) == 2:
            return self._without(*map(self.region, value.parts))
        if kind == "system":
            return self._joined(*value.parts)
        return None

    def _half_lines(self, signs: tuple[str, ...], trees: tuple) -> tuple[str, list] | None:
        lettered = [i for i, t in enumerate(trees) if names(t)]
        if len(lettered) != 1 or trees[lettered[0]][0] not in ("name", "apply"):
            return None
        at = lettered[0]
        name = trees[at][1]
        if signs == ("ne",):
            bound = trees[1 - at]
            return name, [(None, False, bound, False), (bound, False, None, False)]
        if len(trees) == 2:
            return name, [(trees[0], signs[0] == "le", None, False)] if at else [
                (None, False, trees[1], signs[0] == "le")
            ]
        if len(trees) == 3 and at == 1:
            low, high = trees[0], trees[2]
            ends = None if low == _MINUS_INFINITY else low, None if high == _INFINITY else high
            return name, [
                (ends[0], signs[0] == "le" and ends[0] is not None, ends[1], signs[1] == "le" and ends[1] is not None)
            ]
        return None

    def _joined(self, joint: str, stated: tuple[Value, ...]) -> tuple[str, list] | None:
        """x < 2 or x > 3; x > 1 and x < 3."""
        inner = [self.region(v) for v in stated]
        if None in inner or len({name for name, _ in inner}) != 1 or inner[0][0] is None:
            return None
        if joint == "or":
            return inner[0][0], [i for _, part in inner for i in part]
        if all(v.kind == "relation" and v.parts[0] == ("ne",) for v in stated):
            return inner[0][0], self._cut([v.parts[1][0 if names(v.parts[1][1]) else 1] for v in stated])
        if len(inner) != 2 or any(len(part) != 1 for _, part in inner):
            return None
        (low, closed, high, closed_high), (low_too, closed_too, high_too, closed_high_too) = (
            part[0] for _, part in inner
        )
        if low is None and high_too is None:
            low, closed, high_too, closed_high_too = low_too, closed_too, high, closed_high
        elif not (high is None and low_too is None):
            return None
        if low is None or high_too is None or not self.oracle.order(low, high_too):
            return None  # empty, or not to be ordered
        return inner[0][0], [(low, closed, high_too, closed_high_too)]

    def _cut(self, bounds: list[tuple]) -> list:
        """All real numbers but these."""
        order = sorted(range(len(bounds)), key=lambda i: sum(self.oracle.order(b, bounds[i]) for b in bounds))
        ends = [None, *(bounds[i] for i in order), None]
        return [(low, False, high, False) for low, high in pairwise(ends)]

    def _without(self, one, other) -> tuple[str | None, list] | None:
        if (
            one is None
            or other is None
            or one[1] != [(None, False, None, False)]
            or any(low is None or low != high for low, _, high, _ in other[1])
        ):
            return None
        return one[0], self._cut([low for low, *_ in other[1]])

    def same(self, one: tuple[str | None, list], other: tuple[str | None, list]) -> bool:
        (name, intervals), (name_too, intervals_too) = one, other
        if name is not None and name_too is not None and name != name_too:
            return False
        return (
            len(intervals) == len(intervals_too)
            and all(any(map(self._same_interval, [a] * len(intervals_too), intervals_too)) for a in intervals)
            and all(any(map(self._same_interval, intervals, [b] * len(intervals))) for b in intervals_too)
        )

    def _same_interval(self, one: tuple, other: tuple) -> bool:
        (low, closed, high, closed_high), (low_too, closed_too, high_too, closed_high_too) = one, other
        if (
            (closed, closed_high) != (closed_too, closed_high_too)
            or (low is None) != (low_too is None)
            or (high is None) != (high_too is None)
        ):
            return False
        return (low is None or self.oracle.equal(low, low_too)) and (high is None or self.oracle.equal(high, high_too))
