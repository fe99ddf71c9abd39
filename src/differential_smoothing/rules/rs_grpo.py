"""RS-GRPO (2025, arXiv 2509.24261): a risk-seeking objective, the exponential mean of the reward instead of its mean.

    A_i = (exp(b r_i) / mean exp(b r) - 1) / b

over the scored completions of a group. Limits: b -> 0 is ``dr_grpo``, r_i - mean; b -> infinity with rewards in {0, 1} divides by the success
rate of the group alone, ``maxrl`` up to the factor 1 / b. An all-correct or all-wrong group gives 0. The rule counts: correct answers of a group
get one advantage, so it weighs prompts and cannot tell likely answers from unlikely ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import group_advantages

__all__ = ["rs_grpo"]


def rs_grpo(
    rewards: Tensor, logps: Tensor | None, mask: Tensor, *, correct: Tensor, group: Tensor, risk: float = 2.0
) -> Tensor:
    """(batch,) advantages. ``risk`` > 0 is the paper's beta, per unit of reward; ValueError otherwise."""
    if not 0 < risk < float("inf"):
        raise ValueError(f"rs_grpo: risk must be a finite number > 0 (towards 0 it is dr_grpo), got {risk!r}.")
    known = torch.where(rewards.isnan(), -torch.inf, rewards)
    index = torch.unique(group, return_inverse=True)[1]
    # relative to the group's best reward, so that a large risk * reward does not overflow
    best = torch.full_like(known, -torch.inf).scatter_reduce(0, index, known, "amax")[index]
    tilted = torch.where(rewards.isnan(), torch.nan, torch.exp(risk * (known - best)))
    centred = group_advantages(tilted, group, scale="none")
    mean = tilted - centred
    return torch.where(rewards.isnan(), 0.0, centred / torch.where(mean > 0, mean, 1.0) / risk)
