"""DS-GRPO in slime: ``--custom-advantage-function-path differential_smoothing.integrations.hosts.slime.advantages``.

slime (0.3.1, August 2026) calls ``advantages(args, rollout_data)`` with the samples of one data-parallel rank: log-probabilities per token,
rewards that are standardised within their group already, and ``local_raw_reward``. The uncentred term needs no group, so it is exact here.
The strengths come from the file of ``--custom-config-path``: ``ds_gamma_p``, ``ds_gamma_n``, ``ds_level`` (token, mean or sum) and
``ds_correct_threshold``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from differential_smoothing.advantages import smoothing_coefficient, smoothing_term
from differential_smoothing.options import strengths

__all__ = ["advantages"]


def advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Set ``rollout_data["advantages"]`` and ``["returns"]``: the reward on every token, plus ``-gamma_p log pi_old`` where correct and ``+gamma_n`` where not.

    Lists have one entry per sample. A raw reward of NaN or None is unscored and gets no term. ValueError for strengths that are missing or both 0, and
    for the levels ``mean`` and ``sum`` under context parallelism, where a rank has a part of the tokens.
    """
    gammas = strengths(
        getattr(args, "ds_gamma_p", 0.0),
        getattr(args, "ds_gamma_n", 0.0),
        prefix="ds_",
        advice="Set them in the file of --custom-config-path.",
    )
    level: Any = getattr(args, "ds_level", "token")
    threshold = getattr(args, "ds_correct_threshold", 0.5)
    logps = rollout_data["rollout_log_probs" if getattr(args, "use_rollout_logprobs", False) else "log_probs"]
    raw = rollout_data["local_raw_reward"]
    if not len(logps) == len(raw) == len(rollout_data["rewards"]):
        raise ValueError(
            f"slime handed over {len(logps)} samples with log-probs, {len(raw)} raw rewards and {len(rollout_data['rewards'])} rewards, expected "
            f"equal numbers. Report the version of slime."
        )
    shaped: list[Tensor] = []
    for sample, reward, value, loss_mask in zip(
        logps, rollout_data["rewards"], raw, rollout_data["loss_masks"], strict=True
    ):
        sample = sample.detach()
        known = torch.tensor([float("nan") if value is None else float(value)], device=sample.device)
        correct = torch.where(known.isnan(), known, (known > threshold).to(known.dtype))
        if len(loss_mask) != len(sample):
            if level != "token":
                raise ValueError(
                    f"ds_level={level!r} needs whole samples, and context parallelism gives this rank {len(sample)} of {len(loss_mask)} tokens. "
                    f"Use ds_level: token."
                )
            loss_mask = torch.ones_like(sample)  # the loss applies its own
        term = smoothing_term(
            sample[None],
            loss_mask.to(sample)[None],
            coefficient=smoothing_coefficient(correct, **gammas).to(sample),
            level=level,
        )
        shaped.append(torch.full_like(sample, float(reward)) + term[0])
    rollout_data["advantages"] = rollout_data["returns"] = shaped
