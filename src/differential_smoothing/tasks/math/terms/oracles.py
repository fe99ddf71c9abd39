"""Whether two expressions are equal: what ``agree`` asks.

``Quick`` decides exactly for polynomials and refuses what differs in double precision; what is left raises ``Undecided``. ``Thorough`` decides the rest in many
digits and runs in the bounded process. An exact expression is compared exactly; only a decimal fraction for a number that has no end is compared with a tolerance.
"""

from __future__ import annotations

import time
from fractions import Fraction

from .numeric import MAX_MAGNITUDE, Beyond, Digits, Double, points, value_of
from .polynomials import Polynomial, polynomial
from .trees import names

__all__ = ["Quick", "Thorough", "Undecided"]

TOLERANCE = Fraction(1, 2 * 10**6)  # six decimals
SMALL = Fraction(1, 10**4)  # and, relative, for numbers that are small
QUICK_CALLS, QUICK_SECONDS = 300, 0.1  # for one comparison; more is for the bounded process


class Undecided(Exception):
    """Only the other oracle can say."""


def decimal(tree: tuple) -> bool:
    """Whether a decimal fraction is written in the tree."""
    if tree[0] == "number":
        return tree[2]
    if tree[0] == "name":
        return False
    if tree[0] == "over":
        return any(t is not None and decimal(t) for t in tree[3:])
    return any(map(decimal, tree[-1] if tree[0] in ("+", "*", "call", "apply") else tree[1:]))


def _ends(value: Polynomial) -> bool:
    """Whether finitely many decimals write the coefficients and nothing else is in it but names."""
    for (root, letters), c in value.items():
        q = c.denominator
        for prime in (2, 5):
            while q % prime == 0:
                q //= prime
        if q != 1 or root != 1 or any(name == "pi" for name, _ in letters):
            return False
    return True


class Quick:
    """Decides without a library, or raises ``Undecided``."""

    def __init__(self, imaginary: bool = True) -> None:
        self.imaginary = imaginary
        self._context = Double()
        self._calls, self._start = 0, time.process_time()

    def equal(self, one: tuple, other: tuple) -> bool:
        """Whether the expressions are the same function of their names."""
        self.check()
        if one == other:
            return True
        a, b = (polynomial(t, self.imaginary) for t in (one, other))
        # a decimal fraction on one side, and on the other what has no end
        decimals = [decimal(tree) and p is not None and _ends(p) for tree, p in ((one, a), (other, b))]
        decimals = any(decimals) and not all(p is not None and _ends(p) for p in (a, b))
        if a is not None and b is not None:
            if a == b:
                return True
            if not decimals:
                return False
            if all(p.keys() <= {(1, ())} for p in (a, b)):
                x, y = (p.get((1, ()), Fraction(0)) for p in (a, b))
                return abs(x - y) <= min(TOLERANCE, SMALL * max(abs(x), abs(y)))
        if _infinite(one) or _infinite(other):
            return _infinite(one) == _infinite(other) and _infinite(one) is not None
        if decimals and (names(one) or names(other)) and names(one) != names(other):
            return False
        if decimals:
            return self.rounded(one, other)
        if self.differ(one, other):
            return False
        return self.decide(one, other)

    def proportional(self, one: tuple, other: tuple, positive: bool = False) -> bool:
        """Whether one is the other times a constant that is not zero."""
        self.check()
        a, b = (polynomial(t, self.imaginary) for t in (one, other))
        if a is not None and b is not None:
            if not a or not b or a.keys() != b.keys():
                # a factor such as pi, i or a root: one coefficient for all is what it takes
                if not a or not b or len(a) != len(b):
                    return False
            else:
                ratios = {a[m] / b[m] for m in a}
                if len(ratios) == 1:
                    return not positive or ratios.pop() > 0
                if all(root == 1 for root, _ in (*a, *b)):
                    return False
        return self.decide(one, other, positive, ratio=True)

    def check(self) -> None:
        """``Undecided`` when this has taken too long."""
        self._calls += 1
        if self._calls > QUICK_CALLS or time.process_time() - self._start > QUICK_SECONDS:
            raise Undecided

    def order(self, one: tuple, other: tuple) -> bool:
        """Whether one constant is below the other."""
        try:
            a, b = (value_of(t, self._context, {}, self.imaginary)[0] for t in (one, other))
        except Beyond:
            return False
        return not a.imag and not b.imag and a.real < b.real - 1e-9

    def near(self, value: tuple, rounded: tuple) -> bool:
        """Whether ``rounded`` is ``value`` to the last digit that is written of it, or a percent of it."""
        try:
            a, b = (value_of(t, self._context, {}, self.imaginary)[0] for t in (value, rounded))
        except Beyond:
            return bool(names(value))  # x \\approx 2 in letters: there is nothing to contradict
        written = _first_number(rounded)
        step = 10.0 ** -len(f"{written:.12f}".rstrip("0").partition(".")[2]) * (
            abs(b / written) if written else 1
        )  # 2.5 * 10^6: the last digit is 10^5
        return abs(a - b) <= 1.01 * step

    def differ(self, one: tuple, other: tuple) -> bool:
        """Whether double precision is enough to tell them apart."""
        for point in points(names(one) | names(other))[:4]:
            try:
                (a, large, _, real), (b, large_too, _, real_too) = (
                    value_of(t, self._context, point, self.imaginary) for t in (one, other)
                )
            except Beyond:
                continue
            if ((real and real_too) or "i" in names(one) | names(other)) and abs(a - b) > 10 ** max(
                large, large_too, 0
            ) * self._context.error:
                return True
        return False

    def rounded(self, one: tuple, other: tuple) -> bool:
        return self.decide(one, other)

    def decide(self, one: tuple, other: tuple, positive: bool = False, ratio: bool = False) -> bool:
        raise Undecided


