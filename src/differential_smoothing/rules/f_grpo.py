"""F-GRPO (2026, arXiv 2602.06717): focal weights, prompts that are mostly solved count less.

    A_i = (1 - c/n)^focus * A_GRPO

Limits: ``focus=0`` is GRPO; an all-correct group gives 0 at any focus > 0 (and in GRPO).
"""

from __future__ import annotations

from torch import Tensor

from differential_smoothing.advantages import group_advantages
from differential_smoothing.rules.counts import group_counts

__all__ = ["f_grpo"]


def f_grpo(
    rewards: Tensor, logps: Tensor | None, mask: Tensor, *, correct: Tensor, group: Tensor, focus: float = 1.0
) -> Tensor:
    """(batch,) advantages. ``focus`` >= 0 is the paper's gamma, 0.5 to 2."""
    if not focus >= 0:
        raise ValueError(f"f_grpo: focus must be a number >= 0 (0 is GRPO), got {focus!r}.")
    counts = group_counts(rewards, correct, group)
    share = counts.c / counts.n.clamp(min=1)
    return (1 - share) ** focus * group_advantages(rewards, group)
