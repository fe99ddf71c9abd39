"""Left sides: whether one names a quantity, so that what stands behind the = is its value."""

from __future__ import annotations

import re

from .sides import wrapped
from .tokens import FUNCTIONS, Token

__all__ = ["is_name", "is_quantity"]

_NAME = re.compile(
    r"(?:Delta |d)?(?:vec|hat|bar|overline|tilde|dot)?\{?(?:[A-Za-z]|[a-z]{2,7}|[A-Z]{2,3}|Delta|Gamma|Omega)\}?(?:_(?:\{[^{}]{1,20}\}|.))?(?:'{1,3}|\^\{'{1,3}\}|\^\{-1\}|\^\{\(\d\)\})?(?:_(?:\{[^{}]{1,20}\}|.))?"
    r"(?:\((?:[a-z](?:,[a-z]){0,3}|[\d.]{1,4}|[A-Z](?:(?:cap|cup|,|\|)[A-Z]'?){0,3})\))?"
)
_DENIAL = re.compile(
    r"\b(?:not|no|never|maybe|perhaps|possibly|or|twice|half|double|if|unless|about|wrong|neither|either|than|least|most)\b",
    re.IGNORECASE,
)


def is_name(found: list[Token]) -> bool:
    """x, f(x), m_{max}, P(A \\cap B): one quantity, and no number."""
    if len(found) > 24 or (found and found[0].kind == "number"):
        return False
    if (
        found
        and found[0].kind == "command"
        and (found[0].text in FUNCTIONS or found[0].text in ("pi", "infty", "frac"))
    ):
        return False
    if len(found) == 1 and found[0].text in ("e", "i"):
        return False
    if found and all(t.kind in ("word", "text") for t in found):
        phrase = " ".join(t.text for t in found)
        return phrase.isupper() or (
            len(phrase) > 3
            and re.fullmatch("[A-Za-z]+(?: [A-Za-z]+){0,3}", phrase) is not None
            and not _DENIAL.search(phrase)
        )
    subscript = 0
    for i, token in enumerate(found):  # words have no place in a name but in its subscript
        if token.text == "{" and (subscript or (i and found[i - 1].text == "_")):
            subscript += 1
        elif token.text == "}" and subscript:
            subscript -= 1
        elif (
            token.kind in ("word", "text")
            and not subscript
            and (i == 0 or found[i - 1].text != "_")
            and not token.text.isupper()
            and token.text not in ("Var", "Cov")
        ):
            return False
    if (
        len(found) > 3
        and found[0].text in ("P", "E", "Var", "Cov")
        and found[1].text in ("(", "[")
        and wrapped(found[1:])
    ):
        return True  # P(X = 4)
    return _NAME.fullmatch("".join(t.text for t in found)) is not None


def is_quantity(found: list[Token]) -> bool:
    """\\frac{NO}{BO}, S_{ABC}:S, \\angle A, |AB|: capital letters and what is made of them, no numbers outside subscripts."""
    depth, capital = 0, False
    for i, token in enumerate(found):
        if token.text == "{" and (depth or (i and found[i - 1].text == "_")):
            depth += 1
        elif token.text == "}" and depth:
            depth -= 1
        elif depth or (i and found[i - 1].text == "_"):
            continue
        elif token.kind in ("word", "name") and token.text.isupper():
            capital = True
        elif token.kind not in ("sign", "command") or token.text not in (
            "_",
            "{",
            "}",
            ":",
            "/",
            "|",
            "frac",
            "angle",
            "triangle",
            "overline",
            "vec",
            "(",
            ")",
            "cap",
            "cup",
            ",",
            "'",
            "bar",
        ):
            return False
    return capital
