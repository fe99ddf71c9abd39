"""Dr. GRPO (Liu et al. 2025, arXiv 2503.20783): GRPO without the division by the group's standard deviation.

    A_i = r_i - mean

The division favours prompts that are almost always or almost never solved. The second half of the paper, a loss over a
constant length, is the host's: TRL's ``loss_type="dr_grpo"``. Limit: proportional to ``grpo`` within each group.
"""

from __future__ import annotations

from torch import Tensor

from differential_smoothing.advantages import group_advantages

__all__ = ["dr_grpo"]


def dr_grpo(rewards: Tensor, logps: Tensor | None, mask: Tensor, *, correct: Tensor, group: Tensor) -> Tensor:
    """(batch,) advantages. No options."""
    return group_advantages(rewards, group, scale="none")
