"""The Countdown task: nothing wrong is paid, nothing right is refused, the same answer means the stated rule.

Three readers, written on purpose in another way than the package's, check it: Python's own parser with exact
fractions (``value_of``, ``is_solution``), a normal form made of nested multisets (``meaning``), and the
enumeration of every binary tree (``every_tree``).
"""

import ast
import random
import re
import time
from collections import Counter
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest

from differential_smoothing.tasks.countdown import (
    Problem,
    canonical,
    countdown_correct,
    countdown_format,
    generate,
    prompt,
    read_prompt,
    shuffled,
    solutions_by_target,
    solve,
    split_of,
    verify,
    verify_completion,
)

SIGNS = {"×": "*", "∗": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-"}
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


# --- three independent readers ------------------------------------------------------------------------------


def value_of(node):
    """The exact value of a parsed Python expression; ValueError for whatever Countdown does not have."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return apply(OPERATORS[type(node.op)], value_of(node.left), value_of(node.right))
    raise ValueError


def apply(operator, a, b):
    return {"+": a.__add__, "-": a.__sub__, "*": a.__mul__, "/": a.__truediv__}[operator](b)


def numbers_in(text):
    return Counter(map(int, re.findall("[0-9]+", text)))


def is_solution(text, nums, target):
    for sign, plain in SIGNS.items():
        text = text.replace(sign, plain)
    expression, equals, claimed = text.partition("=")
    if re.search(r"[^0-9+*/() \t\r\n-]|(?<![0-9])0[0-9]", expression):  # Python reads 00 as 0, Countdown does not
        return False
    if equals and re.sub(r"(?<=-)[ \t\r\n]+", "", claimed).strip(" \t\r\n") != str(target):
        return False
    try:
        value = value_of(ast.parse(" ".join(expression.split()), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False
    return value == target and numbers_in(expression) == Counter(nums)


def meaning(node):
    """The answer an expression stands for, by the documented rule: nested multisets, no text, no order."""
    if isinstance(node, ast.Constant):
        return node.value
    is_sum = isinstance(node.op, (ast.Add, ast.Sub))

    def operands(node, inverted):
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)) == is_sum:
            flips = isinstance(node.op, (ast.Sub, ast.Div))
            return operands(node.left, inverted) + operands(node.right, inverted ^ flips)
        return [(meaning(node), inverted)]

    return is_sum, frozenset(Counter(operands(node, False)).items())


def every_tree(nums):
    """Every binary tree over every order of ``nums``, fully in parentheses, with its exact value."""
    if len(nums) == 1:
        yield str(nums[0]), Fraction(nums[0])
    for cut in range(1, len(nums)):
        for (left, a), (right, b) in product(every_tree(nums[:cut]), list(every_tree(nums[cut:]))):
            for operator in "+-*/":
                if operator != "/" or b:
                    yield f"({left}{operator}{right})", apply(operator, a, b)


def all_trees(nums):
    return {text: value for order in set(permutations(nums)) for text, value in every_tree(order)}


def random_expression(rng, largest=6, smallest_number=0):
    """A random valid expression as ``(text, value)`` with random spaces, signs and redundant parentheses."""

    def build(size):
        if size == 1:
            number = rng.randint(smallest_number, 12)
            return str(number), Fraction(number), 3
        cut = rng.randint(1, size - 1)
        (left, a, strength_a), (right, b, strength_b) = build(cut), build(size - cut)
        operator = rng.choice("+-*/" if b else "+-*")
        strength = 1 if operator in "+-" else 2
        if strength_a < strength or rng.random() < 0.2:
            left = f"({left})"
        if strength_b < strength or (strength_b == strength and operator in "-/") or rng.random() < 0.2:
            right = f"({right})"
        spelled = rng.choice([operator, operator, *(sign for sign, plain in SIGNS.items() if plain == operator)])
        space = rng.choice(["", "", " ", "\n", "\t "])
        return f"{left}{space}{spelled}{space}{right}", apply(operator, a, b), strength

    text, value, _ = build(rng.randint(1, largest))
    return text, value


def plain(text):
    for sign, ascii_sign in SIGNS.items():
        text = text.replace(sign, ascii_sign)
    return "".join(text.split())


def parsed(text):
    return ast.parse(plain(text), mode="eval").body


def in_time(function, *args, **kwargs):
    """The result, if it comes in under 50 ms; the best of three, since the machine may be busy."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = function(*args, **kwargs)
        times.append(time.perf_counter() - start)
        if times[-1] < 0.05:
            return result
    pytest.fail(f"{min(times):.3f} s for {str(args)[:80]}")


# --- the verifier: what must not be paid --------------------------------------------------------------------

# each with the numbers and the target that some reader would find in it
ATTACKS = {
    "power": ("2**3+4-5", [2, 3, 4, 5], 7),
    "caret power": ("2^3+4-5", [2, 3, 4, 5], 7),
    "superscript power": ("2³+4-5", [2, 3, 4, 5], 7),
    "floor division": ("7//2+4*5", [7, 2, 4, 5], 23),
    "power tower": ("9**9**9", [9, 9, 9], 1),
    "larger power tower": ("99**99**99", [99, 99, 99], 1),
    "power tower in carets": ("9^9^9^9", [9, 9, 9, 9], 1),
    "digits joined by a point": ("1.5*4+3", [1, 3, 4, 5], 9),
    "point before digits": (".5*4", [4, 5], 2),
    "point after digits": ("5.*4", [4, 5], 20),
    "decimal comma": ("1,5*4", [1, 4, 5], 6),
    "thousands comma": ("1,000+1", [1, 0, 1], 1001),
    "exponent": ("1e2", [1, 2], 100),
    "hexadecimal": ("0x10+1", [16, 1], 17),
    "octal": ("0o10+1", [8, 1], 9),
    "binary": ("0b10+1", [2, 1], 3),
    "underscore": ("1_0+1", [10, 1], 11),
    "zeros that kill numbers": ("98e0 + 0e0*(3*5)", [98, 3, 5], 98),
    "a zero that was not given": ("24+0*(3*5)", [24, 3, 5], 24),
    "leading zeros": ("024", [24], 24),
    "double zero": ("00+24", [0, 24], 24),
    "factorial": ("4!", [4], 24),
    "factorial by name": ("factorial(4)", [4], 24),
    "square root": ("sqrt(4)", [4], 2),
    "square root sign": ("√4", [4], 2),
    "remainder": ("12345%100", [12345, 100], 45),
    "binomial": ("binomial(7,3)", [7, 3], 35),
    "executes": ("__import__('os').system('exit 1')", [1], 1),
    "executes and claims": ("2*3*4 or __import__('os').abort()", [2, 3, 4], 24),
    "imaginary unit": ("5*i*i", [5], -5),
    "imaginary literal": ("5j*5j", [5, 5], -25),
    "name": ("target", [1], 1),
    "attribute": ("(24).real", [24], 24),
    "method": ("(24).__abs__()", [24], 24),
    "absolute bars": ("|3-27|", [3, 27], 24),
    "conditional": ("24 if 1 else 1", [24, 1, 1], 24),
    "lambda": ("(lambda:24)()", [24], 24),
    "list": ("[24][0]", [24, 0], 24),
    "bit operators": ("16|8", [16, 8], 24),
    "shift": ("3<<3", [3, 3], 24),
    "walrus": ("(x:=24)", [24], 24),
    "comparison": ("24==24", [24, 24], 1),
    "and": ("3 and 24", [3, 24], 24),
    "string": ("'24'", [24], 24),
    "comment": ("24#+3", [24, 3], 24),
    "comment of C": ("24/*3*/", [24, 3], 24),
    "comment of C to the end": ("24//3", [24, 3], 24),
    "comment of SQL": ("24--3", [24, 3], 27),
    "line continuation": ("24+\\\n3", [24, 3], 27),
    "two statements": ("24;3", [24, 3], 24),
    "two lines": ("24\n3", [24, 3], 24),
    "two answers": ("2*12 or 4*6", [2, 12, 4, 6], 24),
    "two answers in commas": ("24,3", [24, 3], 24),
    "tuple": ("(24,)", [24], 24),
    "unary minus": ("-3+27", [3, 27], 24),
    "unary plus": ("+24", [24], 24),
    "unary minus inside": ("27+(-3)", [3, 27], 24),
    "unary minus after an operator": ("3*-8", [3, 8], -24),
    "double minus": ("21--3", [3, 21], 24),
    "plus minus": ("27+-3", [3, 27], 24),
    "tilde": ("~24", [24], -25),
    "implied multiplication": ("2(12)", [2, 12], 24),
    "implied multiplication of groups": ("(2)(12)", [2, 12], 24),
    "implied multiplication after": ("(12)2", [2, 12], 24),
    "digits joined by a space": ("2 4", [2, 4], 24),
    "digits joined by a line": ("2\n4", [2, 4], 24),
    "digits joined": ("24", [2, 4], 24),
    "number split": ("2*1+2", [2, 12], 4),
    "trailing operator": ("24+", [24], 24),
    "leading operator": ("*24", [24], 24),
    "two operators": ("3+*8", [3, 8], 24),
    "only an operator": ("+", [1], 1),
    "open bracket": ("(24", [24], 24),
    "closing bracket": ("24)", [24], 24),
    "brackets the wrong way": (")24(", [24], 24),
    "empty brackets": ("()24", [24], 24),
    "empty brackets after": ("24()", [24], 24),
    "square brackets": ("[3+5]*3", [3, 5, 3], 24),
    "braces": ("{3+5}*3", [3, 5, 3], 24),
    "empty": ("", [24], 24),
    "blank": (" \n\t", [24], 24),
    "number left out": ("3*8", [3, 8, 1], 24),
    "number used twice": ("3*8*1*1", [3, 8, 1], 24),
    "number of its own": ("12*2", [3, 8], 24),
    "the target itself": ("24", [3, 8], 24),
    "claim only": ("=24", [24], 24),
    "claim of something else": ("3+8=24", [3, 8], 24),
    "wrong claim after a right answer": ("3*8=25", [3, 8], 24),
    "numbers smuggled into the claim": ("3=8*3", [3, 8, 3], 3),
    "solution after the claim": ("24=3*8", [3, 8], 24),
    "claimed twice": ("3*8=24=24", [3, 8], 24),
    "claim without a value": ("3*8=", [3, 8], 24),
    "claim of joined digits": ("3*8=2 4", [3, 8], 24),
    "claim with a leading zero": ("3*8=024", [3, 8], 24),
    "claim as a decimal": ("3*8=24.0", [3, 8], 24),
    "claim as an expression": ("3*8=20+4", [3, 8], 24),
    "claim in brackets": ("3*8=(24)", [3, 8], 24),
    "double equals": ("3*8==24", [3, 8], 24),
    "equation inside brackets": ("(3*8=24)", [3, 8], 24),
    "almost equal": ("3*8≈24", [3, 8], 24),
    "division by zero": ("24/(3-3)", [24, 3, 3], 24),
    "division by a literal zero": ("24/0", [24, 0], 24),
    "zero by zero": ("0/0", [0, 0], 0),
    "division by a zero that is divided": ("24/(0/3)", [24, 0, 3], 24),
    "rounded": ("100/3", [100, 3], 33),
    "right as a float only": ("49*(1/49)+9007199254740993", [49, 1, 49, 9007199254740993], 9007199254740993),
    "nearly an integer": ("999999999999/999999999998", [999999999999, 999999999998], 1),
    "huge integer": ("9" * 4000, [9], 9),
    "huge product": ("*".join(["999999999999"] * 300), [999999999999], 1),
    "nested brackets": ("(" * 10**4 + "24" + ")" * 10**4, [24], 24),
    "nested brackets never closed": ("(" * 10**4, [24], 24),
    "as many brackets as are read, unclosed": ("(" * 4000 + "24", [24], 24),
    "a megabyte of digits": ("1" * 10**6, [1], 1),
    "a megabyte of space around an answer": (" " * 10**6 + "24", [24], 24),
    "a megabyte of terms": ("1+" * 500_000 + "1", [1], 1),
    "words": ("the answer is 24", [24], 24),
    "markdown": ("**24**", [24], 24),
    "LaTeX": (r"\frac{48}{2}", [48, 2], 24),
    "LaTeX sign": (r"3 \times 8", [3, 8], 24),
    "dollars": ("$24$", [24], 24),
    "letter x": ("3x8", [3, 8], 24),
    "full stop": ("3*8.", [3, 8], 24),
    "full-width digits": ("３*８", [3, 8], 24),
    "full-width plus": ("21＋3", [21, 3], 24),
    "full-width brackets": ("（24）", [24], 24),
    "full-width equals": ("24＝24", [24], 24),
    "superscript digits": ("²+3", [2, 3], 5),
    "circled digits": ("②+3", [2, 3], 5),
    "Arabic-Indic digits": ("٣*٨", [3, 8], 24),
    "Devanagari digits": ("३*८", [3, 8], 24),
    "mathematical digits": ("𝟑*𝟖", [3, 8], 24),
    "roman numeral": ("Ⅷ*3", [8, 3], 24),
    "fraction character": ("½*48", [1, 2, 48], 24),
    "fraction slash": ("48⁄2", [48, 2], 24),
    "en dash": ("27–3", [27, 3], 24),
    "asterisk above": ("3٭8", [3, 8], 24),
    "zero-width space": ("3*\u200b8", [3, 8], 24),
    "zero-width joiner between digits": ("2\u200d4", [24], 24),
    "right to left": ("\u202e3*8", [3, 8], 24),
    "byte order mark": ("\ufeff3*8", [3, 8], 24),
    "no-break space": ("3\u00a0*\u00a08", [3, 8], 24),
    "line separator": ("3*\u20288", [3, 8], 24),
    "form feed": ("3*\f8", [3, 8], 24),
    "NUL": ("3*8\0", [3, 8], 24),
    "NUL inside": ("3\0*8", [3, 8], 24),
    "combining mark": ("3*8\u0301", [3, 8], 24),
    "lone surrogate": ("3*8\ud800", [3, 8], 24),
    "escape": ("3*8\x1b[0m", [3, 8], 24),
    "tag in a bare answer": ("<answer>3*8</answer>", [3, 8], 24),
}


@pytest.mark.parametrize(("answer", "nums", "target"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_wrong_for_a_reason_and_in_time(answer, nums, target):
    verdict = in_time(verify, answer, nums, target)
    assert verdict.correct is False and verdict.canonical is None
    assert verdict.reason not in ("", "correct")
    in_time(countdown_format, [answer])


@pytest.mark.parametrize(
    "answer",
    [None, b"3*8", 24, 24.0, True, ["3*8"], ("3", "*", "8"), {"answer": "3*8"}, object(), np.str_, float("nan")],
)
def test_an_answer_that_is_not_text_is_wrong_and_no_exception(answer):
    assert not verify(answer, [3, 8], 24).correct
    assert "not text" in verify_completion(answer, [3, 8], 24, tagged=True).reason
    assert "not text" in verify_completion(answer, [3, 8], 24, tagged=False).reason


@pytest.mark.parametrize(
    "text",
    [
        "+".join("1" * 2048),
        "*".join(["999999999999"] * 315),
        "+".join(["1/999999999999"] * 270),
        "1*(1+(" * 500 + "1" + "))" * 500,
        "1/(" * 1000 + "1" + ")" * 1000,
        "(" * 2000 + "1" + ")" * 2000,
    ],
    ids=["long sum", "huge product", "huge denominator", "alternating", "nested division", "nested brackets"],
)
def test_the_longest_readable_expressions_are_read_in_time(text):
    numbers = list(numbers_in(text).elements())
    assert not in_time(verify, text, numbers, -1).correct
    assert in_time(countdown_format, [text]) == [1.0]


def test_a_reason_tells_the_mistakes_apart():
    reasons = {
        "24": "does not use every number",
        "3+8": "equals 11, not 24",
        "3/8": "equals 3/8, not 24",
        "3*8=25": "what follows '='",
        "3*x": "unexpected character 'x'",
        "3*8*": "ends where a number should follow",
        "3 8": "an operator or ')' should stand where '8' stands",
        "(3*8": "'(' without ')'",
        "3*8)": "')' without '('",
        "03*8": "leading zero",
        "3*" + "8" * 13: "13 digits",
        " " * 5000: "too long: 5000 characters, at most 4096",
    }
    for answer, reason in reasons.items():
        assert reason in verify(answer, [3, 8], 24).reason
    assert verify("0/0", [0, 0], 24).reason == "division by zero"
    assert verify(" ", [3, 8], 24).correct is False


@pytest.mark.parametrize(
    ("nums", "target"),
    [
        ([], 1),
        ([1.0], 1),
        (["1"], 1),
        ([True], 1),
        ([None], 1),
        ([-1], 1),
        ([1], 1.0),
        ([1], "1"),
        ([1], None),
        ("12", 3),
    ],
)
def test_a_bad_data_row_is_an_error_and_not_a_wrong_answer(nums, target):
    with pytest.raises(ValueError, match=r"non-empty list of non-negative integers .* Check the data row"):
        verify("1", nums, target)


# --- the verifier: what must be paid ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "3*8",
        "8*3",
        " 3 * 8 ",
        "3\n*\r\n8\n",
        "\t3*8",
        "((3)*(8))",
        "(3*8)",
        "3×8",
        "3∗8",
        "3·8",
        "3⋅8",
        "3*8=24",
        "3 * 8 = 24",
        "(3*8)\n=\n24\n",
    ],
)
def test_every_spelling_accepted_on_purpose_is_paid(answer):
    assert verify(answer, [3, 8], 24) == (True, "correct", "3*8")


@pytest.mark.parametrize(
    ("answer", "nums", "target"),
    [
        ("48÷2", [48, 2], 24),
        ("27−3", [27, 3], 24),
        ("8/(3-8/3)", [3, 3, 8, 8], 24),  # needs exact fractions
        ("(5-1/5)*5", [1, 5, 5, 5], 24),
        ("3-8", [3, 8], -5),
        ("3-8=-5", [3, 8], -5),
        ("3-8=−5", [3, 8], -5),
        ("1/(3-4)*5", [1, 3, 4, 5], -5),  # a negative denominator on the way
        ("0*5", [0, 5], 0),
        ("7", [7], 7),
        ("999999999999-999999999998", [999999999999, 999999999998], 1),
        ("3*8", np.array([8, 3]), np.int64(24)),
        ("3*8=24", np.array([8, 3], dtype=np.int32), np.int32(24)),
        ("3*8", (8, 3), 24),
    ],
)
def test_a_right_answer_is_paid(answer, nums, target):
    assert verify(answer, nums, target).correct


def test_random_valid_expressions_are_paid_exactly_when_python_agrees():
    rng = random.Random(0)
    paid = 0
    for _ in range(2500):
        text, value = random_expression(rng)
        nums = list(numbers_in(text).elements())
        rng.shuffle(nums)
        target = int(value) if rng.random() < 0.9 else int(value) + 1
        if rng.random() < 0.3:
            text += f" = {target}"
        expected = is_solution(text, nums, target)
        assert expected == (value == target)  # Python and the builder of the text agree
        assert in_time(verify, text, nums, target).correct == expected, text
        paid += expected
    assert paid > 500  # else the test would say little about right answers


def test_one_edit_of_a_right_answer_is_paid_exactly_when_python_agrees():
    rng = random.Random(1)
    alphabet = "0123456789+-*/()= .\n\teE_x!^%,;#'×÷−·３²\u200b\0\ud800\ufeff"
    paid = 0
    for _ in range(5000):
        text, value = random_expression(rng, largest=4)
        nums, target = list(numbers_in(text).elements()), int(value)
        at = rng.randrange(len(text))
        new = rng.choice(["", text[at] * 2, rng.choice(alphabet), rng.choice(alphabet) + text[at]])
        edited = text[:at] + new + text[at + 1 :]
        verdict = in_time(verify, edited, nums, target)
        assert verdict.correct == is_solution(edited, nums, target), repr(edited)
        assert countdown_format([edited])[0] >= verdict.correct
        paid += verdict.correct
    assert paid > 300


def test_random_text_is_never_paid_wrongly_and_never_raises():
    rng = random.Random(2)
    makers = [
        lambda size: rng.randbytes(size).decode("latin-1"),
        lambda size: "".join(chr(rng.randrange(0x110000)) for _ in range(size)),
        lambda size: "".join(rng.choices("0123456789+-*/()= ", k=size)),
        lambda size: "".join(rng.choices(["3", "8", "+", "-", "*", "/", "(", ")", "=", "24", " "], k=size)),
    ]
    for i in range(4000):
        text = makers[i % 4](rng.randint(1, 9 if i % 4 == 3 else 60))
        assert in_time(verify, text, [3, 8], 24).correct == is_solution(text, [3, 8], 24), repr(text)
        for tagged in (True, False):
            verify_completion(text, [3, 8], 24, tagged=tagged)
        countdown_format([text, [{"role": "assistant", "content": text}]])


# --- the tags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "completion",
    [
        "<think>3 and 8</think><answer>3*8</answer>",
        "<think>3+8? no</think>\nSo:\n<answer>\n3*8\n= 24\n</answer>\n ",
        "<answer>3*8</answer>",
        "thought without its opening tag</think><answer>3*8</answer>",
        "<think>is <answer>3+8</answer> right?</think><answer>3*8</answer>",  # thinking is no answer
        "<think>a</think>b</think><answer>3*8</answer>",
    ],
)
def test_one_tagged_answer_at_the_end_is_paid(completion):
    assert verify_completion(completion, [3, 8], 24, tagged=True).correct


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("3*8", "0 <answer> and 0 </answer> tags"),
        ("", "0 <answer>"),
        ("<answer>3*8", "1 <answer> and 0 </answer>"),
        ("3*8</answer>", "0 <answer> and 1"),
        ("</answer>3*8<answer>", "</answer> before <answer>"),
        ("<answer>3*8</answer> and that is it", "text after </answer>"),
        ("<answer>3*8</answer><answer>3+8</answer>", "2 <answer> and 2"),
        ("<answer>3+8</answer><answer>3*8</answer>", "2 <answer> and 2"),
        ("<answer><answer>3*8</answer></answer>", "2 <answer> and 2"),
        ("<answer>3+8<answer>3*8</answer>", "2 <answer> and 1"),
        ("<think><answer>3*8</answer></think>", "0 <answer>"),
        ("<answer>3*8</think></answer>", "0 <answer> and 1"),
        ("<ANSWER>3*8</ANSWER>", "0 <answer>"),
        ("< answer >3*8</ answer >", "0 <answer>"),
        ("<answer></answer>", "does not use every number"),
        ("<answer>3*8, 3+8</answer>", "unexpected character"),
        ("<answer>" * 100_000, "100000 <answer> and 0"),
        ("<think>" * 100_000 + "</think>" * 100_000, "0 <answer>"),
    ],
)
def test_a_completion_without_exactly_one_final_answer_is_wrong(completion, reason):
    verdict = in_time(verify_completion, completion, [3, 8], 24, tagged=True)
    assert not verdict.correct and reason in verdict.reason


