"""Mathematical answers: is the answer in this completion the gold answer?

``verify`` compares one completion with one gold answer, ``verify_many`` a batch (the way to use it in a reward function),
``check_golds`` refuses gold answers that cannot be read when problems are loaded, ``canonical`` is the normal form of an answer,
``solution_signature`` (see ``working``) tells different solutions with the same answer apart.

How an answer is compared, the first that applies:

1. **Words** ("yes", "Evelyn", choices A to J) are the same up to case, punctuation and an article, and are compared as nothing else.
2. **Plain numbers** (integers, decimals, fractions, mixed numbers, a x 10^b, percent) as exact rationals.
3. **Polynomials** in letters, pi and square roots, and tuples and sets of them, exactly (``exact``).
4. **All else** by `math-verify <https://github.com/huggingface/Math-Verify>`_ on sympy, in another process bounded in time and
   memory (``pool``), gold answer first.

Conventions, those of MATH, GSM8K, AIME and their graders: units, currency and degree signs may be left out, two units that
we know must agree (nothing is converted); "x = 5" answers 5; what stands after the last "=" counts; 50% answers 50 and 0.5; a decimal fraction
for a number that has none, such as 1/3 or pi, must be right to six decimals; the order in sets and lists is free, in tuples and
intervals it is not; {1, 2} and (1, 2) are different; a number in another base needs the same digits, and the same base if it names
one. Two different answers are not the right one, even if one of them is.

Model output is hostile: any text gets a Verdict, in less than a second of processor time once the processes run (the first
comparison that needs them waits for sympy to load). A gold answer is data: ValueError.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from differential_smoothing.tasks.math.answers import Spelled, plain, spelled
from differential_smoothing.tasks.math.exact import shape
from differential_smoothing.tasks.math.extract import extract
from differential_smoothing.tasks.math.pool import Pool
from differential_smoothing.tasks.math.rules import CHOICE, asked, based, by_rule
from differential_smoothing.tasks.math.working import solution_signature
from differential_smoothing.tasks.task import Verdict

__all__ = ["Verdict", "canonical", "check_golds", "solution_signature", "unreadable", "verify", "verify_many"]

_LIST = re.compile(r"\d, \d")  # a gold answer of several numbers: "10,100" may be two of them
CACHE = 50_000  # comparisons remembered, each of two texts of at most MAX_ANSWER characters


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


_OF_THE_MACHINE = ("not compared: the machine is too busy", "stopped by its limits")  # the next time it may be another
_POOL = Pool()
_COMPARED = _Cache(CACHE)  # (gold, answer) -> (equal, reason)
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
        raise ValueError(
            f"{len(completions)} completions and {len(golds)} gold answers; expected one gold answer for each."
        )
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


def unreadable(golds: Iterable[str]) -> dict[str, str]:
    """Those gold answers that cannot be read, each with the reason."""
    found, difficult = {}, {}
    for gold in dict.fromkeys(golds):
        try:
            answer = _gold(gold)
        except ValueError as error:
            found[gold] = str(error)
            continue
        if not (answer.words or plain(answer.text) is not None or based(answer.text) or shape(asked(answer.text))):
            difficult[gold] = ["read", asked(answer.text)]
    for gold, (readable, reason) in zip(difficult, _POOL.run(list(difficult.values()))):
        if not readable:
            found[gold] = str(_unreadable(gold, reason or "it is not mathematics that math-verify reads"))
    return found


def check_golds(golds: Iterable[str]) -> None:
    """ValueError naming the first gold answer that cannot be read. Call it once when problems are loaded."""
    for reason in unreadable(golds).values():
        raise ValueError(reason)


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


def _compare(
    pairs: Iterable[tuple[str, str]], golds: dict[str, Spelled]
) -> dict[tuple[str, str], tuple[bool, str]]:
    """(gold, answer) -> (equal, reason), from the cache, by the rules below, or by math-verify."""
    found, requests = {}, {}
    for key in dict.fromkeys(pairs):
        known = _COMPARED.get(key)
        if known is None:
            try:
                known = by_rule(golds[key[0]], spelled(key[1]))
                if known[0] is False and _LIST.search(key[0]):
                    known = by_rule(golds[key[0]], spelled(key[1], thousands=False))
            except ValueError as error:
                known = False, str(error)
            if isinstance(known[0], bool):
                _COMPARED.put(key, known)
        if isinstance(known[0], bool):
            found[key] = known
        else:
            requests[key] = known
    for key, (equal, reason) in zip(requests, _run([["same", *r] for r in requests.values()])):
        if reason == "the gold answer cannot be read":
            raise _unreadable(key[0], "it is not mathematics that math-verify reads")
        found[key] = bool(equal), reason
        if reason not in _OF_THE_MACHINE:
            _COMPARED.put(key, found[key])
    return found


def _run(requests: Sequence[Sequence[str]]) -> list[tuple[object, str]]:
    """The pool's replies; what the machine and not the text has prevented is asked once more."""
    replies = _POOL.run(requests)
    again = [i for i, (value, reason) in enumerate(replies) if value is None and reason in _OF_THE_MACHINE]
    for i, reply in zip(again, _POOL.run([requests[i] for i in again])):
        replies[i] = reply
    return replies


# --- normal forms ---------------------------------------------------------------------------------------------------


def _forms(answers: Sequence[Spelled]) -> list[str]:
    found: dict[Spelled, str] = {}
    unknown = []
    for answer in answers:
        number = plain(answer.text)
        if answer.words or CHOICE.fullmatch(answer.text):
            found[answer] = " ".join(answer.text.lower().strip("()").split())
        elif number is not None:
            found[answer] = str(number)
        elif (known := _FORMS.get(answer.text)) is not None:
            found[answer] = known
        elif answer not in unknown:
            unknown.append(answer)
    for answer, (form, reason) in zip(unknown, _run([["form", asked(a.text)] for a in unknown])):
        found[answer] = form or answer.text.replace(" ", "")
        if reason not in _OF_THE_MACHINE:
            _FORMS.put(answer.text, found[answer])
    return [found[answer] for answer in answers]
