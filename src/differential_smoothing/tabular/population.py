"""Pass@k of a population of prompts under the optimum of a rule: one prompt's Pass@k is ``1 - (1 - C)^k``, a population's its mean.

Two budgets. Each prompt its own, ``K_i <= kappa_i`` (``closed_form.budgeted``); or one for all, the mean of K_i <= kappa, which is what one
training run has: it leaves one beta for all prompts. Vanilla RL has the highest mean C in either. With each prompt's own
budget no C_i can exceed vanilla RL's, so no Pass@k can. With one budget, a rule that gives up correctness on easy prompts and spends it
on hard ones can lose Pass@1 and gain Pass@k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from differential_smoothing.tabular.closed_form import Measures, Prompts, find_root, measure, optimum
from differential_smoothing.tabular.divergences import REVERSE_KL, Divergence, Floats

__all__ = ["mean_over", "pass_at_k", "shared_budget", "tilted_to"]


def mean_over(values: Floats, member: NDArray[np.int64]) -> Floats:
    """(B,) values of prompts -> (P,) means over the population ``member`` (B,), numbered from 0, that each prompt belongs to."""
    return np.bincount(member, values) / np.bincount(member)


def pass_at_k(worth: Measures, member: NDArray[np.int64], k: int) -> Floats:
    """(P,), the mean over the prompts of every population of the chance that one of k independent samples is correct.

    Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"pass_at_k needs k >= 1 samples, got {k}.")
    return mean_over(-np.expm1(k * worth.log_wrong), member)


def shared_budget(
    prompts: Prompts, reward: Floats, kappa: Floats, member: NDArray[np.int64], *, divergence: Divergence = REVERSE_KL
) -> tuple[Floats, Floats]:
    """The optima for ``reward`` with one beta for each population, whose mean K is ``kappa`` (P,): beta (P,) and log pi (B, N).

    K falls in beta on every prompt, so beta is unique. NaN where no beta in [1e-8, 1e12] times the reward's largest spread in the population
    spends that much: the budget does not bind.
    """
    kappa = np.asarray(kappa, dtype=np.float64)
    if kappa.shape != (member.max() + 1,) or len(member) != len(prompts.log_p):
        raise ValueError(
            f"shared_budget needs one kappa for each population and one member for each prompt, got {kappa.shape} for "
            f"{member.max() + 1} populations and {len(member)} for {len(prompts.log_p)} prompts."
        )
    spread = np.zeros(len(kappa))
    np.maximum.at(spread, member, np.ptp(np.where(prompts.exists, reward, reward[:, :1]), axis=1))
    spread = np.maximum(spread, 1e-300)

    def policy(log_beta: Floats, row: NDArray[np.int64]) -> tuple[Prompts, Floats, NDArray[np.int64]]:
        place = np.full(len(kappa), -1)
        place[row] = np.arange(len(row))
        keep = place[member] >= 0
        block, owner = Prompts(prompts.log_p[keep], prompts.correct[keep]), place[member[keep]]
        beta = (spread[row] * np.exp(log_beta))[owner]
        return block, optimum(block, reward[keep], beta, divergence=divergence), owner

    def excess(log_beta: Floats, row: NDArray[np.int64]) -> Floats:
        block, log_pi, owner = policy(log_beta, row)
        return kappa[row] - mean_over(divergence(log_pi, block.log_p), owner)

    low, high = (np.full(len(kappa), np.log(end)) for end in (1e-8, 1e12))
    rows = np.arange(len(kappa))
    reachable = (excess(low, rows) <= 0) & (excess(high, rows) >= 0)
    found = np.where(reachable, find_root(excess, low, high), 0.0)
    _, log_pi, _ = policy(found, rows)
    return (np.where(reachable, spread * np.exp(found), np.nan), np.where(reachable[member][:, None], log_pi, np.nan))


def tilted_to(prompts: Prompts, pass_at_1: Floats, member: NDArray[np.int64]) -> Floats:
    """Vanilla RL at the strength that gives each population the mean correctness ``pass_at_1`` (P,): log(1 - C) of its prompts, (B,).

    Its optimum adds 1/beta to every prompt's log-odds of being correct; that number may be negative here, to reach less than the base has.
    """
    base = measure(prompts, prompts.log_p)
    odds = base.log_correct - base.log_wrong

    def missing(tilt: Floats, row: NDArray[np.int64]) -> Floats:
        here = np.isin(member, row)
        place = np.searchsorted(row, member[here])
        return mean_over(np.exp(-np.logaddexp(0.0, -(odds[here] + tilt[place]))), place) - pass_at_1[row]

    tilt = find_root(missing, np.full(len(pass_at_1), -750.0), np.full(len(pass_at_1), 750.0))
    return -np.logaddexp(0.0, odds + tilt[member])