def test_without_tags_the_whole_completion_is_the_answer():
    assert verify_completion(" 3*8\n", [3, 8], 24, tagged=False).correct
    assert not verify_completion("<answer>3*8</answer>", [3, 8], 24, tagged=False).correct
    assert not verify_completion("so 3*8", [3, 8], 24, tagged=False).correct


# --- the same answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1+2", "2+1"),
        ("2*3", "3*2"),
        ("(1+2)+3", "1+(2+3)"),
        ("(2*3)*4", "4*(3*2)"),
        ("1-(2-3)", "1-2+3"),
        ("1-(2-3)", "3+1-2"),
        ("8/(2/4)", "8*4/2"),
        ("8/2/4", "8/(4*2)"),
        ("((1))+(2)", "2+1"),
        ("2*(1+3)", "(3+1)*2"),
        ("1-(2+3*4)", "1-4*3-2"),
        ("3 × 8", "8*3"),
        ("9-(8-(7-(6-5)))", "9-8+7-6+5"),
        ("2/(3/(4/(5/6)))", "2*4*6/(5*3)"),
        ("(1+2)*(3+4)", "(4+3)*(2+1)"),
    ],
)
def test_spellings_of_one_answer_are_one(one, other):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2*2", "2+2"),
        ("5*1", "5/1"),
        ("5-0", "5+0"),
        ("(1-2)*(3-4)", "(2-1)*(4-3)"),
        ("2*(3+4)", "2*3+2*4"),
        ("1-2", "2-1"),
        ("1/2", "2/1"),
        ("1+2*3", "(1+2)*3"),
        ("12-3", "1+2*3"),
        ("1+12", "11+2"),
        ("6-3-1", "6-3+1"),
        ("4*6/2", "4*2*6"),
        ("(1+2)/3", "1+2/3"),
    ],
)
def test_different_answers_stay_different(one, other):
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize("nums", [(2, 3, 5, 7), (2, 2, 3, 5), (0, 1, 1, 4)])
def test_canonical_draws_the_line_exactly_where_the_rule_says(nums):
    classes = {(canonical(text), meaning(parsed(text))) for text in all_trees(nums)}
    assert len(classes) == len({text for text, _ in classes}) == len({meant for _, meant in classes})


