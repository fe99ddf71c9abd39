"""The diagnosis: did training sharpen the model, how, and what should change? From samples before and after it.

Two biases make sharpening (arXiv 2511.19942): *selection*, a correct answer that the base model finds likely is more
often reinforced at all, and *reinforcement*, when it is, it gains more. Both are statements about the base's
probabilities, which samples know with noise only, and a rare answer that happened to be sampled looks likelier than it
is: compared naively, it "fades" even if nothing changed. So the samples before training are split at random: one half
says which answers there are and how likely each is, the other half stands for "no change" beside the samples after
training. Then the halves change places, and both results count.

* **Survival** of an answer found by one half: the chance that m samples find it again, after training minus in the
  other half, where m is the smaller of the two sample sizes (by ``pass_at_k``, without bias).
* **Reinforcement slope** s: among the correct answers of a problem, log pi_after = (1 + s) log pi_before + constant.
  s = 0 changes nothing or raises all correct answers alike; s > 0 sharpens; s = -1 makes them equally likely. For the
  counts a after training and b in the other half, and z the log-probability from the first half,

      sum over problems x, pairs (i, j) of a_i b_j (z_i - z_j) exp(-s (z_i - z_j) / 2) = 0

  has expectation zero at the true s whatever the probabilities are, since E[a_i b_j] exp(-s d/2) = E[a_j b_i] exp(s d/2)
  for d = z_i - z_j: no probability is estimated from the counts that are compared.
  z is the sampled log-probability where the tables have one, and the unit is then the completion. From samples alone the
  unit is the canonical solution, its probability has a gamma posterior given how often the first half had it (its shape
  taken from the other half, over all problems), and exp(s z) becomes E[p^(1 + s)] / E[p] under that posterior.
* **Variety**: the probability that two random correct answers of one problem differ (a U-statistic).
* **Given up**: problems that one half solves, and m samples after training never do, minus the other half's share.

Intervals resample problems, and training seeds where there are several. The verdict "sharpened" asks
for 99.9% intervals of three signals (slope, variety, Pass@k), so that an unchanged model is called so about once in
500; "not sharpened" asks that the 95% intervals of all three exclude what would be worth acting on (`MARGIN`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from ..rollouts import refuse_duplicates
from .pass_at_k import pass_at_k
from .resampling import draw_weights

__all__ = ["Diagnosis", "diagnose"]

#: What counts as no change worth acting on: in slope, in probability, in Pass@k.
MARGIN = {"slope": 0.15, "variety": 0.03, "pass@k": 0.04}
#: With fewer problems that have two different correct answers, resampling them says too little about others.
FEWEST_PROBLEMS = 30
# The slopes at which the estimating equation is evaluated once for all resamples: dense where slopes usually lie.
_SLOPES = np.concatenate([np.linspace(-1, 2, 61), np.linspace(2.25, 10, 32)])


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    `verdict` is "sharpened", "not sharpened" or "cannot tell". `sentences` say it with its evidence, the last one what
    to do. The frames: `findings`, one row per quantity (finding, estimate, low, high, unit, problems, meaning);
    `survival`, by how often one half of the samples before had an answer (seen, share, before, after, change, low,
    high, answers); `modes`, the counts of each correct answer (prompt_id, canonical, before, after, n_before,
    n_after), and `problems` (prompt_id, n_before, c_before, distinct_before, n_after, c_after, distinct_after,
    given_up), both over all training seeds. Intervals are 95%.
    """

    before: str
    after: str
    verdict: str
    sentences: tuple[str, ...]
    findings: pd.DataFrame
    survival: pd.DataFrame
    modes: pd.DataFrame
    problems: pd.DataFrame


