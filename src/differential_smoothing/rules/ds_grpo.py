"""DS-GRPO (Gai et al. 2025, arXiv 2511.19942) in every reading that has been published, by name.

    A_i - gamma_p * log pi_old(y_i | x)   if correct,       A_i + gamma_n * log pi_old(y_i | x)   if not

What log pi_old is, where the term is added and what A is divided by differ between public codes (letters of the table in
DECISIONS.md). ``ds_grpo`` takes any combination; ``ds_a`` to ``ds_g`` are the published ones with the values that their configs use,
gammas always >= 0 in the paper's direction. Limit: with both gammas 0 each is GRPO with its own standard deviation.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from differential_smoothing.advantages import ds_grpo_advantages

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


def ds_a(rewards, logps, mask, *, correct, group, gamma_p: float = 0.01, gamma_n: float = 0.01) -> Tensor:
    """The authors' fork of verl, Aug-Oct 2025: each token's own log-probability, population standard deviation."""
    return ds_grpo(
        rewards,
        logps,
        mask,
        correct=correct,
        group=group,
        gamma_p=gamma_p,
        gamma_n=gamma_n,
        level="token",
        correction=0,
        eps=1e-6,
    )


def ds_b(rewards, logps, mask, *, correct, group, gamma_p: float = 0.01, gamma_n: float = 0.01) -> Tensor:
    """The same fork, Oct 2025: the completion's mean log-probability, spread over its tokens, so divided by the length twice."""
    plain, with_term = (
        ds_grpo(
            rewards,
            logps,
            mask,
            correct=correct,
            group=group,
            gamma_p=p,
            gamma_n=n,
            level="mean",
            correction=0,
            eps=1e-6,
        )
        for p, n in ((0.0, 0.0), (gamma_p, gamma_n))
    )
    length = (mask != 0).sum(1, keepdim=True).clamp(min=1)
    return plain + (with_term - plain) / length


def ds_c(rewards, logps, mask, *, correct, group, gamma_p: float = 0.01, gamma_n: float = 0.01) -> Tensor:
    """The same fork, Nov 2025, its last: the mean log-probability in the reward, before centring, no standard deviation."""
    return ds_grpo(
        rewards,
        logps,
        mask,
        correct=correct,
        group=group,
        gamma_p=gamma_p,
        gamma_n=gamma_n,
        level="mean",
        stage="reward",
        scale="none",
    )


def ds_d(rewards, logps, mask, *, correct, group, gamma_p: float = 0.0, gamma_n: float = 0.0) -> Tensor:
    """Another repository of an author: ``ds_a``, switched off by default."""
    return ds_a(rewards, logps, mask, correct=correct, group=group, gamma_p=gamma_p, gamma_n=gamma_n)


def ds_e(rewards, logps, mask, *, correct, group, gamma_p: float = 0.05, gamma_n: float = 0.05) -> Tensor:
    """MaxRL's baseline: the mean log-probability, population standard deviation."""
    return ds_grpo(
        rewards,
        logps,
        mask,
        correct=correct,
        group=group,
        gamma_p=gamma_p,
        gamma_n=gamma_n,
        level="mean",
        correction=0,
        eps=1e-6,
    )


def ds_f(rewards, logps, mask, *, correct, group, gamma_p: float = 0.1, gamma_n: float = 0.1) -> Tensor:
    """UCPO's baseline, the formula literally: the summed log-probability, unbiased standard deviation."""
    return ds_grpo(
        rewards, logps, mask, correct=correct, group=group, gamma_p=gamma_p, gamma_n=gamma_n, level="sum", eps=1e-8
    )


def ds_g(rewards, logps, mask, *, correct, group, gamma_p: float = 0.01, gamma_n: float = 0.01) -> Tensor:
    """A third fork's config: "log pi_old(y|x)", read as the sum, with GRPO as in verl (eps 1e-6)."""
    return ds_grpo(
        rewards, logps, mask, correct=correct, group=group, gamma_p=gamma_p, gamma_n=gamma_n, level="sum", eps=1e-6
    )
