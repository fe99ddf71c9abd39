"""Right answers of seven public test sets, and what can be made of them without a label: pairs that begin alike, respellings, single edits.

``math_golds.json`` holds every different answer of at most 300 characters of the sets ``aime24``, ``amc23``, ``carp_en``, ``college_math``, ``gaokao2023en``, ``minerva_math`` and
``olympiadbench`` as the evaluation of Qwen2.5-Math ships them (github.com/QwenLM/Qwen2.5-Math, folder ``evaluation/data``, Apache-2.0): the answers alone, no problems.
Two different right answers are almost never equal, an answer and its respelling are, and an answer with one sign, digit or letter changed almost never is.
"""

import json
import random
import re
from collections import defaultdict
from pathlib import Path

#: Answers that say nothing: none of them may be paid for a gold answer that is not itself one of these numbers or letters.
CONSTANTS = (
    "NAME=77,78",
    "x=77,78",
    "k=77,78",
    "0=0",
    "x=x",
    "1=1",
    "0",
    "1",
    "-1",
    "x",
    "y",
    "a",
    "n",
    "",
    "{}",
    "\\{\\}",
    "()",
    "(,)",
    ",",
    "=",
    "x=",
    "=5",
    "\\text{}",
    "\\emptyset",
    "\\mathbb{R}",
    "(0,0)",
    "(x,y)",
    "(x,y)=(77,78)",
    "(x,y)=77",
    "77,78",
    "\\{77,78\\}",
    "x\\in\\mathbb{R}",
    "x>77",
    "77<x<78",
    "[77,78]",
    "\\infty",
    "e",
    "i",
    "\\pi",
    "yes",
    "no",
    "True",
    "NAME",
    "\\text{answer}",
    "?",
    "...",
    "1,2,3,4,5,6,7,8,9,10",
    "A, B, C, D",
    "\\frac{0}{0}",
    "0\\cdot x",
    "f(x)",
    "f(x)=77",
    "y=77",
    "77:78",
    "\\begin{pmatrix}77\\\\78\\end{pmatrix}",
)


def golds() -> list[str]:
    """Every different answer, in a fixed order."""
    found = json.loads((Path(__file__).parent / "math_golds.json").read_text(encoding="utf-8"))
    return list(dict.fromkeys(gold for answers in found.values() for gold in answers))


def bare(gold: str) -> str:
    """Without what is only spelling: dollars, spaces, braces around one sign, the sign of display style."""
    text = re.sub(r"\+(?=\\infty)|\\left|\\right|\\[dt](?=frac)|\\[,!;:]|[\s$]|\\text\{(and|or)\}", "", gold).rstrip(
        "."
    )
    return re.sub(r"\{([^{}\\])\}", r"\1", re.sub(r"(?<=\d)\.0$", "", text))


def beginning(gold: str) -> str:
    """The name and relation that an answer begins with, or its first sign."""
    match = re.match(r"[^=<>(]{1,12}[=(<>]", bare(gold))
    return match.group() if match else bare(gold)[:1]


