"""Optima of regularised RL for prompts with finitely many trajectories, exact and in log space.

A *prompt* is a base policy ``p`` over N outcomes and the set of correct ones. A rule is a reward ``R(y)`` and, for the
entropy-of-pi form, a weight on H(pi). Its optimum maximises

    E_pi[R] + entropy * H(pi) - beta * K(pi, p)

over all distributions pi. K is an alpha divergence, ``K = sum_y p(y) f(pi(y) / p(y))``, so with x = pi / p the optimum
solves ``beta f'(x) + entropy log(x p) = R - lambda``; lambda makes it sum to 1. For the reverse KL this is
``pi ~ p^(beta/(beta+entropy)) exp(R / (beta+entropy))``; for the others lambda is found by a bracketed root search.

Shapes: B prompts in a block, padded to N outcomes with log p = -inf. Probabilities down to 1e-300 are exact to rounding,
because nothing leaves log space before it is summed. Masses of correct and wrong are kept apart, so that 1 - C does not cancel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from differential_smoothing.tabular.divergences import OPERATIONS, REVERSE_KL, UNIT, Divergence, Floats

__all__ = [
    "Measures",
    "Prompts",
    "budgeted",
    "ds_reward",
    "entropy_reward",
    "find_root",
    "logsumexp",
    "measure",
    "normalised_variance",
    "optimum",
    "prompt",
    "random_prompts",
    "rounding",
]

LEAST_LOG_P = -690.0  # 1e-300: below it a float64 probability loses digits


class Prompts(NamedTuple):
    """A block: ``log_p`` (B, N) log-probabilities in nats, -inf = padding; ``correct`` (B, N) bool, False on padding."""

    log_p: Floats
    correct: NDArray[np.bool_]

    @property
    def exists(self) -> NDArray[np.bool_]:
        return self.log_p > -np.inf


class Measures(NamedTuple):
    """What a policy is worth, each (B,): log of the mass on correct and on wrong outcomes, the entropy (nats) of the policy conditional on correct, and K(pi, p)."""

    log_correct: Floats
    log_wrong: Floats
    diversity: Floats
    divergence: Floats

    @property
    def correctness(self) -> Floats:
        return np.exp(self.log_correct)

    @property
    def log_odds(self) -> Floats:
        return self.log_correct - self.log_wrong


def logsumexp(values: Floats, where: NDArray[np.bool_] | bool = True) -> Floats:
    """log sum exp over the last axis of what ``where`` marks; -inf of nothing."""
    values = np.where(where, values, -np.inf)
    top = values.max(-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - top).sum(-1)) + top[..., 0]


def prompt(p, correct) -> Prompts:
    """One prompt from probabilities ``p`` (N,) > 0 that sum to 1, and ``correct`` (N,) bools or a count of the first ones.

    Raises ValueError for anything that is not a distribution with at least one correct and one wrong outcome.
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or len(p) < 2 or not np.all(p > 0) or abs(p.sum() - 1) > 1e-9:
        raise ValueError(
            f"p must be at least two probabilities > 0 that sum to 1, got {p.tolist()} with sum {p.sum():g}. "
            f"Leave out outcomes of probability 0, and divide by the sum."
        )
    right = np.arange(len(p)) < correct if np.ndim(correct) == 0 else np.asarray(correct, dtype=bool)
    if right.shape != p.shape or right.all() or not right.any():
        raise ValueError(
            f"correct must mark at least one and not all of the {len(p)} outcomes, got {np.asarray(correct).tolist()}. "
            f"With nothing wrong or nothing right there is nothing to trade."
        )
    return Prompts(np.log(p)[None], right[None])


def random_prompts(count: int, seed: int, *, most: int = 500, cells: int = 200_000) -> Iterator[Prompts]:
    """Blocks of random prompts, ``count`` in all, each block at most ``cells`` numbers large.

    2 to ``most`` outcomes (log-uniform), Dirichlet bases whose concentration runs from 0.003 (one outcome has nearly
    everything) to 100 (flat), 1 to all-but-one correct outcomes, anywhere. Probabilities are floored at 1e-300. The same
    seed gives the same prompts.
    """
    if count < 1 or most < 2:
        raise ValueError(f"random_prompts needs count >= 1 and most >= 2, got {count} and {most}.")
    random = np.random.default_rng(seed)
    sizes = np.sort(np.floor(2 * ((most + 1) / 2) ** random.random(count)).astype(int).clip(2, most))
    start = 0
    while start < count:
        end = start + 1
        while end < count and (end + 1 - start) * sizes[end] <= cells:
            end += 1
        block = sizes[start:end]
        shape = (len(block), block[-1])
        exists = np.arange(shape[1]) < block[:, None]
        concentration = 10 ** random.uniform(-2.5, 2, (len(block), 1))
        # log of a Gamma(a) draw = log of a Gamma(a + 1) draw + log(uniform) / a, which does not underflow for small a
        log_p = np.log(random.gamma(concentration + 1, size=shape)) - random.exponential(size=shape) / concentration
        for _ in range(2):  # the floor moves the sum by nothing that a second pass would not see
            log_p = np.maximum(log_p - logsumexp(log_p, exists)[:, None], LEAST_LOG_P)
        log_p = np.where(exists, log_p - logsumexp(log_p, exists)[:, None], -np.inf)
        right = 1 + np.floor(random.random(len(block)) * (block - 1)).astype(int)
        rank = np.argsort(np.argsort(np.where(exists, random.random(shape), 2.0), 1), 1)
        yield Prompts(log_p, exists & (rank < right[:, None]))
        start = end


