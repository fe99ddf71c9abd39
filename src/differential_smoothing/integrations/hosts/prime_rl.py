"""DS-GRPO in prime-rl: ``[trainer.loss] type = "custom", import_path = "differential_smoothing.integrations.hosts.prime_rl.loss"``.

prime-rl (August 2026) calls the loss sample by sample, with the sampler's log-probabilities, advantages per token and the mask. Correctness is not
handed over. It is the sign of the advantage, so **the term acts in mixed groups only**: in an all-correct group every advantage is 0. That is
where most of the effect comes from once GRPO is at rest (``docs/results.md``), so expect less of it here than in TRL, verl or slime.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from differential_smoothing.options import strengths

__all__ = ["loss", "shaped_advantages"]


def loss(inputs: Any, *, gamma_p: float = 0.0, gamma_n: float = 0.0, **default: Any) -> Any:
    """prime-rl's default loss on shaped advantages. ``default``: options of its ``DefaultLossConfig``. All from ``[trainer.loss.kwargs]``."""
    from prime_rl.configs.trainer import DefaultLossConfig
    from prime_rl.trainer.rl.loss import default_loss_fn

    shaped = shaped_advantages(
        inputs.advantages, inputs.inference_logprobs, inputs.loss_mask, gamma_p=gamma_p, gamma_n=gamma_n
    )
    return default_loss_fn(replace(inputs, advantages=shaped), DefaultLossConfig(**default))


def shaped_advantages(advantages: Tensor, logps: Tensor, mask: Tensor, *, gamma_p: float, gamma_n: float) -> Tensor:
    """``A - gamma_p log pi_old`` where A > 0, ``A + gamma_n log pi_old`` where A < 0, A where it is 0 or masked; all (tokens,).

    ValueError for a strength that is negative or not finite, and where both are 0.
    """
    gammas = strengths(gamma_p, gamma_n, advice="Set them in [trainer.loss.kwargs].")
    coefficient = torch.where(advantages > 0, -gammas["gamma_p"], torch.where(advantages < 0, gammas["gamma_n"], 0.0))
    counts = (mask != 0) & ~logps.isnan()
    return advantages + torch.where(counts, coefficient * logps.detach(), 0.0)
