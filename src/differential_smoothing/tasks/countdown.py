"""Countdown: combine the given numbers, each exactly once, with + - * / and parentheses to reach a target.

The task of the paper with the highest *solution multiplicity*: most problems have several correct answers that differ
in more than spelling, so one can see a policy keep or lose its variety. This module holds the whole task:

* ``generate``     seeded problems; train, dev and test never share a problem, whatever the seed
* ``solve``        every canonical solution of a problem, in exact arithmetic
* ``verify``       is this text a solution? Model output is hostile input: nothing is evaluated, nothing raises
* ``canonical``    what makes two correct answers *the same* answer
* ``prompt``       the compact form for tiny models, the chat form for language models; ``read_prompt`` reads it back

**The language.** ``sum := product (('+'|'-') product)*``, ``product := atom (('*'|'/') atom)*``,
``atom := integer | '(' sum ')'``. An integer is ASCII digits without a leading zero. There are no unary signs and no
implied multiplication. Accepted on purpose, because they are right answers that a strict reader would refuse: white
space and new lines between tokens, redundant parentheses, the signs × ∗ · ⋅ ÷ − for * / -, and one trailing
``= target``. Everything else is wrong, with a reason. Division is exact, on rationals.

**The same answer.** ``canonical`` reads a sum as a multiset of signed terms and a product as a multiset of factors and
divisors, so commutation, association (``a-(b-c)`` is ``a-b+c``, ``a/(b/c)`` is ``a*c/b``) and redundant parentheses do
not make a new solution. Nothing is computed away: ``2*2`` and ``2+2``, ``a*1`` and ``a/1``, ``(a-b)*(c-d)`` and
``(b-a)*(d-c)`` are different solutions.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = [
    "Problem",
    "Verdict",
    "canonical",
    "count_solutions",
    "countdown_canonical",
    "countdown_correct",
    "countdown_format",
    "generate",
    "prompt",
    "read_problems",
    "read_prompt",
    "shuffled",
    "solutions_by_target",
    "solve",
    "split_of",
    "verify",
    "verify_completion",
]

MAX_CHARACTERS = 4096  # an honest answer to six numbers is under 40; longer ones are refused unread
Split = Literal["train", "dev", "test"]


class Problem(NamedTuple):
    """``nums`` in ascending order (order carries no meaning) and the integer ``target``."""

    nums: tuple[int, ...]
    target: int

    @property
    def id(self) -> str:
        """The problem as text, ``"2,3,7,8=24"``: the ``prompt_id`` of every rollouts table. The same in any order."""
        return f"{','.join(map(str, sorted(self.nums)))}={self.target}"

    @classmethod
    def from_id(cls, problem_id: str) -> Problem:
        """Read an ``id`` back. ValueError if the text is not one."""
        if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*=-?[0-9]{1,9}", problem_id):
            raise ValueError(
                f"{problem_id[:80]!r} is not the id of a Countdown problem. Expected the numbers, separated by commas, "
                f"'=' and the target, such as '2,3,7,8=24'."
            )
        nums, target = problem_id.split("=")
        return cls(tuple(sorted(map(int, nums.split(",")))), int(target))


class Verdict(NamedTuple):
    """``correct``; the ``reason`` in plain words; the ``canonical`` form, None unless correct."""

    correct: bool
    reason: str
    canonical: str | None


# --- reading an expression ------------------------------------------------------------------------------------------

_SIGNS = str.maketrans({"×": "*", "∗": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-"})
_TOKEN = re.compile(r"[0-9]+|[-+*/()=]|[ \t\r\n]+")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


class _Unreadable(Exception):
    """Not an expression of the language; the message is the reason a Verdict gives."""


def _tokens(text: str) -> list[str]:
    if len(text) > MAX_CHARACTERS:
        raise _Unreadable(f"too long: {len(text)} characters, at most {MAX_CHARACTERS} are read")
    tokens, position = [], 0
    text = text.translate(_SIGNS)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _Unreadable(f"unexpected character {text[position]!r}")
        token, position = match.group(), match.end()
        if token.isspace():
            continue
        if token[0] == "0" and len(token) > 1:
            raise _Unreadable("an integer with a leading zero")
        if len(token) > 12:
            raise _Unreadable(f"an integer of {len(token)} digits")
        tokens.append(token)
    return tokens


class _Node(NamedTuple):
    """A parsed expression in normal form: its value ``numerator / denominator`` and its operands, already written.

    ``kind`` is '+' (``up`` are the added, ``down`` the subtracted terms), '*' (factors and divisors) or '' (a number).
    """

    kind: str
    up: tuple[str, ...]
    down: tuple[str, ...]
    numerator: int
    denominator: int


Order = Callable[[str, Sequence[str], Sequence[str]], str]


def _sorted_order(kind: str, up: Sequence[str], down: Sequence[str]) -> str:
    """Write an operand list in the one canonical order: shorter first, then alphabetical."""
    inverse = "-" if kind == "+" else "/"
    ups, downs = (sorted(part, key=lambda s: (len(s), s)) for part in (up, down))
    return kind.join(ups) + "".join(inverse + s for s in downs)


def _operands(node: _Node, kind: str, order: Order) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The operand lists of ``node`` inside a sum or product: its own if it is one itself, else itself as one operand."""
    if node.kind == kind:
        return node.up, node.down
    text = _written(node, order)
    return (f"({text})" if kind == "*" and node.kind == "+" else text,), ()