def test_canonical_and_shuffled_preserve_the_answer_its_value_and_its_numbers():
    rng = random.Random(3)
    moved = 0
    for _ in range(1500):
        text, value = random_expression(rng)
        normal, other = canonical(text), shuffled(text, rng)
        assert canonical(normal) == normal == canonical(other)
        for spelling in (normal, other):
            assert value_of(parsed(spelling)) == value
            assert numbers_in(spelling) == numbers_in(text)
            assert meaning(parsed(spelling)) == meaning(parsed(text))
        moved += other != normal
    assert moved > 500


def test_shuffled_reaches_every_order_and_repeats_with_its_seed():
    rng = random.Random(4)
    assert {shuffled("1+2-3", rng) for _ in range(200)} == {"1+2-3", "1-3+2", "2+1-3", "2-3+1"}
    assert shuffled("1+2*(3-4)", random.Random(5)) == shuffled("1+2*(3-4)", random.Random(5))


@pytest.mark.parametrize("text", ["", "1+", "x", "1/0", "1=1", "\ud800", "9" * 5000])
def test_canonical_of_what_is_no_expression_is_an_error(text):
    with pytest.raises(ValueError, match="is not a Countdown expression"):
        canonical(text)


# --- the solver ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nums",
    [
        (5,),
        (0,),
        (2, 3),
        (3, 3),
        (0, 4),
        (0, 0),
        (1, 2, 3),
        (2, 2, 5),
        (0, 3, 3),
        (0, 0, 1),
        (2, 3, 7, 8),
        (1, 1, 5, 8),
        (4, 4, 4, 4),
        (0, 1, 2, 3),
    ],
    ids=str,
)
def test_the_solver_lists_what_enumerating_every_tree_finds(nums):
    found = {}
    for text, value in all_trees(nums).items():
        if value.denominator == 1:
            found.setdefault(int(value), set()).add(canonical(text))
    assert solutions_by_target(nums) == {target: tuple(sorted(texts)) for target, texts in found.items()}
    for target in (*list(found)[::7], 10**6):
        assert solve(nums[::-1], target) == solutions_by_target(nums).get(target, ())  # the order of nums means nothing