def diagnose(before: pd.DataFrame, after: pd.DataFrame, *, seed: int, replications: int = 2_000) -> Diagnosis:
    """Compare samples of one model `before` and `after` training: see the module for what is measured.

    Both are rollouts tables of one model and one step, on the same problems. If `after` has several training seeds,
    `before` has the same ones, or one. `seed` decides the halves and the resamples; the same seed gives the same
    digits. Unscored completions are left out. Without canonical forms of the correct answers, and without
    log-probabilities and texts, what rests on them is NaN.

    Raises ValueError for tables that `counts` refuses, more than one model in a table, different problems, training
    seeds that cannot be paired, fewer than 4 scored completions of a problem before or 2 after, and a seed that is not
    a whole number >= 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(
            f"diagnose got seed = {seed!r}, expected a whole number >= 0. Choose one and report it."
        )
    if replications < 200:
        raise ValueError(f"diagnose got replications = {replications}, expected at least 200.")
    rng = np.random.default_rng(seed)
    pair = _Pair(before, after, rng)
    boot = _Bootstrap(pair.seeds, pair.num_problems, replications, rng)
    findings: dict[str, _Finding] = {}
    # The verdict rests on half the samples: Pass@n of n samples is 0 or 1 per problem, several times as noisy.
    k = pair.common_n // 2
    for name, at in {f"pass@{at}": at for at in (1, k, pair.common_n)}.items():
        change = pass_at_k(pair.n_after, pair.c_after, at) - pass_at_k(pair.n_before, pair.c_before, at)
        findings[name] = boot.mean(change, "points", f"Change of Pass@{at}, after minus before.")
    differ_before, differ_after = pair.differ("before"), pair.differ("after")
    findings["variety"] = boot.mean(
        differ_after - differ_before, "share",
        "Change of the chance that two random correct answers to a problem differ.",
    )  # fmt: skip
    findings["reinforcement slope"] = boot.slope(
        pair.slope_terms(), "", "How fast the gain in log-probability among correct answers grows with log-probability before.",
    )  # fmt: skip
    survival = pair.survival(boot)
    plenty = survival[survival["answers"] >= FEWEST_PROBLEMS]
    rare, common = (plenty.iloc[at] if len(plenty) > 1 else None for at in (0, -1))
    for name, row, meaning in (
        (
            "survival of rare answers",
            rare,
            "Change of the chance to find again a correct answer that was rarest before.",
        ),
        ("survival of common answers", common, "The same for correct answers that were most common before."),
    ):
        findings[name] = (
            _Finding.undefined("share", meaning) if row is None
            else _Finding(row["change"], row["low"], row["high"], "share", int(row["problems"]), meaning, None)
        )  # fmt: skip
    findings["given up"] = boot.ratio(
        *pair.given_up_terms(), "share",
        "Problems solved before and never after, out of those solved before, minus what chance alone gives.",
    )  # fmt: skip
    for kind, name in ((True, "correct"), (False, "incorrect")):
        findings[f"surprisal of {name}"] = boot.mean(
            pair.surprisal("after", kind) - pair.surprisal("before", kind), "nats",
            f"Change of the mean negative log-probability of {name} completions, each under its own model.",
        )  # fmt: skip
    findings["entropy discrepancy"] = boot.mean(
        (pair.surprisal("after", True) - pair.surprisal("after", False))
        - (pair.surprisal("before", True) - pair.surprisal("before", False)), "nats",
        "Change of surprisal of correct minus surprisal of incorrect completions.",
    )  # fmt: skip
    findings["variety of incorrect"] = boot.mean(
        pair.differ("after", correct=False) - pair.differ("before", correct=False), "share",
        "Change of the chance that two random incorrect completions of a problem differ.",
    )  # fmt: skip
    with np.errstate(divide="ignore"):
        effective = np.where(differ_before < 1, 1 / (1 - differ_before), np.nan)
    findings["solution multiplicity"] = boot.mean(
        effective, "answers", "Effective number of correct answers to a problem before (inverse collision probability).",
    )  # fmt: skip
    verdict, sentences = _judge(pair, findings, k)
    return Diagnosis(
        pair.names[0], pair.names[1], verdict, sentences, _frame(findings), survival.drop(columns="problems"),
        pair.modes_frame(), pair.problems_frame(),
    )  # fmt: skip


@dataclass(frozen=True)
class _Finding:
    estimate: float
    low: float
    high: float
    unit: str
    problems: int
    meaning: str
    draws: NDArray[np.float64] | None  # resampled estimates; None where no verdict rests on the finding

    @classmethod
    def undefined(cls, unit: str, meaning: str) -> _Finding:
        return cls(np.nan, np.nan, np.nan, unit, 0, meaning, None)

    def clear_bounds(self) -> tuple[float, float]:
        """The ends that a verdict must leave 0 outside of: 99% by quantiles and 99.9% by standard deviation, the wider."""
        if self.draws is None or not np.isfinite([self.low, self.high]).all():
            return self.low, self.high
        known = self.draws[~np.isnan(self.draws)]
        low, high = np.quantile(known, [0.005, 0.995])
        reach = 3.29 * known.std()
        return float(min(low, self.estimate - reach)), float(max(high, self.estimate + reach))


class _Pair:
    """Both tables as counts: per (training seed, problem), and per correct answer of each."""

    def __init__(self, before: pd.DataFrame, after: pd.DataFrame, rng: np.random.Generator):
        before, after = _scored("before", before), _scored("after", after)
        self.names = (str(before["model"].iloc[0]), str(after["model"].iloc[0]))
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
        if self.n_before.min() < 4 or self.n_after.min() < 2:
            raise ValueError(
                f"Some problem has {self.n_before.min()} scored completions before and {self.n_after.min()} after, expected "
                "at least 4 before and 2 after: every quantity compares samples of one problem. Sample more completions, "
                "or leave such problems out."
            )
        self.common_n = int(min(self.n_before.min(), self.n_after.min()))

    def _place(self, frame: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "row": pd.Index(seeds).get_indexer(frame["seed"]),
                "column": pd.Index(self.prompt_ids).get_indexer(frame["prompt_id"]),
                "correct": frame["correct"].astype(bool).to_numpy(),
                "canonical": frame["canonical"].to_numpy(dtype=object),
                "completion": frame["completion"].to_numpy(dtype=object)
                if "completion" in frame
                else np.full(len(frame), "", dtype=object),
                "logp": frame["logp"].to_numpy(np.float64)
                if "logp" in frame
                else np.full(len(frame), np.nan),
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
        filled = {
            name: units[name].fillna(0).astype(np.int64) for name in ("before", "half0", "half1", "after")
        }
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

    def given_up_terms(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Numerator and denominator, (seeds, problems), of the share given up in excess of chance."""
        top, bottom = np.zeros(self._shape), np.zeros(self._shape)
        for half in (0, 1):
            n_other, c_here = self.n_half[1 - half], self._half_correct(half)
            c_other = self.c_before - c_here
            m = np.minimum(n_other, self.n_after)
            lost = pass_at_k(n_other, c_other, m) - pass_at_k(self.n_after, self.c_after, m)
            top += np.where(c_here > 0, lost, 0.0)
            bottom += c_here > 0
        return top, bottom

    def _half_correct(self, half: int) -> NDArray[np.int64]:
        return self._count(self._before[self._before["half"] == half])[1]

    @property
    def with_logps(self) -> bool:
        """Whether completions carry what the slope wants: a text and the log-probability it was sampled with."""
        right = self._before[self._before["correct"]]
        return bool(len(right) and right["logp"].notna().all() and (right["completion"] != "").all())

    def slope_terms(self) -> NDArray[np.float64]:
        """The estimating equation at each of `_SLOPES`, (seeds, problems, slopes)."""
        units = self._cached("completion" if self.with_logps else "canonical", True)
        known = self._known("before", "canonical", True) & self._known("after", "canonical", True)
        result = np.zeros((self.seeds * self.num_problems, len(_SLOPES)))
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
            for column, s in enumerate(_SLOPES):
                h = tilt(s) / 2
                h -= (np.bincount(group, weights=h) / size)[
                    group
                ]  # only differences matter; keeps the powers small
                fall, rise = np.exp(-h), np.exp(h)
                sums = [
                    np.bincount(group, weights=v) for v in (a * z * fall, b * rise, a * fall, b * z * rise)
                ]
                result[places, column] += weight * (sums[0] * sums[1] - sums[2] * sums[3])
        return result.reshape(*self._shape, len(_SLOPES))

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

    def survival(self, boot: _Bootstrap) -> pd.DataFrame:
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
                (str(low) if low == high else f"{low}-{high}", share.sum() / total, before.sum() / total,
                 after.sum() / total, finding.estimate, finding.low, finding.high, round(total / 2), problems)
            )  # fmt: skip
        names = ["seen", "share", "before", "after", "change", "low", "high", "answers", "problems"]
        return pd.DataFrame(table, columns=names)

    def modes_frame(self) -> pd.DataFrame:
        units = (
            self._cached("canonical", True)
            .groupby(["column", "canonical"], sort=True)[["before", "after"]]
            .sum()
        )
        units = units.reset_index()
        column = units["column"].to_numpy(dtype=np.int64)
        return pd.DataFrame(
            {
                "prompt_id": self.prompt_ids[column], "canonical": units["canonical"], "before": units["before"],
                "after": units["after"], "n_before": self.n_before.sum(0)[column], "n_after": self.n_after.sum(0)[column],
            }
        )  # fmt: skip

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


