"""Samples of two models on the same problems, as counts: the statistics that the diagnosis is made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from ...rollouts import refuse_duplicates
from ..pass_at_k import pass_at_k
from .findings import SLOPES, Bootstrap
from .truncation import cut_completions

__all__ = ["Pair"]


class Pair:
    """Both tables as counts: per (training seed, problem), and per correct answer of each."""

    def __init__(self, before: pd.DataFrame, after: pd.DataFrame, rng: np.random.Generator):
        before, after = _scored("before", before), _scored("after", after)
        self.names = (str(before["model"].iloc[0]), str(after["model"].iloc[0]))
        _refuse_same_samples(before, after)
        self.prompt_ids = np.array(sorted(after["prompt_id"].unique()), dtype=object)
        alone = set(before["prompt_id"].unique()) ^ set(self.prompt_ids)
        if alone:
            raise ValueError(
                f"The tables before and after do not share {len(alone)} problems ({', '.join(map(repr, sorted(alone)[:3]))}"
                f"{', ...' if len(alone) > 3 else ''}), expected samples of both models on the same problems. Sample the "
                "missing ones, or select the common problems."
            )
        seeds = sorted(after["seed"].unique())
        before_seeds = sorted(before["seed"].unique())
        if len(before_seeds) > 1 and before_seeds != seeds:
            raise ValueError(
                f"The table before has the training seeds {before_seeds} and the one after {seeds}, expected the same "
                "seeds, or one seed before. Select the seeds that both have."
            )
        self.seeds, self.num_problems = len(seeds), len(self.prompt_ids)
        self._shape = (self.seeds, self.num_problems)
        self._after = self._place(after, seeds)
        placed = self._place(before, before_seeds)
        if len(before_seeds) < len(seeds):  # one base stands beside every training seed
            placed = pd.concat([placed.assign(row=s) for s in range(len(seeds))], ignore_index=True)
        # a random half of each problem's samples: rank a random number within the problem
        placed["half"] = (
            placed.assign(u=rng.random(len(placed))).groupby(["row", "column"])["u"].rank(method="first") % 2
        ).astype(np.int64)
        self._before = placed
        self.n_before, self.c_before = self._count(placed)
        self.n_after, self.c_after = self._count(self._after)
        self.n_half = np.stack([self._count(placed[placed["half"] == h])[0] for h in (0, 1)])
        if min(self.n_before.min(), self.n_after.min()) < 4:
            raise ValueError(
                f"Some problem has {self.n_before.min()} scored completions before and {self.n_after.min()} after, expected "
                "at least 4 before and 4 after: every quantity compares samples of one problem. Sample more completions, "
                "or leave such problems out."
            )
        self.common_n = int(min(self.n_before.min(), self.n_after.min()))

    def cut(self, which: str) -> NDArray[np.float64]:
        """The share of completions that were cut at the token limit, (seeds, problems)."""
        placed, n = (self._before, self.n_before) if which == "before" else (self._after, self.n_after)
        return self._count(placed[placed["cut"]])[0] / n

    def change_among_ended(self, k: int) -> NDArray[np.float64]:
        """Change of Pass@k, after minus before, of the completions that were not cut; NaN where fewer than k are left."""
        (n0, c0), (n1, c1) = (self._count(placed[~placed["cut"]]) for placed in (self._before, self._after))
        left = (n0 >= k) & (n1 >= k)
        change = pass_at_k(np.where(left, n1, k), np.where(left, c1, 0), k) - pass_at_k(
            np.where(left, n0, k), np.where(left, c0, 0), k
        )
        return np.where(left, change, np.nan)

    def _place(self, frame: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "row": pd.Index(seeds).get_indexer(frame["seed"]),
                "column": pd.Index(self.prompt_ids).get_indexer(frame["prompt_id"]),
                "correct": frame["correct"].astype(bool).to_numpy(),
                "cut": cut_completions(frame),
                "canonical": frame["canonical"].to_numpy(dtype=object),
                "completion": frame["completion"].to_numpy(dtype=object)
                if "completion" in frame
                else np.full(len(frame), "", dtype=object),
                "logp": frame["logp"].to_numpy(np.float64) if "logp" in frame else np.full(len(frame), np.nan),
            }
        )

    def _count(self, placed: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        flat = placed["row"].to_numpy() * self.num_problems + placed["column"].to_numpy()
        size = self.seeds * self.num_problems
        n = np.bincount(flat, minlength=size)
        c = np.bincount(flat, weights=placed["correct"].to_numpy(np.float64), minlength=size).astype(np.int64)
        return n.reshape(self._shape), c.reshape(self._shape)

    def _units(self, by: str, correct: bool = True) -> pd.DataFrame:
        """Counts of each answer (``by`` = canonical or completion): half0, half1, after, and logp where sampled before."""
        key = ["row", "column", by]
        parts = []
        for name, placed in (("before", self._before), ("after", self._after)):
            chosen = placed[placed["correct"] == correct]
            if by == "completion":
                chosen = chosen[chosen["completion"] != ""]
            chosen = chosen[chosen[by].notna()]
            grouped = chosen.groupby(key, sort=False)
            if name == "before":
                counts = pd.DataFrame(
                    {"half1": grouped["half"].sum(), "before": grouped.size(), "logp": grouped["logp"].max()}
                )
                parts.append(counts.assign(half0=counts["before"] - counts["half1"]))
            else:
                parts.append(grouped.size().rename("after").to_frame())
        units = parts[0].join(parts[1], how="outer")
        filled = {name: units[name].fillna(0).astype(np.int64) for name in ("before", "half0", "half1", "after")}
        return units.assign(**filled).reset_index()

    def _known(self, which: str, by: str, correct: bool) -> NDArray[np.bool_]:
        """Where every completion of this kind has a name to compare by."""
        placed = self._before if which == "before" else self._after
        chosen = placed[placed["correct"] == correct]
        nameless = chosen[by].isna() | (chosen[by] == "")
        known = np.ones(self._shape, dtype=bool)
        known[chosen.loc[nameless, "row"], chosen.loc[nameless, "column"]] = False
        return known

    def differ(self, which: str, *, correct: bool = True) -> NDArray[np.float64]:
        """P(two random answers of the kind differ), (seeds, problems): 1 - sum m (m - 1) / (c (c - 1)); NaN for c < 2."""
        by = "canonical" if correct else "completion"
        units = self._cached(by, correct)
        m = units[which].to_numpy(np.float64)
        same = np.zeros(self._shape)
        np.add.at(same, (units["row"].to_numpy(), units["column"].to_numpy()), m * (m - 1))
        n, c = (self.n_before, self.c_before) if which == "before" else (self.n_after, self.c_after)
        c = c if correct else n - c
        with np.errstate(divide="ignore", invalid="ignore"):
            result = 1 - same / (c * (c - 1.0))
        return np.where((c >= 2) & self._known(which, by, correct), result, np.nan)

    def _cached(self, by: str, correct: bool) -> pd.DataFrame:
        store = self.__dict__.setdefault("_store", {})
        if (by, correct) not in store:
            store[by, correct] = self._units(by, correct)
        return store[by, correct]

    def surprisal(self, which: str, correct: bool) -> NDArray[np.float64]:
        """Mean of -logp over the completions of the kind, (seeds, problems); NaN where there is none or one unknown."""
        placed = self._before if which == "before" else self._after
        chosen = placed[placed["correct"] == correct]
        sums, size = np.zeros(self._shape), np.zeros(self._shape)
        at = (chosen["row"].to_numpy(), chosen["column"].to_numpy())
        np.add.at(sums, at, -chosen["logp"].to_numpy())
        np.add.at(size, at, 1)
        return np.where(size > 0, sums / np.maximum(size, 1), np.nan)

    def given_up_terms(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """The share given up in excess of chance: numerator, denominator (seeds, problems), and problems lost by chance."""
        top, bottom, by_chance = np.zeros(self._shape), np.zeros(self._shape), 0.0
        for half in (0, 1):
            n_other, c_here = self.n_half[1 - half], self._half_correct(half)
            c_other = self.c_before - c_here
            m = np.minimum(n_other, self.n_after)
            again = pass_at_k(n_other, c_other, m)
            top += np.where(c_here > 0, again - pass_at_k(self.n_after, self.c_after, m), 0.0)
            bottom += c_here > 0
            by_chance += float(np.sum((1 - again)[c_here > 0])) / (2 * self.seeds)
        return top, bottom, by_chance

    def _half_correct(self, half: int) -> NDArray[np.int64]:
        return self._count(self._before[self._before["half"] == half])[1]

    @property
    def with_logps(self) -> bool:
        """Whether completions carry what the slope wants: a text and the log-probability it was sampled with."""
        right = self._before[self._before["correct"]]
        return bool(len(right) and right["logp"].notna().all() and (right["completion"] != "").all())

    def slope_terms(self) -> NDArray[np.float64]:
        """The estimating equation at each of `SLOPES`, (seeds, problems, slopes)."""
        units = self._cached("completion" if self.with_logps else "canonical", True)
        known = self._known("before", "canonical", True) & self._known("after", "canonical", True)
        result = np.zeros((self.seeds * self.num_problems, len(SLOPES)))
        for half in (0, 1):
            seen = units[units[f"half{half}"] > 0]
            if not self.with_logps:
                seen = seen[known[seen["row"], seen["column"]]]
            if seen.empty:
                continue
            tilt = self._exact_tilt(seen) if self.with_logps else self._estimated_tilt(seen, half)
            z = tilt(1.0)
            flat = (seen["row"] * self.num_problems + seen["column"]).to_numpy()
            a, b = seen["after"].to_numpy(np.float64), seen[f"half{1 - half}"].to_numpy(np.float64)
            places, group = np.unique(flat, return_inverse=True)
            size = np.bincount(group)
            z = z - (np.bincount(group, weights=z) / size)[group]
            weight = 1 / np.bincount(group, weights=seen[f"half{half}"].to_numpy(np.float64))
            for column, s in enumerate(SLOPES):
                h = tilt(s) / 2
                h -= (np.bincount(group, weights=h) / size)[group]  # only differences matter; keeps the powers small
                fall, rise = np.exp(-h), np.exp(h)
                sums = [np.bincount(group, weights=v) for v in (a * z * fall, b * rise, a * fall, b * z * rise)]
                result[places, column] += weight * (sums[0] * sums[1] - sums[2] * sums[3])
        return result.reshape(*self._shape, len(SLOPES))

    @staticmethod
    def _exact_tilt(seen: pd.DataFrame) -> Callable[[float], NDArray[np.float64]]:
        z = seen["logp"].to_numpy()
        return lambda s: s * z

    @staticmethod
    def _estimated_tilt(seen: pd.DataFrame, half: int) -> Callable[[float], NDArray[np.float64]]:
        """log (E[p^(1 + s) | seen k times] / E[p | seen k times]) for a gamma posterior of shape k + alpha.

        alpha is what the other half says: its counts are lambda (k + alpha) on average. With E[p^(1 + s)] in place of
        E[p]^(1 + s) the estimating equation keeps its zero although k is noisy.
        """
        k, other = seen[f"half{half}"].to_numpy(np.float64), seen[f"half{1 - half}"].to_numpy(np.float64)
        # Least squares of other = lambda k + mu with weights 1 / k: counts vary as their mean.
        design = np.array([[k.sum(), len(k)], [len(k), (1 / k).sum()]])
        slope, shift = np.linalg.lstsq(design, np.array([other.sum(), (other / k).sum()]), rcond=None)[0]
        alpha = float(np.clip(shift / slope, -0.9, 5.0)) if slope > 0 else 0.0
        return lambda s: gammaln(k + alpha + 1 + s) - gammaln(k + alpha + 1)

    def survival(self, boot: Bootstrap) -> pd.DataFrame:
        """By how often one half had an answer: chance that m samples find it again, in the other half and after."""
        units = self._cached("canonical", True)
        known = self._known("before", "canonical", True) & self._known("after", "canonical", True)
        rows: dict[int, list[NDArray[np.float64]]] = {}
        seen_range: dict[int, tuple[int, int]] = {}
        for half in (0, 1):
            seen = units[units[f"half{half}"] > 0]
            seen = seen[known[seen["row"], seen["column"]]]
            at = (seen["row"].to_numpy(), seen["column"].to_numpy())
            n_other, n_after = self.n_half[1 - half][at], self.n_after[at]
            m = np.minimum(n_other, n_after)
            before = pass_at_k(n_other, seen[f"half{1 - half}"].to_numpy(), m)
            after = pass_at_k(n_after, seen["after"].to_numpy(), m)
            times = seen[f"half{half}"].to_numpy()
            level = _level(times)
            share = times / self.n_half[half][at]
            for value in np.unique(level):
                here = level == value
                where = (at[0][here], at[1][here])
                sums = rows.setdefault(int(value), [np.zeros(self._shape) for _ in range(4)])
                for total, added in zip(sums, (before, after, np.ones(len(seen)), share), strict=True):
                    np.add.at(total, where, added[here])
                low, high = seen_range.get(int(value), (10**9, 0))
                seen_range[int(value)] = (min(low, times[here].min()), max(high, times[here].max()))
        table = []
        for value in sorted(rows):
            before, after, ones, share = rows[value]
            problems = int((ones > 0).any(axis=0).sum())
            if problems < 2 and len(rows) > 1:
                continue
            finding = boot.ratio(after - before, ones, "share", "")
            low, high = seen_range[value]
            total = ones.sum()
            table.append(
                (
                    str(low) if low == high else f"{low}-{high}",
                    share.sum() / total,
                    before.sum() / total,
                    after.sum() / total,
                    finding.estimate,
                    finding.low,
                    finding.high,
                    round(total / 2),
                    problems,
                )
            )
        names = ["seen", "share", "before", "after", "change", "low", "high", "answers", "problems"]
        return pd.DataFrame(table, columns=names)

    def modes_frame(self) -> pd.DataFrame:
        units = self._cached("canonical", True).groupby(["column", "canonical"], sort=True)[["before", "after"]].sum()
        units = units.reset_index()
        column = units["column"].to_numpy(dtype=np.int64)
        return pd.DataFrame(
            {
                "prompt_id": self.prompt_ids[column],
                "canonical": units["canonical"],
                "before": units["before"],
                "after": units["after"],
                "n_before": self.n_before.sum(0)[column],
                "n_after": self.n_after.sum(0)[column],
            }
        )

    def problems_frame(self) -> pd.DataFrame:
        modes = self.modes_frame()
        c_before, c_after = self.c_before.sum(0), self.c_after.sum(0)
        frame = pd.DataFrame({"prompt_id": self.prompt_ids})
        for which, n, c in (("before", self.n_before, c_before), ("after", self.n_after, c_after)):
            distinct = modes[modes[which] > 0].groupby("prompt_id").size().reindex(self.prompt_ids).fillna(0)
            known = self._known(which, "canonical", True).all(axis=0)
            frame[f"n_{which}"], frame[f"c_{which}"] = n.sum(0), c
            frame[f"distinct_{which}"] = np.where(known, distinct.to_numpy(np.float64), np.nan)
        return frame.assign(given_up=(c_before > 0) & (c_after == 0))


def _level(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seen 1, 2, 3-4, 5-8, 9-16, ... times -> 0, 1, 2, 3, 4, ..."""
    return np.ceil(np.log2(times)).astype(np.int64)


