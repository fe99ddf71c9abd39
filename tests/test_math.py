"""Mathematical answers: the labelled pairs, exact rationals against math-verify, hostile text, threads, forks and exits."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from differential_smoothing.tasks.math import canonical, check_golds, solution_signature, verify, verify_many
from differential_smoothing.tasks.math import compare as maths
from differential_smoothing.tasks.math import extract as math_extract
from differential_smoothing.tasks.math import pool as math_pool
from differential_smoothing.tasks.math.terms import judge as math_judge
from differential_smoothing.tasks.math.terms import tokens as math_tokens

pytest.importorskip("math_verify")
PAIRS = Path(__file__).parent / "data" / "math_pairs.jsonl"


def written(completion):
    return (
        completion
        if isinstance(completion, str)
        else "".join(p if isinstance(p, str) else p[0] * p[1] for p in completion)
    )


@pytest.fixture(scope="module")
def pairs():
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    for row in rows:
        row["completion"] = written(row["completion"])
    return rows


@pytest.fixture(scope="module")
def verdicts(pairs):
    return verify_many([row["completion"] for row in pairs], [row["gold"] for row in pairs])


# --- the labelled pairs ---------------------------------------------------------------------------------------------


def test_the_pairs_are_what_they_should_be(pairs):
    assert len(pairs) >= 300 and sum(not row["correct"] for row in pairs) >= 120
    assert len({(row["completion"], row["gold"]) for row in pairs}) == len(pairs)


def test_no_wrong_answer_is_called_correct(pairs, verdicts):
    assert [row for row, v in zip(pairs, verdicts) if v.correct and not row["correct"]] == []


def test_nearly_every_right_answer_is_called_correct(pairs, verdicts):
    right = [v.correct for row, v in zip(pairs, verdicts) if row["correct"]]
    assert sum(right) / len(right) >= 0.97


def test_every_verdict_has_a_reason_and_a_canonical_form_exactly_when_correct(verdicts):
    for verdict in verdicts:
        assert (verdict.reason == "correct") == verdict.correct == (verdict.canonical is not None)
        assert 0 < len(verdict.reason) < 100


def test_every_gold_answer_of_the_pairs_can_be_read(pairs):
    check_golds(row["gold"] for row in pairs)


def test_a_batch_says_what_single_calls_say(pairs, verdicts):
    some = range(0, len(pairs), 37)
    assert [verify(pairs[i]["completion"], pairs[i]["gold"]) for i in some] == [verdicts[i] for i in some]


# --- gold first -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "answer", "correct", "reversed_correct"),
    [
        ("1", "2x+z=1", True, False),
        ("x=5", "5", True, True),
        ("5", "x=5", True, True),
        ("5", "2x+3=5", True, False),
        ("12", "(B) 12", True, False),
        ("B", "(B) 12", True, False),
        ("yes", "\\text{no}", False, False),
    ],
)
def test_the_gold_answer_comes_second_and_the_order_matters(gold, answer, correct, reversed_correct):
    assert verify(f"\\boxed{{{answer}}}", gold).correct is correct
    assert verify(f"\\boxed{{{gold}}}", answer).correct is reversed_correct


# --- plain numbers: exact, and as math-verify says ------------------------------------------------------------------


def spellings(value, rng):
    """Ways to write a rational number."""
    n, d = value.numerator, value.denominator
    k = rng.randint(2, 5)
    yield f"\\frac{{{n * k}}}{{{d * k}}}"
    yield f"{n}/{d}"
    yield f"-\\dfrac{{{-n}}}{{{d}}}" if n < 0 else f"\\tfrac {{{n}}}{{{d}}}"
    if d == 1:
        yield f"{n:,}"
        yield f"{n}.0"
    if 10**4 % d == 0:
        decimal = f"{float(value):.4f}"
        yield decimal
        yield f"{decimal}\\times 10^{{0}}"


def random_rational(rng):
    return Fraction(rng.randint(-2000, 2000), rng.choice([1, 1, 2, 3, 4, 5, 7, 8, 20, 100]))


def test_plain_numbers_are_compared_exactly():
    rng = random.Random(0)
    for _ in range(60):
        value, other = random_rational(rng), random_rational(rng)
        for spelling in spellings(value, rng):
            assert verify(f"\\boxed{{{spelling}}}", str(value)).correct, (spelling, value)
            assert verify(f"\\boxed{{{spelling}}}", str(other)).correct is (value == other), (spelling, other)
            assert verify(f"\\boxed{{{spelling}}}", str(-value)).correct is (value == 0), (spelling, -value)


def said_by_math_verify(gold, answer):
    """An independent reader and comparison, which the package does not use."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from math_verify import verify as compare

    normal = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    one, other = (
        parse(
            f"${t}$",
            [LatexExtractionConfig(normalization_config=normal)],
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )
        for t in (gold, answer)
    )
    return compare(one[0], other[0], timeout_seconds=None) if one and other else None


