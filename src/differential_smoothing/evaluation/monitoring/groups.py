"""Sharpening as seen from groups: n completions of each of some problems, as a trainer draws them.

Groups are small and their problems change from batch to batch, so everything here is either an unbiased estimate of a
quantity of the policy, whatever the group size, or says what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..pass_at_k import pass_at_k

__all__ = ["group_statistics", "likelihood_statistics"]

Floats = NDArray[np.float64]


def group_statistics(
    correct: Floats, answers: NDArray[np.int64], ks: Sequence[int]
) -> tuple[dict[str, float], dict[str, Floats]]:
    """What ``correct`` and the answers say, as means over groups and by group.

    Args:
        correct: (groups, n), 1 correct, 0 incorrect, NaN unscored.
        answers: (groups, n), equal for equal answers; negative for a completion without one. Read where correct.
        ks: for Pass@k.

    Returns:
        Means over the groups where they are defined (NaN if there is none), and the first two by group, (groups,):

        * ``pass_at_k``: unbiased, see ``pass_at_k``; groups with at least k scored completions.
        * ``variety_correct``: of the pairs of correct completions of a group, the share whose answers differ; groups
          with two or more. A U-statistic: given that a group is in, unbiased for the chance that two correct answers to
          its problem differ, 1 - sum_a p(a | correct)^2 (Simpson 1949), whatever n and the success rate; 1 + it is the
          number of distinct answers rarefied to two. Which problems come in moves with the success rate.
        * ``distinct_correct``: distinct correct answers of a group, of n completions: moves with n and with the success
          rate too. Groups in which every completion is scored and every correct one has an answer.
        * ``all_wrong``, ``all_correct``: share of groups whose scored completions are all so: no signal for GRPO.
    """
    scored = ~np.isnan(correct)
    is_correct = correct == 1
    n, c = scored.sum(1), is_correct.sum(1)
    by_group = {f"pass_at_{k}": _pass_at_k_table(correct.shape[1], k)[n, c] for k in ks}
    usable = is_correct & (answers >= 0)
    same = (answers[:, :, None] == answers[:, None, :]) & usable[:, :, None] & usable[:, None, :]
    number = usable.sum(1)
    pairs = number * (number - 1)
    by_group["variety_correct"] = _ratio(pairs - (same.sum((1, 2)) - number), pairs)
    seen_before = np.tril(same, -1).any(2)
    whole = scored.all(1) & (usable == is_correct).all(1)
    by_group["distinct_correct"] = np.where(whole, (usable & ~seen_before).sum(1), np.nan)
    by_group["all_wrong"] = np.where(n > 0, c == 0, np.nan)
    by_group["all_correct"] = np.where(n > 0, c == n, np.nan)
    return {name: _mean(values) for name, values in by_group.items()}, by_group


def likelihood_statistics(correct: Floats, logps: Floats, tokens: Floats, advantages: Floats) -> dict[str, float]:
    """What the log-probs of the sampling policy say. All arrays are (groups, n).

    Args:
        correct: 1 correct, 0 incorrect, NaN unscored.
        logps: of whole completions, nats: sums over their tokens.
        tokens: how many there were; a completion with none is left out.
        advantages: in effect, after any shaping; means over a completion's tokens. NaN if unknown.

    Returns:
        * ``entropy_correct``, ``entropy_incorrect``: minus the mean log-prob of their tokens, nats per token. The tokens
          were drawn from the policy, so over all completions this would be its entropy per token, without bias; over the
          correct ones it is a surprisal, below that entropy where likely answers tend to be right.
          ``entropy_discrepancy``: incorrect minus correct.
        * ``surprisal_correct``, ``surprisal_incorrect``: minus the mean log-prob of a whole completion, nats. Unbiased
          for H(y | correct) - log P(correct) for one problem, so it also falls as the success rate rises.
        * ``likelier_correct``: the selection. Chance that a correct completion of a group is likelier, per token, than an
          incorrect one of it (Mann and Whitney's U over mixed groups, ties half): above 1/2, what is likely already is
          what is reinforced.
        * ``covariance``: of advantage and log-prob per token within a group, unbiased (n - 1), mean over groups; nats.
          Positive: advantage goes to what is likely already, which to first order is what lowers entropy (Cui et al. 2025,
          arXiv 2505.22617, there over tokens).
        * ``covariance_correct``: the reinforcement. The same among the correct completions of a group alone. 0 for rules
          that treat correct answers alike, as GRPO with a binary reward; negative where the less likely ones gain more,
          as with gamma_p > 0.
    """
    known = tokens > 0
    right, wrong = (correct == 1) & known, (correct == 0) & known
    values = {}
    for name, part in (("correct", right), ("incorrect", wrong)):
        total = logps[part].sum()
        values[f"entropy_{name}"] = float(_ratio(-total, tokens[part].sum()))
        values[f"surprisal_{name}"] = float(_ratio(-total, part.sum()))
    values["entropy_discrepancy"] = values["entropy_incorrect"] - values["entropy_correct"]
    per_token = logps / np.maximum(tokens, 1)
    above = np.sign(per_token[:, :, None] - per_token[:, None, :]) / 2 + 0.5
    mixed = right[:, :, None] & wrong[:, None, :]
    values["likelier_correct"] = _mean(_ratio((above * mixed).sum((1, 2)), mixed.sum((1, 2))))
    values["covariance"] = _mean(_covariance(advantages, per_token, right | wrong))
    values["covariance_correct"] = _mean(_covariance(advantages, per_token, right))
    return values


@lru_cache(maxsize=256)
def _pass_at_k_table(size: int, k: int) -> Floats:
    """(size + 1, size + 1): Pass@k by number scored and number correct; the latter is never above the former."""
    n, c = np.arange(size + 1)[:, None], np.arange(size + 1)
    return pass_at_k(n, np.minimum(n, c), k)


def _covariance(a: Floats, b: Floats, part: NDArray[np.bool_]) -> Floats:
    n = part.sum(1)
    centred = np.where(part, a - _ratio(np.where(part, a, 0.0).sum(1), n)[:, None], 0.0)
    return _ratio((centred * np.where(part, b, 0.0)).sum(1), np.where(n > 1, n - 1, 0))


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) > 0)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
