"""When right answers sharpen into one, and the strength of the term that prevents it: exact, for one prompt.

One token an answer: M right answers with probability C / M each (C the success rate), N wrong ones with (1 - C) / N each. A small
difference between the logits of two right answers then grows under the expected step of ``oracle`` at the rate

    C / M * (drift - strength * hold)

``drift`` is GRPO's own push on a right answer, the mean over groups of its advantage; ``hold`` is the restoring force per unit of
strength. Their quotient is the **critical strength**: above it equal proportions attract, below it they repel.

==========  ===================================================  =====================================================
``rule``    advantage of a right answer                          hold
==========  ===================================================  =====================================================
published   ``A - gamma_p log pi``                               ``1 - (1 - C) log(M / C)``
centred     ``A - gamma_p (log pi - mean of the group's right)``  ``E[(c - 1) / c]``
entropy     ``A - gamma_p (log pi + entropy)`` (token, center)   ``1 - (1 - C)^2 (log(M / C) - log(N / (1 - C)))``
relative    ``A (1 - kappa (log pi - mean of the group's right))``  ``E[A (c - 1) / c]``
==========  ===================================================  =====================================================

The expectations are over the number c of right answers in a group that holds this one, so the other G - 1 are a binomial. With
endless groups drift is ``sqrt((1 - C) / C)`` and (c - 1) / c is 1: gamma* is ``sqrt((1 - C) / C)`` for the centred term and kappa* is 1.
Where hold <= 0 no strength holds: the published term pushes all right answers up, and the likelier one further.

Several tokens: a node has b right branches with the mass R together, equal success c behind each, and wrong ones. The same
difference grows at ``reach * c * (drift - strength * hold)`` (per token of the completion), reach the chance to get there, with ``drift =
(1 - R)(A+ - A-)``, see ``node_balance``. T tokens share the failure, R ~ C^(1/T), so a strength at the token level is critical at about
``log(1 / C) / (T sqrt(C (1 - C)))``: T times less than for one token.
"""

from __future__ import annotations

from functools import cache
from math import inf
from typing import Any, NamedTuple

import numpy as np
import torch

from differential_smoothing.advantages import group_advantages
from differential_smoothing.tabular.divergences import Floats

__all__ = [
    "RULES",
    "TREE_RULES",
    "Balance",
    "GroupMeans",
    "balance",
    "crowd",
    "escape_time",
    "group_means",
    "growth",
    "node_balance",
    "pooled",
    "safe_success",
    "separatrix",
    "worse_share",
]

RULES = ("published", "centred", "entropy", "relative")
TREE_RULES = ("token", "sum", "mean", "relative")


class GroupMeans(NamedTuple):
    """Means over groups, each (...,): the advantage of a right answer ``up`` and of a wrong one ``down``; for right answers ``kept``, the
    mean of (c - 1) / c, and ``up_kept``, that of A (c - 1) / c; ``undecided``, the chance of a group with both kinds."""

    up: Floats
    down: Floats
    kept: Floats
    up_kept: Floats
    undecided: Floats


