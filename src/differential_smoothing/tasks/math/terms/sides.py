"""One side of an answer: a region, a set, a tuple, a matrix, a ratio, digits in a base, or a quantity with its unit."""

from __future__ import annotations

import re

from . import units
from .phrases import outside
from .reader import expression
from .tokens import OPENING, Token, Unreadable
from .trees import ONE, names, top_level
from .value import Value

__all__ = ["NUMBER_WORDS", "side", "wrapped"]

NUMBER_WORDS = {
    word: i
    for i, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
        ]
    )
}
_BASE_WORDS = NUMBER_WORDS | {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16, "hex": 16}


def side(found: list[Token]) -> Value:
    """A region, a set, a tuple, a matrix, a ratio, a number in a base, or a quantity with its unit."""
    if not found:
        raise Unreadable("no answer found")
    texts = [t.text for t in found]
    if texts[0] == "circ":
        raise Unreadable("cannot be read as mathematics")
    for sign, kind in (("cup", "union"), ("setminus", "minus")):
        parts = top_level(found, sign)
        if len(parts) > 1:
            return Value(kind, tuple(map(side, parts)))
    if _is(texts, "mathbb", "R") or " ".join(texts).lower() in (
        "all real numbers",
        "all reals",
        "all real values",
        "real numbers",
    ):
        return Value("reals", ())
    if texts == ["emptyset"] or texts == ["\\{", "\\}"]:
        return Value("empty", ())
    if texts[0] == "begin" or "begin" in texts:
        return _matrix(found)
    based = _based(found)
    if based is not None:
        return based
    if len(parts := top_level(found, ":")) > 1:
        if any(not p for p in parts) or not all(t.kind != "text" for t in found):
            raise Unreadable("a ratio of words")
        return Value("ratio", tuple(expression(p) for p in parts))
    signs = [t.text for t in found if t.text in ("pm", "mp")]
    if signs and signs.count("pm") <= 1 and signs.count("mp") <= 1 and "pm" in signs:
        return Value("list", tuple(side(_signed(found, plus)) for plus in "+-"))
    enclosed = _enclosed(found)
    if enclosed is not None:
        return enclosed
    core, unit = units.split(found)
    if len(core) < len(found) and found[len(core)].kind in ("text", "word") and _sum_of_letters(core):
        raise Unreadable("a unit behind a sum")
    if unit and unit[0] != "#" and _enclosed(core) is not None:
        return _enclosed(core)._replace(unit=unit)
    if re.fullmatch(r"[-+]? ?\d{1,20} \d{1,20} / \d{1,20}", " ".join(t.text for t in core)):  # 2 1/2
        sign = core[0].text == "-"
        whole, above, below = (int(t.text) for t in core if t.kind == "number")
        if not above < below:
            raise Unreadable("a number behind a factor")
        core = [*core[:1][:sign], Token("number", str(whole)), Token("command", "frac"), *_group(above), *_group(below)]
    tree, degrees = _without_degrees(expression(core))
    if degrees and unit in ("", "°"):
        unit = "°"
    return Value("one", tree, unit)


def _group(number: int) -> list[Token]:
    return [Token("sign", "{"), Token("number", str(number)), Token("sign", "}")]


def _is(texts: list[str], *wanted: str) -> bool:
    return [t for t in texts if t not in "{}"] == list(wanted)


def _signed(found: list[Token], plus: str) -> list[Token]:
    other = "-" if plus == "+" else "+"
    signed = [
        t._replace(kind="sign", text=plus)
        if t.text == "pm"
        else t._replace(kind="sign", text=other)
        if t.text == "mp"
        else t
        for t in found
    ]
    return signed[1:] if signed[0].text == "+" else signed


def _sum_of_letters(core: list[Token]) -> bool:
    return any(t.text in "+-" for t in outside(core)[1:]) and any(t.kind == "name" for t in core)


def _without_degrees(tree: tuple) -> tuple[tuple, bool]:
    """Degrees as a unit: 180^\\circ k + 30^\\circ is 180 k + 30 in degrees."""
    if "°" not in names(tree):
        return tree, False

    def without(t: tuple) -> tuple:
        if t == ("name", "°"):
            return ONE
        if t[0] in ("number", "name"):
            return t
        if t[0] in ("+", "*", "call", "apply"):
            return (*t[:-1], tuple(map(without, t[-1])))
        return tuple(without(x) if isinstance(x, tuple) else x for x in t)

    return without(tree), True


