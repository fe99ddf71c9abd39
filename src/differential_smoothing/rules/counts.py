"""How many completions of a group count, and how many of them are correct: what most rules are functions of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Counts", "chance_of_none", "group_counts"]


class Counts(NamedTuple):
    """Per completion, (batch,): ``n`` and ``c`` of its group as floats; ``scored`` and ``right`` as bool.

    A completion counts (``scored``) if its reward is known and its correctness is; ``c`` counts the right ones.
    """

    n: Tensor
    c: Tensor
    scored: Tensor
    right: Tensor


def group_counts(rewards: Tensor, correct: Tensor, group: Tensor) -> Counts:
    """Counts of every completion's group. Arguments as in ``group_advantages``; ``correct`` as in ``smoothing_coefficient``."""
    known = correct.to(rewards.dtype)
    scored = ~rewards.isnan() & ~known.isnan()
    right = scored & (known == 1)
    index = torch.unique(group, return_inverse=True)[1]

    def per_group(flags: Tensor) -> Tensor:
        zeros = torch.zeros(len(flags), dtype=rewards.dtype, device=rewards.device)
        return zeros.index_add_(0, index, flags.to(rewards.dtype))[index]

    return Counts(per_group(scored), per_group(right), scored, right)


def chance_of_none(n: Tensor, c: Tensor, k: int) -> Tensor:
    """``C(n - c, k) / C(n, k)``: the chance that k of n completions, drawn without replacement, hold none of the c.

    One minus it is the unbiased pass@k (Chen et al. 2021, arXiv 2107.03374). 0 where n < k: nothing can be drawn there.
    """
    chance = torch.ones_like(n)
    for i in range(k):
        chance = chance * (n - c - i).clamp(min=0) / (n - i).clamp(min=1)
    return torch.where(n >= k, chance, 0.0)
