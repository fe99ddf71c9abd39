"""Which completions are correct: the reward functions that decide it, the threshold, and a watch over both. All hosts share it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from differential_smoothing.options import plain_number

__all__ = ["CorrectnessWatch", "correct_columns", "correctness", "threshold_number"]


def threshold_number(name: str, value: object) -> float:
    """``value`` as a number; ValueError, in words about ``correct_threshold``, unless it is a finite one."""
    advice = f"A completion is correct if the reward that decides it is above {name}; 0.5 suits rewards of 0 and 1."
    return plain_number(name, value, advice=advice)


def correct_columns(names: Sequence[str], named: str | int | Sequence[str | int] | None) -> list[int]:
    """Positions of the reward functions that say what is correct, in the order in which they are asked.

    Args:
        names: of all reward functions.
        named: a name, a position (as a number or as its digits), several of them as a list or with commas between; None: the only one.

    ValueError if that is not plain.
    """
    if named is None:
        if len(names) > 1:
            raise ValueError(
                f"With several reward functions say which one decides what is correct: set correct_reward to one of "
                f"{_listed(names)}, or to a list of them if each scores other rows (the first that is not None counts). A sum of "
                f"rewards cannot tell a format reward from a right answer."
            )
        return [0]
    if isinstance(named, str) and named not in names and "," in named:
        named = [part.strip() for part in named.split(",")]
    several = list(named) if isinstance(named, (list, tuple)) else [named]
    if not several:
        raise ValueError(f"correct_reward is an empty list. Set it to one of {_listed(names)}, or to several.")
    return [_position(names, one) for one in several]


def _position(names: Sequence[str], one: object) -> int:
    if isinstance(one, str) and names.count(one) == 1:
        return names.index(one)
    if isinstance(one, str) and names.count(one) > 1:
        places = [str(i) for i, name in enumerate(names) if name == one]
        raise ValueError(
            f"correct_reward={one!r} is the name of {len(places)} reward functions, at the positions {', '.join(places)}. Set "
            f"correct_reward to the position, as in correct_reward={places[0]}, or give the functions names of their own "
            f"(f.__name__ = 'accuracy')."
        )
    place = int(one) if isinstance(one, str) and one.isdecimal() and len(one) < 5 else one
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(names):
        return place
    raise ValueError(
        f"correct_reward={one!r} must name one of the reward functions, or be its position from 0: {_listed(names)}."
    )


def _listed(names: Sequence[str]) -> str:
    twice = len(set(names)) < len(names)
    return ", ".join(f"{i} ({name})" if twice else name for i, name in enumerate(names))


def correctness(rewards: Tensor, columns: Sequence[int], threshold: float) -> tuple[Tensor, Tensor]:
    """The value that decides, and whether it is above ``threshold``.

    Args:
        rewards: (batch, functions), NaN where a function returned None.
        columns: of ``correct_columns``; the first whose reward is known counts.

    Returns:
        Two tensors (batch,) of the dtype of ``rewards``: the value, and 1 (correct), 0 or NaN (unknown).
    """
    value = rewards[:, columns[0]]
    for column in columns[1:]:
        value = torch.where(value.isnan(), rewards[:, column], value)
    return value, torch.where(value.isnan(), value, (value > threshold).to(value.dtype))


class CorrectnessWatch:
    """Finds, over a training, a threshold that separates nothing and rows whose correctness is never known. Speaks once of each.

    Args:
        names: of the reward functions.
        columns: see ``correctness``.
        threshold: see ``correctness``.
    """

    #: Generated batches to wait for: before that, a model may just have solved nothing, or everything.
    patience = 4

    def __init__(self, names: Sequence[str], columns: Sequence[int], threshold: float):
        self._names, self._columns, self._threshold = list(names), list(columns), threshold
        self._low, self._high, self._batches = math.inf, -math.inf, 0
        self._groups = self._unknown = self._partly = 0
        self._scored_by: set[str] = set()
        self._told: set[str] = set()

    def update(self, rewards: Tensor, size: int) -> list[str]:
        """Take a generated batch into account; a message about the training so far, mostly none.

        Args:
            rewards: (batch, functions) of all processes, groups of ``size`` completions one after the other.
        """
        value = correctness(rewards, self._columns, self._threshold)[0].double().cpu().numpy()
        known = value[np.isfinite(value)]
        if len(known):
            self._low, self._high = min(self._low, known.min()), max(self._high, known.max())
        self._batches += 1
        unknown = np.isnan(value).reshape(-1, size)
        self._groups += len(unknown)
        self._partly += int((unknown.any(1) & ~unknown.all(1)).sum())
        if unknown.all(1).any():
            scored = ~rewards.isnan().cpu().numpy().reshape(-1, size, rewards.shape[1])[unknown.all(1)]
            self._unknown += int(scored.any((1, 2)).sum())
            self._scored_by |= {name for name, any_ in zip(self._names, scored.any((0, 1))) if any_}
        return self._notices(self._batches >= self.patience, 2)

    def close(self) -> list[str]:
        """The same at the end of a training that was too short to be sure earlier."""
        return self._notices(True, 1)

    def _notices(self, waited: bool, groups: int) -> list[str]:
        found = {}
        if waited and self._low < self._high and not self._low <= self._threshold < self._high:
            found["side"] = self._one_side()
        # a judge that now and then fails leaves groups partly unknown; what decides for other rows leaves whole ones
        if self._unknown >= groups and self._unknown > self._partly:
            found["unknown"] = self._never_known()
        new = [text for name, text in found.items() if name not in self._told]
        self._told |= set(found)
        return new

    def _deciding(self) -> str:
        return ", ".join(self._names[column] for column in self._columns)

    def _one_side(self) -> str:
        above = self._low > self._threshold
        return (
            f"The rewards that decide what is correct ({self._deciding()}) vary between {self._low:g} and {self._high:g}, all "
            f"{'above' if above else 'at or below'} correct_threshold={self._threshold:g}: so far every completion counts as "
            f"{'correct' if above else 'incorrect'}. Set correct_threshold between the reward of a wrong and that of a right answer"
            f"{'.' if above else ', unless the model has merely not found a right one yet.'}"
        )

    def _never_known(self) -> str:
        others = sorted(self._scored_by)
        both = [self._names[column] for column in self._columns] + others
        return (
            f"For {self._unknown} of {self._groups} prompts so far {self._deciding()} returned None for every completion, while "
            f"{', '.join(others)} scored them: whether they are correct is unknown, so they get no smoothing and count in no ds/ value. If "
            f"{' or '.join(others)} decides what is correct there, set correct_reward={both}: the first that is not None counts."
        )