def test_the_solver_knows_the_famous_ones():
    assert solve([3, 3, 8, 8], 24) == ("8/(3-8/3)",)
    assert solve([1, 1, 1, 1], 24) == ()
    assert solve(np.array([5, 5, 5, 1]), np.int64(24)) == ("5*(5-1/5)",)


def test_six_numbers_are_solved_and_every_solution_verifies():
    nums = (1, 2, 3, 4, 5, 6)
    found = solve(nums, 100)
    assert len(found) > 100 and list(found) == sorted(set(found))
    for text in found:
        assert verify(text, nums, 100) == (True, "correct", text)


@pytest.mark.parametrize("nums", [[], list(range(7))])
def test_the_solver_refuses_a_size_it_was_not_made_for(nums):
    with pytest.raises(ValueError, match="1 to 6 numbers"):
        solve(nums, 24)


def test_the_solver_checks_its_data():
    with pytest.raises(ValueError, match="Check the data row"):
        solve([2, -3], 24)


# --- problems -----------------------------------------------------------------------------------------------

SMALL = {"numbers": 3, "max_number": 8}


def test_generation_repeats_with_its_seed_on_every_machine():
    problems = generate(3, split="train", seed=7)
    assert problems == generate(3, split="train", seed=7)
    assert problems == generate(30, split="train", seed=7)[:3]
    assert problems != generate(3, split="train", seed=8)
    assert [problem.id for problem in problems] == ["1,3,5,9=57", "2,3,5,7=29", "3,6,7,9=8"]