def _written(node: _Node, order: Order) -> str:
    return order(node.kind, node.up, node.down) if node.kind else node.up[0]


def _combine(operator: str, a: _Node, b: _Node, order: Order) -> _Node:
    kind = "+" if operator in "+-" else "*"
    (up, down), (b_up, b_down) = _operands(a, kind, order), _operands(b, kind, order)
    if operator in "-/":
        b_up, b_down = b_down, b_up
    if operator in "+-":
        sign = 1 if operator == "+" else -1
        numerator = a.numerator * b.denominator + sign * b.numerator * a.denominator
        denominator = a.denominator * b.denominator
    elif operator == "*":
        numerator, denominator = a.numerator * b.numerator, a.denominator * b.denominator
    else:
        if b.numerator == 0:
            raise _Unreadable("division by zero")
        numerator, denominator = a.numerator * b.denominator, a.denominator * b.numerator
    return _Node(kind, up + b_up, down + b_down, numerator, denominator)


def _parse(tokens: Sequence[str], order: Order = _sorted_order) -> _Node:
    """Operator-precedence parsing on two explicit stacks: deep nesting costs memory in proportion, never the C stack."""
    operators: list[str] = []
    nodes: list[_Node] = []

    def reduce() -> None:
        b, a = nodes.pop(), nodes.pop()
        nodes.append(_combine(operators.pop(), a, b, order))

    expect_atom = True
    for token in tokens:
        if expect_atom:
            if token == "(":
                operators.append(token)
            elif token.isdigit():
                nodes.append(_Node("", (token,), (), int(token), 1))
                expect_atom = False
            else:
                raise _Unreadable(f"a number or '(' should stand where {token!r} stands")
        elif token in _PRECEDENCE:
            while operators and operators[-1] != "(" and _PRECEDENCE[operators[-1]] >= _PRECEDENCE[token]:
                reduce()
            operators.append(token)
            expect_atom = True
        elif token == ")":
            while operators and operators[-1] != "(":
                reduce()
            if not operators:
                raise _Unreadable("')' without '('")
            operators.pop()
        else:
            raise _Unreadable(f"an operator or ')' should stand where {token!r} stands")
    if expect_atom:
        raise _Unreadable("empty" if not tokens else "ends where a number should follow")
    while operators:
        if operators[-1] == "(":
            raise _Unreadable("'(' without ')'")
        reduce()
    return nodes[0]


def canonical(expression: str) -> str:
    """The normal form of an expression; equal for two expressions exactly when they count as the same answer.

    See the module's docstring for the rule. Idempotent. ValueError if the text is not an expression.
    """
    try:
        return _written(_parse(_tokens(expression)), _sorted_order)
    except _Unreadable as error:
        raise ValueError(f"{expression[:80]!r} is not a Countdown expression: {error}.") from None


