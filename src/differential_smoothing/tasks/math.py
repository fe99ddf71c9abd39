"""Mathematical answers: is the answer in this completion the gold answer?

``verify`` compares one completion with one gold answer, ``verify_many`` a batch (the way to use it in a reward function),
``check_golds`` refuses gold answers that cannot be read when problems are loaded, ``canonical`` is the normal form of an answer,
``solution_signature`` (see ``math_working``) tells different solutions with the same answer apart.

How an answer is compared, the first that applies:

1. **Words** ("yes", "Evelyn", choices A to J) are the same up to case, punctuation and an article, and are compared as nothing else.
2. **Plain numbers** (integers, decimals, fractions, mixed numbers, a x 10^b, percent) as exact rationals.
3. **All else** by `math-verify <https://github.com/huggingface/Math-Verify>`_ on sympy, in another process bounded in time and
   memory (``math_pool``), gold answer first.

Conventions, those of MATH, GSM8K, AIME and their graders: units, currency and degree signs may be left out, two units that
we know must agree (nothing is converted); "x = 5" answers 5; what stands after the last "=" counts; 50% answers 50 and 0.5; a decimal fraction
for a number that has none, such as 1/3 or pi, must be right to six decimals; the order in sets and lists is free, in tuples and
intervals it is not; {1, 2} and (1, 2) are different; a number in another base needs the same digits, and the same base if it names
one. Two different answers are not the right one, even if one of them is.

Model output is hostile: any text gets a Verdict, in less than a second once the processes run (the first comparison that needs
them waits for sympy to load). A gold answer is data: ValueError.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from differential_smoothing.tasks.countdown import Verdict
from differential_smoothing.tasks.math_answers import Spelled, extract, plain, same_words, spelled
from differential_smoothing.tasks.math_answers import MAX_ANSWER as MAX_ANSWER
from differential_smoothing.tasks.math_pool import Pool
from differential_smoothing.tasks.math_working import solution_signature

__all__ = ["Verdict", "canonical", "check_golds", "solution_signature", "verify", "verify_many"]

CACHE = 50_000  # comparisons remembered, each of two texts of at most MAX_ANSWER characters

_DIFFERS = "differs from the gold answer"


class _Cache:
    """The last ``size`` values, for several threads. A comparison is remembered for the life of the process."""

    def __init__(self, size: int) -> None:
        self._size, self._values, self._lock = size, OrderedDict(), threading.Lock()

    def get(self, key):
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key, value) -> None:
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._size:
                self._values.popitem(last=False)


_POOL = Pool()
_COMPARED = _Cache(CACHE)  # (gold, answer) -> (equal, reason), or the request that still has to be asked
_FORMS = _Cache(CACHE)  # text -> normal form


# --- the public functions -------------------------------------------------------------------------------------------


def verify(completion: str, gold: str) -> Verdict:
    """Is the answer in ``completion`` the ``gold`` answer? Gold second here, and never the other way round.

    ``completion`` is hostile: anything at all gets a Verdict with a reason in plain words. ``gold`` is data: ValueError if it is
    not text or cannot be read. The Verdict's ``canonical`` is the normal form of ``gold`` when correct, else None.
    """
    return verify_many([completion], [gold])[0]


def verify_many(completions: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
    """``verify`` for each pair, in order. One call for a batch: equal pairs are compared once, the rest in parallel.

    ValueError if the lengths differ or a gold answer cannot be read.
    """
    if len(completions) != len(golds):
        raise ValueError(f"{len(completions)} completions and {len(golds)} gold answers; expected one gold answer for each.")
    spelled_golds = {gold: _gold(gold) for gold in dict.fromkeys(golds)}
    outcomes: list[tuple[bool, str] | tuple[str, str]] = []
    for completion, gold in zip(completions, golds):
        if not isinstance(completion, str):
            outcomes.append((False, f"not text but {type(completion).__name__}"))
            continue
        answer = extract(completion)
        outcomes.append((False, "no answer found") if not answer else (answer, gold))
    pairs = [(gold, answer) for answer, gold in outcomes if answer is not False]
    compared = _compare(pairs, spelled_golds)
    outcomes = [o if o[0] is False else compared[o[1], o[0]] for o in outcomes]
    right = dict.fromkeys(gold for (equal, _), gold in zip(outcomes, golds) if equal)
    forms = dict(zip(right, _forms([spelled_golds[gold] for gold in right])))
    return [Verdict(True, "correct", forms[gold]) if equal else Verdict(False, reason, None)
            for (equal, reason), gold in zip(outcomes, golds)]  # fmt: skip


def check_golds(golds: Iterable[str]) -> None:
    """ValueError naming the first gold answer that cannot be read. Call it once when problems are loaded."""
    difficult = {}
    for gold in dict.fromkeys(golds):
        answer = _gold(gold)
        if not answer.words and plain(answer.text) is None and not _based(answer.text):
            difficult[gold] = ["read", _asked(answer.text)]
    for gold, (readable, reason) in zip(difficult, _POOL.run(list(difficult.values()))):
        if not readable:
            raise _unreadable(gold, reason or "it is not mathematics that math-verify reads")


def canonical(completion: str, gold: str | None = None) -> str | None:
    """The normal form of the answer in ``completion``; None if it has none. Equal for two spellings of one answer.

    With ``gold``, every correct answer has the normal form of the gold answer, so that "50%" and "50" are one where both are
    right. Numbers are fractions ("1/2"), words are lower case, all else is sympy's simplified form, or the spelling if sympy
    cannot make one in time.
    """
    if gold is not None:
        verdict = verify(completion, gold)
        if verdict.correct:
            return verdict.canonical
    answer = extract(completion) if isinstance(completion, str) else None
    try:
        return _forms([spelled(answer)])[0] if answer else None
    except ValueError:
        return None


# --- gold answers ---------------------------------------------------------------------------------------------------


def _unreadable(gold: object, reason: str) -> ValueError:
    return ValueError(
        f"The gold answer {str(gold)[:80]!r} cannot be read: {reason}. Expected an answer such as '42', '\\\\frac{{1}}{{2}}', "
        f"'(1, 2]' or 'yes'; correct or drop the problem."
    )


def _gold(gold: object) -> Spelled:
    if not isinstance(gold, str):
        raise _unreadable(gold, f"it is not text but {type(gold).__name__}")
    try:
        answer = extract(gold) if "\\boxed" in gold or "####" in gold else gold
        return spelled(answer or "")
    except ValueError as error:
        raise _unreadable(gold, str(error)) from None


# --- comparing ------------------------------------------------------------------------------------------------------


def _compare(pairs: Iterable[tuple[str, str]], golds: dict[str, Spelled]) -> dict[tuple[str, str], tuple[bool, str]]:
    """(gold, answer) -> (equal, reason), from the cache, by the rules below, or by math-verify."""
    found, requests = {}, {}
    for key in dict.fromkeys(pairs):
        known = _COMPARED.get(key)
        if known is None:
            try:
                known = _by_rule(golds[key[0]], spelled(key[1]))
            except ValueError as error:
                known = False, str(error)
            if isinstance(known[0], bool):
                _COMPARED.put(key, known)
        if isinstance(known[0], bool):
            found[key] = known
        else:
            requests[key] = known
    for key, (equal, reason) in zip(requests, _POOL.run([["same", *r] for r in requests.values()])):
        if reason == "the gold answer cannot be read":
            raise _unreadable(key[0], "it is not mathematics that math-verify reads")
        found[key] = bool(equal), reason
        _COMPARED.put(key, found[key])
    return found


_CHOICE = re.compile(r"(?:option |choice |answer )?\(?([A-J])\)?[.:)]?", re.IGNORECASE)
_LABEL = re.compile(r"(?:\(([A-J])\)|([A-J]) ?[.):]) ?(?=\S)")
_BASED = re.compile(r"(-?[0-9A-F]{1,60}) ?_ ?(?:\{ ?(\d{1,2}) ?\}|(\d{1,2}))")
_NAME = r"(?:[A-Za-z]|\\[a-z]{2,8})(?:'|_(?:\{[A-Za-z0-9]{1,4}\}|[A-Za-z0-9]))?(?:\^\{-1\})?(?:\([a-z0-9]{1,2}(?:, ?[a-z])?\))?"
_NAMED = re.compile(rf" ?({_NAME}|[A-Z]{{2,3}}) ?(?:=|:=|\\in(?![a-z])) ?")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-z])")
_DESCENDING = re.compile(r"(>|\\ge(?![a-z]))")
_EQUALS = re.compile(r"(?<![<>!:\\])=(?!=)")
_APPROX = re.compile(r"\\(?:approx|simeq|doteq)(?![a-z])")


def _by_rule(gold: Spelled, answer: Spelled) -> tuple[bool, str] | tuple[str, str]:
    """(equal, reason) where no library is needed, else the two texts to ask math-verify about, gold first."""
    letter = _CHOICE.fullmatch(gold.text)
    if letter and letter[1].isupper():
        given = _CHOICE.fullmatch(answer.text)
        label = _LABEL.match(answer.text)
        said = given[1].upper() if given else (label[1] or label[2]) if label else None
        return (True, "") if said == letter[1] else (False, _DIFFERS)
    if label := _LABEL.match(answer.text):
        rest = answer.text[label.end() :]
        answer = answer._replace(text=rest, words=spelled(rest).words)
    if gold.words or answer.words:
        equal = same_words(gold.text, answer.text)
        return equal, "" if equal else _DIFFERS
    if _known_alike(gold, answer):
        return True, ""
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False, "has another unit than the gold answer"
    one, other = _same_kind(gold.text, answer.text)
    if one is None:
        return False, _DIFFERS
    bases = _based(one), _based(other)
    if any(bases):
        return _same_in_base(bases, one, other)
    exact = _same_numbers(one, other, gold.percent, answer.percent)
    if exact is not None:
        return exact, "" if exact else _DIFFERS
    percent = ["\\%" * (s.percent and plain(t) is None) for s, t in ((gold, one), (answer, other))]
    return _asked(one + percent[0]), _asked(other + percent[1])


def _known_alike(gold: Spelled, answer: Spelled) -> bool:
    return gold.unit == answer.unit and gold.text.replace(" ", "") == answer.text.replace(" ", "") and " or " not in gold.text


def _same_kind(gold: str, answer: str) -> tuple[str, str] | tuple[None, None]:
    """Both texts without what only one of them says: "x =", "... = 5", brackets. (None, None) if they are not comparable."""
    if not _APPROX.search(gold):
        before, *after = _APPROX.split(answer)
        answer = (before if not after or not re.fullmatch(_NAME, before.strip()) else after[0]).strip()
    if not _EQUALS.search(gold) and not _RELATION.search(gold) and "\\in" not in gold.replace("\\infty", ""):
        parts = [p.strip() for part in _top_level(answer) for p in re.split(r" (?:or|and) ", part)]
        named = [_NAMED.match(part) for part in parts]
        if len(parts) > 1 and all(named) and len({m[1] for m in named}) == 1:  # x = 1 or x = 2
            answer = ",".join(part[m.end() :] for part, m in zip(parts, named))
        elif len(parts) == 1 and not _RELATION.search(answer):
            answer = _EQUALS.split(answer)[-1].strip()
            answer = answer[m.end() :] if (m := _NAMED.match(answer)) else answer
    elif (m := _NAMED.match(gold)) and "=" not in gold[m.end() :] and not _RELATION.search(gold) and len(_top_level(gold)) == 1:
        n = _NAMED.match(answer)
        if n is None and not _EQUALS.search(answer):
            gold = gold[m.end() :]
        elif n is not None and (n[1] == m[1] or "(" in n[1] + m[1]) and len(_top_level(answer)) == 1:
            gold, answer = gold[m.end() :], _EQUALS.split(answer)[-1].strip()
    kinds = _kind(gold), _kind(answer)
    if set(kinds) == {"set", "brackets"}:
        return None, None  # math-verify takes {1, 2} and (1, 2) for the same
    if kinds == ("brackets", "brackets") and (gold[0], gold[-1]) != (answer[0], answer[-1]):
        if len(_top_level(gold[1:-1])) == 2:
            return None, None  # it reads (3, 1) and [3, 1], which are no intervals, as tuples
    if kinds == ("brackets", "list") and gold[0] == "(" and gold[-1] == ")" and not re.search("[<=>]|\\\\[lg]e", answer):
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
    """"set" for \\{...\\}, "brackets" for a tuple or an interval, "list" for 1, 2; else "one"."""
    if len(_top_level(text)) > 1 or " or " in text or " and " in text:
        return "list"
    if text.startswith("\\{") and text.endswith("\\}") and text.find("\\}") == len(text) - 2:
        return "set"
    if text and text[0] in "([" and text[-1] in ")]" and len(_top_level(text[1:-1])) > 1:
        depths = list(itertools.accumulate((c in "([{") - (c in ")]}") for c in text))
        return "brackets" if min(depths[:-1]) > 0 else "one"  # the union of two intervals is one thing
    return "one"


def _based(text: str) -> tuple[str, str] | None:
    match = _BASED.fullmatch(text)
    return (match[1].lstrip("0") or "0", match[2] or match[3]) if match else None


def _same_in_base(bases, gold: str, answer: str) -> tuple[bool, str]:
    # math-verify drops the base; the problem has asked for it, so it may be left out, but not be another one
    digits = [b[0] if b else text.replace(" ", "").lstrip("0") or "0" for b, text in zip(bases, (gold, answer))]
    named = [b[1] for b in bases if b]
    equal = digits[0] == digits[1] and len(set(named)) == 1
    return equal, "" if equal else _DIFFERS


def _same_numbers(gold: str, answer: str, gold_percent: bool, answer_percent: bool) -> bool | None:
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


def _asked(text: str) -> str:
    """What the library is asked to read: ± inside a fraction written out, 3 > x > 1 in ascending order."""
    if "\\pm" in text and "=" not in text and len(_top_level(text)) == 1:
        plus, minus = (text.replace("\\pm", a).replace("\\mp", b) for a, b in ("+-", "-+"))
        return f"{plus.strip().removeprefix('+')},{minus}"
    descending = _DESCENDING.split(text)
    if len(descending) == 5 and not re.search(r"<|\\le(?![a-z])", text):
        signs = {">": "<", "\\ge": "\\le"}
        return f"{descending[4]} {signs[descending[3]]} {descending[2]} {signs[descending[1]]} {descending[0]}"
    return text


# --- normal forms ---------------------------------------------------------------------------------------------------


def _forms(answers: Sequence[Spelled]) -> list[str]:
    found: dict[Spelled, str] = {}
    asked = []
    for answer in answers:
        number = plain(answer.text)
        if answer.words or _CHOICE.fullmatch(answer.text):
            found[answer] = " ".join(answer.text.lower().strip("()").split())
        elif number is not None:
            found[answer] = str(number)
        elif (known := _FORMS.get(answer.text)) is not None:
            found[answer] = known
        elif answer not in asked:
            asked.append(answer)
    for answer, (form, _) in zip(asked, _POOL.run([["form", _asked(a.text)] for a in asked])):
        found[answer] = form or answer.text.replace(" ", "")
        _FORMS.put(answer.text, found[answer])
    return [found[answer] for answer in answers]
