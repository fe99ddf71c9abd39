"""Theorem 3.4 of Differential Smoothing (arXiv 2511.19942) and its neighbours: both sides, the margin, the verdict.

The statement, as it is reported: for any entropy-regularised optimum pi_ent with K(pi_ent, p) <= kappa there are
parameters of Differential Smoothing (DS) whose optimum keeps the budget, is correct at least as often, and is at least as
diverse among correct answers. Diversity here is the entropy of the policy conditional on being correct.

**Why it holds.** Write C for the mass on correct answers, W = 1 - C_b for the base's on wrong ones. K is a sum over
outcomes of a convex function, so by Jensen's inequality the wrong outcomes cost least when they keep the base's proportions.
Keep pi_ent on the correct answers and put ``(1 - C) p / W`` on the wrong: C and diversity stay, K does not rise. For a bonus
that policy *is* a DS optimum, with the same beta, gamma_p = gamma, gamma_n = 0, **and a constant c**: reward
``r - gamma_p (log p - c)`` on correct answers. For a penalty, give the correct answers the base's proportions too.

**What it needs.** The constant. Without it (c = 0, the reward form as written, r in {0, 1}) ``-gamma_p log p`` is a second
reward for being correct, and DS cannot stay as close to the base as a weakly rewarded pi_ent: see ``literal_floor``. With c the
policy's own mean of log p over correct answers, some beta > 0 always does it for the reverse KL: see ``at_budget``. That c is
what ``center=True`` of ``ds_grpo_advantages`` takes off, estimated from the group.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from differential_smoothing.tabular.closed_form import Measures, Prompts, find_root, logsumexp, measure, rounding
from differential_smoothing.tabular.divergences import REVERSE_KL, Divergence, Floats

__all__ = [
    "Challenge",
    "Dominance",
    "at_budget",
    "bonus_helps",
    "centred_ds",
    "compare",
    "improves_both",
    "literal_floor",
    "matched_ds",
    "root_error",
    "stationarity",
    "tolerance",
]

TOLERANCE = 1e-9


class Dominance(NamedTuple):
    """A challenger against a target, each (B,), >= 0 where the challenger is at least as good, NaN where there is none.

    ``correctness``: difference of log C, nats, which is the relative difference of C where it is small. ``diversity``: difference of entropies among correct answers, nats. ``budget``: K(target) - K(challenger), relative to
    K(target).
    """

    correctness: Floats
    diversity: Floats
    budget: Floats

    @property
    def worst(self) -> Floats:
        """The least of the three margins; NaN where there is no challenger."""
        return np.minimum(np.minimum(self.correctness, self.diversity), self.budget)

    @property
    def holds(self):
        """(B,) bool: all three margins are >= 0 up to 1e-9."""
        return self.worst >= -TOLERANCE


class Challenge(NamedTuple):
    """``log_pi`` (B, N) of the challenger; ``reward``, (B,), what being correct adds to its log-odds, 1/beta; ``centred``,
    the same when log p is taken relative to the challenger's own mean over correct answers. NaN where there is no challenger."""

    log_pi: Floats
    reward: Floats
    centred: Floats


def compare(challenger: Measures, target: Measures) -> Dominance:
    """The three margins of ``challenger`` over ``target``."""
    return Dominance(
        challenger.log_correct - target.log_correct,
        challenger.diversity - target.diversity,
        (target.divergence - challenger.divergence) / np.maximum(target.divergence, 1e-12),
    )


def tolerance(
    prompts: Prompts,
    challenger: Floats,
    target: Floats,
    divergence: Divergence = REVERSE_KL,
    *,
    off: Floats | float = 0.0,
) -> Floats:
    """How far rounding may move the worst margin of the policy ``challenger`` over ``target``, (B,); NaN without a challenger.

    The bounds of both sides together, see ``closed_form.rounding``; of the budget relative to K(target), as the margin is. ``off``:
    how far rounding may have moved the challenger's log-odds, where they are the root of an equation: log C moves by 1 - C of it.
    """
    bounds = [
        a + b
        for a, b in zip(rounding(prompts, challenger, divergence), rounding(prompts, target, divergence), strict=True)
    ]
    of = Measures(*bounds)
    spent = np.maximum(divergence(target, prompts.log_p), 1e-12)
    log_wrong = logsumexp(challenger, prompts.exists & ~prompts.correct)
    return np.maximum(np.maximum(of.log_correct + off * np.exp(log_wrong), of.diversity), of.divergence / spent)


