"""Rules as sets of paths: every checkpoint of every run is a point, and a rule leads where a point lies above a baseline's envelope.

The input is a sweep's table of counts (``sweep.read_counts``), with a column ``step`` where cells were evaluated at checkpoints. A *point* is
a rule at one strength, learning rate and step on one task; rows of step 0 are the base, with which every path begins, so they belong to the envelope of every baseline.
Points are chosen on the problems of ``selection`` and judged on those of ``evaluation``; ``envelope`` has the equations.

Seeds. A lead is judged on the training seeds that the rule's point shares with most of the baseline's points; baseline points that lack
one of them are left out and counted, as a mean of one run is noisier than a mean of five and would lift the envelope by its noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .envelope import corrected, envelope_at, lead_over, margin_over, resample
from .frontiers import holm
from .pass_at_k import pass_at_k

__all__ = ["PLACE", "chosen_points", "final_counts", "leads", "path_means", "usable_range", "with_steps"]

#: Columns that name a point.
PLACE = ["task", "rule", "strength", "learning_rate", "step"]
MEASURES = ("pass@1", "pass@k", "distinct")


def with_steps(counts: pd.DataFrame) -> pd.DataFrame:
    """The counts with a whole ``step``; -1, the end of training, where the sweep has no checkpoints."""
    steps = counts["step"].fillna(-1).astype(int) if "step" in counts else -1
    # the base has no strength and no learning rate, and NaN is equal to nothing
    return counts.assign(
        step=steps, strength=counts["strength"].fillna(""), learning_rate=counts["learning_rate"].fillna(0.0)
    )


def final_counts(counts: pd.DataFrame) -> pd.DataFrame:
    """The rows of each cell's last step, which is all that ``frontiers`` compares; without the base, which is not trained."""
    counts = with_steps(counts)
    last = counts.groupby(["task", "rule", "strength", "learning_rate"])["step"].transform("max")
    return counts[(counts["step"] == last) & (counts["step"] != 0)].drop(columns="step")


def path_means(counts: pd.DataFrame) -> pd.DataFrame:
    """One row per point and evaluation: the means of ``pass@1``, ``pass@k`` and ``distinct``, ``k``, ``problems`` and ``training_seeds``."""
    rows = []
    for evaluation, of_evaluation in with_steps(counts).groupby("evaluation", sort=False):
        for table in _tables(of_evaluation):
            for place, values in table.points.items():
                rows.append((*place, evaluation, *_mean(values.values()), table.k, len(table.problems), len(values)))
    columns = [*PLACE, "evaluation", *MEASURES, "k", "problems", "training_seeds"]
    return pd.DataFrame(rows, columns=columns)


