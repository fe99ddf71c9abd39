"""PKPO (Walder and Karkhanis 2025, arXiv 2505.15201): the unbiased gradient of pass@k itself.

    s_i = k/n                        if correct
    s_i = k/n * pass@(k-1) of the other n - 1 completions      if not
    A_i = n * (s_i - b_i)

The factor n turns the paper's sum over completions into the mean that trainers take. The baseline b_i is a function of the
other completions only, so the expectation stays the gradient of pass@k:

    "loo"            b_i = k/(n-1) * pass@k of the others, the mean of their own s
    "rloo"           b_i = k/n * pass@k of the others, ours: with k = 1 exactly the leave-one-out advantage
    "loo_minus_one"  b_i = k/n * pass@(k-1) of the others: 0 for every wrong completion (the paper's lowest variance)
    "none"           b_i = 0

Limits: ``k=1`` with ``"loo"`` is ``r_i - n/(n-1) * mean of the others``, which the paper's factor 1/(n-1) makes of leave-one-out:
other values, the same expected gradient. Assumes rewards in {0, 1}: only
``correct`` is read. ``anneal=True`` lowers k to 1 over the training, the paper's way to have pass@1 in the end.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from differential_smoothing.rules.counts import chance_of_none, group_counts

__all__ = ["pkpo"]


def pkpo(
    rewards: Tensor,
    logps: Tensor | None,
    mask: Tensor,
    *,
    correct: Tensor,
    group: Tensor,
    k: int = 4,
    baseline: Literal["loo", "rloo", "loo_minus_one", "none"] = "loo",
    anneal: bool = False,
    progress: float = 0.0,
) -> Tensor:
    """(batch,) advantages. ``progress`` in [0, 1] is the share of the training that is done.

    A group with fewer than ``k`` scored completions (``k + 1`` for ``"loo"`` and ``"rloo"``) gives 0.
    """
    if not (isinstance(k, int) and k >= 1):
        raise ValueError(f"pkpo: k must be a whole number >= 1, got {k!r}.")
    if baseline not in ("loo", "rloo", "loo_minus_one", "none"):
        raise ValueError(f"pkpo: baseline must be 'loo', 'rloo', 'loo_minus_one' or 'none', got {baseline!r}.")
    if anneal:
        k = max(1, k - int(progress * k))
    n, c, scored, right = group_counts(rewards, correct, group)
    others, c_others = (n - 1).clamp(min=0), c - right.to(c.dtype)
    found = 1 - chance_of_none(others, c_others, k - 1)  # pass@(k-1) of the others
    # n s_i - n b_i
    s = torch.where(right, float(k), k * found)
    if baseline in ("loo", "rloo"):
        members = n if baseline == "loo" else others
        s = s - members * k / others.clamp(min=1) * (1 - chance_of_none(others, c_others, k))
        enough = others >= k
    else:
        s = s - (k * found if baseline == "loo_minus_one" else 0.0)
        enough = n >= k
    return torch.where(scored & enough, s, 0.0)
