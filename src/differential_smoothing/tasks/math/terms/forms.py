"""A normal form of an answer as text, by sympy. Only the bounded process imports this."""

from __future__ import annotations

import sympy

from .numeric import Beyond
from .values import Value

__all__ = ["form"]

_CALLS = {
    "ln": sympy.log,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "binom": sympy.binomial,
    "abs": sympy.Abs,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "max": sympy.Max,
    "min": sympy.Min,
}


def form(value: Value) -> str:
    """Equal for two spellings of one answer where sympy simplifies both to the same."""
    kind, parts = value.kind, value.parts
    if kind == "one":
        return _expression(parts)
    if kind in ("list", "{}"):
        return "{" + ", ".join(sorted({form(v) for v in parts})) + "}"
    if kind in ("()", "[]", "(]", "[)"):
        return kind[0] + ", ".join(map(form, parts)) + kind[1]
    if kind == "named":
        return f"{parts[0]} = {form(parts[1])}"
    if kind == "equation":
        return " = ".join(map(_expression, parts[0])) if parts[0] else " = ".join(map(form, parts[2]))
    if kind == "relation":
        signs, trees = parts
        return _expression(trees[0]) + "".join(f" {s} {_expression(t)}" for s, t in zip(signs, trees[1:]))
    if kind == "matrix":
        return str([[_expression(t) for t in row] for row in parts])
    if kind == "ratio":
        return ":".join(map(_expression, parts))
    if kind == "union":
        return " U ".join(sorted(map(form, parts)))
    if kind == "minus":
        return " \\ ".join(map(form, parts))
    if kind == "system":
        return "; ".join(sorted(map(form, parts[1])))
    if kind == "based":
        return f"{parts[0]}_{parts[1]}"
    return {"reals": "R", "empty": "{}"}.get(kind, value.text)


def _expression(tree: tuple) -> str:
    built = _built(tree)
    return str(sympy.simplify(sympy.nsimplify(built, rational=True)))[:2000]


def _built(tree: tuple) -> sympy.Expr:
    kind = tree[0]
    if kind == "number":
        return sympy.Rational(tree[1].numerator, tree[1].denominator)
    if kind == "name":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "infty": sympy.oo}.get(tree[1]) or sympy.Symbol(tree[1])
    if kind == "+":
        return sympy.Add(*map(_built, tree[1]))
    if kind == "*":
        return sympy.Mul(*map(_built, tree[1]))
    if kind == "/":
        return _built(tree[1]) / _built(tree[2])
    if kind == "^":
        return _built(tree[1]) ** _built(tree[2])
    if kind == "call":
        arguments = [_built(t) for t in tree[2]]
        if tree[1] == "root":
            return sympy.root(arguments[0], arguments[1])
        if tree[1].startswith("arc") and tree[1][3:] in ("sinh", "cosh", "tanh", "cot", "sec", "csc"):
            return getattr(sympy, "a" + tree[1][3:])(*arguments)
        return (_CALLS.get(tree[1]) or getattr(sympy, tree[1], None) or sympy.Function(tree[1]))(*arguments)
    if kind == "apply":
        return sympy.Function(tree[1])(*map(_built, tree[2]))
    raise Beyond("no expression of sympy")