def quickly(gold, answer):
    """What is decided in this process, None if it is not."""
    try:
        return math_judge.judged(gold, answer)[0]
    except math_judge.Undecided:
        return None


def test_plain_numbers_agree_with_math_verify():
    rng = random.Random(1)
    for _ in range(60):
        value = random_rational(rng)
        other = value + rng.choice([0, 0, Fraction(1, 10), Fraction(1, 3), 1, -2 * value])
        one, two = (rng.choice(list(spellings(v, rng))) for v in (value, other))
        assert quickly(one, two) is (value == other) is said_by_math_verify(one, two), (one, two)


def random_expression(rng, depth):
    """A LaTeX text, and the same thing made by sympy without reading any text."""
    import sympy

    if not depth:
        n, m = rng.randint(1, 9), rng.choice([2, 3, 8, 12])
        return rng.choice(
            [
                (str(n), sympy.Integer(n)),
                (f"\\sqrt{{{m}}}", sympy.sqrt(m)),
                ("\\pi", sympy.pi),
                ("x", sympy.Symbol("x")),
                ("i", sympy.Symbol("i")),
                (f"\\frac{{{n}}}{{{m}}}", sympy.Rational(n, m)),
                (f"\\sqrt{{\\frac{{{n}}}{{{m}}}}}", sympy.sqrt(sympy.Rational(n, m))),
            ]
        )
    (a, one), (b, two), (c, three) = (random_expression(rng, d) for d in (depth - 1, rng.randrange(depth), 0))
    return rng.choice(
        [
            (f"{a} + {b}", one + two),
            (f"({a})({b})", one * two),
            (f"{c}-({b})", three - two),
            (f"({a})^2", one**2),
            (f"-({a})\\cdot {c}", -one * three),
            (f"\\frac{{{a}}}{{{c}}}", one / three),
            (f"({a})/{c}", one / three),
        ]
    )


def test_exact_answers_are_equal_exactly_when_sympy_expands_their_difference_to_nothing():
    import sympy

    rng, read, equal = random.Random(3), 0, 0
    for _ in range(250):
        text, value = random_expression(rng, 2)
        change = rng.choice([0, 0, 1, sympy.sqrt(2), sympy.pi / 9])
        other = sympy.latex(sympy.expand(value + change)).replace("\\left", "").replace("\\right", "")
        said = quickly(text, other)
        assert said in (None, sympy.expand(sympy.expand(value + change) - value) == 0), (text, other)
        read, equal = read + (said is not None), equal + bool(said)
    assert read > 150 and equal > 60, (read, equal)