class Balance(NamedTuple):
    """``drift`` and ``hold``, (...,) each: a difference between right answers grows in proportion to ``drift - strength * hold``."""

    drift: Floats
    hold: Floats

    @property
    def critical(self) -> Floats:
        """The least strength at which equal proportions attract; infinite where none does."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.hold > 0, np.maximum(self.drift, 0.0) / self.hold, inf)


def group_means(
    success: Floats | float, size: float, *, floor: float = 0.0, scale: str = "group", eps: float = 1e-4
) -> GroupMeans:
    """The means over all groups of ``size`` completions at the success rates ``success`` (...,) in (0, 1]; ``size`` may be infinite.

    The advantages are those of the shipped ``group_advantages`` on each composition. ``floor`` stands for the advantage in groups that are
    all right, where GRPO's is 0, in ``up_kept`` alone: the relative term has nothing to be relative to there.
    Raises ValueError for a group smaller than 2 or a success rate outside (0, 1].
    """
    from scipy.stats import binom

    success = np.asarray(success, dtype=np.float64)
    if not (size >= 2 and (size == inf or size == int(size))) or not np.all((success > 0) & (success <= 1)):
        raise ValueError(
            f"group_means needs a whole size >= 2 (or infinity) and success rates in (0, 1]; got {size} and {success.tolist()}."
        )
    if size == inf:
        if scale == "none":
            up, down = 1 - success, -success
        else:
            with np.errstate(divide="ignore"):
                up, down = np.sqrt((1 - success) / success), -np.sqrt(success / (1 - success))
        return GroupMeans(up, down, np.ones_like(success), up, np.ones_like(success))
    size = int(size)
    right, wrong = _advantages(size, scale, eps)
    others = np.arange(size)
    chance = binom.pmf(others, size - 1, success[..., None])
    share = others / (others + 1)  # (c - 1) / c with c = others + 1
    term = right[1:].copy()
    term[-1] = floor
    return GroupMeans(
        chance @ right[1:],
        chance @ wrong[:-1],
        chance @ share,
        chance @ (share * term),
        1 - success**size - (1 - success) ** size,
    )


@cache
def _advantages(size: int, scale: Any, eps: float) -> tuple[Floats, Floats]:
    """The shipped advantage of a right and of a wrong completion in a group with 0, 1, ..., ``size`` right ones, (size + 1,) each."""
    rewards = torch.tril(torch.ones(size + 1, size, dtype=torch.float64), -1)
    group = torch.arange(size + 1).repeat_interleave(size)
    values = group_advantages(rewards.reshape(-1), group, scale=scale, eps=eps).reshape(size + 1, size)
    return values[:, 0].numpy(), values[:, -1].numpy()


def balance(
    success: Floats | float, answers: float, rule: str, size: float = inf, *, wrong: float = inf, floor: float = 0.0
) -> Balance:
    """Drift and hold of one-token answers, see the table: ``answers`` M equally likely right ones, ``wrong`` N, for the entropy rule."""
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}; got {rule!r}.")
    if not (answers >= 1 and wrong >= 1):
        raise ValueError(f"answers and wrong must be at least 1, got {answers} and {wrong}.")
    means = group_means(success, size, floor=floor)
    success = np.asarray(success, dtype=np.float64)
    if rule == "published":
        hold = 1 - (1 - success) * np.log(answers / success)
    elif rule == "centred":
        hold = means.kept
    elif rule == "relative":
        hold = means.up_kept
    else:
        rest = 1 - success
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.log(answers / success) - np.log(wrong / rest)
        hold = 1 - np.where(rest > 0, rest**2 * gap, 0.0)
    return Balance(means.up, hold)


def node_balance(
    mass: Floats | float,
    branches: Floats | float,
    success: Floats | float,
    rule: str,
    size: float = inf,
    *,
    answers: float = 1.0,
    tokens: float = 1.0,
    centre: float | None = None,
    floor: float = 0.0,
) -> Balance:
    """Drift and hold at one node of a tree of tokens.

    Args:
        mass, branches: R and b, the probability and the number of the right branches at the node, equally likely and equally good.
        success: C, that of whole answers, which decides the advantages.
        rule: "token", "sum" and "mean" are levels of the published term: ``log pi`` of the token, of the answer, of the answer divided by
            ``tokens``; "relative" is ``A (1 - kappa (log pi_token - centre))``.
        answers: M, equally likely right answers, for "sum" and "mean".
        centre: for "relative", the mean of log pi over the right tokens of a group; None takes the node's own.
    """
    if rule not in TREE_RULES:
        raise ValueError(f"rule must be one of {', '.join(TREE_RULES)}; got {rule!r}.")
    means = group_means(success, size, floor=floor)
    rest = 1 - np.asarray(mass, dtype=np.float64)
    drift = rest * (means.up - means.down)
    if rule == "relative":
        # one token of many in the centre: what the centre takes of the token's own part is left out
        lean = 0.0 if centre is None else rest * (np.log(mass / branches) - centre)
        share = means.up if floor == 0 else means.up + floor * np.asarray(success, dtype=np.float64) ** (size - 1)
        return Balance(drift, share * (1 + lean))
    if rule == "token":
        return Balance(drift, 1 - rest * np.log(branches / np.asarray(mass)))
    hold = 1 - rest * np.log(answers / np.asarray(success))
    return Balance(drift, hold / tokens if rule == "mean" else hold)


def separatrix(share: Floats | float, success: float, answers: int, rule: str = "centred", size: float = inf) -> Floats:
    """The gamma_p, (...,), at which a leader that holds ``share`` of the right answers' mass neither gains nor loses on the others, which are even.

    Weaker terms let it win, stronger ones pull it back. As the share goes to 1 / M this is the critical strength, as it goes to 1 it grows
    without bound: at any strength a policy that is certain enough stays so, because log pi of what is certain is 0. ``rule`` is "published"
    or "centred". Infinite where no strength pulls the leader back.
    """
    if rule not in ("published", "centred"):
        raise ValueError(f"separatrix is for the rules 'published' and 'centred', got {rule!r}.")
    means, share = group_means(success, size), np.asarray(share, dtype=np.float64)
    leader, other = share * success, (1 - share) * success / (answers - 1)
    log_leader, log_other = np.log(leader), np.log(other)
    # the policy's mean of log pi over right answers: of all draws for the published term, of right ones for the centred
    mean = (share * log_leader + (1 - share) * log_other) * (success if rule == "published" else 1.0)
    hold = leader * (log_leader - mean) - other * (log_other - mean)
    if rule == "centred":
        hold = hold * means.kept
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(hold > 0, means.up * (leader - other) / hold, inf)


def crowd(success: float, decided: float, size: int, *, prompts: int = 400) -> Floats:
    """(prompts,) success rates with this mean, of which groups of ``size`` are all right or all wrong with the chance ``decided``.

    The quantiles of the one Beta distribution that has both. Raises ValueError where none has: a single success rate already decides more.
    """
    from scipy.optimize import brentq
    from scipy.stats import beta

    least = success**size + (1 - success) ** size
    if not (0 < success < 1 and least < decided < 1):
        raise ValueError(
            f"crowd needs a success rate in (0, 1) and a decided share above {least:.3f}, that of prompts that are all alike, and below 1; "
            f"got {success} and {decided}."
        )

    def share(log_total: float) -> float:
        total, i = np.exp(log_total), np.arange(size)
        return sum(float(np.prod((mean * total + i) / (total + i))) for mean in (success, 1 - success))

    total = np.exp(brentq(lambda x: share(x) - decided, -12.0, 12.0))
    found = beta.ppf((np.arange(prompts) + 0.5) / prompts, success * total, (1 - success) * total)
    return np.clip(found, 1e-6, 1 - 1e-9)


def pooled(success: Floats, given: Balance) -> float:
    """The critical strength of prompts (P,) that share their parameters: drift over hold, each prompt weighing as its right answers are drawn.

    Decided groups have no drift; those that are all right still hold. So the more groups are decided, the less strength is needed, as
    long as any variety is left.
    """
    hold = float(np.sum(success * given.hold))
    return float(np.sum(success * given.drift)) / hold if hold > 0 else inf


def safe_success(gamma_p: float) -> float:
    """The success rate above which a centred ``gamma_p`` holds, endless groups: ``1 / (1 + gamma_p^2)``."""
    return 1 / (1 + gamma_p**2)


def growth(start: float, gamma_p: float, answers: int, wrong: int) -> float:
    """By which factor a small difference between right answers has grown at its largest, on the way from success ``start`` to 1.

    Centred, endless groups, one token: with ``rho = gamma_p / gamma*(start)`` below 1 it is ``(exp(rho - 1) / rho)^(2 N / (M + N))``,
    reached at ``safe_success(gamma_p)``; 1 from there on. Success is the clock, so neither the learning rate nor its schedule is in it.
    Derived from ``d log difference / d logit(C) = N / (M + N) (1 - gamma_p / gamma*(C))``.
    """
    rho = gamma_p / np.sqrt((1 - start) / start)
    if rho >= 1:
        return 1.0
    return float((np.exp(rho - 1) / rho) ** (2 * wrong / (answers + wrong))) if rho > 0 else inf


def escape_time(probability: float, gamma_p: float, *, until: float = 0.25, size: float = inf) -> float:
    """Learning rate times steps until one of two right answers, all others at 0, has risen from ``probability`` to ``until``.

    Where all is right, x = log(p / (1 - p)) obeys ``dx/dt = -2 gamma_p p (1 - p) x``: the force is that of the answers drawn, so the time
    is ``1 / (2 gamma_p p log(1 / p))`` for small p and has no bound. A centred term in groups of ``size`` is weaker by 1 - 1 / size.
    """
    from scipy.integrate import quad

    if not (0 < probability < until < 0.5 and gamma_p > 0):
        raise ValueError(
            f"escape_time needs 0 < probability < until < 1/2 and gamma_p > 0, got {probability}, {until} and {gamma_p}."
        )

    def pace(x: float) -> float:
        p = 1 / (1 + np.exp(-x))
        return 1 / (-2 * gamma_p * (1 - 1 / size) * p * (1 - p) * x)

    low, high = (np.log(p / (1 - p)) for p in (probability, until))
    return float(quad(pace, low, high, limit=200)[0])


def worse_share(better: float, worse: float, gamma_p: float, size: float = inf) -> float:
    """The share that the worse of two branches keeps at rest, when right answers follow them with the chances ``better`` and ``worse``, held.

    Token level, published term: both branches have the same mean advantage, ``c (A+ - A- - gamma_p log pi)``. 0 without the term.
    """
    from scipy.optimize import brentq

    if not (0 < worse <= better <= 1 and gamma_p > 0):
        raise ValueError(
            f"worse_share needs 0 < worse <= better <= 1 and gamma_p > 0, got {worse}, {better} and {gamma_p}."
        )

    def gap(log_odds: float) -> float:
        log_worse, log_better = -np.logaddexp(0.0, -log_odds), -np.logaddexp(0.0, log_odds)
        means = group_means(np.exp(log_better) * better + np.exp(log_worse) * worse, size)
        push = means.up - means.down
        return float(better * (push - gamma_p * log_better) - worse * (push - gamma_p * log_worse))

    return float(1 / (1 + np.exp(-brentq(gap, -700.0, 0.0))))
