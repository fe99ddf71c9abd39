"""The Pareto frontier of (correctness, entropy among correct answers) within a reverse KL budget, and who is on it.

``max C  subject to  KL(pi || p) <= kappa,  H(q) >= h`` is a convex program: with C the sum over correct answers,
``H(q) >= h`` reads ``sum_correct pi log(pi / C) + h C <= 0``, a relative entropy. KL splits into the two-point KL of (C, 1 - C), plus
``C KL(q || p|correct)``, plus ``(1 - C) KL(u || p|wrong)``; so the solution has ``u = p|wrong`` and ``q ~ p^a`` with 0 <= a <= 1: **the
optima of DS with gamma_n = 0 and 0 <= gamma_p <= beta are the frontier**, vanilla RL is its end a = 1. That takes the term shifted by a
constant: with log p relative to the policy's own mean over correct answers, which ``center=True`` estimates, every point has a
beta > 0. In the reward form as written some points need beta <= 0: where ``at_budget(...).reward`` <= 0. A bonus or a penalty tilts u too and lies
below it, unless wrong answers are all alike; so does gamma_n > 0.

For other divergences the same argument gives ``f'(x) + s log pi`` constant on correct answers: log pi, the practised term at its
fixed point, stays on the frontier, and log p, the reward form, leaves it. SciPy's SLSQP is the independent check.
"""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular.closed_form import Measures, Prompts, find_root, logsumexp, measure
from differential_smoothing.tabular.divergences import REVERSE_KL, Divergence, Floats
from differential_smoothing.tabular.theorem import at_budget

__all__ = ["correctness_on_frontier", "distance", "exponent_for", "frontier", "solve_frontier", "solve_optimum"]


def frontier(prompts: Prompts, kappa: Floats, exponents: Floats) -> tuple[Floats, Floats]:
    """(C, H) of DS with gamma_n = 0 that spends reverse KL ``kappa``, for each exponent a = 1 - gamma_p/beta: two of (B, E).

    NaN where no C is within the budget at that tilt.
    """
    points = [
        measure(prompts, at_budget(prompts, kappa, np.full(len(prompts.log_p), a), rule="ds").log_pi) for a in exponents
    ]
    return np.stack([p.correctness for p in points], 1), np.stack([p.diversity for p in points], 1)


def exponent_for(prompts: Prompts, diversity: Floats) -> Floats:
    """The exponent a in [0, 1] with ``H(q ~ p^a) = diversity``, (B,): 1 where the base has it already, NaN above log(correct)."""

    def entropy(exponent: Floats, row) -> Floats:
        values = np.where(
            prompts.correct[row], exponent[:, None] * np.where(prompts.correct[row], prompts.log_p[row], 0.0), 0.0
        )
        log_q = np.where(prompts.correct[row], values - logsumexp(values, prompts.correct[row])[:, None], -np.inf)
        return measure(Prompts(prompts.log_p[row], prompts.correct[row]), log_q).diversity

    count = len(prompts.log_p)
    found = find_root(lambda a, i: diversity[i] - entropy(a, i), np.zeros(count), np.ones(count))
    return np.where(diversity > np.log(prompts.correct.sum(1)) + 1e-12, np.nan, found)


def correctness_on_frontier(prompts: Prompts, kappa: Floats, diversity: Floats) -> Floats:
    """log C, (B,), of the most correct policy within reverse KL ``kappa`` whose entropy among correct is >= ``diversity``."""
    exponent = exponent_for(prompts, np.asarray(diversity, dtype=np.float64))
    reachable = ~np.isnan(exponent)
    point = at_budget(prompts, kappa, np.where(reachable, exponent, 1.0), rule="ds")
    return np.where(reachable, measure(prompts, point.log_pi).log_correct, np.nan)


def distance(prompts: Prompts, policy: Measures) -> Floats:
    """log C of the frontier at the policy's own reverse KL and diversity, minus its own log C: (B,), >= 0, 0 = on it."""
    return correctness_on_frontier(prompts, policy.divergence, policy.diversity) - policy.log_correct