class Thorough(Quick):
    """Decides in many digits. Not decided is not equal."""

    def check(self) -> None:
        """The process that this runs in is bounded."""

    def rounded(self, one: tuple, other: tuple) -> bool:
        """A decimal fraction for a number that has none: right to six decimals."""
        letters = names(one) | names(other)
        close = False
        for point in points(letters)[: 4 if letters else 1]:
            try:
                values = [value_of(t, Digits(40), point, self.imaginary) for t in (one, other)]
            except Beyond:
                continue
            a, b = (v[0] for v in values)
            if not letters - {"i"} or (values[0][3] and values[1][3]):
                size = max(abs(a), abs(b))
                # an error above all others of six decimals is none of rounding, whatever the size of the number
                if (
                    abs(a - b) > float(TOLERANCE) * (max(1, size) if letters - {"i"} else 1)
                    or abs(a - b) > float(SMALL) * size
                ):
                    return False
                close = True
        return close

    def decide(self, one: tuple, other: tuple, positive: bool = False, ratio: bool = False) -> bool:
        letters = names(one) | names(other)
        compared, complex_ones = 0, []
        seen = None
        stepped = _stepped(one) or _stepped(other)
        if stepped and names(one) - {"i"} != names(other) - {"i"}:
            return False
        for place, point in enumerate(points(letters, whole=stepped)):
            if place and not letters - {"i"}:
                break
            outcome = self._at(one, other, point, ratio)
            if outcome is None:
                continue
            same, real = outcome
            if ratio:
                if not same or (seen is not None and abs(same - seen) > abs(seen) * 1e-40):
                    return False
                if positive and not (real and same.real > 0):
                    return False
                seen, compared = same, compared + 1
            elif real or "i" in letters:
                if not same:
                    return False
                compared += 1
            else:
                complex_ones.append(same)
        if ratio:
            return compared >= 3
        if compared >= 2 or (compared and not letters - {"i"}):
            return True
        return compared + len(complex_ones) >= (2 if letters else 1) and all(complex_ones)

    def _at(self, one: tuple, other: tuple, point: dict[str, float], ratio: bool):
        """(equal, all real) at a point, or the ratio instead; None if it is not decided there."""
        try:
            extreme = max(value_of(t, Digits(30), point, self.imaginary)[2] for t in (one, other))
            if extreme > MAX_MAGNITUDE:
                return None
            digits = 150 + 3 * int(extreme)
            context = Digits(digits)
            (a, _, _, real), (b, _, _, real_too) = (value_of(t, context, point, self.imaginary) for t in (one, other))
        except Beyond:
            return None
        least = context.mp.mpf(10) ** -(110 + 2 * int(extreme))
        if ratio:
            return (0, True) if abs(a) <= least or abs(b) <= least else (a / b, real and real_too)
        return abs(a - b) <= max(abs(a), abs(b), 1) * least, real and real_too


def _first_number(tree: tuple) -> float:
    """The first number that is written in a tree, but for the sign; 0 if there is none."""
    if tree[0] == "number":
        return float(tree[1])
    if tree[0] == "name":
        return 0.0
    parts = tree[-1] if tree[0] in ("+", "*", "call", "apply") else tree[1:]
    return next((x for t in parts if isinstance(t, tuple) and (x := _first_number(t)) not in (0.0, -1.0)), 0.0)


def _stepped(tree: tuple) -> bool:
    """Whether a function with steps or corners is in the tree."""
    if tree[0] in ("number", "name"):
        return False
    if tree[0] == "call" and tree[1] in ("floor", "ceil", "abs", "max", "min", "sgn"):
        return True
    return any(
        isinstance(t, tuple) and _stepped(t) for t in (tree[-1] if tree[0] in ("+", "*", "call", "apply") else tree[1:])
    )


def _infinite(tree: tuple) -> int | None:
    """1 and -1 for the two infinities."""
    if tree == ("name", "infty"):
        return 1
    if (
        tree[0] == "*"
        and len(tree[1]) == 2
        and tree[1][0] == ("number", Fraction(-1), False)
        and tree[1][1] == ("name", "infty")
    ):
        return -1
    return None
