"""FlowRL (2025, arXiv 2509.15207) as advantages: sample answers in proportion to e^(reward / temperature) instead of maximising.

The paper's loss is ``w (log Z + l_i - b r_i - l_ref,i)^2`` with l_i the log-probability of completion i divided by its length and r_i the
reward standardised in its group. On the policy that sampled the group its gradient is that of a policy gradient with the advantage

    A_i = r_i - temperature * (l_i - mean l),      temperature = 1 / b,

up to the factor 2 b w / length. Z is not learnt here: the mean over the group's scored completions stands for it, the value that minimises the
loss over the group. The reference policy is uniform (the term l_ref is left out), since a rule gets no reference log-probabilities. Limit:
``temperature=0`` is GRPO. Unlike DS-GRPO it raises unlikely *incorrect* completions as much as unlikely correct ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import completion_logps, group_advantages

__all__ = ["flow"]


def flow(
    rewards: Tensor, logps: Tensor, mask: Tensor, *, correct: Tensor, group: Tensor, temperature: float = 1 / 15
) -> Tensor:
    """(batch,) advantages. ``temperature`` >= 0 per nat and token, 1 / 15 in the paper; ValueError otherwise."""
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"flow: temperature must be a finite number >= 0 (0 is GRPO), got {temperature!r}.")
    counts = ((mask != 0) & ~logps.isnan()).any(1) & ~rewards.isnan()
    likelihood = torch.where(counts, completion_logps(logps.to(rewards.dtype), mask, level="mean"), torch.nan)
    return group_advantages(rewards, group) - temperature * group_advantages(likelihood, group, scale="none")
