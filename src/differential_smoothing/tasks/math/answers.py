"""An answer in one spelling, and its value if it is a plain number. Text in, text out: no sympy, linear in the text.

``spelled`` writes an answer in one spelling that math-verify reads: units, currency, degrees, text commands, white space and Unicode
signs go. ``plain`` is its value as a fraction if it is a number without further structure.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

__all__ = ["Spelled", "closing_brace", "plain", "same_words", "spelled"]

MAX_ANSWER = 1_000  # characters of an answer; longer ones are refused


def closing_brace(text: str, start: int) -> int | None:
    """The position of the brace that closes the one at ``start``, or None."""
    depth = 0
    for i in range(start, min(len(text), start + 2 * MAX_ANSWER)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if not depth:
                return i
    return None


# --- one spelling ---------------------------------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


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
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf)?|math(?:rm|bf|it|sf|normal)|mbox|operatorname|emph|underline)\s*\{([^{}]{0,200})\}"
)
_BARE_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")
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
_THOUSANDS = re.compile(
    r"(?:[(\[]|\\\{)\s?\d{1,3}(?:,\d{3})+\s?(?:\\right\s?)?(?:[)\]]|\\\})"  # alone in brackets: (10,100) is a pair
    r"|(?<![\d.,])[1-9]\d{0,2}(?:(?:\{,\}|,|,\\!|\\,|\\;| )\d{3})+(?![\d])(?!,\d)"
)
_MIXED = re.compile(r"(-?\d{1,20}) (\d{1,20})/(\d{1,20})")
_UNIT = re.compile(
    r"(.{0,900}?(?:[\d})]|\\pi))(\s*)((?:square |cubic |sq\.? |cu\.? )?[A-Za-z][A-Za-z .'/^{}\d²³-]{0,40})"
)
_EXPONENT = re.compile(r"\^\{?-?\d\}?")

_UNITS = {
    canonical: canonical for canonical in _words("km cm mm m in ft yd mi kg mg g lb oz s ms min h day week month year L mL J kJ W N Pa V A K eV Hz mph kph rad mol C nm pm um")
} | {word: canonical for words, canonical in (
    ("kilometer kilometers kilometre kilometres", "km"), ("centimeter centimeters centimetre centimetres", "cm"),
    ("millimeter millimeters", "mm"), ("meter meters metre metres", "m"), ("inch inches", "in"), ("foot feet", "ft"), ("yard yards yds", "yd"),
    ("mile miles", "mi"), ("kilogram kilograms", "kg"), ("gram grams", "g"), ("pound pounds lbs", "lb"), ("ounce ounces", "oz"),
    ("second seconds sec secs", "s"), ("minute minutes mins", "min"), ("hour hours hr hrs", "h"), ("days", "day"), ("weeks", "week"),
    ("months", "month"), ("years yr yrs", "year"), ("liter liters litre litres l", "L"), ("milliliter milliliters ml", "mL"),
    ("radian radians rads", "rad"), ("cent cents", "cent"), ("unit units", ""),
) for word in words.split()}  # fmt: skip
_NOT_UNITS = _words(
    "sin cos tan cot sec csc log ln exp sqrt and or for all where mod max gcd lcm inf infinity frac times cdot pmod pi"
)
_FUNCTIONS = _words("arcsin arccos arctan sin cos tan cot sec csc log ln exp gcd lcm max min sinh cosh tanh")
_NUMBERS = dict(
    zip(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ],
        range(13),
    )
)
#: Words after a number that make it another number, or no number: these are no things that are counted.
_NOT_COUNTED = _words(
    "hundred thousand million billion trillion quadrillion hundreds thousands millions billions dozen dozens half halves thirds quarters fourths "
    "fifths sixths sevenths eighths ninths tenths hundredths thousandths millionths thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety plus minus divided multiplied added subtracted increased decreased squared cubed "
    "square cube power powers raised root factorial choose permute base modulo modulus repeating recurring negative inverse reciprocal doubled "
    "tripled halved twice thrice below not maybe perhaps possibly probably either neither nor but except equals"
) | frozenset(_NUMBERS)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALED = re.compile(rf"(?<![\w.,^{{\\])(-?\d{{1,20}}(?:\.\d{{1,20}})?)\s{{1,3}}({'|'.join(_SCALES)})(?![A-Za-z])")
_SHORT_TEXT = _words("yes no odd even true false none am pm both neither")


class Spelled(NamedTuple):
    """An answer in one spelling: ``text`` for the library, ``unit`` ("" if none or not one we know), ``percent``.

    ``words``: the answer is words, which are compared as words and by nothing else.
    """

    text: str
    unit: str = ""
    percent: bool = False
    words: bool = False


def spelled(answer: str, *, thousands: bool = True) -> Spelled:
    """``answer`` in the one spelling. ValueError with a reason in plain words if it is empty or too long.

    ``thousands``: 10,100 is one number and not two.
    """
    if len(answer) > MAX_ANSWER:
        raise ValueError(f"too long: an answer of {len(answer)} characters, at most {MAX_ANSWER} are read")
    text = "".join(c for c in answer.translate(_SIGNS).translate(_FULLWIDTH) if c >= " " or c in "\n\t")
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}", text)
    text = (
        text.replace("\\\\%", "%")
        .replace("\\(", " ")
        .replace("\\)", " ")
        .replace("{,}", ",")
        .replace("{.}", ".")
    )
    if "matrix" not in text and "array" not in text:
        text = text.replace("\\\\", "\\").replace("\\[", " ").replace("\\]", " ")
    text = text.replace("\\\\", _ROW)  # the end of a row is no escaped blank
    if thousands:
        text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m.group()) if m.group()[0].isdigit() else m.group(), text)
    text = _GONE.sub(lambda m: " " if m.group().isspace() or m.group()[-1:] in " ~" else "", text)
    for _ in range(3):  # a text command in a text command
        text, found = _TEXT.subn(lambda m: f"\\{m[1]} " if m[1] in _FUNCTIONS else f" {m[1]} ", text)
        if not found:
            break
    text = _FRAC.sub(r"\\frac", text)
    for command, new in _COMMANDS:
        text = command.sub(new, text)
    text = _BARE_FRAC.sub(lambda m: rf"\frac{{{m[1] or m[3] or m[5]}}}{{{m[2] or m[4] or m[6]}}}", text)
    text = _BARE_PI.sub(r"\\pi ", text)
    text = _CURRENCY.sub(" ", text).strip().strip("*_`").strip()
    text = text.rstrip(".,;:").strip()  # not "!": 5! is 120
    text = _ANGLE.sub(r"(\1\\pi/180)", text) if _TRIG.search(text) else _DEGREE.sub(" ", text).strip()
    text = _SCIENTIFIC.sub(r"\1\\times 10^{\2}", text)
    text = _SCALED.sub(lambda m: rf"{m[1]}\times 10^{{{_SCALES[m[2]]}}}", text)  # 5 million
    percent = bool(_PERCENT.search(text))
    text = _PERCENT.sub("", text)
    text, unit = _without_unit(text.strip())
    text = re.sub(r"\s+", " ", text.replace("\n", " ")).strip()
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text) if _MIXED.fullmatch(text) else text
    text = text.replace(_ROW, "\\\\")
    while len(text) > 1 and text[0] == "{" and closing_brace(text, 0) == len(text) - 1:
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
    words = [w[:-1] if w[-1] in "23" and w[:-1] in _UNITS else w for w in words]  # cm2
    counted = words[1:] if len(words) > 1 and words[0].lower() == "square" else words
    if not words or any(w.lower() in _NOT_UNITS or w.lower() in _NOT_COUNTED for w in counted):
        return text, ""
    if any(c.isdigit() for w in words for c in w):  # 123 maybe 456
        return text, ""
    known = all(w in _UNITS or w.lower() in _UNITS for w in words)
    # without a space "12xyz" is a product, "12cm" is not; with one, words of three letters and more are things counted
    if not (known and (gap or len(words[0]) > 1)) and not (
        gap and all(len(w) > 2 or w in _UNITS or w in ("of", "in", "per", "sq", "cu") for w in words)
    ):
        return text, ""
    unit = tail.strip().lower().replace("²", "^2").replace("³", "^3")
    power = "2" if re.match(r"sq|square", unit) else "3" if re.match(r"cu\b|cu\.|cubic", unit) else ""
    power = power or "".join(re.findall(r"\d", unit))
    names = [
        _UNITS.get(w, _UNITS.get(w.lower()))
        for w in words
        if w.lower() not in ("square", "cubic", "sq", "cu", "per")
    ]
    return core, "".join(f"{n} " for n in names) + power if all(names) and names else ""


def _is_words(text: str) -> bool:
    bare = re.sub(
        r"\\[A-Za-z]+|\\(?:begin|end)\{[a-z]+\}", " ", re.sub(r"\\(?:begin|end)\{[A-Za-z]+\*?\}", " ", text)
    )
    found = [
        w
        for w in re.findall(r"[A-Za-z]{2,}", bare)
        if w.lower() not in _NOT_UNITS and w.lower() not in ("dx", "min")
    ]
    return any(len(w) > 3 or w.lower() in _SHORT_TEXT or (w[0].isupper() and w[1:].islower()) for w in found)


_ARTICLE = re.compile(r"\b(?:the|an?)\s+(?=[a-z]{2})")
_MATHS = re.compile(r"[\d<>=+*^|_!]|\\[A-Za-z]|(?<![A-Za-z])-")  # a sign, and not a hyphen


def same_words(one: str, other: str) -> bool:
    """Words are the same up to case, punctuation, white space and articles; where there are numbers or signs among them, every
    sign counts: "all but -2" is not "all but 2"."""

    def normal(text: str) -> list[str]:
        words = re.findall(r"[\w:/.-]+", text.lower())
        words = [w.strip(".-:") for w in words]
        return [w for w in words if w and w not in ("the", "a", "an")]

    def exact(text: str) -> str:
        text = re.sub(r"(?<=\d)\s+(?=\d)", "_", _ARTICLE.sub("", text.lower()))
        return re.sub(r"\s+|\.(?!\d)|[,;:](?!\d)|(?<!\d)[,;:]", "", text)

    if _MATHS.search(one) or _MATHS.search(other):
        return exact(one) == exact(other)
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
    up, down = (
        part["mixed_up"] or part["up"] or part["over"],
        part["mixed_down"] or part["down"] or part["under"],
    )
    if down is not None:
        if int(down) == 0:
            return None
        return sign * (int(part["whole"] or 0) + Fraction(int(up), int(down)))
    power = int(part["power"] or part["digit"] or 0)
    if abs(power) > 100:
        return None
    return sign * Fraction(part["decimal"].rstrip(".")) * Fraction(10) ** power
