"""Equations as what they say: a name, two sides, a difference that is zero."""

from __future__ import annotations

from fractions import Fraction

from .reader import expression
from .value import Value

__all__ = ["components", "difference", "minus", "sides", "spelling"]


def spelling(name: str) -> str:
    """A name without the braces of its subscripts."""
    return name.replace("{", "").replace("}", "")


def minus(one: tuple, other: tuple) -> tuple:
    """The difference of two expressions."""
    return "+", (one, ("*", (("number", Fraction(-1), False), other)))


def components(value: Value) -> tuple[Value, ...]:
    """(x, y) = (1, 2) as x = 1 and y = 2."""
    name, given = value.parts[:2]
    letters = name[1:-1].split(",") if name.startswith("(") else []
    if given.kind != "()" or len(letters) != len(given.parts) or len(letters) < 2:
        return ()
    return tuple(Value("named", (letter, part, None, True, ())) for letter, part in zip(letters, given.parts))


def sides(value: Value) -> tuple | None:
    """The expressions on the sides of an equation; None if they are not expressions."""
    if value.kind == "equation":
        return value.parts[0]
    if value.parts[2] is None or value.parts[1].kind != "one" or value.parts[1].unit:
        return None
    try:
        return expression(value.parts[2]), value.parts[1].parts
    except ValueError:
        return None


def difference(value: Value) -> tuple | None:
    """What is zero in an equation of two sides; None if it has others."""
    both = sides(value)
    return minus(*both) if both is not None and len(both) == 2 else None
