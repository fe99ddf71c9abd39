"""One pass over a rollouts table: what every estimate of a problem rests on."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Tally", "tally"]

_PROBLEM = ["model", "seed", "prompt_id"]


class Tally(NamedTuple):
    """Counts of P problems, one per (model, seed, prompt_id), and of the F different correct forms found.

    problems: the index of the P problems, sorted.
    n, c: (P,) scored samples and correct ones. An unscored row (null `correct`) counts in neither.
    known: (P,) whether the forms are known: a scored sample, and a canonical form on every correct one,
        because a correct completion without a form may or may not repeat another.
    owner, repeats: (F,) for each problem and different correct form, the problem's position and the number
        of samples that gave the form. Forms are only told apart, never read.
    rewarded, reward: (P,) samples with a reward, and its sum over them; 0 unless asked for. A NaN reward is unscored.
    """

    problems: pd.MultiIndex
    n: NDArray[np.int64]
    c: NDArray[np.int64]
    known: NDArray[np.bool_]
    owner: NDArray[np.int64]
    repeats: NDArray[np.int64]
    rewarded: NDArray[np.int64]
    reward: NDArray[np.float64]

    @property
    def distinct(self) -> NDArray[np.float64]:
        """(P,) different correct forms among all samples, NaN where not known."""
        found = np.bincount(self.owner, minlength=len(self.n)).astype(np.float64)
        return np.where(self.known, found, np.nan)


def tally(frame: pd.DataFrame, *, rewards: bool = False) -> Tally:
    """Count a rollouts table. Rows become integer codes; no text is copied, whatever the table holds."""
    groups = frame[_PROBLEM].groupby(_PROBLEM, observed=True, dropna=False)
    problems = groups.size().index
    owner = groups.ngroup().to_numpy()
    correct = frame["correct"].astype("boolean")
    scored, found = correct.notna().to_numpy(), correct.fillna(False).to_numpy(dtype=bool)
    form, forms = pd.factorize(frame["canonical"])
    named = found & (form >= 0)
    # One number per (problem, form); equal numbers stand together once sorted.
    key, repeats = np.unique(owner[named] * max(1, len(forms)) + form[named], return_counts=True)
    rewarded, reward = np.zeros(len(frame), dtype=bool), np.zeros(len(frame))
    if rewards:
        reward = frame["reward"].to_numpy(np.float64, na_value=np.nan)
        rewarded = ~np.isnan(reward)

    def per_problem(rows: NDArray[np.bool_], weights: NDArray[np.float64] | None = None) -> NDArray:
        return np.bincount(owner[rows], weights=weights, minlength=len(problems))

    n = per_problem(scored)
    return Tally(
        problems,
        n,
        per_problem(found),
        (n > 0) & (per_problem(found & ~named) == 0),
        key // max(1, len(forms)),
        repeats,
        per_problem(rewarded),
        per_problem(rewarded, reward[rewarded]),
    )