def shuffled(expression: str, rng: random.Random) -> str:
    """The same answer in a random spelling: operands of every sum and product in random order."""

    def order(kind: str, up: Sequence[str], down: Sequence[str]) -> str:
        first = rng.randrange(len(up))  # there are no unary signs, so an added term or a factor must lead
        inverse = "-" if kind == "+" else "/"
        rest = [kind + s for i, s in enumerate(up) if i != first] + [inverse + s for s in down]
        rng.shuffle(rest)
        return up[first] + "".join(rest)

    return _written(_parse(_tokens(expression), order), order)


# --- the verifier ---------------------------------------------------------------------------------------------------


def verify(answer: str, nums: Sequence[int], target: int) -> Verdict:
    """Is ``answer`` an expression that uses every number of ``nums`` exactly once and equals ``target``?

    ``answer`` is hostile: any text (or any object at all) gets a Verdict in bounded time and memory, never an
    exception. ``nums`` and ``target`` are data: ValueError when they are not non-negative integers and an integer.
    """
    listed = isinstance(nums, Iterable) and isinstance(nums, Sized) and len(nums) > 0
    if not listed or not all(_is_int(n) and n >= 0 for n in nums) or not _is_int(target):
        raise ValueError(
            f"A Countdown problem needs a non-empty list of non-negative integers and an integer target; "
            f"got nums={nums!r:.80} and target={target!r:.80}. Check the data row."
        )
    if not isinstance(answer, str):
        return Verdict(False, f"not text but {type(answer).__name__}", None)
    try:
        tokens, claimed = _claim(_tokens(answer))
        # `... = 24` is a habit of models, not a claim we pay for: the left side is what is checked
        if claimed is not None and claimed != _tokens(str(int(target))):
            return Verdict(False, "what follows '=' is not the target alone", None)
        literals = Counter(int(token) for token in tokens if token.isdigit())
        if literals != Counter(int(n) for n in nums):
            return Verdict(False, "does not use every number exactly once", None)
        node = _parse(tokens)
    except _Unreadable as error:
        return Verdict(False, str(error), None)
    if node.numerator != int(target) * node.denominator:
        return Verdict(False, f"equals {Fraction(node.numerator, node.denominator)}, not {target}", None)
    return Verdict(True, "correct", _written(node, _sorted_order))


def _claim(tokens: list[str]) -> tuple[list[str], list[str] | None]:
    """Split ``expression = value`` at its first '='; the second part is None without one."""
    if "=" not in tokens:
        return tokens, None
    return tokens[: tokens.index("=")], tokens[tokens.index("=") + 1 :]


def _is_int(value: object) -> bool:
    # numpy integers arrive from parquet and arrow; bool is an int that nobody means
    return hasattr(value, "__index__") and not isinstance(value, bool)


def verify_completion(completion: str, nums: Sequence[int], target: int, *, tagged: bool) -> Verdict:
    """``verify`` the answer inside a completion. ``tagged=False``: the whole completion is the answer (compact form).

    ``tagged=True`` (chat form): after the last ``</think>`` there must be exactly one ``<answer>...</answer>`` with
    nothing but white space after it. Two answers are refused, since a model could hedge.
    """
    try:
        return verify(_answer(completion, tagged), nums, target)
    except _Unreadable as error:
        return Verdict(False, str(error), None)


def _answer(completion: str, tagged: bool) -> str:
    if not tagged or not isinstance(completion, str):
        return completion
    final = completion.rpartition("</think>")[2]
    opened, closed = final.count("<answer>"), final.count("</answer>")
    if (opened, closed) != (1, 1):
        raise _Unreadable(f"{opened} <answer> and {closed} </answer> tags; one pair is expected")
    answer, closing, after = final.partition("<answer>")[2].partition("</answer>")
    if not closing:
        raise _Unreadable("</answer> before <answer>")
    if after.strip():
        raise _Unreadable("text after </answer>")
    return answer


# --- the solver -----------------------------------------------------------------------------------------------------

_Valued = tuple[str, int, int]  # an expression with its value as numerator and denominator (not reduced)


_Operands = tuple[tuple[str, ...], tuple[str, ...], int, int]  # direct and inverted operands, and the value