def test_splits_never_share_a_problem_whatever_the_seed_and_size():
    found = {split: set() for split in ("train", "dev", "test")}
    for split, problems in found.items():
        for seed, count in ((0, 5), (1, 60), (2, 120)):
            batch = generate(count, split=split, seed=seed, **SMALL)
            assert len(set(batch)) == count
            problems.update(batch)
        assert all(split_of(problem) == split for problem in problems)
    assert sum(map(len, found.values())) == len(set().union(*found.values()))


def test_the_order_of_the_numbers_moves_no_problem_to_another_split():
    for nums in permutations((2, 3, 7, 8)):
        assert Problem(nums, 24).id == "2,3,7,8=24"
        assert split_of(Problem(nums, 24)) == split_of(Problem((2, 3, 7, 8), 24))
    for problem in generate(50, split="train", seed=0, **SMALL):
        assert list(problem.nums) == sorted(problem.nums)


def test_splits_hold_their_shares():
    problems = [Problem(nums, target) for nums in product(range(1, 11), repeat=3) for target in range(1, 21)]
    shares = Counter(split_of(p) for p in problems if list(p.nums) == sorted(p.nums))
    total = sum(shares.values())
    assert shares["train"] / total == pytest.approx(0.8, abs=0.02)
    assert shares["dev"] / total == pytest.approx(0.1, abs=0.02)


