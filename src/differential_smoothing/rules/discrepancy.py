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

__all__ = ["entropy_discrepancy"]


def entropy_discrepancy(
    logps: Tensor, mask: Tensor, correct: Tensor, *, positive: float = 1.0, negative: float = 1.0
) -> float:
    """The coefficient d of one batch. A side without tokens has J = 0, so d is then that of the other side.

    Args:
        logps, mask: (batch, tokens) of the sampling policy, nats; NaN counts as masked.
        correct: (batch,) in {0, 1, NaN}; completions of unknown correctness count on neither side.
    """
    known = correct.to(logps.dtype)
    counts = (mask != 0) & ~logps.isnan()
    l_t = torch.where(counts, logps, 0.0)
    sides = []
    for side in (1, 0):
        # the factor e^-m of the formula cancels, so no mean is needed first
        weight = torch.where(counts & (known == side)[:, None], l_t.exp(), 0.0)
        total = weight.sum().item()
        sides.append((weight * l_t).sum().item() / total if total > 0 else 0.0)
    return -positive * sides[0] + negative * sides[1]
