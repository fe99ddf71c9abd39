"""The envelope of a baseline's paths and the lead of a point over it: numbers only.

Every checkpoint of every run of a baseline is a point (Pass@1, measure), the measure being Pass@k or the number of distinct correct
answers. A user who answers a share w of the problems, drawn at random, with one checkpoint and the rest with another has the weighted mean of both, and
one who needs a Pass@1 of X may take any mixture that has at least X. So the *envelope* of points (x_i, y_i) at X is

    F(X) = max { sum_i w_i y_i :  w >= 0,  sum_i w_i = 1,  sum_i w_i x_i >= X }  =  min over slopes s >= 0 of max_i y_i + s (x_i - X)

the upper concave hull, completed to the left so that it never rises with X. Where X lies beyond the largest x_i, F is taken at the largest: the
measure at the baseline's best Pass@1. The *lead* of a point (x, y) is y - F(x). F does not rise, so a lead above 0 at x says that no point
or mixture with this Pass@1 or a higher one reaches y.

The plain estimate, the lead over the envelope of estimated points, is too small: a maximum of noisy points is too large. ``corrected`` takes
the bias away and widens the interval by the noise of that correction; benchmarks/envelope_coverage.py simulates how often it holds the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from .resampling import draw_weights

__all__ = ["Corrected", "Resamples", "corrected", "envelope_at", "lead_over", "margin_over", "resample"]

Array = NDArray[np.float64]

#: How many times the bias that a bootstrap shows is taken away. Noise of variance v lifts a maximum by about sqrt(v) where points tie and by about v
#: where they are apart. The resamples have the noise twice, so the first bias is 1 / (sqrt(2) - 1) = 2.4 times the one that they add, the second is equal to it.
#: Paths have both; 2 is where the simulated studies are held best.
TIMES = 2.0
_OUTER, _INNER, _BLOCK = 200, 40, 25


class Resamples(NamedTuple):
    """Means of points and their noise: ``means`` (points, measures), ``of_problems`` and ``of_seeds`` (replications, points, measures)."""

    means: Array
    of_problems: Array
    of_seeds: Array
    problems: int
    seeds: int


class Corrected(NamedTuple):
    """A statistic without the bias of its maximum, its standard error with Satterthwaite's degrees of freedom, and the ``plain`` estimate."""

    estimate: float
    error: float
    dof: float
    plain: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Ends of the t interval; NaN where the spread is not known."""
        half = float(stdtrit(self.dof, (1 + level) / 2)) * self.error
        return self.estimate - half, self.estimate + half

    @property
    def p(self) -> float:
        """Two-sided p of the statistic being 0; NaN where nothing varies."""
        return 2 * float(stdtr(self.dof, -abs(self.estimate) / self.error)) if self.error > 0 else np.nan


def envelope_at(at: ArrayLike, x: ArrayLike, y: ArrayLike) -> Array:
    """F(at) of the points (x, y), row by row: ``at`` (rows,), ``x`` and ``y`` (rows, points) -> (rows,).

    The hull's edge above ``at`` is found by pivoting: from the best point on either side of ``at``, the point that lies highest above their line replaces
    the one on its side, until none lies above. Exact, and quick for thousands of rows at once.
    """
    at, x, y = (np.asarray(values, dtype=np.float64) for values in (at, x, y))
    if x.ndim != 2 or x.shape != y.shape or at.shape != x.shape[:1] or not x.shape[1]:
        raise ValueError(
            f"envelope_at got at {at.shape}, x {x.shape} and y {y.shape}, expected (rows,), (rows, points) and (rows, points) with at "
            f"least one point."
        )
    rows = np.arange(len(x))
    furthest = x.max(axis=1)
    at = np.minimum(at, furthest)
    left = y.argmax(axis=1)
    right = np.where(x == furthest[:, None], y, -np.inf).argmax(axis=1)
    free = x[rows, left] >= at  # the highest point of all may be taken as it is
    for _ in range(x.shape[1]):
        slope = _slope(x, y, rows, left, right, free)
        height = y + slope[:, None] * x
        highest = height.argmax(axis=1)
        line = np.maximum(height[rows, left], height[rows, right])
        found = ~free & (height[rows, highest] > line + 1e-12 * (1 + np.abs(line)))
        if not found.any():
            break
        before = x[rows, highest] < at
        left = np.where(found & before, highest, left)
        right = np.where(found & ~before, highest, right)
    slope = _slope(x, y, rows, left, right, free)
    return y[rows, left] - slope * np.where(free, 0.0, at - x[rows, left])


def _slope(
    x: Array, y: Array, rows: NDArray[np.intp], left: NDArray[np.intp], right: NDArray[np.intp], free: NDArray[np.bool_]
) -> Array:
    """How far the line from ``left`` down to ``right`` falls per unit of x; 0 where it is not needed."""
    span = x[rows, right] - x[rows, left]
    needed = ~free & (span > 0)
    return np.where(needed, (y[rows, left] - y[rows, right]) / np.where(needed, span, 1.0), 0.0)


def lead_over(measure: int) -> Callable[[Array], Array]:
    """The lead as a statistic of means (rows, points, measures): of point 0 over the envelope of all others, Pass@1 being measure 0."""

    def lead(means: Array) -> Array:
        return means[:, 0, measure] - envelope_at(means[:, 0, 0], means[:, 1:, 0], means[:, 1:, measure])

    return lead


def margin_over(measure: int) -> Callable[[Array], Array]:
    """By how much point 0 exceeds the best of all others in one measure; with 0 the margin in Pass@1 beyond the envelope's right end."""

    def margin(means: Array) -> Array:
        return means[:, 0, measure] - means[:, 1:, measure].max(axis=1)

    return margin


