"""What might make Differential Smoothing better than published: candidates, as rules from a file outside the package.

Each was tried in the arena on development problems (``benchmarks/candidates.yaml``); LOG.md says which earned a place. The signature
and the trainer's side are those of any rule of a user's own: ``rule: "benchmarks/candidates.py:spread"``.
"""

import torch

from differential_smoothing import group_advantages
from differential_smoothing.advantages import centred_logps, completion_logps
from differential_smoothing.rules import make_rule
from differential_smoothing.rules.counts import group_counts


def _kind(rewards, correct):
    return torch.where(rewards.isnan(), torch.nan, correct.to(rewards.dtype))


def spread(rewards, logps, mask, *, correct, group, gamma_p=0.5):
    """Gammas in units of the advantage's spread: one value for every level, model and length.

    Token log-probs are divided by their standard deviation over the correct tokens of the batch and multiplied by the root mean square of
    the advantages, so ``gamma_p`` is the size of the term relative to the advantage.
    """
    advantages = group_advantages(rewards, group)
    right = (_kind(rewards, correct) == 1)[:, None] & (mask != 0) & ~logps.isnan()
    values = logps[right]
    if values.numel() < 2 or not values.std() > 0:
        return advantages
    unit = advantages.square().mean().sqrt() / values.std()
    return torch.where(
        right, advantages[:, None] - gamma_p * unit * logps.nan_to_num(), advantages[:, None].expand_as(logps)
    )


def root_length(rewards, logps, mask, *, correct, group, gamma_p=0.1):
    """A level between sum and mean: the summed log-probability over the root of the length, centred within the group's correct answers."""
    length = (mask != 0).sum(1).clamp(min=1).to(rewards.dtype)
    value = completion_logps(logps.to(rewards.dtype), mask, level="sum") / length.sqrt()
    kind = _kind(rewards, correct)
    term = torch.where(kind == 1, -gamma_p * centred_logps(value, correct=kind, group=group), 0.0)
    return group_advantages(rewards, group) + term


def hold(rewards, logps, mask, *, correct, group, gamma_p=0.5, target=0.4):
    """A controller: smooth only as far as the surprisal of correct answers (nats per token) has fallen below ``target``."""
    advantages = group_advantages(rewards, group)
    right = (_kind(rewards, correct) == 1)[:, None] & (mask != 0) & ~logps.isnan()
    if not right.any():
        return advantages
    shortfall = ((target + logps[right].mean()) / target).clamp(0, 1)
    return torch.where(
        right, advantages[:, None] - gamma_p * shortfall * logps.nan_to_num(), advantages[:, None].expand_as(logps)
    )


def solution(rewards, logps, mask, *, correct, group, answer, gamma_p=0.1):
    """Log-probability of solutions, not of spellings: summed over the group's samples that share a canonical answer, centred.

    Equal completions count once; they are told apart by their summed log-probability.
    """
    value = completion_logps(logps.double(), mask, level="sum")
    of_solution = value.clone()
    for g in group.unique():
        for a in answer[(group == g) & (answer >= 0)].unique():
            members = (group == g) & (answer == a)
            of_solution[members] = torch.logsumexp(torch.unique((value[members] * 1e4).round() / 1e4), 0)
    kind = _kind(rewards, correct)
    centred = centred_logps(of_solution.to(rewards.dtype), correct=kind, group=group)
    return group_advantages(rewards, group) + torch.where(kind == 1, -gamma_p * centred, 0.0)


def per_answer(rewards, logps, mask, *, correct, group, answer, share=0.5, on="grpo"):
    """Share the correct answers' advantage equally over *distinct* answers: what UCPO does by likelihood, done by counting.

    ``A_i *= (1 - share) + share * c / (d * m_i)`` for a correct completion whose answer is one of d distinct ones and came m_i times;
    ``A_i`` is that of the rule ``on``, one number per completion.
    """
    advantages = make_rule(on)(rewards, None, mask, correct=correct, group=group)
    _, c, _, right = group_counts(rewards, correct, group)
    numbered = torch.unique(group, return_inverse=True)[1]
    of, which, times = torch.unique(
        torch.stack([numbered[right], answer[right]], 1), dim=0, return_inverse=True, return_counts=True
    )
    distinct = torch.bincount(of[:, 0], minlength=len(group))[numbered].clamp(min=1)
    came = torch.ones_like(rewards)
    came[right] = times.to(rewards.dtype)[which]
    weight = (1 - share) + share * c / (distinct * came)
    return torch.where(right, weight, 1.0) * advantages


per_answer.needs_logps = False
