"""The type of an answer: what is written there, before anything is compared.

``read`` gives a ``Value``. Its ``kind`` is one of

* ``one``: an expression, with its unit; ``based``: digits and a base; ``ratio``: 2:1; ``matrix``: rows of expressions;
* ``list``, ``{}``, and ``()``, ``[]``, ``(]``, ``[)``: several values, in order where the brackets say so;
* ``named``: name = value; ``equation``: other equations; ``relation``: a chain of inequalities; ``system``: several of these;
* ``reals``, ``empty``, ``union``, ``minus``, ``points`` (a set with a condition): regions; ``formula``: tokens that are compared as they are; ``words``.
"""

from __future__ import annotations

import re
from fractions import Fraction

from . import units
from .lefts import is_name, is_quantity
from .phrases import announced, connected, is_formula, outside, qualified, scaled, wordy
from .reader import expression
from .sides import NUMBER_WORDS, side, wrapped
from .tokens import GAP, Token, Unreadable, flat, spelled, tokens
from .trees import number, top_level
from .value import Value

__all__ = ["Value", "read"]

MAX_PARTS = 60
_ORDER = {"<": "<", "le": "le", ">": "<", "ge": "le"}
_RELATIONS = (
    "=",
    "<",
    ">",
    "le",
    "ge",
    "ne",
    "in",
    "approx",
    "sim",
    "equiv",
    "subset",
    "subseteq",
    "notin",
    "propto",
    "rightarrow",
    "parallel",
    "perp",
)
_INTEGER = re.compile("-?[0-9]{1,30}")


def read(answer: str, *, thousands: bool = True) -> Value:
    """The value of an answer. ``Unreadable`` with a reason if it has none."""
    if _INTEGER.fullmatch(answer):
        return Value("one", number(int(answer)), text=answer)
    marked = spelled(answer, thousands=thousands)
    text = flat(marked)
    found = _without_gaps(tokens(marked))
    if not found:
        raise Unreadable("no answer found")
    if (word := text.lower()) in NUMBER_WORDS:
        return Value("one", expression([Token("number", str(NUMBER_WORDS[word]))]), text=text)
    reason = None
    try:
        return _answer(found)._replace(text=text)
    except Unreadable as error:
        reason = error
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    if wordy(found):
        return Value("words", text, text=text)
    top_level(found)  # brackets that do not match are no formula
    if not is_formula(found):
        raise reason
    return Value("formula", tuple(t.text for t in found if t.text != GAP), text=text)


def _without_gaps(found: list[Token]) -> list[Token]:
    """Without white space that keeps no two equations apart."""
    if sum(_is_relation(t) for t in found) < 2:
        return [t for t in found if t.text != GAP]
    kept = set(map(id, outside(found)))
    return [t for t in found if t.text != GAP or id(t) in kept]


def _answer(found: list[Token]) -> Value:
    found = scaled(connected(announced(found)))
    found, qualifier = qualified(found)
    if not found:
        raise Unreadable("no answer found")
    value = _several(found)
    return value._replace(qualifier=qualifier or value.qualifier)


def _several(found: list[Token]) -> Value:
    """Statements that commas, "or" and "and" join."""
    parts = [p for part in top_level(found, ",", ";", "or", "and") for p in _apart(part) if p]
    if len(parts) > MAX_PARTS:
        raise Unreadable("too many answers")
    if not parts:
        raise Unreadable("no answer found")
    joint = next((t.text for t in outside(found) if t.text in ("or", "and")), ",")
    parts = [[t for t in p if t.text != GAP] for p in parts]
    if len(parts) == 1:
        return _statement(parts[0])
    values = [_statement(p) for p in parts]
    stated = [v.kind in ("named", "equation", "relation", "system") for v in values]
    if not any(stated):
        return Value("list", tuple(v for value in values for v in (value.parts if value.kind == "list" else (value,))))
    grouped: list[Value] = []
    for value, is_statement in zip(values, stated):
        if is_statement:
            grouped.append(value)
        elif grouped and grouped[-1].kind == "named":  # n = 1, 3
            name, before, tokens_, quantity, between = grouped[-1].parts
            items = (*before.parts, value) if before.kind == "list" else (before, value)
            grouped[-1] = Value("named", (name, Value("list", items), tokens_, quantity, between))
        elif (
            grouped and grouped[-1].kind == "relation" and grouped[-1].parts[0] == ("ne",) and value.kind == "one"
        ):  # x \\ne -1, 4
            grouped.append(Value("relation", (("ne",), (grouped[-1].parts[1][0], value.parts))))
            joint = "and"
        else:
            grouped.append(value)
    if any(v.kind in ("list", "words") for v in grouped):
        raise Unreadable("an answer beside an equation")
    named = {v.parts[0] for v in grouped if v.kind == "named"}
    if len(named) == 1 and all(v.kind == "named" for v in grouped) and len(grouped) > 1:  # x = 1 or x = 2
        items = tuple(x for v in grouped for x in (v.parts[1].parts if v.parts[1].kind == "list" else (v.parts[1],)))
        if any(v.parts[4] for v in grouped):
            raise Unreadable("chains of equations beside each other")
        return Value("named", (grouped[0].parts[0], Value("list", items), None, grouped[0].parts[3], ()))
    if len(grouped) > 1 and any(v.kind == "system" for v in grouped):
        raise Unreadable("systems in a system")
    return grouped[0] if len(grouped) == 1 else Value("system", (joint, tuple(grouped)))


