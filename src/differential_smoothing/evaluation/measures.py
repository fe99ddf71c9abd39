"""Every metric of every problem of a rollouts table: what the summary takes its means of."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..rollouts import refuse_duplicates
from .diversity import coverage
from .pass_at_k import pass_at_k, pass_at_k_curve, pass_hat_k
from .tally import Tally, tally
from .variety import distinct_at_k, mode_agreement

__all__ = ["AT_K", "NEEDED", "OF_CURVE", "OF_TWO", "PLAIN", "SOLVED", "Measures", "checked_tally", "measure"]

NEEDED = ["model", "seed", "step", "prompt_id", "sample", "correct", "canonical"]
AT_K = ("pass@k", "pass^k", "distinct@k", "distinct@k|correct")
PLAIN = ("average@n", "reward", "distinct", "coverage", "differ", "modes")
#: About the Pass@k curve up to K, the smallest n > 0 of a problem, and about all n samples of a problem.
OF_CURVE = ("area", "spread")
SOLVED = ("always", "sometimes", "never")
OF_TWO = ("reach@k", "crossing")


def checked_tally(frame: pd.DataFrame, *, rewards: bool = False) -> Tally:
    """The tally of a rollouts table, one step of each model and seed, with the errors of `counts`."""
    missing = [name for name in NEEDED if name not in frame]
    if missing or frame.empty:
        raise ValueError(
            f"The rollouts have {len(frame)} rows and lack the columns {missing}, expected at least one row "
            f"and the columns {NEEDED}. Read them with read_rollouts."
        )
    steps = frame["step"].unique()
    if len(steps) > 1 and (frame.groupby(["model", "seed"])["step"].nunique() > 1).any():
        raise ValueError(
            f"The rollouts mix {len(steps)} steps ({', '.join(map(str, sorted(steps)[:3]))}, ...), expected "
            "one of each model and seed, because each step samples another policy. Select one: --step N, or frame[frame.step == N]."
        )
    refuse_duplicates(frame, "Cannot count the rollouts")
    if rewards and not pd.api.types.is_numeric_dtype(frame["reward"]):
        raise ValueError(
            f"The rollouts have a reward column of type {frame['reward'].dtype}, expected numbers, NaN where unscored. "
            "Convert it with pandas.to_numeric."
        )
    return tally(frame, rewards=rewards)


class Measures(NamedTuple):
    """What was asked for, and its values (problems, columns) with one column per (metric, k)."""

    counted: Tally
    metrics: list[str]
    ks: list[int]
    columns: list[tuple[str, float]]
    values: NDArray[np.float64]

    def samples(self, at: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Per column, the samples (seeds, problems) that it rests on."""
        counted = self.counted
        return [(counted.rewarded if name == "reward" else counted.n)[at] for name, _ in self.columns]


def measure(
    frame: pd.DataFrame,
    ks: Sequence[int] | None,
    num_solutions: Mapping[str, int] | None,
    metrics: Sequence[str] | None,
    allowed: tuple[str, ...],
) -> Measures:
    """The values of `metrics` (see `summarise` and `compare`), of which only those `allowed` are known here."""
    if metrics is None:
        metrics = ["pass@k", "distinct"] + (["coverage"] if num_solutions is not None else [])
    absent = [
        name
        for name, given in (("coverage", num_solutions is not None), ("reward", "reward" in frame))
        if name in metrics and not given
    ]
    wrong = [name for name in metrics if name not in allowed]
    if isinstance(metrics, str) or not metrics or wrong or absent or len(set(metrics)) < len(metrics):
        raise ValueError(
            f"The summary got metrics = {metrics!r}, of which {wrong or 'none'} unknown and {absent or 'none'} without "
            f"its data, expected each once and of {list(allowed)}. Correct the names; coverage needs num_solutions, and "
            "reward the column of that name."
        )
    counted = checked_tally(frame, rewards="reward" in metrics)
    if ks is None:
        largest = max(1, int(counted.n.max()))
        ks = sorted({2**i for i in range(largest.bit_length())} | {largest})
    ks = list(ks)
    columns, values = [], []
    for name in metrics:
        if name in OF_TWO:
            continue
        found = _at_ks(counted, name, ks) if name in AT_K else _plain(counted, name, num_solutions)[:, None]
        values.append(found)
        if name in OF_CURVE:
            columns.append((name, float(_shortest(counted))))
            continue
        if name == "average@n":
            same = len(set(counted.n.tolist())) == 1
            columns.append((name, float(counted.n[0]) if same else np.nan))
        else:
            columns += [(name, k) for k in ks] if name in AT_K else [(name, np.nan)]
    empty = np.empty((len(counted.n), 0))
    return Measures(counted, list(metrics), ks, columns, np.concatenate([empty, *values], axis=1))


def _at_ks(counted: Tally, name: str, ks: list[int]) -> NDArray[np.float64]:
    if name in ("pass@k", "pass^k"):
        whole = np.asarray(ks)
        # Many ks are cheaper as one whole curve, few as so many products.
        if (
            name == "pass@k"
            and len(ks) > 50
            and whole.dtype.kind == "i"
            and 1 <= whole.min() <= whole.max() < 4 * len(ks)
        ):
            return pass_at_k_curve(counted.n, counted.c, int(whole.max()))[:, whole - 1]
        rule = pass_at_k if name == "pass@k" else pass_hat_k
        return rule(counted.n[:, None], counted.c[:, None], ks)
    columns = [distinct_at_k(counted, k, of_correct=name == "distinct@k|correct") for k in ks]
    return np.stack(columns, axis=1) if ks else np.empty((len(counted.n), 0))


def _shortest(counted: Tally) -> int:
    return int(counted.n[counted.n > 0].min(initial=np.iinfo(np.int64).max)) if (counted.n > 0).any() else 1


def _of_curve(counted: Tally, name: str) -> NDArray[np.float64]:
    """ "area": the mean of Pass@k over ln k from 1 to K (trapezoid between whole k). "spread": Pass@K - Pass@1. (P,), NaN where n = 0."""
    curve = pass_at_k_curve(counted.n, counted.c, _shortest(counted))
    if name == "spread":
        return curve[:, -1] - curve[:, 0]
    width = np.log(np.arange(1, curve.shape[1] + 1))
    return np.trapezoid(curve, width, axis=1) / width[-1] if curve.shape[1] > 1 else curve[:, 0]


def _solved(counted: Tally, name: str) -> NDArray[np.float64]:
    """Whether all, some but not all, or none of a problem's samples are correct, (P,) in {0, 1}; NaN where n = 0."""
    all_right, none = counted.c == counted.n, counted.c == 0
    held = {"always": all_right, "never": none, "sometimes": ~all_right & ~none}[name]
    return np.where(counted.n > 0, held.astype(np.float64), np.nan)


def _plain(counted: Tally, name: str, num_solutions: Mapping[str, int] | None) -> NDArray[np.float64]:
    if name == "average@n":
        return np.where(counted.n > 0, counted.c / np.maximum(counted.n, 1), np.nan)
    if name == "reward":
        return np.where(counted.rewarded > 0, counted.reward / np.maximum(counted.rewarded, 1), np.nan)
    if name in OF_CURVE:
        return _of_curve(counted, name)
    if name in SOLVED:
        return _solved(counted, name)
    if name in ("differ", "modes"):
        return mode_agreement(counted)
    if name == "distinct":
        return counted.distinct
    return coverage(pd.Series(counted.distinct, index=counted.problems), num_solutions or {}).to_numpy()
