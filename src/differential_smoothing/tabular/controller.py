"""Keep a share of the base's variety among right answers: measured from logs, held by moving gamma_p.

**The measure.** A right completion has ``-log pi(y) = -log q(y) + log(1 / C)`` with q the policy given that it is right, so the mean
surprisal of right completions is the variety H(q) plus log(1 / C), which falls as success rises without any variety being lost.
``log_variety`` takes log C off with harmonic numbers, from the number c of right ones among the n of a group. Over the right completions

    E[Hm(c - 1) - Hm(n - 1)] = log C + sum over k >= n of (1 - C)^k / k,

so what is left of the bias is known (``bias``) and small: 0.16 nats at C = 0.15 and n = 8, below 0.001 from C = 0.5 on.

**The controller.** Variety answers gamma_p like an integrator: it falls or rises at a rate that grows with ``gamma_p - gamma*``. Dual ascent alone, an
integral on an integrator, swings about its target, and a swing too far down does not come back (``collapse``). So most of the work is
done by a proportional part without memory, and the integral finds the scale only, which differs by levels:

    error  = (reference - ratio) / reference
    gamma_p = min(scale * max(0, 1 + gain * error), most)
    scale  *= exp(speed * lr / peak lr * error within +-0.2)        unless gamma_p is at ``most`` and the error is above 0

The reference falls from 1 to the target within ``glide`` updates, so that the term is on from the first. gamma_p is 0 wherever the ratio is
above its reference by 1 / gain: the term never pushes variety further beyond its target. Where the learning rate has gone, the integral
stands still, because nothing that it could do would show.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from differential_smoothing.advantages import completion_logps
from differential_smoothing.tabular.biases import conditional
from differential_smoothing.tabular.closed_form import Prompts, find_root, logsumexp, measure
from differential_smoothing.tabular.collapse import group_means
from differential_smoothing.tabular.divergences import Floats
from differential_smoothing.tabular.frontier import exponent_for
from differential_smoothing.tabular.oracle import closed_form_gradient
from differential_smoothing.tabular.trajectories import Trajectories, token_logps

__all__ = ["Controller", "Steered", "bias", "log_variety", "rest", "steer", "varieties"]


def log_variety(logps, mask, *, correct, group) -> tuple[float, int]:
    """The sum over right completions of their surprisal without log(1 / C), nats, and how many there are: their quotient estimates H(q).

    Args as in ``ds_grpo_advantages``; ``correct`` (batch,) bool. Sums, so that those of batches and processes can be added.
    """
    right = correct.to(torch.float64)
    index = torch.unique(group, return_inverse=True)[1]
    counted = [
        torch.zeros(len(group), dtype=torch.float64).index_add(0, index, x)[index]
        for x in (right, torch.ones_like(right))
    ]
    harmonic = torch.cumsum(
        torch.cat([torch.zeros(1, dtype=torch.float64), 1 / torch.arange(1, len(group) + 1, dtype=torch.float64)]), 0
    )
    log_success = harmonic[(counted[0].long() - 1).clamp(min=0)] - harmonic[counted[1].long() - 1]
    surprisal = log_success - completion_logps(logps.double(), mask, level="sum")
    return float(surprisal[correct].sum()), int(right.sum())


def bias(success: Floats | float, size: int) -> Floats:
    """How much ``log_variety`` of groups of ``size`` is above H(q): the sum over k >= size of ``(1 - C)^k / k``, nats."""
    success = np.asarray(success, dtype=np.float64)[..., None]
    k = np.arange(1, size)
    return -np.log(success[..., 0]) - ((1 - success) ** k / k).sum(-1)


class Controller:
    """The update above for R runs at once, each with its own ``target`` (the share of the base's variety to keep) and start ``scale``."""

    def __init__(
        self,
        target: Floats,
        scale: Floats,
        *,
        gain: float = 20.0,
        speed: float = 0.05,
        most: float = 4.0,
        glide: int = 50,
    ):
        self.target, self.scale = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(target, scale))
        if not (np.all(self.target > 0) and np.all(self.scale > 0) and gain > 1 and most > 1):
            raise ValueError(
                f"Controller needs targets and scales > 0, gain > 1 and most > 1; got {target}, {scale}, {gain} and {most}."
            )
        self.first, self.gain, self.speed, self.most, self.glide = self.scale.copy(), gain, speed, most, glide
        self.updates = 0

    def __call__(self, ratio: Floats, pace: float = 1.0) -> Floats:
        """gamma_p (R,) for the next step, from variety as a share of the base's and ``pace``, the learning rate over its peak."""
        part = min(self.updates / self.glide, 1.0) if self.glide else 1.0
        reference = 1 - (1 - self.target) * part
        self.updates += 1
        error = (reference - ratio) / reference
        wanted, most = self.scale * np.maximum(0.0, 1 + self.gain * error), self.most * self.first
        moved = self.scale * np.exp(self.speed * pace * np.clip(error, -0.2, 0.2))
        stored = np.where((wanted > most) & (error > 0), self.scale, moved)
        self.scale = np.clip(stored, self.first / 100, most)
        return np.minimum(wanted, most)


