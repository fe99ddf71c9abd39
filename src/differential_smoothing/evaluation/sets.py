"""Several test sets in one table: measures set by set, and their average over sets, which is what papers print.

A mathematical problem's ``prompt_id`` begins with its data set and a colon; problems of all other tasks are one set, called after the task.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .pass_at_k import pass_at_k
from .resampling import draw_weights, ends
from .summary import compare, counts, summarise

__all__ = ["AVERAGE", "by_set", "set_of"]

AVERAGE = "average"


def set_of(frame: pd.DataFrame) -> pd.Series:
    """The test set of each row of a rollouts table."""
    return frame["prompt_id"].str.partition(":")[0].where(frame["task"].eq("math"), frame["task"])


def by_set(
    frame: pd.DataFrame, baseline: str, *, ks: Sequence[int], seed: int, replications: int = 10_000
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pass@k of every model on every test set, and the paired differences to ``baseline``: ``summarise`` and ``compare`` with a column ``set``.

    With several sets there are rows of the set "average": the mean of the sets' means, each set counting the same however many
    problems it has. Its interval resamples problems within each set, and training seeds for all sets together. A side with one
    training seed is compared with every seed of the other, as in ``compare``.

    Raises ValueError as ``summarise`` and ``compare`` do.
    """
    names = set_of(frame)
    parts: list[tuple[pd.DataFrame, str]] = [(frame[names == name], name) for name in dict.fromkeys(names)]
    models = list(dict.fromkeys(frame["model"]))
    levels, differences = [], []
    for part, name in parts:
        levels.append(summarise(part, seed=seed, ks=ks, metrics=["pass@k"]).assign(set=name))
        for model in models:
            if model != baseline:
                found = compare(part, model, baseline, seed=seed, ks=ks, metrics=["pass@k"])
                differences.append(found.assign(set=name))
    if len(parts) > 1:
        values = [_values(part, ks) for part, _ in parts]
        for model in models:
            levels.append(_average(model, levels, [v[model] for v in values], ks, seed, replications))
            if model != baseline:
                both = [v[model] - v[baseline] for v in values]  # one training seed meets every one of the other side
                label = f"{model} - {baseline}"
                differences.append(_average(label, differences, both, ks, seed, replications))
    return _in_order(levels, models), _in_order(differences or [levels[0].iloc[:0]], models)


def _in_order(tables: list[pd.DataFrame], models: list[str]) -> pd.DataFrame:
    """The tables as one, models as they come in the rollouts and the set first."""
    table = pd.concat(tables, ignore_index=True)
    place = table["model"].map({model: at for at, model in enumerate(models)}).fillna(len(models))
    table = table.loc[place.sort_values(kind="stable").index].reset_index(drop=True)
    return table[["set", *(column for column in table.columns if column != "set")]]


def _values(part: pd.DataFrame, ks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Pass@k by model, (training seeds, problems, ks), problems in the same order for all."""
    table = counts(part)
    columns = []
    for position, k in enumerate(ks):
        table[f"k{position}"] = pass_at_k(table["n"].to_numpy(), table["c"].to_numpy(), k)
        columns.append(f"k{position}")
    return {
        model: np.stack([rows.pivot(index="seed", columns="prompt_id", values=c).to_numpy() for c in columns], axis=2)
        for model, rows in table.groupby("model", sort=False)
    }


def _average(
    label: str,
    of_sets: list[pd.DataFrame],
    sets: list[NDArray[np.float64]],
    ks: Sequence[int],
    seed: int,
    replications: int,
) -> pd.DataFrame:
    """The rows of "average" for one model or difference; ``of_sets`` has the rows of its sets among others."""
    estimates = np.mean([np.nanmean(values, axis=(0, 1)) for values in sets], axis=0)
    draws = resampled_average(sets, seed=seed, replications=replications)
    rows = []
    for column, k in enumerate(ks):
        low, high = ends(draws[:, column], 0.95) if all(v.shape[1] > 1 for v in sets) else (np.nan, np.nan)
        rows.append((AVERAGE, label, "pass@k", k, estimates[column], low, high))
    table = pd.DataFrame(rows, columns=["set", "model", "metric", "k", "estimate", "low", "high"])
    single = pd.concat(of_sets)
    single = single[(single["model"] == label) & (single["k"] == ks[0])]
    return table.assign(
        problems=single["problems"].sum(),
        training_seeds=single["training_seeds"].max(),
        samples=single["samples"].sum(),
    )


def resampled_average(sets: list[NDArray[np.float64]], *, seed: int, replications: int) -> NDArray[np.float64]:
    """The average of ``sets``' means, (training seeds, problems, ks) each, in every resample: (replications, ks)."""
    rng = np.random.default_rng(seed)
    seeds, block = sets[0].shape[0], 500
    draws = []
    for start in range(0, replications, block):
        rows = min(block, replications - start)
        of_seeds = draw_weights(rng, rows, seeds)
        means = []
        for values in sets:
            of_problems = draw_weights(rng, rows, values.shape[1])
            weights = np.einsum("rs,rp->rsp", of_seeds, of_problems)
            known = ~np.isnan(values)
            sums = np.einsum("rsp,spk->rk", weights, np.where(known, values, 0.0), optimize=True)
            sizes = np.einsum("rsp,spk->rk", weights, known.astype(float), optimize=True)
            means.append(np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan))
        draws.append(np.mean(means, axis=0))
    return np.concatenate(draws)