@pytest.mark.parametrize(
    ("gold", "answer", "said"),
    [
        ("x^2-5x+6", "(x-2)(x-3)", True),
        ("4\\sqrt{13}", "\\sqrt{208}", True),
        ("\\frac{\\sqrt{3}}{2}", "\\frac{3}{2\\sqrt{3}}", True),
        ("2+3i", "3i+2", True),
        ("2^{2019}-1", "2\\cdot 2^{2018}-1", True),
        ("2^{2019}-1", "2^{2019}", False),
        ("(1,\\frac{\\pi}{2})", "(1,\\pi/2)", True),
        ("(1,2)", "(2,1)", False),
        ("(1,2)", "(1,2]", False),
        ("\\{1,2\\}", "2, 1", True),
        ("1,2", "1,3", False),
        ("5", "5,6", False),
        ("5", "5,5", True),
        ("1,2", "(1,2)", True),
        ("5", "(5,5)", False),
        ("2\\pi", "6.28", None),
        ("0.5x", "\\frac{x}{2}", True),
        ("-2^2", "-4", True),
        ("(1,2),(3,4)", "(3,4),(1,2)", True),
        ("\\sqrt{2}+\\sqrt{3}", "\\sqrt{5}", False),
        ("e^x", "e^y", False),
        ("\\sin^2 x", "1-\\cos^2 x", None),
        ("\\sin x", "\\cos x", False),
    ],
)
def test_what_is_decided_without_a_process(gold, answer, said):
    assert quickly(gold, answer) is said


@pytest.mark.parametrize(
    "text",
    [
        "(a+b+c+k)^{60}",
        "9^9" * 60,
        "(x+y)^2" * 40,
        "(" * 150,
        "\\sqrt{99999989}" * 18,
        "(2^{2000}+a)^2" * 20,
        "((((a+b)^9)^9)^9)^9",
        "1," * 149 + "1",
        "9^{9^{9^9}}",
        ",".join(f"\\sqrt{{{n}}}+x" for n in range(60)),
        "\\sum_{k=1}^{299} k^{99}",
        "\\sin" * 200 + "x",
        "-" * 900 + "1",
        "\\frac{1}{1+" * 60 + "x" + "}" * 60,
    ],
)
def test_hostile_text_is_decided_or_left_within_half_a_second(text):
    start = time.process_time()
    for gold in ("3", "(a+b+c+k)^{59}", ",".join(f"\\sqrt{{{n}}}+y" for n in range(59)), "\\{1,2\\}"):
        quickly(gold, text)
    assert time.process_time() - start < 0.5 * 4


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("0.5", "50\\%", True),
        ("50\\%", "0.5", True),
        ("50", "50\\%", True),
        ("50\\%", "50", True),
        ("25", "0.25", False),
        ("0.5", "5\\%", False),
    ],
)
def test_percent_means_hundredths_and_the_sign_may_be_left_out(gold, answer, correct):
    assert verify(f"\\boxed{{{answer}}}", gold).correct is correct


@pytest.mark.parametrize("zeros", [1, 6, 7, 12, 30])
def test_a_small_difference_is_a_difference_at_every_size(zeros):
    tiny = "0." + "0" * zeros
    assert not verify(f"{tiny}1", "0").correct
    assert not verify(f"{tiny}1", f"{tiny}2").correct
    assert verify(f"{tiny}1", f"10^{{-{zeros + 1}}}").correct


@pytest.mark.parametrize(
    ("completion", "right", "wrong"),
    [
        ("\\boxed{1} and \\boxed{200}", "1, 200", "1200"),
        ("The answer is $1$ and $200$.", "1, 200", "1200"),
        ("\\boxed{10,100}", "10, 100", "10, 1000"),
        ("\\boxed{10,100}", "10100", "10, 100, 0"),
        ("\\boxed{1,000} and \\boxed{2,000}", "1,000, 2,000", "10002000"),
        ("\\boxed{0,100}", "0, 100", "100"),
        ("\\boxed{1000,2000}", "1,000, 2,000", "1000"),
        ("\\boxed{x=1\\text{ or }x=200}", "1, 200", "1200"),
        ("\\boxed{1\\,200}", "1200", "1, 200"),
        ("\\boxed{(10, 100)}", "(10,100)", "10100"),
        ("\\boxed{(10,100)}", "(10, 100)", "(100, 10)"),
        ("\\boxed{100}", "100", "(0,100)"),
    ],
)
def test_a_comma_between_thousands_is_not_one_between_answers(completion, right, wrong):
    assert verify(completion, right).correct and not verify(completion, wrong).correct


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [("2pi", "2\\pi", "2"), ("pi/2", "\\frac{\\pi}{2}", "1"), ("123", "123", "1 2 3"), ("12 cm", "12", "1 2")],
)
def test_bare_pi_and_blanks_between_digits(answer, right, wrong):
    assert verify(f"\\boxed{{{answer}}}", right).correct and not verify(f"\\boxed{{{wrong}}}", right).correct
    assert (
        not verify("\\boxed{2\\cdot3\\frac{1}{2}}", "3").correct
        and not verify("\\boxed{2\\cdot3\\frac{1}{2}}", "7").correct
    )


