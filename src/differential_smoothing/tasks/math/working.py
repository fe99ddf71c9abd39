"""What makes two correct solutions of one mathematical problem different: the steps in their working.

The answer to a mathematical problem is one, so correct completions do not differ in it. They differ in how they get there, and
what of that can be read without understanding is the equations that they write down.
"""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction

from differential_smoothing.tasks import countdown
from differential_smoothing.tasks.math.extract import TAIL

__all__ = ["solution_signature"]

MAX_STEPS = 200

_WRAPPING = re.compile(
    r"\\(?:left|right|displaystyle|quad|qquad|boxed|d?frac(?=\{\})|[!,;: ])(?![A-Za-z])|\\[()\[\]]|[&*]{2}|[&{}]|\\(?=\s)"
)
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf)\{[^{}]{0,100}\}")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]{1,60})\}\{([^{}]{1,60})\}")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "⁄": "/", "²": "^2", "³": "^3"}
)
_TIMES, _OVER = re.compile(r"\\(?:times|cdot|ast)(?![a-z])"), re.compile(r"\\div(?![a-z])")
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3}){1,6}(?![\d])")
_DOLLAR = re.compile(r"\\?\$(?=[\d.])|\\\$")  # an amount, or the start of a formula: both go; others end a formula
_UNIT = re.compile(r"(?<=[\d)])\s*(?:\\?%|[A-Za-z]{3,20})|[€£]")
# a side of an equation: numbers, names of one or two letters, commands, operators, brackets
_SIDE = re.compile(
    r"(?:[\d.]{1,30}|\\[a-z]{1,12}|(?<![A-Za-z])(?!(?i:so|is|of|we|at|by|to|in|or|an|as|he|it|if|be|on|no|a|i)[^A-Za-z])(?i:[a-z]{1,2})(?![A-Za-z])|[-+*/^_()|!\s]){1,60}"
)
_OPERATOR = re.compile(r"[\d)a-zA-Z]\s*[-+*/^]\s*[\d(\\a-zA-Z-]|\\[a-z]")
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?")


def solution_signature(completion: str) -> str | None:
    """The *set of calculations* in the working, as a short text: equal for solutions that calculate the same things.

    A calculation is a side of an equation (``=``, also in chains) with an operator in it: ``3*4``, ``x^2-5x``, ``\\sqrt{2}/2``.
    Each is written in one spelling (LaTeX, × and ÷, thousands separators, units and currency, 0.50 for 1/2 stay out), sums and products
    of numbers in one order, so ``4 + 3`` is ``3 + 4``. Calculations are taken as a set: the order of independent steps, repeating
    one and the words between them make no different solution. None if the working has no calculation.

    Limits. It sees what is calculated, not why: the same idea with one more written-out step, with other names for the
    unknowns or with intermediate results merged is a different signature (variety is overstated), and two arguments in words around the
    same calculations are the same (understated); a solution in words alone has none. Wrong steps count like right ones, so compare
    correct completions only. Use it to compare models on the same problems, not as a number of ideas.

    Time is linear in the text, of which the last 20,000 characters count, and at most 200 calculations.
    """
    if not isinstance(completion, str):
        return None
    text = _DOLLAR.sub("", completion[-TAIL:].translate(_SIGNS).replace("{,}", ",")).replace("$", "\n")
    text = _GROUPED.sub(lambda m: m.group().replace(",", ""), text)
    for _ in range(3):  # a fraction in a fraction in a fraction
        text = _FRACTION.sub(r"((\1)/(\2))", text)
    text = _OVER.sub("/", _TIMES.sub("*", _TEXT.sub(" ", text)))
    text = _UNIT.sub("", _WRAPPING.sub(" ", text))
    steps: set[str] = set()
    for line in re.split(r"[\n,;:]|\.\s|\\\\", text):
        sides = line.split("=")
        if len(sides) < 2:
            continue
        for i, side in enumerate(sides):
            side = _side(side, first=not i, last=i == len(sides) - 1)
            if side and _OPERATOR.search(side):
                steps.add(_ordered(side))
            if len(steps) == MAX_STEPS:
                break
    if not steps:
        return None
    written = "; ".join(sorted(steps))
    if len(written) > 200:  # two workings never share a digest by chance
        return f"{len(steps)} calculations {hashlib.sha256(written.encode()).hexdigest()[:32]}"
    return written


def _side(text: str, first: bool, last: bool) -> str:
    """The mathematics next to the equals sign: at the end of the first side, at the start of the last one."""
    found = [m.group().strip() for m in _SIDE.finditer(text) if m.group().strip()]
    if not found:
        return ""
    side = found[0] if last and not first else found[-1]
    return re.sub(r"\s+", " ", side).strip(" .*_|")


def _ordered(side: str) -> str:
    """Operands in one order where all of them are numbers, by Countdown's normal form; else without spaces as it is."""
    bare = side.replace(" ", "")
    numbers = sorted({Fraction(n) for n in _NUMBER.findall(bare)})
    if not re.fullmatch(r"[-+*/()\d.]{1,200}", bare) or len(numbers) > 50:
        return bare
    # Countdown reads integers: numbers stand as 1, 2, ... in ascending order and come back afterwards
    rank = {n: i + 1 for i, n in enumerate(numbers)}
    try:
        form = countdown.canonical(_NUMBER.sub(lambda m: str(rank[Fraction(m.group())]), bare))
    except ValueError:
        return bare
    return re.sub(r"\d+", lambda m: str(numbers[int(m.group()) - 1]).replace("/", "÷"), form)
