"""Uniqueness-aware advantages (2026, arXiv 2601.08763): a correct completion earns less the more of its group give the same answer.

    A_i = A_GRPO / m_i^power       for a correct completion whose answer m_i correct completions of the group share

Other completions keep GRPO's advantage, and so does a correct one whose answer is not known. The paper clusters solution strategies with a judge
model; here two completions are alike if their canonical answers are equal, which needs no model. Limits: ``power=0`` is GRPO; where all
answers of a group differ it is GRPO too. Unlike ``ucpo`` it lowers the total of a group's correct completions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import group_advantages
from differential_smoothing.rules.counts import group_counts

__all__ = ["uniqueness"]


def uniqueness(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    answer: Tensor,
    power: float = 1.0,
) -> Tensor:
    """(batch,) advantages. ``answer`` (batch,) integers: the canonical answer, negative where unknown. ``power`` >= 0; ValueError otherwise."""
    if not 0 <= power < float("inf"):
        raise ValueError(f"uniqueness: power must be a finite number >= 0 (0 is GRPO), got {power!r}.")
    alike = group_counts(rewards, correct, group).right & (answer >= 0)
    pairs = torch.stack([torch.unique(group, return_inverse=True)[1][alike], answer[alike].long()], 1)
    _, which, times = torch.unique(pairs, dim=0, return_inverse=True, return_counts=True)
    size = torch.ones_like(rewards)
    size[alike] = times.to(rewards.dtype)[which]
    return group_advantages(rewards, group) / size**power
