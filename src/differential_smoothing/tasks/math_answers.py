"""The answer inside a completion, and its plain spelling. Text in, text out: no sympy, linear in the length of the text.

``extract`` finds what a completion gives as its answer, in this order: the last ``\\boxed{}`` (neighbouring boxes, "\\boxed{1} and
\\boxed{2}", are one list), the last ``#### 5``, what follows the last "answer is" or "Answer:", the whole text if it is no more
than an answer, else the last formula or number. After ``</think>`` only what follows it is read. A later answer replaces an
earlier one, so listing many answers pays nothing.

``spelled`` writes an answer in one spelling that math-verify reads: units, currency, degrees, text commands, white space, Unicode signs
and ``x =`` go. ``plain`` is its value as a fraction if it is a number without further structure.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

__all__ = ["Spelled", "extract", "plain", "spelled"]

TAIL = 20_000  # characters at the end of a completion in which the answer must stand
MAX_ANSWER = 1_000  # characters of an answer; longer ones are refused

# --- where the answer is --------------------------------------------------------------------------------------------

_BETWEEN_BOXES = re.compile(r"[\s$.;,:]{0,8}(?:\\text\{)?\s{0,3}(and|or|,)?\s{0,3}\}?[\s$]{0,8}")
_ANCHOR = re.compile(
    r"\b(?:answer|(?:correct|right) (?:option|choice))\b(?:[*_\s]{0,4}to (?:the|this) (?:question|problem))?[*_\s]{0,4}(?:(?:should be|would be|must be|is|are|equals)\b|=|:)"
    r"[*_:\s]{0,6}(?:(?:therefore|thus|then|simply|just)\b)?[,:\s]{0,3}",
    re.IGNORECASE,
)
_SPANS = re.compile(r"\$\$([^$]{1,1000})\$\$|(?<!\\)\$([^$\n]{1,1000})(?<!\\)\$|\\\(([^\n]{1,1000}?)\\\)|\\\[([^$]{1,1000}?)\\\]")
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
    for find in (_boxed, _marked, _announced):
        found = find(text)
        if found is not None:
            return found
    whole = text.strip().strip("*").strip()
    if len(whole) <= 200 and "\n" not in whole and len(_WORDY.findall(_without_commands(whole))) <= 1:
        formula = _SPANS.search(whole)
        if formula is None or not re.search(r"[A-Za-z]{2}", whole[: formula.start()]):
            return whole or None
    return _last_formula(text)


def _closing(text: str, start: int) -> int | None:
    """The position of the brace that closes the one at ``start``, or None."""
    depth = 0
    for i in range(start, min(len(text), start + 2 * MAX_ANSWER)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if not depth:
                return i
    return None


def _boxed(text: str) -> str | None:
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
            closing = _closing(text, brace)
            content, end = (text[brace + 1 : closing], closing + 1) if closing else ("", len(text))
        else:
            word = re.match(r"[^\s$]{0,100}", text[brace : brace + 100])  # \boxed 5
            content, end = word.group().rstrip(".,"), brace + word.end()
        if contents and not _BETWEEN_BOXES.fullmatch(text, end, ends):
            break
        if content not in contents:
            contents.append(content)
        ends = start
    return ",".join(reversed(contents)) if contents else None


def _marked(text: str) -> str | None:
    """GSM8K's ``#### 5``."""
    start = text.rfind("####")
    line = text[start + 4 :].lstrip(" ").partition("\n")[0].strip() if start >= 0 else ""
    return line if line and any(c.isdigit() for c in line) else None


def _announced(text: str) -> str | None:
    """What follows the last "the answer is" or "Answer:"."""
    last = None
    for last in _ANCHOR.finditer(text):
        pass
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
    return ",".join(parts) + (unit.group() if unit else "")


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
    formula = number = None
    for formula in _SPANS.finditer(text):
        pass
    for number in _NUMBER.finditer(text):
        pass
    if formula and (number is None or formula.end() >= number.start()):
        return _inside(formula)
    return number.group() if number else None


def _without_commands(text: str) -> str:
    return re.sub(r"\\[A-Za-z]+", " ", text)


# --- one spelling ---------------------------------------------------------------------------------------------------

