"""The whole comparison of an answer with a gold answer, as texts. It is asked here and, with another oracle, in the bounded process."""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

from .agree import same
from .oracles import Quick, Thorough, Undecided
from .tokens import Unreadable, flat, spelled, tokens
from .unit_names import unit_of
from .values import Value, read

__all__ = ["CHOICE", "GoldUnreadable", "Undecided", "gold_value", "judged", "same_words"]

DIFFERS = "differs from the gold answer"
UNREADABLE = "cannot be read as mathematics"

CHOICE = re.compile(r"(?:option |choice |answer )?\(?([A-J])\)?[.:)]?", re.IGNORECASE)
_LABEL = re.compile(r"(?:\(([A-J])\)|([A-J]) ?[.):]) ?(?=\S)")
_OTHER_LABEL = re.compile(
    r"(?<![A-Za-z\\])(?!A (?:[a-z]{2,}))[A-J](?![A-Za-z'(^_])|\([A-Ja-j]\)|(?<![A-Za-z])[a-j][).](?!\w)"
)


_PLAIN = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")  # most answers are


class GoldUnreadable(ValueError):
    """The gold answer cannot be read."""


_LAST_UNIT = re.compile(r"\\(?:mathrm|text)\{[~\s]*([a-z]{1,3})\}[\s$.]*\Z")


@lru_cache(maxsize=5_000)
def gold_value(gold: str) -> Value:
    """The value of a gold answer. ``GoldUnreadable`` with a reason."""
    try:
        value = read(gold)
        unit = _LAST_UNIT.search(gold) if value.kind in ("formula", "words") else None
        if unit and unit_of(unit[1]) is not None:  # a unit behind a sum of letters, which only a gold answer may have
            with suppress(Unreadable):
                inner = read(gold[: unit.start()])
                return inner._replace(text=value.text) if inner.kind not in ("formula", "words") else value
        return value
    except Unreadable as error:
        raise GoldUnreadable(str(error)) from None


def judged(gold: str, answer: str, thorough: bool = False) -> tuple[bool, str]:
    """(equal, reason). ``Undecided`` if only the thorough comparison can say; ``GoldUnreadable``."""
    if _PLAIN.fullmatch(gold) and _PLAIN.fullmatch(answer):
        equal = Fraction(gold) == Fraction(answer)
        return equal, "" if equal else DIFFERS
    wanted = gold_value(gold)
    try:
        stated = flat(spelled(answer))
    except Unreadable as error:
        return False, str(error)
    letter = CHOICE.fullmatch(wanted.text)
    if letter and letter[1].isupper():
        equal = _chosen(stated) == letter[1]
        return equal, "" if equal else DIFFERS
    if _blankless(wanted.text) == _blankless(stated) and " or " not in stated:
        return True, ""
    if label := _LABEL.match(stated):
        if _OTHER_LABEL.search(stated, label.end()):
            return False, DIFFERS
        answer = _without_label(answer, label[1] or label[2])
    try:
        value = read(answer)
    except Unreadable as error:
        return (False, UNREADABLE) if not str(error).startswith(("too long", "no answer")) else (False, str(error))
    if "words" in (wanted.kind, value.kind):
        equal = same_words(wanted.text, value.text)
        return equal, "" if equal else DIFFERS
    oracle = (Thorough if thorough else Quick)(imaginary=_imaginary(gold, answer))
    equal, reason = same(wanted, value, oracle)
    if not equal and _several(wanted) and re.search(r"\d,\d{3}", answer):  # 10,100 may be two answers
        again, _ = same(wanted, read(answer, thousands=False), oracle)
        return (True, "") if again else (False, reason)
    return equal, reason


def _several(value: Value) -> bool:
    inner = value.parts[1] if value.kind == "named" else value
    return inner.kind in ("list", "{}", "()", "[]", "(]", "[)")


def _chosen(stated: str) -> str | None:
    """The letter that is chosen, if it is one and no other."""
    given = CHOICE.fullmatch(stated)
    if given:
        return given[1].upper()
    label = _LABEL.match(stated)
    if label is None or _OTHER_LABEL.search(stated, label.end()):
        return None
    return label[1] or label[2]


def _without_label(answer: str, letter: str) -> str:
    """The text behind "(B)", "\\textbf{(B)}" or "B)"."""
    return re.sub(
        rf"^(?:\\(?:text|mathrm)(?:bf|rm)?\{{ ?)?\(?{letter}[).:]+ ?\}}?(?:\\[ ,;:]|\\q?quad|~)*",
        "",
        answer.strip().lstrip("$*").strip(),
        count=1,
    )


_BLANK = re.compile(r"(?<!\d) | (?!\d)")  # not between two digits


def _blankless(text: str) -> str:
    return _BLANK.sub("", text)


def _imaginary(gold: str, answer: str) -> bool:
    """Whether i is the imaginary unit: not beside j, and not in an exponent of anything but e."""
    for text in (gold, answer):
        if any(t.kind == "name" and t.text == "j" for t in tokens(spelled(text))):
            return False
    return not re.search(r"(?<!\w)[a-df-zA-Z0-9]\s?\^\s?(?:i\b|\{\s?[^{}]*(?<![A-Za-z\\])i(?![A-Za-z])[^{}]*\})", gold)


_ARTICLE = re.compile(r"\b(?:the|an?)\s+(?=[a-z]{2})")
_MATHS = re.compile(r"[\d<>=+*^|_!']|\\[A-Za-z]|(?<![A-Za-z])-")  # a sign, and not a hyphen


def same_words(one: str, other: str) -> bool:
    """Words are the same up to case, punctuation, white space and articles; where there are numbers or signs among them, every
    sign and the case of single letters count: "all but -2" is not "all but 2"."""

    def normal(text: str) -> list[str]:
        words = [w.strip(".-:") for w in re.findall(r"[\w:/.-]+", text)]
        return [w.lower() if len(w) > 1 else w for w in words if w and w.lower() not in ("the", "a", "an")]

    def exact(text: str) -> str:
        text = re.sub(r"[A-Za-z]{2,}", lambda m: m.group().lower(), text)
        text = re.sub(r"(?<=\d)\s+(?=\d)", "_", _ARTICLE.sub("", text.replace("p.m.", "pm").replace("a.m.", "am")))
        return re.sub(r"\s+|\.(?!\d)|[,;:](?!\d)|(?<!\d)[,;:]", "", text)

    if _MATHS.search(one) or _MATHS.search(other):
        return exact(one) == exact(other)
    return normal(one) == normal(other)