class _Bootstrap:
    """Resampled problems (and training seeds, crossed with them), the same for every quantity."""

    def __init__(self, seeds: int, problems: int, replications: int, rng: np.random.Generator):
        self._problems = (
            np.concatenate(  # in blocks: the draws themselves are eight times as large as the weights
                [
                    draw_weights(rng, min(200, replications - at), problems)
                    for at in range(0, replications, 200)
                ]
            )
        )
        self._seeds = draw_weights(rng, replications, seeds)

    def _sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(seeds, problems) -> (replications,), or (seeds, problems, m) -> (replications, m)."""
        total = 0.0
        for s, part in enumerate(values):
            weight = self._seeds[:, s]
            total = total + (weight if part.ndim == 1 else weight[:, None]) * (self._problems @ part)
        return np.asarray(total)

    def mean(self, values: NDArray[np.float64], unit: str, meaning: str) -> _Finding:
        defined = ~np.isnan(values)
        return self.ratio(np.where(defined, values, 0.0), defined.astype(np.float64), unit, meaning)

    def ratio(
        self, top: NDArray[np.float64], bottom: NDArray[np.float64], unit: str, meaning: str
    ) -> _Finding:
        problems = int((bottom > 0).any(axis=0).sum())
        if not problems:
            return _Finding.undefined(unit, meaning)
        tops, bottoms = self._sums(top), self._sums(bottom)
        draws = np.where(bottoms > 0, tops / np.where(bottoms > 0, bottoms, 1), np.nan)
        return self._finding(float(top.sum() / bottom.sum()), draws, unit, problems, meaning)

    def slope(self, terms: NDArray[np.float64], unit: str, meaning: str) -> _Finding:
        problems = int((np.abs(terms).max(axis=2) > 0).any(axis=0).sum())
        if not problems:
            return _Finding.undefined(unit, meaning)
        estimate = _root(terms.sum(axis=(0, 1))[None])[0]
        return self._finding(float(estimate), _root(self._sums(terms)), unit, problems, meaning)

    @staticmethod
    def _finding(estimate: float, draws: NDArray, unit: str, problems: int, meaning: str) -> _Finding:
        low = high = np.nan
        known = draws[~np.isnan(draws)]
        if problems > 1 and len(known):
            low, high = np.quantile(known, [0.025, 0.975])
        return _Finding(estimate, float(low), float(high), unit, problems, meaning, draws)


def _root(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where each row of (rows, slopes), which falls, crosses 0. The ends of the grid stand for anything beyond them."""
    above = terms > 0
    first = np.argmin(above, axis=1)  # the first slope at which the equation is not above 0
    first = np.where(above.all(axis=1), len(_SLOPES) - 1, first)
    low = np.maximum(first - 1, 0)
    rows = np.arange(len(terms))
    y0, y1 = terms[rows, low], terms[rows, first]
    gap = y0 - y1
    part = np.clip(np.where(gap > 0, y0 / np.where(gap > 0, gap, 1), 0.0), 0, 1)
    result = _SLOPES[low] + part * (_SLOPES[first] - _SLOPES[low])
    result = np.where(above.all(axis=1), _SLOPES[-1], result)
    return np.where((terms == 0).all(axis=1), np.nan, result)


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


