"""The claims about Theorem 3.4: for bonus and penalty, both forms, three divergences, and what it needs to hold."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np

from differential_smoothing.tabular import theorem
from differential_smoothing.tabular.claims.verdict import NOT, Case, Claim, claim
from differential_smoothing.tabular.closed_form import (
    Prompts,
    entropy_reward,
    find_root,
    logsumexp,
    measure,
    optimum,
    prompt,
)
from differential_smoothing.tabular.divergences import FORWARD_KL, Divergence, Floats

__all__ = ["bonus", "literal", "mixed_forms", "penalty", "reward_form_gap", "whole_budget"]

VANILLA = "it is vanilla RL's, DS with gamma_p = gamma_n = 0; where the penalty is less correct than the base, any weak enough vanilla RL"


def bonus(cases: list[Case], divergence: Divergence, form: str) -> Claim:
    """Against a bonus in ``form`` "reward" (log p) or "entropy" (of pi)."""
    worst, saved, off, allowed = [], [], [], []
    for prompts, beta, strength in cases:
        if form == "reward":
            target = optimum(prompts, entropy_reward(prompts, beta * strength), beta, divergence=divergence)
        else:
            target = optimum(prompts, prompts.correct * 1.0, beta, divergence=divergence, entropy=beta * strength)
        ours = theorem.matched_ds(prompts, target)
        margin = theorem.compare(measure(prompts, ours, divergence), measure(prompts, target, divergence))
        worst.append(margin.worst)
        saved.append(margin.budget)
        allowed.append(theorem.tolerance(prompts, ours, target, divergence))
        kind = "reward" if form == "reward" else "policy"
        off.append(theorem.stationarity(prompts, ours, beta * strength, beta, divergence, form=kind))
    off = float(np.concatenate(off).max())
    margins = np.concatenate(worst) if off < 1e-8 else np.full(1, -off)
    allowed = np.concatenate(allowed) if off < 1e-8 else 0.0
    return claim(
        f"Theorem 3.4, bonus, {form} form, {divergence.name}",
        "For every optimum of an entropy bonus there is a DS optimum at least as correct and as diverse, no further from the base",
        margins,
        f"same beta, gamma_p = gamma, gamma_n = 0, log {'p' if form == 'reward' else 'pi'} up to a constant; "
        f"median share of the budget left over {np.median(np.concatenate(saved)):.1e}; optimality to {off:.0e}",
        tolerance=allowed,
    )


def penalty(cases: list[Case], divergence: Divergence) -> Claim:
    """Against a penalty in the reward form."""
    worst, allowed = [], []
    for prompts, beta, strength in cases:
        target = optimum(prompts, entropy_reward(prompts, -beta * strength), beta, divergence=divergence)
        ours = theorem.matched_ds(prompts, target, penalty=True)
        worst.append(theorem.compare(measure(prompts, ours, divergence), measure(prompts, target, divergence)).worst)
        allowed.append(theorem.tolerance(prompts, ours, target, divergence))
    return claim(
        f"Theorem 3.4, penalty, reward form, {divergence.name}",
        "For every optimum of an entropy penalty there is one at least as correct and as diverse, no further from the base",
        np.concatenate(worst),
        VANILLA,
        tolerance=np.concatenate(allowed),
    )


def whole_budget(cases: list[Case]) -> Claim:
    """DS that spends what the bonus spends, reverse KL."""
    worst, gain, allowed = [], [], []
    for prompts, beta, strength in cases:
        bonus = optimum(prompts, entropy_reward(prompts, beta * strength), beta)
        target = measure(prompts, bonus)
        ours = theorem.at_budget(prompts, target.divergence, 1 - strength, rule="ds", least=target.log_odds)
        margin = theorem.compare(measure(prompts, ours.log_pi), target)
        worst.append(np.minimum(margin.worst, ours.centred))
        gain.append(margin.correctness)
        off = theorem.root_error(prompts, ours)
        of_policy = theorem.tolerance(prompts, ours.log_pi, bonus, off=off)
        allowed.append(np.where(ours.centred < margin.worst, off, of_policy))
    return claim(
        "Theorem 3.4, whole budget",
        "DS with the bonus's tilt and its whole reverse KL budget is at least as correct and as diverse, for some beta > 0",
        np.concatenate(worst),
        "log p taken relative to the policy's own mean over correct answers (center=True estimates it from the group); "
        f"C is more than 1% higher on {np.mean(np.concatenate(gain) > 0.01):.0%} of instances",
        tolerance=np.concatenate(allowed),
    )


def literal(cases: list[Case]) -> Claim:
    """The reward form without a constant."""
    margins = []
    for prompts, beta, strength in cases:
        target = measure(prompts, optimum(prompts, entropy_reward(prompts, beta * strength), beta))
        room = (target.divergence - theorem.literal_floor(prompts, 1 - strength)) / np.maximum(target.divergence, 1e-12)
        margins.append(room[(strength <= 1) & (prompts.correct.sum(1) > 1)])
    found = _literal_counterexample()
    return claim(
        "Theorem 3.4, no constant",
        "The same with the reward form as written: r - gamma_p log p, r in {0, 1}, beta > 0",
        np.concatenate([*margins, [found[1]]]),
        f"instances with gamma_p <= beta and at least two correct answers; holds iff kappa is above `literal_floor`; enough: 1/beta >= log(sum_wrong p^a / sum_wrong p), a = 1 - gamma/beta. "
        f"Counterexample: {found[0]}",
        expected=NOT,
        tolerance=0.0,
    )


def _literal_counterexample() -> tuple[str, float]:
    """The smallest denominator at which two correct and one wrong outcome, a = 1/2 and e^(1/beta) = 11/10 refute it."""
    for total in range(4, 40):
        for one, two in combinations(range(1, total), 2):
            if one + two >= total:
                continue
            given = prompt(np.array([one, two, total - one - two]) / total, 2)
            beta = 1 / np.log(1.1)
            target = measure(given, optimum(given, entropy_reward(given, beta / 2), beta))
            floor = theorem.literal_floor(given, np.array([0.5]))[0]
            if target.divergence[0] < floor:
                shown = ", ".join(str(Fraction(n, total)) for n in (one, two))
                return (
                    f"p = ({shown} | {Fraction(total - one - two, total)}) with the last wrong, a = 1/2, e^(1/beta) = 1.1: the bonus "
                    f"has C {target.correctness[0]:.3f} at KL {target.divergence[0]:.4f}, DS as diverse needs more than {floor:.4f}",
                    float(1 - floor / target.divergence[0]),
                )
    return "", np.nan


def reward_form_gap(given: Prompts, log_pi: Floats, divergence: Divergence) -> float:
    """The least K of a DS optimum in reward form (log p) with the C and at least the diversity of ``log_pi``, minus K of ``log_pi``.

    One prompt; infinite where no such optimum is as diverse. K rises with the tilt gamma_p / beta, so the least is at the
    first tilt that is diverse enough: bracketed on 400 tilts from 0.001 to 1,000, then solved for. For one wrong outcome and an
    entropy-of-pi optimum whose C is worth its divergence (see ``_mixed_forms``), ``log_pi`` has the unique least K at its C and
    diversity: a positive gap then says that no DS optimum in reward form dominates it.
    """
    target, ours = measure(given, log_pi, divergence), theorem.matched_ds(given, log_pi)
    inside = np.where(given.correct, given.log_p - logsumexp(given.log_p, given.correct)[:, None], -np.inf)

    def tilted(tilts: Floats) -> Floats:
        # an alpha divergence scales with C, so the conditional of a DS optimum is an optimum over the correct answers alone
        block = Prompts(np.repeat(inside, len(tilts), 0), np.repeat(given.correct, len(tilts), 0))
        return optimum(block, -tilts[:, None] * np.where(block.exists, block.log_p, 0.0), 1.0, divergence=divergence)

    def excess(tilts: Floats, row=None) -> Floats:
        block = Prompts(np.repeat(inside, len(tilts), 0), np.repeat(given.correct, len(tilts), 0))
        return measure(block, tilted(tilts)).diversity - target.diversity[0]

    tilts = np.geomspace(1e-3, 1e3, 400)
    enough = np.flatnonzero(excess(tilts) >= 0)
    if not len(enough):
        return np.inf
    first = max(int(enough[0]), 1)
    tilt = find_root(excess, tilts[first - 1 : first], tilts[first : first + 1])
    policy = np.where(given.correct, tilted(tilt) + target.log_correct[:, None], ours)
    return float(divergence(policy, given.log_p)[0] - target.divergence[0])


def mixed_forms() -> Claim:
    """The reward form of DS against the entropy-of-pi form of the bonus.

    Three different correct answers and one wrong, in tenths, beta = gamma = 1/2.

    The multiplier of C in ``min K subject to C, H`` is ``1/beta + gamma/beta (log(pi_wrong / C) + H)``; where it is positive the
    bonus's optimum is the only policy as good in all three.
    """
    gaps, best, shown = [], 0.0, ""
    for cut in combinations(range(1, 10), 3):
        parts = np.diff((0, *cut, 10))
        if len(set(parts[:3])) < 3 or list(parts[:3]) != sorted(parts[:3]):
            continue
        given = prompt(parts / 10, 3)
        target = optimum(given, given.correct * 1.0, 0.5, divergence=FORWARD_KL, entropy=0.5)
        worth = measure(given, target)
        if 2 - worth.log_odds[0] + worth.diversity[0] <= 0:
            continue
        gaps.append(-reward_form_gap(given, target, FORWARD_KL))
        if -gaps[-1] > best:
            best, shown = -gaps[-1], ", ".join(f"{n}/10" for n in parts[:3]) + f" | {parts[3]}/10"
    return claim(
        "Theorem 3.4, mixed forms, forward KL",
        "DS in the reward form (log p) also dominates the entropy-of-pi bonus, r + gamma H(pi)",
        gaps,
        f"three different correct answers and one wrong in tenths, where the bonus's optimum is unique; "
        f"for the reverse KL the two forms are one family; for others DS must take log pi, as DS-GRPO does. Counterexample: p = ({shown}), "
        f"beta = gamma = 1/2: {best:.1e} nats more divergence at the same C and diversity",
        expected=NOT,
        tolerance=1e-12,
    )
