"""PSR, NSR and W-REINFORCE (Zhu et al. 2025, arXiv 2506.01347): learn from right or from wrong answers alone, or weigh them.

    A_i = positive_weight   if correct,       A_i = -negative_weight   if not

PSR is (1, 0), NSR (0, 1), W-REINFORCE (0.1, 1). No group enters: no baseline, so an all-wrong group pushes everything down and an
all-correct one everything up. The paper finds that NSR alone keeps Pass@k. Only ``correct`` is read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from differential_smoothing.rules.counts import group_counts

__all__ = ["nsr", "psr", "w_reinforce"]


def w_reinforce(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    positive_weight: float = 0.1,
    negative_weight: float = 1.0,
) -> Tensor:
    """(batch,) advantages, 0 where the reward or the correctness is unknown."""
    for name, weight in (("positive_weight", positive_weight), ("negative_weight", negative_weight)):
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"w_reinforce: {name} must be a finite number >= 0, got {weight!r}.")
    counts = group_counts(rewards, correct, group)
    signed = torch.where(counts.right, rewards.new_tensor(positive_weight), rewards.new_tensor(-negative_weight))
    return torch.where(counts.scored, signed, 0.0)


def psr(rewards: Tensor, logps: Tensor | None, mask: Tensor, *, correct: Tensor, group: Tensor) -> Tensor:
    """Positive sample reinforcement: 1 for correct completions, 0 for the others. (batch,)."""
    return w_reinforce(rewards, logps, mask, correct=correct, group=group, positive_weight=1.0, negative_weight=0.0)


def nsr(rewards: Tensor, logps: Tensor | None, mask: Tensor, *, correct: Tensor, group: Tensor) -> Tensor:
    """Negative sample reinforcement: -1 for incorrect completions, 0 for the others. (batch,)."""
    return w_reinforce(rewards, logps, mask, correct=correct, group=group, positive_weight=0.0, negative_weight=1.0)
