"""How many problems, samples and training seeds a comparison of two models needs, from a pilot's own counts.

The paired differences D (S, P) of two models, S training seeds on the same P problems, are taken as

    D_sp = delta + problem_p + seed_s + rest_sp,      variances problem, seed, rest

with the components estimated by the two-way analysis of variance (Searle, Casella & McCulloch 1992, "Variance Components", section 4.3; negative
estimates are set to 0). ``rest`` holds the noise of sampling, which is known for Pass@1: the mean of c (n - c) / (n^2 (n - 1)) of both
models. A study of S seeds and P problems finds a difference if the bootstrap interval of ``compare`` excludes 0, in the normal approximation

    |mean D| > z * se,      E[se^2] = A + B + E                                           (``resampling.standard_errors``, exact)
    A = (S - 1)(seed + rest/P) / S^2,  B = (P - 1)(problem + rest/S) / P^2,  E = (S - 1)(P - 1) rest / (S P)^2

while the true variance of mean D is seed/S + problem/P + rest/(S P). se^2 itself varies, by S - 1 and P - 1 degrees of freedom of A and B
(Satterthwaite); the power is the mean over its distribution. ``benchmarks/power.py`` compares it with simulated studies.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .pass_at_k import pass_at_k
from .summary import counts

__all__ = ["Components", "components", "differences", "least_problems", "power_of"]


class Components(NamedTuple):
    """Variances of ``problem``, ``seed`` (NaN with one training seed: not known) and ``rest``; of rest, ``noise`` is the noise of ``samples``
    samples of each model, NaN where not known. ``delta`` is the pilot's own difference, ``problems`` and ``seeds`` its size."""

    problem: float
    seed: float
    rest: float
    noise: float
    samples: int
    delta: float
    problems: int
    seeds: int


