"""Why GRPO collapses on correct answers, one expected step at a time, and what each part of DS-GRPO does about it.

One prompt, one token per trajectory, one softmax; l = log pi, C the mass on correct answers, q the policy conditional on
correct, mu = E_q[l], H the entropy of q. Only logit gains of correct answers move q:

    dH/dstep = - sum_correct q (l - mu) gradient

With ``V1 = sum q^2 (l - mu) >= 0`` (a covariance of q with log q) and ``V2 = sum q^2 (l - mu)^2 >= 0``, and ``up`` the mean GRPO
advantage of a correct completion, the expected step of ``oracle.closed_form_gradient`` gives, per unit of each strength,

    GRPO                     -up C V1                     never above 0: collapse
    gamma_p, centred         +kept C V2                   never below 0
    gamma_p                  +C (V2 - (1 - C) |mu| V1)    of either sign: rare correct answers get pushed in proportion to pi
    gamma_n                  -C |sum_wrong pi l| V1       never above 0: what leaves the wrong answers goes where pi is

so at first order the paper's direction is safe for gamma_p only if it is centred, or once most answers are correct.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from differential_smoothing.tabular.closed_form import logsumexp
from differential_smoothing.tabular.divergences import Floats
from differential_smoothing.tabular.oracle import group_advantage

__all__ = ["Biases", "Rates", "biases", "correctness_rates", "diversity_rate", "diversity_rates"]


class Biases(NamedTuple):
    """Per outcome, (..., N), NaN on wrong ones. ``drawn``: the chance that a group holds the answer; ``selected``: that it holds
    the answer and a wrong one, without which GRPO does nothing; ``gain``: the expected logit gain given ``selected``;
    ``probability_gain``: the expected first-order change of its probability in one step."""

    drawn: Floats
    selected: Floats
    gain: Floats
    probability_gain: Floats


class Rates(NamedTuple):
    """d(diversity)/d(step size) in nats, (...,): of GRPO itself, and per unit of each strength of DS-GRPO."""

    grpo: Floats
    gamma_p: Floats
    gamma_p_centred: Floats
    gamma_n: Floats


def biases(log_pi: Floats, correct, group_size: int) -> Biases:
    """Selection and reinforcement bias of GRPO with groups of ``group_size``, exactly.

    ``selected = 1 - (1-pi)^G - C^G + (C-pi)^G`` rises with pi (selection bias). ``gain = up pi / selected``, and ``selected`` is concave
    in pi, so the gain rises too (reinforcement bias), strictly for G >= 3; for G = 2 a mixed group holds one correct completion,
    the gain is the same for all, and only the probability gain differs.
    """
    pi = np.where(correct, np.exp(log_pi), np.nan)
    mass = np.nansum(pi, -1, keepdims=True)
    up, down = group_advantage(mass[..., 0], group_size)
    # where the base is all but certain of one answer, 1 - pi and 1 - C round to 0 and the gain is undefined
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = -np.expm1(group_size * np.log1p(-pi))
        # C^G - (C - pi)^G = C^G (1 - (1 - pi/C)^G), without the difference of near numbers
        alone = -(mass**group_size) * np.expm1(group_size * np.log1p(-np.minimum(pi / mass, 1)))
        gradient = pi * up[..., None]
        gain = gradient / (drawn - alone)
    everywhere = np.where(correct, gradient, np.exp(log_pi) * down[..., None])
    mean = (np.exp(log_pi) * everywhere).sum(-1, keepdims=True)
    return Biases(drawn, drawn - alone, gain, pi * (gradient - mean))


def diversity_rate(log_pi: Floats, correct, gradient: Floats) -> Floats:
    """d(entropy among correct)/d(step size), (...,), of a step along ``gradient`` (..., N) with respect to the logits."""
    q, _, surprise = conditional(log_pi, correct)
    return -(q * surprise * np.where(correct, gradient, 0.0)).sum(-1)


def diversity_rates(log_pi: Floats, correct, group_size: int) -> Rates:
    """The four rates of the table above, from its right-hand sides."""
    q, log_mass, above = conditional(log_pi, correct)
    mass, first, second = np.exp(log_mass), (q**2 * above).sum(-1), (q**2 * above**2).sum(-1)
    up, _ = group_advantage(mass, group_size)
    mu = (q * np.where(correct, log_pi, 0.0)).sum(-1)
    pi = np.where(correct | (log_pi == -np.inf), 0.0, np.exp(log_pi))
    wrong = (pi * np.where(pi > 0, log_pi, 0.0)).sum(-1)
    kept = 1 - (1 - (1 - mass) ** group_size) / (group_size * mass)
    return Rates(
        -up * mass * first, mass * (second + (1 - mass) * mu * first), kept * mass * second, mass * wrong * first
    )


def correctness_rates(log_pi: Floats, correct, group_size: int) -> tuple[Floats, Floats]:
    """dC/d(step size) of GRPO, and per unit of gamma_n, (...,) each; their costs are in ``diversity_rates``.

    With ``A = sum_correct pi^2``, ``B = sum_wrong pi^2``, ``S = sum_wrong pi |l|``, ``D = sum_wrong pi^2 |l|``:

        GRPO     up ((1 - C) A + C^2 / (1 - C) B)      at the cost of up C V1 nats of diversity
        gamma_n  S ((1 - C) A - C B) + C D             at the cost of S C V1

    Per unit of C gamma_n never costs less, because ``D / S <= B / (1 - C)``: |l| falls in pi (Chebyshev's sum inequality), equal iff wrong
    answers are alike. Neither price depends on G, since ``up`` cancels.
    """
    q, log_mass, _ = conditional(log_pi, correct)
    mass = np.exp(log_mass)
    up, _ = group_advantage(mass, group_size)
    pi = np.where(correct | (log_pi == -np.inf), 0.0, np.exp(log_pi))
    rest = pi.sum(-1)
    surprise = np.where(pi > 0, -log_pi, 0.0)
    right, wrong = mass**2 * (q**2).sum(-1), (pi**2).sum(-1)
    gain = rest * right + mass**2 * wrong / np.maximum(rest, 1e-300)
    gamma_n = (pi * surprise).sum(-1) * (rest * right - mass * wrong) + mass * (pi**2 * surprise).sum(-1)
    return up * gain, gamma_n


def conditional(log_pi: Floats, correct) -> tuple[Floats, Floats, Floats]:
    log_mass = logsumexp(log_pi, correct)
    log_q = np.where(correct, log_pi - log_mass[..., None], 0.0)
    q = np.where(correct, np.exp(log_q), 0.0)
    return q, log_mass, np.where(correct, log_q - (q * log_q).sum(-1, keepdims=True), 0.0)
