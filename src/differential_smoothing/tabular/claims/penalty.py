"""The claims about the global penalty in the entropy-of-pi form, ``r - gamma H(pi)``, which need not be concave (see ``penalty``)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from differential_smoothing.tabular import frontier as front
from differential_smoothing.tabular import theorem
from differential_smoothing.tabular.claims.theorem import VANILLA
from differential_smoothing.tabular.claims.verdict import NOT, Case, Claim, claim, written
from differential_smoothing.tabular.closed_form import Prompts, logsumexp, measure, optimum, prompt, random_prompts
from differential_smoothing.tabular.divergences import FORWARD_KL, HELLINGER, Divergence, Floats
from differential_smoothing.tabular.penalty import concave, penalty_maxima

__all__ = ["local_maximum", "point_mass", "several_optima", "solver", "theorem_penalty"]

MOST = 200  # prompts for the divergences where each needs a search


def theorem_penalty(cases: list[Case], divergence: Divergence, seed: int) -> Claim:
    """Theorem 3.4 at every global optimum: all instances with gamma < beta for the reverse KL, 200 prompts for the others."""
    targets, bent = [], []
    if divergence.alpha == 1:
        for prompts, beta, strength in cases:
            weight = -beta * np.minimum(strength, 0.95)
            targets.append((prompts, optimum(prompts, prompts.correct * 1.0, beta, entropy=weight)))
        note = "gamma < beta, where the optimum is unique"
    else:
        for given, beta, gamma in _single(min(MOST, sum(len(c.beta) for c in cases)), seed):
            log_pi, value = penalty_maxima(given, gamma, beta, divergence)
            ties = value >= value[0] - 1e-12
            targets += [(given, log_pi[i : i + 1]) for i in np.flatnonzero(ties)]
            bent.append(not concave(given, gamma, beta, divergence)[0])
        note = f"every global optimum; not concave for {np.mean(bent):.0%} of the prompts"
    worst, allowed = zip(*(_dominated(given, target, divergence) for given, target in targets), strict=True)
    return claim(
        f"Theorem 3.4, penalty, entropy form, {divergence.name}",
        "For every global optimum of r - gamma H(pi) there is a DS optimum at least as correct and as diverse, no further from the base",
        np.concatenate(worst),
        f"{VANILLA}; {note}",
        tolerance=np.concatenate(allowed),
    )


def _dominated(prompts: Prompts, target: Floats, divergence: Divergence) -> tuple[Floats, Floats]:
    """The worst margin of vanilla RL over ``target``, and how far rounding may have moved it, each (B,)."""
    ours = theorem.matched_ds(prompts, target, penalty=True)
    margin = theorem.compare(measure(prompts, ours, divergence), measure(prompts, target, divergence))
    return margin.worst, theorem.tolerance(prompts, ours, target, divergence)


def _single(count: int, seed: int) -> Iterator[tuple[Prompts, float, float]]:
    """Prompts of up to 30 outcomes, beta from 0.01 to 100, gamma / beta from 0.01 to 3."""
    random = np.random.default_rng([seed, 6])
    for block in random_prompts(count, seed + 1, most=30):
        for row, size in enumerate(block.exists.sum(1)):
            beta = 10 ** random.uniform(-2, 2)
            given = Prompts(block.log_p[row : row + 1, :size], block.correct[row : row + 1, :size])
            yield given, beta, beta * 10 ** random.uniform(-2, 0.5)


def solver(small: list[Prompts], seed: int) -> Claim:
    """The search for the penalty's optimum against SLSQP, which is started from the base and from every corner."""
    random, off = np.random.default_rng([seed, 7]), []
    for number, given in enumerate(small):
        divergence = (FORWARD_KL, HELLINGER)[number % 2]
        beta = 10 ** random.uniform(-1, 0.5)
        gamma = beta * random.uniform(0.05, 2)
        _, value = penalty_maxima(given, gamma, beta, divergence)
        solved, _ = front.solve_optimum(given, given.correct * 1.0, beta, divergence, -gamma, corners=True)
        off.append(-abs(solved - value[0]) / max(abs(solved), 1e-3))
    return claim(
        "The penalty's optimum against a solver",
        "r - gamma H(pi), forward KL and Hellinger: the best of the maxima found is the best that SciPy's SLSQP finds, within 1e-9",
        off,
        f"started from the base and from near every outcome alone; {len(off)} prompts of 3 to 8 outcomes, gamma / beta up to 2",
        tolerance=1e-9,
    )