def differences(
    frame: pd.DataFrame, model: str, baseline: str, metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Paired differences (S, P) of ``metric``, the variance of their sampling noise (S, P), and the samples per problem.

    ``metric`` is "pass@K" or "distinct". The noise is NaN except for "pass@1". A side with one training seed stands next to every seed of the
    other. ValueError for another metric, a model that is missing, problems or seeds that do not pair, or unequal numbers of samples.
    """
    kind, _, k = metric.partition("@")
    if metric != "distinct" and not (kind == "pass" and k.isdecimal() and int(k) >= 1):
        raise ValueError(
            f"metric must be 'distinct' or 'pass@K' with a whole K >= 1, such as 'pass@64'; got {metric!r}."
        )
    table = counts(frame)
    known = sorted(table["model"].astype(str).unique())
    if model not in known or baseline not in known or model == baseline:
        raise ValueError(
            f"power needs two different models of the pilot, which has {', '.join(known)}; got {model!r}, {baseline!r}."
        )
    table = table[table["model"].isin([model, baseline])]
    sizes = table["n"].unique()
    if len(sizes) > 1:
        raise ValueError(
            f"The pilot has from {sizes.min()} to {sizes.max()} scored samples per problem, expected one number for all. Select problems, or sample "
            "the missing completions."
        )
    n = int(sizes[0])
    if metric != "distinct" and int(k) > n:
        raise ValueError(f"{metric} needs {k} samples per problem or more; the pilot has {n}.")
    value = (
        table["distinct"] if metric == "distinct" else pass_at_k(table["n"].to_numpy(), table["c"].to_numpy(), int(k))
    )
    c = table["c"].to_numpy()
    noise = c * (n - c) / (n**2 * (n - 1)) if metric == "pass@1" and n > 1 else np.full(len(table), np.nan)
    table = table.assign(value=np.asarray(value, dtype=np.float64), noise=noise)
    sides = [
        table[table["model"] == name].pivot(index="seed", columns="prompt_id", values=["value", "noise"])
        for name in (model, baseline)
    ]
    first, second = (side["value"] for side in sides)
    if set(first.columns) != set(second.columns) or first.isna().any(axis=None) or second.isna().any(axis=None):
        raise ValueError(
            f"{model} and {baseline} do not have the same problems with a defined {metric} for every seed. Sample the missing ones."
        )
    if min(len(first), len(second)) > 1 and list(first.index) != list(second.index):
        raise ValueError(
            f"{model} has the training seeds {list(first.index)} and {baseline} {list(second.index)}; expected the same, or one on either side."
        )
    second = second[first.columns]
    noises = sides[0]["noise"][first.columns].to_numpy() + sides[1]["noise"][first.columns].to_numpy()
    return first.to_numpy() - second.to_numpy(), noises, n


def components(values: NDArray[np.float64], noise: NDArray[np.float64] | None = None, samples: int = 1) -> Components:
    """Variance components of paired differences ``values`` (S, P); ``noise`` (S, P) is the variance of their sampling noise.

    ValueError with fewer than two problems. With one seed the seed's variance is NaN, and problem's holds the rest too, which is then only noise.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(
            f"components needs differences of shape (seeds, problems) with two problems or more, got {values.shape}."
        )
    seeds, problems = values.shape
    sampled = float(np.mean(noise)) if noise is not None else float("nan")
    whole, by_problem, by_seed = values.mean(), values.mean(axis=0), values.mean(axis=1)
    between = float(np.sum((by_problem - whole) ** 2) / (problems - 1))  # problem + rest / S
    if seeds == 1:
        rest = 0.0 if np.isnan(sampled) else min(sampled, between)
        return Components(between - rest, float("nan"), rest, sampled, samples, float(whole), problems, 1)
    left = values - by_problem - by_seed[:, None] + whole
    rest = float(np.sum(left**2) / ((seeds - 1) * (problems - 1)))
    seed = float(np.sum((by_seed - whole) ** 2) / (seeds - 1)) - rest / problems
    return Components(
        max(between - rest / seeds, 0.0), max(seed, 0.0), rest, sampled, samples, float(whole), problems, seeds
    )


def power_of(
    pilot: Components,
    difference: float,
    *,
    problems: int,
    seeds: int,
    samples: int | None = None,
    seed_variance: float | None = None,
    level: float = 0.95,
) -> float:
    """Chance that a study of this size finds a true ``difference`` (in the metric's units) at the ``level``.

    Args:
        samples: samples per problem; another number than the pilot's needs a known noise (Pass@1).
        seed_variance: replaces the pilot's, and is needed where that has one training seed.

    ValueError for a size below 2 problems or 1 seed, a difference of 0, or what the pilot cannot know.
    """
    if not (problems >= 2 and seeds >= 1 and (samples is None or samples >= 1)):
        raise ValueError(
            f"A study needs problems >= 2, seeds >= 1 and samples >= 1; got {problems}, {seeds}, {samples}."
        )
    if difference == 0 or not np.isfinite(difference) or not 0 < level < 1:
        raise ValueError(
            f"power needs a difference other than 0 and a level in (0, 1); got {difference!r} and {level!r}."
        )
    seed = pilot.seed if seed_variance is None else seed_variance
    if np.isnan(seed):
        raise ValueError(
            "The pilot has one training seed, so the variance between seeds is not known. Give a pilot with two seeds or more, or seed_variance "
            "(0: the power speaks of new problems for these trained models only)."
        )
    rest = pilot.rest
    if samples is not None and samples != pilot.samples:
        if np.isnan(pilot.noise):
            raise ValueError(
                f"Only for pass@1 is the noise of sampling known; for other metrics samples must be the pilot's, {pilot.samples}; got {samples}."
            )
        rest = max(rest - pilot.noise, 0.0) + pilot.noise * pilot.samples / samples
    true = seed / seeds + pilot.problem / problems + rest / (seeds * problems)
    a = (seeds - 1) * (seed + rest / problems) / seeds**2
    b = (problems - 1) * (pilot.problem + rest / seeds) / problems**2
    e = (seeds - 1) * (problems - 1) * rest / (seeds * problems) ** 2
    expected = a + b + e
    spread = (a**2 / (seeds - 1) if seeds > 1 else 0.0) + (b + e) ** 2 / (problems - 1)
    if true <= 0 or expected <= 0:
        return 1.0
    from scipy.stats import chi2

    freedom = expected**2 / spread
    se = np.sqrt(expected * chi2.ppf((np.arange(400) + 0.5) / 400, freedom) / freedom)
    normal = NormalDist()
    reach = normal.inv_cdf((1 + level) / 2) * se
    size, sd = abs(difference), np.sqrt(true)
    return float(np.mean([normal.cdf((size - r) / sd) + normal.cdf((-size - r) / sd) for r in reach]))


def least_problems(
    pilot: Components, difference: float, *, power: float, seeds: int, most: int = 100_000, **options: Any
) -> int | None:
    """The least number of problems that gives the ``power`` with so many seeds; None if ``most`` do not."""
    if power_of(pilot, difference, problems=most, seeds=seeds, **options) < power:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(pilot, difference, problems=middle, seeds=seeds, **options) < power:
            low = middle
        else:
            high = middle
    return high
