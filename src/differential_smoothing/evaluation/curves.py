"""What two Pass@k curves say together: bands for a whole curve, where they cross, how many samples one saves.

Curves are (problems, K) or (training_seeds, problems, K), column j for k = j + 1, as `pass_at_k_curve` gives them; two
of them hold the same problems and training seeds in the same order. Both are resampled together (`resampling.py`).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .intervals import Interval
from .resampling import check_options, check_values, ends, enough, means_of, resampled_means

__all__ = ["crossing", "samples_to_reach", "simultaneous_band"]


def simultaneous_band(
    values: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95
) -> list[Interval]:
    """A band that holds the whole curve of means at `level`: `values` is (training_seeds, problems, metrics).

        estimate_m -+ q s_m,    q = the `level` quantile over resamples of  max_m |mean_m - estimate_m| / s_m

    with s_m the standard deviation of the resampled means (the studentised sup-t band; Montiel Olea and
    Plagborg-Moller 2019, "Simultaneous confidence bands", J. Applied Econometrics 34(1)), so every metric takes part in
    its own units. The band is symmetric, and may pass 0 or 1 by a little near the end of a scale. A metric that does not vary has
    width 0 and takes no part in q; one with fewer than two problems has NaN ends. Errors as in `bootstrap_curve`.
    """
    array = check_values("simultaneous_band", values)
    check_options(seed, replications, level)
    estimates, defined = means_of(array), enough(array)
    block = max(1, 2**22 // replications)
    furthest, spread = np.zeros(replications), np.full(array.shape[2], np.nan)
    # Resampling with replacement from few problems shows their spread too small by this factor.
    problems = (~np.isnan(array)).any(axis=0).sum(axis=0)
    for start in range(0, array.shape[2], block):
        here = slice(start, start + block)
        means = np.concatenate(list(resampled_means(array[:, :, here], seed, replications)))
        spread[here][defined[here]] = np.nanstd(means[:, defined[here]], axis=0)
        varies = spread[here] > 1e-12 * np.abs(estimates[here])
        distance = np.abs(means[:, varies] - estimates[here][varies]) / spread[here][varies]
        np.fmax(furthest, np.fmax.reduce(distance, axis=1, initial=0.0), out=furthest)
    reach = np.quantile(furthest, level) * spread
    reach *= np.sqrt(problems / np.maximum(problems - 1, 1))
    return [
        Interval(float(mid), float(mid - half), float(mid + half)) for mid, half in zip(estimates, reach, strict=True)
    ]


def crossing(a: ArrayLike, b: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95) -> Interval:
    """Smallest k from which the curve that was behind at the smallest ks is ahead: where mean(a) - mean(b) turns sign.

    Whichever curve leads at k = 1 (or at the first k where they differ) leads in the data; the estimate is the smallest
    whole k where the other has the larger mean, `inf` if there is none up to K, and NaN if the curves are equal everywhere.
    The ends are whole ks or `inf`, percentiles of the same over resamples, in each of which the lead to lose is that of the
    data: a low end of 1 says that the lead at k = 1 is itself in doubt, a high end of `inf` that the curves may not cross
    within K samples, and (inf, inf) that they do not. With fewer than two problems the ends are NaN.

    Raises ValueError as `paired_difference` does, and for a curve with NaN at some k only: cut it at the smallest n.
    """
    a, b = _curves("crossing", a, b)
    check_options(seed, replications, level)
    difference = a - b
    estimates = means_of(difference)
    differ = np.flatnonzero(np.abs(estimates) > 1e-12)
    if not differ.size:
        return Interval(np.nan, np.nan, np.nan)
    lead = np.sign(estimates[differ[0]])
    estimate = float(_first(lead * estimates[None] < -1e-12)[0])
    if not enough(difference)[0]:
        return Interval(estimate, np.nan, np.nan)
    draws = np.concatenate(
        [
            np.where(np.isnan(means[:, 0]), np.nan, _first(lead * means < -1e-12))
            for means in resampled_means(difference, seed, replications)
        ]
    )
    return Interval(estimate, *_whole_ends(draws, level))


def samples_to_reach(
    curve: ArrayLike, target: ArrayLike, ks: ArrayLike, *, seed: int, replications: int = 10_000, level: float = 0.95
) -> list[Interval]:
    """How many samples the model of `curve` needs for the Pass@k of the model of `target`, for each k of `ks`.

    "DS-GRPO reaches GRPO's Pass@64 with k = 15 [12, 19] samples": the curve of means over problems is inverted. It
    rises with k and is known without bias at whole k; between two of them it is taken as linear, so the result is
    real-valued. It is 1 where one sample is already as good, and `inf` where K samples are not enough, which the
    samples drawn cannot tell from never. Each resample inverts its own curve at its own target, on the same problems, so what
    is uncertain in both cancels. An end is `inf` where that share of the resamples does not get there. With fewer than two
    problems the ends are NaN. The saving is k divided by the result.

    Raises ValueError as `crossing` does, and for a k of `ks` outside 1, ..., K.
    """
    curve, target = _curves("samples_to_reach", curve, target)
    check_options(seed, replications, level)
    top = curve.shape[2]
    ks = np.asarray(ks)
    if ks.ndim != 1 or ks.dtype.kind not in "iu" or ks.size == 0 or ks.min() < 1 or ks.max() > top:
        raise ValueError(
            f"samples_to_reach got ks = {ks.tolist()!r}, expected whole numbers from 1 to {top}, the length of "
            "the curves. Leave out what the samples cannot answer."
        )
    both = np.concatenate([curve, target[:, :, ks - 1]], axis=2)
    estimates = _invert(means_of(both)[None], top)[0]
    if not enough(both)[0]:
        return [Interval(float(estimate), np.nan, np.nan) for estimate in estimates]
    draws = np.concatenate([_invert(means, top) for means in resampled_means(both, seed, replications)])
    return [Interval(float(estimate), *ends(of_k, level)) for estimate, of_k in zip(estimates, draws.T, strict=True)]


def _invert(means: NDArray[np.float64], top: int) -> NDArray[np.float64]:
    """Means (rows, top + targets), curves then targets, to real-valued numbers of samples (rows, targets)."""
    # Problems in another order sum to other last digits; a curve that is level at its target has reached it.
    curves, targets = means[:, :top], means[:, top:] - 1e-12
    found = np.empty(targets.shape)
    rows = np.arange(len(means))
    for column, goal in enumerate(targets.T):
        above = np.minimum((curves < goal[:, None]).sum(axis=1), top)  # whole ks that fall short
        before, after = curves[rows, np.maximum(above - 1, 0)], curves[rows, np.minimum(above, top - 1)]
        step = np.where(after > before, after - before, 1.0)
        between = above + np.clip((goal - before) / step, 0.0, 1.0)
        found[:, column] = np.where(above == 0, 1.0, np.where(above == top, np.inf, between))
    return np.where(np.isnan(targets), np.nan, found)


def _first(true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The smallest k, counted from 1, at which each row (rows, K) is true; inf for none."""
    return np.where(true.any(axis=1), true.argmax(axis=1) + 1.0, np.inf)


def _whole_ends(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Percentile ends that are values of the draws, rounded outwards: a crossing at half a sample does not exist."""
    draws = np.sort(draws[~np.isnan(draws)])
    low, high = (1 - level) / 2 * (draws.size - 1), (1 + level) / 2 * (draws.size - 1)
    return float(draws[int(np.floor(low))]), float(draws[int(np.ceil(high))])


def _curves(who: str, a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = (np.asarray(curve, dtype=np.float64) for curve in (a, b))
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ValueError(
            f"{who} got curves of shapes {a.shape} and {b.shape}, expected twice (problems, K) or twice (training_seeds, "
            "problems, K). Align both on the same problems, training seeds and ks first."
        )
    a, b = (check_values(who, curve[None] if curve.ndim == 2 else curve) for curve in (a, b))
    undefined = np.isnan(a)
    if np.any(undefined != np.isnan(b)) or np.any(undefined != undefined[:, :, :1]):
        raise ValueError(
            f"{who} got curves that are NaN at some k or on one side only, expected both defined at every k or at none "
            "for each problem. Cut both at the smallest n with pass_at_k_curve(n, c, up_to), or set the problem to NaN."
        )
    return a, b