def chosen_points(counts: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Up to three points of each other rule and task, chosen on the ``selection`` problems: columns ``PLACE`` and ``criterion``.

    Criteria: the largest lead over the baseline's envelope in Pass@k ("pass@k") and in distinct answers ("distinct"), and the highest Pass@1
    ("pass@1"). A point that is chosen by several has them joined by " and ". Of a rule's points those with the most training seeds are
    candidates. ValueError if a task has no point of the baseline.
    """
    rows = []
    chosen_on = with_steps(counts)
    for table in _tables(chosen_on[chosen_on["evaluation"] == "selection"]):
        for rule in table.rules():
            if rule == baseline:
                continue
            places = table.trained(rule)
            scores = []
            for place in places:
                seeds, others, _ = table.opponents(place, baseline)
                means = np.stack([table.mean(place, seeds), *(table.mean(other, seeds) for other in others)])[None]
                scores.append((lead_over(1)(means)[0], lead_over(2)(means)[0], means[0, 0, 0]))
            by_place: dict[tuple, list[str]] = {}
            for column, criterion in enumerate(("pass@k", "distinct", "pass@1")):
                best = max(range(len(places)), key=[row[column] for row in scores].__getitem__)
                by_place.setdefault(places[best], []).append(criterion)
            rows += [(*place, " and ".join(criteria)) for place, criteria in by_place.items()]
    return pd.DataFrame(rows, columns=[*PLACE, "criterion"])


def leads(
    counts: pd.DataFrame,
    points: pd.DataFrame,
    baseline: str,
    *,
    seed: int,
    replications: int = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """The lead of each of ``points`` (of ``chosen_points``) over the baseline's envelope on the ``evaluation`` problems.

    One row per point and measure. "pass@k" and "distinct" are leads at equal Pass@1; "pass@1" is the margin over the best Pass@1 that the baseline
    has anywhere. Columns after the point, ``criterion`` and ``baseline``:

        measure, k         k of Pass@k, NaN for the others
        value, reference   the point's own mean, and the envelope's at its Pass@1 (or the baseline's best Pass@1), both plain
        estimate           the lead, corrected for the bias of a maximum; value - reference is the plain one
        low, high          interval at ``level``
        low_all, high_all  the same for all tests of the task with as many training seeds at once (Bonferroni)
        p, p_holm          two-sided, alone and corrected over the same tests by Holm's procedure
        reached_at         the highest Pass@1 at which the baseline's envelope has this ``value``; NaN for pass@1, and where it has it nowhere
        training_seeds, problems, baseline_points, left_out      what was compared, and baseline points that lack a seed of it
    """
    rows = []
    judged = with_steps(counts)
    tables = {table.task: table for table in _tables(judged[judged["evaluation"] == "evaluation"])}
    for _, point in points.iterrows():
        if point["rule"] == baseline or point["task"] not in tables:
            continue
        table, place = tables[point["task"]], tuple(point[PLACE])
        seeds, others, left_out = table.opponents(place, baseline)
        drawn = resample(table.values([place, *others], seeds), seed=seed, replications=replications)
        for column, measure in enumerate(MEASURES):
            statistic = lead_over(column) if column else margin_over(0)
            found = corrected(statistic, drawn, seed=seed)
            value = drawn.means[0, column]
            there = drawn.means[1:]
            reached = np.nan
            if column and value <= there[:, column].max():
                reached = envelope_at([value], there[None, :, column], there[None, :, 0])[0]
            rows.append(
                (
                    *place,
                    point["criterion"],
                    baseline,
                    measure,
                    table.k if measure == "pass@k" else np.nan,
                    value,
                    value - found.plain,
                    found.estimate,
                    *found.interval(level),
                    found.error,
                    found.dof,
                    found.p,
                    reached,
                    len(seeds),
                    len(table.problems),
                    len(others),
                    left_out,
                )
            )
    columns = [
        *PLACE,
        "criterion",
        "baseline",
        "measure",
        "k",
        "value",
        "reference",
        "estimate",
        "low",
        "high",
        "error",
        "dof",
        "p",
        "reached_at",
        "training_seeds",
        "problems",
        "baseline_points",
        "left_out",
    ]
    found = pd.DataFrame(rows, columns=columns)
    found["p_holm"] = found.groupby(["task", "training_seeds"])["p"].transform(lambda p: holm(p.to_numpy()))
    return _for_all(found, level)


def _for_all(found: pd.DataFrame, level: float) -> pd.DataFrame:
    """The intervals of all tests of a task at once, beside those of each alone."""
    from scipy.special import stdtrit

    tests = found.groupby(["task", "training_seeds"])["p"].transform("count").clip(lower=1)
    half = stdtrit(found["dof"], 1 - (1 - level) / 2 / tests) * found["error"]
    ends = {"low_all": found["estimate"] - half, "high_all": found["estimate"] + half}
    place = found.columns.get_loc("high") + 1
    return pd.concat([found.iloc[:, :place], pd.DataFrame(ends), found.iloc[:, place:]], axis=1)


def usable_range(counts: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Where each rule's *final* point stands, at every strength and learning rate, on the ``evaluation`` problems; plain estimates.

    One row per task, rule, strength and learning rate: means, ``lead_pass@k`` and ``lead_distinct`` over the baseline's envelope, the
    ``margin`` in Pass@1 over its best anywhere, and ``verdict``:

        "beyond"       a higher Pass@1 than the baseline has anywhere, and above its measures there (margin and both leads > 0)
        "above"        both leads > 0
        "below"        a lead is not above 0
        "broke down"   Pass@1 below the base's, or, where the base was not evaluated, below half of the baseline's best

    The envelope is a maximum of noisy points, so a row errs on the low side.
    """
    rows = []
    judged = with_steps(counts)
    for table in _tables(judged[judged["evaluation"] == "evaluation"]):
        base = [table.mean(place, table.points[place])[0] for place in table.points if place[4] == 0]
        for rule in table.rules():
            for place in table.last(rule):
                seeds, others, _ = table.opponents(place, baseline)
                means = np.stack([table.mean(place, seeds), *(table.mean(other, seeds) for other in others)])[None]
                margin, of_k, of_distinct = margin_over(0)(means)[0], lead_over(1)(means)[0], lead_over(2)(means)[0]
                least = max(base) if base else 0.5 * means[0, 1:, 0].max()
                verdict = "below"
                if means[0, 0, 0] < least:
                    verdict = "broke down"
                elif min(of_k, of_distinct) > 0:
                    verdict = "beyond" if margin > 0 else "above"
                rows.append((*place, *means[0, 0], of_k, of_distinct, margin, len(seeds), verdict))
    columns = [*PLACE, *MEASURES, "lead_pass@k", "lead_distinct", "margin", "training_seeds", "verdict"]
    return pd.DataFrame(rows, columns=columns)


class _Table:
    """The points of one task: place -> seed -> (problems, measures), problems in one order."""

    def __init__(self, counts: pd.DataFrame) -> None:
        self.task = counts["task"].iloc[0]
        scored = counts["n"] > 0
        self.k = int(counts.loc[scored, "n"].min()) if scored.any() else 1
        self.problems = sorted(counts["prompt_id"].unique())
        at = np.full((len(counts), 2), np.nan)
        n, c = (counts.loc[scored, name].to_numpy()[:, None] for name in ("n", "c"))
        if scored.any():
            at[scored.to_numpy()] = pass_at_k(n, c, [1, self.k])
        values = np.column_stack([at, np.where(scored, counts["distinct"], np.nan)])
        order = pd.Index(self.problems).get_indexer(counts["prompt_id"])
        self.points: dict[tuple, dict[int, NDArray[np.float64]]] = {}
        self._means: dict[tuple, NDArray[np.float64]] = {}
        for key, rows in counts.groupby([*PLACE, "seed"], sort=False).indices.items():
            if len(rows) != len(self.problems) or len(set(order[rows])) != len(rows):
                raise ValueError(
                    f"The point {' '.join(map(str, key[1:-1]))} of seed {key[-1]} has {len(rows)} counts for {len(self.problems)} problems. Every "
                    f"checkpoint of a task needs every problem once: finish or delete the cell that is short."
                )
            of_seed = np.empty((len(self.problems), len(MEASURES)))
            of_seed[order[rows]] = values[rows]
            self.points.setdefault(key[:-1], {})[int(key[-1])] = of_seed

    def rules(self) -> list[str]:
        """Rules with a trained point, in the order of the table."""
        return list(dict.fromkeys(place[1] for place in self.points if place[4] != 0))

    def trained(self, rule: str) -> list[tuple]:
        """The rule's points beyond the base that have the most training seeds."""
        places = [place for place in self.points if place[1] == rule and place[4] != 0]
        most = max(len(self.points[place]) for place in places)
        return [place for place in places if len(self.points[place]) == most]

    def last(self, rule: str) -> list[tuple]:
        """The last step of every strength and learning rate of the rule."""
        ends: dict[tuple, tuple] = {}
        for place in self.points:
            if place[1] == rule and place[4] != 0 and place[4] >= ends.get(place[:4], place)[4]:
                ends[place[:4]] = place
        return list(ends.values())

    def opponents(self, place: tuple, baseline: str) -> tuple[list[int], list[tuple], int]:
        """Seeds to compare on, the baseline's points that have them all, and how many were left out."""
        theirs = [other for other in self.points if other[1] == baseline and other[4] != 0 and other != place]
        if not theirs:
            raise ValueError(
                f"The counts have no point of the baseline {baseline!r} on task {self.task!r}. Run its cells first, or name a rule that has some."
            )
        mine = set(self.points[place])
        shared = [mine & set(self.points[other]) for other in theirs]
        # as many runs of the baseline as possible: neither one point with more seeds nor one seed with more points is an envelope
        seeds = max(
            (s for s in shared if s),
            key=lambda s: len(s) * sum(s <= set(self.points[o]) for o in theirs),
            default=set(),
        )
        if not seeds:
            raise ValueError(
                f"{' '.join(map(str, place[1:]))} and {baseline} have no training seed in common on task {self.task!r}, so nothing can be paired. Run more cells."
            )
        whole = [other for other in theirs if seeds <= set(self.points[other])]
        base = [other for other in self.points if other[4] == 0]
        return sorted(seeds), [*whole, *base], len(theirs) - len(whole)

    def values(self, places: Sequence[tuple], seeds: Sequence[int]) -> NDArray[np.float64]:
        """(places, seeds, problems, measures). The base is one model whatever the seed: where one is missing, another's samples stand in."""
        return np.stack(
            [
                np.stack([self.points[place].get(s, next(iter(self.points[place].values()))) for s in seeds])
                for place in places
            ]
        )

    def mean(self, place: tuple, seeds: Iterable[int]) -> NDArray[np.float64]:
        """(measures,)"""
        seeds = list(seeds)
        key = (place, *seeds)
        if key not in self._means:
            self._means[key] = _mean(self.values([place], seeds)[0])
        return self._means[key]


def _mean(values: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over seeds and problems of (problems, measures) arrays, where it is defined."""
    stacked = np.stack(list(values)).reshape(-1, len(MEASURES))
    defined = ~np.isnan(stacked)
    return np.where(defined, stacked, 0.0).sum(axis=0) / np.where(defined.any(axis=0), defined.sum(axis=0), np.nan)


def _tables(counts: pd.DataFrame) -> list[_Table]:
    return [_Table(rows) for _, rows in counts.groupby("task", sort=False)]