def _tenths() -> Iterator[Prompts]:
    for cut in combinations(range(1, 10), 2):
        yield prompt(np.diff((0, *cut, 10)) / 10, 2)


def several_optima() -> Claim:
    """Is the optimum unique? Two correct answers and one wrong in tenths, and three alike; the margin is how far two optima differ."""
    margins, convex = [], []
    for given in [*_tenths(), prompt([1 / 3, 1 / 3, 1 / 3], 2)]:
        for gamma in (0.05, 1.0):
            log_pi, value = penalty_maxima(given, gamma, 1.0, FORWARD_KL)
            _, every = penalty_maxima(given, gamma, 1.0, FORWARD_KL, every=True)
            second, other = _mirror(given, log_pi[0])
            margins.append(-np.abs(np.exp(other) - np.exp(log_pi[0])).max() if second else 0.0)
            if concave(given, gamma, 1.0, FORWARD_KL)[0]:
                convex.append(len(every) == 1)
    pi = np.exp(log_pi[0])
    return claim(
        "The penalty's optimum is unique, forward KL",
        "r - gamma H(pi) has one optimum for every gamma > 0, as in the reward form or for the reverse KL with gamma < beta",
        margins if all(convex) else [np.nan],
        f"it has if gamma <= beta min(p)^(1 - alpha). Else it may choose one of two like answers: Theorem 3.4 must say 'for every "
        f"optimum', and does hold for each. Counterexample: {written(given)}, beta = gamma = 1: ({pi[0]:.3f}, {pi[1]:.3f} | {pi[2]:.3f}) "
        "and the same with the correct answers exchanged",
        expected=NOT,
    )


def _mirror(given: Prompts, log_pi):
    """Is there a second optimum by symmetry, two correct answers being equally likely, and which?"""
    alike = given.log_p[0, 0] == given.log_p[0, 1] and abs(log_pi[0] - log_pi[1]) > 1e-6
    return alike, log_pi[[1, 0, 2]]


def local_maximum() -> Claim:
    """Does vanilla RL dominate a maximum that is only local? Two correct answers and one wrong in tenths."""
    margins, shown, least = [], "", 0.0
    for given in _tenths():
        log_pi, _ = penalty_maxima(given, 3.0, 1.0, FORWARD_KL, every=True)
        for one in log_pi:
            worst = float(_dominated(given, one[None], FORWARD_KL)[0][0])
            margins.append(worst)
            if worst < least:
                least, pi = worst, np.exp(one)
                shown = f"{written(given)}, beta = 1, gamma = 3: ({pi[0]:.3f}, {pi[1]:.3f} | {pi[2]:.3f})"
    return claim(
        "Theorem 3.4, penalty, entropy form, local maxima",
        "Vanilla RL also dominates every local maximum of r - gamma H(pi), forward KL, where an ascent may stop",
        margins,
        f"not where the rarer correct answer has been raised most; exchanging the two masses, which is DS with gamma_p > 0, is as diverse and nearer. Counterexample: {shown}, "
        f"{-least:.3f} nats more diverse than vanilla RL",
        expected=NOT,
    )


def point_mass() -> Claim:
    """The reverse KL with gamma >= beta: the optimum is one outcome, and if that is correct no DS optimum is as correct."""
    margins = []
    for given in [*_tenths(), prompt([1 / 2, 1 / 2], 1)]:
        # at gamma = beta the objective is linear in pi, above it convex: a corner is best, worth r + beta log p
        best = (given.correct + given.log_p).argmax(1)
        corner = np.where(np.arange(given.log_p.shape[1]) == best, 0.0, -np.inf)[None]
        ours = measure(given, optimum(given, given.correct * 1.0, 1e-3))
        margins.append((ours.log_odds - logsumexp(corner, given.correct) + logsumexp(corner, ~given.correct))[0])
    return claim(
        "Theorem 3.4, penalty, entropy form, gamma >= beta",
        "The same for the reverse KL and gamma >= beta",
        margins,
        f"in log-odds of being correct, beta = gamma = 1, against DS with beta = 1/1000. The optimum is one outcome, with all the mass; "
        f"DS comes as near as one likes (beta -> 0) and never there. Counterexample: {written(given)}: C = 1 at KL log 2",
        expected=NOT,
    )