def _subexpressions(nums: tuple[int, ...]) -> Callable[[int, str], list[_Valued]]:
    """For a subset of positions (a bit mask) and a kind, every canonical expression of that kind over the subset.

    Kinds: '+' sums of two or more terms, '*' products of two or more factors, '' the bare number.
    """

    @lru_cache(maxsize=None)
    def of_kind(mask: int, kind: str) -> list[_Valued]:
        if not kind:
            position = mask.bit_length() - 1
            return [(str(nums[position]), nums[position], 1)] if mask == 1 << position else []
        found: dict[str, _Valued] = {}  # equal numbers reach one expression by several paths
        for up, down, numerator, denominator in several(mask, kind):
            if up:  # there are no unary signs: a sum needs an added term, a product a factor
                text = _sorted_order(kind, up, down)
                found.setdefault(text, (text, numerator, denominator))
        return list(found.values())

    def one(mask: int, kind: str) -> Iterator[_Valued]:
        """All of ``mask`` as a single operand of a sum or product: what is not itself of that kind."""
        yield from of_kind(mask, "")
        if kind == "+":
            yield from of_kind(mask, "*")
        else:
            yield from ((f"({text})", n, d) for text, n, d in of_kind(mask, "+"))

    def several(mask: int, kind: str) -> Iterator[_Operands]:
        """``mask`` as two or more operands; the first holds the lowest position, so that each list comes once."""
        lowest = mask & -mask
        part = (mask - 1) & mask
        while part:
            if part & lowest:
                for text, n, d in one(part, kind):
                    for up, down, m, e in one_or_several(mask ^ part, kind):
                        if kind == "+":
                            yield (text, *up), down, n * e + m * d, d * e
                            yield up, (text, *down), m * d - n * e, d * e
                        else:
                            yield (text, *up), down, n * m, d * e
                            if n:
                                yield up, (text, *down), m * d, e * n
            part = (part - 1) & mask

    @lru_cache(maxsize=None)
    def one_or_several(mask: int, kind: str) -> list[_Operands]:
        lists: list[_Operands] = []
        for text, n, d in one(mask, kind):
            lists.append(((text,), (), n, d))
            if kind == "+":
                lists.append(((), (text,), -n, d))
            elif n:
                lists.append(((), (text,), d, n))
        return lists + list(several(mask, kind))

    return of_kind


def _expressions(nums: tuple[int, ...]) -> Iterator[_Valued]:
    of_kind, full = _subexpressions(nums), (1 << len(nums)) - 1
    for kind in ("", "+", "*"):
        yield from of_kind(full, kind)


def solutions_by_target(nums: tuple[int, ...]) -> dict[int, tuple[str, ...]]:
    """Every integer that ``nums`` (ascending) can reach, with all canonical solutions of each, sorted."""
    return (_listed_often if len(nums) <= 4 else _listed_seldom)(nums)


