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

import math
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "centred_logps",
    "completion_logps",
    "density_logps",
    "ds_grpo_advantages",
    "group_advantages",
    "relative_term",
    "smoothing_coefficient",
    "smoothing_term",
]

Scale = Literal["group", "batch", "none"]
Level = Literal["token", "mean", "sum"]
Stage = Literal["advantage", "reward"]
Density = Literal["old", "base", "ratio"]


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
    _one_of("scale", scale, ("group", "batch", "none"))
    scored = ~rewards.isnan()
    values = rewards.nan_to_num(nan=0.0)
    index = torch.unique(group, return_inverse=True)[1]
    count = _sum_by(index, scored.to(values.dtype))
    mean = _sum_by(index, values) / count.clamp(min=1)
    # a second pass takes off the rounding error of the first: else a group of equal rewards (1.1, 1.1, 1.1) keeps a
    # difference of 1e-7 in float32, which a small eps blows up to an advantage of order 1
    mean = mean + _sum_by(index, torch.where(scored, values - mean[index], 0.0)) / count.clamp(min=1)
    centred = torch.where(scored, values - mean[index], 0.0)
    if scale == "none":
        return centred
    if scale == "batch":  # around the batch's own mean, not the groups': what TRL's scale_rewards="batch" does
        total = scored.sum()
        around = torch.where(scored, values - values.sum() / total.clamp(min=1), 0.0)
        variance = around.square().sum() / (total - correction).clamp(min=1)
        return centred / (variance.sqrt() + eps)
    variance = _sum_by(index, centred.square()) / (count - correction).clamp(min=1)
    return centred / (variance.sqrt()[index] + eps)


def smoothing_coefficient(correct: Tensor, *, gamma_p: float, gamma_n: float) -> Tensor:
    """What multiplies log pi_old, per completion: ``-gamma_p`` if correct, ``+gamma_n`` if not, 0 if unknown.

    Args:
        correct: (batch,) bool, or floats in {0, 1, NaN} where NaN means unknown.

    Returns:
        (batch,) floats: of ``correct``'s dtype if it has floats, else torch's default.
    """
    for name, gamma in (("gamma_p", gamma_p), ("gamma_n", gamma_n)):
        if not (isinstance(gamma, Real) and math.isfinite(gamma) and gamma >= 0):
            raise ValueError(
                f"{name} must be a finite number >= 0, got {gamma!r}. In this project both gammas are >= 0 in the paper's "
                f"direction: gamma_p flattens correct answers, gamma_n sharpens incorrect ones. A config of the authors' "
                f"verl fork with a negative coefficient for correct answers means gamma_p = its absolute value."
            )
    known = correct.to(torch.get_default_dtype()) if not correct.is_floating_point() else correct
    if not ((known == 0) | (known == 1) | known.isnan()).all():
        raise ValueError(
            f"correct must hold True/False (or 1, 0, NaN = unknown), got values such as "
            f"{known[(known != 0) & (known != 1) & ~known.isnan()][0].item()}. It is a mask of its own, not a reward: "
            f"pass for example `reward > 0.5`."
        )
    signed = torch.where(known == 1, known.new_tensor(-float(gamma_p)), known.new_tensor(float(gamma_n)))
    return torch.where(known.isnan(), 0.0, signed)


