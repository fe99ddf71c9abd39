"""The answer inside a completion. Text in, text out, in time linear in its length.

``extract`` finds what a completion gives as its answer, in this order: the last ``\\boxed{}`` (neighbouring boxes, "\\boxed{1} and
\\boxed{2}", are one list, whatever LaTeX is between them), the last ``#### 5``, what follows the last "answer is" or "Answer:", the whole text if it is no more
than an answer, else the last formula or number. After ``</think>`` only what follows it is read. A later answer replaces an
earlier one, so listing many answers pays nothing. An answer that is denied ("not 5"), changed ("twice 5", "at most 5") or one of several ("5 or possibly 6") is
not that answer, and it makes no difference whether it stands in a formula.
"""

from __future__ import annotations

import re
from collections import deque

from differential_smoothing.tasks.math.terms.tokens import MAX_ANSWER, closing_brace

__all__ = ["boxed", "extract"]

TAIL = 20_000  # characters at the end of a completion in which the answer must stand
BOXES = 20  # in one list

_END_TOKEN = re.compile(
    r"(?:<[|｜][^<>\s]{1,40}[|｜]>|</?s>|<eos>|<pad>|<bos>|<end_of_turn>|<eot>|\[/?(?:INST|EOS|END)\])\s*\Z"
)
_ANCHOR = re.compile(
    r"\b(?:answers?|(?:correct|right) (?:option|choice))\b(?:[*_\s]{0,4}to (?:the|this) (?:question|problem))?[*_\s]{0,4}(?:(?:should be|would be|must be|is|are|equals)\b|=|:)"
    r"[*_:\s]{0,6}(?:(?:therefore|thus|then|simply|just)\b)?[,:\s]{0,3}",
    re.IGNORECASE,
)
_KEYWORDS = ("nswer", "NSWER", "ption", "hoice")  # no anchor is without one
_SPANS = re.compile(
    r"\$\$([^$]{1,1000})\$\$|(?<!\\)\$([^$\n]{1,1000})(?<!\\)\$|\\\(([^\n]{1,1000}?)\\\)|\\\[([^$]{1,1000}?)\\\]"
)
_NUMBER = re.compile(
    r"(?<![\w.,\\^{])[-−]?(?:\\?[$€£]\s?)?(?:(?:\d{1,3}(?:,\d{3}){1,8}(?!\d)|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40})"
    r"(?:\s?/\s?\d{1,20})?(?:\s?\\?%)?(?![\d}])"
)
_WORDY = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")

