"""DS-GRPO in SkyRL: a mixin for its trainer, whose registered estimators get no log-probabilities.

    from skyrl.train.entrypoints.main_base import BasePPOExp
    from skyrl.train.trainer import RayPPOTrainer
    from differential_smoothing.integrations.hosts.skyrl import smoothed

    class Exp(BasePPOExp):
        def get_trainer(self, *args, **kwargs):
            return smoothed(RayPPOTrainer, gamma_p=0.3)(*args, **kwargs)

SkyRL (August 2026) computes advantages in ``compute_advantages_and_returns(data)`` after the log-probabilities of the batch. The term is added
there, on the estimator that the config names. Its Tinker API needs no file: advantages are the client's own (``tests/test_tinker.py``).
"""

from __future__ import annotations

from typing import Any

import torch

from differential_smoothing.advantages import shaping_term, smoothing_coefficient
from differential_smoothing.options import strengths

__all__ = ["add_term", "smoothed"]


def smoothed(trainer: Any, **options: Any) -> type:
    """A subclass of SkyRL's ``trainer`` that adds the term of ``add_term(data, **options)`` to its advantages."""
    _checked(**options)

    class Smoothed(trainer):
        def compute_advantages_and_returns(self, data: Any) -> Any:
            if getattr(self.cfg.generator, "step_wise_trajectories", False):
                raise ValueError(
                    "Step-wise trajectories split a completion over several rows. Set generator.step_wise_trajectories=false."
                )
            return add_term(super().compute_advantages_and_returns(data), **options)

    return Smoothed


def add_term(
    data: Any,
    *,
    gamma_p: float = 0.0,
    gamma_n: float = 0.0,
    level: str = "token",
    center: bool = False,
    relative: bool = False,
    correct_threshold: float = 0.5,
) -> Any:
    """``data`` with the term added to ``data["advantages"]``, (batch, tokens). Returns ``data``.

    Reads ``rewards``, ``response_mask`` and ``action_log_probs`` (or ``rollout_logprobs`` where the trainer computes none), and the groups from
    ``metadata["uids"]``. A completion is correct if its rewards sum to more than ``correct_threshold``; NaN is unscored. ValueError for wrong
    options and where there are no log-probabilities.
    """
    gammas = _checked(gamma_p=gamma_p, gamma_n=gamma_n, level=level, center=center, relative=relative)
    logps = data.get("action_log_probs")
    logps = data.get("rollout_logprobs") if logps is None else logps
    if logps is None:
        raise ValueError(
            "SkyRL's batch has neither action_log_probs nor rollout_logprobs. Set generator.sampling_params.logprobs=0."
        )
    mask, advantages = data["response_mask"], data["advantages"]
    rewards = data["rewards"].sum(-1).float()
    correct = torch.where(rewards.isnan(), rewards, (rewards > correct_threshold).float())
    numbers: dict[Any, int] = {}
    group = torch.tensor(
        [numbers.setdefault(uid, len(numbers)) for uid in data.metadata["uids"]], device=rewards.device
    )
    chosen: Any = level
    term = shaping_term(
        logps.detach().float(),
        mask,
        advantages=advantages.float().sum(1) / (mask != 0).sum(1).clamp(min=1),
        correct=correct,
        group=group,
        coefficient=smoothing_coefficient(correct, **gammas),
        level=chosen,
        center=center,
        relative=relative,
    )
    data["advantages"] = advantages + term.to(advantages.dtype)
    return data


def _checked(
    *,
    gamma_p: float = 0.0,
    gamma_n: float = 0.0,
    level: str = "token",
    center: bool = False,
    relative: bool = False,
    **others: Any,
) -> dict[str, float]:
    if unknown := sorted(set(others) - {"correct_threshold"}):
        raise ValueError(
            f"There is no option {unknown[0]!r}. Known: gamma_p, gamma_n, level, center, relative, correct_threshold."
        )
    gammas = strengths(gamma_p, gamma_n, advice="Pass them to smoothed().")
    if level not in ("token", "mean", "sum"):
        raise ValueError(f"level must be token, mean or sum, got {level!r}.")
    if center and relative:
        raise ValueError("center and relative exclude each other: the relative term is centred. Drop center.")
    if center and level == "token":
        raise ValueError(
            "center at the token level needs entropies, which SkyRL does not keep. Set level to mean or sum."
        )
    return gammas
