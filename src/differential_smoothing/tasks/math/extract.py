"""The answer inside a completion. Text in, text out, in time linear in its length.

``extract`` finds what a completion gives as its answer, in this order: the last ``\\boxed{}`` (neighbouring boxes, "\\boxed{1} and
\\boxed{2}", are one list), the last ``#### 5``, what follows the last "answer is" or "Answer:", the whole text if it is no more
than an answer, else the last formula or number. After ``</think>`` only what follows it is read. A later answer replaces an
earlier one, so listing many answers pays nothing.
"""

from __future__ import annotations

import re
from collections import deque

from differential_smoothing.tasks.math.answers import MAX_ANSWER, closing_brace

__all__ = ["boxed", "extract"]

TAIL = 20_000  # characters at the end of a completion in which the answer must stand

_BETWEEN_BOXES = re.compile(r"[\s$.;,:]{0,8}(?:\\text\{)?\s{0,3}(and|or|,)?\s{0,3}\}?[\s$]{0,8}")
_ANCHOR = re.compile(
    r"\b(?:answer|(?:correct|right) (?:option|choice))\b(?:[*_\s]{0,4}to (?:the|this) (?:question|problem))?[*_\s]{0,4}(?:(?:should be|would be|must be|is|are|equals)\b|=|:)"
    r"[*_:\s]{0,6}(?:(?:therefore|thus|then|simply|just)\b)?[,:\s]{0,3}",
    re.IGNORECASE,
)
_SPANS = re.compile(
    r"\$\$([^$]{1,1000})\$\$|(?<!\\)\$([^$\n]{1,1000})(?<!\\)\$|\\\(([^\n]{1,1000}?)\\\)|\\\[([^$]{1,1000}?)\\\]"
)
_NUMBER = re.compile(
    r"(?<![\w.,\\^{])[-−]?(?:\\?[$€£]\s?)?(?:(?:\d{1,3}(?:,\d{3}){1,8}(?!\d)|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40})"
    r"(?:\s?/\s?\d{1,20})?(?:\s?\\?%)?(?![\d}])"
)
_AND = re.compile(r"\s*(?:,|and|or|,\s*and|,\s*or)\s*")
_SENTENCE_END = re.compile(r"[.!?]\s|\n|,?\s(?:since|because|which|as|so|hence|where)\s")
_NEGATED = re.compile(r"\b(?:not|than|least|most|between|isn't|neither|about half)\b", re.IGNORECASE)
_WORDY = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")


def extract(completion: str) -> str | None:
    """The answer as it is written, or None if there is none. Never raises; time linear in the text."""
    text = completion.rstrip()[-TAIL:]
    after = text.rpartition("</think>")[2]
    text = after if after.strip() else text
    for find in (boxed, _marked, _announced):
        found = find(text)
        if found is not None:
            return found
    whole = text.strip().strip("*").strip()
    if len(whole) <= 200 and "\n" not in whole and len(_WORDY.findall(_without_commands(whole))) <= 1:
        formula = _SPANS.search(whole)
        if formula is None or not re.search(r"[A-Za-z]{2}", whole[: formula.start()]):
            return whole or None
    return _last_formula(text)


def boxed(text: str) -> str | None:
    """The last box; "" if it is not closed, which is no answer but hides earlier ones."""
    ends, contents = len(text), []
    for _ in range(20):  # boxes in one list
        start = max(text.rfind("\\boxed", 0, ends), text.rfind("\\fbox", 0, ends))
        if start < 0:
            break
        command = 6 if text.startswith("\\boxed", start) else 5
        brace = start + command
        while brace < len(text) and text[brace] == " ":
            brace += 1
        if brace < len(text) and text[brace] == "{":
            closing = closing_brace(text, brace)
            content, end = (text[brace + 1 : closing], closing + 1) if closing else ("", len(text))
        else:
            word = re.match(r"[^\s$]{0,100}", text[brace : brace + 100])  # \boxed 5
            content, end = word.group().rstrip(".,"), brace + word.end()
        if contents and not _BETWEEN_BOXES.fullmatch(text, end, ends):
            break
        if content not in contents:
            contents.append(content)
        ends = start
    return ", ".join(reversed(contents)) if contents else None  # "1,200" would be one number


def _marked(text: str) -> str | None:
    """GSM8K's ``#### 5``."""
    start = text.rfind("####")
    line = text[start + 4 :].lstrip(" ").partition("\n")[0].strip() if start >= 0 else ""
    return line if line and any(c.isdigit() for c in line) else None


def _last(pattern: re.Pattern, text: str) -> re.Match | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _announced(text: str) -> str | None:
    """What follows the last "the answer is" or "Answer:"."""
    last = _last(_ANCHOR, text)
    if last is None:
        return None
    rest = text[last.end() : last.end() + MAX_ANSWER].lstrip().lstrip("*").lstrip()
    formula = _SPANS.search(rest)
    if formula and not _SENTENCE_END.search(rest, 0, formula.start()) and formula.start() < 80:
        return _joined(rest, formula)
    cut = _SENTENCE_END.search(rest)
    rest = (rest[: cut.start()] if cut else rest).strip().strip("*").rstrip(".").strip("*").strip()
    return _number_in(rest) if rest else None


def _joined(text: str, formula: re.Match) -> str:
    """``$1$ and $2$`` is one list."""
    parts, unit = [_inside(formula)], ""
    while True:
        between = _AND.match(text, formula.end())
        following = _SPANS.match(text, between.end()) if between else None
        if following is None:
            break
        formula = following
        parts.append(_inside(formula))
    unit = re.match(r"\s?(?:\\?%|percent\b)", text[formula.end() : formula.end() + 12])
    return ", ".join(parts) + (unit.group() if unit else "")


def _inside(formula: re.Match) -> str:
    return next(group for group in formula.groups() if group is not None).strip()


def _number_in(phrase: str) -> str:
    """``phrase``, or its only number if it has just one among at least two words."""
    if len(_WORDY.findall(_without_commands(phrase))) < 2 or _NEGATED.search(phrase):
        return phrase
    numbers = list(_NUMBER.finditer(phrase))
    if len(numbers) != 1 or not numbers[0].start():  # "42 red apples": the unit is taken off later
        return phrase
    return numbers[0].group()


def _last_formula(text: str) -> str | None:
    formula, number = _last(_SPANS, text), _last(_NUMBER, text)
    if formula and (number is None or formula.end() >= number.start()):
        return _inside(formula)
    return number.group() if number else None


def _without_commands(text: str) -> str:
    return re.sub(r"\\[A-Za-z]+", " ", text)
