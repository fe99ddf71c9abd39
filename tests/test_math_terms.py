"""Answers by their types: labelled pairs of every class of fault, and checks that need no label.

``math_classes.jsonl`` holds pairs of a completion and a gold answer, labelled by hand before they were run; ``note`` is the class of fault. ``math_golds`` draws from right
answers of seven public sets. See benchmarks/verify_golds.py for the same checks on many more pairs.
"""

import contextlib
import json
import random
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from differential_smoothing.tasks.math import verify, verify_many
from differential_smoothing.tasks.math.compare import unreadable
from differential_smoothing.tasks.math.terms.judge import Undecided, judged
from differential_smoothing.tasks.math.terms.values import read

pytest.importorskip("sympy")
sys.path.insert(0, str(Path(__file__).parent / "data"))
import math_golds

CLASSES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "math_classes.jsonl").read_text(encoding="utf-8").splitlines()
]
NO_ANSWERS = {
    "5 4.6",
    "$20 \\$ 1,6 \\$ 5$",
    "$-317^{\\circ} 3^{\\prime} 36^{\\prime \\prime} \\quad",
}  # in the data as they are


@pytest.mark.parametrize("note", dict.fromkeys(row["note"] for row in CLASSES))
def test_every_class_of_fault(note):
    rows = [row for row in CLASSES if row["note"] == note]
    verdicts = verify_many([row["completion"] for row in rows], [row["gold"] for row in rows])
    assert [(row, v.reason) for row, v in zip(rows, verdicts) if v.correct != row["correct"]] == []
    assert sum(row["correct"] for row in rows) >= 5 and sum(not row["correct"] for row in rows) >= 5


# --- without labels ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golds():
    return [gold for gold in math_golds.golds() if gold not in NO_ANSWERS]


def box(answers):
    return [f"\\boxed{{{answer}}}" for answer in answers]


def test_every_gold_answer_but_those_that_are_none_is_read(golds):
    assert set(unreadable(math_golds.golds())) == NO_ANSWERS
    kinds = Counter(read(gold).kind for gold in golds)
    assert kinds["formula"] < 20 and kinds["words"] < 0.12 * len(golds)  # what is read as no more than its signs


def test_every_gold_answer_equals_itself_and_its_respellings(golds):
    some = random.Random(1).sample(golds, 400)
    pairs = [(text, gold) for gold in some for text in (gold, *math_golds.respelled(gold).values())]
    assert len(pairs) > 800
    verdicts = verify_many(box(text for text, _ in pairs), [gold for _, gold in pairs])
    assert [(pair, v.reason) for pair, v in zip(pairs, verdicts) if not v.correct] == []


def test_two_different_gold_answers_that_begin_alike_are_not_equal():
    pairs = [pair for pair in math_golds.alike(3_000, seed=1) if not NO_ANSWERS & set(pair)]
    verdicts = verify_many(box(answer for _, answer in pairs), [gold for gold, _ in pairs])
    paid = [pair for pair, v in zip(pairs, verdicts) if v.correct]
    assert [pair for pair in paid if not math_golds.excused(*pair)] == []
    assert len(paid) < 60


def test_an_answer_that_says_nothing_is_paid_nowhere(golds):
    rng = random.Random(2)
    some = rng.sample([gold for gold in golds if "=" in gold], 120) + rng.sample(golds, 60)
    pairs = [(gold, constant) for gold in dict.fromkeys(some) for constant in math_golds.CONSTANTS]
    verdicts = verify_many(box(constant for _, constant in pairs), [gold for gold, _ in pairs])
    paid = [pair for pair, v in zip(pairs, verdicts) if v.correct]
    assert [pair for pair in paid if not math_golds.constant_is_right(*pair)] == []


def test_a_single_edit_makes_another_answer(golds):
    rng = random.Random(3)
    edited = [
        (gold, text, kind) for gold in rng.sample(golds, 700) for kind, text in math_golds.edits(gold, rng).items()
    ]
    assert len(edited) > 1_200 and len({kind for *_, kind in edited}) == 5
    verdicts = verify_many(box(text for _, text, _ in edited), [gold for gold, _, _ in edited])
    paid = [edit for edit, v in zip(edited, verdicts) if v.correct]
    assert [edit for edit in paid if not math_golds.edit_is_none(*edit)] == []