def matched_ds(prompts: Prompts, log_pi: Floats, *, penalty: bool = False) -> Floats:
    """The DS optimum that Theorem 3.4 promises against the optimum ``log_pi`` of an entropy bonus, for every divergence.

    On correct answers ``log_pi``'s own values, on wrong ones the base in proportion. Against a ``penalty`` the base in
    proportion on both, which is vanilla RL, DS with gamma_p = 0; where that is less correct than the base, the base itself, the limit of a
    large beta: the penalty's K is above 0 there, so some beta < infinity does it too. (B, N) -> (B, N).
    """
    wrong = prompts.exists & ~prompts.correct
    result = log_pi
    for part in (wrong, prompts.correct) if penalty else (wrong,):
        shift = logsumexp(log_pi, part) - logsumexp(prompts.log_p, part)
        result = np.where(part, prompts.log_p + shift[:, None], result)
    if penalty:
        below = logsumexp(log_pi, prompts.correct) < logsumexp(prompts.log_p, prompts.correct)
        result = np.where(below[:, None], prompts.log_p, result)
    return result


def stationarity(
    prompts: Prompts, log_pi: Floats, gamma: Floats, beta: Floats, divergence: Divergence, *, form: str = "reward"
) -> Floats:
    """How far ``log_pi`` is from being a DS optimum with gamma_p = ``gamma`` and some constant c: (B,), relative, 0 = exactly.

    The problem is concave, so a policy is the optimum iff ``f'(pi/p) + gamma/beta log p`` (``form="reward"``), or with log pi
    (``form="policy"``, the practised term at its fixed point), is one number on the correct outcomes, and f'(pi/p) one number on
    the wrong ones. The difference of the two numbers is what r, beta and the constant make together.
    """
    beside = np.where(prompts.exists, prompts.log_p if form == "reward" else log_pi, 0.0)
    ratio = np.where(prompts.exists, log_pi - np.where(prompts.exists, prompts.log_p, 0.0), 0.0)
    slope, term = divergence.slope(ratio), (gamma / beta)[:, None] * beside
    off = np.zeros(len(log_pi))
    for part, value in ((prompts.correct, slope + term), (prompts.exists & ~prompts.correct, slope)):
        size = np.where(part, np.abs(slope) + np.abs(term), 0.0).max(1)
        spread = np.where(part, value, -np.inf).max(1) - np.where(part, value, np.inf).min(1)
        off = np.maximum(off, spread / (1 + size))
    return off


