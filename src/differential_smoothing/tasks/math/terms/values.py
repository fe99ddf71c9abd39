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
from typing import Any, NamedTuple

from . import units
from .tokens import FUNCTIONS, GAP, OPENING, Token, Unreadable, flat, spelled, tokens
from .trees import expression, is_word, number, top_level

__all__ = ["Value", "read"]

MAX_PARTS = 60
_ORDER = {"<": "<", "le": "le", ">": "<", "ge": "le"}
_RELATIONS = ("=", "<", ">", "le", "ge", "ne", "in", "approx", "sim", "equiv", "subset", "subseteq", "notin", "propto", "rightarrow", "parallel", "perp")
_NUMBER_WORDS = {w: i for i, w in enumerate("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split())}
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SETS = {"R": "real numbers", "Z": "integers", "N": "positive integers", "Q": "rational numbers", "C": "complex numbers"}
_QUANTIFIED = re.compile(
    r"(?:for |where |with )?(?:all |any |every |each |some |an? |arbitrary )*(?:(?:positive|negative|non-?negative|real|odd|even|natural|whole|rational|arbitrary|fixed|nonzero) )*"
    r"(?:integers?|numbers?|reals?|constants?|values?(?: of)?|parameters?|functions?)?(?: with| such that| where)?"
)
_CLAUSE = re.compile(
    r"(?:for|where|with|any|every|all)(?: (?:all|any|every|each|some))?(?: (?:real|positive|negative|integer|arbitrary|fixed|complex|odd|even|non-?negative|natural|whole|constant|rational))*"
    r"(?: (?:integers?|numbers?|constants?|values? of|parameters?|reals?))? ?(?:[A-Za-z](?: ?(?:,|and) ?[A-Za-z])*)?"
    r"(?: (?:is|are|in|\\in|being)(?: (?:an?|any|some|all|the))?(?: (?:real|positive|negative|arbitrary|fixed|odd|even|natural|whole|constant|non-?negative))*"
    r" ?(?:integers?|numbers?|constants?|reals?|Z|R|N|\\mathbb ?\{?[ZRN]\}?)?)?\.?"
)
_KEPT_WORDS = frozenset("or and is are equals equal".split())


class Value(NamedTuple):
    kind: str
    parts: Any
    unit: str = ""
    qualifier: str = ""  # "all integers", "k in Z": a condition that is written beside the answer
    text: str = ""  # the whole answer as it reads, of the outermost value
    rounded: tuple | None = None  # what stands behind \\approx


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
    if (word := text.lower()) in _NUMBER_WORDS:
        return Value("one", expression([Token("number", str(_NUMBER_WORDS[word]))]), text=text)
    reason = None
    try:
        return _answer(found)._replace(text=text)
    except Unreadable as error:
        reason = error
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    if _wordy(found):
        return Value("words", text, text=text)
    top_level(found)  # brackets that do not match are no formula
    if not _formula(found):
        raise reason
    return Value("formula", tuple(t.text for t in found if t.text != GAP), text=text)


def _without_gaps(found: list[Token]) -> list[Token]:
    """Without white space that keeps no two equations apart."""
    if sum(t.kind in ("sign", "command") and t.text in _RELATIONS for t in found) < 2:
        return [t for t in found if t.text != GAP]
    outside = set(map(id, _outside(found)))
    return [t for t in found if t.text != GAP or id(t) in outside]


def _wordy(found: list[Token]) -> bool:
    for token in found:
        text = token.text
        if token.kind == "text" and re.search("[A-Za-z]{2}|^[^\x00-\x7f]", text):
            return True
        if token.kind == "word" and is_word(text):
            return True
        if token.kind in ("word", "text", "name") and not text.isascii():
            return True
    return False


_KNOWN = frozenset(
    "sum prod int lim partial nabla frac sqrt binom ldots pm mp cup cap setminus emptyset in ne le ge approx sim rightarrow infty pi vec hat bar overline dot ddot mathbb circ "
    "langle rangle begin end cdot angle triangle leftrightarrow mapsto forall exists neg parallel perp subset subseteq equiv dagger star bullet wr ell Vert propto notin oint "
    "overset underset stackrel pmod bmod pod".split()
)


def _formula(found: list[Token]) -> bool:
    """Whether the tokens are of a formula that is whole, though not of a kind that is read."""
    if found[-1].text in ("+", "-", "*", "/", "^", "_", "=", "<", ">", "le", "ge", "frac", "sqrt", "cup", "cap", "in", "\\") or found[0].text in ("*", "/", "^", "_", "="):
        return False
    if len(found) < 3:
        return False
    return all(t.kind != "command" or t.text in _KNOWN or t.text in FUNCTIONS or re.fullmatch("[A-Z]?[a-z]{2,7}", t.text) and t.text in _greek() for t in found)


def _greek():
    from .trees import _GREEK

    return _GREEK


def _answer(found: list[Token]) -> Value:
    found = _scaled(_connected(_announced(found)))
    found, qualifier = _qualified(found)
    if not found:
        raise Unreadable("no answer found")
    value = _several(found)
    return value._replace(qualifier=qualifier or value.qualifier)


# --- words around an answer ---------------------------------------------------------------------------------------------


def _announced(found: list[Token]) -> list[Token]:
    """Without "The answer is" before it."""
    words, at = [], 0
    while at < len(found) and found[at].kind in ("word", "text", "name") and at < 8:
        words.append(found[at].text)
        at += 1
        said = " ".join(words).lower().rstrip(":")
        if re.fullmatch(r"(?:so |thus |therefore,? |hence )?(?:the |our |my )?(?:final |correct |right |exact |required )?(?:answer|value|result|solutions?|solution set)(?: is| are| equals)", said):
            return found[at + (at < len(found) and found[at].text == ":") :]
        if re.fullmatch(r"(?:the |our )?(?:final )?(?:answer|solution|result)", said):
            if words[-1].endswith(":"):
                return found[at:]
            if at < len(found) and found[at].text in (":", "="):
                return found[at + 1 :]
    if found[0].text.lower() in ("the", "an") and len(found) > 1:
        return found[1:]
    return found


def _connected(found: list[Token]) -> list[Token]:
    """With "or", "and", "is" as signs."""
    connected: list[Token] = []
    for token in found:
        if token.kind in ("word", "text", "command"):
            text = token.text.strip(" ,.;:").lower()
            if text in ("or", "and", "or else"):
                token = Token("sign", "or" if text != "and" else "and")
            elif text in ("is", "are", "equals", "is equal to", "equal to") and connected:
                token = Token("sign", "=")
            elif text == "to" and token.kind != "command" and connected and connected[-1].kind == "number":
                token = Token("sign", ":")
        connected.append(token)
    return connected


def _scaled(found: list[Token]) -> list[Token]:
    """"5 million" as 5 * 10^6, and "1.6e-19" as 1.6 * 10^-19."""
    scaled: list[Token] = []
    i = 0
    while i < len(found):
        token = found[i]
        words = token.text.split(" ") if token.kind in ("word", "text") else []
        if words and words[0] in _SCALES and scaled and (scaled[-1].kind == "scale" or (scaled[-1].kind == "number" and (len(scaled) == 1 or scaled[-2].kind != "number"))):
            power = 0
            while words and words[0] in _SCALES:
                power += _SCALES[words.pop(0)]
            scaled += _power_of_ten(str(power))
            scaled[-1] = scaled[-1]._replace(kind="scale")
            if words:
                scaled.append(Token("text", " ".join(words), True))
        elif (
            token.text in ("e", "E") and token.kind == "name" and not token.space and scaled and scaled[-1].kind == "number"
            and (len(scaled) == 1 or scaled[-2].text not in ("^", "_"))
            and (power := _exponent(found, i + 1)) is not None
        ):  # fmt: skip
            scaled += _power_of_ten(power[0])
            i = power[1]
            continue
        else:
            scaled.append(token)
        i += 1
    return [t._replace(kind="sign") if t.kind == "scale" else t for t in scaled]


def _exponent(found: list[Token], at: int) -> tuple[str, int] | None:
    """The exponent of 1.6e-19 and where it ends. ``2e^{2}`` is Euler's number."""
    sign = ""
    if at < len(found) and found[at].text in ("+", "-") and not found[at].space:
        sign, at = found[at].text, at + 1
    if at < len(found) and found[at].kind == "number" and not found[at].space and re.fullmatch(r"\d{1,3}", found[at].text):
        after = found[at + 1] if at + 1 < len(found) else None
        if after is None or after.space or after.kind in ("sign", "text", "command"):
            return sign.replace("+", "") + found[at].text, at + 1
    return None


def _power_of_ten(power: str) -> list[Token]:
    inside = [Token("sign", "-"), Token("number", power[1:])] if power[0] == "-" else [Token("number", power)]
    return [Token("sign", "*"), Token("number", "10"), Token("sign", "^"), Token("sign", "{"), *inside, Token("sign", "}")]


def _qualified(found: list[Token]) -> tuple[list[Token], str]:
    """Without "all integers" before it, or ", k in Z" and "for any constant c" behind it; and what that says."""
    at = 0
    while at < len(found) and at < 6 and found[at].kind in ("word", "text"):
        at += 1
    if 0 < at < len(found):
        said = " ".join(t.text for t in found[:at]).lower().strip(" ,:")
        if said in ("for", "for all", "for any") or (_QUANTIFIED.fullmatch(said) and said not in ("a", "an")):
            return found[at:], _meaning(said)
    depth = 0
    for i, token in enumerate(found):
        depth += (token.text in OPENING) - (token.text in OPENING.values()) if token.kind in ("sign", "command") else 0
        if i and not depth and token.kind in ("word", "text") and re.match(r"(?:for|where|with|any|every|all)\b", token.text):
            said = re.sub(r"\s+", " ", " ".join(("\\" if t.kind == "command" else "") + t.text for t in found[i:])).replace(" ,", ",")
            if not _CLAUSE.fullmatch(said.strip()):
                raise Unreadable("words that are no part of an answer")
            end = i - 1 if found[i - 1].text in (",", ";") else i
            return found[:end], _meaning(said)
    for i in range(len(found) - 1, 0, -1):  # , k \in \mathbb{Z}
        if found[i].text in (",", "(", ";") and found[i].kind == "sign":
            clause = found[i + 1 :]
            if found[i].text == "(" and clause and clause[-1].text == ")":
                clause = clause[:-1]
            texts = [t.text for t in clause if t.text not in "{}"]
            if len(texts) in (3, 4) and texts[1] == "in" and texts[-1] in _SETS and clause[0].kind == "name" and (len(texts) == 3 or texts[2] == "mathbb"):
                return found[:i], _SETS[texts[-1]]
            break
    return found, ""


def _meaning(said: str) -> str:
    kind = re.search(r"(positive |non-?negative |negative |odd |even )?(integer|real|natural|rational|constant)", said.lower())
    mark = re.search(r"(?:mathbb ?\{? ?)([ZRN])|\b([ZRN])\b", said)
    if mark:
        return _SETS[mark[1] or mark[2]]
    if kind and kind[2] == "constant":
        return ""
    return ((kind[1] or "") + {"real": "real numbers", "natural": "positive integers", "rational": "rational numbers"}.get(kind[2], "integers")) if kind else ""


# --- several answers ------------------------------------------------------------------------------------------------------


def _several(found: list[Token]) -> Value:
    """Statements that commas, "or" and "and" join."""
    parts = [p for part in top_level(found, ",", ";", "or", "and") for p in _apart(part) if p]
    if len(parts) > MAX_PARTS:
        raise Unreadable("too many answers")
    if not parts:
        raise Unreadable("no answer found")
    joint = next((t.text for t in _outside(found) if t.text in ("or", "and")), ",")
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
        elif grouped and grouped[-1].kind == "relation" and grouped[-1].parts[0] == ("ne",) and value.kind == "one":  # x \\ne -1, 4
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
    if len(parts) > 1 and all(any(t.text in _RELATIONS and t.kind in ("sign", "command") for t in _outside(p)) for p in parts if p):
        return parts
    return [[t for t in found if t.text != GAP]]


def _outside(found: list[Token]) -> list[Token]:
    depth, outside = 0, []
    for token in found:
        if token.kind in ("sign", "command"):
            depth += (token.text in OPENING) - (token.text in OPENING.values())
        if not depth:
            outside.append(token)
    return outside


def _statement(found: list[Token]) -> Value:
    """One side, or sides with relations between them."""
    if _wrapped(found) and any(t.text in _RELATIONS and t.kind in ("sign", "command") for t in _outside(found[1:-1])) and found[0].text != "langle":
        return _set(found[1:-1]) if any(t.text in ("|", ":") for t in _outside(found[1:-1])) else _several(found[1:-1])  # [x = 1, y = 2]
    relations = [t for t in _outside(found) if t.kind in ("sign", "command") and t.text in _RELATIONS]
    if not relations:
        return _side(found)
    sides = top_level(found, *_RELATIONS)
    signs = ["=" if t.text == "equiv" else t.text for t in relations]
    if "approx" in signs:
        at = signs.index("approx")
        if at == 0 and len(sides[0]) <= 4 and sides[0] and sides[0][0].kind == "name" and sides[0][0].text != "e":
            signs[0] = "="  # P \approx 0.25
        else:  # what stands before it is exact
            rounded = _side(sides[at + 1]) if at == len(signs) - 1 and sides[at + 1] else None
            if rounded is None or rounded.kind != "one" or rounded.parts[0] == "name":
                raise Unreadable("an approximation that is no number")
            value = _stated(sides[: at + 1], signs[:at])
            percent = rounded.unit == "%"
            return value._replace(rounded=("/", rounded.parts, ("number", Fraction(100), False)) if percent else rounded.parts)
    return _stated(sides, signs)


def _stated(sides: list[list[Token]], signs: list[str]) -> Value:
    if not signs:
        return _side(sides[0])
    if any(not side for side in sides):
        raise Unreadable("cannot be read as mathematics")
    if signs == ["in"]:
        return _member(sides)
    if all(sign == "=" for sign in signs):
        return _equation(sides)
    if signs == ["ne"]:
        excluded = _side(sides[1])
        if excluded.kind in ("list", "{}"):
            return Value("system", ("and", tuple(_unequal(sides[0], v) for v in excluded.parts)))
        return _unequal(sides[0], excluded)
    if len(set(s in ("<", "le") for s in signs)) == 1 and all(s in _ORDER for s in signs):
        trees = tuple(expression(units.split(side)[0]) for side in sides)
        order = tuple(_ORDER[s] for s in signs)
        return Value("relation", (order, trees)) if signs[0] in ("<", "le") else Value("relation", (order[::-1], trees[::-1]))
    raise Unreadable("relations that are not read")


def _unequal(name: list[Token], value: Value) -> Value:
    if value.kind != "one":
        raise Unreadable("cannot be read as mathematics")
    return Value("relation", (("ne",), (expression(name), value.parts)))


def _member(sides: list[list[Token]]) -> Value:
    name = "".join(t.text for t in sides[0])
    value = _side(sides[1])
    return Value("named", (name, value, sides[0], True, ()))


def _equation(sides: list[list[Token]]) -> Value:
    first, last = sides[0], sides[-1]
    left = "".join(t.text for t in first)
    between = tuple(map(_side, sides[1:-1]))
    if _is_name(first):
        return Value("named", (left, _side(last), first, True, between))
    if _wrapped(first) and first[0].text == "(" and len(top_level(first[1:-1], ",")) > 1 and all(map(_is_name, top_level(first[1:-1], ","))):
        return Value("named", (left, _side(last), first, True, between))  # (x, y) = (1, 2)
    if _is_quantity(first):
        return Value("named", (left, _side(last), None, True, between))
    try:
        trees = tuple(expression(s) for s in sides)
    except Unreadable:
        trees = None
    return Value("equation", (trees, _side(last), tuple(map(_side, sides)) if trees is None else ()))


_NAME = re.compile(
    r"(?:Delta |d)?(?:vec|hat|bar|overline|tilde|dot)?\{?(?:[A-Za-z]|[a-z]{2,7}|[A-Z]{2,3}|Delta|Gamma|Omega)\}?(?:_(?:\{[^{}]{1,20}\}|.))?(?:'{1,3}|\^\{'{1,3}\}|\^\{-1\}|\^\{\(\d\)\})?(?:_(?:\{[^{}]{1,20}\}|.))?"
    r"(?:\((?:[a-z](?:,[a-z]){0,3}|[\d.]{1,4}|[A-Z](?:(?:cap|cup|,|\|)[A-Z]'?){0,3})\))?"
)


_DENIAL = re.compile(r"\b(?:not|no|never|maybe|perhaps|possibly|or|twice|half|double|if|unless|about|wrong|neither|either|than|least|most)\b", re.IGNORECASE)


def _is_name(found: list[Token]) -> bool:
    """x, f(x), m_{max}, P(A \\cap B): one quantity, and no number."""
    if len(found) > 24 or (found and found[0].kind == "number"):
        return False
    if found and found[0].kind == "command" and (found[0].text in FUNCTIONS or found[0].text in ("pi", "infty", "frac")):
        return False
    if len(found) == 1 and found[0].text in ("e", "i"):
        return False
    if found and all(t.kind in ("word", "text") for t in found):
        said = " ".join(t.text for t in found)
        return said.isupper() or (len(said) > 3 and re.fullmatch("[A-Za-z]+(?: [A-Za-z]+){0,3}", said) is not None and not _DENIAL.search(said))
    subscript = 0
    for i, token in enumerate(found):  # words have no place in a name but in its subscript
        if token.text == "{" and (subscript or (i and found[i - 1].text == "_")):
            subscript += 1
        elif token.text == "}" and subscript:
            subscript -= 1
        elif token.kind in ("word", "text") and not subscript and (i == 0 or found[i - 1].text != "_") and not token.text.isupper() and token.text not in ("Var", "Cov"):
            return False
    if len(found) > 3 and found[0].text in ("P", "E", "Var", "Cov") and found[1].text in ("(", "[") and _wrapped(found[1:]):
        return True  # P(X = 4)
    return _NAME.fullmatch("".join(t.text for t in found)) is not None


def _is_quantity(found: list[Token]) -> bool:
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
        elif token.kind not in ("sign", "command") or token.text not in ("_", "{", "}", ":", "/", "|", "frac", "angle", "triangle", "overline", "vec", "(", ")", "cap", "cup", ",", "'", "bar"):
            return False
    return capital


# --- one side ---------------------------------------------------------------------------------------------------------------


def _side(found: list[Token]) -> Value:
    """A region, a set, a tuple, a matrix, a ratio, a number in a base, or a quantity with its unit."""
    if not found:
        raise Unreadable("no answer found")
    texts = [t.text for t in found]
    if texts[0] == "circ":
        raise Unreadable("cannot be read as mathematics")
    for sign, kind in (("cup", "union"), ("setminus", "minus")):
        parts = top_level(found, sign)
        if len(parts) > 1:
            return Value(kind, tuple(map(_side, parts)))
    if _is(texts, "mathbb", "R") or " ".join(texts).lower() in ("all real numbers", "all reals", "all real values", "real numbers"):
        return Value("reals", ())
    if texts == ["emptyset"] or texts == ["\\{", "\\}"]:
        return Value("empty", ())
    if texts[0] == "begin" or "begin" in texts:
        return _matrix(found)
    based = _based(found)
    if based is not None:
        return based
    if len([p for p in top_level(found, ":")]) > 1:
        parts = top_level(found, ":")
        if any(not p for p in parts) or not all(t.kind != "text" for t in found):
            raise Unreadable("a ratio of words")
        return Value("ratio", tuple(expression(p) for p in parts))
    signs = [t.text for t in found if t.text in ("pm", "mp")]
    if signs and signs.count("pm") <= 1 and signs.count("mp") <= 1 and "pm" in signs:
        return Value("list", tuple(_side(_signed(found, plus)) for plus in "+-"))
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
    signed = [t._replace(kind="sign", text=plus) if t.text == "pm" else t._replace(kind="sign", text=other) if t.text == "mp" else t for t in found]
    return signed[1:] if signed[0].text == "+" else signed


def _sum_of_letters(core: list[Token]) -> bool:
    outside = _outside(core)
    return any(t.text in "+-" for t in outside[1:]) and any(t.kind == "name" for t in core)


def _without_degrees(tree: tuple) -> tuple[tuple, bool]:
    """Degrees as a unit: 180^\\circ k + 30^\\circ is 180 k + 30 in degrees."""
    from .trees import ONE, names

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


def _wrapped(found: list[Token]) -> bool:
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
    if not _wrapped(found):
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
    return Value(kind, tuple(_side(p) for p in parts))


def _set(inside: list[Token]) -> Value:
    bar = [i for i, t in enumerate(inside) if t.text in ("|", ":") and t.kind == "sign"]
    if bar and (len(bar) % 2 or inside[bar[0]].text == ":") and not any(t.text == "," for t in inside[: bar[0]]):
        condition = inside[bar[0] + 1 :]
        variable = "".join(t.text for t in inside[: bar[0]] if t.text not in "{}")
        variable = variable.split("in")[0].strip() if "inmathbbR" in variable else variable
        value = _several(condition)
        if len(variable) == 1 and value.kind in ("relation", "system", "named"):
            return value
        raise Unreadable("a set with a condition")
    parts = top_level(inside, ",", ";")
    if any(not p for p in parts):
        raise Unreadable("cannot be read as mathematics")
    values = map(_side, parts)
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


_BASE_WORDS = _NUMBER_WORDS | {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16, "hex": 16}


def _based(found: list[Token]) -> Value | None:
    """Digits in a base: 2516_8, (4343)_{six}, 1101 base 2."""
    texts = ["base" if t.text.lower().strip("()") == "base" else t.text for t in found]
    words = " ".join(texts).replace("{", " ").replace("}", " ").replace("_", " _ ").lower()
    match = re.fullmatch(r"(-? ?)\(? ?([0-9a-f]+(?: [0-9a-f]+)*) ?\)? *(?:_ *\(? *(?:base *)?|\(? ?(?:in )?base *)([a-z]+|\d{1,2}) *\)?", re.sub(r" +", " ", words).strip())
    if match is None or (found[0].kind == "name" and not re.search(r"\d", match[2])):
        return None
    base = int(match[3]) if match[3].isdigit() else _BASE_WORDS.get(match[3])
    if base is None or not 2 <= base <= 36 or not match[2][0].isdigit() and "base" not in words and found[0].kind == "name":
        return None
    digits = match[2].replace(" ", "").upper()
    return Value("based", (match[1].strip() + (digits.lstrip("0") or "0"), base))