class Steered(NamedTuple):
    """R runs of P prompts: ``logits`` (R, P, M, V) at the end, and (steps, R) of the mean ``success``, ``ratio`` and ``gamma_p``."""

    logits: Floats
    success: Floats
    ratio: Floats
    gamma_p: Floats


def varieties(logits: Floats, answers: Trajectories, correct: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Success rate and entropy among right answers (nats), (...,) each, at ``logits`` (..., M, V)."""
    log_pi = token_logps(logits, answers).sum(-1)
    q, log_mass, _ = conditional(log_pi, correct)
    return np.exp(log_mass), -(q * np.log(np.where(q > 0, q, 1.0))).sum(-1)


def steer(
    logits: Floats,
    answers: Trajectories,
    correct: NDArray[np.bool_],
    size: int,
    strength,
    *,
    steps: int,
    lr: Floats,
    base: Floats | None = None,
    beta: float = 0.0,
    decay: bool = False,
    level: str = "sum",
    center: bool = False,
) -> Steered:
    """Expected training of R runs of P prompts, with gamma_p from ``strength(ratio, pace)`` (a ``Controller``) before each step.

    Args:
        logits: (R, P, M, V) at the start. lr: (R,), decaying linearly to 0 if ``decay``.
        base: (P, M, V), the policy whose variety is 1 and, with ``beta``, from which the KL divergence is penalised (one-token answers);
            None takes each run's start.
        The ratio is that of right completions: the mean over prompts of H(q) weighted by success, over the same of the base.
    """
    base = logits if base is None else np.broadcast_to(base, logits.shape)
    whole = np.broadcast_to(correct, (*logits.shape[:2], len(answers.mask)))
    success, entropy = varieties(base, answers, correct)
    first = (success * entropy).sum(1) / success.sum(1)
    logits, record = logits.copy(), []
    log_base = token_logps(base, answers).sum(-1)
    for step in range(steps):
        pace = 1 - step / steps if decay else 1.0
        success, entropy = varieties(logits, answers, correct)
        ratio = (success * entropy).sum(1) / success.sum(1) / first
        gamma_p = strength(ratio, pace)
        gradient = closed_form_gradient(
            logits, answers, whole, size, gamma_p=gamma_p[:, None, None], level=level, center=center
        )
        if beta:
            log_pi = token_logps(logits, answers).sum(-1)
            pi, gap = np.exp(log_pi), log_pi - log_base
            gradient[..., 0, :] -= beta * pi * (gap - (pi * gap).sum(-1, keepdims=True))
        logits += (lr * pace)[:, None, None, None] * gradient
        record.append((success.mean(1), ratio, gamma_p))
    return Steered(logits, *(np.array(column) for column in zip(*record, strict=True)))


def rest(given: Prompts, entropy: Floats, beta: float, size: int, *, center: bool = True) -> tuple[Floats, Floats]:
    """Where DS with gamma_n = 0 and a KL penalty ``beta`` comes to rest at this entropy among right answers: gamma_p (B,) and log pi (B, N).

    Every answer's ``advantage - gamma_p log pi - beta log(pi / p)`` is then the same: q ~ (p | right)^a with ``gamma_p = beta (1 / a - 1)``
    (over ``kept`` if centred), wrong answers in the base's proportions, and C from the one equation that is left,
    ``A+ - A- = beta (log(C / (1 - C)) + log(1 - C_b) - H(q) - E_q[log p])``, with ``gamma_p E_q[log pi]`` more on its right if not centred.
    """
    a = exponent_for(given, entropy)
    log_q = np.where(given.correct, a[:, None] * np.where(given.correct, given.log_p, 0.0), -np.inf)
    log_q = log_q - logsumexp(log_q)[:, None]
    q = np.exp(log_q)
    cross = (q * np.where(given.correct, given.log_p, 0.0)).sum(1)
    log_wrong = measure(given, given.log_p).log_wrong
    free = beta * (1 / a - 1)

    def missing(odds: Floats, row: NDArray[np.int64]) -> Floats:
        success = 1 / (1 + np.exp(-odds))
        means = group_means(success, size)
        push = means.up - means.down
        if not center:
            push = push - free[row] * (np.log(success) - entropy[row])
        return beta * (odds + log_wrong[row] - entropy[row] - cross[row]) - push

    odds = find_root(missing, *(np.full(len(a), end) for end in (-30.0, 30.0)))
    success = 1 / (1 + np.exp(-odds))
    log_pi = np.where(
        given.correct,
        log_q + np.log(success)[:, None],
        given.log_p - log_wrong[:, None] - np.logaddexp(0.0, odds)[:, None],
    )
    return (free / group_means(success, size).kept if center else free), log_pi
