"""Countdown's problems: their splits, seeded generation, prompts written and read, and problems from a file."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from differential_smoothing.tasks.task import Split, missing_columns, read_rows, split_of_text

from .expressions import Problem, verify
from .solver import solutions_by_target

__all__ = ["generate", "prompt", "read_problems", "read_prompt", "split_of"]


def split_of(problem: Problem) -> Split:
    """Where a problem belongs: 80% train, 10% dev, 10% test, decided by a hash of the problem and nothing else.

    So no seed, size or order of generation can put a problem into train here and into test there.
    """
    return split_of_text(problem.id)


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
    check_generation(count, split, numbers=numbers, max_number=max_number, targets=targets, solutions=solutions)
    rng = random.Random(f"countdown {split} {seed}")
    chosen: dict[Problem, None] = {}
    misses = 0
    while len(chosen) < count:
        nums = tuple(sorted(rng.choices(range(1, max_number + 1), k=numbers)))
        candidates = [p for p in _qualifying(nums, targets, solutions)[split] if p not in chosen]
        if candidates:
            chosen[rng.choice(candidates)] = None
            misses = 0
        elif (misses := misses + 1) > (5000 if numbers <= 4 else 100):  # listing five or six numbers takes its time
            raise ValueError(
                f"Only {len(chosen)} Countdown problems of the {split} split were found where {count} were asked for "
                f"(numbers={numbers}, max_number={max_number}, targets={targets}, solutions={solutions}). "
                f"Ask for fewer or widen the range."
            )
    return list(chosen)


def check_generation(
    count: int, split: str, *, numbers: int, max_number: int, targets: tuple[int, int], solutions: tuple[int, int]
) -> None:
    """ValueError if an argument of ``generate`` makes no sense."""
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
    written: Any = prompt(problem, chat=chat)
    if written[0]["content"] not in text if chat else written != text.strip():
        return None
    return problem._replace(nums=tuple(sorted(problem.nums))), chat


def read_problems(path: Path) -> list[Problem]:
    """The problems of a ``.jsonl`` or ``.parquet`` file with the columns ``nums`` and ``target``; others are ignored.

    ValueError names the file and the first row that is not a problem.
    """
    problems = []
    for place, row in read_rows(path, '{"nums": [2, 3, 7, 8], "target": 24}'):
        if missing := missing_columns(row, ("nums", "target")):
            raise ValueError(
                f"{path}, {place}: no {' and no '.join(missing)}. Every row needs nums, a list of integers, and target, "
                f'an integer, for example {{"nums": [2, 3, 7, 8], "target": 24}}. Correct or delete the row.'
            )
        try:
            verify("", row["nums"], row["target"])
        except ValueError:
            raise ValueError(
                f"{path}, {place}: nums={row['nums']!r:.80}, target={row['target']!r:.80} is not a problem. nums must be a "
                f"list of non-negative integers and target an integer. Correct or delete the row."
            ) from None
        problems.append(Problem(tuple(sorted(map(int, row["nums"]))), int(row["target"])))
    if not problems:
        raise ValueError(f"{path} holds no problems. Expected one per row, with nums and target.")
    return problems
