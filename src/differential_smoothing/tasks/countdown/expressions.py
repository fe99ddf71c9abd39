"""The language of Countdown's answers: reading, normal form, verification. See the package's docstring for the rules."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Sized
from fractions import Fraction
from typing import NamedTuple

from differential_smoothing.tasks.task import Unreadable, Verdict, answer_of

__all__ = ["Problem", "canonical", "shuffled", "verify", "verify_completion"]

MAX_CHARACTERS = 4096  # an honest answer to six numbers is under 40; longer ones are refused unread


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


# --- reading an expression ------------------------------------------------------------------------------------------

_SIGNS = str.maketrans({"×": "*", "∗": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-"})
_TOKEN = re.compile(r"[0-9]+|[-+*/()=]|[ \t\r\n]+")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def tokenise(text: str) -> list[str]:
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"too long: {len(text)} characters, at most {MAX_CHARACTERS} are read")
    tokens, position = [], 0
    text = text.translate(_SIGNS)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unreadable(f"unexpected character {text[position]!r}")
        token, position = match.group(), match.end()
        if token.isspace():
            continue
        if token[0] == "0" and len(token) > 1:
            raise Unreadable("an integer with a leading zero")
        if len(token) > 12:
            raise Unreadable(f"an integer of {len(token)} digits")
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


def sorted_order(kind: str, up: Sequence[str], down: Sequence[str]) -> str:
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
            raise Unreadable("division by zero")
        numerator, denominator = a.numerator * b.denominator, a.denominator * b.numerator
    return _Node(kind, up + b_up, down + b_down, numerator, denominator)


def parse(tokens: Sequence[str], order: Order = sorted_order) -> _Node:
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
                raise Unreadable(f"a number or '(' should stand where {token!r} stands")
        elif token in _PRECEDENCE:
            while operators and operators[-1] != "(" and _PRECEDENCE[operators[-1]] >= _PRECEDENCE[token]:
                reduce()
            operators.append(token)
            expect_atom = True
        elif token == ")":
            while operators and operators[-1] != "(":
                reduce()
            if not operators:
                raise Unreadable("')' without '('")
            operators.pop()
        else:
            raise Unreadable(f"an operator or ')' should stand where {token!r} stands")
    if expect_atom:
        raise Unreadable("empty" if not tokens else "ends where a number should follow")
    while operators:
        if operators[-1] == "(":
            raise Unreadable("'(' without ')'")
        reduce()
    return nodes[0]


def canonical(expression: str) -> str:
    """The normal form of an expression; equal for two expressions exactly when they count as the same answer.

    See the module's docstring for the rule. Idempotent. ValueError if the text is not an expression.
    """
    try:
        return _written(parse(tokenise(expression)), sorted_order)
    except Unreadable as error:
        raise ValueError(f"{expression[:80]!r} is not a Countdown expression: {error}.") from None


def shuffled(expression: str, rng: random.Random) -> str:
    """The same answer in a random spelling: operands of every sum and product in random order."""

    def order(kind: str, up: Sequence[str], down: Sequence[str]) -> str:
        first = rng.randrange(len(up))  # there are no unary signs, so an added term or a factor must lead
        inverse = "-" if kind == "+" else "/"
        rest = [kind + s for i, s in enumerate(up) if i != first] + [inverse + s for s in down]
        rng.shuffle(rest)
        return up[first] + "".join(rest)

    return _written(parse(tokenise(expression), order), order)


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
        tokens, claimed = split_claim(tokenise(answer))
        # `... = 24` is a habit of models, not a claim we pay for: the left side is what is checked
        if claimed is not None and claimed != tokenise(str(int(target))):
            return Verdict(False, "what follows '=' is not the target alone", None)
        literals = Counter(int(token) for token in tokens if token.isdigit())
        if literals != Counter(int(n) for n in nums):
            return Verdict(False, "does not use every number exactly once", None)
        node = parse(tokens)
    except Unreadable as error:
        return Verdict(False, str(error), None)
    if node.numerator != int(target) * node.denominator:
        return Verdict(False, f"equals {Fraction(node.numerator, node.denominator)}, not {target}", None)
    return Verdict(True, "correct", _written(node, sorted_order))


def split_claim(tokens: list[str]) -> tuple[list[str], list[str] | None]:
    """Split ``expression = value`` at its first '='; the second part is None without one."""
    if "=" not in tokens:
        return tokens, None
    return tokens[: tokens.index("=")], tokens[tokens.index("=") + 1 :]


def _is_int(value: object) -> bool:
    # numpy integers arrive from parquet and arrow; bool is an int, never meant as a number here
    return hasattr(value, "__index__") and not isinstance(value, bool)


def verify_completion(completion: str, nums: Sequence[int], target: int, *, tagged: bool) -> Verdict:
    """``verify`` the answer inside a completion. ``tagged=False``: the whole completion is the answer (compact form).

    ``tagged=True`` (chat form): after the last ``</think>`` there must be exactly one ``<answer>...</answer>`` with
    nothing but white space after it. Two answers are refused, since a model could hedge.
    """
    try:
        return verify(answer_of(completion, tagged), nums, target)
    except Unreadable as error:
        return Verdict(False, str(error), None)
