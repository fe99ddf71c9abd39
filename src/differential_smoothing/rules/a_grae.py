"""A-GRAE (Yu et al. 2026, arXiv 2602.05548): easy prompts first and hard ones later, and less of what is right early on.

With p the mean reward of the group and P the mean of p over the groups of the batch,

    A'_i = A_GRPO * ( (1 - P) / 2 / (1 - sqrt(p) + eps)  +  P / 2 / (sqrt(p) + eps) )
    A_i  = min(1, P / alpha) * A'_i   where A'_i > 0,       A'_i otherwise

as in the authors' public code, which applies the square root inside the difference. Assumes rewards in [0, 1]. Limits: GRPO's
sign is kept, so a group of equal rewards gives 0; at P = 1 and alpha <= 1 only the weight by difficulty is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import group_advantages

__all__ = ["a_grae"]


def a_grae(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    alpha: float = 1.0,
    eps: float = 1e-6,
) -> Tensor:
    """(batch,) advantages. ``alpha`` > 0: 1 for mathematics, 0.5 for other tasks in the authors' code."""
    if not alpha > 0:
        raise ValueError(f"a_grae: alpha must be a number > 0, got {alpha!r}.")
    if ((rewards < 0) | (rewards > 1)).any():
        raise ValueError(
            "a_grae reads the group's mean reward as its difficulty and needs rewards in [0, 1], got others. Rescale the "
            "reward, or use another rule."
        )
    scored = ~rewards.isnan()
    centred = group_advantages(rewards, group, scale="none")
    mean = torch.where(scored, rewards - centred, 0.0).clamp(0, 1)
    index = torch.unique(group, return_inverse=True)[1]
    zeros = torch.zeros_like(mean)
    n = zeros.index_add(0, index, scored.to(mean.dtype))[index]
    share = torch.where(scored, 1 / n.clamp(min=1), 0.0)  # sums to 1 over a group
    overall = (mean * share).sum() / share.sum().clamp(min=1e-12)
    root = mean.sqrt()
    weight = 0.5 * (1 - overall) / (1 - root + eps) + 0.5 * overall / (root + eps)
    # the authors divide by the unbiased standard deviation + 1e-6
    advantage = weight * group_advantages(rewards, group, eps=1e-6)
    return torch.where(advantage > 0, (overall / alpha).clamp(max=1) * advantage, advantage)