def _frame(findings: dict[str, _Finding]) -> pd.DataFrame:
    rows = [(name, f.estimate, f.low, f.high, f.unit, f.problems, f.meaning) for name, f in findings.items()]
    return pd.DataFrame(rows, columns=["finding", "estimate", "low", "high", "unit", "problems", "meaning"])


def _judge(pair: _Pair, findings: dict[str, _Finding], k: int) -> tuple[str, tuple[str, ...]]:
    """The verdict, and the sentences that say no more than the intervals allow."""
    slope, variety, last = findings["reinforcement slope"], findings["variety"], findings[f"pass@{k}"]
    first = findings["pass@1"]
    # sign: in which direction the quantity moves when a model sharpens
    signals = [
        (slope, 1, MARGIN["slope"], f"reinforcement slope {_say(slope)}"),
        (variety, -1, MARGIN["variety"], f"two correct answers differ less often, by {_say(variety, -100)} points"),
        (last, -1, MARGIN["pass@k"], f"Pass@{k} down by {_say(last, -100)} points"),
    ]  # fmt: skip
    enough = pair.num_problems >= FEWEST_PROBLEMS
    clear, harmless = [], []
    for finding, sign, margin, words in signals:
        low = min(sign * end for end in finding.clear_bounds())
        measured = enough and finding.problems >= FEWEST_PROBLEMS and np.isfinite(low)
        # A model that got worse everywhere loses Pass@k too, and that is not sharpening.
        worse = finding is last and first.clear_bounds()[1] < 0
        if measured and low > 0 and not worse:
            clear.append(words)
        harmless.append(bool(measured and max(sign * finding.low, sign * finding.high) < margin))
    verdict = "sharpened" if clear else "not sharpened" if all(harmless) else "cannot tell"
    sentences = {
        "sharpened": [f"Sharpened: yes, {'; '.join(clear)}."],
        "not sharpened": [
            f"Sharpened: no, reinforcement slope {_say(slope)}, change of Pass@{k} {_say(last, 100)} points: whatever there "
            "is, is too small to act on."
        ],
        "cannot tell": [f"Sharpened: cannot tell. {_why_not(pair, signals, enough)}"],
    }[verdict]
    moved = "up" if first.low > 0 else "down" if first.high < 0 else ""
    sentences.append(
        f"Pass@1 {moved} by {_say(first, 100 if moved == 'up' else -100)} points."
        if moved
        else f"Pass@1 shows no clear change, {_say(first, 100)} points."
    )
    if not enough:  # with so few problems the intervals are too narrow for more than a warning
        return verdict, (
            *sentences[:1],
            _advice(verdict, moved, findings["given up"], findings["solution multiplicity"], pair),
        )
    rare, common = findings["survival of rare answers"], findings["survival of common answers"]
    if np.isfinite([rare.low, common.low]).all():
        if rare.high < 0:
            sentences.append(
                f"Selection: correct answers that were rarest before are found again {_say(rare, -100)} points less often "
                f"than without any change; for the most common ones the difference is {_say(common, 100)} points."
            )
        else:
            sentences.append(
                f"Selection: no sign that rare correct answers are dropped, {_say(rare, 100)} points."
            )
    given_up = findings["given up"]
    if np.isfinite(given_up.low):
        share = f"{_say(given_up, 100)}% of the problems solved before beyond what chance gives"
        sentences.append(f"Given up: {share}." if given_up.low > 0 else f"Given up: no clear sign, {share}.")
    wrong, right = findings["surprisal of incorrect"], findings["surprisal of correct"]
    if np.isfinite([wrong.low, right.low]).all():
        sentences.append(
            f"Entropy: surprisal changed by {_say(right)} nats among correct and by {_say(wrong)} nats among incorrect "
            "completions."
        )
    multiplicity = findings["solution multiplicity"]
    if np.isfinite(multiplicity.estimate):
        sentences.append(
            f"A problem has {multiplicity.estimate:.1f} effective correct answers before"
            + (": little variety to lose." if multiplicity.estimate < 1.3 else ".")
        )
    sentences.append(_advice(verdict, moved, given_up, multiplicity, pair))
    return verdict, tuple(sentences)


