"""Countdown as a ``Task``, and its rewards in the signature of TRL."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from differential_smoothing.tasks.task import Split, Task, Unreadable, Verdict, answer_of, texts_of

from .expressions import Problem, parse, shuffled, split_claim, tokenise, verify, verify_completion
from .problems import check_generation, generate, prompt, read_problems
from .solver import solve

__all__ = ["Countdown", "countdown_canonical", "countdown_correct", "countdown_format"]


class Countdown(Task[Problem]):
    """Countdown with the options of its generator; all have the shipped base's values by default.

    Args:
        numbers: how many numbers a problem has, 1 to 6.
        max_number: they are drawn from 1 to this.
        min_target, max_target: smallest and largest target, both included.
        min_solutions, max_solutions: floor and ceiling on the number of canonical solutions of a problem, both included.
            1 and 1 are the problems with one solution only; None is no ceiling.

    ValueError if an option makes no sense; a combination that allows too few problems is reported by ``problems``.
    """

    name = "countdown"
    column_names = ("nums", "target")
    words = (*map(str, range(101)), *"+-*/()=:")
    pattern = "100(?![0-9])|[0-9]{1,2}|."

    def __init__(
        self,
        numbers: int = 4,
        max_number: int = 10,
        min_target: int = 1,
        max_target: int = 100,
        min_solutions: int = 1,
        max_solutions: int | None = None,
    ):
        given = {
            "numbers": numbers,
            "max_number": max_number,
            "min_target": min_target,
            "max_target": max_target,
            "min_solutions": min_solutions,
            "max_solutions": 10**9 if max_solutions is None else max_solutions,
        }
        for option, value in given.items():
            if type(value) is not int:
                raise ValueError(f"The option {option} of countdown must be a whole number, got {value!r}.")
        self._options: dict[str, Any] = {
            "numbers": numbers,
            "max_number": max_number,
            "targets": (min_target, max_target),
            "solutions": (min_solutions, given["max_solutions"]),
        }
        check_generation(1, "train", **self._options)

    def problems(self, count: int, *, split: Split, seed: int) -> list[Problem]:
        """``count`` different problems of a split; see ``generate``."""
        return generate(count, split=split, seed=seed, **self._options)

    def problem_id(self, problem: Problem) -> str:
        """``"2,3,7,8=24"``."""
        return problem.id

    def prompt(self, problem: Problem, *, chat: bool = False) -> str | list[dict[str, str]]:
        """``"2 3 7 8 = 24 :"`` or, with ``chat``, messages that ask for tagged work."""
        return prompt(problem, chat=chat)

    def columns(self, problem: Problem) -> dict[str, object]:
        """``nums``, a list, and ``target``."""
        return {"nums": list(problem.nums), "target": problem.target}

    def problem(self, nums: Sequence[int], target: int) -> Problem:
        """The problem of these columns. ValueError if they hold none."""
        verify("", nums, target)
        return Problem(tuple(sorted(map(int, nums))), int(target))

    def verify(self, completion: str, problem: Problem, *, chat: bool = False) -> Verdict:
        """See ``verify_completion``."""
        return verify_completion(completion, problem.nums, problem.target, tagged=chat)

    def demonstration(self, problem: Problem, rng: random.Random) -> str | None:
        """A uniformly drawn canonical solution in a random spelling; None if there is none."""
        solutions = _solutions(problem)
        return shuffled(rng.choice(solutions), rng) if solutions else None

    def read_problems(self, path: Path) -> list[Problem]:
        """See ``countdown.read_problems``."""
        return read_problems(path)


@lru_cache(maxsize=65536)
def _solutions(problem: Problem) -> tuple[str, ...]:
    return solve(*problem)


def countdown_correct(completions, nums, target, **_) -> list[float]:
    """TRL reward: 1.0 for a correct completion, else 0.0. Chat completions are read as tagged, plain text as bare."""
    return [
        float(verify_completion(text, n, t, tagged=tagged).correct)
        for (text, tagged), n, t in zip(texts_of(completions), nums, target, strict=True)
    ]


def countdown_canonical(completion, nums, target, **_) -> str | None:
    """The canonical form of a correct completion's text, tagged or bare; None for a wrong one."""
    return verify_completion(completion, nums, target, tagged="<answer>" in completion).canonical


def countdown_format(completions, **_) -> list[float]:
    """TRL reward: 1.0 where the answer can be read as an expression, right or wrong. Never the same as correct.

    Whatever is correct is readable. A division by zero has no value and counts as unreadable.
    """
    rewards = []
    for text, tagged in texts_of(completions):
        try:
            expression, claimed = split_claim(tokenise(answer_of(text, tagged)))
            parse(expression)
            # any one integer may follow '=': whether it is the target is not a question of format
            readable = claimed is None or re.fullmatch(r"(- )?[0-9]+", " ".join(claimed))
        except Unreadable:
            readable = None
        rewards.append(1.0 if readable else 0.0)
    return rewards
