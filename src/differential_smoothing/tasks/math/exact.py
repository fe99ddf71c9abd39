"""Answers whose equality can be decided exactly without a library: what arithmetic, square roots, pi and letters make.

``shape`` reads an answer in the one spelling (``answers.spelled``) as a polynomial with rational coefficients in square roots of whole numbers,
pi and single letters, or as a tuple or set of such. Roots of different squarefree numbers are linearly independent over the rationals and pi is
transcendental, so two of these are equal exactly if their coefficients are. Everything that can be read in two ways (``1/2x``, ``2\\frac{1}{2}``,
``f(x)``, ``x^10``) or is more than this (sums under a root or a fraction bar, functions, equations) is left to the library.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from fractions import Fraction
from math import gcd

__all__ = ["same_exactly", "shape"]

MAX_TEXT, MAX_POWER, MAX_DEPTH = 300, 3_000, 12
MAX_RADICAND = 10**8  # what is under a root is taken apart by trial division, 10^4 steps at most
MAX_BITS = 2_500  # of a numerator or denominator
MAX_WORK = 4_000  # products of two terms, for one text
MAX_ROOTS = 20

_TOKEN = re.compile(r"\s*(?:(\d{1,30}(?:\.\d{1,30})?)|(\\(?:frac|sqrt|pi|cdot|times)(?![A-Za-z]))|((?!pi)[a-df-z](?![a-z]{2}))|([-+*/^(){}]))")
_PRODUCT = ("*", "\\cdot", "\\times")
_SIGNS = ("+", "-")

# A polynomial: (squarefree radicand, ((letter, power), ...)) -> coefficient, none of them 0.
_Monomial = tuple[int, tuple[tuple[str, int], ...]]
_Polynomial = dict[_Monomial, Fraction]


class _Other(Exception):
    """The text is not of the kind that is read here."""


def same_exactly(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal; None if one is not of this kind, or a decimal fraction leaves it to rounding.

    One answer is neither several nor a tuple; whether a set is a tuple is for others to say.
    """
    one = shape(gold)
    other = None if one is None else shape(answer)
    if one is None or other is None:
        return None
    if one == other:
        return True
    kinds = {one[0], other[0]}
    several = kinds <= {"one", "set"} and all(kind == "one" or len(value) > 1 for kind, value in (one, other))
    if "." in gold + answer or not (len(kinds) == 1 or several or kinds in ({"one", "()"}, {"one", "[]"})):
        return None
    return False


def shape(text: str, depth: int = 0) -> tuple[str, Hashable] | None:
    """``("one", polynomial)``, ``("(]", tuple of shapes)`` with its brackets, or ``("set", set of shapes)``; None for all else."""
    text = text.strip()
    if len(text) > MAX_TEXT or depth > 2:
        return None
    if text.startswith("\\{") and text.endswith("\\}") and text.find("\\}") == len(text) - 2:
        return _many("set", text[2:-2], depth)
    parts = _top_level(text)
    if len(parts) > 1:
        return _many("set", text, depth)
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and len(_top_level(text[1:-1])) > 1:
        return _many(text[0] + text[-1], text[1:-1], depth)
    try:
        reader = _Reader(text)
        value = reader.sum()
        reader.end()
    except (_Other, ZeroDivisionError):
        return None
    return "one", frozenset(value.items())


def _many(kind: str, text: str, depth: int) -> tuple[str, Hashable] | None:
    shapes = [shape(part, depth + 1) for part in _top_level(text)]
    if None in shapes:
        return None
    return kind, frozenset(shapes) if kind == "set" else tuple(shapes)


