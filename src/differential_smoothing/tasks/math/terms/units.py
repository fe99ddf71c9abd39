"""What stands behind a number: a unit that is known, an amount of money, percent, degrees, or things that are counted.

Known units and plain plural nouns are units; every other word is not, because words such as "half", "lakh" and "wrong" change the number. A bare letter
in a formula is a factor: a metre is ``\\text{m}`` or "m" behind a slash ("km/h"), never the variable m.
"""

from __future__ import annotations

from .tokens import FUNCTIONS, Token, Unreadable
from .unit_names import DEGREE, SIGNS, SYMBOLS, TYPED, unit_of

__all__ = ["alike", "split"]

_BEFORE = {"dollar", "euro", "sterling", "yen", "rupee"}


_INSIDE = {"/", "^", "-", "*", "{", "}", ".", "(", ")"}


def split(found: list[Token]) -> tuple[list[Token], str]:
    """The tokens of a quantity without its unit, and the unit, "" if it has none. ValueError if the words behind it are not a unit."""
    money = [
        i
        for i, t in enumerate(found[:2])
        if t.kind == "command" and t.text in _BEFORE and (i == 0 or found[0].text in "+-")
    ]
    unit = ""
    if money:
        unit = SIGNS[found[money[0]].text]
        found = found[: money[0]] + found[money[0] + 1 :]
    elif (
        len(found) > 1
        and found[0].text in ("Rs", "USD", "US", "INR", "RMB")
        and found[1].kind in ("number", "sign", "command")
    ):
        rest = found[2 if found[1].text == "." else 1 :]
        return split(rest)[0], "₹" if found[0].text in ("Rs", "INR") else "元" if found[0].text == "RMB" else "$"
    start = _start(found)
    if start is None:
        return found, unit
    core, phrase = found[:start], _phrase(found[start:])
    behind = unit_of(phrase)
    if behind is None and phrase.count("°") == 1 and phrase.strip()[0] == "°":  # 30^\circ C
        behind = {"C": "°C", "F": "°F", "": "°", "celsius": "°C", "fahrenheit": "°F"}.get(
            phrase.strip()[1:].strip().lower() or ""
        ) or {"C": "°C", "F": "°F"}.get(phrase.strip()[1:].strip())
    if behind is None:
        raise Unreadable("the words behind a number are not a unit")
    if unit and behind and unit != behind and not behind.startswith("#"):
        if unit == "$" and behind.startswith("$ "):
            return core, behind
        raise Unreadable("two units")
    return core, unit or behind


def _start(found: list[Token]) -> int | None:
    """Where the unit begins, or None."""
    depth = 0
    for i, token in enumerate(found):
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}")) if token.kind == "sign" else 0
        if depth or not i:
            continue
        before = found[i - 1]
        ends = before.kind == "number" or before.text in (")", "}", "]", "pi", "!") or before.kind == "name"
        if token.kind == "sign" and token.text == "%" and ends:
            return i
        if token.kind == "command" and token.text in SIGNS and ends:
            return i
        if (
            token.text == "^"
            and _is_degree(found, i)
            and ends
            and not any(t.kind == "command" and t.text in FUNCTIONS for t in found[:i])
        ):
            rest = found[i + 2 + 2 * (found[i + 1].text == "{") :]
            if not rest or all(t.kind in ("text", "word") or t.text in ("C", "F", ".") for t in rest):
                return i
        if token.kind == "text" and ends and (len(token.text) > 1 or token.text in SYMBOLS):
            return i
        if (
            token.kind == "word"
            and ends
            and (token.text in TYPED or len(token.text) > 2 or token.text in ("hr", "km", "in", "am", "pm"))
            and before.kind != "name"
        ):
            if token.text in TYPED and not _one_term(found[:i]):
                return None
            return i
    return None


def _one_term(core: list[Token]) -> bool:
    """A number, a root, pi: no letters, and no sum outside brackets."""
    depth = 0
    for i, token in enumerate(core):
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}")) if token.kind == "sign" else 0
        if token.kind in ("name", "word") or (
            i and not depth and token.text in "+-" and core[i - 1].text not in ("*", "/", "^")
        ):
            return False
    return True


def _is_degree(found: list[Token], at: int) -> bool:
    after = [t.text for t in found[at + 1 : at + 4]]
    return after[:1] == ["circ"] or after == ["{", "circ", "}"]


def _phrase(found: list[Token]) -> str:
    words, i = [], 0
    while i < len(found):
        token = found[i]
        if token.text == "^" and _is_degree(found, i):
            words.append("°")
            i += 4 if found[i + 1].text == "{" else 2
            continue
        if (token.kind == "command" and token.text in SIGNS) or token.text == "%":
            words.append(SIGNS[token.text])
        elif token.kind in ("text", "word", "name", "number") or (token.kind == "sign" and token.text in _INSIDE):
            words.append((" " if token.space or token.kind in ("text", "word") else "") + token.text)
        else:
            raise Unreadable("the words behind a number are not a unit")
        i += 1
    return "".join(words)


def alike(one: str, other: str) -> bool:
    """Whether two units may be of one answer: one is missing, or they are the same."""
    if not one or not other or one == other:
        return True
    if DEGREE in (one, other):  # 5 degrees, of an angle or of a temperature
        return one[0] == other[0]
    return bool(set(one.split("|")) & set(other.split("|")))
