"""All canonical solutions of a Countdown problem, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from .expressions import Problem, sorted_order, verify

__all__ = ["count_solutions", "solutions_by_target", "solve"]

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
                text = sorted_order(kind, up, down)
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