def _apart(found: list[Token]) -> list[list[Token]]:
    """Equations that only white space keeps apart: y = 1 \\quad y = 2."""
    parts = top_level(found, GAP)
    if len(parts) > 1 and all(any(map(_is_relation, outside(p))) for p in parts if p):
        return parts
    return [[t for t in found if t.text != GAP]]


def _statement(found: list[Token]) -> Value:
    """One side, or sides with relations between them."""
    if wrapped(found) and found[0].text != "langle" and any(map(_is_relation, outside(found[1:-1]))):
        return _conditional(found[1:-1]) or _several(found[1:-1])  # {x | x > 0}; [x = 1, y = 2]
    relations = [t for t in outside(found) if _is_relation(t)]
    if not relations:
        return side(found)
    sides = top_level(found, *_RELATIONS)
    signs = ["=" if t.text == "equiv" else t.text for t in relations]
    if "approx" in signs:
        at = signs.index("approx")
        if at == 0 and len(sides[0]) <= 4 and sides[0] and sides[0][0].kind == "name" and sides[0][0].text != "e":
            signs[0] = "="  # P \approx 0.25
        else:  # what stands before it is exact
            rounded = side(sides[at + 1]) if at == len(signs) - 1 and sides[at + 1] else None
            if rounded is None or rounded.kind != "one" or rounded.parts[0] == "name":
                raise Unreadable("an approximation that is not a number")
            value = _stated(sides[: at + 1], signs[:at])
            percent = rounded.unit == "%"
            return value._replace(
                rounded=("/", rounded.parts, ("number", Fraction(100), False)) if percent else rounded.parts
            )
    return _stated(sides, signs)


def _stated(sides: list[list[Token]], signs: list[str]) -> Value:
    if not signs:
        return side(sides[0])
    if any(not side for side in sides):
        raise Unreadable("cannot be read as mathematics")
    if signs == ["in"]:
        return _member(sides)
    if all(sign == "=" for sign in signs):
        return _equation(sides)
    if signs == ["ne"]:
        excluded = side(sides[1])
        if excluded.kind in ("list", "{}"):
            return Value("system", ("and", tuple(_unequal(sides[0], v) for v in excluded.parts)))
        return _unequal(sides[0], excluded)
    if len({s in ("<", "le") for s in signs}) == 1 and all(s in _ORDER for s in signs):
        trees = tuple(expression(units.split(side)[0]) for side in sides)
        order = tuple(_ORDER[s] for s in signs)
        return (
            Value("relation", (order, trees))
            if signs[0] in ("<", "le")
            else Value("relation", (order[::-1], trees[::-1]))
        )
    raise Unreadable("relations that are not read")


def _is_relation(token: Token) -> bool:
    return token.kind in ("sign", "command") and token.text in _RELATIONS


def _conditional(inside: list[Token]) -> Value | None:
    """The condition of a set, as in \\{x | x > 0\\}; None if it has none."""
    bars = [i for i, t in enumerate(inside) if t.text in ("|", ":") and t.kind == "sign"]
    if (
        not bars
        or (len(bars) % 2 == 0 and inside[bars[0]].text == "|")
        or any(t.text == "," for t in inside[: bars[0]])
    ):
        return None
    variable = "".join(t.text for t in inside[: bars[0]] if t.text not in "{}").removesuffix("inmathbbR")
    value = _several(inside[bars[0] + 1 :])
    if len(variable) != 1 or value.kind not in ("relation", "system", "named"):
        raise Unreadable("a set with a condition")
    return value


def _unequal(name: list[Token], value: Value) -> Value:
    if value.kind != "one":
        raise Unreadable("cannot be read as mathematics")
    return Value("relation", (("ne",), (expression(name), value.parts)))


def _member(sides: list[list[Token]]) -> Value:
    name = "".join(t.text for t in sides[0])
    value = side(sides[1])
    return Value("named", (name, value, sides[0], True, ()))


def _equation(sides: list[list[Token]]) -> Value:
    first, last = sides[0], sides[-1]
    left = "".join(t.text for t in first)
    between = tuple(map(side, sides[1:-1]))
    if is_name(first):
        return Value("named", (left, side(last), first, True, between))
    if (
        wrapped(first)
        and first[0].text == "("
        and len(top_level(first[1:-1], ",")) > 1
        and all(map(is_name, top_level(first[1:-1], ",")))
    ):
        return Value("named", (left, side(last), first, True, between))  # (x, y) = (1, 2)
    if is_quantity(first):
        return Value("named", (left, side(last), None, True, between))
    try:
        trees = tuple(expression(s) for s in sides)
    except Unreadable:
        trees = None
    return Value("equation", (trees, side(last), tuple(map(side, sides)) if trees is None else ()))
