"""DS-GRPO (Gai et al. 2025, arXiv 2511.19942) in every reading that has been published, by name.

    A_i - gamma_p * log pi_old(y_i | x)   if correct,       A_i + gamma_n * log pi_old(y_i | x)   if not

What log pi_old is, where the term is added and what A is divided by differ between public codes (letters of the table in
DECISIONS.md). ``ds_grpo`` takes any combination; ``ds_a`` to ``ds_g`` are the published ones with the values that their configs use,
gammas always >= 0 in the paper's direction. Limit: with both gammas 0 each is GRPO with its own standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from differential_smoothing.advantages import ds_grpo_advantages
from differential_smoothing.rules.counts import group_counts

__all__ = ["ds_a", "ds_b", "ds_c", "ds_d", "ds_e", "ds_f", "ds_g", "ds_grpo"]


def ds_grpo(
    rewards: Tensor,
    logps: Tensor,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    gamma_p: float = 0.2,
    gamma_n: float = 0.0,
    **options: Any,
) -> Tensor:
    """(batch, tokens): ``ds_grpo_advantages``, whose ``options`` are ``level``, ``stage``, ``center``, ``scale``, ``eps`` and more."""
    return ds_grpo_advantages(
        rewards, logps, mask, correct=correct, group=group, gamma_p=gamma_p, gamma_n=gamma_n, **options
    )


def _published(name: str, doc: str, gamma: float, **fixed: Any) -> Callable[..., Tensor]:
    """``ds_grpo`` with the options that a published code has ``fixed`` and ``gamma`` as the default of both strengths."""

    def rule(
        rewards: Tensor,
        logps: Tensor,
        mask: Tensor,
        *,
        correct: Tensor,
        group: Tensor,
        gamma_p: float = gamma,
        gamma_n: float = gamma,
    ) -> Tensor:
        return ds_grpo(rewards, logps, mask, correct=correct, group=group, gamma_p=gamma_p, gamma_n=gamma_n, **fixed)

    rule.__name__ = rule.__qualname__ = name
    rule.__doc__ = doc
    return rule


_VERL = {"correction": 0, "eps": 1e-6}  # the population's standard deviation, and verl's eps

ds_a = _published(
    "ds_a", "The authors' fork of verl, Aug-Oct 2025: each token's own log-probability.", 0.01, level="token", **_VERL
)
ds_c = _published(
    "ds_c",
    "The same fork, Nov 2025, its last: the mean log-probability in the reward, before centring, no standard deviation.",
    0.01,
    level="mean",
    stage="reward",
    scale="none",
)
ds_d = _published(
    "ds_d", "Another repository of an author: ``ds_a``, switched off by default.", 0.0, level="token", **_VERL
)
ds_e = _published(
    "ds_e",
    """MaxRL's baseline: the mean log-probability.

    Its code takes groups by position and its launch script reorders the batch, so that its groups mix prompts. Here groups are ids, as in every
    rule: what the code means, not what that run did.
    """,
    0.05,
    level="mean",
    **_VERL,
)
ds_g = _published(
    "ds_g", "A third fork's config: \"log pi_old(y|x)\", read as the sum, with verl's eps.", 0.01, level="sum", eps=1e-6
)


def ds_b(
    rewards: Tensor,
    logps: Tensor,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    gamma_p: float = 0.01,
    gamma_n: float = 0.01,
) -> Tensor:
    """The fork of ``ds_a`` in Oct 2025: the completion's mean log-probability, spread over its tokens, so divided by the length twice."""
    reading = partial(ds_grpo, rewards, logps, mask, correct=correct, group=group, level="mean", **_VERL)
    plain, with_term = reading(gamma_p=0.0, gamma_n=0.0), reading(gamma_p=gamma_p, gamma_n=gamma_n)
    length = (mask != 0).sum(1, keepdim=True).clamp(min=1)
    return plain + (with_term - plain) / length


def ds_f(
    rewards: Tensor,
    logps: Tensor,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    gamma_p: float = 0.1,
    gamma_n: float = 0.1,
) -> Tensor:
    """UCPO's baseline, the formula literally: the summed log-probability, unbiased standard deviation.

    Like its code, it adds no term to the only correct, or the only incorrect, completion of a group.
    """
    reading = partial(ds_grpo, rewards, logps, mask, correct=correct, group=group, level="sum", eps=1e-8)
    plain, with_term = reading(gamma_p=0.0, gamma_n=0.0), reading(gamma_p=gamma_p, gamma_n=gamma_n)
    n, c, scored, right = group_counts(rewards, correct, group)
    alone = scored & (torch.where(right, c, n - c) == 1)
    return torch.where(alone[:, None], plain, with_term)
