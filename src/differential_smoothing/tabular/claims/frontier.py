"""The claims about the frontier of correctness and diversity, and about what an independent solver finds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from differential_smoothing.tabular import frontier as front
from differential_smoothing.tabular import theorem
from differential_smoothing.tabular.claims.verdict import FAIL, Case, Claim, case, claim, written
from differential_smoothing.tabular.closed_form import Prompts, ds_reward, entropy_reward, measure, optimum, prompt
from differential_smoothing.tabular.divergences import DIVERGENCES

__all__ = ["bonus_dominates", "nothing_beyond", "small_prompts", "solver_frontier", "solver_optima"]


def bonus_dominates(cases: list[Case]) -> Claim:
    """A statement that must be refuted: the theorem with its sides exchanged."""
    margins = []
    for prompts, beta, strength in [*cases, case([1 / 4, 2 / 4, 1 / 4], 1)]:
        ours = optimum(prompts, ds_reward(prompts, beta * strength), beta)
        target = measure(prompts, ours)
        other = theorem.at_budget(prompts, target.divergence, 1 - strength, rule="entropy")
        bonus = measure(prompts, other.log_pi)
        margins.append(theorem.compare(bonus, target).worst)
    return claim(
        "A global bonus dominates DS",
        "Deliberately wrong: for every DS optimum there is a bonus with its tilt that is as good in all three",
        np.concatenate(margins),
        f"true only where wrong answers are alike, or the tilt is too weak to see. Counterexample: {written(prompts)}, beta = 1, "
        f"gamma = 1/2: C {target.correctness[0]:.4f} against {bonus.correctness[0]:.4f} at the same KL",
        expected=FAIL,
    )


def small_prompts(count: int, seed: int) -> Iterator[Prompts]:
    """Prompts of 3 to 8 outcomes with at least two correct ones, for what needs a solver."""
    random = np.random.default_rng([seed, 2])
    for _ in range(count):
        p = random.dirichlet(np.full(random.integers(3, 9), 10 ** random.uniform(-0.5, 1))) + 1e-3
        yield prompt(p / p.sum(), int(random.integers(2, len(p))))


def solver_optima(small: list[Prompts], seed: int) -> Claim:
    """The closed form against SLSQP."""
    random, off = np.random.default_rng([seed, 3]), []
    for number, given in enumerate(small):
        divergence, form = DIVERGENCES[number % 3], number // 3 % 3
        beta, strength = 10 ** random.uniform(-1, 0.5), random.uniform(0.05, 1.2)
        reward = (entropy_reward(given, beta * strength), given.correct * 1.0, ds_reward(given, beta * strength, 0.3))[
            form
        ]
        weight = beta * strength if form == 1 else 0.0
        ours = optimum(given, reward, beta, divergence=divergence, entropy=weight)
        value = front.objective(given, ours, reward, beta, divergence, weight)
        solved, _ = front.solve_optimum(given, reward, beta, divergence, weight)
        off.append(-abs(solved - value) / max(abs(value), 1e-3))
    return claim(
        "Optima against a solver",
        "The closed form's objective is that of SciPy's SLSQP on the convex program, within 1e-9",
        off,
        f"all divergences, both entropy forms, and DS; {len(off)} prompts of 3 to 8 outcomes, because each needs a solver",
        tolerance=1e-9,
    )


def solver_frontier(small: list[Prompts], seed: int) -> Claim:
    """The frontier against SLSQP."""
    random, off, literal = np.random.default_rng([seed, 4]), [], []
    for given in small:
        exponent, kappa = np.array([random.uniform(0.1, 1)]), random.uniform(0.02, 0.6)
        correct, diversity = front.frontier(given, kappa, exponent)
        while np.isnan(correct[0, 0]):  # the tilt alone costs more than the budget
            exponent = (1 + exponent) / 2
            correct, diversity = front.frontier(given, kappa, exponent)
        off.append(-abs(front.solve_frontier(given, kappa, diversity[0, 0]) - correct[0, 0]))
        literal.append(theorem.at_budget(given, kappa, exponent, rule="ds").reward[0])
    return claim(
        "DS with gamma_n = 0 is the frontier",
        "Reverse KL, gamma_p <= beta, the term shifted by a constant (center=True estimates one): no policy within the budget is more "
        "correct at its diversity; C is that of the convex program, within 1e-6",
        off,
        f"vanilla RL is the end a = 1. The reward form as written would need beta <= 0, a reward for being wrong, at "
        f"{np.mean(np.array(literal) <= 0):.0%} of the points; {len(off)} prompts of 3 to 8 outcomes, because each needs a solver",
        tolerance=1e-6,
    )


def nothing_beyond(cases: list[Case]) -> Claim:
    """Where the rules lie, on the frontier or below."""
    rules = {"bonus": [], "penalty": [], "DS": [], "DS, gamma_n": []}
    for prompts, beta, strength in cases:
        gamma = beta * np.minimum(strength, 1)
        for gaps, reward in zip(
            rules.values(),
            (
                entropy_reward(prompts, gamma),
                entropy_reward(prompts, -gamma),
                ds_reward(prompts, gamma),
                ds_reward(prompts, gamma, gamma),
            ),
            strict=True,
        ):
            gaps.append(front.distance(prompts, measure(prompts, optimum(prompts, reward, beta))))
    gaps = {name: np.concatenate(parts) for name, parts in rules.items()}
    every = np.concatenate(list(gaps.values()))
    away = ", ".join(f"{name} {np.nanmean(np.minimum(gap, 50) > 1e-6):.0%}" for name, gap in gaps.items())
    return claim(
        "Nothing beyond the frontier",
        "For gammas <= beta, bonus, penalty and DS lie on the frontier of their own budget and diversity, or below",
        every,
        f"four rules per instance; below it by more than 1e-6 in log C: {away}",
        tolerance=1e-7,
    )