def test_problems_respect_every_bound():
    for problem in generate(30, split="train", seed=0, **SMALL, targets=(10, 20), solutions=(2, 4)):
        assert len(problem.nums) == 3 and all(1 <= n <= 8 for n in problem.nums)
        assert 10 <= problem.target <= 20
        assert 2 <= len(solve(*problem)) <= 4
    multiplicities = {len(solve(*p)) for p in generate(60, split="train", seed=0, **SMALL)}
    assert min(multiplicities) == 1 and max(multiplicities) > 4  # so the bounds above did something


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 0}, "count >= 1"),
        ({"numbers": 0}, "1 <= numbers <= 6"),
        ({"numbers": 7}, "1 <= numbers <= 6"),
        ({"max_number": 0}, "max_number >= 1"),
        ({"targets": (5, 4)}, r"targets\[0\] <= targets\[1\]"),
        ({"solutions": (0, 4)}, r"1 <= solutions\[0\]"),
        ({"solutions": (5, 4)}, r"solutions\[0\] <= solutions\[1\]"),
        ({"split": "validation"}, "train, dev or test; got .*'validation'"),
        (
            {"count": 50, "numbers": 1, "max_number": 3},
            "Only [0-3] Countdown problems of the train split .* Ask for fewer",
        ),
    ],
)
def test_generation_says_which_argument_makes_no_sense(changed, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"count": 5, "split": "train", "seed": 0, **changed})