# --- what is no answer, and gold answers that are none --------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", "no answer found"),
        ("I do not know what to say here", "no answer found"),
        ("\\boxed{7}", "differs from the gold answer"),
        ("\\boxed{" + "x" * 2000 + "}", "no answer found"),
        ("\\boxed{" + "1+" * 600 + "1}", "too long: an answer of 1201 characters, at most 1000 are read"),
        ("\\boxed{5\\foo{}}", "cannot be read as mathematics"),
        (None, "not text but NoneType"),
        (5, "not text but int"),
        (b"5", "not text but bytes"),
        ("\\boxed{(1,2,3)}", "differs from the gold answer"),
        ("\\boxed{5\\text{ cm}^2}", "differs from the gold answer"),
    ],
)
def test_a_reason_tells_the_mistakes_apart(completion, reason):
    assert verify(completion, "5" if "cm" not in str(completion) else "6") == (False, reason, None)
    assert verify("\\boxed{5\\text{ m}}", "5\\text{ cm}").reason == "has another unit than the gold answer"


@pytest.mark.parametrize("gold", [None, 5, "", "  ", "\\boxed{}", "x" * 2000, "\\frac{1}{", "\\foo{x", "1+", "(((1"])
def test_a_gold_answer_that_cannot_be_read_is_an_error_when_problems_are_loaded(gold):
    with pytest.raises(ValueError, match=r"gold answer .* cannot be read: .* correct or drop the problem"):
        check_golds(["5", "yes", gold])


def test_a_gold_answer_that_cannot_be_read_is_no_silent_zero():
    with pytest.raises(ValueError, match="cannot be read"):
        verify("\\boxed{x^2+1}", "\\foo{x")
    with pytest.raises(ValueError, match="2 completions and 1 gold answers"):
        verify_many(["1", "2"], ["1"])


# --- hostile text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "{",
        "$",
        "\\(",
        "answer is ",
        "1 ",
        "\\frac",
        "#",
        "(",
        "\\text{",
        "1,",
        "9^",
        "-",
        "\\boxed{1}",
        "a1 ",
        "½",
        "1.1",
        "=",
        "\n",
    ],
)
def test_reading_a_hundred_kilobytes_is_quick(piece):
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    found = math_extract.extract(text)
    if found and len(found) < math_tokens.MAX_ANSWER:
        quickly("1", found + "1")
    solution_signature(text)
    assert time.process_time() - start < 1


def test_random_text_never_raises_and_is_never_paid():
    rng = random.Random(2)
    pieces = [
        "\\frac",
        "{",
        "}",
        "^",
        "_",
        "1",
        "x",
        "\\sqrt",
        "(",
        ")",
        "[",
        "]",
        ",",
        "=",
        "\\pm",
        "\\cup",
        "\\infty",
        " or ",
        "\\text{",
        "%",
        "\\\\",
        "\\{",
        "\\}",
        "<",
        "|",
    ]
    texts = ["\\boxed{" + "".join(rng.choices(pieces, k=rng.randint(1, 14))) + "}" for _ in range(80)]
    assert not any(v.correct for v in verify_many(texts, ["7919"] * len(texts)))


def test_no_pair_takes_more_than_a_second_of_processor_time(pairs, verdicts):
    pool = maths.POOL
    pool.run([["same", "\\sqrt{8}", "2\\sqrt{2}"]])
    process = pool._idle[-1].popen.pid  # the one that is taken next
    # a child's earlier work counts when it ends: begin with a fresh one
    assert pool.run([["form", "\\frac{(x+y+z)^{60}-1}{(x+y)^{50}+z}+\\sin((x+z)^{40})"]])[0] == (
        None,
        "took longer than 1 s",
    )

    def spent():
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        # of the process and of its ended children
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    for text in ("9^{9^{9^9}}", "\\sum_{k=1}^{10^9} \\sin(k)", "(10^{9})!", "(x+y+z)^{500}-(x+y+z)^{499}"):
        for request in (["same", "3", text], ["form", text]):
            before = spent()
            assert pool.run([request])[0][0] is not True
            assert spent() - before < 1


