"""What can be said about a gold answer and an answer without a library, and what the library has to be asked.

``by_rule`` decides words, choices, units, plain numbers, what ``exact`` reads and numbers in other bases. Everything else becomes two texts for math-verify,
after what only one of the two says has been taken off ("x =", brackets around a list), and after kinds of answers that it
takes for the same have been kept apart: {1, 2} and (1, 2), (3, 1) and [3, 1], 11 in two bases.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

from differential_smoothing.tasks.math.answers import Spelled, plain, same_words, spelled
from differential_smoothing.tasks.math.exact import same_exactly

__all__ = ["asked", "based", "by_rule", "same_numbers"]

DIFFERS = "differs from the gold answer"

CHOICE = re.compile(r"(?:option |choice |answer )?\(?([A-J])\)?[.:)]?", re.IGNORECASE)
_LABEL = re.compile(r"(?:\(([A-J])\)|([A-J]) ?[.):]) ?(?=\S)")
_SECOND = re.compile(r"\([A-J]\)|(?:\b(?:or|and)\b|[,/&]) ?\(?[A-J](?:\)|\b(?! [a-z]))")  # (A) or (B)
_ARTICLE = re.compile(r"(?:the|an?) ", re.IGNORECASE)
_BASED = re.compile(r"(-?[0-9A-F]{1,60}) ?_ ?(?:\{ ?(\d{1,2}) ?\}|(\d{1,2}))")
_NAME = r"(?:[A-Za-z]|\\[a-z]{2,8})(?:'|_(?:\{[A-Za-z0-9]{1,4}\}|[A-Za-z0-9]))?(?:\^\{-1\})?(?:\([a-z0-9]{1,2}(?:, ?[a-z])?\))?"
_NAMED = re.compile(rf" ?({_NAME}|[A-Z]{{2,3}}) ?(?:=|:=|\\in(?![a-z])) ?")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-z])")
_DESCENDING = re.compile(r"(>|\\ge(?![a-z]))")
_BLANK = re.compile(r"(?<!\d) | (?!\d)")  # not between two digits
_SEVERAL = re.compile(r"-?\d+(?: \d+)+")
_EQUALS = re.compile(r"(?<![<>!:\\])=(?!=)")
_APPROX = re.compile(r"\\(?:approx|simeq|doteq)(?![a-z])")


def by_rule(gold: Spelled, answer: Spelled) -> tuple[bool, str] | tuple[str, str]:
    """(equal, reason) where no library is needed, else the two texts to ask math-verify about, gold first."""
    letter = CHOICE.fullmatch(gold.text)
    if letter and letter[1].isupper():
        given = CHOICE.fullmatch(answer.text)
        label = _LABEL.match(answer.text)
        said = given[1].upper() if given else (label[1] or label[2]) if label else None
        if label and not given and _SECOND.search(answer.text, label.end()):
            return False, DIFFERS
        return (True, "") if said == letter[1] else (False, DIFFERS)
    if label := _LABEL.match(answer.text):
        rest = answer.text[label.end() :]
        answer = answer._replace(text=rest, words=spelled(rest).words)
    if answer.words and (article := _ARTICLE.match(answer.text)):  # the 5
        bare = spelled(answer.text[article.end() :])
        answer = answer if bare.words else bare
    if gold.words or answer.words:
        equal = same_words(gold.text, answer.text)
        return equal, "" if equal else DIFFERS
    if _known_alike(gold, answer):
        return True, ""
    if _SEVERAL.fullmatch(answer.text):
        return False, DIFFERS  # 1 2 3 is not 123, which the library may take it for
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False, "has another unit than the gold answer"
    one, other = _same_kind(gold.text, answer.text)
    if one is None:
        return False, DIFFERS
    bases = based(one), based(other)
    if any(bases):
        return _same_in_base(bases, one, other)
    exact = same_numbers(one, other, gold.percent, answer.percent)
    if exact is not None:
        return exact, "" if exact else DIFFERS
    if not (gold.percent or answer.percent):
        exact = same_exactly(asked(one), asked(other))
        if exact is not None:
            return exact, "" if exact else DIFFERS
    percent = ["\\%" * (s.percent and plain(t) is None) for s, t in ((gold, one), (answer, other))]
    return asked(one + percent[0]), asked(other + percent[1])


def _known_alike(gold: Spelled, answer: Spelled) -> bool:
    return (
        gold.unit == answer.unit
        and _BLANK.sub("", gold.text) == _BLANK.sub("", answer.text)
        and " or " not in gold.text
    )


def _same_kind(gold: str, answer: str) -> tuple[str, str] | tuple[None, None]:
    """Both texts without what only one of them says: "x =", "... = 5", brackets. (None, None) if they are not comparable."""
    if not _APPROX.search(gold):
        before, *after = _APPROX.split(answer)
        answer = (before if not after or not re.fullmatch(_NAME, before.strip()) else after[0]).strip()
    if not _EQUALS.search(gold) and not _RELATION.search(gold) and "\\in" not in gold.replace("\\infty", ""):
        parts = [p.strip() for part in _top_level(answer) for p in re.split(r" (?:or|and) ", part)]
        named = [_NAMED.match(part) for part in parts]
        if len(parts) > 1 and all(named) and len({m[1] for m in named}) == 1:  # x = 1 or x = 2
            answer = ", ".join(part[m.end() :] for part, m in zip(parts, named))
        elif len(parts) == 1 and not _RELATION.search(answer):
            answer = _EQUALS.split(answer)[-1].strip()
            answer = answer[m.end() :] if (m := _NAMED.match(answer)) else answer
    elif (
        (m := _NAMED.match(gold))
        and "=" not in gold[m.end() :]
        and not _RELATION.search(gold)
        and len(_top_level(gold)) == 1
    ):
        n = _NAMED.match(answer)
        if n is None and not _EQUALS.search(answer):
            gold = gold[m.end() :]
        elif n is not None and (n[1] == m[1] or "(" in n[1] + m[1]) and len(_top_level(answer)) == 1:
            gold, answer = gold[m.end() :], _EQUALS.split(answer)[-1].strip()
    kinds = _kind(gold), _kind(answer)
    if set(kinds) == {"set", "brackets"}:
        return None, None  # math-verify takes {1, 2} and (1, 2) for the same
    ends = [(text[0], text[-1]) for text in (gold, answer) if text]
    if kinds == ("brackets", "brackets") and len(set(ends)) > 1 and len(_top_level(gold[1:-1])) == 2:
        return None, None  # it reads (3, 1) and [3, 1], which are no intervals, as tuples
    if (
        kinds == ("brackets", "list")
        and gold[0] == "("
        and gold[-1] == ")"
        and not re.search("[<=>]|\\\\[lg]e", answer)
    ):
        answer = f"({answer})"
    if kinds == ("list", "brackets") and answer[0] == "(" and answer[-1] == ")" and "=" not in gold:
        gold = f"({gold})"
    return gold, answer


def _top_level(text: str) -> list[str]:
    """``text`` cut at the commas outside all brackets. Half-open intervals count as closed."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c in ",;" and depth <= 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _kind(text: str) -> str:
    """ "set" for \\{...\\}, "brackets" for a tuple or an interval, "list" for 1, 2; else "one"."""
    if len(_top_level(text)) > 1 or " or " in text or " and " in text:
        return "list"
    if text.startswith("\\{") and text.endswith("\\}") and text.find("\\}") == len(text) - 2:
        return "set"
    if text and text[0] in "([" and text[-1] in ")]" and len(_top_level(text[1:-1])) > 1:
        depths = list(itertools.accumulate((c in "([{") - (c in ")]}") for c in text))
        return "brackets" if min(depths[:-1]) > 0 else "one"  # the union of two intervals is one thing
    return "one"