_SIGNS = str.maketrans({
    "−": "-", "–": "-", "—": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∗": "*", "÷": "/", "π": "\\pi ", "∞": "\\infty ",
    "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "±": "\\pm ", "∓": "\\mp ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ",
    "∈": "\\in ", "°": "^\\circ ", "θ": "\\theta ", "ℝ": "\\mathbb{R}", "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}",
    "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "⁄": "/", "²": "^2", "³": "^3", "⁴": "^4", "’": "'", "\u2009": " ", "\u202f": " ",
    "\xa0": " ", "\u200b": None, "\ufeff": None, "\u2061": None, "，": ",", "．": ".", "（": "(", "）": ")", "％": "%",
})  # fmt: skip
_FULLWIDTH = {0xFF10 + i: str(i) for i in range(10)}
_ROW = "\u2424"
_ROOT = re.compile(r"√\s?(?:\(([^()]{1,100})\)|([0-9]{1,20}|[a-z]))")
_GONE = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|bf|rm|it|limits|mleft|mright)(?![A-Za-z])\.?|\\[!,;: >]|\\q?quad(?![a-z])|~|\$"
    r"|\\(?=\$)|\\(?:hspace|vspace|phantom)\{[^{}]{0,20}\}|(?<!\\)\\(?=\s)"
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal|sf)?|math(?:rm|bf|it|sf|normal)|mbox|operatorname|emph|underline)\s*\{([^{}]{0,200})\}")
_FRAC = re.compile(r"\\[dtc]frac(?![a-z])")
_BARE_FRAC = re.compile(r"\\frac\s*(?:(\d)\s*(\d)(?!\d)|\{([^{}]{1,60})\}\s*(\d)|(\d)\s*\{([^{}]{1,60})\})")
_COMMANDS = [(re.compile(rf"\\{old}(?![A-Za-z])"), new) for old, new in {
    "leq": r"\\le", "geq": r"\\ge", "neq": r"\\ne", "leqslant": r"\\le", "geqslant": r"\\ge", "lt": "<", "gt": ">", "colon": ":", "lbrace": r"\\{",
    "rbrace": r"\\}", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "varnothing": r"\\emptyset", "degree": r"^\\circ",
    "iff": ",", "mid": "|", "ast": "*", "div": "/", "thickspace": " ", "mathbin": "", "dots": r"\\ldots",
}.items()]  # fmt: skip
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|(?<=\d)\s*degrees?\b|(?<=[})])\s*degrees?\b")
_ANGLE = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_TRIG = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_CURRENCY = re.compile(r"[€£¥]|\bUSD\b|\bRs\.?\s|(?<=\d)\s*dollars?\b|(?<=\d)\s*euros?\b")
_PERCENT = re.compile(r"\s*(?:\\?%|\bpercent(?:age)?(?: points)?\b)\s*$")
_SCIENTIFIC = re.compile(r"(?<![\w.])(-?\d{1,20}(?:\.\d{1,20})?)\s?[eE]\s?\^?\{?([-+]?\d{1,3})\}?(?![\w.])")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\{,\}|,|,\\!|\\,|\\;| )\d{3})+(?![\d])(?!,)")
_MIXED = re.compile(r"(-?\d{1,20}) (\d{1,20})/(\d{1,20})")
_UNIT = re.compile(r"(.{0,900}?(?:[\d})]|\\pi))(\s*)((?:square |cubic |sq\.? |cu\.? )?[A-Za-z][A-Za-z .'/^{}\d²³-]{0,40})")
_EXPONENT = re.compile(r"\^\{?-?\d\}?")
_NAME = r"(?:[A-Za-z]|\\[a-z]{2,8})(?:'|_\{?[A-Za-z0-9]{1,4}\}?)?"
_NAMED = re.compile(rf"\s*(?:{_NAME}(?:\^\{{-1\}})?(?:\([A-Za-z0-9, ]{{1,9}}\))?|[A-Za-z]{{1,3}})\s*(?:=|\\in(?![a-z])|:=)\s*")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|lt|gt)(?![a-z])")
_APPROX = re.compile(r"\\(?:approx|simeq|doteq)(?![a-z])")
_CHOICE = re.compile(r"\s*(?:(?:option|choice|answer)\s*)?\(?([A-Ja-j])\)?\s*[.):]?\s*", re.IGNORECASE)
_LABELLED = re.compile(r"\s*\(([A-J])\)\s*(?=\S)|\s*([A-J])\s?[.):]\s*(?=\S)")

