"""GRPO (Shao et al. 2024, arXiv 2402.03300): what everything else is compared to.

    A_i = (r_i - mean) / (std + eps)          over the group of the prompt

Limit: a group whose rewards are all equal gives 0. Assumes nothing of the rewards. ``dr_grpo`` leaves the division out.
"""

from __future__ import annotations

from torch import Tensor

from differential_smoothing.advantages import Scale, group_advantages

__all__ = ["grpo"]


def grpo(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    scale: Scale = "group",
    eps: float = 1e-4,
    correction: int = 1,
) -> Tensor:
    """(batch,) advantages; ``scale``, ``eps`` and ``correction`` as in ``group_advantages``."""
    return group_advantages(rewards, group, scale=scale, eps=eps, correction=correction)