def smoothing_term(
    logps: Tensor, mask: Tensor, *, coefficient: Tensor, level: Level = "token", entropies: Tensor | None = None
) -> Tensor:
    """``coefficient * log pi_old`` on every token: what Differential Smoothing adds to the advantage.

    Args:
        logps: (batch, tokens) log-probabilities of the sampling policy, nats. Masked entries may hold anything. A NaN
            under the mask (a sampler that could not score the token) counts as masked.
        mask: (batch, tokens), nonzero where the token counts.
        coefficient: (batch,) of ``smoothing_coefficient``.
        level: ``"token"`` gives each token its own log-probability, ``"sum"`` gives every token that of the whole
            completion, ``"mean"`` the completion's divided by its length. A completion without tokens gets 0.
        entropies: (batch, tokens), nats, of the distribution that each token was drawn from. With them the ``"token"`` level
            takes ``logp + entropy``, which is 0 on average over the draws: see ``center`` of ``ds_grpo_advantages``.

    Returns:
        (batch, tokens), 0 where masked.
    """
    _one_of("level", level, ("token", "mean", "sum"))
    _check_tokens(logps, mask, coefficient.shape[0])
    if entropies is not None and (level != "token" or entropies.shape != logps.shape):
        raise ValueError(
            f"entropies centre single tokens: they need level='token' and the shape of logps, {tuple(logps.shape)}; got "
            f"level={level!r} and {tuple(entropies.shape)}."
        )
    if level == "token":
        values = logps if entropies is None else logps + entropies
        values = torch.where(logps.isnan(), 0.0, values)
    else:
        values = completion_logps(logps, mask, level=level)[:, None]
    return torch.where(mask != 0, coefficient[:, None] * values, 0.0)


def centred_logps(logps: Tensor, *, correct: Tensor, group: Tensor) -> Tensor:
    """log pi_old of whole completions minus its mean over the group's completions of the same correctness.

    With this the term sums to 0 over the correct and over the incorrect answers of a group: it moves probability
    between right answers (or between wrong ones) and gives no free push to all of them, which sharpens.

    Args:
        logps: (batch,) of ``completion_logps``.
        correct: (batch,) bool or {0, 1, NaN}; completions of unknown correctness are centred among themselves.
        group: (batch,) ids.
    """
    index = _kinds(correct, group)
    return logps - (_sum_by(index, logps) / _sum_by(index, torch.ones_like(logps)).clamp(min=1))[index]


def density_logps(
    logps: Tensor, base_logps: Tensor | None, *, density: Density = "old", base_weight: float = 1.0
) -> Tensor:
    """The log-probabilities that the term is made of.

    Args:
        logps, base_logps: (batch, tokens), nats, of the sampling policy and of the frozen base; the latter is read only where it is needed.
        density: ``"old"`` is log pi_old, the paper's practice; ``"base"`` is log pi_base, the paper's theory (Eq. 4); ``"ratio"`` is
            ``log pi_old - base_weight * log pi_base``, which pulls right answers to the base's own proportions (weight 1) instead of to
            equal ones (weight 0).

    Returns:
        (batch, tokens).
    """
    _one_of("density", density, ("old", "base", "ratio"))
    if density == "old":
        return logps
    if base_logps is None or base_logps.shape != logps.shape:
        given = None if base_logps is None else tuple(base_logps.shape)
        raise ValueError(
            f"density={density!r} needs base_logps of the shape of logps, {tuple(logps.shape)}: the log-probabilities of the same tokens "
            f"under the frozen base model; got {given}."
        )
    return base_logps if density == "base" else logps - base_weight * base_logps


def relative_term(
    logps: Tensor,
    mask: Tensor,
    *,
    advantages: Tensor,
    correct: Tensor,
    group: Tensor,
    coefficient: Tensor,
    level: Level = "token",
    floor: float = 0.2,
) -> Tensor:
    """Differential Smoothing with a strength relative to the advantage: what it adds to every token.

        coefficient_i * max(|A_i|, floor) * (log pi_old - its mean over the group's tokens of the same correctness)

    A correct completion gets ``A_i * (1 - gamma_p * (log pi_old - mean))``: one strength for all success rates, since the force that
    collapses the right answers is their own advantage, sqrt((1 - C) / C) at success rate C. ``floor`` keeps a restoring force where all
    answers are right and the advantage is 0. Ours, in no published variant; the laboratory has its dynamics.

    Args:
        logps, mask: (batch, tokens), see ``smoothing_term``.
        advantages: (batch,) of ``group_advantages`` or of another rule.
        correct: (batch,) bool or {0, 1, NaN}; completions of unknown correctness are compared among themselves.
        group: (batch,) ids.
        coefficient: (batch,) of ``smoothing_coefficient``.
        level: the mean is over the ``"token"``s, or over the completions' ``"mean"`` or ``"sum"``.
        floor: least size of the advantage, >= 0.

    Returns:
        (batch, tokens), 0 where masked.
    """
    _one_of("level", level, ("token", "mean", "sum"))
    _check_tokens(logps, mask, coefficient.shape[0])
    if not (math.isfinite(floor) and floor >= 0):
        raise ValueError(f"floor must be a finite number >= 0, got {floor!r}. 0.2 is a fifth of a usual advantage.")
    if level == "token":
        counts = (mask != 0) & ~logps.isnan()
        index = _kinds(correct, group)
        total = _sum_by(index, torch.where(counts, logps, 0.0).sum(1))
        mean = (total / _sum_by(index, counts.sum(1).to(logps.dtype)).clamp(min=1))[index]
        values = torch.where(counts, logps - mean[:, None], 0.0)
    else:
        values = centred_logps(completion_logps(logps, mask, level=level), correct=correct, group=group)[:, None]
    strength = coefficient * advantages.abs().clamp(min=floor)
    return torch.where(mask != 0, strength[:, None] * values, 0.0)