def resample(values: ArrayLike, *, seed: int, replications: int = 1000) -> Resamples:
    """Means of ``values`` (points, training seeds, problems, measures) over seeds and problems, and noise as a new study would have it.

    Problems and seeds are crossed, so a mean has noise of both. Both are drawn with replacement, each for all points at once. Means of a seed also vary
    because their problems' values do, which the draws of problems hold already: deviations of the seeds' means are shrunk by
    sqrt(1 - MS_residual / MS_seed), the share of the two-way analysis of variance that is the seeds' own, and by no more than that, as
    resampling both without it would count the residual twice. sqrt(n / (n - 1)) makes either variance unbiased for n seeds or problems.

    A NaN is a value that is undefined there; the mean is over the others, a ratio, and its noise is linearised. One seed has no noise of
    seeds: the result then speaks of new problems for these trained models. ValueError for another shape or an infinite value.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 4 or 0 in values.shape or np.isinf(values).any():
        raise ValueError(
            f"resample got values of shape {values.shape}, expected finite numbers or NaN as (points, training seeds, problems, measures) with at "
            f"least one of each."
        )
    points, seeds, problems, measures = values.shape
    defined = ~np.isnan(values)
    number = defined.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        means = np.where(defined, values, 0.0).sum(axis=(1, 2)) / np.where(number, number, np.nan)
        share = seeds * problems / np.maximum(number, 1)
    influence = np.where(defined, (values - means[:, None, None]) * share[:, None, None], 0.0)
    of_problem = influence.mean(axis=1).transpose(1, 0, 2).reshape(problems, -1)
    rng = np.random.default_rng(seed)
    drawn = (draw_weights(rng, replications, problems) - 1) @ of_problem / problems
    noise = [drawn * np.sqrt(problems / max(problems - 1, 1)), np.zeros((replications, points * measures))]
    if seeds > 1:
        of_seed = influence.mean(axis=2)
        rest = influence - of_seed[:, :, None] - influence.mean(axis=1)[:, None]
        residual = (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * max(problems - 1, 1))
        between = problems * (of_seed**2).sum(axis=1) / (seeds - 1)
        own = np.sqrt(np.clip(1 - residual / np.where(between > 0, between, 1.0), 0.0, 1.0))
        deviations = (of_seed * own[:, None]).transpose(1, 0, 2).reshape(seeds, -1)
        noise[1] = (draw_weights(rng, replications, seeds) - 1) @ deviations / np.sqrt(seeds * (seeds - 1))
    shape = (replications, points, measures)
    return Resamples(means, noise[0].reshape(shape), noise[1].reshape(shape), problems, seeds)


def corrected(statistic: Callable[[Array], Array], resamples: Resamples, *, seed: int) -> Corrected:
    """A statistic of the means with the bias of its maximum taken away, and the standard error of the result.

    With T the statistic, m the means and e, e' independent noise, the bias is estimated as b(m) = E T(m + e) - T(m), and the result
    is T(m) - 2 b(m) (see ``TIMES``). Its standard error is that of T(m + e) - 2 b(m + e), a second level of resamples: the
    correction is noisy itself. Degrees of freedom by Satterthwaite, from the variances that problems and seeds bring on their own:
    (V_p + V_s)^2 / (V_p^2 / (problems - 1) + V_s^2 / (seeds - 1)). The envelope is computed anew in every resample of either level.
    """
    means = resamples.means[None]
    plain = float(statistic(means)[0])
    if resamples.problems < 2:  # one problem gives no evidence about others
        return Corrected(plain, np.nan, np.nan, plain)
    noise = resamples.of_problems + resamples.of_seeds
    first = statistic(means + noise)
    rng = np.random.default_rng([seed, 1])
    outer = min(_OUTER, len(noise))
    again = rng.integers(len(noise), size=(outer, _INNER))
    second = np.empty(outer)
    for start in range(0, outer, _BLOCK):
        drawn = means + noise[start : min(start + _BLOCK, outer), None] + noise[again[start : start + _BLOCK]]
        second[start : start + _BLOCK] = statistic(drawn.reshape(-1, *means.shape[1:])).reshape(-1, _INNER).mean(axis=1)
    results = first[:outer] - TIMES * (second - first[:outer])
    of_problems = statistic(means + resamples.of_problems).var()
    of_seeds = statistic(means + resamples.of_seeds).var()
    dof = float(resamples.problems - 1)
    if resamples.seeds > 1 and of_problems + of_seeds > 0:
        dof = (of_problems + of_seeds) ** 2 / (
            of_problems**2 / (resamples.problems - 1) + of_seeds**2 / (resamples.seeds - 1)
        )
    return Corrected(plain - TIMES * (first.mean() - plain), float(results.std()), float(dof), plain)
