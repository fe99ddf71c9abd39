"""The paper's own measure of diversity, sigma, beside the entropy: which claims depend on the choice.

Theorem 3.4 does not: its DS optimum has the same shares among correct answers as the rule it is compared with, so no measure of those shares can tell
them apart. What orders policies with different shares can depend on it, since sigma and the entropy order some of them differently.
"""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular import theorem
from differential_smoothing.tabular.claims.verdict import NOT, Case, Claim, claim
from differential_smoothing.tabular.closed_form import (
    ds_reward,
    entropy_reward,
    measure,
    normalised_variance,
    optimum,
    prompt,
)

__all__ = ["equal_beta", "order", "theorem_3_4"]


def theorem_3_4(cases: list[Case]) -> Claim:
    """The bonus in reward form at the reverse KL: sigma of the DS optimum is at most the bonus's."""
    margins = []
    for prompts, beta, strength in cases:
        target = optimum(prompts, entropy_reward(prompts, beta * strength), beta)
        ours = theorem.matched_ds(prompts, target)
        margins.append(normalised_variance(prompts, target) - normalised_variance(prompts, ours))
    return claim(
        "Theorem 3.4, bonus, by sigma",
        "The DS optimum that matches an entropy bonus has no larger sigma, the normalised variance of the correct answers",
        np.concatenate(margins),
        "equal up to rounding: both have the same shares among correct answers, so the theorem holds for every measure of these shares",
        tolerance=1e-7,
    )


def equal_beta(cases: list[Case]) -> Claim:
    """Sigma of DS as written against vanilla RL's."""
    margins = []
    for prompts, beta, strength in cases:
        policies = (
            optimum(prompts, ds_reward(prompts, beta * s), beta) for s in (0.0 * strength, np.minimum(strength, 1))
        )
        vanilla, ours = (normalised_variance(prompts, log_pi) for log_pi in policies)
        margins.append(vanilla - ours)
    return claim(
        "DS improves both, equal beta, by sigma",
        "At the same beta, 0 < gamma_p <= beta gives the optimum no larger sigma than vanilla RL's",
        np.concatenate(margins),
        "shares p^a, with a from 1 to 0, are flatter by the entropy and by sigma alike",
        tolerance=1e-7,
    )


def order(seed: int) -> Claim:
    """Whether sigma and the entropy order two policies alike: a counterexample, and random pairs over four correct answers."""
    rng = np.random.default_rng([seed, 34])
    pairs = [(np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.49, 0.49, 0.01, 0.01])), *rng.dirichlet(np.ones(4), (200, 2))]
    margins = []
    for one, other in pairs:
        given = prompt([*(one / 2), 1 / 2], 4)
        entropies = [measure(given, np.log([[*(q / 2), 0.5]])).diversity[0] for q in (one, other)]
        sigmas = [normalised_variance(given, np.log([[*(q / 2), 0.5]]))[0] for q in (one, other)]
        margins.append((entropies[0] - entropies[1]) * (sigmas[1] - sigmas[0]))
    (one, other) = pairs[0]
    return claim(
        "Sigma orders as the entropy",
        "Of two policies the one with the larger entropy among correct answers has the smaller sigma",
        margins,
        f"it is so for {np.mean(np.array(margins[1:]) > 0):.0%} of random pairs. Counterexample: shares {one.tolist()} have the larger entropy and the "
        f"larger sigma than {other.tolist()}. So a statement on the most correct policy of a given diversity depends on the measure; Theorem 3.4 does not",
        expected=NOT,
    )
