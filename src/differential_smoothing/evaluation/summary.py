"""From a rollouts table to a paper's numbers: Pass@k curves, variety of correct answers, paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .curves import crossing, samples_to_reach
from .intervals import Interval, bootstrap_curve
from .measures import AT_K, NEEDED, OF_CURVE, OF_TWO, PLAIN, SOLVED, Measures, checked_tally, measure
from .pass_at_k import pass_at_k_curve
from .variety import effective_modes, mode_agreement

__all__ = ["compare", "counts", "summarise"]

_COLUMNS = ["model", "metric", "k", "estimate", "low", "high", "problems", "training_seeds", "samples"]
# More samples find more solutions, so a difference of these needs equally many on both sides.
_GROWS_WITH_N = ("distinct", "coverage", *SOLVED)


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """Per (model, seed, prompt_id): `n` scored samples, `c` correct ones, `distinct` correct solutions, `differ`.

    `frame` is a rollouts table with one step of each (model, seed). An unscored row (null `correct`) counts in neither n nor c; a
    problem with only such rows keeps its place with n = 0. `distinct` is NaN where unknown (see
    `distinct_correct`), and `differ`, the chance that two correct samples differ (`gini_simpson`), where c < 2 too.

    Raises ValueError for an empty frame, a missing column, rows that repeat, and rollouts of more than one step
    of a model and seed, which come from different policies.
    """
    counted = checked_tally(frame)
    table = pd.DataFrame({"n": counted.n, "c": counted.c}, index=counted.problems)
    return table.assign(distinct=counted.distinct, differ=mode_agreement(counted)).reset_index()


def summarise(
    frame: pd.DataFrame,
    *,
    seed: int,
    ks: Sequence[int] | None = None,
    num_solutions: Mapping[str, int] | None = None,
    metrics: Sequence[str] | None = None,
    method: str = "percentile",
) -> pd.DataFrame:
    """Means over problems with 95% bootstrap intervals, one row per model, metric and k.

    Columns: `model`; `metric`; `k`, NaN for metrics without one; `estimate`, `low`, `high`, chances as fractions;
    `problems` with a defined value, on which the number rests; `training_seeds`; `samples`, the scored completions
    of those problems, over all training seeds. `metrics`, in the order of the rows, are of

    - "pass@k", "pass^k": at least one, or all, of k samples correct (`pass_at_k`, `pass_hat_k`);
    - "average@n": the share of correct samples, which is Pass@1; its `k` is n where all problems have the same;
    - "reward": the mean reward of a sample;
    - "distinct": different correct forms among all samples (`distinct_correct`), and "coverage", the share of all
      solutions that is (needs `num_solutions`, see `coverage`);
    - "distinct@k": the same expected among k of all samples, "distinct@k|correct" among k correct ones (`rarefaction`);
    - "differ": the chance that two correct samples differ (`gini_simpson`), and "modes", the effective number of modes
      of the mean of "differ", interval included (`effective_modes`);
    - "area": the mean of Pass@k over ln k from k = 1 to K, the smallest number of samples of a problem, one number for the whole
      curve; and "spread", Pass@K - Pass@1. Their `k` is K. A fall of "spread" between two models is the **sharpening tax**: by how much
      more Pass@1 rose than Pass@K;
    - "always", "sometimes", "never": the shares of problems of which all, some, or none of the n samples are correct.

    The default is "pass@k", "distinct" and, given `num_solutions`, "coverage".

    `ks` defaults to 1, 2, 4, ... up to the largest number n of scored samples of a problem, and n itself.
    Where k is above a problem's own n, or its number of correct samples for what is about correct ones, the value is
    undefined and the problem is left out of that mean: `problems` then falls, and a curve is no longer over one set of
    problems. If a model has several training seeds, seeds and problems are both resampled (see `bootstrap_mean`, also
    for `method`). `seed` is that of the bootstrap.

    Raises ValueError as `counts`, `coverage` and `pass_at_k` do, for an unknown metric or one whose data are not given,
    and if a training seed of a model lacks problems that another has.
    """
    table = measure(frame, ks, num_solutions, metrics, allowed=AT_K + PLAIN + OF_CURVE + SOLVED)
    parts = []
    for model in table.counted.problems.get_level_values("model").unique():
        at = _axes(table.counted.problems, model).to_numpy()
        parts.append(_rows(model, table.columns, table.values[at], table.samples(at), seed, method))
    return pd.concat(parts, ignore_index=True)


def compare(
    frame: pd.DataFrame,
    model: str,
    baseline: str,
    *,
    seed: int,
    ks: Sequence[int] | None = None,
    num_solutions: Mapping[str, int] | None = None,
    metrics: Sequence[str] | None = None,
    method: str = "percentile",
) -> pd.DataFrame:
    """Mean paired differences, `model` minus `baseline`, on the same problems: the columns of `summarise`.

    The column `model` reads "<model> - <baseline>", and `samples` counts the completions of both. Training
    seeds are paired by number; a side with one training seed, such as the base model, is compared with every
    seed of the other. A metric counts only problems where both sides are defined, and distinct and
    coverage only those with equally many scored samples on both sides, because more samples find more
    solutions.

    `metrics` are those of `summarise` without "modes", which is not a mean over problems, and two that are about both
    models' Pass@k curves up to the smallest n, and are no differences:

    - "reach@k": the number of samples with which `model` has the Pass@k of `baseline`, inf where n do not do
      (`samples_to_reach`); NaN for a k above the smallest n;
    - "crossing": the smallest k at which the model that is behind at first is ahead, inf for none (`crossing`).

    Their intervals are of the method "percentile" in any case.

    Raises ValueError as `summarise` does, and if a model is not in the frame, the two do not have the same
    problems, or their training seeds cannot be paired.
    """
    known = list(frame["model"].unique())
    absent = [name for name in (model, baseline) if name not in known]
    if absent or model == baseline:
        raise ValueError(
            f"compare got model {model!r} and baseline {baseline!r}, expected two different models of the "
            f"frame, which has {known}. Correct the names, or read that model's rollouts as well."
        )
    # Without the text of prompts and completions, of which selecting rows would make a copy.
    light = frame[[name for name in (*NEEDED, "reward") if name in frame]]
    allowed = tuple(name for name in AT_K + PLAIN + OF_CURVE + SOLVED + OF_TWO if name != "modes")
    light = light[light["model"].isin([model, baseline])]
    table = measure(light, ks, num_solutions, metrics, allowed)
    axes, base_axes = (_axes(table.counted.problems, name) for name in (model, baseline))
    if set(axes.columns) != set(base_axes.columns):
        alone = sorted(set(axes.columns) ^ set(base_axes.columns))
        raise ValueError(
            f"{model} and {baseline} do not share {len(alone)} problems "
            f"({', '.join(map(repr, alone[:3]))}{', ...' if len(alone) > 3 else ''}), expected rollouts of "
            "both on the same prompt ids. Sample the missing ones, or select the common problems."
        )
    if min(len(axes), len(base_axes)) > 1 and list(axes.index) != list(base_axes.index):
        raise ValueError(
            f"{model} has the training seeds {list(axes.index)} and {baseline} {list(base_axes.index)}, "
            "expected the same seeds, or one seed on either side. Select the seeds that both have."
        )
    at, base_at = axes.to_numpy(), base_axes.to_numpy()
    # A side of one seed stands beside every seed of the other, but its completions were sampled once.
    pairs = max(len(at), len(base_at))
    samples = [
        there * (len(at) / pairs) + base * (len(base_at) / pairs)
        for there, base in zip(table.samples(at), table.samples(base_at), strict=True)
    ]
    label = f"{model} - {baseline}"
    difference = table.values[at] - table.values[base_at]
    n = table.counted.n
    for column, (metric, _) in enumerate(table.columns):
        if metric in _GROWS_WITH_N:
            difference[:, :, column][n[at] != n[base_at]] = np.nan
    rows = _rows(label, table.columns, difference, samples, seed, method)
    if not set(table.metrics) & set(OF_TWO):
        return rows
    both = n[at] * (len(at) / pairs) + n[base_at] * (len(base_at) / pairs)
    more = _of_two(label, table, np.broadcast_arrays(at, base_at), both, seed)
    rows = pd.concat([rows, more], ignore_index=True) if len(rows) else more
    order = rows["metric"].map(list(table.metrics).index).sort_values(kind="stable").index
    return rows.loc[order].reset_index(drop=True)


def _axes(problems: pd.MultiIndex, model: str) -> pd.DataFrame:
    """Positions in `problems` of one model's, as a frame (training seeds, prompt ids)."""
    table = problems.to_frame(index=False).assign(position=np.arange(len(problems)))
    axes = table[table["model"] == model].pivot(index="seed", columns="prompt_id", values="position")
    if axes.isna().any(axis=None):
        seeds, prompts = axes.index[axes.isna().any(axis=1)], axes.columns[axes.isna().any(axis=0)]
        raise ValueError(
            f"Training seeds {list(seeds)} of {model} lack {len(prompts)} problems that other seeds have "
            f"({', '.join(map(repr, prompts[:3]))}{', ...' if len(prompts) > 3 else ''}), expected every "
            "seed on the same problems. Sample the missing ones, or select the common problems."
        )
    return axes.astype("int64")


