"""UCPO (2026, arXiv 2605.00365): share the advantage of the correct answers in favour of the unlikely ones.

Over the c correct completions of a group, with l_i the log-probability of completion i divided by its length,

    q = softmax(l),      w_i = (1 - share)/c + share * (1/q_i) / sum(1/q),      A_i = w_i c A_GRPO

and wrong completions keep GRPO's advantage. Limits: ``share=0`` is GRPO; the weights w sum to 1, so the correct answers of a group
have GRPO's total whatever the share; a single correct answer keeps GRPO's advantage,
and so does one without tokens, which is not among the c.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.advantages import completion_logps, group_advantages
from differential_smoothing.rules.counts import group_counts

__all__ = ["ucpo"]


def ucpo(rewards: Tensor, logps: Tensor, mask: Tensor, *, correct: Tensor, group: Tensor, share: float = 0.2) -> Tensor:
    """(batch,) advantages. ``share`` in [0, 1] is the paper's tau."""
    if not 0 <= share <= 1:
        raise ValueError(f"ucpo: share must be in [0, 1] (0 is GRPO), got {share!r}.")
    spoken = ((mask != 0) & ~logps.isnan()).any(1)  # a completion without a log-probability is not compared
    _, c, _, right = group_counts(rewards, torch.where(spoken, correct, torch.nan), group)
    index = torch.unique(group, return_inverse=True)[1]
    surprise = torch.where(right, -completion_logps(logps.to(rewards.dtype), mask, level="mean"), -torch.inf)
    # (1/q_i) / sum(1/q) = softmax(-l)_i over the correct ones, in log space
    top = torch.full_like(surprise, -torch.inf).scatter_reduce(0, index, surprise, "amax")[index]
    inverse = torch.where(right, torch.exp(surprise - top), 0.0)
    total = torch.zeros_like(inverse).index_add(0, index, inverse)[index]
    weight = (1 - share) + share * c * inverse / torch.where(total > 0, total, 1.0)
    return torch.where(right, weight, 1.0) * group_advantages(rewards, group)