def _advice(verdict: str, moved: str, given_up: _Finding, multiplicity: _Finding, pair: _Pair) -> str:
    if verdict == "cannot tell":
        return (
            f"What to do: sample more problems ({pair.num_problems} here; a few hundred settle most cases) before changing "
            "the training."
        )
    if verdict == "not sharpened":
        return (
            "What to do: nothing about variety. "
            + ("Training may go on longer or at a higher learning rate." if moved == "up" else
               "If Pass@1 should rise, the learning rate or the number of steps is the place to look." if not moved else
               "Pass@1 fell without sharpening: look at the reward and the learning rate first.")
        )  # fmt: skip
    first = (
        "lower the learning rate or stop earlier, because Pass@1 did not rise for the variety that was lost"
        if moved != "up"
        else "raise gamma_p or lower the learning rate, because "
        + (
            "likely correct answers were reinforced more than unlikely ones"
            if not given_up.low > 0
            else "likely correct answers were reinforced more than unlikely ones and problems were given up"
        )
    )
    if multiplicity.estimate < 1.3:
        first += "; with so few different correct answers per problem expect more from the learning rate"
    return f"What to do: {first}. Compare both at several seeds."


def _why_not(pair: _Pair, signals: list, enough: bool) -> str:
    if not enough:
        return f"{pair.num_problems} problems are too few to speak about others (at least {FEWEST_PROBLEMS})."
    for finding, name in zip([s[0] for s in signals], ("slope", "variety", "Pass@k"), strict=True):
        if finding.problems < FEWEST_PROBLEMS:
            return (
                f"The {name} rests on {finding.problems} problems (at least {FEWEST_PROBLEMS}): it needs canonical forms of "
                "correct answers, and problems with two different ones."
            )
    return (
        f"No signal is clear and not all are small: reinforcement slope {_say(signals[0][0])}, change of variety "
        f"{_say(signals[1][0], 100)} points, change of Pass@k {_say(signals[2][0], 100)} points."
    )


def _say(finding: _Finding, scale: float = 1) -> str:
    """ "0.41 [0.33, 0.49]"; a negative scale turns the ends round."""
    ends = sorted((scale * finding.low, scale * finding.high))
    digits = 1 if abs(scale) == 100 else 2
    if not np.isfinite(finding.estimate):
        return "undefined"
    if not np.isfinite(ends).all():
        return f"{scale * finding.estimate:z.{digits}f} (no interval)"
    return f"{scale * finding.estimate:z.{digits}f} [{ends[0]:z.{digits}f}, {ends[1]:z.{digits}f}]"
