"""Differential Smoothing (DS-GRPO): reinforcement learning that keeps the variety of correct answers.

The package's top level is the method itself, pure functions on tensors. Rooms with heavier furniture are imported by
name: ``differential_smoothing.integrations.trl`` (the trainer), ``.tasks.countdown``, ``.evaluation``, ``.rollouts``.
"""

from differential_smoothing._version import __version__
from differential_smoothing.advantages import (
    centred_logps,
    completion_logps,
    ds_grpo_advantages,
    group_advantages,
    smoothing_coefficient,
    smoothing_term,
)

__all__ = [
    "__version__",
    "centred_logps",
    "completion_logps",
    "ds_grpo_advantages",
    "group_advantages",
    "smoothing_coefficient",
    "smoothing_term",
]