def _scored(which: str, frame: pd.DataFrame) -> pd.DataFrame:
    needed = ["model", "seed", "step", "prompt_id", "sample", "correct", "canonical"]
    missing = [name for name in needed if name not in frame]
    if missing or frame.empty:
        raise ValueError(
            f"The table {which} has {len(frame)} rows and lacks the columns {missing}, expected at least one row and the "
            f"columns {needed}. Read it as a rollouts table first."
        )
    for name, what in (("model", "model"), ("step", "step")):
        values = frame[name].unique()
        if len(values) > 1:
            raise ValueError(
                f"The table {which} mixes {len(values)} {what}s ({', '.join(map(str, values[:3]))}"
                f"{', ...' if len(values) > 3 else ''}), expected one. Select one: frame[frame.{name} == ...]."
            )
    refuse_duplicates(frame, f"Cannot diagnose the table {which}")
    # Sorted, so that the order of the rows decides nothing.
    scored = frame[frame["correct"].notna()].sort_values(["seed", "prompt_id", "sample"])
    if scored.empty:
        raise ValueError(
            f"The table {which} has no scored completion, expected verdicts in `correct`. Verify the completions first."
        )
    return scored


_SAME = (
    "The tables before and after hold the same samples: {}. Expected samples of two models, or of one model drawn twice. Check the "
    "paths."
)


def _refuse_same_samples(before: pd.DataFrame, after: pd.DataFrame) -> None:
    """One file given twice would be compared with itself: the halves before are then not independent of what is after."""
    named = [name for name in ("completion", "logp") if name in before and name in after]
    keys = ["prompt_id", "sample", "correct", *named]
    told = before[(before["completion"] != "") & before["logp"].notna()] if len(named) == 2 else before.iloc[:0]
    if len(told) and len(told[keys].merge(after[keys].drop_duplicates(), on=keys)) > len(told) / 2:
        raise ValueError(_SAME.format("completions, log-probabilities and places agree"))
    if len(told):
        return
    # Without log-probabilities: all that the rows say is the same in all places, and not because every answer to a problem is.
    places = ["prompt_id", "sample"]
    shared = [name for name in ("correct", "canonical", "completion") if name in before and name in after]
    one, other = (frame.groupby(places).first()[shared] for frame in (before, after))
    if (
        one.index.equals(other.index)
        and one.equals(other)
        and (one.groupby("prompt_id").nunique(dropna=False) > 1).any(axis=1).mean() > 0.1
    ):
        raise ValueError(_SAME.format("verdicts, answers and places all agree"))