def solve_frontier(prompts: Prompts, kappa: float, diversity: float) -> float:
    """C of one prompt's frontier by SciPy's SLSQP on the convex program; NaN if it finds nothing within the constraints."""
    p, right = _one(prompts)

    def budget(x: Floats) -> float:
        return kappa - float((x * np.log(x / p)).sum())

    def spread(x: Floats) -> float:
        q = x[right]
        return -float((q * np.log(q / q.sum())).sum()) - diversity * float(q.sum())

    def spread_slope(x: Floats) -> Floats:
        slope = np.zeros(len(x))
        slope[right] = -np.log(x[right] / x[right].sum()) - diversity
        return slope

    constraints = [
        {"type": "ineq", "fun": budget, "jac": lambda x: -np.log(x / p) - 1},
        {"type": "ineq", "fun": spread, "jac": spread_slope},
    ]
    best = _minimise(lambda x: -float(x[right].sum()), lambda x: -right.astype(float), p, constraints)
    return float("nan") if best is None else float(best[right].sum())


def solve_optimum(
    prompts: Prompts,
    reward: Floats,
    beta: float,
    divergence: Divergence = REVERSE_KL,
    entropy: float = 0.0,
    *,
    corners: bool = False,
) -> tuple[float, Floats]:
    """The largest ``E[reward] + entropy H - beta K`` of one prompt that SLSQP finds, and the policy (N,) that has it.

    ``corners`` starts it near every outcome alone too, for a negative ``entropy``, where the problem need not be concave.
    """
    p, _ = _one(prompts)

    def loss(x: Floats) -> float:
        return -objective(prompts, np.log(x)[None], reward, beta, divergence, entropy)

    def slope(x: Floats) -> Floats:
        return -(reward[0] - entropy * (np.log(x) + 1) - beta * divergence.slope(np.log(x / p)))

    best = _minimise(loss, slope, p, [], 0.1 * p + 0.9 * np.eye(len(p)) if corners else ())
    if best is None:
        raise ArithmeticError("the objective has no finite minimum from any start")
    return -loss(best), best


def _minimise(loss, slope, p: Floats, constraints: list, more=()) -> Floats | None:
    """The best feasible point of SLSQP from several starts, each resumed once: it sometimes stops early on a convex program."""
    from scipy.optimize import minimize

    total = {"type": "eq", "fun": lambda x: x.sum() - 1, "jac": np.ones_like}
    best = None
    for x in [*((1 - mix) * p + mix / len(p) for mix in (0.0, 0.5, 0.9)), *more]:
        for _ in range(2):
            x = minimize(
                loss,
                x,
                jac=slope,
                method="SLSQP",
                bounds=[(1e-13, 1.0)] * len(p),
                constraints=[total, *constraints],
                options={"ftol": 1e-16, "maxiter": 500},
            ).x.clip(1e-13, 1.0)
        feasible = abs(x.sum() - 1) < 1e-10 and all(c["fun"](x) > -1e-10 for c in constraints)
        if feasible and (best is None or loss(x) < loss(best)):
            best = x
    return best


def objective(
    prompts: Prompts,
    log_pi: Floats,
    reward: Floats,
    beta: float,
    divergence: Divergence = REVERSE_KL,
    entropy: float = 0.0,
) -> float:
    """``E[reward] + entropy H(pi) - beta K(pi, p)`` of one prompt's policy (1, N)."""
    pi = np.exp(log_pi[0])
    return float((pi * (reward[0] - entropy * log_pi[0])).sum() - beta * divergence(log_pi, prompts.log_p)[0])


def _one(prompts: Prompts) -> tuple[Floats, np.ndarray]:
    if len(prompts.log_p) != 1 or not prompts.exists.all():
        raise ValueError(f"The solver takes one prompt without padding, got a block of shape {prompts.log_p.shape}.")
    return np.exp(prompts.log_p[0]), prompts.correct[0]