def completion_logps(logps: Tensor, mask: Tensor, *, level: Literal["mean", "sum"]) -> Tensor:
    """log pi_old of whole completions: the ``"sum"`` over their tokens, or the ``"mean"``. (batch, tokens) -> (batch,).

    Arguments as in ``smoothing_term``; a completion without tokens gets 0.
    """
    _one_of("level", level, ("mean", "sum"))
    _check_tokens(logps, mask, logps.shape[0])
    counts = (mask != 0) & ~logps.isnan()
    total = torch.where(counts, logps, 0.0).sum(1)
    return total / counts.sum(1).clamp(min=1) if level == "mean" else total


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
    _one_of("stage", stage, ("advantage", "reward"))
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
            rewards = rewards + coefficient * completion_logps(logps, mask, level=level)
            coefficient = torch.zeros_like(coefficient)
        advantages = group_advantages(rewards, group, scale=scale, eps=eps, correction=correction)
        if center and level == "token":
            term = smoothing_term(logps, mask, coefficient=coefficient, entropies=entropies.to(rewards.dtype))
        elif center or relative:
            # exclude unscored completions and those without tokens from the group's mean
            compared = ~rewards.isnan() & (mask != 0).any(1)
            kind = torch.where(compared, correct.to(rewards.dtype), torch.nan)
            if relative:
                term = relative_term(
                    logps,
                    mask,
                    advantages=advantages,
                    correct=kind,
                    group=group,
                    coefficient=coefficient,
                    level=level,
                    floor=floor,
                )
            else:
                centred = centred_logps(completion_logps(logps, mask, level=level), correct=kind, group=group)
                term = (coefficient * centred)[:, None]
        else:
            term = smoothing_term(logps, mask, coefficient=coefficient, level=level)
        return torch.where(mask != 0, advantages[:, None] + term, 0.0)


def _kinds(correct: Tensor, group: Tensor) -> Tensor:
    """(batch,) ids of the completions of one group and one correctness, 0, 1, ..."""
    kind = correct.to(torch.float32).nan_to_num(nan=2.0).long()
    index = torch.unique(group, return_inverse=True)[1] * 3 + kind
    return torch.unique(index, return_inverse=True)[1]


def _sum_by(index: Tensor, values: Tensor) -> Tensor:
    return torch.zeros(len(index), dtype=values.dtype, device=values.device).index_add_(0, index, values)


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


def _check_tokens(logps: Tensor, mask: Tensor, batch: int) -> None:
    if logps.dim() != 2 or logps.shape != mask.shape or logps.shape[0] != batch:
        raise ValueError(
            f"logps and mask must both be (batch, tokens) with batch = {batch}; got {tuple(logps.shape)} and "
            f"{tuple(mask.shape)}."
        )
    if (logps.isinf() & (mask != 0)).any():
        raise ValueError(
            "logps holds an infinite log-probability under the mask: the sampling policy cannot have drawn that token. "
            "Check that mask marks completion tokens only and that logps come from the policy that sampled."
        )


def _one_of(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {given!r}.")
