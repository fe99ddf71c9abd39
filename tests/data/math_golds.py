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
    "NAME=77,78", "x=77,78", "k=77,78", "0=0", "x=x", "1=1", "0", "1", "-1", "x", "y", "a", "n", "", "{}", "\\{\\}", "()", "(,)", ",", "=", "x=", "=5", "\\text{}", "\\emptyset",
    "\\mathbb{R}", "(0,0)", "(x,y)", "(x,y)=(77,78)", "(x,y)=77", "77,78", "\\{77,78\\}", "x\\in\\mathbb{R}", "x>77", "77<x<78", "[77,78]", "\\infty", "e", "i", "\\pi", "yes", "no", "True",
    "NAME", "\\text{answer}", "?", "...", "1,2,3,4,5,6,7,8,9,10", "A, B, C, D", "\\frac{0}{0}", "0\\cdot x", "f(x)", "f(x)=77", "y=77", "77:78", "\\begin{pmatrix}77\\\\78\\end{pmatrix}",
)  # fmt: skip


def golds() -> list[str]:
    """Every different answer, in a fixed order."""
    found = json.loads((Path(__file__).parent / "math_golds.json").read_text(encoding="utf-8"))
    return list(dict.fromkeys(gold for answers in found.values() for gold in answers))


def bare(gold: str) -> str:
    """Without what is only spelling: dollars, spaces, braces around one sign, the sign of display style."""
    text = re.sub(r"\\left|\\right|\\[dt](?=frac)|\\[,!;:]|[\s$]|\\text\{(and|or)\}", "", gold).rstrip(".")
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


_UNITS = (("^{\\circ}", "\\text{ degrees}"), ("^\\circ", "\\text{ degrees}"), ("\\%", "\\text{ percent}"), ("\\mathrm{~cm}", "\\text{ centimeters}"), ("\\mathrm{~m}", "\\text{ meters}"),
          ("\\mathrm{~min}", "\\text{ minutes}"), ("\\mathrm{ft}", "\\text{ feet}"), ("\\mathrm{~ft}", "\\text{ feet}"), ("\\mathrm{mph}", "\\text{ miles per hour}"))  # fmt: skip


def respelled(gold: str) -> dict[str, str]:
    """The same answer in other spellings, by the kind of the change."""
    found = {}
    inside = gold.strip().strip("$").strip() if re.fullmatch(r"\$?[^$]*\$?", gold.strip()) else gold
    found["boxed"] = inside
    if not re.search(r"text|mathrm|[A-Za-z]{4}", re.sub(r"\\[A-Za-z]+", "", gold)) and "begin" not in gold:
        found["spaces"] = re.sub(r"(?<=[\w)}])([+=<>])", r" \1 ", gold)
        found["left"] = gold if "\\left" in gold or "[" in gold else gold.replace("(", "\\left(").replace(")", "\\right)")
    found["dfrac"] = re.sub(r"\\frac(?![a-z])", r"\\dfrac", gold)
    found["le"] = re.sub(r"\\([lg])eq(?![a-z])", r"\\\1e", gold).replace("\\leqslant", "\\le").replace("\\geqslant", "\\ge")
    terms = inside.split("+")
    if len(terms) == 2 and terms[0].strip() and "$" not in inside and not re.search(r"[-=<>,:;(\[{|]|\\[lg]e|\\text|\\pm|\\in|\\mathrm|\\approx|[A-Za-z]{3}", re.sub(r"\\(?:frac|sqrt|pi|ln|sin|cos)", "", inside)):
        found["order of a sum"] = f"{terms[1].strip()}+{terms[0].strip()}"
    for unit, words in _UNITS:
        if inside.endswith(unit) and not re.search("sin|cos|tan", gold) and inside.count("circ") < 2 and inside.count("ft") < 2:
            found["units written out"] = inside.removesuffix(unit) + words
    return {kind: text for kind, text in found.items() if text != gold}


def edits(gold: str, rng: random.Random) -> dict[str, str]:
    """The answer with a single change, by its kind: a sign, a digit, the case of a letter, a dropped last term, the whole of it negated."""
    found = {}
    for kind, pattern, change in (
        ("sign", r"(?<![\^{])[+-]", lambda s: "-" if s == "+" else "+"),
        ("digit", r"\d", lambda s: str((int(s) + rng.randint(1, 9)) % 10)),
        ("case", r"(?<![\\A-Za-z{])[A-Za-z](?![A-Za-z])", str.swapcase),
    ):  # fmt: skip
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