def _listed(nums: tuple[int, ...]) -> dict[int, tuple[str, ...]]:
    found: dict[int, list[str]] = {}
    for text, numerator, denominator in _expressions(nums):
        if numerator % denominator == 0:
            found.setdefault(numerator // denominator, []).append(text)
    return {target: tuple(sorted(texts)) for target, texts in sorted(found.items())}


# the list of four numbers takes 0.2 MB, of five 6 MB and of six over 100 MB: a thousand of those would fill a machine
_listed_often = lru_cache(maxsize=1024)(_listed)
_listed_seldom = lru_cache(maxsize=4)(_listed)


def solve(nums: Sequence[int], target: int) -> tuple[str, ...]:
    """All canonical solutions, sorted; empty if there is none. Exact. Four numbers take milliseconds, six seconds."""
    if not 1 <= len(nums) <= 6:
        raise ValueError(f"solve lists all solutions for 1 to 6 numbers; got {len(nums)}: {list(nums)[:20]}.")
    verify("", nums, target)  # the same checks on the data
    return solutions_by_target(tuple(sorted(map(int, nums)))).get(int(target), ())


def count_solutions(problem_ids: Iterable[str]) -> dict[str, int]:
    """How many canonical solutions each problem has, by its id: what coverage is measured against."""
    return {i: len(solve(*Problem.from_id(i))) for i in problem_ids}


# --- problems and prompts -------------------------------------------------------------------------------------------


def split_of(problem: Problem) -> Split:
    """Where a problem belongs: 80% train, 10% dev, 10% test, decided by a hash of the problem and nothing else.

    So no seed, size or order of generation can put a problem into train here and into test there.
    """
    share = int.from_bytes(hashlib.sha256(problem.id.encode()).digest()[:8]) / 2**64
    return "train" if share < 0.8 else "dev" if share < 0.9 else "test"


def generate(
    count: int,
    *,
    split: Split,
    seed: int,
    numbers: int = 4,
    max_number: int = 10,
    targets: tuple[int, int] = (1, 100),
    solutions: tuple[int, int] = (1, 10**9),
) -> list[Problem]:
    """``count`` different problems of a split: ``numbers`` draws from 1..``max_number``, a reachable target.

    Args:
        targets: smallest and largest target, both included.
        solutions: floor and ceiling on the number of canonical solutions, both included.

    The numbers are drawn first and the target uniformly among those that qualify. Equal arguments give equal problems
    on every machine. ValueError if an argument makes no sense or there are not ``count`` such problems.
    """
    checks = {
        "count >= 1": count >= 1,
        "1 <= numbers <= 6": 1 <= numbers <= 6,
        "max_number >= 1": max_number >= 1,
        "targets[0] <= targets[1]": targets[0] <= targets[1],
        "1 <= solutions[0] <= solutions[1]": 1 <= solutions[0] <= solutions[1],
        "split is train, dev or test": split in ("train", "dev", "test"),
    }
    for condition, holds in checks.items():
        if not holds:
            raise ValueError(
                f"Countdown generation needs {condition}; got count={count}, numbers={numbers}, "
                f"max_number={max_number}, targets={targets}, solutions={solutions}, split={split!r}."
            )
    rng = random.Random(f"countdown {split} {seed}")
    chosen: dict[Problem, None] = {}
    misses = 0
    while len(chosen) < count:
        nums = tuple(sorted(rng.choices(range(1, max_number + 1), k=numbers)))
        candidates = [p for p in _qualifying(nums, targets, solutions)[split] if p not in chosen]
        if candidates:
            chosen[rng.choice(candidates)] = None
            misses = 0
        elif (misses := misses + 1) > (
            5000 if numbers <= 4 else 100
        ):  # listing five or six numbers takes its time
            raise ValueError(
                f"Only {len(chosen)} Countdown problems of the {split} split were found where {count} were asked for "
                f"(numbers={numbers}, max_number={max_number}, targets={targets}, solutions={solutions}). "
                f"Ask for fewer or widen the range."
            )
    return list(chosen)


@lru_cache(maxsize=65536)
def _qualifying(
    nums: tuple[int, ...], targets: tuple[int, int], solutions: tuple[int, int]
) -> dict[Split, tuple[Problem, ...]]:
    found: dict[Split, list[Problem]] = {"train": [], "dev": [], "test": []}
    for target, texts in solutions_by_target(nums).items():
        if targets[0] <= target <= targets[1] and solutions[0] <= len(texts) <= solutions[1]:
            problem = Problem(nums, target)
            found[split_of(problem)].append(problem)
    return {split: tuple(problems) for split, problems in found.items()}


def prompt(problem: Problem, *, chat: bool = False) -> str | list[dict[str, str]]:
    """The problem as a model reads it: ``"2 3 7 8 = 24 :"`` or, with ``chat``, messages that ask for tagged work."""
    nums = " ".join(map(str, problem.nums))
    if not chat:
        return f"{nums} = {problem.target} :"
    return [
        {
            "role": "user",
            "content": (
                f"Reach {problem.target} from the numbers {nums.replace(' ', ', ')}. Use every number exactly once, "
                f"with + - * / and parentheses. Think inside <think> </think>, then give only the expression inside "
                f"<answer> </answer>, for example <answer>(1 + 2) / 3</answer>."
            ),
        }
    ]


_COMPACT = re.compile(r"([0-9]{1,9}(?: [0-9]{1,9}){0,31}) = (-?[0-9]{1,9}) :")
_CHAT = re.compile(r"Reach (-?[0-9]{1,9}) from the numbers ([0-9]{1,9}(?:, [0-9]{1,9}){0,31})\. Use every number")


def read_prompt(text: str) -> tuple[Problem, bool] | None:
    """The problem whose ``prompt`` this is, and whether its answer is tagged; None for any other text.

    The chat form may stand inside other text, such as a chat template's. A text that holds two problems (worked
    examples) is None: which of them is asked would be a guess.
    """
    if match := _COMPACT.fullmatch(text.strip()):
        found, chat = [(match[1].split(" "), match[2])], False
    else:
        found, chat = [(m[2].split(", "), m[1]) for m in _CHAT.finditer(text)], True
    if len(found) != 1:
        return None
    problem = Problem(tuple(map(int, found[0][0])), int(found[0][1]))
    # written anew, it must be the same text: 007 is a number that no prompt of ours has
    if prompt(problem, chat=True)[0]["content"] not in text if chat else prompt(problem) != text.strip():
        return None
    return problem._replace(nums=tuple(sorted(problem.nums))), chat


def read_problems(path: Path) -> list[Problem]:
    """The problems of a ``.jsonl`` or ``.parquet`` file with the columns ``nums`` and ``target``; others are ignored.

    ValueError names the file and the first row that is not a problem.
    """
    if not path.is_file():
        raise ValueError(
            f"There is no data file {str(path)!r}. Expected a .jsonl or .parquet file of problems."
        )
    problems = []
    for place, row in _rows(path):
        missing = [name for name in ("nums", "target") if not isinstance(row, dict) or row.get(name) is None]
        if missing:
            raise ValueError(
                f"{path}, {place}: no {' and no '.join(missing)}. Every row needs nums, a list of integers, and target, "
                f'an integer, for example {{"nums": [2, 3, 7, 8], "target": 24}}. Mend or delete the row.'
            )
        try:
            verify("", row["nums"], row["target"])
        except ValueError:
            raise ValueError(
                f"{path}, {place}: nums={row['nums']!r:.80}, target={row['target']!r:.80} is no problem. nums must be a "
                f"list of non-negative integers and target an integer. Mend or delete the row."
            ) from None
        problems.append(Problem(tuple(sorted(map(int, row["nums"]))), int(row["target"])))
    if not problems:
        raise ValueError(f"{path} holds no problems. Expected one per row, with nums and target.")
    return problems


def _rows(path: Path) -> Iterator[tuple[str, object]]:
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            rows = pyarrow.parquet.read_table(path).to_pylist()
        except pyarrow.ArrowInvalid as error:
            raise ValueError(
                f"{path} is not a parquet file: {error}. Write it again, or give a .jsonl file."
            ) from None
        yield from ((f"row {i}", row) for i, row in enumerate(rows))
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"{path}, line {number} is not JSON ({error}). Expected one object per line, for example "
                        f'{{"nums": [2, 3, 7, 8], "target": 24}}. Mend or delete the line.'
                    ) from None


