"""Best-of-N training (Tang et al. 2025, arXiv 2503.19595; verl's ``grpo_passk``): only the best one learns.

    A_best = (r_best - r_second) / (std + eps if scale="group" else 1),      0 for all others

Limits: with rewards in {0, 1} only a group with exactly one correct completion learns anything, and only from that one;
with two equal best rewards the group gives 0. All pushes are upwards.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from differential_smoothing.advantages import group_advantages

__all__ = ["best_of"]


def best_of(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    scale: Literal["group", "none"] = "none",
    eps: float = 1e-6,
) -> Tensor:
    """(batch,) advantages. ``scale="group"`` divides by the group's unbiased standard deviation, as verl does by default.

    A group with one scored completion gives 0: there is no second.
    """
    if scale not in ("group", "none"):
        raise ValueError(f"best_of: scale must be 'group' or 'none', got {scale!r}.")
    index = torch.unique(group, return_inverse=True)[1]
    scored = ~rewards.isnan()
    values = torch.where(scored, rewards, -torch.inf)
    low = torch.full_like(values, -torch.inf)
    best = low.scatter_reduce(0, index, values, "amax")[index]
    is_best = scored & (values == best)
    zeros = torch.zeros_like(values)
    ties = zeros.index_add(0, index, is_best.to(values.dtype))[index]
    second = low.scatter_reduce(0, index, torch.where(is_best, -torch.inf, values), "amax")[index]
    gap = torch.where(is_best & (ties == 1) & second.isfinite(), best - second, 0.0)
    if scale == "none":
        return gap
    centred = group_advantages(rewards, group, scale="none")
    n = zeros.index_add(0, index, scored.to(values.dtype))[index]
    std = (zeros.index_add(0, index, centred.square())[index] / (n - 1).clamp(min=1)).sqrt()
    return gap / (std + eps)
