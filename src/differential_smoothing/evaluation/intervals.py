"""Bootstrap intervals for means over problems, and over training seeds where there are several.

Samples of one problem are not independent evidence, so the problem is the cluster that is resampled. Every
training seed is evaluated on the same problems, so seeds and problems are crossed factors: both are
resampled, independently, and an entry counts with the product of its two weights (the pigeonhole bootstrap:
Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)).

What these intervals cannot do. With one training seed they speak about new problems for that one trained
model, and not about training again. Few seeds or few problems make them too narrow: for normal values, 100
problems and a spread between seeds 0.3 times that between problems, the 95% interval held the true mean in
90% of 600 simulated studies of 3 seeds, 91% of 5 and 95% of 10, where resampling problems alone managed 72%,
77% and 84%; one seed and 10 problems gave 88%. Without a spread between seeds they are somewhat too wide (98%
for 3 seeds). Where every problem has the same value, as when none is solved, the interval has width 0, as in
every bootstrap: the data show no spread.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "bootstrap_curve", "bootstrap_mean", "paired_difference"]


class Interval(NamedTuple):
    """A mean with the ends of its bootstrap percentile interval, all in the units of the values."""

    estimate: float
    low: float
    high: float


def bootstrap_mean(
    values: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95
) -> Interval:
    """Mean of `values`, (problems,) or (training_seeds, problems), with its percentile interval.

    A NaN is a value that is undefined there, and is left out of the means; the estimate is the mean of all
    others. The same `seed` gives the same digits. Fewer than two problems with a value give NaN ends: one
    problem is no evidence about other problems.

    Raises ValueError for another shape, no values, an infinite value, a `seed` that is not a whole number >=
    0, fewer than 100 replications or a level outside (0, 1).
    """
    array = _seeds_by_problems("values", values)
    return bootstrap_curve(array[:, :, None], seed=seed, replications=replications, level=level)[0]


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95
) -> Interval:
    """Mean of a - b, where `a` and `b` hold the same problems (and training seeds) in the same order.

    Shapes, interval and errors as in `bootstrap_mean`. Resampling the differences lets what makes a problem
    hard for both cancel, so the interval is narrower than two separate ones suggest. Also raises ValueError
    if the shapes differ, or if a value is NaN on one side only: the two means would then be about different
    problems.
    """
    a, b = _seeds_by_problems("a", a), _seeds_by_problems("b", b)
    if a.shape != b.shape:
        raise ValueError(
            f"paired_difference got a and b of (training seeds, problems) {a.shape} and {b.shape}, expected "
            "the same shape. Align both on the same problems and training seeds first."
        )
    if np.any(np.isnan(a) != np.isnan(b)):
        raise ValueError(
            f"paired_difference got {int(np.sum(np.isnan(a) != np.isnan(b)))} values that are NaN on one "
            "side only, expected both sides defined on the same problems. Set both to NaN there."
        )
    return bootstrap_mean(a - b, seed=seed, replications=replications, level=level)


def bootstrap_curve(
    values: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95
) -> list[Interval]:
    """One interval per metric, such as Pass@k for many k: `values` is (training_seeds, problems, metrics).

    All metrics use the same resamples. The intervals are pointwise: each covers its own mean at `level`, not
    the whole curve. NaN and errors as in `bootstrap_mean`.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            f"bootstrap_curve got values of shape {array.shape}, expected (training_seeds, problems, "
            "metrics) with at least one of each. Add the missing axis, or select rows that exist."
        )
    if np.isinf(array).any():
        raise ValueError(
            f"The bootstrap got {int(np.isinf(array).sum())} infinite values, expected finite ones, or NaN "
            "where undefined. Correct the metric that wrote them."
        )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(
            f"The bootstrap got seed = {seed!r}, expected a whole number >= 0. Choose one and report it."
        )
    if replications < 100 or not 0 < level < 1:
        raise ValueError(
            f"The bootstrap got replications = {replications} and level = {level}, expected at least 100 "
            "replications and a level between 0 and 1, such as 0.95."
        )
    defined = ~np.isnan(array)
    means = _resampled_means(
        np.where(defined, array, 0.0), defined, np.random.default_rng(seed), replications
    )
    intervals = []
    for metric in range(array.shape[2]):
        here = defined[:, :, metric]
        estimate = float(array[:, :, metric][here].mean()) if here.any() else np.nan
        low = high = np.nan
        if here.any(axis=0).sum() > 1:
            # A resample may by chance hold no defined value; it has no mean to contribute.
            drawn = means[:, metric][~np.isnan(means[:, metric])]
            low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        intervals.append(Interval(estimate, float(low), float(high)))
    return intervals


def _seeds_by_problems(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"The bootstrap got {name} of shape {array.shape}, expected (problems,) or (training_seeds, "
            "problems) with at least one value. For many metrics at once use bootstrap_curve."
        )
    return np.atleast_2d(array)


def _resampled_means(
    filled: NDArray[np.float64], defined: NDArray[np.bool_], rng: np.random.Generator, replications: int
) -> NDArray[np.float64]:
    """Means (replications, metrics) of `filled` (seeds, problems, metrics) where it is `defined`."""
    seeds, problems, metrics = filled.shape
    by_problem = filled.transpose(1, 0, 2).reshape(problems, seeds * metrics)
    present = defined.transpose(1, 0, 2).reshape(problems, seeds * metrics).astype(np.float64)
    means = np.empty((replications, metrics))
    # About 2^18 weights at a time bound the memory by a few megabytes whatever the number of replications.
    rows = max(1, 2**18 // max(problems, seeds * metrics))
    for start in range(0, replications, rows):
        here = min(rows, replications - start)
        seed_weights = _draw_weights(rng, here, seeds)[:, None, :]
        problem_weights = _draw_weights(rng, here, problems)
        sums = (seed_weights @ (problem_weights @ by_problem).reshape(here, seeds, metrics))[:, 0]
        sizes = (seed_weights @ (problem_weights @ present).reshape(here, seeds, metrics))[:, 0]
        means[start : start + here] = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)
    return means


def _draw_weights(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.float64]:
    """How often each of `size` items comes up in `size` draws with replacement: (rows, size)."""
    drawn = rng.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
