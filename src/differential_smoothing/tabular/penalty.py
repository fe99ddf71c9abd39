"""The entropy-of-pi penalty, ``E[r] - gamma H(pi) - beta K(pi, p)``, for the divergences where it need not be concave.

For the reverse KL it is concave for gamma < beta (``closed_form.optimum`` with a negative entropy weight), and for gamma >= beta its
optimum is a single outcome, which no DS optimum with beta > 0 is. For an alpha divergence with alpha < 1 the
divergence's slope at pi = 0 is steeper than the entropy's, so every optimum keeps all outcomes; but the objective is concave on all
policies only if ``gamma <= beta min(p)^(1 - alpha)`` (that is enough), and above there can be several optima.

**All of them.** With x = pi / p, nu = 1 - alpha and ``v = (beta / gamma) x^(-nu)`` the condition for an optimum reads

    v - log v = level - nu (r / gamma + log p),    one level for all outcomes,

and has one solution v >= 1 (the objective is concave in this outcome) and one v <= 1 (convex). Two outcomes on the
convex side could trade mass and gain, so a maximum has at most one, the *pivot*. The probability of the pivot decides the level and so the
rest: a search on a line finds every maximum.

**Theorem 3.4 there.** At a *global* maximum ``x`` rises with p among correct answers: were the rarer of two the more raised, swapping or
reflecting their masses would raise the objective. So the conditional on correct answers majorises the base's, the base's is at
least as diverse, and by Jensen's inequality nearer: vanilla RL dominates, as for the reward form. A *local* maximum may have the
pivot elsewhere: there vanilla RL need not be as diverse.
"""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular.closed_form import Prompts, logsumexp
from differential_smoothing.tabular.divergences import Divergence, Floats

__all__ = ["concave", "penalty_maxima"]

GRID = 120


def concave(prompts: Prompts, gamma: Floats | float, beta: Floats | float, divergence: Divergence):
    """(B,) bool: the penalty is small enough for one optimum, ``gamma <= beta min(p)^(1 - alpha)``; < beta for the reverse KL."""
    least = np.where(prompts.exists, prompts.log_p, 0.0).min(1)
    if divergence.alpha == 1:
        return np.broadcast_to(np.asarray(gamma) < beta, least.shape)
    return np.log(gamma) <= np.log(beta) + (1 - divergence.alpha) * least


def penalty_maxima(
    prompts: Prompts, gamma: float, beta: float, divergence: Divergence, *, every: bool = False
) -> tuple[Floats, Floats]:
    """Maxima of ``E[correct] - gamma H(pi) - beta K(pi, p)`` for one prompt: log pi (M, N) and the objective (M,), best first.

    gamma > 0, beta > 0, alpha < 1. The pivots tried are the likeliest correct and the likeliest wrong outcome, which is enough for the
    global maximum; ``every=True`` tries all and returns the local maxima too. The line is searched on 120 points, so two maxima
    of one pivot that are closer than that are found as one.

    Raises ValueError for more than one prompt, the reverse KL, and gamma or beta that are not > 0.
    """
    if len(prompts.log_p) != 1 or not prompts.exists.all() or not (gamma > 0 and beta > 0) or divergence.alpha == 1:
        raise ValueError(
            f"penalty_maxima takes one prompt without padding, gamma > 0, beta > 0 and a divergence with alpha < 1; got a block of "
            f"shape {prompts.log_p.shape}, gamma {gamma}, beta {beta}, {divergence.name}. For the reverse KL use optimum(entropy=-gamma)."
        )
    log_p, right, nu = prompts.log_p[0], prompts.correct[0], 1 - divergence.alpha
    log_a, pull = np.log(beta / gamma), right / gamma + log_p
    top = int(pull.argmax())
    best = {int(np.where(part, log_p, -np.inf).argmax()) for part in (right, ~right)}
    found = []
    for pivot in range(len(log_p)) if every else sorted(best | {top}):

        def policy(w: Floats, pivot=pivot) -> Floats:
            """log pi (W, N), not normalised, from w = log v of the pivot; every other outcome on its concave side."""
            level = np.exp(w) - w + nu * pull[pivot]
            log_v = np.log(_upper(np.maximum(level[:, None] - nu * pull, 1.0)))
            log_v[:, pivot] = w
            return (log_a - log_v) / nu + log_p

        # pi <= 1 and x >= 1 for the most raised outcome; a pivot that is not the top has it on its convex side, w < 0,
        # and far enough for the top to have a solution
        low, high = log_a + nu * log_p[pivot], log_a
        if pivot != top:
            high = min(high, -_below(1 + nu * (pull[top] - pull[pivot])))
        if low >= high and pivot != top:
            continue
        grid = np.linspace(low, high, GRID)
        over = logsumexp(policy(grid)) > 0
        over[0], over[-1] = True, over[-1] and pivot != top  # exact at these ends, whatever rounding says
        # mass above 1 before and below 1 after, as the pivot's falls: only these crossings are maxima
        cells = np.flatnonzero(over[:-1] & ~over[1:])
        if not len(cells):
            continue
        left, right_end = grid[cells], grid[cells + 1]
        for _ in range(60):
            middle = (left + right_end) / 2
            above = logsumexp(policy(middle)) > 0
            left, right_end = np.where(above, middle, left), np.where(above, right_end, middle)
        values = policy(left)
        found += list(values - logsumexp(values)[:, None])
    log_pi = np.array(found)
    pi = np.exp(log_pi)
    value = (pi * (right + gamma * log_pi)).sum(1) - beta * divergence(log_pi, np.broadcast_to(log_p, pi.shape))
    order = np.argsort(-value, kind="stable")
    order = [i for n, i in enumerate(order) if all(np.abs(pi[i] - pi[j]).max() > 1e-7 for j in order[:n])]
    return log_pi[order], value[order]


def _upper(level: Floats) -> Floats:
    """v >= 1 with ``v - log v = level`` >= 1. Newton from the right of a convex function: it only falls."""
    v = level + np.sqrt(2 * (level - 1)) + 1e-9
    for _ in range(60):
        step = (v - np.log(v) - level) / np.maximum(1 - 1 / v, 1e-12)
        v = np.maximum(v - step, 1.0)
        if np.all(np.abs(step) <= 1e-15 * v):
            break
    return v


def _below(level: float) -> float:
    """-log v of the solution v <= 1 of ``v - log v = level``."""
    w = level
    for _ in range(60):
        w = w - (np.exp(-w) + w - level) / (1 - np.exp(-w)) if w > 0 else 0.0
    return w
