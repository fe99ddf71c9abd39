"""The divergences K(pi, p) that keep a policy near its base: alpha divergences, exact to rounding near and far."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIVERGENCES", "FORWARD_KL", "HELLINGER", "OPERATIONS", "REVERSE_KL", "UNIT", "Divergence", "Floats"]

Floats = NDArray[np.float64]
UNIT = 2.0**-53  # a float64 operation is exact up to this, relatively
OPERATIONS = 16  # more than stand between the parameters of an optimum and any of its log-probabilities


@dataclass(frozen=True)
class Divergence:
    """An alpha divergence ``K(pi, p) = sum_y p f(pi / p)``, ``f(x) = (x^alpha - alpha x + alpha - 1) / (alpha (alpha - 1))``.

    alpha 1 is the reverse KL(pi || p) of RL, 0 the forward KL(p || pi), 1/2 is 2 sum (sqrt pi - sqrt p)^2, four times the
    squared Hellinger distance. f is convex and f'(1) = 0 (Cichocki and Amari 2010, Entropy 12, 1532). 0 <= alpha <= 1:
    above 1 the optimum would give outcomes up altogether.
    """

    name: str
    alpha: float

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be from 0 (forward KL) to 1 (reverse KL), got {self.alpha!r}.")

    def __call__(self, log_pi: Floats, log_p: Floats) -> Floats:
        """K(pi, p), (B,)."""
        exists = log_p > -np.inf
        base = np.where(exists, log_p, 0.0)
        return np.where(exists, self.terms(np.where(exists, log_pi, 0.0) - base, base), 0.0).sum(-1)

    def terms(self, log_x: Floats, log_p: Floats) -> Floats:
        """``p f(x)``, each >= 0 and exact to rounding: near x = 1, where the formula cancels, from its series in log x."""
        a = self.alpha
        p, pi, near = np.exp(log_p), np.exp(log_p + log_x), np.abs(log_x) < 0.02
        finite = np.where(pi > 0, log_x, 0.0)
        if a == 1:
            terms = pi * finite - pi + p
        elif a == 0:
            terms = p * -log_x + pi - p
        else:
            terms = (np.exp(a * log_x + log_p) - a * pi + (a - 1) * p) / (a * (a - 1))
        if near.any():
            small, series = np.where(near, log_x, 0.0), 0.0
            for k in range(8, 1, -1):  # f = sum over k >= 2 of (1 + alpha + ... + alpha^(k-2)) (log x)^k / k!
                series = small * series + sum(a**j for j in range(k - 1)) / factorial(k)
            terms = np.where(near, p * small**2 * series, terms)
        return terms

    def error(self, log_pi: Floats, log_p: Floats, off: Floats) -> Floats:
        """How far rounding may move K(pi, p), (B,), where it may move each ``log pi - log p`` by ``off`` (B, N).

        To first order ``sum_y |dK / d log x| off``, with dK / d log x = pi f'(x), and the rounding of the sum's own terms, which
        cancel where x is not near 1. The second order counts where pi is p: there the first vanishes.
        """
        exists = log_p > -np.inf
        base = np.where(exists, log_p, 0.0)
        log_x = np.where(exists, log_pi, 0.0) - base
        p, pi = np.exp(base), np.exp(base + log_x)
        if self.alpha == 1:
            size = pi * np.abs(log_x) + pi + p
        elif self.alpha == 0:
            size = p * np.abs(log_x) + pi + p
        else:
            a = self.alpha
            size = (np.exp(a * log_x + base) + a * pi + (1 - a) * p) / (a * (1 - a))
        size = np.where(np.abs(log_x) < 0.02, p * log_x**2, size)
        moved = pi * np.abs(self.slope(log_x)) * off + p * off**2
        return np.where(exists, moved + OPERATIONS * UNIT * size, 0.0).sum(-1)

    def slope(self, log_x: Floats) -> Floats:
        """f'(x) = (x^(alpha-1) - 1) / (alpha - 1), log x for alpha 1."""
        return log_x if self.alpha == 1 else np.expm1((self.alpha - 1) * log_x) / (self.alpha - 1)

    def below(self, log_top: Floats, gap: Floats, weight: Floats | float = 0.0) -> Floats:
        """The log x whose ``f'(x) + weight log x`` is lower by ``gap`` >= 0 than at ``log_top``; weight >= 0."""
        nu = 1 - self.alpha
        if nu == 0:
            return log_top - gap / (1 + weight)
        if not np.any(weight):
            return -np.log(np.exp(-nu * log_top) + nu * gap) / nu
        # f' + weight log is concave in log x: Newton from the left rises to the root and needs no bracket.
        target = self.slope(log_top) + weight * log_top - gap
        alone = -np.log(1 - nu * np.minimum(target, 0.0)) / nu
        log_x = np.where(target < 0, np.maximum(target / (1 + weight), alone), target / (1 + weight))
        for _ in range(100):
            slope, linear = self.slope(log_x), weight * log_x
            off = target - slope - linear
            if np.all(np.abs(off) <= 4e-15 * (np.abs(target) + np.abs(slope) + np.abs(linear))):
                break
            log_x = log_x + off / (np.exp(-nu * log_x) + weight)
        return log_x


REVERSE_KL = Divergence("reverse KL", 1.0)
FORWARD_KL = Divergence("forward KL", 0.0)
HELLINGER = Divergence("Hellinger", 0.5)
DIVERGENCES = (REVERSE_KL, FORWARD_KL, HELLINGER)