def entropy_reward(prompts: Prompts, gamma: Floats | float) -> Floats:
    """The reward form of a global entropy term, ``r - gamma log p`` on every outcome; gamma < 0 is the penalty. (B, N)."""
    return prompts.correct - _column(gamma) * np.where(prompts.exists, prompts.log_p, 0.0)


def ds_reward(
    prompts: Prompts, gamma_p: Floats | float, gamma_n: Floats | float = 0.0, *, constant: Floats | float = 0.0
) -> Floats:
    """The reward form of Differential Smoothing (arXiv 2511.19942), (B, N): ``r - gamma_p (log p - constant)`` on correct
    outcomes, ``r + gamma_n log p`` on wrong ones. The paper's has ``constant`` 0."""
    log_p = np.where(prompts.exists, prompts.log_p, 0.0)
    right = 1 - _column(gamma_p) * (log_p - _column(constant))
    return np.where(prompts.correct, right, _column(gamma_n) * log_p)


def optimum(
    prompts: Prompts,
    reward: Floats,
    beta: Floats | float,
    *,
    divergence: Divergence = REVERSE_KL,
    entropy: Floats | float = 0.0,
) -> Floats:
    """log pi, (B, N), of the policy that maximises ``E[reward] + entropy H(pi) - beta K(pi, p)``.

    Args:
        reward: (B, N), see ``entropy_reward`` and ``ds_reward``, or any other.
        beta: > 0, a number or (B,).
        entropy: >= 0, a number or (B,): the entropy-of-pi form of the bonus. A negative one makes a problem that need
            not be concave for divergences other than the reverse KL, where it must stay above -beta.

    Raises ValueError for beta <= 0, and for an entropy weight outside that range.
    """
    beta, weight = np.broadcast_to(_column(beta), (len(reward), 1)), _column(entropy)
    least = -beta if divergence.alpha == 1 else 0.0
    if not np.all(beta > 0) or np.any(weight < least) or (divergence.alpha == 1 and np.any(weight == -beta)):
        raise ValueError(
            f"optimum needs beta > 0 and entropy >= 0 (> -beta for the reverse KL); got beta from {np.min(beta):g} and "
            f"entropy from {np.min(weight):g}. A negative gamma in the reward form is the penalty for every divergence."
        )
    log_p = np.where(prompts.exists, prompts.log_p, 0.0)
    if divergence.alpha == 1:
        log_pi = np.where(prompts.exists, (beta * log_p + reward) / (beta + weight), -np.inf)
        return log_pi - logsumexp(log_pi)[:, None]
    weight = np.broadcast_to(weight / beta, beta.shape)
    pull = np.where(prompts.exists, reward / beta - weight * log_p, -np.inf)
    top = pull.argmax(1)
    gap = np.where(prompts.exists, np.take_along_axis(pull, top[:, None], 1) - pull, 0.0)

    def log_ratio(log_top: Floats, row: NDArray[np.int64]) -> Floats:
        return divergence.below(log_top[:, None], gap[row], weight[row])

    def excess(log_top: Floats, row: NDArray[np.int64]) -> Floats:
        return logsumexp(log_ratio(log_top, row) + prompts.log_p[row])

    # The top outcome has x >= 1, since not all can be below their base, and pi = x p <= 1: that is the bracket.
    most = -np.take_along_axis(log_p, top[:, None], 1)[:, 0]
    log_top = find_root(excess, np.zeros(len(most)), np.maximum(most, 1e-300))
    log_pi = np.where(prompts.exists, log_ratio(log_top, np.arange(len(most))) + prompts.log_p, -np.inf)
    return log_pi - logsumexp(log_pi)[:, None]


