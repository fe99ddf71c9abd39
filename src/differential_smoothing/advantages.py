"""The method: tensors in, tensors out. Groups are ids, correctness is a mask of its own, nothing here knows a trainer.

Notation, one symbol one name in the whole project: a prompt has a *group* of completions, completion ``i`` has a
``reward``, is ``correct`` or not, and ``logps[i, t]`` is the log-probability (nats) of its token ``t`` under the policy
that sampled it, temperature included. ``mask[i, t]`` is 1 where the token counts. ``gamma_p, gamma_n >= 0`` are the
strengths on correct ("positive") and incorrect ("negative") completions, always in the paper's direction.

Differential Smoothing, Gai et al. 2025, arXiv 2511.19942: flatten the distribution over correct answers, sharpen it
over incorrect ones,

    A_i - gamma_p * log pi_old(y_i | x)    if y_i is correct,
    A_i + gamma_n * log pi_old(y_i | x)    if it is not,

with ``A_i`` the group-normalised advantage of GRPO (Shao et al. 2024, arXiv 2402.03300). What ``log pi_old(y_i | x)``
means differs between the published codes by a factor of the length, 10^2 to 10^3; it is the argument ``level`` here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .terms import (
    Density,
    Level,
    centred_logps,
    completion_logps,
    density_logps,
    one_of,
    relative_term,
    shaping_term,
    smoothing_coefficient,
    smoothing_term,
    sum_by,
)

__all__ = [  # the whole method; its terms are defined in ``terms``
    "centred_logps",
    "completion_logps",
    "density_logps",
    "ds_grpo_advantages",
    "group_advantages",
    "relative_term",
    "shaping_term",
    "smoothing_coefficient",
    "smoothing_term",
]

Scale = Literal["group", "batch", "none"]
Stage = Literal["advantage", "reward"]


def group_advantages(
    rewards: Tensor, group: Tensor, *, scale: Scale = "group", eps: float = 1e-4, correction: int = 1
) -> Tensor:
    """GRPO's advantages: ``(reward - mean of its group) / (std + eps)``.

    Args:
        rewards: (batch,) floats; NaN means unscored: it enters no mean and no standard deviation.
        group: (batch,) integer ids; equal ids share a prompt. Any order, any group sizes.
        scale: divide by the standard deviation of the ``"group"`` (GRPO), of the whole ``"batch"``, or not at all:
            ``"none"`` (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783).
        eps: added to the standard deviation. TRL uses 1e-4, verl 1e-6.
        correction: degrees of freedom taken off the standard deviation: 1 is unbiased (TRL, and so the default),
            0 is the population's (what is reported of the authors' and MaxRL's code). A single scored reward has standard deviation 0.

    Returns:
        (batch,) advantages in the dtype of ``rewards``; 0 where the reward is NaN.
    """
    _check_rewards(rewards, group)
    one_of("scale", scale, ("group", "batch", "none"))
    scored = ~rewards.isnan()
    values = rewards.nan_to_num(nan=0.0)
    index = torch.unique(group, return_inverse=True)[1]
    count = sum_by(index, scored.to(values.dtype))
    mean = sum_by(index, values) / count.clamp(min=1)
    # a second pass takes off the rounding error of the first: else a group of equal rewards (1.1, 1.1, 1.1) keeps a
    # difference of 1e-7 in float32, which a small eps blows up to an advantage of order 1
    mean = mean + sum_by(index, torch.where(scored, values - mean[index], 0.0)) / count.clamp(min=1)
    centred = torch.where(scored, values - mean[index], 0.0)
    if scale == "none":
        return centred
    if scale == "batch":  # around the batch's own mean, not the groups': what TRL's scale_rewards="batch" does
        total = scored.sum()
        around = torch.where(scored, values - values.sum() / total.clamp(min=1), 0.0)
        variance = around.square().sum() / (total - correction).clamp(min=1)
        return centred / (variance.sqrt() + eps)
    variance = sum_by(index, centred.square()) / (count - correction).clamp(min=1)
    return centred / (variance.sqrt()[index] + eps)


def ds_grpo_advantages(
    rewards: Tensor,
    logps: Tensor,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    gamma_p: float,
    gamma_n: float,
    level: Level = "token",
    stage: Stage = "advantage",
    center: bool = False,
    entropies: Tensor | None = None,
    relative: bool = False,
    floor: float = 0.2,
    density: Density = "old",
    base_logps: Tensor | None = None,
    base_weight: float = 1.0,
    scale: Scale = "group",
    eps: float = 1e-4,
    correction: int = 1,
) -> Tensor:
    """The advantages of DS-GRPO. With both gammas 0 exactly those of ``group_advantages``, on every token.

    Args:
        rewards: (batch,), NaN = unscored: out of its group's statistics, advantage 0, smoothed by nothing.
        logps, mask: (batch, tokens), see ``smoothing_term``.
        correct: (batch,) bool or {0, 1, NaN}, see ``smoothing_coefficient``. Never derived from the reward here: a
            format reward of 0.1 is not correct, and rewards of -1 are no zeros.
        group: (batch,) ids, see ``group_advantages``.
        gamma_p, gamma_n: strengths >= 0 on correct and on incorrect completions.
        level: what log pi_old is, see ``smoothing_term``.
        stage: ``"advantage"`` adds the term after normalisation, the paper's practice. ``"reward"`` adds it to the
            reward before the group's mean is taken off, the paper's theory; it needs ``level`` mean or sum.
        center: take log pi_old relative to what it is on average. Ours, in no published variant; at the advantage stage. For
            ``level`` mean or sum that is its mean over the group's completions of the same correctness, see ``centred_logps``;
            for token it is minus the entropy of the token's distribution, so that a token that was likely for its
            distribution is pushed down, an unlikely one up, and a certain one not at all.
        entropies: (batch, tokens) for ``center`` at the token level, see ``smoothing_term``; read nowhere else.
        relative, floor: strengths relative to the completion's own advantage, see ``relative_term``.
        density, base_logps, base_weight: log pi_old, log pi_base or their difference, see ``density_logps``.
        scale, eps, correction: see ``group_advantages``.

    Returns:
        (batch, tokens), 0 where masked. No gradient flows: the result is detached.

    The two stages differ in more than order. At the reward stage the advantages of a group still sum to 0, so a group
    that is all correct only moves probability between its answers. At the advantage stage an all-correct group has
    only positive and an all-wrong group only negative terms: DS then makes a gradient where GRPO has none, and a
    framework that drops groups without reward variance would change the method.

    The published variants, by where their code has them (letters of our table in DECISIONS.md):

    ===  =======================================  ===========================================================
    A    authors' fork of verl, Aug-Oct 2025      level="token", correction=0, eps=1e-6; gamma_p is minus
         (also D, another repo of an author)      the config's (negative) coefficient for correct answers
    B    same fork, Oct 2025                      A with level="mean", gammas divided by the length: no single
                                                  call, scale ``smoothing_term`` by 1 / mask.sum(1) yourself
    C    same fork, Nov 2025                      level="mean", stage="reward", scale="none"
    E    MaxRL's baseline                         level="mean", correction=0, eps=1e-6
    F    UCPO's baseline (the formula literally)  level="sum", correction=1, eps=1e-8
    ===  =======================================  ===========================================================
    """
    one_of("stage", stage, ("advantage", "reward"))
    if stage == "reward" and level == "token":
        raise ValueError(
            "stage='reward' shapes one number per completion, so level='token' has no meaning there. "
            "Use level='mean' or level='sum', or stage='advantage'."
        )
    if center and stage == "reward":
        raise ValueError(
            "center=True shifts the term at the advantage stage; the reward stage is centred by itself. Set stage='advantage', or "
            "leave center out."
        )
    if relative and (center or stage == "reward"):
        raise ValueError(
            f"relative=True is centred by itself, at the advantage stage; got center={center} and stage={stage!r}. Leave center out and "
            f"set stage='advantage'."
        )
    if center and level == "token" and density != "old":
        raise ValueError(
            f"center=True at level='token' subtracts the mean of log pi_old under the token's own distribution, which density={density!r} "
            f"does not have. Use relative=True, level='mean' or 'sum', or density='old'."
        )
    if center and level == "token" and entropies is None:
        raise ValueError(
            "center=True at level='token' needs entropies, (batch, tokens): the entropy in nats of the distribution that each token "
            "was drawn from. Pass them, or take level='mean' or 'sum', which are centred within their group."
        )
    _check_rewards(rewards, group)
    if correct.shape != rewards.shape:
        raise ValueError(f"correct must have the shape of rewards, {tuple(rewards.shape)}, got {tuple(correct.shape)}.")
    with torch.no_grad():
        coefficient = smoothing_coefficient(correct.to(rewards.dtype), gamma_p=gamma_p, gamma_n=gamma_n)
        coefficient = torch.where(rewards.isnan(), 0.0, coefficient)
        logps = density_logps(logps, base_logps, density=density, base_weight=base_weight).to(rewards.dtype)
        if stage == "reward":
            rewards = rewards + coefficient * completion_logps(logps, mask, level=level)  # type: ignore[arg-type]  # "token" was refused
            coefficient = torch.zeros_like(coefficient)
        advantages = group_advantages(rewards, group, scale=scale, eps=eps, correction=correction)
        term = shaping_term(
            logps,
            mask,
            advantages=advantages,
            correct=torch.where(rewards.isnan(), torch.nan, correct.to(rewards.dtype)),
            group=group,
            coefficient=coefficient,
            level=level,
            center=center,
            relative=relative,
            floor=floor,
            entropies=entropies if entropies is None else entropies.to(rewards.dtype),
        )
        return torch.where(mask != 0, advantages[:, None] + term, 0.0)


def _check_rewards(rewards: Tensor, group: Tensor) -> None:
    if rewards.dim() != 1 or not rewards.is_floating_point() or not rewards.numel():
        raise ValueError(
            f"rewards must be a non-empty (batch,) tensor of floats, got shape {tuple(rewards.shape)} of {rewards.dtype}."
        )
    if group.shape != rewards.shape or group.is_floating_point():
        raise ValueError(
            f"group must hold one integer id per reward, shape {tuple(rewards.shape)}; got {tuple(group.shape)} of "
            f"{group.dtype}. For n completions per prompt in order: torch.arange(prompts).repeat_interleave(n)."
        )
    if rewards.isinf().any():
        raise ValueError("rewards must be finite, or NaN for unscored; got an infinite one. Clip it in the reward.")