def at_budget(
    prompts: Prompts, kappa: Floats, exponent: Floats, *, rule: Literal["ds", "entropy"], least: Floats | None = None
) -> Challenge:
    """The most correct optimum of a rule that spends reverse KL ``kappa`` with tilt ``exponent`` on the correct answers.

    ``pi ~ p^exponent e^t`` on correct answers. On wrong ones ``p`` (``rule="ds"``, gamma_n = 0; exponent 1 is vanilla RL) or
    ``p^exponent`` (``"entropy"``: bonus below 1, penalty above). With the conditionals q and u fixed by the exponent,

        K = kl2(C, C_b) + C KL(q || p|correct) + (1 - C) KL(u || p|wrong),

    which falls and then rises in C: the root on the rising side is solved for in log-odds. Where the budget exceeds
    the supremum of K, any C < 1 will do, and one not below ``least`` (log-odds, (B,)) is taken. Where K is above kappa for every
    C the rule has no such optimum: NaN.
    """
    kappa, exponent = (
        np.broadcast_to(np.asarray(v, dtype=np.float64), (len(prompts.log_p),)) for v in (kappa, exponent)
    )
    least = np.full(len(kappa), -np.inf) if least is None else least
    wrong = prompts.exists & ~prompts.correct
    log_cb, log_wb = logsumexp(prompts.log_p, prompts.correct), logsumexp(prompts.log_p, wrong)
    q, right_cost, right_sum = _tilted(prompts.log_p, prompts.correct, exponent)
    u, wrong_cost, wrong_sum = _tilted(prompts.log_p, wrong, exponent if rule == "entropy" else np.ones_like(exponent))
    cheapest = (log_cb - right_cost) - (log_wb - wrong_cost)

    def spent(log_odds: Floats, row) -> Floats:
        log_c, log_w = -np.logaddexp(0.0, -log_odds), -np.logaddexp(0.0, log_odds)
        return (
            REVERSE_KL.terms(log_c - log_cb[row], log_cb[row])
            + np.exp(log_c) * right_cost[row]
            + REVERSE_KL.terms(log_w - log_wb[row], log_wb[row])
            + np.exp(log_w) * wrong_cost[row]
        )

    rows = np.arange(len(kappa))
    # No policy needs more than 800 nats above the cheapest: there 1 - C is beyond every float64.
    log_odds = find_root(lambda x, i: spent(x, i) - kappa[i], cheapest, np.maximum(cheapest, 0) + 800.0)
    free = (right_cost - log_cb <= kappa) & np.isfinite(least)
    enough = np.maximum(np.maximum(cheapest, least), right_sum - wrong_sum) + 1
    enough = np.where(spent(enough, rows) <= kappa, enough, np.maximum(cheapest, least))
    log_odds = np.where(free, enough, log_odds)
    # where C rounds to 1, K no longer tells log-odds apart: take the target's own, if the budget allows it
    log_odds = np.where((spent(np.maximum(log_odds, least), rows) <= kappa), np.maximum(log_odds, least), log_odds)

    def policy(log_odds: Floats, row) -> Floats:
        log_c, log_w = -np.logaddexp(0.0, -log_odds), -np.logaddexp(0.0, log_odds)
        right, left = log_c[:, None] + q[row], log_w[:, None] + u[row]
        return np.where(prompts.correct[row], right, np.where(wrong[row], left, -np.inf))

    log_pi = policy(log_odds, rows)
    # kappa is often the cheapest policy's own K, computed another way: both are off by rounding
    above = spent(cheapest, rows) - kappa
    row = np.flatnonzero(above > 0)
    block = Prompts(prompts.log_p[row], prompts.correct[row])
    above[row] -= 2 * rounding(block, policy(cheapest[row], row)).divergence
    within = above <= 0
    log_odds, log_pi = np.where(within, log_odds, np.nan), np.where(within[:, None], log_pi, np.nan)
    return Challenge(log_pi, log_odds - right_sum + wrong_sum, log_odds - cheapest)


def root_error(prompts: Prompts, ours: Challenge) -> Floats:
    """How far rounding may have moved the log-odds at which ``at_budget`` found K = kappa, (B,).

    K rises by ``C (1 - C) (x^2 / 2 + centred x)`` over x log-odds, to second order: solved for the x at which that is the rounding
    of K and of kappa. Where 1 - C is below e^-600 the bound is above any log-odds.
    """
    log_c, log_w = (logsumexp(ours.log_pi, part) for part in (prompts.correct, prompts.exists & ~prompts.correct))
    size = 2 * rounding(prompts, ours.log_pi).divergence * np.exp(np.minimum(-log_c - log_w, 600.0))
    above = np.maximum(ours.centred, 0.0)
    return 2 * size / np.maximum(above + np.sqrt(above**2 + 2 * size), 1e-300)


def literal_floor(prompts: Prompts, exponent: Floats) -> Floats:
    """The least reverse KL of DS without a constant whose correct answers are as diverse as tilt ``exponent`` <= 1 makes them.

    (B,), for exponents from 0 to 1; a positive reward cannot push C below ``S / (S + W)``, ``S = sum_correct p^exponent``, and K rises in C from there, in the
    strength of the tilt, and in gamma_n. So Theorem 3.4 holds without a constant exactly if kappa is above this. A condition
    on pi_ent that suffices: ``1 / beta >= log(sum_wrong p^exponent / sum_wrong p)``.
    """
    wrong = prompts.exists & ~prompts.correct
    log_cb, log_wb = logsumexp(prompts.log_p, prompts.correct), logsumexp(prompts.log_p, wrong)
    _, cost, total = _tilted(prompts.log_p, prompts.correct, exponent)
    total = np.where(cost < 1e-15, log_cb, total)  # flat already, or a single answer: vanilla RL is as diverse
    log_c, log_w = -np.logaddexp(0.0, log_wb - total), -np.logaddexp(0.0, total - log_wb)
    return REVERSE_KL.terms(log_c - log_cb, log_cb) + np.exp(log_c) * cost + REVERSE_KL.terms(log_w - log_wb, log_wb)