@pytest.mark.parametrize("problem", [Problem((2, 3, 7, 8), 24), Problem((0,), 0), Problem((1, 1), -5)])
def test_a_problem_comes_back_from_its_id(problem):
    assert Problem.from_id(problem.id) == problem


def test_an_id_in_another_order_is_the_same_problem():
    assert Problem.from_id("8,3,2,7=24") == Problem((2, 3, 7, 8), 24)


@pytest.mark.parametrize(
    "text", ["", "2,3", "=24", "2,3=", "2,3=24=24", "2, 3=24", "-2,3=24", "2,3=24\n", "２=2", "a=b"]
)
def test_what_is_no_id_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as '2,3,7,8=24'"):
        Problem.from_id(text)


def test_the_prompts_hold_the_problem_and_the_chat_form_keeps_its_own_contract():
    problem = Problem((2, 3, 7, 8), 24)
    assert prompt(problem) == "2 3 7 8 = 24 :"
    (message,) = prompt(problem, chat=True)
    assert message["role"] == "user"
    assert "24" in message["content"] and "2, 3, 7, 8" in message["content"]
    example = re.search("for example (<answer>.*</answer>)", message["content"])[1]
    assert verify_completion(example, [1, 2, 3], 1, tagged=True).correct


# --- rewards ------------------------------------------------------------------------------------------------


