"""The log-probabilities that Differential Smoothing adds to an advantage, in each of its forms. Notation: see ``advantages``."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "Density",
    "Level",
    "centred_logps",
    "completion_logps",
    "density_logps",
    "one_of",
    "relative_term",
    "shaping_term",
    "smoothing_coefficient",
    "smoothing_term",
    "sum_by",
]

Level = Literal["token", "mean", "sum"]


Density = Literal["old", "base", "ratio"]


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
    one_of("level", level, ("token", "mean", "sum"))
    check_tokens(logps, mask, coefficient.shape[0])
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
    return logps - (sum_by(index, logps) / sum_by(index, torch.ones_like(logps)).clamp(min=1))[index]


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
    one_of("density", density, ("old", "base", "ratio"))
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
    one_of("level", level, ("token", "mean", "sum"))
    check_tokens(logps, mask, coefficient.shape[0])
    if not (math.isfinite(floor) and floor >= 0):
        raise ValueError(f"floor must be a finite number >= 0, got {floor!r}. 0.2 is a fifth of a usual advantage.")
    if level == "token":
        counts = (mask != 0) & ~logps.isnan()
        index = _kinds(correct, group)
        total = sum_by(index, torch.where(counts, logps, 0.0).sum(1))
        mean = (total / sum_by(index, counts.sum(1).to(logps.dtype)).clamp(min=1))[index]
        values = torch.where(counts, logps - mean[:, None], 0.0)
    else:
        values = centred_logps(completion_logps(logps, mask, level=level), correct=correct, group=group)[:, None]
    strength = coefficient * advantages.abs().clamp(min=floor)
    return torch.where(mask != 0, strength[:, None] * values, 0.0)


def shaping_term(
    logps: Tensor,
    mask: Tensor,
    *,
    advantages: Tensor,
    correct: Tensor,
    group: Tensor,
    coefficient: Tensor,
    level: Level = "token",
    center: bool = False,
    relative: bool = False,
    floor: float = 0.2,
    entropies: Tensor | None = None,
) -> Tensor:
    """The term of the advantage stage in each of its forms: plain, centred or relative. What every host adds, (batch, tokens), 0 where masked.

    Arguments as in ``ds_grpo_advantages``. ``correct`` must be NaN where the completion is unscored; together with the completions without
    tokens these are excluded from the means over a group.
    """
    if relative or (center and level != "token"):
        kind = torch.where((mask != 0).any(1), correct, torch.nan)
    if relative:
        return relative_term(
            logps,
            mask,
            advantages=advantages,
            correct=kind,
            group=group,
            coefficient=coefficient,
            level=level,
            floor=floor,
        )
    if center and level != "token":
        centred = centred_logps(completion_logps(logps, mask, level=level), correct=kind, group=group)
        return torch.where(mask != 0, (coefficient * centred)[:, None], 0.0)
    return smoothing_term(logps, mask, coefficient=coefficient, level=level, entropies=entropies if center else None)


def completion_logps(logps: Tensor, mask: Tensor, *, level: Literal["mean", "sum"]) -> Tensor:
    """log pi_old of whole completions: the ``"sum"`` over their tokens, or the ``"mean"``. (batch, tokens) -> (batch,).

    Arguments as in ``smoothing_term``; a completion without tokens gets 0.
    """
    one_of("level", level, ("mean", "sum"))
    check_tokens(logps, mask, logps.shape[0])
    counts = (mask != 0) & ~logps.isnan()
    total = torch.where(counts, logps, 0.0).sum(1)
    return total / counts.sum(1).clamp(min=1) if level == "mean" else total


def _kinds(correct: Tensor, group: Tensor) -> Tensor:
    """(batch,) ids of the completions of one group and one correctness, 0, 1, ..."""
    kind = correct.to(torch.float32).nan_to_num(nan=2.0).long()
    index = torch.unique(group, return_inverse=True)[1] * 3 + kind
    return torch.unique(index, return_inverse=True)[1]


def sum_by(index: Tensor, values: Tensor) -> Tensor:
    """(batch,): at each place the sum of ``values`` over the places of equal ``index``, which is below the batch's size."""
    return torch.zeros(len(index), dtype=values.dtype, device=values.device).index_add_(0, index, values)


def check_tokens(logps: Tensor, mask: Tensor, batch: int) -> None:
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


def one_of(name: str, given: str, allowed: tuple[str, ...]) -> None:
    """ValueError unless ``given`` is one of the ``allowed`` values of the argument ``name``."""
    if given not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {given!r}.")
