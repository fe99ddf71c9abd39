"""The entropy discrepancy between right and wrong answers, as a schedule (the authors of DS, ICML 2026, "Demystifying Entropy Control").

    J = sum_t e^(l_t - m) l_t / sum_t e^(l_t - m),      m the mean of l,

over the tokens of the correct (J+) or of the incorrect completions (J-) of a batch, l_t their log-probabilities: minus an entropy
that looks at likely tokens more. Each step's coefficient is

    d = -positive * J+  +  negative * J-

positive where right answers are the more uncertain ones: room for a bonus. It multiplies the entropy coefficient, or the gammas.
The reading of the formula is that of public summaries; the paper's own code was not available to us.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["discrepancy_sums", "entropy_discrepancy", "from_sums"]


def entropy_discrepancy(
    logps: Tensor, mask: Tensor, correct: Tensor, *, positive: float = 1.0, negative: float = 1.0
) -> float:
    """The coefficient d of one batch. A side without tokens has J = 0, so d is then that of the other side.

    Args:
        logps, mask: (batch, tokens) of the sampling policy, nats; NaN counts as masked.
        correct: (batch,) in {0, 1, NaN}; completions of unknown correctness count on neither side.
    """
    return from_sums(discrepancy_sums(logps, mask, correct), positive=positive, negative=negative)


def discrepancy_sums(logps: Tensor, mask: Tensor, correct: Tensor) -> Tensor:
    """(6,) sums that several processes can add up: for correct, then incorrect, ``count``, ``sum e^l``, ``sum e^l l``.

    The factor e^-m of the formula cancels in J, so no mean is needed first.
    """
    known = correct.to(logps.dtype)
    counts = (mask != 0) & ~logps.isnan()
    l_t = torch.where(counts, logps, 0.0)
    sums = []
    for side in (1, 0):
        here = counts & (known == side)[:, None]
        weight = torch.where(here, l_t.exp(), 0.0)
        sums += [here.sum().to(logps.dtype), weight.sum(), (weight * l_t).sum()]
    return torch.stack(sums)


def from_sums(sums: Tensor, *, positive: float = 1.0, negative: float = 1.0) -> float:
    """``entropy_discrepancy`` from what ``discrepancy_sums`` gave, added up over processes."""
    _, weight_p, total_p, _, weight_n, total_n = sums.tolist()
    j_p = total_p / weight_p if weight_p > 0 else 0.0
    j_n = total_n / weight_n if weight_n > 0 else 0.0
    return -positive * j_p + negative * j_n
