"""Has a mean fallen since the start? A test that may be looked at after every step of a whole training run.

Looking at a curve until it seems to fall raises a false alarm sooner or later, and so does any fixed-sample test that
is repeated. ``DropTest`` keeps its error rate however often it is looked at and whenever the run ends. Two parts, each
with half of ``alpha``:

1. *The reference.* The first ``warmup`` batches make ten blocks; a one-sided Student interval over the block means, 9
   degrees of freedom, gives a lower bound L of the mean at the start. Blocks, so that a dependence between neighbouring
   batches does not make the bound too narrow.
2. *The wealth.* Afterwards a gambler bets against "the mean is at least b = (1 - tolerance) L". With values x in [0, 1]
   and a stake lambda, wealth is multiplied by 1 + lambda (b - x), whose expectation is at most 1 while the claim holds:
   a test martingale (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B
   86). By Ville's inequality it ever reaches 2 / alpha with probability at most alpha / 2. No distribution is assumed,
   and no independence of the batches: only that each value's mean, given all earlier values, is at least b. So the values
   of one batch must be independent given the past, as those of different prompts are, and the mix of problems must not
   change with time. The reference is approximate (ten block means, a stationary start).

The wealth is spread over eight stakes, and over all times j = 1, 2, ... at which a fall could begin, with weights
1 / (j (j + 1)) that sum to 1, so that a long good time at first does not gamble away what a late fall is detected with.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Drop", "DropTest"]

_BLOCKS = 10
_STAKES = 8


class Drop(NamedTuple):
    """What a ``DropTest`` has seen. Each (estimate, low, high) is a mean with its 95% interval over block means."""

    reference: tuple[float, float, float]
    recent: tuple[float, float, float]  # the last ten blocks, or all since the reference if there are fewer
    since: float  # since when it has been below what is tolerated (cumulative sums), in the units of `at`


class DropTest:
    """Sequential test of "the mean has not fallen by more than the share `tolerance`" for values in [0, 1].

    Args:
        warmup: batches of the reference, at least 20. They make ten blocks of ``warmup // 10`` batches; a block
            without a single value is prolonged until it has one.
        alpha: chance of an alarm, ever, if the claim holds.
        tolerance: in [0, 1). Falls up to this share of the reference raise no alarm.
        runs: how many independent runs to test at once, for simulations. Results have this leading shape.
    """

    def __init__(self, warmup: int = 50, alpha: float = 0.05, tolerance: float = 0.1, runs: int = 1):
        if isinstance(warmup, bool) or int(warmup) != warmup or warmup < 20:
            raise ValueError(
                f"warmup must be a whole number of batches, at least 20 (ten blocks of two), got {warmup!r}."
            )
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {alpha!r}. It is the chance of a false alarm.")
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance must lie in [0, 1), got {tolerance!r}. It is a share of the mean.")
        self.warmup, self.alpha, self.tolerance = int(warmup), alpha, tolerance
        self._block = np.zeros((runs, 3))  # the open block: batches, values, their sum
        self._reference = np.full((runs, _BLOCKS, 2), np.nan)  # values and their mean of each block
        self._recent = np.full((runs, _BLOCKS, 2), np.nan)
        self._blocks = np.zeros(runs)  # whole blocks so far, those of the reference included
        self._bound = np.full(runs, np.nan)
        self._time = np.zeros(runs)  # batches since the reference
        self._wealth = np.full((runs, _STAKES), -1e300)  # log, of the bets begun so far
        self._below = np.zeros(runs)  # sum of bound - value since it was last at its lowest, and since when
        self._since = np.full(runs, np.nan)

    def update(self, values: ArrayLike, at: float) -> None:
        """One batch: `values` of shape (values,) or (runs, values), each in [0, 1] or NaN for none.

        ``at`` is the time of the value, for instance the optimiser step; only ``drop().since`` reads it.
        """
        x = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if len(x) != len(self._bound) or np.any((x < 0) | (x > 1)):
            raise ValueError(
                f"DropTest.update needs values in [0, 1] of shape ({len(self._bound)}, values); got shape {x.shape}, "
                f"from {np.nanmin(x, initial=np.inf)} to {np.nanmax(x, initial=-np.inf)}."
            )
        known = ~np.isnan(x)
        bets = ~np.isnan(self._bound)
        if bets.any():
            self._bet(np.where(known, x, 0.0), known, bets, at)
        self._block += np.stack([np.ones(len(x)), known.sum(1), np.where(known, x, 0.0).sum(1)], 1)
        whole = (self._block[:, 0] >= self.warmup // _BLOCKS) & (self._block[:, 1] > 0)
        if whole.any():
            self._close(whole)

    @property
    def evidence(self) -> NDArray[np.float64]:
        """(runs,): log10 of the wealth; NaN before the reference is there. Alarm at log10(2 / alpha)."""
        unspent = -np.log1p(self._time)  # the weights of all times still to come
        wealth = np.logaddexp(np.logaddexp.reduce(self._wealth, 1) - math.log(_STAKES), unspent)
        return np.where(np.isnan(self._bound), np.nan, wealth / math.log(10))

    @property
    def alarm(self) -> NDArray[np.bool_]:
        """(runs,): whether the fall is clear now. At least four blocks after the reference are needed."""
        enough = self._blocks >= _BLOCKS + 4
        return enough & (np.nan_to_num(self.evidence, nan=-np.inf) >= math.log10(2 / self.alpha))

    def drop(self, run: int = 0) -> Drop:
        """What to tell a reader. Its intervals are ordinary ones; the alarm does not rest on them."""
        return Drop(_interval(self._reference[run]), _interval(self._recent[run]), float(self._since[run]))

    def state(self) -> dict[str, Any]:
        """Everything `update` has learned, as lists that any JSON can hold: None for NaN."""
        arrays: dict[str, NDArray[np.float64]] = {name: getattr(self, name) for name in self._STATE}
        return {name: np.where(np.isnan(a), np.array(None), a).tolist() for name, a in arrays.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from another test's `state()`."""
        for name in self._STATE:
            setattr(self, name, np.asarray(state[name], dtype=np.float64))

    _STATE = ("_block", "_reference", "_recent", "_blocks", "_bound", "_time", "_wealth", "_below", "_since")

    def _bet(self, x: NDArray, known: NDArray, bets: NDArray, at: float) -> None:
        bound = np.where(bets, self._bound, 0.0)
        # at the largest stake the worst value, x = 1, leaves a tenth of the wealth
        largest = 0.9 / np.maximum(1 - bound, 0.01)
        stakes = largest[:, None] * 0.5 ** np.arange(_STAKES)
        factors = 1 + stakes[:, :, None] * (bound[:, None] - x)[:, None, :]
        gain = np.where(known[:, None, :], np.log(factors), 0.0).sum(2)
        gain[~bets] = 0.0
        self._time += bets
        weight = -np.log(np.maximum(self._time * (self._time + 1), 1))
        begun = np.logaddexp(self._wealth, weight[:, None])
        self._wealth = np.where(bets[:, None], begun + gain, self._wealth)
        self._since = np.where(self._below <= 0, at, self._since)
        self._below = np.maximum(self._below, 0) + np.where(bets, (known * bound[:, None] - x).sum(1), 0.0)

    def _close(self, whole: NDArray) -> None:
        block = np.stack([self._block[:, 1], self._block[:, 2] / np.maximum(self._block[:, 1], 1)], 1)
        for run in np.flatnonzero(whole):
            place = int(self._blocks[run])
            if place < _BLOCKS:
                self._reference[run, place] = block[run]
                if place == _BLOCKS - 1:
                    self._bound[run] = (1 - self.tolerance) * self._lower(self._reference[run])
            else:
                self._recent[run] = np.roll(self._recent[run], -1, axis=0)
                self._recent[run, -1] = block[run]
        self._blocks += whole
        self._block[whole] = 0

    def _lower(self, blocks: NDArray) -> float:
        """One-sided lower bound at level alpha / 2; NaN-free, and never 1 just because all values were 1."""
        values, means = blocks.T
        mean = means.mean()
        student = mean - t_quantile(1 - self.alpha / 2, _BLOCKS - 1) * means.std(ddof=1) / math.sqrt(_BLOCKS)
        # n values of 1 do not exclude a mean of 1 - log(1 / a) / n, the "rule of three"
        return max(0.0, min(student, 1 - math.log(2 / self.alpha) / values.sum()))


def _interval(blocks: NDArray) -> tuple[float, float, float]:
    means = blocks[~np.isnan(blocks[:, 1]), 1]
    if len(means) < 4:
        return (float(means.mean()) if len(means) else math.nan, math.nan, math.nan)
    half = t_quantile(0.975, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means))
    return float(means.mean()), max(0.0, means.mean() - half), min(1.0, means.mean() + half)


def t_quantile(p: float, dof: int) -> float:
    """Student's quantile by its expansion around the normal one (Abramowitz and Stegun 26.7.5); 1% off at dof 3."""
    z = NormalDist().inv_cdf(p)
    return (
        z
        + (z**3 + z) / (4 * dof)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * dof**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * dof**3)
    )