def based(text: str) -> tuple[str, str] | None:
    """Digits and base of ``2516_8``, else None."""
    match = _BASED.fullmatch(text)
    return (match[1].lstrip("0") or "0", match[2] or match[3]) if match else None


def _same_in_base(bases, gold: str, answer: str) -> tuple[bool, str]:
    # math-verify drops the base; the problem has asked for it, so it may be left out, but not be another one
    digits = [
        b[0] if b else text.replace(" ", "").lstrip("0") or "0" for b, text in zip(bases, (gold, answer))
    ]
    named = [b[1] for b in bases if b]
    equal = digits[0] == digits[1] and len(set(named)) == 1
    return equal, "" if equal else DIFFERS


def same_numbers(gold: str, answer: str, gold_percent: bool, answer_percent: bool) -> bool | None:
    """Exact comparison of two plain numbers; None if one is not plain or rounding has to decide."""
    a, b = plain(gold), plain(answer)
    if a is None or b is None:
        return None
    hundredth = Fraction(1, 100)
    if gold_percent == answer_percent or a == b:
        values = a, b
    else:
        values = a * (hundredth if gold_percent else 1), b * (hundredth if answer_percent else 1)
    if values[0] == values[1]:
        return True
    close = abs(values[0] - values[1]) < Fraction(2, 10**6)
    return None if close and _ends(values[0]) != _ends(values[1]) else False


def _ends(value: Fraction) -> bool:
    """Whether finitely many decimals write it."""
    q = value.denominator
    for prime in (2, 5):
        while q % prime == 0:
            q //= prime
    return q == 1


def asked(text: str) -> str:
    """What the library is asked to read: ± inside a fraction written out, 3 > x > 1 in ascending order."""
    if "\\pm" in text and "=" not in text and len(_top_level(text)) == 1:
        plus, minus = (text.replace("\\pm", a).replace("\\mp", b) for a, b in ("+-", "-+"))
        return f"{plus.strip().removeprefix('+')},{minus}"
    descending = _DESCENDING.split(text)
    if len(descending) == 5 and not re.search(r"<|\\le(?![a-z])", text):
        signs = {">": "<", "\\ge": "\\le"}
        return (
            f"{descending[4]} {signs[descending[3]]} {descending[2]} {signs[descending[1]]} {descending[0]}"
        )
    return text
