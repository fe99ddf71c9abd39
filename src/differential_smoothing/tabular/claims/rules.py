"""The claims that compare the optima of two rules on one prompt: who is more correct, more diverse, and at what distance."""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular import frontier as front
from differential_smoothing.tabular import theorem
from differential_smoothing.tabular.claims.verdict import NOT, Case, Claim, case, claim, written
from differential_smoothing.tabular.closed_form import Measures, ds_reward, entropy_reward, measure, optimum, prompt

__all__ = ["bonus_helps", "entropy_at_budget", "gamma_n", "improves"]


def gamma_n(cases: list[Case]) -> Claim:
    """What gamma_n costs at equal reverse KL."""
    margins = []
    for prompts, beta, strength in [*cases, case([1 / 4, 2 / 4, 1 / 4], 1, 1.0)]:
        ours = measure(prompts, optimum(prompts, ds_reward(prompts, 0.0, beta * strength), beta))
        margins.append(-front.distance(prompts, ours))
    best = np.exp(front.correctness_on_frontier(prompts, ours.divergence, ours.diversity))
    return claim(
        "gamma_n > 0 at equal budget",
        "Sharpening wrong answers (gamma_n > 0) costs the optimum no correctness at the same reverse KL and diversity",
        np.concatenate(margins),
        f"it leaves the frontier unless wrong answers are alike: its KL is better spent on C. At equal beta it does raise C, and KL. "
        f"Counterexample: {written(prompts)}, beta = gamma_n = 1: C {ours.correctness[0]:.4f}, and {best[0]:.4f} without gamma_n",
        expected=NOT,
    )


def improves(cases: list[Case], equal: str) -> Claim:
    """DS against vanilla RL at equal ``"beta"``, ``"centred"`` at equal beta, or at equal ``"budget"``."""
    margins, unfit = [], 0
    for prompts, beta, strength in [*cases, case([1 / 6, 2 / 6, 3 / 6], 2)]:
        margin = theorem.improves_both(prompts, beta, 1 - np.minimum(strength, 1), equal=equal)
        worst = np.minimum(margin.correctness, margin.diversity)
        unfit += int(np.isnan(worst).sum())
        margins.append(worst)
    margins = np.concatenate(margins)
    if equal == "beta":
        given = prompt([2 / 5, 1 / 10, 1 / 2], 2)
        vanilla, ours = (measure(given, optimum(given, ds_reward(given, gamma), 1.0)) for gamma in (0.0, 3.0))
        return claim(
            "DS improves both, equal beta",
            "At the same beta, 0 < gamma_p <= beta (log p as written) makes the optimum at least as correct and as diverse as vanilla RL's",
            margins,
            f"strictly with correct answers that differ; it also moves further from the base, which is what pays for it. Not for gamma_p > "
            f"beta, where the tilt turns round: {written(given)}, beta = 1, gamma_p = 3: {_change(vanilla, ours)}. No single form has "
            f"both properties: as written it has this one and needs a constant for Theorem 3.4, centred it has the theorem's and not this one",
        )
    vanilla = measure(prompts, optimum(prompts, prompts.correct * 1.0, 1.0))
    if equal == "centred":
        ours = measure(prompts, theorem.centred_ds(prompts, beta, 1 - strength))
        name, same = (
            "DS improves both, equal beta, centred",
            "beta, log p relative to the policy's own mean over correct answers",
        )
        why = "never more correct: log-odds are vanilla RL's less KL(q || p|correct), q the policy's share of each correct answer"
    else:
        ours = measure(prompts, theorem.at_budget(prompts, vanilla.divergence, 1 - strength, rule="ds").log_pi)
        name, same = "DS improves both, equal budget", "reverse KL"
        why = f"never more correct: vanilla RL is the most correct policy of its KL ball. In {unfit} cases the tilt alone exceeds the budget"
    return claim(
        name,
        f"At the same {same}, 0 < gamma_p <= beta makes the optimum at least as correct and as diverse as vanilla RL's",
        margins,
        f"{why}. Counterexample: {written(prompts)}, beta = 1, a = 1/2: {_change(vanilla, ours)}",
        expected=NOT,
    )


def _change(before: Measures, after: Measures) -> str:
    return (
        f"C {before.correctness[0]:.5f} -> {after.correctness[0]:.5f}, "
        f"diversity {before.diversity[0]:.3f} -> {after.diversity[0]:.3f}"
    )


def bonus_helps(cases: list[Case]) -> Claim:
    """The sign of the slope of C in the strength of a bonus."""
    margins, signs = [], []
    for prompts, beta, _ in cases:
        here = optimum(prompts, prompts.correct * 1.0, beta)
        rise = theorem.bonus_helps(prompts, here)
        step = 1e-5 * beta
        up, down = (
            measure(prompts, optimum(prompts, entropy_reward(prompts, s * step), beta)).log_odds for s in (1, -1)
        )
        margins.append(1e-4 - np.abs((up - down) / 2e-5 - rise) / (1 + np.abs(rise)))
        signs.append(rise)
    return claim(
        "When a bonus or a penalty helps",
        "At equal beta a small bonus raises C iff E[log p | wrong] > E[log p | correct], a penalty iff the reverse",
        np.concatenate(margins),
        f"C's slope by differences against the formula, within 1e-4; the bonus side is {np.mean(np.concatenate(signs) > 0):.0%} of instances",
        tolerance=0.0,
    )


def entropy_at_budget(cases: list[Case]) -> Claim:
    """A bonus or a penalty against vanilla RL at equal reverse KL."""
    margins = []
    for prompts, beta, strength in [*cases, case([1 / 4, 2 / 4, 1 / 4], 2)]:
        vanilla = measure(prompts, optimum(prompts, prompts.correct * 1.0, beta))
        shown = []
        for sign in (1, -1):
            other = theorem.at_budget(prompts, vanilla.divergence, 1 - sign * np.minimum(strength, 1), rule="entropy")
            ours = measure(prompts, other.log_pi)
            margins.append(ours.log_correct - vanilla.log_correct)
            shown.append(ours.correctness[0])
    return claim(
        "A bonus or a penalty at equal budget",
        "A bonus or a penalty (gamma <= beta) costs the optimum no correctness against vanilla RL's at the same reverse KL",
        np.concatenate(margins),
        f"a bonus and a penalty per instance. It always does, unless the base is flat where it tilts: what helps at equal beta is the "
        f"larger distance. Counterexample: {written(prompts)}, beta = 1, gamma = 1/2: C {vanilla.correctness[0]:.4f} -> "
        f"{shown[0]:.4f} with a bonus, {shown[1]:.4f} with a penalty",
        expected=NOT,
    )
