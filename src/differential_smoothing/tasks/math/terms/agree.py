"""Whether two answers are the same, type by type. What has no rule here is not equal.

``same(gold, answer, oracle)`` compares the ``Value`` of the gold answer with that of an answer; ``oracle`` decides whether two expressions are equal (``oracles``).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from . import units
from .regions import BRACKETS, Regions
from .statements import components, difference, minus, sides, spelling
from .trees import names, rename
from .value import Value

__all__ = ["same"]

ANOTHER_UNIT = "has another unit than the gold answer"
_HUNDREDTH, _THOUSANDTH = ("number", Fraction(1, 100), False), ("number", Fraction(1, 1000), False)


class Differs(Exception):
    """They are not the same, for the reason in its text."""


def same(gold: Value, answer: Value, oracle: Any) -> tuple[bool, str]:
    """(equal, reason). ``Undecided`` if the oracle cannot say."""
    try:
        if answer.rounded is not None and not _rounds(answer, oracle):
            return False, "contradicts itself"
        if gold.qualifier and answer.qualifier and gold.qualifier != answer.qualifier:
            return False, "has another condition than the gold answer"
        equal = _Comparison(oracle).same(gold, answer)
    except Differs as reason:
        return False, str(reason)
    return equal, "" if equal else "differs from the gold answer"


def _rounds(answer: Value, oracle: Any) -> bool:
    """Whether the decimal fraction behind \\approx is that of the value before it, to its last digit."""
    value = answer.parts[1] if answer.kind in ("named", "equation") else answer
    return value.kind == "one" and oracle.near(value.parts, answer.rounded)


class _Comparison:
    def __init__(self, oracle: Any) -> None:
        self.oracle, self.regions = oracle, Regions(oracle)

    def same(self, gold: Value, answer: Value) -> bool:
        if (
            gold.kind == "named"
            and gold.parts[1].kind in BRACKETS
            and len(system := components(gold)) > 1
            and answer.kind == "system"
        ):
            gold = Value("system", (",", system))
        if gold.kind == "system":
            return self.system(gold, answer)
        if gold.kind in ("named", "equation"):
            return self.equation(gold, answer)
        if self.regions.region(gold) is not None and (answer.kind in ("relation", "system") or answer.kind == "named"):
            other = self.regions.region(answer)
            if other is not None:
                return self.regions.same(self.regions.region(gold), other)
        if gold.kind == "relation":
            return self.relation(gold, answer)
        return self.plain(gold, self.value_of(gold, answer))

    def value_of(self, gold: Value, answer: Value) -> Value:
        """What an answer's value where the gold answer is not an equation: what stands after the last =."""
        if answer.kind in ("named", "equation"):
            self.consistent(answer)
            return answer.parts[1]
        if answer.kind == "system" and all(v.kind == "named" for v in answer.parts[1]):
            stated = answer.parts[1]
            letters = [v.parts[0] for v in stated]
            if len(set(letters)) == len(letters) and gold.kind in ("()", "list"):
                if all(len(name) == 1 for name in letters):
                    in_order = sorted(stated, key=lambda v: v.parts[0])
                elif letters == sorted(letters):
                    in_order = list(stated)  # x_1, x_2
                else:
                    raise Differs("names in an order that the gold answer does not have")
                return Value("()", tuple(v.parts[1] for v in in_order))
        return answer

    def consistent(self, answer: Value) -> None:
        """``Differs`` where a chain such as 2 + 2 = 5 contradicts itself."""
        value = answer.parts[1]
        if answer.kind == "named":
            if not all(self._alike(value, side) for side in answer.parts[4]):
                raise Differs("contradicts itself")
        elif answer.parts[0] and value.kind == "one" and not names(value.parts) - {"i"}:
            constant = [side for side in answer.parts[0][:-1] if not names(side) - {"i"}]
            if not all(self.oracle.equal(value.parts, side) for side in constant):
                raise Differs("contradicts itself")

    def equation(self, gold: Value, answer: Value) -> bool:
        if answer.kind not in ("named", "equation"):
            if gold.kind == "named" and gold.parts[3] and answer.kind not in ("relation", "system", "words"):
                return self.plain(gold.parts[1], answer)
            if (
                gold.kind == "named"
                and self.regions.region(gold.parts[1]) is not None
                and (region := self.regions.region(answer)) is not None
            ):
                return region[0] in (None, gold.parts[0]) and self.regions.same(
                    self.regions.region(gold.parts[1]), region
                )
            return False
        if gold.kind == answer.kind == "named":
            matched = self.named(gold, answer)
            if matched is not None:
                return matched
        one, other = difference(gold), difference(answer)
        if one is None or other is None:
            return self.sides(gold, answer)
        if not names(one) - {"i"}:
            return sides(gold) == sides(answer)  # \\log_2 8 = 3 and \\log_3 27 = 3 are two statements
        return self.sides(gold, answer) or self.oracle.proportional(one, other)

    def named(self, gold: Value, answer: Value) -> bool | None:
        """Two equations name = value; None if they have to be compared as equations."""
        (name, value, *_), (other, given, *_) = gold.parts, answer.parts
        if gold.parts[4] or answer.parts[4]:
            self.consistent(gold)
            self.consistent(answer)
        if spelling(name) == spelling(other):
            return self.plain(value, given)
        function, other_function = re.fullmatch(r"(.+)\((.+)\)", name), re.fullmatch(r"(.+)\((.+)\)", other)
        if function and other_function and function[1] == other_function[1]:  # f(x) = x + 1 and f(n) = n + 1
            old, new = other_function[2], function[2]
            if (
                len(old) == len(new) == 1
                and old.islower()
                and new.islower()
                and given.kind == value.kind == "one"
                and new not in names(given.parts)
            ):
                return self.plain(value, given._replace(parts=rename(given.parts, old, new)))
            return False
        if (function and len(function[2]) == 1 and other == "y") or (
            other_function and len(other_function[2]) == 1 and name == "y"
        ):
            return self.plain(value, given)
        if name.startswith("("):
            parts, parts_too = components(gold), components(answer)
            return (
                len(parts) > 1
                and len(parts_too) > 1
                and self.system(Value("system", (",", parts)), Value("system", (",", parts_too)))
            )
        if value.kind != "one" or given.kind != "one":
            return False
        solved = name not in names(given.parts) and other not in names(value.parts)
        if solved or (
            value.parts[0] != "name"
            and given.parts[0] != "name"
            and name not in names(value.parts)
            and other not in names(given.parts)
        ):
            return False  # x = 5 and y = 5; l = (P - 2w)/2 and P = 2l + 2w
        return None

    def sides(self, gold: Value, answer: Value) -> bool:
        """Both sides the same, also the other way round."""
        one, other = sides(gold), sides(answer)
        if one is None or other is None or len(one) != len(other):
            return False
        if not any(names(side) - {"i"} for side in one):
            return one == other
        return any(all(self.oracle.equal(a, b) for a, b in zip(one, order)) for order in (other, other[::-1]))

    def relation(self, gold: Value, answer: Value) -> bool:
        if answer.kind != "relation":
            region = self.regions.region(gold)
            other = self.regions.region(answer)
            return region is not None and other is not None and self.regions.same(region, other)
        (signs, trees), (signs_too, trees_too) = gold.parts, answer.parts
        if signs == signs_too and all(self.oracle.equal(a, b) for a, b in zip(trees, trees_too)):
            return True
        region, other = self.regions.region(gold), self.regions.region(answer)
        if region is not None and other is not None:
            return self.regions.same(region, other)
        if signs == signs_too and len(trees) == 2:
            one, other = minus(*trees), minus(*trees_too)
            return self.oracle.proportional(one, other, positive=signs != ("ne",))
        return False

    def system(self, gold: Value, answer: Value) -> bool:
        joint, stated = gold.parts
        if answer.kind == "named" and len(parts := components(answer)) > 1:
            answer = Value("system", (",", parts))
        region = self.regions.region(gold)
        if region is not None and (other := self.regions.region(answer)) is not None:
            return self.regions.same(region, other)
        if answer.kind == "system":
            other_joint, given = answer.parts
            if len(stated) != len(given) or ("or" in (joint, other_joint) and joint != other_joint):
                return False
            free = list(given)
            for one in stated:
                found = next((other for other in free if self._same_statement(one, other)), None)
                if found is None:
                    return False
                free.remove(found)
            return True
        if (
            answer.kind in ("()", "list")
            and all(v.kind == "named" for v in stated)
            and len(answer.parts) == len(stated)
            and joint != "or"
        ):
            return all(map(self.plain, (v.parts[1] for v in stated), answer.parts))  # in the order of the gold answer
        return False

    def _same_statement(self, one: Value, other: Value) -> bool:
        if one.kind == "named" and other.kind == "named" and spelling(one.parts[0]) != spelling(other.parts[0]):
            return False
        try:
            return one.kind == other.kind and self.same(one, other)
        except Differs:
            return False

    def plain(self, gold: Value, answer: Value) -> bool:
        """Two values that are not statements."""
        kinds = gold.kind, answer.kind
        if "words" in kinds or "formula" in kinds:
            return kinds[0] == kinds[1] and gold.parts == answer.parts
        if kinds == ("one", "one"):
            return self.quantity(gold, answer)
        if "based" in kinds:
            return self.based(gold, answer)
        if kinds == ("ratio", "ratio"):
            return self.ratio(gold.parts, answer.parts)
        if "matrix" in kinds:
            return self.matrix(gold, answer)
        if kinds[0] == "one" and kinds[1] in ("list", "{}"):
            return kinds[1] == "list" and all(self._alike(gold, v) for v in answer.parts)  # 5 or 10/2
        if set(kinds) <= {"list", "{}"}:
            return self.set_of(gold.parts, answer.parts, counted=kinds[0] == "list")
        if kinds in (("list", "()"), ("()", "list")) and not any(
            v.kind in BRACKETS for v in (*gold.parts, *answer.parts)
        ):
            return self.tuple_of(gold, answer)
        if kinds[0] == kinds[1] and kinds[0] in BRACKETS:
            return self.tuple_of(gold, answer)
        if (
            "one" not in kinds
            and (region := self.regions.region(gold)) is not None
            and (other := self.regions.region(answer)) is not None
        ):
            return self.regions.same(region, other)
        return False

    def _alike(self, gold: Value, answer: Value) -> bool:
        try:
            return self.plain(gold, answer)
        except Differs:
            return False

    def quantity(self, gold: Value, answer: Value) -> bool:
        one, other, unit, unit_too = gold.parts, answer.parts, gold.unit, answer.unit
        if unit != unit_too and "%" in (unit, unit_too):  # 50% answers 50 and 0.5
            if unit and unit_too:
                raise Differs(ANOTHER_UNIT)
            hundredth = ("*", (_HUNDREDTH, one if unit else other))
            return self.oracle.equal(one, other) or self.oracle.equal(
                hundredth if unit else one, other if unit else hundredth
            )
        if unit != unit_too and "‰" in (unit, unit_too):  # it is never left out
            thousandth = ("*", (_THOUSANDTH, one if unit == "‰" else other))
            return not (unit and unit_too) and self.oracle.equal(
                thousandth if unit else one, other if unit else thousandth
            )
        if units.alike(unit, unit_too):
            if (
                unit != unit_too
                and "°" in (unit, unit_too)
                and not (unit and unit_too)
                and "pi" in _constants(one if unit_too else other)
            ):
                return self.oracle.equal(_radians(one) if unit else one, other if unit else _radians(other))
            if self.oracle.equal(one, other):
                return True
            if bool(unit) == bool(unit_too):
                return False
        bare = self._bare_unit(one if not unit else other, unit or unit_too) if bool(unit) != bool(unit_too) else None
        if bare is not None:  # 12 m^3 beside 12\text{ m}^3
            return self.oracle.equal(bare if not unit else one, other if not unit else bare)
        if not units.alike(unit, unit_too):
            raise Differs(ANOTHER_UNIT)
        return False

    def _bare_unit(self, tree: tuple, unit: str) -> tuple | None:
        """A product without the letters of ``unit`` at its end, or None."""
        match = re.fullmatch(r"([A-Za-z])(\d)?", unit)
        if match is None or tree[0] != "*" or len(tree[1]) != 2:
            return None
        letter = ("name", match[1])
        wanted = ("^", letter, ("number", Fraction(int(match[2])), False)) if match[2] else letter
        return tree[1][0] if tree[1][1] == wanted and not names(tree[1][0]) else None

    def based(self, gold: Value, answer: Value) -> bool:
        """The same digits; the problem has asked for the base, so it may be left out, but not be another one."""
        digits = []
        for value in (gold, answer):
            if value.kind == "based":
                digits.append(value.parts[0])
            elif (
                value.kind == "one"
                and value.parts[0] == "number"
                and value.parts[1].denominator == 1
                and not value.unit
            ):
                digits.append(str(value.parts[1]))
            else:
                return False
        bases = {v.parts[1] for v in (gold, answer) if v.kind == "based"}
        return digits[0] == digits[1] and len(bases) == 1

    def ratio(self, one: tuple, other: tuple) -> bool:
        if len(one) != len(other):
            return False
        return all(self.oracle.equal(("*", (one[0], b)), ("*", (other[0], a))) for a, b in zip(one[1:], other[1:]))

    def matrix(self, gold: Value, answer: Value) -> bool:
        one, other = _rows(gold), _rows(answer)
        if one is None or other is None:
            return False
        if gold.kind != answer.kind or {len(one), len(one[0])} == {len(other), len(other[0])} == {
            1,
            len(_entries(one)),
        }:
            one, other = (
                ((_entries(x),) for x in (one, other))
                if 1 in (len(one), len(one[0])) and 1 in (len(other), len(other[0]))
                else (one, other)
            )
        if [len(r) for r in one] != [len(r) for r in other]:
            return False
        return all(self.oracle.equal(a, b) for r, s in zip(one, other) for a, b in zip(r, s))

    def set_of(self, gold: tuple[Value, ...], answer: tuple[Value, ...], counted: bool) -> bool:
        """In any order. A root that an answer writes twice counts once; where a list of the gold answer does, the answer has to."""
        twice = any(self._alike(a, b) for i, a in enumerate(gold) for b in gold[:i])
        if not (counted and twice):
            return all(any(self._alike(a, b) for b in answer) for a in gold) and all(
                any(self._alike(a, b) for a in gold) for b in answer
            )
        free = list(answer)
        for one in gold:
            found = next((other for other in free if self._alike(one, other)), None)
            if found is None:
                return False
            free.remove(found)
        return not free

    def tuple_of(self, gold: Value, answer: Value) -> bool:
        if not units.alike(gold.unit, answer.unit):
            raise Differs(ANOTHER_UNIT)
        return len(gold.parts) == len(answer.parts) and all(map(self.plain, gold.parts, answer.parts))


def _rows(value: Value) -> tuple | None:
    if value.kind == "matrix":
        return value.parts
    if value.kind in ("()", "[]") and all(v.kind == "one" and not v.unit for v in value.parts):
        return (tuple(v.parts for v in value.parts),)
    return None


def _entries(rows: tuple) -> tuple:
    return tuple(x for row in rows for x in row)


def _constants(tree: tuple) -> set[str]:
    return {"pi"} if "('name', 'pi')" in str(tree) else set()


def _radians(tree: tuple) -> tuple:
    return "*", (tree, ("/", ("name", "pi"), ("number", Fraction(180), False)))