def _top_level(text: str) -> list[str]:
    """``text`` cut at the commas outside all brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


class _Reader:
    """A text as tokens, read by recursive descent."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _Other
            self.tokens.append(match[match.lastindex])
            at = match.end()
        self.tokens += [""]  # the end
        self.at = self.depth = self.work = self.roots = 0

    @property
    def next(self) -> str:
        return self.tokens[self.at]

    def take(self, *tokens: str) -> str:
        if tokens and self.next not in tokens:
            raise _Other
        self.at += 1
        return self.tokens[self.at - 1]

    def end(self) -> None:
        if self.next:
            raise _Other

    def sum(self) -> _Polynomial:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Other
        total: _Polynomial = {}
        sign = self.take() if self.next in _SIGNS else "+"
        while True:
            total = _add(total, self.product(), -1 if sign == "-" else 1)
            if self.next not in _SIGNS:
                break
            sign = self.take()
        self.depth -= 1
        return total

    def product(self) -> _Polynomial:
        before, value = self.next, self.power()
        while self.next:
            if self.next in _PRODUCT:
                self.take()
                before, value = self.next, self.times(value, self.power())
            elif self.next == "/":
                self.take()
                value = self.times(value, _inverse(self.power()))
                if self._begins_factor():
                    raise _Other  # 1/2x
            elif self._begins_factor():
                after_number = before[:1].isdigit() and self.tokens[self.at - 1][:1].isdigit()
                # 3 4 and x4; 2\frac{1}{2}; f(x)
                if self.next[0].isdigit() or (after_number and self.next == "\\frac") or (self.tokens[self.at - 1].isalpha() and self.next == "("):
                    raise _Other
                before, value = self.next, self.times(value, self.power())
            else:
                break
        return value

    def _begins_factor(self) -> bool:
        return bool(self.next) and (self.next[0].isalnum() or self.next in ("(", "{", "\\frac", "\\sqrt", "\\pi"))

    def power(self) -> _Polynomial:
        base = self.factor()
        if self.next != "^":
            return base
        self.take()
        if self.next == "{":
            exponent = self.group()
        elif len(self.next) == 1 and self.next.isdigit():  # x^10 is x^1 0 in LaTeX
            exponent = _constant(Fraction(self.take()))
        else:
            raise _Other
        number = _rational(exponent)
        if self.next == "^" or number.denominator != 1 or abs(number) > MAX_POWER or (not base and number <= 0):
            raise _Other
        base = _inverse(base) if number < 0 else base
        result = _constant(Fraction(1))
        for bit in bin(abs(int(number)))[2:]:  # by squaring
            result = self.times(result, result)
            result = self.times(result, base) if bit == "1" else result
        return result

    def factor(self) -> _Polynomial:
        token = self.take()
        if token[:1].isdigit():
            if len(token) > 1 and token[0] == "0" and token[1] != ".":
                raise _Other  # 00 in 70,00
            return _constant(Fraction(token))
        if token == "(":
            value = self.sum()
            self.take(")")
            return value
        if token == "{":
            self.at -= 1
            return self.group()
        if token == "\\frac":
            return self.times(self.group(), _inverse(self.group()))
        if token == "\\sqrt":
            self.roots += 1
            digit = len(self.next) == 1 and self.next.isdigit()
            if self.roots > MAX_ROOTS:
                raise _Other
            return _root(_rational(_constant(Fraction(self.take())) if digit else self.group()))
        if token == "\\pi" or token.isalpha():
            return {(1, ((token, 1),)): Fraction(1)}
        raise _Other

    def group(self) -> _Polynomial:
        self.take("{")
        value = self.sum()
        self.take("}")
        return value

    def times(self, one: _Polynomial, other: _Polynomial) -> _Polynomial:
        self.work += len(one) * len(other)
        if self.work > MAX_WORK:
            raise _Other
        return _multiply(one, other)


def _constant(number: Fraction) -> _Polynomial:
    return {(1, ()): number} if number else {}


def _rational(value: _Polynomial) -> Fraction:
    if not value.keys() <= {(1, ())}:
        raise _Other
    return value.get((1, ()), Fraction(0))


def _add(one: _Polynomial, other: _Polynomial, factor: int) -> _Polynomial:
    total = dict(one)
    for monomial, coefficient in other.items():
        total[monomial] = total.get(monomial, Fraction(0)) + factor * coefficient
    return {monomial: c for monomial, c in total.items() if c}


def _multiply(one: _Polynomial, other: _Polynomial) -> _Polynomial:
    total: _Polynomial = {}
    for (root, letters), a in one.items():
        for (other_root, other_letters), b in other.items():
            common = gcd(root, other_root)
            powers = dict(letters)
            for letter, power in other_letters:
                powers[letter] = powers.get(letter, 0) + power
            if powers.get("i", 0) not in (0, 1):
                raise _Other  # i^2 is -1 or the square of a letter
            monomial = root * other_root // common**2, tuple(sorted((n, p) for n, p in powers.items() if p))
            total[monomial] = total.get(monomial, Fraction(0)) + a * b * common
    total = {monomial: c for monomial, c in total.items() if c}
    if any(max(c.numerator.bit_length(), c.denominator.bit_length()) > MAX_BITS for c in total.values()):
        raise _Other
    return total


def _inverse(value: _Polynomial) -> _Polynomial:
    if len(value) != 1:
        raise _Other  # a sum under a fraction bar, or zero
    [((root, letters), coefficient)] = value.items()
    if ("i", 1) in letters:
        raise _Other
    return {(root, tuple((letter, -power) for letter, power in letters)): 1 / (coefficient * root)}


def _root(number: Fraction) -> _Polynomial:
    """The square root of a rational number a/b, as sqrt(ab)/b with the squares taken out."""
    inside = number.numerator * number.denominator
    if not 0 <= inside <= MAX_RADICAND:
        raise _Other
    if inside == 0:
        return {}
    outside, p = 1, 2
    while p * p <= inside:
        while inside % (p * p) == 0:
            inside //= p * p
            outside *= p
        p += 1
    return {(inside, ()): Fraction(outside, number.denominator)}
