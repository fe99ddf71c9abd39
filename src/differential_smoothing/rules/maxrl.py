"""MaxRL (2026, arXiv 2602.02710): divide by the mean instead of the standard deviation, so that hard prompts weigh more.

    A_i = (r_i - mean) / (mean + eps),       0 where the mean is 0

With rewards in {0, 1} and success rate p this weighs a prompt by 1/p, the first-order view of maximising the likelihood
log p. Assumes rewards >= 0. Limit: an all-correct group gives 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import group_advantages

__all__ = ["maxrl"]


def maxrl(
    rewards: Tensor, logps: Tensor | None, mask: Tensor, *, correct: Tensor, group: Tensor, eps: float = 1e-6
) -> Tensor:
    """(batch,) advantages. ValueError for a negative reward: dividing by a mean near or below 0 has no meaning."""
    if (rewards < 0).any():
        raise ValueError(
            f"maxrl divides by the group's mean reward and needs rewards >= 0, got {rewards[rewards < 0][0].item()}. Shift "
            f"the reward to start at 0, or use another rule."
        )
    centred = group_advantages(rewards, group, scale="none")
    mean = torch.where(rewards.isnan(), 0.0, rewards) - centred
    return torch.where((mean > 0) & ~rewards.isnan(), centred / (mean + eps), 0.0)