# --- processes ------------------------------------------------------------------------------------------------------


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_the_library_is_asked_from_many_threads_at_once():
    wanted = [(f"\\boxed{{\\sqrt{{{n * n * 2}}}}}", f"{n}\\sqrt{{2}}", True) for n in range(2, 10)]
    wanted += [(f"\\boxed{{\\sqrt{{{n}}}}}", f"{n}\\sqrt{{2}}", False) for n in range(3, 8)]
    found = {}

    def ask(i):
        found[i] = verify(*wanted[i][:2]).correct

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(wanted))] == [w[2] for w in wanted]


def test_what_the_machine_prevented_is_asked_again_and_not_remembered(monkeypatch):
    """One stall must not make a right answer wrong for the rest of a training."""
    busy = (None, "not compared: the machine is too busy")

    class Pool:  # replies in turn, whatever is asked
        def __init__(self, *replies):
            self.replies = list(replies)

        def run(self, requests):
            return [self.replies.pop(0) for _ in requests]

    pair = ("\\boxed{\\sqrt{3179}+\\ln 2}", "17\\sqrt{11}+\\ln 2")
    monkeypatch.setattr(maths, "POOL", Pool(busy, busy))
    assert verify(*pair).reason == busy[1]
    monkeypatch.setattr(maths, "POOL", Pool(busy, (True, ""), busy, busy, ("form", "")))
    assert verify(*pair).correct and verify(*pair).canonical == "form"  # nor is a form that could not be made


def test_a_process_that_is_killed_is_replaced():
    pool = math_pool.Pool(1)
    assert pool.run([["same", "\\sqrt{4}", "2"]]) == [(True, "")]
    os.kill(pool._idle[0].popen.pid, signal.SIGKILL)
    assert pool.run([["same", "2", "\\sqrt{4}"]])[0] in [(None, "stopped by its limits"), (True, "")]
    assert pool.run([["same", "2", "\\sqrt{4}"]]) == [(True, "")]
    pids = [p.popen.pid for p in pool._all]
    pool.close()
    assert not any(map(alive, pids))


def _ask_in_child(connection):
    connection.send(verify("\\boxed{\\sqrt{12}}", "2\\sqrt{3}").correct)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_asks_processes_of_its_own(method):
    assert verify("\\boxed{\\sqrt{8}}", "2\\sqrt{2}").correct
    before = [p.popen.pid for p in maths.POOL._all]
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=_ask_in_child, args=(theirs,))
    child.start()
    assert ours.poll(200) and ours.recv() is True
    child.join(30)
    assert child.exitcode == 0
    assert [p.popen.pid for p in maths.POOL._all] == before and all(map(alive, before))
    assert verify("\\boxed{\\sqrt{18}}", "3\\sqrt{2}").correct


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_nothing_is_left_when_the_program_ends(end):
    program = textwrap.dedent("""
        import os, signal, threading, time
        from differential_smoothing.tasks.math import compare as math
        math.verify("\\\\boxed{\\\\sqrt{8}}", "2\\\\sqrt{2}")
        print(*[p.popen.pid for p in math.POOL._all], flush=True)
        threading.Thread(target=math.verify, args=("\\\\boxed{9^{9^{9^9}}}", "\\\\sqrt{2}"), daemon=True).start()
        time.sleep(0.05)
    """)  # a request is in work at the end
    done = subprocess.run([sys.executable, "-c", program + end], capture_output=True, text=True, timeout=280)
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids and done.stderr == ""
    deadline = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, pids))


