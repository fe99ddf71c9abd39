"""Words around an answer: "The answer is", "or", "million", "for any integer k"; and whether an answer is words."""

from __future__ import annotations

import re

from .tokens import FUNCTIONS, OPENING, Token, Unreadable, words
from .trees import GREEK, is_word

__all__ = ["announced", "connected", "is_formula", "outside", "qualified", "scaled", "wordy"]

_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SETS = {
    "R": "real numbers",
    "Z": "integers",
    "N": "positive integers",
    "Q": "rational numbers",
    "C": "complex numbers",
}
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
_KNOWN = words(
    "sum prod int lim partial nabla frac sqrt binom ldots pm mp cup cap setminus emptyset in ne le ge approx sim rightarrow infty pi vec hat bar overline dot ddot mathbb circ "
    "langle rangle begin end cdot angle triangle leftrightarrow mapsto forall exists neg parallel perp subset subseteq equiv dagger star bullet wr ell Vert propto notin oint "
    "overset underset stackrel pmod bmod pod"
)


def wordy(found: list[Token]) -> bool:
    """Whether the tokens hold words and not only names of quantities."""
    for token in found:
        text = token.text
        if token.kind == "text" and re.search("[A-Za-z]{2}|^[^\x00-\x7f]", text):
            return True
        if token.kind == "word" and is_word(text):
            return True
        if token.kind in ("word", "text", "name") and not text.isascii():
            return True
    return False


def is_formula(found: list[Token]) -> bool:
    """Whether the tokens are of a formula that is whole, though not of a kind that is read."""
    if found[-1].text in (
        "+",
        "-",
        "*",
        "/",
        "^",
        "_",
        "=",
        "<",
        ">",
        "le",
        "ge",
        "frac",
        "sqrt",
        "cup",
        "cap",
        "in",
        "\\",
    ) or found[0].text in ("*", "/", "^", "_", "="):
        return False
    if len(found) < 3:
        return False
    return all(
        t.kind != "command"
        or t.text in _KNOWN
        or t.text in FUNCTIONS
        or (re.fullmatch("[A-Z]?[a-z]{2,7}", t.text) and t.text in GREEK)
        for t in found
    )


def announced(found: list[Token]) -> list[Token]:
    """Without "The answer is" before it."""
    words, at = [], 0
    while at < len(found) and found[at].kind in ("word", "text", "name") and at < 8:
        words.append(found[at].text)
        at += 1
        phrase = " ".join(words).lower().rstrip(":")
        if re.fullmatch(
            r"(?:so |thus |therefore,? |hence )?(?:the |our |my )?(?:final |correct |right |exact |required )?(?:answer|value|result|solutions?|solution set)(?: is| are| equals)",
            phrase,
        ):
            return found[at + (at < len(found) and found[at].text == ":") :]
        if re.fullmatch(r"(?:the |our )?(?:final )?(?:answer|solution|result)", phrase):
            if words[-1].endswith(":"):
                return found[at:]
            if at < len(found) and found[at].text in (":", "="):
                return found[at + 1 :]
    if found[0].text.lower() in ("the", "an") and len(found) > 1:
        return found[1:]
    return found


def connected(found: list[Token]) -> list[Token]:
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


def scaled(found: list[Token]) -> list[Token]:
    """ "5 million" as 5 * 10^6, and "1.6e-19" as 1.6 * 10^-19."""
    scaled: list[Token] = []
    i = 0
    while i < len(found):
        token = found[i]
        words = token.text.split(" ") if token.kind in ("word", "text") else []
        if (
            words
            and words[0] in _SCALES
            and scaled
            and (
                scaled[-1].kind == "scale"
                or (scaled[-1].kind == "number" and (len(scaled) == 1 or scaled[-2].kind != "number"))
            )
        ):
            power = 0
            while words and words[0] in _SCALES:
                power += _SCALES[words.pop(0)]
            scaled += _power_of_ten(str(power))
            scaled[-1] = scaled[-1]._replace(kind="scale")
            if words:
                scaled.append(Token("text", " ".join(words), True))
        elif (
            token.text in ("e", "E")
            and token.kind == "name"
            and not token.space
            and scaled
            and scaled[-1].kind == "number"
            and (len(scaled) == 1 or scaled[-2].text not in ("^", "_"))
            and (power := _exponent(found, i + 1)) is not None
        ):
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
    if (
        at < len(found)
        and found[at].kind == "number"
        and not found[at].space
        and re.fullmatch(r"\d{1,3}", found[at].text)
    ):
        after = found[at + 1] if at + 1 < len(found) else None
        if after is None or after.space or after.kind in ("sign", "text", "command"):
            return sign.replace("+", "") + found[at].text, at + 1
    return None


