"""Outcome-based exploration within a group (2025, arXiv 2509.06941): a correct answer that the group repeats costs something.

    A_i = A_GRPO - weight * (m_i - 1) / c      for a correct completion whose answer m_i of the group's c correct completions give

The paper penalises repeats among all n completions of a problem with one correct answer; here answers are compared among the correct ones, which
is where several exist, and c replaces n. ``center=True`` subtracts the penalty's mean over those completions: SetPO's leave-one-out share of
the set's diversity (2026, arXiv 2602.01062) with the kernel "same answer", read from its abstract. Limits: ``weight=0`` is GRPO; where all answers differ it is GRPO too;
where all are the same, ``center=True`` is GRPO. Unlike ``uniqueness`` it acts in all-correct groups. The paper's second bonus, for answers that are
rare over the whole training, needs counts over steps: with problems that are met once or twice it is this one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import group_advantages
from differential_smoothing.rules.counts import group_counts

__all__ = ["batch_exploration"]


def batch_exploration(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    answer: Tensor,
    weight: float = 0.5,
    center: bool = False,
) -> Tensor:
    """(batch,) advantages. ``answer`` (batch,) integers: the canonical answer, negative where unknown. ``weight`` >= 0; ValueError otherwise."""
    if not 0 <= weight < float("inf"):
        raise ValueError(f"batch_exploration: weight must be a finite number >= 0 (0 is GRPO), got {weight!r}.")
    known = group_counts(rewards, correct, group).right & (answer >= 0)
    index = torch.unique(group, return_inverse=True)[1]
    _, which, times = torch.unique(
        torch.stack([index, answer], 1)[known], dim=0, return_inverse=True, return_counts=True
    )
    c = torch.zeros_like(rewards).index_add(0, index, known.to(rewards.dtype))[index]
    repeats = torch.full_like(rewards, torch.nan)
    repeats[known] = (times[which] - 1).to(rewards.dtype) / c[known]
    penalty = group_advantages(repeats, group, scale="none") if center else repeats.nan_to_num(nan=0.0)
    return group_advantages(rewards, group) - weight * penalty