_UNITS = {
    canonical: canonical for canonical in
    "km cm mm m in ft yd mi kg mg g lb oz s ms min h day week month year L mL J kJ W N Pa V A K eV Hz mph kph rad mol C nm pm um".split()
} | {word: canonical for words, canonical in (
    ("kilometer kilometers kilometre kilometres", "km"), ("centimeter centimeters centimetre centimetres", "cm"),
    ("millimeter millimeters", "mm"), ("meter meters metre metres", "m"), ("inch inches", "in"), ("foot feet", "ft"), ("yard yards yds", "yd"),
    ("mile miles", "mi"), ("kilogram kilograms", "kg"), ("gram grams", "g"), ("pound pounds lbs", "lb"), ("ounce ounces", "oz"),
    ("second seconds sec secs", "s"), ("minute minutes mins", "min"), ("hour hours hr hrs", "h"), ("days", "day"), ("weeks", "week"),
    ("months", "month"), ("years yr yrs", "year"), ("liter liters litre litres l", "L"), ("milliliter milliliters ml", "mL"),
    ("radian radians rads", "rad"), ("cent cents", "cent"), ("unit units", ""),
) for word in words.split()}  # fmt: skip
_NOT_UNITS = set("sin cos tan cot sec csc log ln exp sqrt and or for all where mod max gcd lcm inf infinity frac times cdot pmod pi".split())
_FUNCTIONS = set("arcsin arccos arctan sin cos tan cot sec csc log ln exp gcd lcm max min sinh cosh tanh".split())
_NUMBERS = dict(zip("zero one two three four five six seven eight nine ten eleven twelve".split(), range(13)))
_SHORT_TEXT = set("yes no odd even true false none am pm both neither".split())


class Spelled(NamedTuple):
    """An answer in one spelling: ``text`` for the library, ``unit`` ("" if none or not one we know), ``percent``.

    ``words``: the answer is words, which are compared as words and by nothing else.
    """

    text: str
    unit: str = ""
    percent: bool = False
    words: bool = False


def spelled(answer: str) -> Spelled:
    """``answer`` in the one spelling. ValueError with a reason in plain words if it is empty or too long."""
    if len(answer) > MAX_ANSWER:
        raise ValueError(f"too long: an answer of {len(answer)} characters, at most {MAX_ANSWER} are read")
    text = "".join(c for c in answer.translate(_SIGNS).translate(_FULLWIDTH) if c >= " " or c in "\n\t")
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}", text)
    text = text.replace("\\\\%", "%").replace("\\(", " ").replace("\\)", " ").replace("{,}", ",").replace("{.}", ".")
    if "matrix" not in text and "array" not in text:
        text = text.replace("\\\\", "\\").replace("\\[", " ").replace("\\]", " ")
    text = text.replace("\\\\", _ROW)  # the end of a row is no escaped blank
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m.group()), text)
    text = _GONE.sub(lambda m: " " if m.group().isspace() or m.group()[-1:] in " ~" else "", text)
    for _ in range(3):  # a text command in a text command
        text, found = _TEXT.subn(lambda m: f"\\{m[1]} " if m[1] in _FUNCTIONS else f" {m[1]} ", text)
        if not found:
            break
    text = _FRAC.sub(r"\\frac", text)
    for command, new in _COMMANDS:
        text = command.sub(new, text)
    text = _BARE_FRAC.sub(lambda m: rf"\frac{{{m[1] or m[3] or m[5]}}}{{{m[2] or m[4] or m[6]}}}", text)
    text = _CURRENCY.sub(" ", text).strip().strip("*_`").strip()
    text = text.rstrip(".,;:").strip()  # not "!": 5! is 120
    if _TRIG.search(text):
        text = _ANGLE.sub(r"(\1\\pi/180)", text)
    else:
        text = _DEGREE.sub(" ", text).strip()
    text = _SCIENTIFIC.sub(r"\1\\times 10^{\2}", text)
    percent = bool(_PERCENT.search(text))
    text = _PERCENT.sub("", text)
    text, unit = _without_unit(text.strip())
    text = re.sub(r"\s+", " ", text.replace("\n", " ")).strip()
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text) if _MIXED.fullmatch(text) else text
    text = text.replace(_ROW, "\\\\")
    while len(text) > 1 and text[0] == "{" and _closing(text, 0) == len(text) - 1:
        text = text[1:-1].strip()  # {5} is 5; \{5\} is a set
    if not text:
        raise ValueError("no answer found")
    word = text.lower()
    if word in _NUMBERS:
        return Spelled(str(_NUMBERS[word]), unit)
    return Spelled(text, unit, percent, _is_words(text))