def budgeted(
    prompts: Prompts, reward: Floats, kappa: Floats | float, *, divergence: Divergence = REVERSE_KL
) -> tuple[Floats, Floats]:
    """The optimum for ``reward`` that spends the budget, K(pi, p) = kappa. Returns (beta (B,), log pi (B, N)).

    K falls as beta rises, from -log p(best outcomes) (reverse KL) to 0, so beta is unique. Where no beta > 0 in
    [1e-8, 1e12] times the reward's spread spends that much, both are NaN: the budget does not bind.
    """
    kappa = np.broadcast_to(np.asarray(kappa, dtype=np.float64), (len(reward),))
    spread = np.ptp(np.where(prompts.exists, reward, reward[:, :1]), axis=1).clip(min=1e-300)

    def excess(log_beta: Floats, row: NDArray[np.int64]) -> Floats:
        block = Prompts(prompts.log_p[row], prompts.correct[row])
        log_pi = optimum(block, reward[row], spread[row] * np.exp(log_beta), divergence=divergence)
        return kappa[row] - divergence(log_pi, block.log_p)

    ends = np.log(1e-8), np.log(1e12)
    rows = np.arange(len(kappa))
    reachable = (excess(np.full(len(kappa), ends[0]), rows) <= 0) & (excess(np.full(len(kappa), ends[1]), rows) >= 0)
    beta, log_pi = np.full(len(kappa), np.nan), np.full(reward.shape, np.nan)
    rows = np.flatnonzero(reachable)
    if len(rows):
        found = find_root(lambda t, i: excess(t, rows[i]), np.full(len(rows), ends[0]), np.full(len(rows), ends[1]))
        beta[rows] = spread[rows] * np.exp(found)
        block = Prompts(prompts.log_p[rows], prompts.correct[rows])
        log_pi[rows] = optimum(block, reward[rows], beta[rows], divergence=divergence)
    return beta, log_pi


def measure(prompts: Prompts, log_pi: Floats, divergence: Divergence = REVERSE_KL) -> Measures:
    """Correctness, diversity of the correct, and the divergence from the base, of the policies ``log_pi`` (B, N)."""
    wrong = prompts.exists & ~prompts.correct
    log_correct, log_wrong = logsumexp(log_pi, prompts.correct), logsumexp(log_pi, wrong)
    q = np.where(prompts.correct, log_pi - log_correct[:, None], -np.inf)
    diversity = -np.where(q > -np.inf, np.exp(q) * np.where(q > -np.inf, q, 0.0), 0.0).sum(1)
    return Measures(log_correct, log_wrong, diversity, divergence(log_pi, prompts.log_p))


def normalised_variance(prompts: Prompts, log_pi: Floats) -> Floats:
    """sigma, (B,): the variance of the M correct answers' shares q over their squared mean, ``M sum q^2 - 1``. 0 is uniform, M - 1 one answer.

    The paper's Theorem 3.4 states diversity as the normalised variance of the correct solutions; this is our reading of it.
    """
    q = np.exp(np.where(prompts.correct, log_pi - logsumexp(log_pi, prompts.correct)[:, None], -np.inf))
    return prompts.correct.sum(1) * (q**2).sum(1) - 1


def rounding(prompts: Prompts, log_pi: Floats, divergence: Divergence = REVERSE_KL) -> Measures:
    """How far rounding may move each of ``measure``'s numbers, (B,), from those of the exact optimum that ``log_pi`` stands for.

    A log-probability comes of ``OPERATIONS`` operations on numbers no larger than ``|log p| + |log pi|``, the largest
    ``|log pi - log p|`` of the prompt, which is within a factor of two what reward / beta and the normaliser are, and the 1 of
    ``log sum exp``, whose sum starts at ``exp(0)``. Each number moves with it by its derivative: log C by the outcome's share of C, the diversity by ``q (1 + |log q|)``, K as in
    ``Divergence.error``.
    """
    exists, wrong = prompts.exists, prompts.exists & ~prompts.correct
    log_p, own = np.where(exists, prompts.log_p, 0.0), np.where(exists, log_pi, 0.0)
    largest = np.abs(own - log_p).max(-1, keepdims=True)
    off = OPERATIONS * UNIT * (1 + np.abs(log_p) + np.abs(own) + largest)

    def of_mass(part: NDArray[np.bool_], surprise: bool = False) -> Floats:
        log_q = np.where(part, log_pi - logsumexp(log_pi, part)[:, None], -np.inf)
        weight = np.where(part, 1 + np.abs(np.where(log_q > -np.inf, log_q, 0.0)), 0.0) if surprise else 1.0
        return (np.exp(log_q) * weight * off).sum(-1)

    return Measures(
        of_mass(prompts.correct),
        of_mass(wrong),
        of_mass(prompts.correct, surprise=True),
        divergence.error(log_pi, prompts.log_p, off),
    )


def find_root(function, low: Floats, high: Floats) -> Floats:
    """Roots of ``function(x, row)``, rising from <= 0 at ``low`` to >= 0 at ``high``, one per row, to rounding.

    SciPy's vectorised Chandrupatla search; it drops rows as they converge, hence the row numbers. An end where rounding
    has turned the sign is that row's root.
    """
    from scipy.optimize.elementwise import find_root as search

    rows = np.arange(len(low))
    at_low, at_high = function(low, rows), function(high, rows)
    result = np.where(at_low >= 0, low, high)
    inside = np.flatnonzero((at_low < 0) & (at_high > 0))
    if len(inside):
        found = search(
            lambda x, i: function(x, i.astype(np.int64)),
            (low[inside], high[inside]),
            args=(inside.astype(np.float64),),
            tolerances=dict(xatol=1e-300, xrtol=1e-14, fatol=0.0, frtol=0.0),
        )
        result[inside] = found.x
    return result


def _column(value: Floats | float) -> Floats:
    value = np.asarray(value, dtype=np.float64)
    return value[:, None] if value.ndim == 1 else value.reshape(1, 1)