def bonus_helps(prompts: Prompts, log_pi: Floats) -> Floats:
    """beta / (C (1 - C)) times dC/dgamma of the reward form ``r - gamma log p`` at fixed beta, (B,), nats.

    ``E[log p | wrong] - E[log p | correct]`` under the policy ``log_pi``: positive where correct answers are the rarer ones, there
    a bonus raises C and a penalty lowers it; negative, the reverse. Exact for the reverse KL: ``log pi`` moves by
    ``-log p / beta``, and dC is the covariance with being correct.
    """
    wrong, mean = prompts.exists & ~prompts.correct, []
    for part in (wrong, prompts.correct):
        weight = np.exp(np.where(part, log_pi - logsumexp(log_pi, part)[:, None], -np.inf))
        mean.append((weight * np.where(part, prompts.log_p, 0.0)).sum(1))
    return mean[0] - mean[1]


def improves_both(
    prompts: Prompts, beta: Floats, exponent: Floats, *, equal: Literal["beta", "centred", "budget"]
) -> Dominance:
    """DS (gamma_n = 0, tilt ``exponent`` = 1 - gamma_p/beta on correct answers) against vanilla RL, at equal beta or reverse KL.

    ``"beta"``, log p as written: never less correct, since -gamma_p log p >= 0 adds to the reward of every correct answer, and not
    less diverse if 0 < gamma_p <= beta; above, the tilt is negative, the rarest answer takes over and diversity can fall. It
    spends more. ``"centred"``, the same beta with log p relative to the policy's own mean over correct answers: as diverse, and
    never more correct, its log-odds are vanilla RL's minus KL(q || p|correct). ``"budget"``: as diverse (gamma_p <= beta), and never
    more correct: vanilla RL is the most correct policy within a reverse KL ball. ``budget`` of the result tells what was spent.
    """
    vanilla = measure(prompts, _ds(prompts, beta, np.ones_like(exponent)))
    if equal != "budget":
        return compare(measure(prompts, (centred_ds if equal == "centred" else _ds)(prompts, beta, exponent)), vanilla)
    return compare(measure(prompts, at_budget(prompts, vanilla.divergence, exponent, rule="ds").log_pi), vanilla)


def centred_ds(prompts: Prompts, beta: Floats, exponent: Floats) -> Floats:
    """The DS optimum (gamma_n = 0) with log p relative to the policy's own mean over correct answers, (B, N): a fixed point.

    Its conditional ``q ~ p^exponent`` does not depend on the constant, so the mean is q's, and the log-odds of being correct are
    vanilla RL's minus KL(q || p|correct).
    """
    q, _, _ = _tilted(prompts.log_p, prompts.correct, exponent)
    mean = (np.exp(q) * np.where(prompts.correct, prompts.log_p, 0.0)).sum(1)
    return _ds(prompts, beta, exponent, mean)


def _ds(prompts: Prompts, beta: Floats, exponent: Floats, constant: Floats | float = 0.0) -> Floats:
    power = np.where(prompts.correct, exponent[:, None], 1.0)
    log_pi = np.where(prompts.exists, power * np.where(prompts.exists, prompts.log_p, 0.0), -np.inf)
    log_pi = log_pi + prompts.correct * (1 / beta + (1 - exponent) * constant)[:, None]
    return log_pi - logsumexp(log_pi)[:, None]


def _tilted(log_p: Floats, part, exponent: Floats) -> tuple[Floats, Floats, Floats]:
    """log of ``q ~ p^exponent`` on ``part``, KL(q || p|part), and log of the sum of p^exponent."""
    values = np.where(part, exponent[:, None] * np.where(part, log_p, 0.0), -np.inf)
    total = logsumexp(values, part)
    q = np.where(part, values - total[:, None], -np.inf)
    base = np.where(part, log_p - logsumexp(log_p, part)[:, None], -np.inf)
    return q, REVERSE_KL(q, base), total