def _without_unit(text: str) -> tuple[str, str]:
    """Take ``cm^2``, ``apples``, ``miles per hour`` off the end; the unit in one spelling if it is one we know."""
    match = _UNIT.fullmatch(text)
    if match is None:
        return text, ""
    core, gap, tail = match.groups()
    words = _EXPONENT.sub(" ", tail).replace("/", " ").replace(".", " ").replace("-", " ").split()
    if not words or any(w.lower() in _NOT_UNITS for w in words):
        return text, ""
    known = all(w in _UNITS or w.lower() in _UNITS for w in words)
    # without a space "12xyz" is a product, "12cm" is not; with one, words of three letters and more are things counted
    if not (known and (gap or len(words[0]) > 1)) and not (gap and all(len(w) > 2 or w in _UNITS or w in ("of", "in", "per", "sq", "cu") for w in words)):
        return text, ""
    unit = tail.strip().lower().replace("²", "^2").replace("³", "^3")
    power = "2" if re.match(r"sq|square", unit) else "3" if re.match(r"cu\b|cu\.|cubic", unit) else ""
    power = power or "".join(re.findall(r"\d", unit))
    names = [_UNITS.get(w, _UNITS.get(w.lower())) for w in words if w.lower() not in ("square", "cubic", "sq", "cu", "per")]
    return core, "".join(f"{n} " for n in names) + power if all(names) and names else ""


def _is_words(text: str) -> bool:
    bare = re.sub(r"\\[A-Za-z]+|\\(?:begin|end)\{[a-z]+\}", " ", re.sub(r"\\(?:begin|end)\{[A-Za-z]+\*?\}", " ", text))
    found = [w for w in re.findall(r"[A-Za-z]{2,}", bare) if w.lower() not in _NOT_UNITS and w.lower() not in ("dx", "min")]
    return any(len(w) > 3 or w.lower() in _SHORT_TEXT or (w[0].isupper() and w[1:].islower()) for w in found)


def same_words(one: str, other: str) -> bool:
    """Words are the same up to case, punctuation, white space and a leading article."""

    def normal(text: str) -> list[str]:
        words = re.findall(r"[\w:/.-]+", text.lower().replace("\\", " "))
        words = [w.strip(".-:") for w in words]
        return [w for w in words if w and w not in ("the", "a", "an")]

    return normal(one) == normal(other)


# --- plain numbers --------------------------------------------------------------------------------------------------

_PLAIN = re.compile(
    r"(?P<sign>[-+]?) ?(?:(?P<whole>\d{1,20}) ?\\frac ?\{(?P<mixed_up>\d{1,20})\} ?\{(?P<mixed_down>\d{1,20})\}"
    r"|\\frac ?\{ ?(?P<minus>-?)(?P<up>\d{1,30}) ?\} ?\{ ?(?P<down>\d{1,30}) ?\}"
    r"|(?P<over>\d{1,30}) ?/ ?(?P<under>\d{1,30})"
    r"|(?P<decimal>\d{1,30}\.?\d{0,30}|\.\d{1,30})(?: ?(?:\\times|\\cdot|\*) ?10 ?\^ ?(?:\{ ?(?P<power>[-+]?\d{1,3}) ?\}|(?P<digit>\d)))?)"
)


def plain(text: str) -> Fraction | None:
    """The exact value of a number, fraction, mixed number or ``a x 10^b`` in the one spelling; None for all else."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    part = match.groupdict()
    sign = -1 if (part["sign"] == "-") != (part["minus"] == "-") else 1
    up, down = part["mixed_up"] or part["up"] or part["over"], part["mixed_down"] or part["down"] or part["under"]
    if down is not None:
        if int(down) == 0:
            return None
        return sign * (int(part["whole"] or 0) + Fraction(int(up), int(down)))
    power = int(part["power"] or part["digit"] or 0)
    if abs(power) > 100:
        return None
    return sign * Fraction(part["decimal"].rstrip(".")) * Fraction(10) ** power