# --- boxes
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_LINK = re.compile(
    r"\\\\|\\(?:q?quad|text(?:bf|it|rm)?|mathrm|left|right|displaystyle|hspace\{[^{}]{0,9}\})(?![A-Za-z])|\\(?:[,;:!()\[\]]|\s)|[\s$.,;:{}&*~]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])"
)
_LABEL = re.compile(r"([A-Za-z](?:_\{?\w{1,3}\}?)?'?)\s*(?:=|\\in(?![a-z]))")
_PLACEHOLDER = re.compile(
    r"(?:\\text\s?\{)?\s*(?:(?:the|your|my|final|numerical)\s+)*(?:answer|result|number|solution|value)?(?:\s+here)?\s*[.…?_]{0,6}(?:\\[cl]?dots)?\s*\}?",
    re.IGNORECASE,
)
# --- words before and behind an answer
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|without|except|rather than|instead of)|n't)(?:\s+(?:be|equal(?: to)?|simply|just|the|a|exactly|is|necessarily|really|actually))*[\s$:*(\\\[{}]*\Z",
    re.IGNORECASE,
)
_CHANGED = re.compile(
    r"\b(?:(?:less|more|greater|smaller|fewer|larger|other|rather) than|at most|at least|up to|twice|thrice|half(?: of)?|double|triple|below|above|under|over|between|maybe|perhaps|"
    r"possibly|probably|might be|could be|may be|either|nearly|almost|square of|root of|negative|minus|plus|times|by)[\s$:*(\\\[]*\Z",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"\b(?:between|from)\b[^.!?\n]{0,40}\b(?:and|to)[\s$(\\]*\Z|[\d)}$%]\s*(?:,?\s*(?:or|and/or))\s+(?:maybe |possibly |perhaps |even )?[\s$(*\\]*\Z",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"(?:is|was|seems|looks|would be)\s+(?:not\b|wrong|incorrect|false|too)|(?:isn|wasn)'t|\(?(?:wrong|incorrect)\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(r"\b(?:or|maybe|possibly|perhaps|either|might|could|unless|unsure|not sure)\b", re.IGNORECASE)
_RETRACTED = re.compile(
    r"\b(?:wait|hold on|oops|scratch that|correction)\b|\b(?:that|this|it)(?: is|'s| was) (?:wrong|incorrect|not right|not correct)|\bno, (?:it|that|the)",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"(?:\bif (?:that |we say |we assume )?(?:the |my |our )?|\b(?:false|wrong|untrue|unlikely|doubt|doubtful|nobody|no one|hardly|deny|denies|suppose|supposing|assume|assuming)\b[^.!?\n]{0,40}|"
    r"\bnot (?:true|clear|sure|certain|the case)\b[^.!?\n]{0,30}|n't (?:think|believe|say|know)\b[^.!?\n]{0,30})\Z",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:not|never|neither|nor|could|might|may|maybe|perhaps|possibly|probably|unknown|unclear|guess|than|if|unless|or|cannot|wrong|false|most|least|twice|half|double|but)\b|n't",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.?](?=[\s*]|\Z)|(?<![\d$)\]}])!(?=[\s*]|\Z)|\n")
_REASON = re.compile(
    r",?\s(?:since|because|which|as|so|hence|where|therefore|thus|when|after|for|with|at|we|this|that|it|I|given|using|obtained|found)\s",
    re.IGNORECASE,
)
_COPULA = re.compile(r"\b(?:is|are|equals)\s|:\s|=\s")
_FILLER = re.compile(
    r"(?:(?:therefore|thus|then|hence|so|simply|just|exactly|precisely|indeed|clearly|only|equal to|given by|the number|the value|a total of|approximately|about|roughly|around|that|the following)\b"
    r"[\s,:]*|[*:\s]+)*",
    re.IGNORECASE,
)
_STARTS = re.compile(r"(?:[A-Za-z](?:_\w)?\s?=\s?)?(?:[-−+]\s?)?(?:\\?[$€£]\s?)?(?:\d|\.\d)|\\|\(|\[|\{|[A-Za-z]\s?=")
_CUT = re.compile(r"\s*(?:,(?!\d)|;|\((?![^)]{0,40}\d)|—|\s[-–]\s)")
_CLOSING = re.compile(
    r"(?:,?\s+(?:in total|in all|all in all|overall|altogether|total|respectively|as required|as desired|too|again|now|then))+\s*\Z",
    re.IGNORECASE,
)
_AND = re.compile(r"\s*(?:,|and|or|,\s*and|,\s*or)\s*")


def extract(completion: str) -> str | None:
    """The answer as it is written, or None if there is none. Never raises; time linear in the text."""
    text = completion.rstrip()[-TAIL:]
    for _ in range(10):
        token = _END_TOKEN.search(text, max(0, len(text) - 60)) if text[-1:] in (">", "]") else None
        if token is None:
            break
        text = text[: token.start()].rstrip()
    after = text.rpartition("</think>")[2]
    text = after if after.strip() else text
    closed = text.rfind("</answer>") if "</" in text else -1
    if closed >= 0 and "\\boxed" not in text[closed:]:
        opened = text.rfind("<answer>", 0, closed)
        text = text[opened + 8 : closed] if opened >= 0 else text
    for find in (boxed, _marked, _announced):
        found = find(text)
        if found is not None:
            return found
    whole = text.strip().strip("*").strip()
    if (
        len(whole) <= 200
        and "\n" not in whole
        and not _BOX.search(whole)
        and len(_WORDY.findall(_without_commands(whole))) <= 1
    ):
        formula = _SPANS.search(whole)
        if formula is None or not re.search(r"[A-Za-z]{2}", whole[: formula.start()]):
            return whole or None
    return _last_formula(text)


# --- boxes ----------------------------------------------------------------------------------------------------------


def boxed(text: str) -> str | None:
    """The last box; "" if it is not closed or is denied, which gives no answer and hides earlier boxes. A box that is only mentioned does not count."""
    framed = "\\fbox" in text
    limit, found = len(text), []  # (start, end, content) from the last one
    for _ in range(3 * BOXES):
        least = max(0, limit - 1_400) if found else 0  # where one of the same list could begin
        start = text.rfind("\\boxed", least, limit)
        start = max(start, text.rfind("\\fbox", least, limit)) if framed else start
        if start < 0 or len(found) == BOXES:
            break
        limit = start
        content, end = _content(text, start)
        if content is None:
            continue
        if found and not _linked(text[end : found[-1][0]]):
            break
        found.append((start, end, content))
    if not found:
        return None
    found.reverse()
    before, behind = text[max(0, found[0][0] - 60) : found[0][0]], text[found[-1][1] : found[-1][1] + 80]
    if _denied(before) or _WRONG.match(behind.lstrip(" $.)]\\,;*")):
        return ""
    contents = [content for _, _, content in found]
    if len(found) > 1:
        labels = [_label(text[max(0, start - 40) : start]) for start, _, _ in found]
        if all(labels) and len(set(labels)) > 1:
            contents = [c if "=" in c else f"{label} = {c}" for label, c in zip(labels, contents)]
    more = _alternative(behind)
    return ", ".join(dict.fromkeys([*contents, *more]))  # "1,200" would be one number


_DENIALS = ("no", "n't", "ne", "without", "except", "rather", "instead")  # one of them is in every denial


def _denied(before: str) -> bool:
    low = before.lower()
    return any(word in low for word in _DENIALS) and _DENIED.search(before) is not None


def _content(text: str, start: int) -> tuple[str | None, int]:
    """What is in the box at ``start`` and where it ends; None for a box that is only mentioned, "" for one that is not closed."""
    brace = start + (6 if text.startswith("\\boxed", start) else 5)
    if text[brace : brace + 1].isalpha():
        return None, brace
    while brace < len(text) and text[brace] == " ":
        brace += 1
    if brace < len(text) and text[brace] == "{":
        closing = closing_brace(text, brace)
        if not closing:
            return "", len(text)
        content = text[brace + 1 : closing]
        return None if _PLACEHOLDER.fullmatch(content) else content, closing + 1
    word = re.match(r"[^\s$]{0,100}", text[brace : brace + 100])  # \boxed 5
    content, end = word.group().rstrip(".,"), brace + word.end()
    mentioned = re.match(r"[A-Za-z]{2}|[^\w\\(\[{+-]|[A-Za-z](?=\s[A-Za-z])", text[brace : brace + 3]) or not content
    return None if mentioned else content, end


def _linked(between: str) -> bool:
    """Whether two boxes are of one list: nothing but LaTeX, "and", "or", names and punctuation is between them."""
    return len(between) <= 120 and not _LINK.sub("", _LABEL.sub("", _LINK.sub(" ", between)))


def _label(before: str) -> str | None:
    last = _last(_LABEL, before)
    return last[1] if last and not before[last.end() :].strip(" $\\({[") else None


def _alternative(behind: str) -> list[str]:
    """What "or" adds behind an answer: "or possibly $6$"."""
    match = re.match(
        r"[\s$.)\]*\\]{0,6},?\s*(?:or|and/or|maybe|perhaps|possibly)\s+(?:(?:maybe|possibly|perhaps|even|equivalently),?\s+)?",
        behind,
    )
    if match is None:
        return []
    formula, number = _SPANS.match(behind, match.end()), _NUMBER.match(behind, match.end())
    return [_inside(formula)] if formula else [number.group()] if number else []


# --- announced answers ----------------------------------------------------------------------------------------------


def _marked(text: str) -> str | None:
    """GSM8K's ``#### 5``."""
    start = text.rfind("####")
    line = text[start + 4 :].lstrip(" #").partition("\n")[0].strip() if start >= 0 else ""
    return (
        line
        if line and any(c.isdigit() for c in line) and (line[0] in "-−+$€£\\(.[{*" or line[0].isdigit() or "=" in line)
        else None
    )


def _last(pattern: re.Pattern, text: str, start: int = 0) -> re.Match | None:
    return next(iter(deque(pattern.finditer(text, start), maxlen=1)), None)


def _announced(text: str) -> str | None:
    """What follows the last "the answer is" or "Answer:"."""
    places = [place for word in _KEYWORDS if (place := text.find(word)) >= 0]
    last = _last(_ANCHOR, text, max(0, min(places) - 12)) if places else None
    if last is None:
        return None
    rest = text[last.end() : last.end() + MAX_ANSWER].lstrip().lstrip("*").lstrip()
    clause = rest[: _first(_SENTENCE_END, rest)]
    if _DOUBTED.search(text[max(0, last.start() - 80) : last.start()]) or _RETRACTED.search(rest[: len(clause) + 60]):
        return ""
    if rest[len(clause) : len(clause) + 1] == "?":
        return clause.strip() + "?"  # "5? No, ..."
    return _stated(clause) if clause.strip(" *.") else None


def _first(pattern: re.Pattern, text: str) -> int:
    """Where ``pattern`` is first found outside formulas; the length of the text if it is not."""
    spans = [m.span() for m in _SPANS.finditer(text)]
    for match in pattern.finditer(text):
        if not any(start < match.start() + 1 <= end - 1 for start, end in spans):
            return match.start()
    return len(text)


def _stated(clause: str) -> str | None:
    """The answer in what follows "the answer is": a formula or a number at its start or behind its last "is", else all of it."""
    plain = clause[: _first(_REASON_BEHIND, clause)].strip().strip("*").strip()
    start = _FILLER.match(clause).end()
    if not _begins(clause, start):
        spans = [m.span() for m in _SPANS.finditer(clause)]
        reason = _first(_REASON_BEHIND, clause)
        copulas = [
            m.end()
            for m in _COPULA.finditer(clause)
            if m.start() <= reason and not any(a <= m.start() < b for a, b in spans)
        ]
        at = _FILLER.match(clause, copulas[-1]).end() if copulas else None
        if at is None or not _begins(clause, at) or _UNSURE.search(_SPANS.sub(" ", clause[: copulas[-1]])):
            return plain
        start = at
    stated = clause[start:]
    formula = _SPANS.match(stated)
    if formula:
        return _joined(stated, formula) or plain
    stated = stated[: _first(_REASON, stated)]
    cut = _CUT.search(stated)
    head, behind = (stated[: cut.start()], stated[cut.start() :]) if cut else (stated, "")
    if behind and (_several_more(behind) or _HEDGE.search(behind) or _WRONG.search(behind)):
        return plain
    return _CLOSING.sub("", head).strip().strip("*").rstrip(" -–—") or plain


_REASON_BEHIND = re.compile(r",?\s(?:since|because|hence|therefore|thus)\s", re.IGNORECASE)


def _begins(clause: str, at: int) -> bool:
    return bool(_SPANS.match(clause, at) or _STARTS.match(clause, at))


def _several_more(behind: str) -> bool:
    """ ", 6 and 7" behind an answer."""
    return re.match(r"\s*[,;]\s*(?:and\s+|or\s+)?[-−+$\\(]*\.?\d", behind) is not None


def _joined(text: str, formula: re.Match) -> str | None:
    """A formula and what belongs to it: ``$1$ and $2$`` is one list, words behind it are its unit. None if what is behind it denies or changes it."""
    parts = [_inside(formula)]
    while True:
        between = _AND.match(text, formula.end())
        following = (_SPANS.match(text, between.end()) or _NUMBER.match(text, between.end())) if between else None
        if following is None:
            break
        formula = following
        parts.append(_inside(formula) if formula.re is _SPANS else formula.group())
    behind = text[formula.end() :]
    if re.match(r"\s*[-−+/^!<>=±×·÷]|[A-Za-z\d]", behind):
        return None  # $5$/$7$
    behind = behind[: _first(_REASON, behind)]
    if _HEDGE.search(behind) or _WRONG.search(behind):
        more = [m for m in (_last(_SPANS, behind), _last(_NUMBER, behind)) if m]
        return ", ".join([*parts, *(_inside(m) if m.re is _SPANS else m.group() for m in more[:1])]) if more else None
    cut = _CUT.search(behind)
    unit = _CLOSING.sub("", behind[: cut.start()] if cut else behind).strip().strip("*").strip()
    percent = re.match(r"\\?%|percent\b", unit)
    if percent:
        return ", ".join(parts) + " " + percent.group()
    if not re.match(r"(?!is |are |was )[A-Za-z]{2,}", unit):
        return ", ".join(parts)
    return ", ".join(parts) + rf" \text{{ {unit}}}" if len(unit) < 80 and not re.search(r"[{}\\$]", unit) else None


def _inside(formula: re.Match) -> str:
    return next(group for group in formula.groups() if group is not None).strip()


def _last_formula(text: str) -> str | None:
    """The last formula or number, unless what stands before it denies or changes it."""
    formula, number = _last(_SPANS, text), _last(_NUMBER, text)
    last = formula if formula and (number is None or formula.end() >= number.start()) else number
    if last is None:
        return None
    before = text[max(0, last.start() - 60) : last.start()]
    if _DENIED.search(before) or _CHANGED.search(before) or _OTHERS.search(before):
        return None
    return _inside(last) if last is formula else last.group()


def _without_commands(text: str) -> str:
    return re.sub(r"\\[A-Za-z]+", " ", text)