def chat(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("completion", "correct", "readable"),
    [
        ("3*8", 1.0, 1.0),
        ("3*8 = 24", 1.0, 1.0),
        ("3+8", 0.0, 1.0),
        ("3*8 = 25", 0.0, 1.0),
        ("3*8 = -24", 0.0, 1.0),
        ("3*8 = 2 4", 0.0, 0.0),
        ("3*8 =", 0.0, 0.0),
        ("3*8 = 24 = 24", 0.0, 0.0),
        ("1/0", 0.0, 0.0),
        ("3*8 or so", 0.0, 0.0),
        ("<answer>3*8</answer>", 0.0, 0.0),
        (chat("<think>hm</think><answer>3*8</answer>"), 1.0, 1.0),
        (chat("<answer>3+8</answer>"), 0.0, 1.0),
        (chat("<answer>3*8 = 24</answer>"), 1.0, 1.0),
        (chat("<answer>no idea</answer>"), 0.0, 0.0),
        (chat("3*8"), 0.0, 0.0),
        (chat("<answer>3*8</answer>") + chat("sorry"), 0.0, 0.0),
        (chat(None), 0.0, 0.0),
        (chat([{"type": "text", "text": "<answer>3*8</answer>"}]), 1.0, 1.0),
        (chat([{"type": "image"}]), 0.0, 0.0),
        ([{"role": "assistant", "tool_calls": []}], 0.0, 0.0),
        ([], 0.0, 0.0),
        (None, 0.0, 0.0),
    ],
)
def test_a_reward_reads_a_completion_and_a_readable_one_is_not_a_correct_one(completion, correct, readable):
    assert countdown_correct([completion], nums=[[3, 8]], target=[24]) == [correct]
    assert countdown_format([completion]) == [readable]


def test_rewards_take_the_columns_that_trl_hands_over():
    columns = {
        "prompts": ["p", "q"],
        "completions": ["3*8", "3*8"],
        "completion_ids": [[1], [2]],
        "nums": [[3, 8], [3, 9]],
        "target": [24, 24],
        "trainer_state": None,
    }
    assert countdown_correct(**columns) == [1.0, 0.0]
    assert countdown_format(**columns) == [1.0, 1.0]
    with pytest.raises(ValueError):
        countdown_correct(["3*8", "3*8"], nums=[[3, 8]], target=[24])


def test_a_prompt_is_read_back():
    for problem in [*generate(20, split="train", seed=5), Problem((0, 3), -3), Problem((7,), 7)]:
        assert read_prompt(prompt(problem)) == (problem, False)
        (message,) = prompt(problem, chat=True)
        assert read_prompt(message["content"]) == (problem, True)
        assert read_prompt(f"<|user|>{message['content']}<|end|>\n<|assistant|>") == (problem, True)
        assert read_prompt(message["content"] * 2) is None  # which of the two?
        assert read_prompt(message["content"].replace("parentheses", "brackets")) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2 3 = 6",
        "2 3 = 6 : 7",
        "02 3 = 6 :",
        "2  3 = 6 :",
        "2,3 = 6 :",
        "2 3 = 06 :",
        "a 2 3 = 6 :",
        "2 3 = 6 :\n2 3 = 5 :",
        "1 " * 10**5 + "= 3 :",
        "٢ ٣ = 6 :",
    ],
)
def test_other_texts_are_not_taken_for_a_prompt(text):
    assert read_prompt(text) is None