def _power_of_ten(power: str) -> list[Token]:
    inside = [Token("sign", "-"), Token("number", power[1:])] if power[0] == "-" else [Token("number", power)]
    return [
        Token("sign", "*"),
        Token("number", "10"),
        Token("sign", "^"),
        Token("sign", "{"),
        *inside,
        Token("sign", "}"),
    ]


def qualified(found: list[Token]) -> tuple[list[Token], str]:
    """Without "all integers" before it, or ", k in Z" and "for any constant c" behind it; and what that says."""
    at = 0
    while at < len(found) and at < 6 and found[at].kind in ("word", "text"):
        at += 1
    if 0 < at < len(found):
        phrase = " ".join(t.text for t in found[:at]).lower().strip(" ,:")
        if phrase in ("for", "for all", "for any") or (_QUANTIFIED.fullmatch(phrase) and phrase not in ("a", "an")):
            return found[at:], _meaning(phrase)
    depth = 0
    for i, token in enumerate(found):
        depth += (token.text in OPENING) - (token.text in OPENING.values()) if token.kind in ("sign", "command") else 0
        if (
            i
            and not depth
            and token.kind in ("word", "text")
            and re.match(r"(?:for|where|with|any|every|all)\b", token.text)
        ):
            phrase = re.sub(
                r"\s+", " ", " ".join(("\\" if t.kind == "command" else "") + t.text for t in found[i:])
            ).replace(" ,", ",")
            if not _CLAUSE.fullmatch(phrase.strip()):
                raise Unreadable("words that do not belong to an answer")
            end = i - 1 if found[i - 1].text in (",", ";") else i
            return found[:end], _meaning(phrase)
    for i in range(len(found) - 1, 0, -1):  # , k \in \mathbb{Z}
        if found[i].text in (",", "(", ";") and found[i].kind == "sign":
            clause = found[i + 1 :]
            if found[i].text == "(" and clause and clause[-1].text == ")":
                clause = clause[:-1]
            texts = [t.text for t in clause if t.text not in "{}"]
            if (
                len(texts) in (3, 4)
                and texts[1] == "in"
                and texts[-1] in _SETS
                and clause[0].kind == "name"
                and (len(texts) == 3 or texts[2] == "mathbb")
            ):
                return found[:i], _SETS[texts[-1]]
            break
    return found, ""


def _meaning(phrase: str) -> str:
    kind = re.search(
        r"(positive |non-?negative |negative |odd |even )?(integer|real|natural|rational|constant)", phrase.lower()
    )
    mark = re.search(r"(?:mathbb ?\{? ?)([ZRN])|\b([ZRN])\b", phrase)
    if mark:
        return _SETS[mark[1] or mark[2]]
    if kind and kind[2] == "constant":
        return ""
    return (
        (
            (kind[1] or "")
            + {"real": "real numbers", "natural": "positive integers", "rational": "rational numbers"}.get(
                kind[2], "integers"
            )
        )
        if kind
        else ""
    )


def outside(found: list[Token]) -> list[Token]:
    """The tokens that stand in no bracket."""
    depth, outside = 0, []
    for token in found:
        if token.kind in ("sign", "command"):
            depth += (token.text in OPENING) - (token.text in OPENING.values())
        if not depth:
            outside.append(token)
    return outside