def alike(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """``number`` pairs of different answers, most of them drawn so that they begin alike: neighbours in order, then pairs of one beginning."""
    rng, answers = random.Random(seed), golds()
    order = sorted(answers, key=bare)
    near = [pair for step in range(1, 9) for a, b in zip(order, order[step:]) for pair in ((a, b), (b, a))]
    groups = defaultdict(list)
    for gold in answers:
        groups[beginning(gold)].append(gold)
    pairs = set(rng.sample(near, min(len(near), number * 2 // 3)))
    while len(pairs) < number:
        gold = rng.choice(answers)
        pairs.add((gold, rng.choice(groups[beginning(gold)])))
        pairs -= {(gold, gold)}
    found = sorted(pairs)
    rng.shuffle(found)
    return found


_UNITS = (
    ("^{\\circ}", "\\text{ degrees}"),
    ("^\\circ", "\\text{ degrees}"),
    ("\\%", "\\text{ percent}"),
    ("\\mathrm{~cm}", "\\text{ centimeters}"),
    ("\\mathrm{~m}", "\\text{ meters}"),
    ("\\mathrm{~min}", "\\text{ minutes}"),
    ("\\mathrm{ft}", "\\text{ feet}"),
    ("\\mathrm{~ft}", "\\text{ feet}"),
    ("\\mathrm{mph}", "\\text{ miles per hour}"),
)


def respelled(gold: str) -> dict[str, str]:
    """The same answer in other spellings, by the kind of the change."""
    found = {}
    inside = gold.strip().strip("$").strip() if re.fullmatch(r"\$?[^$]*\$?", gold.strip()) else gold
    found["boxed"] = inside
    if not re.search(r"text|mathrm|[A-Za-z]{4}", re.sub(r"\\[A-Za-z]+", "", gold)) and "begin" not in gold:
        found["spaces"] = re.sub(r"(?<=[\w)}])([+=<>])", r" \1 ", gold)
        found["left"] = (
            gold if "\\left" in gold or "[" in gold else gold.replace("(", "\\left(").replace(")", "\\right)")
        )
    found["dfrac"] = re.sub(r"\\frac(?![a-z])", r"\\dfrac", gold)
    found["le"] = (
        re.sub(r"\\([lg])eq(?![a-z])", r"\\\1e", gold).replace("\\leqslant", "\\le").replace("\\geqslant", "\\ge")
    )
    terms = inside.split("+")
    if (
        len(terms) == 2
        and terms[0].strip()
        and "$" not in inside
        and not re.search(
            r"[-=<>,:;(\[{|]|\\[lg]e|\\text|\\pm|\\in|\\mathrm|\\approx|[A-Za-z]{3}",
            re.sub(r"\\(?:frac|sqrt|pi|ln|sin|cos)", "", inside),
        )
    ):
        found["order of a sum"] = f"{terms[1].strip()}+{terms[0].strip()}"
    for unit, words in _UNITS:
        if (
            inside.endswith(unit)
            and not re.search("sin|cos|tan", gold)
            and inside.count("circ") < 2
            and inside.count("ft") < 2
        ):
            found["units written out"] = inside.removesuffix(unit) + words
    return {kind: text for kind, text in found.items() if text != gold}


def edits(gold: str, rng: random.Random) -> dict[str, str]:
    """The answer with a single change, by its kind: a sign, a digit, the case of a letter, a dropped last term, the whole of it negated."""
    found = {}
    for kind, pattern, change in (
        ("sign", r"(?<![\^{])[+-]", lambda s: "-" if s == "+" else "+"),
        ("digit", r"\d", lambda s: str((int(s) + rng.randint(1, 9)) % 10)),
        ("case", r"(?<![\\A-Za-z{])[A-Za-z](?![A-Za-z])", str.swapcase),
    ):
        places = list(re.finditer(pattern, gold))
        if places:
            place = rng.choice(places)
            found[kind] = gold[: place.start()] + change(place.group()) + gold[place.end() :]
    last = re.search(r"[+-][^+\-(){}=,]+\$?$", gold)
    if last and last.start() > 1:
        found["dropped term"] = gold[: last.start()] + "$" * gold.startswith("$")
    if not re.search(r"[=<>,:]|text|\\[lg]e|[A-Za-z]{4}", re.sub(r"\\(?:frac|sqrt)", "", gold)):
        found["negated"] = "-(" + gold.strip().strip("$") + ")"
    return {kind: text for kind, text in found.items() if text != gold}


# --- which of those that are paid are right ---------------------------------------------------------------------------
#
# An independent, simple-minded look at two texts: the same number, or the same text, after what is only spelling has been taken off.

_UNIT_WORDS = re.compile(
    r"\\mathrm\{[^{}]*\}(?:\^\{?-?\d\}?)?|\\circ|\\text\{[^{}]*\}|milesperhour|squareunits|hours|cm|(?<=\d)in$|/$|[-^{}~%\\/]"
)


def excused(gold: str, answer: str) -> bool:
    """Whether two answers are the same for a look at their letters and digits: spelling, a unit that is left out, the same words, or the same value listed below."""
    one, other = bare(gold), bare(answer)
    if one == other or one.lower().rstrip(".!") == other.lower().rstrip(".!") or frozenset((gold, answer)) in _SAME:
        return True
    parts = [sorted(re.split(r",|or", re.sub(r"[{}()\[\]]|x=", "", t))) for t in (one, other)]
    if parts[0] == parts[1]:
        return True
    stripped = [
        re.sub(r"(?<=\d)(?:\.0|0+(?<=\.\d0))$", "", _UNIT_WORDS.sub("", t.strip("$. ").replace(" ", "")))
        for t in (gold, answer)
    ]
    numbers = [float(t) if re.fullmatch(r"-?\d+(?:\.\d+)?|-?\.\d+", t) else None for t in stripped]
    signs = ["-" in t.split("\\mathrm")[0] for t in (gold, answer)]
    return (stripped[0] == stripped[1] and signs[0] == signs[1]) or (
        numbers[0] is not None and numbers[0] == numbers[1] and signs[0] == signs[1]
    )


#: pairs of different texts of one value, looked at one by one
_SAME = {
    frozenset(pair)
    for pair in (
        (
            "$x^{\\sin (x)}(\\cos (x) \\ln (x)+\\sin (x) / x)$",
            "$x^{\\sin x}\\left(\\cos x \\ln x+\\frac{\\sin x}{x}\\right)$",
        ),
        ("$i$", "$i^{117}=\\left(i^{4}\\right)^{29} \\cdot i=1 \\cdot i=i$"),
        ("$i$", "$i^{5}=i^{4} \\cdot i=1 \\cdot i=i$"),
        ("$-2$", "-2,-2"),
        ("-2", "-2,-2"),
        ("- 2", "-2,-2"),
        ("$1,1,2,3$", "$1,2,3$"),  # a root that is written twice counts once
        ("$x=-1, x=0$ or $x=1$", "$x=-1,0,1$"),
    )
}


def constant_is_right(gold: str, constant: str) -> bool:
    """Whether a constant is the answer: the gold answer is this number, letter, word or set, or a name = it."""
    value = bare(gold).split("=")[-1].rstrip(".")
    value = re.sub(r"\^\{?\\circ\}?|\\mathrm\{.*|(?<=\d)in$", "", value)
    same = {"0=0": "0", "1=1": "1", "0\\cdot x": "0", "x\\in\\mathbb{R}": "\\mathbb{R}"}.get(constant, constant)
    known = {"allrealnumbers": "\\mathbb{R}", "(-\\infty,\\infty)": "\\mathbb{R}", "180": "\\pi"}
    return value == same or value.lower() == same.lower() or known.get(value.lower()) == same


def edit_is_none(gold: str, text: str, kind: str) -> bool:
    """Whether an edit has made no other answer, by what can be seen: each of these has been looked at."""
    if kind == "case":  # a choice, an article, the E of a power of ten, or a letter behind "for all"
        letters = [(a, b) for a, b in zip(gold, text) if a != b]
        power = letters[0][0] == "e" and re.fullmatch(r"[\d.]+e-?\d+", gold)
        return len(gold) == 1 or (letters[0][0] in "aA" and " " in gold) or bool(power) or "for all" in gold
    if kind == "negated":
        return re.fullmatch(r"\$?0(?:\^\{\\circ\})?\s*\$?|\$?\\pm.*", gold) is not None
    if "\\approx" in gold:  # a digit of what is rounded, within its last place
        return kind == "digit" and gold.split("\\approx")[0] == text.split("\\approx")[0]
    if re.sub(r"\(-1\)\^\{k[-+][13579]\}", "", gold) == re.sub(r"\(-1\)\^\{k[-+][13579]\}", "", text):
        return True  # (-1)^{k-1} is (-1)^{k+1}
    return (gold, text) in _EDITS


#: edits that leave the value as it is: an equation times -1 is the same equation
_EDITS = {
    (
        "$1 /\\left(2 \\cos ^{2} x\\right)=(1 / 2) \\sec ^{2} x+C$",
        "$1 /\\left(2 \\cos ^{2} x\\right)=(1 / 2) \\sec ^{2} x-C$",
    )
}
