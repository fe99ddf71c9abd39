"""Completions that were cut at the token limit: a fall of Pass@k because answers got longer than the limit is not sharpening.

A rollouts table does not record why a completion ended. Here a completion counts as cut if it has the largest number of tokens in its table, at
least ``FEWEST`` completions have that many, and their success rate is at most a tenth of the table's: an answer that ends by itself at the
limit can be correct, one that is cut hardly ever is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["FEWEST", "cut_completions"]

FEWEST = 20


def cut_completions(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows of a rollouts table were cut at the token limit, (rows,) bool. No row where ``num_tokens`` is missing or null."""
    none = np.zeros(len(frame), dtype=bool)
    if "num_tokens" not in frame:
        return none
    length = pd.to_numeric(frame["num_tokens"]).to_numpy(np.float64, na_value=np.nan)
    correct = frame["correct"].astype("boolean").to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(length).any() or not np.isfinite(correct).any():
        return none
    longest = length == np.nanmax(length)
    scored = longest & ~np.isnan(correct)
    if longest.sum() < FEWEST or longest.all():
        return none
    rate = correct[scored].mean() if scored.any() else 0.0
    return longest if rate <= np.nanmean(correct) / 10 else none
