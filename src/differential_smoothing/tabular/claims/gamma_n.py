"""What gamma_n > 0 buys and what it costs: at the optimum, in one expected step, and in the noise of finite groups.

One-token answers, and the term as published, ``+gamma_n log pi`` on wrong answers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from differential_smoothing.tabular import biases as bias
from differential_smoothing.tabular import oracle, theorem
from differential_smoothing.tabular.claims.verdict import NOT, Case, Claim, case, claim, written
from differential_smoothing.tabular.closed_form import Prompts, ds_reward, measure, optimum, prompt
from differential_smoothing.tabular.trajectories import sequences

__all__ = ["at_equal_beta", "noise", "price", "raises_correctness"]

SIZES = (2, 4, 8)


def at_equal_beta(cases: list[Case]) -> Claim:
    """Two sides of one coin: more correct than without, and dearer in KL than a lower beta that is as correct."""
    margins, paid = [], []
    for prompts, beta, strength in cases:
        plain = measure(prompts, optimum(prompts, prompts.correct * 1.0, beta))
        policy = optimum(prompts, ds_reward(prompts, 0.0, beta * strength), beta)
        ours = measure(prompts, policy)
        lower = theorem.compare(measure(prompts, theorem.matched_ds(prompts, policy)), ours)
        margins.append(np.minimum(lower.worst, (ours.log_odds - plain.log_odds) / (1 + np.abs(plain.log_odds))))
        paid.append(lower.budget)
    paid = np.concatenate(paid)
    return claim(
        "gamma_n > 0 at equal beta",
        "gamma_n > 0 makes vanilla RL's optimum more correct and no less diverse, and vanilla RL at a lower beta does the same for less KL",
        np.concatenate(margins),
        f"diversity does not change at all: the share of each correct answer stays the base's. The lower beta saves more than 1% of "
        f"the KL on {np.mean(paid > 0.01):.0%} of instances; nothing where wrong answers are alike",
    )


def raises_correctness(cases: list[Case]) -> Claim:
    """The sign of gamma_n's part in the first-order change of C."""
    margins = []
    for prompts, _, _ in [*cases, case([1 / 10, 1 / 10, 8 / 10], 1)]:
        _, rate = bias.correctness_rates(prompts.log_p, prompts.correct, 8)
        margins.append(rate)
    return claim(
        "gamma_n speeds correctness up",
        "In one expected step gamma_n > 0 adds to the gain of correctness",
        np.concatenate(margins),
        f"the same for every G. The rare wrong answers have the lowest log pi, so they are pushed down, and the likeliest wrong one may take what they "
        f"leave. Counterexample: {written(prompts)}: {rate[0]:+.4f} per unit step and gamma_n",
        expected=NOT,
        tolerance=1e-15,
    )


def price(cases: list[Case]) -> Claim:
    """Diversity paid per unit of C, gamma_n against GRPO, for every group size."""
    margins, dropped = [], 0
    for prompts, _, _ in cases:
        # log pi of a wrong answer within 1e-6 of certainty has lost the digits that decide
        log_wrong = np.where(prompts.correct, -np.inf, prompts.log_p).max(1)
        seen = log_wrong < -1e-6
        dropped += int((~seen).sum())
        prompts = Prompts(prompts.log_p[seen], prompts.correct[seen])
        costs = [bias.diversity_rates(prompts.log_p, prompts.correct, size) for size in SIZES]
        gains = [bias.correctness_rates(prompts.log_p, prompts.correct, size) for size in SIZES]
        for cost, (gain, ours) in zip(costs, gains, strict=True):
            # gain / cost of GRPO >= gain / cost of gamma_n, multiplied out: both costs are <= 0, and 0 for one correct answer
            left, right = gain * -cost.gamma_n, ours * -cost.grpo
            margins.append((left - right) / np.maximum(np.abs(left) + np.abs(right), 1e-300))
    return claim(
        "The price of gamma_n",
        "Per unit of correctness that it gains in an expected step, gamma_n > 0 costs at least as much diversity as GRPO's own step, G = 2, 4, 8",
        np.concatenate(margins),
        f"the price of either does not depend on G, only on the policy; equal iff wrong answers are alike. So in expectation gamma_n buys nothing "
        f"that a higher learning rate would not. {dropped} prompts left out: a wrong answer within 1e-6 of certainty",
        tolerance=1e-9,
    )


def _even() -> Iterator[Prompts]:
    """Twentieths: one or two correct answers with at most 8/20 of the mass, and one to three wrong ones that are alike."""
    for mass in range(1, 9):
        for first in range(1, mass // 2 + 1):
            rights = [[first, mass - first], [mass]] if first == 1 else [[first, mass - first]]
            for right in rights if mass > 1 else [[1]]:
                for wrong in (1, 2, 3):
                    yield prompt(np.array([*right, *[(20 - mass) / wrong] * wrong]) / 20, len(right))


def noise() -> Claim:
    """The case in which gamma_n helps: the gain of C over its standard deviation between groups, with and without, enumerated."""
    margins = []
    given = prompt([1 / 10, 2 / 10, 7 / 10], 2)
    for one in [*_even(), given]:
        for size in SIZES:
            ratios = [signal(one, gamma, size) for gamma in (0.0, 0.1, 1.0)]
            margins += [ratio / ratios[0] - 1 for ratio in ratios[1:]]
            if one is given and size == 2:
                shown = f"{ratios[0]:.3f} -> {ratios[2]:.3f}"
    return claim(
        "gamma_n lowers the noise",
        "Where wrong answers are alike and C <= 2/5, gamma_n = 0.1 and 1 raise the expected gain of C over its standard deviation, G = 2, 4, 8",
        margins,
        f"at an unchanged price in diversity: a group without a correct answer teaches too. So a lower learning rate with gamma_n gains the same for less "
        f"noise; not for every C > 1/2, nor where wrong answers differ. {written(given)}, G = 2, gamma_n = 1: {shown}",
        tolerance=0.0,
    )


def signal(given: Prompts, gamma_n: float, size: int) -> float:
    """Mean over standard deviation, between groups of ``size``, of the first-order gain of C of one prompt."""
    pi, right = np.exp(given.log_p[0]), given.correct[0]
    slope = pi * (right - pi[right].sum())
    bandit = sequences([[i] for i in range(len(pi))])
    mean, spread = oracle.step_moments(given.log_p, bandit, right, oracle.ds_grpo(gamma_n=gamma_n), size, slope[None])
    return mean / spread