def wrapped(found: list[Token]) -> bool:
    """Whether one pair of brackets is around everything, which may be two of an interval."""
    if len(found) < 2 or any(t.kind not in ("sign", "command") for t in (found[0], found[-1])):
        return False
    if found[0].text not in ("(", "[", "\\{", "langle") or found[-1].text not in (")", "]", "\\}", "rangle"):
        return False
    depth = 0
    for i, token in enumerate(found):
        if token.kind in ("sign", "command"):
            depth += (token.text in OPENING) - (token.text in OPENING.values())
        if not depth and i < len(found) - 1:
            return False
    return not depth


def _enclosed(found: list[Token]) -> Value | None:
    """(1, 2), [0, 1), {1, 2}, a set with a condition; None if the brackets are those of an expression."""
    if not wrapped(found):
        return None
    first, last = found[0], found[-1]
    inside = found[1:-1]
    if first.text == "\\{":
        return _set(inside)
    parts = top_level(inside, ",", ";") if inside else []
    if len(parts) < 2:
        if first.text == "(" and last.text == ")" and inside and _enclosed(inside) is not None:
            return _enclosed(inside)
        return None
    kind = "()" if first.text == "langle" else first.text + last.text
    return Value(kind, tuple(side(p) for p in parts))


def _set(inside: list[Token]) -> Value:
    parts = top_level(inside, ",", ";")
    if any(not p for p in parts):
        raise Unreadable("cannot be read as mathematics")
    values = map(side, parts)
    return Value("{}", tuple(v for value in values for v in (value.parts if value.kind == "list" else (value,))))


def _matrix(found: list[Token]) -> Value:
    """\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}, in any brackets, and nothing beside it."""
    texts = [t.text for t in found]
    if texts[0] in ("(", "[") and texts[-1] in (")", "]") and texts[1:2] == ["begin"]:
        found, texts = found[1:-1], texts[1:-1]
    start = texts.index("begin")
    if start or texts.count("begin") != 1 or texts.count("end") != 1:
        raise Unreadable("cannot be read as mathematics")
    name = texts[2]
    if name not in ("pmatrix", "bmatrix", "matrix", "array", "smallmatrix") or texts[-2] != name or texts[-4] != "end":
        raise Unreadable("cannot be read as mathematics")
    inside = found[4:-4]
    if name == "array":
        inside = inside[[t.text for t in inside].index("}") + 1 :]
    rows: list[list[list[Token]]] = [[[]]]
    for token in inside:
        if token.text == "\\\\":
            rows.append([[]])
        elif token.text == "&":
            rows[-1].append([])
        else:
            rows[-1][-1].append(token)
    rows = [row for row in rows if row != [[]]]
    if not rows or len({len(row) for row in rows}) != 1 or any(not cell for row in rows for cell in row):
        raise Unreadable("cannot be read as mathematics")
    return Value("matrix", tuple(tuple(expression(cell) for cell in row) for row in rows))


def _based(found: list[Token]) -> Value | None:
    """Digits in a base: 2516_8, (4343)_{six}, 1101 base 2."""
    texts = ["base" if t.text.lower().strip("()") == "base" else t.text for t in found]
    words = " ".join(texts).replace("{", " ").replace("}", " ").replace("_", " _ ").lower()
    match = re.fullmatch(
        r"(-? ?)\(? ?([0-9a-f]+(?: [0-9a-f]+)*) ?\)? *(?:_ *\(? *(?:base *)?|\(? ?(?:in )?base *)([a-z]+|\d{1,2}) *\)?",
        re.sub(r" +", " ", words).strip(),
    )
    if match is None or (found[0].kind == "name" and not re.search(r"\d", match[2])):
        return None
    base = int(match[3]) if match[3].isdigit() else _BASE_WORDS.get(match[3])
    if (
        base is None
        or not 2 <= base <= 36
        or (not match[2][0].isdigit() and "base" not in words and found[0].kind == "name")
    ):
        return None
    digits = match[2].replace(" ", "").upper()
    return Value("based", (match[1].strip() + (digits.lstrip("0") or "0"), base))
