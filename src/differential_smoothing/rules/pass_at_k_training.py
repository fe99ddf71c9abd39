"""Pass@k training (Chen et al. 2025, arXiv 2508.10751): GRPO on the rewards of random subgroups of k, in closed form.

    R = 1 - C(n-c, k) / C(n, k),       s = sqrt(R (1 - R))
    A+ = (1 - R) / s,                  A- = (1 - R - C(n-c-1, k-1) / C(n-1, k-1)) / s

with c of n correct. A subgroup is right if any of its k is; every completion gets the mean advantage of its subgroups.
Limits: ``k=1`` is proportional to GRPO (with the population's standard deviation, exactly GRPO at eps 0); R = 0 or 1 gives 0, so
a prompt stops counting once every subgroup holds a correct answer. Assumes rewards in {0, 1}: only ``correct`` is read.
"""

from __future__ import annotations

import torch
from torch import Tensor

from differential_smoothing.rules.counts import chance_of_none, group_counts

__all__ = ["pass_at_k_training"]


def pass_at_k_training(
    rewards: Tensor, logps: Tensor | None, mask: Tensor, *, correct: Tensor, group: Tensor, k: int = 4
) -> Tensor:
    """(batch,) advantages. A group with fewer than ``k`` scored completions gives 0."""
    if not (isinstance(k, int) and k >= 1):
        raise ValueError(f"pass_at_k_training: k must be a whole number >= 1, got {k!r}.")
    n, c, scored, right = group_counts(rewards, correct, group)
    none = chance_of_none(n, c, k)  # 1 - R
    # the chance that a subgroup around a wrong completion holds no correct one: its k - 1 others come from n - 1
    others = chance_of_none((n - 1).clamp(min=0), c, k - 1)
    spread = (none * (1 - none)).sqrt()
    advantage = torch.where(right, none, none - others) / torch.where(spread > 0, spread, 1.0)
    return torch.where(scored & (spread > 0) & (n >= k), advantage, 0.0)
