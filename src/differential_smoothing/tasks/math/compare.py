"""Mathematical answers: is the answer in this completion the gold answer?

``verify`` compares one completion with one gold answer, ``verify_many`` a batch (the way to use it in a reward function),
``check_golds`` refuses gold answers that cannot be read when problems are loaded, ``canonical`` is the normal form of an answer,
``solution_signature`` (see ``working``) tells different solutions with the same answer apart.

How an answer is compared: both are read as what they are (``terms``): words, a choice, a quantity with its unit, an equation, a system, a set, a tuple,
a region, a matrix; and compared type by type. Answers of different types are not equal, and neither is whatever cannot be decided.

1. **Words** ("yes", "Evelyn", choices A to J) are the same up to case, punctuation and an article, and are compared as nothing else.
2. **Numbers and polynomials** in letters, pi, i and square roots are compared exactly, as rational coefficients.
3. **All other expressions** are different where they differ at one point in double precision, and equal where they agree at several points in more digits than their
   size could hide. The latter is computed by mpmath in another process that is bounded in time and memory (``pool``).

Conventions, those of MATH, GSM8K, AIME and their graders: units, currency, percent and degree signs may be left out, but two of them must agree (degrees
and radians are the only units that are converted); "x = 5" answers 5; what stands after the last "=" counts; equations and systems keep their names; letters in two cases are two quantities; e is
Euler's number and i the imaginary unit; 50% answers 50 and 0.5; a decimal fraction for a number that has none, such as 1/3 or pi, must be right to six decimals and exact
expressions are compared exactly; the order in sets and lists is free, in tuples and intervals it is not; {1, 2} and (1, 2) are different; a number in another base needs the
same digits, and the same base if it names one. Two different answers are not the right one, even if one of them is.

Model output is hostile: any text gets a Verdict, in less than a second of processor time once the processes run (the first
comparison that needs them waits for sympy to load). A gold answer is data: ValueError.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from differential_smoothing.tasks.math.extract import extract
from differential_smoothing.tasks.math.pool import Pool
from differential_smoothing.tasks.math.terms.judge import CHOICE, GoldUnreadable, Undecided, gold_value, judged
from differential_smoothing.tasks.math.terms.polynomials import polynomial
from differential_smoothing.tasks.math.terms.tokens import Unreadable
from differential_smoothing.tasks.math.terms.values import Value, read
from differential_smoothing.tasks.math.working import solution_signature
from differential_smoothing.tasks.task import Verdict

__all__ = ["Verdict", "canonical", "check_golds", "solution_signature", "unreadable", "verify", "verify_many"]

CACHE = 50_000  # comparisons remembered, each of two texts of at most MAX_ANSWER characters


class Cache:
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
POOL = Pool()
COMPARED = Cache(CACHE)  # (gold, answer) -> (equal, reason)
FORMS = Cache(CACHE)  # text -> normal form


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
    written = {gold: _gold(gold) for gold in dict.fromkeys(golds)}
    outcomes: list[tuple[bool, str] | tuple[str, str]] = []
    for completion, gold in zip(completions, golds):
        if not isinstance(completion, str):
            outcomes.append((False, f"not text but {type(completion).__name__}"))
            continue
        answer = extract(completion)
        outcomes.append((False, "no answer found") if not answer else (answer, gold))
    pairs = [(gold, answer) for answer, gold in outcomes if answer is not False]
    compared = _compare(pairs, written)
    outcomes = [o if o[0] is False else compared[o[1], o[0]] for o in outcomes]
    right = dict.fromkeys(gold for (equal, _), gold in zip(outcomes, golds) if equal)
    forms = dict(zip(right, _forms([gold_value(written[gold]) for gold in right])))
    return [
        Verdict(True, "correct", forms[gold]) if equal else Verdict(False, reason, None)
        for (equal, reason), gold in zip(outcomes, golds)
    ]


def unreadable(golds: Iterable[str]) -> dict[str, str]:
    """Those gold answers that cannot be read, each with the reason."""
    found = {}
    for gold in dict.fromkeys(golds):
        try:
            _gold(gold)
        except ValueError as error:
            found[gold] = str(error)
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
        return _forms([read(answer)])[0] if answer else None
    except Unreadable:
        return None


# --- gold answers ---------------------------------------------------------------------------------------------------


def _unreadable(gold: object, reason: str) -> ValueError:
    return ValueError(
        f"The gold answer {str(gold)[:80]!r} cannot be read: {reason}. Expected an answer such as '42', '\\\\frac{{1}}{{2}}', "
        f"'(1, 2]' or 'yes'; correct or drop the problem."
    )


def _gold(gold: object) -> str:
    """The answer in a gold answer, which may be a whole solution. ValueError if it cannot be read."""
    if not isinstance(gold, str):
        raise _unreadable(gold, f"it is not text but {type(gold).__name__}")
    answer = extract(gold) if "\\boxed" in gold or "####" in gold else gold
    try:
        gold_value(answer or "")
    except GoldUnreadable as error:
        raise _unreadable(gold, str(error)) from None
    return answer


# --- comparing ------------------------------------------------------------------------------------------------------


def _compare(pairs: Iterable[tuple[str, str]], written: dict[str, str]) -> dict[tuple[str, str], tuple[bool, str]]:
    """(gold, answer) -> (equal, reason), from the cache, by what is exact and quick, or by the processes."""
    found, requests = {}, {}
    for key in dict.fromkeys(pairs):
        known = COMPARED.get(key)
        if known is None:
            try:
                known = judged(written[key[0]], key[1])
            except Undecided:
                requests[key] = ["same", written[key[0]], key[1]]
                continue
            except Exception as error:  # a completion never ends a training
                known = False, f"cannot be compared ({type(error).__name__})"
            COMPARED.put(key, known)
        found[key] = known
    for key, (equal, reason) in zip(requests, _run(list(requests.values()))):
        found[key] = equal is True, reason
        if reason not in _OF_THE_MACHINE:
            COMPARED.put(key, found[key])
    return found


def _run(requests: Sequence[Sequence[str]]) -> list[tuple[object, str]]:
    """The pool's replies; what the machine and not the text has prevented is asked once more."""
    replies = POOL.run(requests)
    again = [i for i, (value, reason) in enumerate(replies) if value is None and reason in _OF_THE_MACHINE]
    for i, reply in zip(again, POOL.run([requests[i] for i in again])):
        replies[i] = reply
    return replies


# --- normal forms ---------------------------------------------------------------------------------------------------


def _forms(answers: Sequence[Value]) -> list[str]:
    found: dict[str, str] = {}
    unknown = []
    for answer in answers:
        text = answer.text
        if (known := FORMS.get(text)) is not None:
            found[text] = known
        elif answer.kind == "words" or CHOICE.fullmatch(text):
            found[text] = " ".join(text.lower().strip("()").split())
        elif answer.kind == "one" and (number := polynomial(answer.parts)) is not None and number.keys() <= {(1, ())}:
            found[text] = str(number.get((1, ()), 0))
            FORMS.put(text, found[text])
        elif text not in unknown:
            unknown.append(text)
    for text, (form, reason) in zip(unknown, _run([["form", text] for text in unknown])):
        found[text] = form or text.replace(" ", "")
        if reason not in _OF_THE_MACHINE:
            FORMS.put(text, found[text])
    return [found[answer.text] for answer in answers]
