"""An expression as a tree, and what is asked of one.

A tree is a tuple that begins with its kind: ``("number", value, is_decimal)``, ``("name", text)``, ``("+", trees)``, ``("*", trees)``, ``("/", one, other)``,
``("^", base, exponent)``, ``("call", function, trees)`` with a function that is known, ``("apply", name, trees)`` with one that is not, and
``("over", sign, variable, from, to, body)`` for sums, products, integrals and limits. Letters in different cases are different names, a prime is part of a
name, e is Euler's number, products are read from left to right (1/2x is x/2) and what can be read in two ways otherwise is refused.
"""

from __future__ import annotations

from fractions import Fraction

from .tokens import OPENING, Token, Unreadable, words

__all__ = ["is_word", "names", "number", "rename", "top_level"]

MAX_DEPTH, MAX_DIGITS = 40, 400
CONSTANTS = words("pi e infty")
GREEK = words(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar aleph mho wp"
)
ACCENTS = words("vec hat bar tilde dot ddot overline check mathbb widebar")
PREFIXES = words("angle triangle")
BIG = words("sum prod int lim oint")
APPLIED = frozenset("fgFG")  # letters that are functions wherever a bracket follows
ONE, MINUS = ("number", Fraction(1), False), ("number", Fraction(-1), False)
_SHORT = words(
    "yes no odd even true false none am pm both neither the and or not an at is it in if of on to so we by be he as up us "
    "me my do go"
)
_CLOSING = frozenset(OPENING.values())


def is_word(letters: str) -> bool:
    """Whether letters in a row are a word and no product."""
    return (
        len(letters) > 3
        or letters.lower() in _SHORT
        or (len(letters) == 3 and letters[0].isupper() and letters[1:].islower())
    )


def number(value: int | Fraction) -> tuple:
    """The tree of an exact number."""
    return "number", Fraction(value), False


def names(tree: tuple) -> frozenset[str]:
    """The free names in a tree."""
    kind = tree[0]
    if kind == "name":
        return frozenset() if tree[1] in CONSTANTS else frozenset([tree[1]])
    if kind == "number":
        return frozenset()
    if kind == "over":
        inside = names(tree[5]) - {tree[2]}
        return inside.union(*(names(t) for t in tree[3:5] if t is not None))
    if kind in ("call", "apply", "+", "*"):
        found = frozenset().union(*map(names, tree[-1]))
        return found | {tree[1] + "()"} if kind == "apply" else found
    return names(tree[1]) | names(tree[2])


def rename(tree: tuple, old: str, new: str) -> tuple:
    """The tree with one name instead of another."""
    kind = tree[0]
    if kind == "name":
        return ("name", new) if tree[1] == old else tree
    if kind == "number":
        return tree
    if kind == "over":
        return (*tree[:3], *(t and rename(t, old, new) for t in tree[3:]))
    if kind in ("call", "apply", "+", "*"):
        return (*tree[:-1], tuple(rename(t, old, new) for t in tree[-1]))
    return kind, rename(tree[1], old, new), rename(tree[2], old, new)


def top_level(found: list[Token], *separators: str) -> list[list[Token]]:
    """The tokens cut at the separators outside all brackets. Half-open intervals count as closed. ValueError if brackets do not match."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in found:
        if token.kind in ("sign", "command"):
            depth += (token.text in OPENING) - (token.text in _CLOSING)
            if depth < 0:
                raise Unreadable("brackets that do not match")
            if not depth and token.text in separators:
                parts.append([])
                continue
        parts[-1].append(token)
    if depth:
        raise Unreadable("brackets that do not match")
    return parts