def test_an_answer_of_another_type_is_paid_nowhere(golds):
    by_kind = {}
    for gold in golds:
        by_kind.setdefault(read(gold).kind, []).append(gold)
    rng = random.Random(4)
    pairs = []
    for kind, members in by_kind.items():
        for other, others in by_kind.items():
            if kind != other and "named" not in (kind, other):  # x = 5 is answered by 5
                pairs += [(rng.choice(members), rng.choice(others)) for _ in range(15)]
    verdicts = verify_many(box(answer for _, answer in pairs), [gold for gold, _ in pairs])
    assert [pair for pair, v in zip(pairs, verdicts) if v.correct and not math_golds.excused(*pair)] == []


# --- what decides -----------------------------------------------------------------------------------------------------


def numbers(rng, depth):
    """LaTeX without letters, and its value by Python's own arithmetic of fractions."""
    if not depth:
        n = rng.randint(1, 30)
        return str(n), Fraction(n)
    (a, x), (b, y) = numbers(rng, depth - 1), numbers(rng, depth - 1)
    return rng.choice(
        [
            (f"({a}+{b})", x + y),
            (f"({a}-{b})", x - y),
            (f"{a}\\cdot {b}", x * y),
            (f"\\frac{{{a}}}{{{b}}}", x / y if y else None),
            (f"\\left({a}\\right)^2", x * x),
        ]
    )


def test_arithmetic_is_that_of_fractions():
    rng, seen = random.Random(5), 0
    for _ in range(300):
        try:
            text, value = numbers(rng, 3)
        except TypeError:  # a fraction of a fraction with denominator 0
            continue
        if value is None:
            continue
        for other in (value, value + 1, -value):
            right = str(other) if other.denominator > 1 else str(other.numerator)
            try:
                assert judged(right, text)[0] is (other == value), (text, right)
            except Undecided:
                continue
            seen += 1
    assert seen > 500


def test_what_is_equal_for_sympy_at_random_points_is_equal_here():
    """An independent twin: sympy makes the other expression, by rewriting, and a different one, by adding something small."""
    sympy = pytest.importorskip("sympy")
    x, n = sympy.symbols("x n", positive=True)
    rewritten = [
        (sympy.sin(2 * x), 2 * sympy.sin(x) * sympy.cos(x)),
        ((x**2 - 1) / (x + 3), x - 3 + 8 / (x + 3)),
        (sympy.exp(2 * x) - 1, (sympy.exp(x) - 1) * (sympy.exp(x) + 1)),
        (sympy.log(x**3 * n), 3 * sympy.log(x) + sympy.log(n)),
        (sympy.sqrt(4 * x * n), 2 * sympy.sqrt(x) * sympy.sqrt(n)),
        (2 ** (n + 2), 4 * 2**n),
        (sympy.cosh(x), (sympy.exp(x) + sympy.exp(-x)) / 2),
        (sympy.tan(x) ** 2 + 1, 1 / sympy.cos(x) ** 2),
        (sympy.sqrt(3 + 2 * sympy.sqrt(2)), 1 + sympy.sqrt(2)),
        (sympy.atan(1), sympy.pi / 4),
    ]
    for one, other in rewritten:
        for small, equal in (
            (0, True),
            (sympy.exp(-300), False),
            (sympy.Rational(1, 10**40), False),
            (x / 10**30, False),
        ):
            texts = [sympy.latex(e, ln_notation=True) for e in (one, other)]
            changed = f"{texts[1]} + {sympy.latex(small)}" if small != 0 else texts[1]
            assert verify(f"\\boxed{{{changed}}}", texts[0]).correct is equal, (texts[0], changed)


def test_every_comparison_is_bounded_in_time():
    """No text of a thousand characters takes this process above a second, whatever the gold answer is."""
    rng = random.Random(6)
    pieces = [
        "\\frac{",
        "}{",
        "}",
        "(",
        ")",
        "^",
        "_",
        "9",
        "x",
        "\\sqrt{",
        ",",
        "=",
        "\\pm",
        "\\cup",
        "[",
        "]",
        "\\{",
        "\\}",
        "|",
        "!",
        "\\sin",
        "\\text{",
        "e",
        "\\sum_{k=1}^{9}",
        "<",
        " or ",
        "%",
        "\\$",
        ".",
        "'",
    ]
    golds_ = [
        "x+1",
        "1,2,3",
        "x=5",
        "[0,1)",
        "\\{1,2\\}",
        "(1,2)",
        "\\frac{\\sqrt{2}}{e}",
        "2:3",
        "yes",
        "A",
        "5\\text{ cm}",
        "f'(x)=2x",
        "x>5",
        "12_3",
    ]
    for _ in range(150):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 250)))[:990]
        start = time.process_time()
        for gold in golds_:
            with contextlib.suppress(Undecided):
                judged(gold, text)
        assert time.process_time() - start < 1, text