# --- rewards in the signature of TRL --------------------------------------------------------------------------------


def _texts(completions) -> Iterator[tuple[str, bool]]:
    """Each completion as text, and whether it came as chat messages, whose answer is inside tags.

    No message, or one whose content is not text (a tool call), is an empty answer: wrong, and no exception.
    """
    for completion in completions:
        if isinstance(completion, str):
            yield completion, False
        else:
            content = completion[-1].get("content") if completion else ""
            yield (content if isinstance(content, str) else ""), True


def countdown_correct(completions, nums, target, **_) -> list[float]:
    """TRL reward: 1.0 for a correct completion, else 0.0. Chat completions are read as tagged, plain text as bare."""
    return [
        float(verify_completion(text, n, t, tagged=tagged).correct)
        for (text, tagged), n, t in zip(_texts(completions), nums, target, strict=True)
    ]


def countdown_canonical(completion, nums, target, **_) -> str | None:
    """The canonical form of a correct completion's text, tagged or bare; None for a wrong one."""
    return verify_completion(completion, nums, target, tagged="<answer>" in completion).canonical


def countdown_format(completions, **_) -> list[float]:
    """TRL reward: 1.0 where the answer can be read as an expression, right or wrong. Never the same as correct.

    Whatever is correct is readable. A division by zero has no value and counts as unreadable.
    """
    rewards = []
    for text, tagged in _texts(completions):
        try:
            expression, claimed = _claim(_tokens(_answer(text, tagged)))
            _parse(expression)
            # any one integer may follow '=': whether it is the target is not a question of format
            readable = claimed is None or re.fullmatch(r"(- )?[0-9]+", " ".join(claimed))
        except _Unreadable:
            readable = None
        rewards.append(1.0 if readable else 0.0)
    return rewards
