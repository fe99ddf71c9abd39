"""How many different correct solutions a model finds, and whether its answers agree."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .tally import tally

__all__ = ["coverage", "distinct_correct", "maj_at_k"]


def distinct_correct(frame: pd.DataFrame) -> pd.Series:
    """Distinct canonical correct solutions among all samples of each problem.

    `frame` is a rollouts table; the result is a float Series over (model, seed, prompt_id), in sorted order.
    It is NaN for a problem with no scored sample, and for one with a correct completion that has no canonical
    form, because such a completion may or may not repeat another. The count grows with the number of samples:
    compare models only at equal numbers.
    """
    counted = tally(frame)
    return pd.Series(counted.distinct, index=counted.problems, name="distinct")


def coverage(distinct: pd.Series, num_solutions: Mapping[str, int]) -> pd.Series:
    """Share of all solutions of a problem that were found: distinct / num_solutions, in [0, 1].

    `distinct` has an index level `prompt_id` (the result of `distinct_correct`); `num_solutions` maps each
    prompt_id to the number of canonical solutions that exist. NaN stays NaN. Raises ValueError for a
    prompt_id that the mapping lacks, a number below 1, and for more solutions found than exist.
    """
    prompt_ids = distinct.index.get_level_values("prompt_id")
    missing = prompt_ids.unique()[~prompt_ids.unique().isin(list(num_solutions))]
    if len(missing):
        raise ValueError(
            f"num_solutions has no entry for {len(missing)} prompt ids ({_few(missing)}), expected one for "
            "every problem of the frame. Add them, or leave those problems out."
        )
    total = pd.Series(prompt_ids.map(dict(num_solutions)), index=distinct.index, dtype="float64")
    if not (total >= 1).all():
        wrong = prompt_ids[~(total >= 1)].unique()
        raise ValueError(
            f"num_solutions is below 1 for {len(wrong)} prompt ids ({_few(wrong)}), expected at least 1. "
            "Leave out problems without a solution: their coverage is undefined."
        )
    if (distinct > total).any():
        worst = int(np.argmax(distinct > total))
        raise ValueError(
            f"Found {distinct.iloc[worst]:.0f} distinct correct solutions of {prompt_ids[worst]!r} where "
            f"num_solutions is {total.iloc[worst]:.0f}, expected no more than that. Count the "
            "solutions with the same canonical form that the verifier writes."
        )
    return (distinct / total).rename("coverage")


def maj_at_k(answers: ArrayLike, correct: ArrayLike, k: int, *, seed: int, subsamples: int = 1000) -> float:
    """Maj@k of one problem: the chance that the plurality answer of k of its n samples is correct.

    `answers` (n,) are hashable answers, None or NaN where a sample gives none; `correct` (n,) is boolean. The
    mean runs over all k-subsets of the samples if there are at most `subsamples` of them (so k = 1 gives the
    mean of `correct` over the samples that vote, counting others as wrong, and k = n is exact), else over
    that many subsets drawn with `seed`. If m answers tie for the most votes and h of them are correct, the
    subset scores h / m; if no sample votes, it scores 0. NaN if k > n. Majority voting over samples: Wang et
    al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models".

    It is meant for tasks with one right answer, such as arithmetic word problems. It does not measure
    Countdown, where many different expressions hit the target and the value they hit is known beforehand, so
    the Countdown summary leaves it out.

    Raises ValueError if the shapes differ, `correct` is not boolean, k or `subsamples` is below 1, or one
    answer is marked both correct and wrong.
    """
    if k < 1 or subsamples < 1:
        raise ValueError(
            f"maj_at_k got k = {k} and subsamples = {subsamples}, expected both at least 1. Give the number "
            "of votes and the number of subsets to average over."
        )
    verdict = np.asarray(correct)
    codes, names = pd.factorize(pd.Series(answers, dtype="object"))
    if verdict.dtype != bool or verdict.shape != codes.shape:
        raise ValueError(
            f"maj_at_k got {len(codes)} answers and `correct` of shape {verdict.shape} and type "
            f"{verdict.dtype}, expected one boolean per answer. Leave out unscored samples."
        )
    n = len(codes)
    if k > n:
        return math.nan
    right = np.array([verdict[codes == code].any() for code in range(len(names))], dtype=bool)
    mixed = (codes >= 0) & (verdict != np.append(right, False)[codes])
    if mixed.any():
        raise ValueError(
            f"maj_at_k got the answer {names[codes[mixed][0]]!r} marked both correct and wrong, expected one "
            "verdict per answer. Map equal answers to one form before voting."
        )
    if math.comb(n, k) <= subsamples:
        subsets = np.array(list(itertools.combinations(range(n), k)))
    else:
        subsets = np.random.default_rng(seed).random((subsamples, n)).argpartition(k - 1, axis=1)[:, :k]
    # One more bin than there are answers takes the samples without an answer, and is then dropped.
    bins = len(names) + 1
    flat = codes[subsets] % bins + bins * np.arange(len(subsets))[:, None]
    votes = np.bincount(flat.ravel(), minlength=bins * len(subsets)).reshape(-1, bins)[:, :-1]
    top = votes == votes.max(axis=1, keepdims=True, initial=1)
    return float(np.mean((top & right).sum(axis=1) / np.maximum(top.sum(axis=1), 1)))


def _few(names: pd.Index) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
