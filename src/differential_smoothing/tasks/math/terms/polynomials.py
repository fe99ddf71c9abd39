"""Expressions whose equality is decided exactly: what arithmetic, square roots, pi, i and letters make.

``polynomial`` turns a tree into a polynomial with rational coefficients in square roots of whole numbers, pi, i and names. Roots of different
squarefree numbers are linearly independent over the rationals and pi is transcendental, so two of these are equal exactly if their coefficients
are. More than this (sums under a root or a fraction bar, functions) has no polynomial here.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd

__all__ = ["polynomial"]

MAX_POWER = 3_000
MAX_RADICAND = 10**8  # what is under a root is taken apart by trial division, 10^4 steps at most
MAX_BITS = 2_500  # of a numerator or denominator
MAX_WORK = 4_000  # products of two terms, for one tree
MAX_ROOTS = 20

# A polynomial: (squarefree radicand, ((name, power), ...)) -> coefficient, none of them 0.
_Monomial = tuple[int, tuple[tuple[str, int], ...]]
Polynomial = dict[_Monomial, Fraction]


class _Other(Exception):
    """The tree is not a polynomial."""


def polynomial(tree: tuple, imaginary: bool = True) -> Polynomial | None:
    """The polynomial of a tree, or None. ``imaginary``: the name i is the imaginary unit and no letter."""
    try:
        return _Builder(imaginary).of(tree)
    except (_Other, ZeroDivisionError):
        return None


class _Builder:
    def __init__(self, imaginary: bool) -> None:
        self.imaginary, self.work, self.roots = imaginary, 0, 0

    def of(self, tree: tuple) -> Polynomial:
        kind = tree[0]
        if kind == "number":
            return _constant(tree[1])
        if kind == "name":
            if tree[1] in ("e", "infty"):
                raise _Other
            return {(1, ((tree[1], 1),)): Fraction(1)}
        if kind == "+":
            total: Polynomial = {}
            for term in tree[1]:
                total = _add(total, self.of(term))
            return total
        if kind == "*":
            value = _constant(Fraction(1))
            for factor in tree[1]:
                value = self.times(value, self.of(factor))
            return value
        if kind == "/":
            return self.times(self.of(tree[1]), self.inverse(self.of(tree[2])))
        if kind == "^":
            return self.power(self.of(tree[1]), _rational(self.of(tree[2])))
        if kind == "call" and tree[1] == "sqrt":
            return self.root(_rational(self.of(tree[2][0])))
        raise _Other

    def power(self, base: Polynomial, number: Fraction) -> Polynomial:
        if number.denominator == 2 and base.keys() <= {(1, ())}:
            base, number = self.root(_rational(base)), 2 * number
        if number.denominator != 1 or abs(number) > MAX_POWER or (not base and number <= 0):
            raise _Other
        base = self.inverse(base) if number < 0 else base
        result = _constant(Fraction(1))
        for bit in bin(abs(int(number)))[2:]:  # by squaring
            result = self.times(result, result)
            result = self.times(result, base) if bit == "1" else result
        return result

    def times(self, one: Polynomial, other: Polynomial) -> Polynomial:
        self.work += len(one) * len(other)
        if self.work > MAX_WORK:
            raise _Other
        total: Polynomial = {}
        for (root, letters), a in one.items():
            for (other_root, other_letters), b in other.items():
                common = gcd(root, other_root)
                powers = dict(letters)
                for letter, power in other_letters:
                    powers[letter] = powers.get(letter, 0) + power
                factor = a * b * common
                if self.imaginary and "i" in powers:
                    turns = powers["i"] % 4
                    powers["i"], factor = turns % 2, -factor if turns > 1 else factor
                monomial = (root * other_root // common**2, tuple(sorted((n, p) for n, p in powers.items() if p)))
                total[monomial] = total.get(monomial, Fraction(0)) + factor
        total = {monomial: c for monomial, c in total.items() if c}
        if any(max(c.numerator.bit_length(), c.denominator.bit_length()) > MAX_BITS for c in total.values()):
            raise _Other
        return total

    def inverse(self, value: Polynomial) -> Polynomial:
        if len(value) == 2 and self.imaginary:  # 1/(a + bi) = (a - bi)/(a^2 + b^2)
            turned = {m: -c if ("i", 1) in m[1] else c for m, c in value.items()}
            size = self.times(value, turned)
            if len(size) == 1 and size.keys() <= {(1, ())}:
                return self.times(turned, self.inverse(size))
        if len(value) != 1:
            raise _Other  # a sum under a fraction bar, or zero
        [((root, letters), coefficient)] = value.items()
        turned = tuple((letter, -power) for letter, power in letters)
        return self.times({(root, turned): 1 / (coefficient * root)}, _constant(Fraction(1)))

    def root(self, number: Fraction) -> Polynomial:
        """The square root of a rational number a/b, as sqrt(ab)/b with the squares taken out."""
        self.roots += 1
        inside = abs(number.numerator * number.denominator)
        if self.roots > MAX_ROOTS or inside > MAX_RADICAND or (number < 0 and not self.imaginary):
            raise _Other
        if inside == 0:
            return {}
        outside, p = 1, 2
        while p * p <= inside:
            while inside % (p * p) == 0:
                inside //= p * p
                outside *= p
            p += 1
        return {(inside, (("i", 1),) if number < 0 else ()): Fraction(outside, number.denominator)}


def _constant(number: Fraction) -> Polynomial:
    return {(1, ()): number} if number else {}


def _rational(value: Polynomial) -> Fraction:
    if not value.keys() <= {(1, ())}:
        raise _Other
    return value.get((1, ()), Fraction(0))


def _add(one: Polynomial, other: Polynomial) -> Polynomial:
    total = dict(one)
    for monomial, coefficient in other.items():
        total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return {monomial: c for monomial, c in total.items() if c}
