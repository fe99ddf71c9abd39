"""Rules compared as frontiers: all their points, the best one of each, and who dominates whom, with honest intervals.

The input is a table of counts per problem (``sweep.read_counts``): one row per task, rule, strength, learning_rate, seed, evaluation and
prompt_id with ``n``, ``c``, ``distinct`` and ``differ``. A point is judged by four measures:

    pass@1, pass@k     unbiased, k the number of samples
    distinct           distinct correct answers among the n samples: grows with success
    differ             the chance that two correct answers to a problem differ: variety *given* success

The best point of a rule is chosen on the problems of ``selection`` and judged on those of ``evaluation``, so that choosing among
nine points is no advantage in the numbers reported. Seeds and problems are both resampled (``intervals``). Several comparisons at
once are corrected by Holm's procedure.
"""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .intervals import bootstrap_curve
from .pass_at_k import pass_at_k
from .resampling import means_of, standard_errors

__all__ = ["best_points", "dominated_by", "holm", "paired_points", "point_means"]

POINT = ["task", "rule", "strength", "learning_rate"]
MEASURES = ("pass@1", "pass@k", "distinct", "differ")
_NORMAL = NormalDist()


def point_means(counts: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """One row per point, evaluation and measure: ``estimate``, ``low``, ``high`` (95%), ``k``, ``problems``, ``training_seeds``.

    ``differ`` is a mean over the problems where it is defined, which are easier ones for a weaker model: compare it paired.
    """
    rows = []
    for (evaluation, *point), values, k in _points(counts):
        for measure, interval in zip(MEASURES, bootstrap_curve(values, seed=seed), strict=True):
            at = {"pass@1": 1, "pass@k": k}.get(measure, np.nan)
            rows.append((*point, evaluation, measure, at, *interval, values.shape[1], values.shape[0]))
    columns = [*POINT, "evaluation", "measure", "k", "estimate", "low", "high", "problems", "training_seeds"]
    return pd.DataFrame(rows, columns=columns)


def best_points(counts: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The best point of each rule and task on the ``selection`` problems: columns ``POINT`` and ``criterion``.

    The baseline's is its highest Pass@1 over all learning rates. Any other rule's is the highest Pass@k among its points whose
    Pass@1 is at least that of the baseline's best (``criterion`` "level"), or, if it has none, its highest Pass@1 ("closest").
    """
    means = _plain_means(counts[counts["evaluation"] == "selection"])
    rows = []
    for task, of_task in means.groupby("task", sort=False):
        base = of_task[of_task["rule"] == baseline]
        if base.empty:
            raise ValueError(
                f"The counts have no point of the baseline {baseline!r} on the selection problems of task {task!r}. Run its cells first."
            )
        needed = base["pass@1"].max()
        for rule, points in of_task.groupby("rule", sort=False):
            level = points[points["pass@1"] >= needed]
            chosen = (level if len(level) and rule != baseline else points).sort_values(
                "pass@k" if len(level) and rule != baseline else "pass@1", kind="stable"
            )
            criterion = "highest pass@1" if rule == baseline else "level" if len(level) else "closest"
            rows.append((*chosen.iloc[-1][POINT], criterion))
    return pd.DataFrame(rows, columns=[*POINT, "criterion"])


def paired_points(
    counts: pd.DataFrame, points: pd.DataFrame, baseline: str, *, seed: int, level: float = 0.95
) -> pd.DataFrame:
    """Each of ``points`` (of ``best_points``) minus the baseline's on the ``evaluation`` problems, paired by seed and problem.

    One row per point and measure: ``estimate``, ``low``, ``high``, the two-sided ``p`` of the difference being 0 (normal, with the exact
    standard error of the bootstrap, so that no p depends on a random seed), and ``p_holm``, corrected over all rows of a task. A difference that is
    the same everywhere, or not defined, has no p and is no comparison to correct for. Seeds that both sides have are compared.
    """
    rows = []
    for task, of_task in points.groupby("task", sort=False):
        held_out = counts[(counts["evaluation"] == "evaluation") & (counts["task"] == task)]
        base = of_task[of_task["rule"] == baseline].iloc[0]
        for _, point in of_task[of_task["rule"] != baseline].iterrows():
            difference = _difference(held_out, point, base)
            spread = standard_errors(difference)
            for column, (measure, interval) in enumerate(
                zip(MEASURES, bootstrap_curve(difference, seed=seed, level=level), strict=True)
            ):
                z = interval.estimate / spread[column] if spread[column] > 0 else np.nan
                p = 2 * _NORMAL.cdf(-abs(z)) if z == z else np.nan
                rows.append((*point[POINT], measure, *interval, p, difference.shape[0], difference.shape[1]))
    columns = [*POINT, "measure", "estimate", "low", "high", "p", "training_seeds", "problems"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = table.groupby("task")["p"].transform(lambda p: holm(p.to_numpy()))
    return table


def dominated_by(
    counts: pd.DataFrame, point: pd.Series, *, measures: tuple[str, str] = ("pass@1", "pass@k")
) -> pd.DataFrame:
    """Every point of another rule on the same task against ``point``, on the ``evaluation`` problems: who is ahead at both ends?

    One row per rival point: the differences (rival minus point) of both measures, and the one-sided p values, corrected by Holm
    over all rivals, that the rival is better at both (``p_dominates``) and that the point is (``p_dominated``): the larger of the
    two single p values, as it takes both. A point is dominated where ``p_dominates`` is small; it is on the frontier of
    what was tried, up to chance, where no rival's is.
    """
    held_out = counts[(counts["evaluation"] == "evaluation") & (counts["task"] == point["task"])]
    at = [MEASURES.index(measure) for measure in measures]
    rows = []
    for key, _ in held_out[held_out["rule"] != point["rule"]].groupby(POINT, sort=False):
        rival = pd.Series(dict(zip(POINT, key, strict=True)))
        difference = _difference(held_out, rival, point)[:, :, at]
        estimate, spread = means_of(difference), standard_errors(difference)
        z = np.where(spread > 0, estimate / np.where(spread > 0, spread, 1.0), 0.0)
        better, worse = (max(_NORMAL.cdf(-sign * value) for value in z) for sign in (1, -1))
        rows.append((*key, *estimate, better, worse))
    names = [f"difference_{measure}" for measure in measures]
    table = pd.DataFrame(rows, columns=[*POINT, *names, "p_dominates", "p_dominated"])
    for name in ("p_dominates", "p_dominated"):
        table[name] = holm(table[name].to_numpy())
    return table


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p values corrected so that the chance of any false one below alpha is at most alpha (Holm 1979). (m,) -> (m,); NaN: not tested."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]
    steps = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected = np.full_like(p, np.nan)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def _values(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    n, c = rows["n"].to_numpy()[:, None], rows["c"].to_numpy()[:, None]
    at = np.full((len(rows), 2), np.nan)  # for a problem without scores
    scored = n[:, 0] > 0
    at[scored] = pass_at_k(n[scored], c[scored], [1, k])
    return pd.DataFrame(
        {
            "pass@1": at[:, 0],
            "pass@k": at[:, 1],
            "distinct": rows["distinct"].to_numpy(),
            "differ": rows["differ"].to_numpy(),
        },
        index=rows.index,
    )


def _points(counts: pd.DataFrame) -> Iterator[tuple[tuple, NDArray[np.float64], int]]:
    for _, of_task in counts.groupby(["evaluation", "task"], sort=False):
        k = _largest_k(of_task)
        for key, rows in of_task.groupby(["evaluation", *POINT], sort=False):
            yield key, _array(rows, k), k


def _largest_k(counts: pd.DataFrame) -> int:
    """The k that all problems of one task and evaluation allow: the fewest samples that any scored one has."""
    return int(counts.loc[counts["n"] > 0, "n"].min()) if (counts["n"] > 0).any() else 1


def _array(rows: pd.DataFrame, k: int) -> NDArray[np.float64]:
    """(training seeds, problems, measures), both in sorted order."""
    values = _values(rows, k).assign(seed=rows["seed"], prompt_id=rows["prompt_id"])
    wide = values.pivot(index="seed", columns="prompt_id", values=list(MEASURES))
    seeds, problems = len(wide.index), rows["prompt_id"].nunique()
    if len(rows) != seeds * problems:
        raise ValueError(
            f"The point {rows.iloc[0]['model']} has {len(rows)} counts for {seeds} seeds and {problems} problems. Every seed needs "
            f"every problem once: finish or delete the cell that is short."
        )
    return wide.to_numpy().reshape(seeds, len(MEASURES), problems).transpose(0, 2, 1)


def _plain_means(counts: pd.DataFrame) -> pd.DataFrame:
    rows = [(*key[1:], *means_of(values)) for key, values, _ in _points(counts)]
    return pd.DataFrame(rows, columns=[*POINT, *MEASURES])


def _difference(held_out: pd.DataFrame, one: pd.Series, other: pd.Series) -> NDArray[np.float64]:
    """(common seeds, problems, measures) of ``one`` minus ``other``."""
    k = _largest_k(held_out)
    sides = []
    for point in (one, other):
        mine = np.logical_and.reduce([held_out[name] == point[name] for name in POINT])
        sides.append(held_out[mine])
    seeds = sorted(set(sides[0]["seed"]) & set(sides[1]["seed"]))
    if not seeds:
        raise ValueError(
            f"{one['rule']} and {other['rule']} have no training seed in common, so nothing can be paired. Run more cells."
        )
    a, b = (_array(side[side["seed"].isin(seeds)], k) for side in sides)
    return a - b
