"""Quantities with their resampled distribution: means, ratios and the slope of the diagnosis, over the same resamples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..resampling import draw_weights

__all__ = ["SLOPES", "Bootstrap", "Finding", "root"]

# The slopes at which the estimating equation is evaluated once for all resamples: dense where slopes usually lie.
SLOPES = np.concatenate([np.linspace(-1, 2, 61), np.linspace(2.25, 10, 32)])


@dataclass(frozen=True)
class Finding:
    """One quantity of the diagnosis with its 95% interval over resampled ``problems``, in words its ``meaning``."""

    estimate: float
    low: float
    high: float
    unit: str
    problems: int
    meaning: str
    draws: NDArray[np.float64] | None  # resampled estimates; None where no verdict rests on the finding

    @classmethod
    def undefined(cls, unit: str, meaning: str) -> Finding:
        return cls(np.nan, np.nan, np.nan, unit, 0, meaning, None)

    def turned(self, by: Callable[[float], float]) -> Finding:
        """The finding on another, increasing scale."""
        estimate, low, high = (float(by(value)) for value in (self.estimate, self.low, self.high))
        return replace(self, estimate=estimate, low=low, high=high, draws=None)

    def clear_bounds(self) -> tuple[float, float]:
        """The ends that a verdict must leave 0 outside of: 99% by quantiles and 99.9% by standard deviation, the wider."""
        if self.draws is None or not np.isfinite([self.low, self.high]).all():
            return self.low, self.high
        known = self.draws[~np.isnan(self.draws)]
        low, high = np.quantile(known, [0.005, 0.995])
        reach = 3.29 * known.std()
        return float(min(low, self.estimate - reach)), float(max(high, self.estimate + reach))


class Bootstrap:
    """Resampled problems (and training seeds, crossed with them), the same for every quantity."""

    def __init__(self, seeds: int, problems: int, replications: int, rng: np.random.Generator):
        self._problems = np.concatenate(  # in blocks: the draws themselves are eight times as large as the weights
            [draw_weights(rng, min(200, replications - at), problems) for at in range(0, replications, 200)]
        )
        self._seeds = draw_weights(rng, replications, seeds)

    def _sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(seeds, problems) -> (replications,), or (seeds, problems, m) -> (replications, m)."""
        total = 0.0
        for s, part in enumerate(values):
            weight = self._seeds[:, s]
            total = total + (weight if part.ndim == 1 else weight[:, None]) * (self._problems @ part)
        return np.asarray(total)

    def mean(self, values: NDArray[np.float64], unit: str, meaning: str) -> Finding:
        defined = ~np.isnan(values)
        return self.ratio(np.where(defined, values, 0.0), defined.astype(np.float64), unit, meaning)

    def ratio(self, top: NDArray[np.float64], bottom: NDArray[np.float64], unit: str, meaning: str) -> Finding:
        problems = int((bottom > 0).any(axis=0).sum())
        if not problems:
            return Finding.undefined(unit, meaning)
        tops, bottoms = self._sums(top), self._sums(bottom)
        draws = np.where(bottoms > 0, tops / np.where(bottoms > 0, bottoms, 1), np.nan)
        return self._finding(float(top.sum() / bottom.sum()), draws, unit, problems, meaning)

    def slope(self, terms: NDArray[np.float64], unit: str, meaning: str) -> Finding:
        problems = int((np.abs(terms).max(axis=2) > 0).any(axis=0).sum())
        if not problems:
            return Finding.undefined(unit, meaning)
        estimate = root(terms.sum(axis=(0, 1))[None])[0]
        return self._finding(float(estimate), root(self._sums(terms)), unit, problems, meaning)

    @staticmethod
    def _finding(estimate: float, draws: NDArray, unit: str, problems: int, meaning: str) -> Finding:
        low = high = np.nan
        known = draws[~np.isnan(draws)]
        if problems > 1 and len(known):
            low, high = np.quantile(known, [0.025, 0.975])
        return Finding(estimate, float(low), float(high), unit, problems, meaning, draws)


def root(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where each row of (rows, slopes), which falls, crosses 0. The ends of the grid stand for anything beyond them."""
    above = terms > 0
    first = np.argmin(above, axis=1)  # the first slope at which the equation is not above 0
    first = np.where(above.all(axis=1), len(SLOPES) - 1, first)
    low = np.maximum(first - 1, 0)
    rows = np.arange(len(terms))
    y0, y1 = terms[rows, low], terms[rows, first]
    gap = y0 - y1
    part = np.clip(np.where(gap > 0, y0 / np.where(gap > 0, gap, 1), 0.0), 0, 1)
    result = SLOPES[low] + part * (SLOPES[first] - SLOPES[low])
    result = np.where(above.all(axis=1), SLOPES[-1], result)
    return np.where((terms == 0).all(axis=1), np.nan, result)
