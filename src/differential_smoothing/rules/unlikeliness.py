"""Unlikeliness reward (He et al. 2025, arXiv 2506.02355): a correct answer is worth less the likelier it is.

    r'_i = r_i (1 - weight * rank_i / n)   if correct,       r'_i = r_i otherwise;       then GRPO on r'

``rank_i`` orders the n completions of the group by log pi_old: the least likely has 1, the most likely n. Ties share the mean of
their ranks, so the order of the rows means nothing. Limit: ``weight=0`` is GRPO. Of an all-correct group the unlikely
half is pushed up and the likely half down: unlike GRPO it makes a gradient there.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from differential_smoothing.advantages import completion_logps, group_advantages
from differential_smoothing.rules.counts import group_counts

__all__ = ["unlikeliness"]


def unlikeliness(
    rewards: Tensor,
    logps: Tensor,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    weight: float = 0.25,
    level: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """(batch,) advantages. ``weight`` in [0, 1]; ``level``: rank completions by their mean or summed log-prob."""
    if not 0 <= weight <= 1:
        raise ValueError(f"unlikeliness: weight must be in [0, 1] (0 is GRPO), got {weight!r}.")
    spoken = ((mask != 0) & ~logps.isnan()).any(1)  # a completion without a log-probability has no rank
    n, _, scored, right = group_counts(rewards, torch.where(spoken, correct, torch.nan), group)
    value = completion_logps(logps.to(rewards.dtype), mask, level=level)
    rank = _rank(value, scored, group)
    factor = torch.where(right, 1 - weight * rank / n.clamp(min=1), 1.0)
    return group_advantages(rewards * factor, group)


def _rank(value: Tensor, scored: Tensor, group: Tensor) -> Tensor:
    """1 for the smallest scored value of its group; ties share the mean rank. Sorting, so that a batch may be large."""
    index = torch.unique(group, return_inverse=True)[1]
    order = torch.argsort(value, stable=True)
    order = order[torch.argsort(index[order], stable=True)]
    order = order[scored[order]]
    sorted_index, sorted_value = index[order], value[order]
    position = torch.arange(len(order), dtype=value.dtype, device=value.device)
    # a run: equal values of one group, next to each other
    if len(order) == 0:
        return torch.zeros_like(value)
    new_group = torch.ones(len(order), dtype=torch.bool, device=value.device)
    new_group[1:] = sorted_index[1:] != sorted_index[:-1]
    new_run = new_group.clone()
    new_run[1:] |= sorted_value[1:] != sorted_value[:-1]
    run, grp = new_run.long().cumsum(0) - 1, new_group.long().cumsum(0) - 1
    zeros = torch.zeros_like(position)
    mean = zeros.index_add(0, run, position) / zeros.index_add(0, run, torch.ones_like(position)).clamp(min=1)
    rank = torch.zeros_like(value)
    rank[order] = mean[run] - position[new_group][grp] + 1
    return rank
