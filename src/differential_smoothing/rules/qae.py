"""QAE (2025, arXiv 2509.22611): the group's K-quantile as the baseline instead of its mean.

    A_i = (r_i - Q_K) / (std + eps),      Q_K the smallest reward of the group with at least the share K of rewards at or below it

With rewards in {0, 1} and success rate p: where p < 1 - K the baseline is 0 and only correct completions learn, upwards; where p > 1 - K it is
1 and only wrong ones learn, downwards. So hard prompts reinforce rare successes and easy ones correct the remaining failures, which bounds the
entropy on both sides. ``std`` and ``eps`` are GRPO's. Limit: a group without reward variance gives 0, as in GRPO.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import group_advantages

__all__ = ["qae"]


def qae(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    quantile: float = 0.4,
    eps: float = 1e-4,
) -> Tensor:
    """(batch,) advantages. ``quantile`` in (0, 1) is the paper's K; ValueError otherwise."""
    if not 0 < quantile < 1:
        raise ValueError(f"qae: quantile must be in (0, 1), got {quantile!r}.")
    scored = ~rewards.isnan()
    index = torch.unique(group, return_inverse=True)[1]
    centred = group_advantages(rewards, group, scale="none")

    def total(values: Tensor) -> Tensor:
        return torch.zeros_like(rewards).index_add(0, index, values)

    n = total(scored.to(rewards.dtype))
    # rewards sorted within their group, unscored ones behind the scored
    order = torch.argsort(torch.where(scored, rewards, torch.inf), stable=True)
    order = order[torch.argsort(index[order], stable=True)]
    size = torch.bincount(index, minlength=len(rewards))
    start = size.cumsum(0) - size
    rank = (torch.ceil(quantile * n - 1e-9).long() - 1).clamp(min=0)
    baseline = rewards[order[(start + rank).clamp(max=len(rewards) - 1)]][index]
    deviation = (total(centred**2) / (n - 1).clamp(min=1)).sqrt()[index]
    return torch.where(scored, (rewards - baseline) / (deviation + eps), 0.0)