def _rows(
    label: str,
    columns: list[tuple[str, float]],
    values: NDArray[np.float64],
    samples: list[NDArray[Any]],
    seed: int,
    method: str,
) -> pd.DataFrame:
    rows = []
    intervals = bootstrap_curve(values, seed=seed, method=method) if columns else []
    for column, ((metric, k), interval) in enumerate(zip(columns, intervals, strict=True)):
        if metric == "modes":
            interval = Interval(*np.atleast_1d(effective_modes(np.clip(interval, 0.0, 1.0))))
        rows.append(_row(label, metric, k, interval, ~np.isnan(values[:, :, column]), samples[column]))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _row(label: str, metric: str, k: float, interval: Interval, defined: NDArray[np.bool_], samples: NDArray) -> tuple:
    total = round(samples[defined].sum())
    return (label, metric, k, *interval, defined.any(axis=0).sum(), len(defined), total)


def _of_two(
    label: str, table: Measures, sides: Sequence[NDArray[np.int64]], samples: NDArray[np.float64], seed: int
) -> pd.DataFrame:
    """The rows of what is about two whole Pass@k curves."""
    n, c = table.counted.n, table.counted.c
    defined = (n[sides[0]] > 0) & (n[sides[1]] > 0)
    top = min((int(n[at][defined].min()) for at in sides), default=0) if defined.any() else 0
    undefined = Interval(np.nan, np.nan, np.nan)
    found: dict[tuple[str, float], Interval] = {("crossing", np.nan): undefined}
    found |= {("reach@k", k): undefined for k in table.ks}
    if top:
        curves = [np.where(defined[:, :, None], pass_at_k_curve(n[at], c[at], top), np.nan) for at in sides]
        if "crossing" in table.metrics:
            found["crossing", np.nan] = crossing(*curves, seed=seed)
        ks = [k for k in table.ks if k <= top]
        if "reach@k" in table.metrics and ks:
            for k, interval in zip(ks, samples_to_reach(curves[0], curves[1], ks, seed=seed), strict=True):
                found["reach@k", k] = interval
    rows = []
    for (metric, k), interval in found.items():
        if metric in table.metrics:
            rows.append(_row(label, metric, k, interval, defined & (not k > top), samples))
    return pd.DataFrame(rows, columns=_COLUMNS)
