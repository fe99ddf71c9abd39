"""Bootstrap intervals for means over problems, their differences and ratios, from resamples of whole problems.

How resamples are drawn is in `resampling.py`. Two methods: "percentile", and "bca", which corrects for bias and
skewness. How often each holds the truth in simulated studies of 100 problems is in benchmarks/results/coverage.txt: bca is no better there for
Pass@64, near 1, and for differences, so percentile is what everything here uses.

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

from .resampling import check_options, check_values, ends, enough, left_out, means_of, resampled_means

__all__ = ["Interval", "bootstrap_curve", "bootstrap_mean", "paired_difference", "paired_ratio"]


class Interval(NamedTuple):
    """An estimate with the ends of its bootstrap interval, all in the units of the values."""

    estimate: float
    low: float
    high: float


def bootstrap_mean(
    values: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95, method: str = "percentile"
) -> Interval:
    """Mean of `values`, (problems,) or (training_seeds, problems), with its bootstrap interval.

    A NaN is a value that is undefined there, and is left out of the means; the estimate is the mean of all
    others. The same `seed` gives the same digits. `method` is "percentile" or "bca". Fewer than two problems with
    a value give NaN ends: one problem is no evidence about other problems.

    Raises ValueError for another shape, no values, an infinite value, a `seed` that is not a whole number >=
    0, fewer than 100 replications, a level outside (0, 1) or an unknown method.
    """
    array = _seeds_by_problems("values", values)
    return bootstrap_curve(array[:, :, None], seed=seed, replications=replications, level=level, method=method)[0]


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int,
    replications: int = 10_000,
    level: float = 0.95,
    method: str = "percentile",
) -> Interval:
    """Mean of a - b, where `a` and `b` hold the same problems (and training seeds) in the same order.

    Shapes, interval and errors as in `bootstrap_mean`. Resampling the differences lets what makes a problem
    hard for both cancel, so the interval is narrower than two separate ones suggest. Also raises ValueError
    if the shapes differ, or if a value is NaN on one side only: the two means would then be about different
    problems.
    """
    a, b = _pair("paired_difference", a, b)
    return bootstrap_mean(a - b, seed=seed, replications=replications, level=level, method=method)


def paired_ratio(
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int,
    replications: int = 10_000,
    level: float = 0.95,
    method: str = "percentile",
) -> Interval:
    """Mean of `a` over mean of `b`, two models on the same problems: "1.3 times as many distinct answers".

    The ratio of means, not the mean of ratios, so a problem where `b` is 0 does no harm. Every resample draws the same
    problems for both. It is NaN where both means are 0, and infinite where only that of `b` is, in the estimate as in a
    resample. Arguments, interval and errors as in `paired_difference`.
    """
    a, b = _pair("paired_ratio", a, b)
    array = check_values("paired_ratio", np.stack([a, b], axis=2))
    check_options(seed, replications, level, method)
    estimate = float(_ratio(means_of(array)[None])[0])
    if not enough(array)[0]:
        return Interval(estimate, np.nan, np.nan)
    draws = np.concatenate([_ratio(means) for means in resampled_means(array, seed, replications)])
    jackknife = [_ratio(means) for means in left_out(array)]
    return Interval(estimate, *ends(draws, level, method, estimate, jackknife))


def bootstrap_curve(
    values: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95, method: str = "percentile"
) -> list[Interval]:
    """One interval per metric, such as Pass@k for many k: `values` is (training_seeds, problems, metrics).

    All metrics use the same resamples. The intervals are pointwise: each covers its own mean at `level`, not
    the whole curve, for which see `simultaneous_band`. NaN and errors as in `bootstrap_mean`.
    """
    array = check_values("bootstrap_curve", values)
    check_options(seed, replications, level, method)
    estimates, defined = means_of(array), enough(array)
    # Metrics in blocks, each with the same resamples drawn again, bound the memory: 2^22 numbers are 32 MB.
    block = max(1, 2**22 // replications)
    intervals = []
    for start in range(0, array.shape[2], block):
        part = array[:, :, start : start + block]
        draws = np.empty((part.shape[2], replications))
        done = 0
        for means in resampled_means(part, seed, replications):
            draws[:, done : done + len(means)] = means.T
            done += len(means)
        jackknife = left_out(part) if method == "bca" else []
        for metric, of_metric in enumerate(draws):
            estimate = float(estimates[start + metric])
            low = high = np.nan
            if defined[start + metric]:
                low, high = ends(of_metric, level, method, estimate, [found[:, metric] for found in jackknife])
            intervals.append(Interval(estimate, low, high))
    return intervals


def _ratio(means: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[:, 0] / means[:, 1]


def _pair(who: str, a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _seeds_by_problems("a", a), _seeds_by_problems("b", b)
    if a.shape != b.shape:
        raise ValueError(
            f"{who} got a and b of (training seeds, problems) {a.shape} and {b.shape}, expected "
            "the same shape. Align both on the same problems and training seeds first."
        )
    if np.any(np.isnan(a) != np.isnan(b)):
        raise ValueError(
            f"{who} got {int(np.sum(np.isnan(a) != np.isnan(b)))} values that are NaN on one "
            "side only, expected both sides defined on the same problems. Set both to NaN there."
        )
    return a, b


def _seeds_by_problems(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"The bootstrap got {name} of shape {array.shape}, expected (problems,) or (training_seeds, "
            "problems) with at least one value. For many metrics at once use bootstrap_curve."
        )
    return np.atleast_2d(array)
