"""The resamples behind every interval: problems, crossed with training seeds where there are several.

Samples of one problem are not independent evidence, so the problem is the cluster that is resampled. Every
training seed is evaluated on the same problems, so seeds and problems are crossed factors: both are
resampled, independently, and an entry counts with the product of its two weights (the pigeonhole bootstrap:
Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)).

Resamples depend on `seed`, the number of problems and the number of training seeds, and on nothing else: metrics that
are asked together or apart have the same intervals.
"""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "check_options",
    "check_values",
    "draw_weights",
    "ends",
    "enough",
    "left_out",
    "means_of",
    "resampled_means",
    "standard_errors",
]

METHODS = ("percentile", "bca")
_NORMAL = NormalDist()


def check_values(who: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` as (training_seeds, problems, metrics) of finite numbers or NaN, else a ValueError."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            f"{who} got values of shape {array.shape}, expected (training_seeds, problems, "
            "metrics) with at least one of each. Add the missing axis, or select rows that exist."
        )
    if np.isinf(array).any():
        raise ValueError(
            f"The bootstrap got {int(np.isinf(array).sum())} infinite values, expected finite ones, or NaN "
            "where undefined. Correct the metric that wrote them."
        )
    return array


def check_options(seed: int, replications: int, level: float, method: str = "percentile") -> None:
    """ValueError for options that no bootstrap here can take."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"The bootstrap got seed = {seed!r}, expected a whole number >= 0. Choose one and report it.")
    if replications < 100 or not 0 < level < 1:
        raise ValueError(
            f"The bootstrap got replications = {replications} and level = {level}, expected at least 100 "
            "replications and a level between 0 and 1, such as 0.95."
        )
    if method not in METHODS:
        raise ValueError(f"The bootstrap got method = {method!r}, expected one of {METHODS}. Choose one.")


def means_of(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each metric over the entries where it is defined: (metrics,), NaN where there are none."""
    defined = ~np.isnan(array)
    columns = (array[:, :, metric][defined[:, :, metric]] for metric in range(array.shape[2]))
    return np.array([column.mean() if column.size else np.nan for column in columns])


def enough(array: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each metric is defined on two problems or more: one problem gives no evidence about others."""
    return (~np.isnan(array)).any(axis=0).sum(axis=0) > 1


def resampled_means(array: NDArray[np.float64], seed: int, replications: int) -> Iterator[NDArray[np.float64]]:
    """Blocks (rows, metrics) of resampled means of (training_seeds, problems, metrics), `replications` rows in all.

    NaN where a resample by chance holds no defined value. A block takes some ten megabytes, whatever is asked.
    """
    seeds, problems, metrics = array.shape
    by_problem = array.transpose(1, 0, 2).reshape(problems, seeds * metrics)
    present = ~np.isnan(by_problem)
    complete = bool(present.all())
    if not complete:
        by_problem, present = np.where(present, by_problem, 0.0), present.astype(np.float64)
    rng = np.random.default_rng(seed)
    rows = max(1, 2**18 // problems)
    part = max(1, 2**20 // (seeds * metrics))
    for start in range(0, replications, rows):
        here = min(rows, replications - start)
        of_seeds = draw_weights(rng, here, seeds)[:, None, :]
        of_problems = draw_weights(rng, here, problems)
        for first in range(0, here, part):
            by_seed, weights = of_seeds[first : first + part], of_problems[first : first + part]
            sums = (by_seed @ (weights @ by_problem).reshape(-1, seeds, metrics))[:, 0]
            if complete:
                yield sums / (seeds * problems)
            else:
                sizes = (by_seed @ (weights @ present).reshape(-1, seeds, metrics))[:, 0]
                yield np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def standard_errors(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of `resampled_means` over all resamples that there are, without drawing any: (metrics,).

    With S seeds and P problems, weights w of the seeds and v of the problems have E[w_s w_t] = [s = t] + 1 - 1/S, and v likewise. So with
    x relative to its mean, and R and C its sums over a seed and over a problem,

        variance = (sum x^2 + (1 - 1/P) sum R^2 + (1 - 1/S) sum C^2) / (S P)^2

    Exact where every entry is defined; where some are not, SP is their number and the mean, a ratio, is linearised. NaN where fewer
    than two problems have a value: their spread is not known.
    """
    seeds, problems, _ = array.shape
    defined = ~np.isnan(array)
    x = np.where(defined, array - means_of(array), 0.0)
    by_seed, by_problem = (x.sum(axis=1) ** 2).sum(axis=0), (x.sum(axis=0) ** 2).sum(axis=0)
    squares = (x**2).sum(axis=(0, 1)) + (1 - 1 / problems) * by_seed + (1 - 1 / seeds) * by_problem
    return np.where(enough(array), np.sqrt(squares) / np.maximum(defined.sum(axis=(0, 1)), 1), np.nan)


def left_out(array: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Means (clusters, metrics) with one cluster left out at a time: of problems, then of training seeds.

    NaN for a cluster without a defined value, and where nothing else has one.
    """
    filled, defined = np.nan_to_num(array), ~np.isnan(array)
    found = []
    for others in (0, 1):
        sums, sizes = filled.sum(axis=others), defined.sum(axis=others)
        rest = sizes.sum(axis=0) - sizes
        known = (sizes > 0) & (rest > 0)
        found.append(np.where(known, (sums.sum(axis=0) - sums) / np.maximum(rest, 1), np.nan))
    return found


def ends(
    draws: NDArray[np.float64],
    level: float,
    method: str = "percentile",
    estimate: float = np.nan,
    jackknife: list[NDArray[np.float64]] | None = None,
) -> tuple[float, float]:
    """Ends of the interval of a statistic from its resampled values, of which NaN ones are left out.

    "percentile" takes the quantiles at (1 - level) / 2 on either side. "bca" shifts them for the bias and the skewness
    of the statistic (Efron 1987, "Better bootstrap confidence intervals"): with z0 the normal quantile of the share of
    draws below `estimate`, ties counting half, and a the acceleration,

        quantile at  Phi(z0 + (z0 + z) / (1 - a (z0 + z))),    z = Phi^-1((1 - level) / 2), and its negative
        a = sum u^3 / (6 (sum u^2)^1.5)

    over the influences u of all clusters, those of problems and of training seeds side by side as in a problem of
    several samples. `jackknife` holds per factor the statistic with one cluster left out. Infinite draws are kept, and an
    end between a finite and an infinite one is the outer of the two.
    """
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return np.nan, np.nan
    tails = [(1 - level) / 2, (1 + level) / 2]
    if method == "bca":
        tails = _corrected(draws, tails, estimate, jackknife or [])
    if np.isfinite(draws).all():
        low, high = np.quantile(draws, tails)
    else:
        draws = np.sort(draws)
        low, high = (
            draws[int(round_(tail * (draws.size - 1)))] for tail, round_ in zip(tails, (np.floor, np.ceil), strict=True)
        )
    return float(low), float(high)


def _corrected(
    draws: NDArray[np.float64], tails: list[float], estimate: float, jackknife: list[NDArray[np.float64]]
) -> list[float]:
    # Sums in another order differ in their last digits; such draws tie with the estimate.
    slack = 1e-12 * max(abs(estimate), 1e-300) if np.isfinite(estimate) else 0.0
    below = np.mean(draws < estimate - slack) + 0.5 * np.mean(np.abs(draws - estimate) <= slack)
    z0 = _NORMAL.inv_cdf(min(max(float(below), 0.5 / draws.size), 1 - 0.5 / draws.size))
    cubes = squares = 0.0
    for values in jackknife:
        values = values[np.isfinite(values)]
        if values.size > 1:
            influence = (values.size - 1) / values.size * (values.mean() - values)
            cubes += float((influence**3).sum())
            squares += float((influence**2).sum())
    a = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    shifted = []
    for tail in tails:
        z = z0 + _NORMAL.inv_cdf(tail)
        # Beyond 1 / a the correction has no meaning; its limit is the outermost draw.
        shifted.append(_NORMAL.cdf(z0 + z / (1 - a * z)) if a * z < 1 else float(z > 0))
    return shifted


def draw_weights(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.float64]:
    """How often each of `size` items comes up in `size` draws with replacement: (rows, size)."""
    drawn = rng.integers(size, size=(rows, size))
    drawn += size * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
