"""Is a training problem also a test problem? By text alone: what is asked in other words is not seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from differential_smoothing.tasks.math.sources import MathProblem

__all__ = ["WORDS", "Contamination", "contaminated", "normal", "unique"]

WORDS = 13  # in a row: the length that GPT-3's authors and many after them used

# commands that change the look of LaTeX and not its meaning
_GONE = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits)(?![A-Za-z])|\\q?quad(?![A-Za-z])|\\[,;:! ]|\\[()\[\]]|[$~]"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_BRACES = re.compile(r"\{\s*(\w|\\[a-z]+)\s*\}")  # x^{2} is x^2
_WORD = re.compile(r"[^\W\d_]+|\d+")
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")  # with the signs


class Contamination(NamedTuple):
    """Training problems that are test problems or hold one: ``same``; or (no others of these) share 13 words in a row: ``overlapping``."""

    same: list[MathProblem]
    overlapping: list[MathProblem]


def normal(question: str) -> str:
    """A question in a spelling that does not depend on case, dollar signs, LaTeX spacing, braces around one letter, digit or command,
    the full stop at the end, or white space other than between two digits. A number before it ("Problem 5.") makes another question.
    """
    return re.sub(r"(?<!\d) | (?!\d)", "", " ".join(_plain(question).split())).rstrip(".?:")  # not "!": 5! is 120


def _plain(question: str) -> str:
    text = _FRACTION.sub(r"\\frac", unicodedata.normalize("NFKC", question))
    return _BRACES.sub(r"\1", _GONE.sub(" ", text).casefold())


def contaminated(train: Iterable[MathProblem], test: Iterable[MathProblem], *, words: int = WORDS) -> Contamination:
    """The problems of ``train`` that occur in ``test``, in the order of ``train``.

    ``same``: equal after ``normal``, or a test question of at least ``words`` words, with all its signs, stands whole in the training question
    and ends there or is followed by other words ("Give your answer as an integer."). ``overlapping``: the two share ``words`` words or numbers in a row, drawings ([asy]) left out; a sign
    of a copy that was changed, or only of a common phrase, so look at them. Questions of fewer words are compared whole only.
    """
    texts, runs, whole = set(), set(), {}
    for problem in test:
        texts.add(normal(problem.question))
        runs.update(_runs(problem.question, words))
        tokens = _tokens(problem.question)
        if sum(token.isalnum() for token in tokens) >= words:
            whole.setdefault(tuple(tokens[:words]), []).append(tokens)
    same, overlapping = [], []
    for problem in train:
        if normal(problem.question) in texts or _holds(_tokens(problem.question), whole, words):
            same.append(problem)
        elif not runs.isdisjoint(_runs(problem.question, words)):
            overlapping.append(problem)
    return Contamination(same, overlapping)


def _tokens(question: str) -> list[str]:
    return _TOKEN.findall(_plain(question).strip().rstrip(".?:"))


def _holds(tokens: list[str], whole: dict[tuple[str, ...], list[list[str]]], words: int) -> bool:
    """Whether one of the token lists ``whole``, by their first ``words`` tokens, is in ``tokens`` and the next token does not continue its formula."""
    for start in range(len(tokens) - words + 1):
        for asked in whole.get(tuple(tokens[start : start + words]), ()):
            end = start + len(asked)
            following = [*tokens[end : end + 2], "", ""]
            ended = following[0] in ("", "?", ":") or (following[0] == "." and not following[1].isdigit())
            if tokens[start:end] == asked and (ended or (following[0].isalpha() and len(following[0]) > 1)):
                return True
    return False


def _runs(question: str, words: int) -> set[tuple[str, ...]]:
    text, rest = "", _plain(question)
    while rest:
        before, drawing, rest = rest.partition("[asy]")
        text += before + " "
        if drawing:
            rest = rest.partition("[/asy]")[2]
    found = _WORD.findall(text)
    return {tuple(found[i : i + words]) for i in range(len(found) - words + 1)}


def unique(
    problems: Iterable[MathProblem], *, within: bool = False
) -> tuple[list[MathProblem], list[MathProblem], list[MathProblem]]:
    """The problems once each, the copies, and those whose copies disagree on the answer and none of which is kept.

    ``within``: copies are looked for within a source only, so that every test set stays whole.
    """
    groups: dict[tuple[str, str], list[MathProblem]] = {}
    for problem in problems:
        groups.setdefault((problem.source if within else "", normal(problem.question)), []).append(problem)
    agreed = [group for group in groups.values() if len({"".join(p.answer.split()) for p in group}) == 1]
    disagreeing = [p for group in groups.values() if len({"".join(q.answer.split()) for q in group}) > 1 for p in group]
    return [group[0] for group in agreed], [p for group in agreed for p in group[1:]], disagreeing
