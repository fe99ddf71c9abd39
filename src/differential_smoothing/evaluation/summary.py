"""From a rollouts table to a paper's numbers: Pass@k curves, distinct solutions, paired differences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..rollouts import refuse_duplicates
from .diversity import coverage, distinct_correct
from .intervals import bootstrap_curve
from .pass_at_k import pass_at_k

__all__ = ["compare", "counts", "summarise"]

_COLUMNS = ["model", "metric", "k", "estimate", "low", "high", "problems", "training_seeds", "samples"]


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """Per (model, seed, prompt_id): `n` scored samples, `c` correct ones, `distinct` correct solutions.

    `frame` is a rollouts table with one step of each (model, seed). An unscored row (null `correct`) counts in neither n nor c; a
    problem with only such rows keeps its place with n = 0. `distinct` is NaN where unknown (see
    `distinct_correct`).

    Raises ValueError for an empty frame, a missing column, rows that repeat, and rollouts of more than one step
    of a model and seed, which come from different policies.
    """
    needed = ["model", "seed", "step", "prompt_id", "sample", "correct", "canonical"]
    missing = [name for name in needed if name not in frame]
    if missing or frame.empty:
        raise ValueError(
            f"The rollouts have {len(frame)} rows and lack the columns {missing}, expected at least one row "
            f"and the columns {needed}. Read them with read_rollouts."
        )
    policies = frame.groupby(["model", "seed"])["step"]
    if (policies.nunique() > 1).any():
        steps = frame["step"].unique()
        raise ValueError(
            f"The rollouts mix {len(steps)} steps ({', '.join(map(str, sorted(steps)[:3]))}, ...), expected "
            "one, because each step samples another policy. Select one, such as frame[frame.step == -1]."
        )
    refuse_duplicates(frame, "Cannot count the rollouts")
    correct = frame["correct"].astype("boolean")
    keys = [frame[name] for name in ("model", "seed", "prompt_id")]
    table = pd.DataFrame({"n": correct.notna(), "c": correct.fillna(False).astype(bool)}).groupby(keys).sum()
    return table.astype("int64").assign(distinct=distinct_correct(frame)).reset_index()


def summarise(
    frame: pd.DataFrame,
    *,
    seed: int,
    ks: Sequence[int] | None = None,
    num_solutions: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Means over problems with 95% bootstrap intervals, one row per model and metric.

    Columns: `model`; `metric`, one of "pass@k", "distinct" and (given `num_solutions`, see `coverage`)
    "coverage"; `k`, NaN for the other metrics; `estimate`, `low`, `high`, with Pass@k and coverage as
    fractions; `problems` with a defined value; `training_seeds`; `samples`, the scored completions of those
    problems, over all training seeds.

    `ks` defaults to 1, 2, 4, ... up to the largest number n of scored samples of a problem, and n itself.
    Where k is above a problem's own n, Pass@k is undefined and the problem is left out of that mean:
    `problems` then falls, and the curve is no longer over one set of problems. If a model has several
    training seeds, seeds and problems are both resampled (see `bootstrap_mean`). `seed` is that of the
    bootstrap.

    Raises ValueError as `counts`, `coverage` and `pass_at_k` do, and if a training seed of a model lacks
    problems that another has.
    """
    table, ks = _prepare(frame, ks, num_solutions)
    parts = []
    for model in table["model"].unique():
        n, values, _ = _values(table, model, ks)
        parts.append(_rows(model, ks, values, n, seed))
    return pd.concat(parts, ignore_index=True)


def compare(
    frame: pd.DataFrame,
    model: str,
    baseline: str,
    *,
    seed: int,
    ks: Sequence[int] | None = None,
    num_solutions: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Mean paired differences, `model` minus `baseline`, on the same problems: the columns of `summarise`.

    The column `model` reads "<model> - <baseline>", and `samples` counts the completions of both. Training
    seeds are paired by number; a side with one training seed, such as the base model, is compared with every
    seed of the other. A metric counts only problems where both sides are defined, and distinct and
    coverage only those with equally many scored samples on both sides, because more samples find more
    solutions.

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
    table, ks = _prepare(frame[frame["model"].isin([model, baseline])], ks, num_solutions)
    n, values, axes = _values(table, model, ks)
    base_n, base_values, base_axes = _values(table, baseline, ks)
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
    difference = values - base_values
    difference[:, :, len(ks) :][n != base_n] = np.nan
    # A side of one seed stands beside every seed of the other, but its completions were sampled once.
    pairs = max(len(axes), len(base_axes))
    samples = n * (len(axes) / pairs) + base_n * (len(base_axes) / pairs)
    return _rows(f"{model} - {baseline}", ks, difference, samples, seed)


def _prepare(
    frame: pd.DataFrame, ks: Sequence[int] | None, num_solutions: Mapping[str, int] | None
) -> tuple[pd.DataFrame, list[int]]:
    table = counts(frame)
    if num_solutions is not None:
        table["coverage"] = coverage(table.set_index("prompt_id")["distinct"], num_solutions).to_numpy()
    if ks is None:
        largest = max(1, int(table["n"].max()))
        ks = sorted({2**i for i in range(largest.bit_length())} | {largest})
    return table, list(ks)


def _values(
    table: pd.DataFrame, model: str, ks: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.float64], pd.DataFrame]:
    """Scored samples (seeds, problems), metrics (seeds, problems, metrics), a frame labelled by both axes."""
    columns = [name for name in ("n", "c", "distinct", "coverage") if name in table]
    wide = table[table["model"] == model].pivot(index="seed", columns="prompt_id", values=columns)
    axes = wide["n"]
    if axes.isna().any(axis=None):
        seeds, prompts = axes.index[axes.isna().any(axis=1)], axes.columns[axes.isna().any(axis=0)]
        raise ValueError(
            f"Training seeds {list(seeds)} of {model} lack {len(prompts)} problems that other seeds have "
            f"({', '.join(map(repr, prompts[:3]))}{', ...' if len(prompts) > 3 else ''}), expected every "
            "seed on the same problems. Sample the missing ones, or select the common problems."
        )
    n, c, *others = (wide[name].to_numpy()[:, :, None] for name in columns)
    return n[:, :, 0].astype(np.int64), np.concatenate([pass_at_k(n, c, ks), *others], axis=2), axes


def _rows(
    model: str, ks: list[int], values: NDArray[np.float64], samples: NDArray[np.float64], seed: int
) -> pd.DataFrame:
    rows = []
    names = ["pass@k"] * len(ks) + ["distinct", "coverage"][: values.shape[2] - len(ks)]
    for metric, (name, interval) in enumerate(zip(names, bootstrap_curve(values, seed=seed), strict=True)):
        defined = ~np.isnan(values[:, :, metric])
        k = ks[metric] if metric < len(ks) else np.nan
        rows.append(
            (model, name, k, *interval, defined.any(axis=0).sum(), len(values), round(samples[defined].sum()))
        )
    return pd.DataFrame(rows, columns=_COLUMNS)