def test_without_the_library_plain_answers_are_verified_and_others_say_what_to_install(monkeypatch, tmp_path):
    pool = math_pool.Pool(1)
    monkeypatch.setattr(math_pool.sys, "executable", "/bin/false")
    monkeypatch.setattr(math_pool.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(maths, "POOL", pool)
    assert verify("\\boxed{17/4}", "4.25").correct
    with pytest.raises(RuntimeError, match=r"pip install 'differential-smoothing\[math\]'"):
        verify("\\boxed{\\sqrt{3179}}", "17\\sqrt{11}")


# --- normal forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spellings",
    [
        ["\\boxed{\\frac12}", "0.5", "The answer is 1/2.", "\\boxed{\\frac{2}{4}}"],
        ["\\boxed{\\sqrt{8}}", "\\boxed{2\\sqrt2}"],
        ["1,000", "\\boxed{1000}", "\\boxed{10^3}"],
        ["\\boxed{\\text{Yes}}", "yes"],
        ["\\boxed{x^2-1}", "\\boxed{(x-1)(x+1)}"],
        ["\\boxed{\\{2,1\\}}", "\\boxed{1,2}"],
        ["\\boxed{(B)}", "B"],
    ],
)
def test_two_spellings_of_one_answer_have_one_normal_form(spellings):
    assert len({canonical(s) for s in spellings}) == 1 and canonical(spellings[0])


def test_different_answers_have_different_normal_forms():
    answers = [
        "1",
        "-1",
        "\\frac12",
        "2",
        "(1,2)",
        "(2,1)",
        "\\{1,2\\}",
        "[1,2]",
        "\\sqrt2",
        "\\sqrt3",
        "x",
        "x^2",
        "yes",
        "no",
    ]
    forms = [canonical(f"\\boxed{{{a}}}") for a in answers]
    assert len(set(forms)) == len(answers) and None not in forms
    assert canonical("I cannot say anything about it") is None


def test_all_right_answers_to_one_problem_have_one_normal_form(pairs, verdicts):
    forms = {}
    for row, verdict in zip(pairs, verdicts):
        if verdict.correct:
            forms.setdefault(row["gold"], set()).add(verdict.canonical)
    assert all(len(found) == 1 for found in forms.values())
    assert (
        canonical("50", gold="50\\%") == canonical("\\boxed{\\frac12}", gold="50\\%") != canonical("51", gold="50\\%")
    )


# --- different solutions --------------------------------------------------------------------------------------------

WORKING = "She sells 3 * 4 = 12 eggs. Then 12 + 1,000 = 1012.\nThe answer is 1012."


@pytest.mark.parametrize(
    "other",
    [
        "We get $4 \\times 3 = 12$ and so $1000 + 12 = 1012$.\n\\boxed{1012}",
        "1000 + 12 = 1012, since 3 × 4 = 12 dollars",
        WORKING + "\nAgain, 3*4 = 12.",
        "3 \\cdot 4 = 12\n12 + 1{,}000 = 1012",
    ],
)
def test_the_same_calculations_in_other_words_are_the_same_solution(other):
    assert solution_signature(other) == solution_signature(WORKING) == "12+1000; 3*4"


@pytest.mark.parametrize(
    "other",
    [
        "4 + 4 + 4 = 12. Then 12 + 1000 = 1012.",
        "3*4 + 1000 = 1012",
        "3 * 4 = 12. Then 1000 - 12 = 988.",
        "3*(4+1000) = 3012",
    ],
)
def test_other_calculations_are_another_solution(other):
    assert solution_signature(other) not in (None, solution_signature(WORKING))


def test_a_solution_without_a_calculation_has_no_signature():
    assert solution_signature("It is clear that the answer is 5.") is None
    assert solution_signature("x = 5") is None
    assert solution_signature(None) is None
    assert "x^2-5x+6" in solution_signature("We have $x^2 - 5x + 6 = 0$, so $(x-2)(x-3)=0$.")
    assert solution_signature("\n".join(f"{i} + 1 = {i + 1}" for i in range(60))).startswith("60 calculations ")


def test_the_cache_is_bounded():
    cache = maths.Cache(3)
    for i in range(10):
        cache.put(i, (True, str(i)))
    assert [cache.get(i) for i in range(7)] == [None] * 7 and cache.get(9) == (True, "9")
