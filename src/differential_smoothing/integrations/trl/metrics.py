"""The values ``ds/...`` of a batch: summed on each process, divided once they are summed over all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["decided_groups", "term_metrics", "term_sums", "variety_sums"]


def term_sums(correct: Tensor, mask: Tensor, logps: Tensor, term: Tensor) -> Tensor:
    """What ``term_metrics`` divides, (11,).

    Args:
        correct: (batch,) in {0, 1, NaN}.
        mask: (batch, tokens), nonzero where the token counts.
        logps: (batch, tokens), nats; NaN where the sampler could not tell, which counts as no log-prob.
        term: (batch, tokens), added to the advantages.
    """
    sums = [correct.nansum(), (~correct.isnan()).sum(), correct.isnan().sum()]
    for value in (1, 0):
        part = (mask != 0) & (correct == value)[:, None]
        scored = part & ~logps.isnan()
        sums += [scored.sum(), torch.where(scored, logps, 0.0).sum(), part.sum(), torch.where(part, term, 0.0).sum()]
    return torch.stack([value.float() for value in sums])


def term_metrics(sums: Sequence[float]) -> dict[str, float]:
    """``ds/...`` of the sums over all processes; NaN where there is nothing to divide by, which the host leaves out of its averages."""
    metrics = {"ds/correct": _ratio(sums[0], sums[1]), "ds/unknown": _ratio(sums[2], sums[1] + sums[2])}
    for name, (scored, logp, tokens, added) in {"correct": sums[3:7], "incorrect": sums[7:11]}.items():
        metrics |= {f"ds/logp_{name}": _ratio(logp, scored), f"ds/term_{name}": _ratio(added, tokens)}
    return metrics


def decided_groups(correct: Tensor, size: int) -> dict[str, float]:
    """Shares of the groups that are all correct and all wrong, where GRPO has no gradient; ``correct`` is (batch,), group by group."""
    groups = correct.view(-1, size)
    kinds = {"all_correct": groups == 1, "all_wrong": groups == 0}
    return {f"ds/groups_{name}": kind.all(1).float().mean().item() for name, kind in kinds.items()}


def variety_sums(correct: Tensor, mask: Tensor, logps: Tensor, success: Tensor) -> Tensor:
    """What ``VarietyTarget.observe`` takes, (3,): correct completions, their tokens, and the sum of their ``h_i`` in nats.

    ``success`` is (batch,) of ``success_correction``; the rest as in ``term_sums``.
    """
    counted = (mask != 0) & (correct == 1)[:, None] & ~logps.isnan()
    right = counted.any(1)
    surprisal = -torch.where(counted, logps, 0.0).sum() + torch.where(right, success, 0.0).sum()
    return torch.stack([right.sum().float(), counted.sum().float(), surprisal.float()])


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")
