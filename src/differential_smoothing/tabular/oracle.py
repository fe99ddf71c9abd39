"""The exact expected step of a tabular softmax policy under group-sampled policy gradients. The oracle of the tests.

A policy has one softmax over V actions at each of M nodes (contexts); a *trajectory* is a sequence of (node, action), so
log pi(y) is a sum over its tokens. One node and one token per trajectory is a bandit. A group is G trajectories drawn from
the policy. TRL's surrogate at the sampling policy, ``mean over completions of mean over tokens of ratio * A``
(``loss_type="grpo"``), has the gradient

    g = E[ 1/G sum_i 1/T_i sum_t A_it (onehot(action_it) - pi(. | node_it)) ]   with respect to the logits.

Four ways to g: ``expected_gradient`` enumerates every group and hands it to any rule with the signature of the shipped
advantages; ``closed_form_gradient`` sums over the number of correct answers only, for the rules whose expectation allows it;
``sampled_gradient`` draws groups and gives a standard error; ``surrogate_gradient`` lets autograd differentiate the
surrogate on given groups. They agree to rounding, the third within its error.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb, lgamma

import numpy as np
import torch
from numpy.typing import NDArray

from differential_smoothing.advantages import ds_grpo_advantages
from differential_smoothing.tabular.trajectories import Trajectories, to_logits, token_logps

__all__ = [
    "closed_form_gradient",
    "ds_grpo",
    "enumerate_groups",
    "expected_gradient",
    "group_advantage",
    "sampled_gradient",
    "step_moments",
    "surrogate_gradient",
]

Floats = NDArray[np.float64]
Rule = Callable[..., torch.Tensor]
MOST_ROWS = 2_000_000  # completions enumerated at once, some 200 MB


def ds_grpo(gamma_p: float = 0.0, gamma_n: float = 0.0, **options) -> Rule:
    """The shipped ``ds_grpo_advantages`` as a rule: a function of ``(rewards, logps, mask, *, correct, group)``."""

    def rule(rewards, logps, mask, *, correct, group):
        return ds_grpo_advantages(
            rewards, logps, mask, correct=correct, group=group, gamma_p=gamma_p, gamma_n=gamma_n, **options
        )

    return rule


def enumerate_groups(outcomes: int, size: int) -> NDArray[np.int64]:
    """Every way to draw ``size`` of ``outcomes`` without regard to order: counts (C(outcomes + size - 1, size), outcomes)."""
    number = comb(outcomes + size - 1, size)
    if outcomes < 1 or size < 1 or number * size > MOST_ROWS:
        raise ValueError(
            f"Enumerating groups of {size} from {outcomes} outcomes gives {number} groups, {number * size} completions; the "
            f"limit is {MOST_ROWS}. Take fewer outcomes or smaller groups, or closed_form_gradient."
        )
    counts = np.zeros((1, 0), dtype=np.int64)
    left = np.array([size])
    for _ in range(outcomes - 1):
        take = [np.arange(rest + 1) for rest in left]
        row = np.repeat(np.arange(len(left)), left + 1)
        taken = np.concatenate(take)
        counts, left = np.column_stack([counts[row], taken]), left[row] - taken
    return np.column_stack([counts, left])


def expected_gradient(
    logits: Floats,
    trajectories: Trajectories,
    correct: NDArray[np.bool_],
    rule: Rule,
    group_size: int,
    *,
    rewards: Floats | None = None,
) -> Floats:
    """E[gradient] with respect to the logits, (M, V), under any rule, by enumeration of all groups.

    Args:
        logits: (M, V), one prompt. correct: (Y,) bool.
        rule: ``rule(rewards, logps, mask, *, correct, group) -> (batch, tokens)`` advantages, e.g. ``ds_grpo(gamma_p=0.2)``.
        rewards: (Y,), default 1 for correct and 0 for wrong.

    Raises ValueError where there are too many groups to enumerate.
    """
    counts = enumerate_groups(len(correct), group_size)
    per_token = token_logps(logits, trajectories)
    log_pi = per_token.sum(-1)
    weight = np.exp(counts @ log_pi + lgamma(group_size + 1) - _log_factorial(counts).sum(1))
    outcome, group = _members(counts)
    advantage = _advantages(per_token, trajectories, correct, rewards, rule, outcome, group)
    per_outcome = np.zeros(trajectories.mask.shape)
    np.add.at(per_outcome, outcome, weight[group][:, None] * advantage / group_size)
    return to_logits(per_outcome, logits, trajectories)


def step_moments(
    logits: Floats, trajectories: Trajectories, correct: NDArray[np.bool_], rule: Rule, group_size: int, slope: Floats
) -> tuple[float, float]:
    """Mean and standard deviation over groups of ``(slope * gradient).sum()``, by enumeration: the noise of one group's step.

    ``slope`` (M, V) is the derivative of a quantity with respect to the logits, for the correctness of a bandit
    ``pi (correct - C)``; then these are the first-order gain of C per unit step. The rest as in ``expected_gradient``.
    """
    counts = enumerate_groups(len(correct), group_size)
    per_token = token_logps(logits, trajectories)
    weight = np.exp(counts @ per_token.sum(-1) + lgamma(group_size + 1) - _log_factorial(counts).sum(1))
    outcome, group = _members(counts)
    advantage = _advantages(per_token, trajectories, correct, None, rule, outcome, group)
    gain = _step_of_groups(advantage, outcome, group, len(counts), logits, trajectories, group_size)
    gain = (gain * slope).sum((-2, -1))
    mean = float(weight @ gain)
    return mean, float(np.sqrt(weight @ (gain - mean) ** 2))


def sampled_gradient(
    logits: Floats,
    trajectories: Trajectories,
    correct: NDArray[np.bool_],
    rule: Rule,
    group_size: int,
    *,
    groups: int,
    seed: int,
    rewards: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Mean and standard error, (M, V) each, of the gradient over ``groups`` drawn groups. The seed decides every draw."""
    if groups < 2:
        raise ValueError(f"sampled_gradient needs groups >= 2 for a standard error, got {groups}.")
    per_token = token_logps(logits, trajectories)
    probability = np.exp(per_token.sum(-1))
    random = np.random.default_rng(seed)
    counts = random.multinomial(group_size, probability / probability.sum(), size=groups)
    outcome, group = _members(counts)
    advantage = _advantages(per_token, trajectories, correct, rewards, rule, outcome, group)
    each = _step_of_groups(advantage, outcome, group, groups, logits, trajectories, group_size)
    return each.mean(0), each.std(0, ddof=1) / np.sqrt(groups)


def surrogate_gradient(
    logits: Floats,
    trajectories: Trajectories,
    correct: NDArray[np.bool_],
    rule: Rule,
    counts: NDArray[np.int64],
    weight: Floats,
    *,
    rewards: Floats | None = None,
) -> Floats:
    """Autograd through TRL's surrogate in float64: the gradient of ``sum over groups of weight * surrogate``, (M, V).

    ``counts`` (groups, Y) says how often each trajectory is in each group, all groups of one size. The ratio is
    ``exp(logp - logp.detach())``, advantages are the rule's on the detached log-probabilities, the loss is not clipped: at the
    sampling policy the ratio is 1.
    """
    leaf = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    allowed = torch.from_numpy(trajectories.allowed)
    log_pi = torch.log_softmax(leaf.masked_fill(~allowed, -torch.inf), -1)
    outcome, group = _members(counts)
    node, action, mask = (torch.from_numpy(a[outcome]) for a in trajectories[:3])
    logps = torch.where(mask, log_pi[node, action], 0.0)
    right = torch.from_numpy(correct[outcome])
    reward = right.double() if rewards is None else torch.from_numpy(rewards[outcome]).double()
    advantages = rule(reward, logps.detach(), mask.double(), correct=right, group=torch.from_numpy(group))
    ratio = torch.exp(logps - logps.detach())
    per_completion = (ratio * advantages * mask).sum(1) / mask.sum(1)
    size = int(counts[0].sum())
    (per_completion * torch.from_numpy(weight)[torch.from_numpy(group)]).sum().div(size).backward()
    return leaf.grad.numpy()


def group_advantage(
    probability: Floats, size: int, *, scale: str = "group", eps: float = 1e-4, correction: int = 1
) -> tuple[Floats, Floats]:
    """``E[c A+] / (G C)`` and ``E[(G - c) A-] / (G (1 - C))``: the mean GRPO advantage of a correct and of a wrong completion.

    c of G are correct, a binomial with ``probability`` C. (...,) -> two of (...,). With rewards in {0, 1} the advantage depends on
    c alone: ``A+ = (1 - c/G) / (s + eps)``, ``A- = -(c/G) / (s + eps)``, s the standard deviation of the group
    (``scale="group"``) or 1 - eps (``"none"``). The binomial is that of the other G - 1 completions, which avoids 0/0.
    """
    if scale not in ("group", "none"):
        raise ValueError(f"scale must be 'group' or 'none' in closed form, got {scale!r}: one prompt has no batch.")
    probability = np.asarray(probability, dtype=np.float64)[..., None]
    others = np.arange(size)
    ways = np.array([comb(size - 1, int(c)) for c in others], dtype=np.float64)
    with np.errstate(divide="ignore"):
        chance = ways * probability**others * (1 - probability) ** (size - 1 - others)

    def advantage(correct_count: NDArray[np.int64], reward: int) -> Floats:
        share = correct_count / size
        variance = share * (1 - share) * size / max(size - correction, 1)
        return (reward - share) / (np.sqrt(variance) + eps if scale == "group" else 1.0)

    return (chance * advantage(others + 1, 1)).sum(-1), (chance * advantage(others, 0)).sum(-1)


def closed_form_gradient(
    logits: Floats,
    trajectories: Trajectories,
    correct: NDArray[np.bool_],
    group_size: int,
    *,
    gamma_p: float = 0.0,
    gamma_n: float = 0.0,
    level: str = "token",
    stage: str = "advantage",
    center: bool = False,
    scale: str = "group",
    eps: float = 1e-4,
    correction: int = 1,
) -> Floats:
    """E[gradient], (..., M, V), of the shipped DS-GRPO without enumeration, for rewards in {0, 1}; many prompts at once.

    Args:
        logits: (..., M, V). correct: (..., Y) bool, which may differ between prompts. The rest as in ``ds_grpo_advantages``.

    The weight of trajectory y is ``pi_y (B_y + term_y)`` with B of ``group_advantage``. At the advantage stage the term's
    expectation does not depend on the group; centred, it is ``-gamma_p (E[c - 1]+ / E[c]) (l_y - mean of l over correct)``. At the
    reward stage with ``scale="none"`` it is ``(1 - 1/G) (term_y - mean term)``.

    Raises ValueError for ``stage="reward"`` with ``scale="group"``: its standard deviation depends on the whole group, only
    ``expected_gradient`` has it.
    """
    if stage == "reward" and scale != "none":
        raise ValueError(
            "The reward stage has a closed form with scale='none' only; with scale='group' use expected_gradient."
        )
    if level == "token" and (stage == "reward" or center):
        raise ValueError(f"level='token' has no meaning with stage={stage!r}, center={center}: take 'mean' or 'sum'.")
    mask = trajectories.mask
    if center and stage == "reward":
        raise ValueError("center shifts the term at the advantage stage; with stage='reward' leave it out.")
    per_token = token_logps(logits, trajectories)
    log_pi = per_token.sum(-1)
    pi = np.exp(log_pi)
    right, wrong = (np.where(part, pi, 0.0).sum(-1, keepdims=True) for part in (correct, ~correct))
    up, down = group_advantage(right[..., 0], group_size, scale=scale, eps=eps, correction=correction)
    advantage = np.where(correct, up[..., None], down[..., None])[..., None]
    coefficient = np.where(correct, -gamma_p, gamma_n)
    if level == "token":
        term = coefficient[..., None] * per_token
    else:
        logp = log_pi / mask.sum(1) if level == "mean" else log_pi
        if center:
            term = np.zeros_like(pi)
            for part, mass in ((correct, right), (~correct, wrong)):
                with np.errstate(divide="ignore", invalid="ignore"):
                    mean = np.where(part, pi * logp, 0.0).sum(-1, keepdims=True) / mass
                    # E[(c - 1)+] / E[c] of a binomial count c: what estimating the mean from the group leaves of the term
                    kept = 1 - (1 - (1 - mass) ** group_size) / (group_size * mass)
                term = np.where(part & (mass > 0), coefficient * kept * (logp - mean), term)
        elif stage == "reward":
            shaped = coefficient * logp
            term = (1 - 1 / group_size) * (shaped - (pi * shaped).sum(-1, keepdims=True))
        else:
            term = coefficient * logp
        term = term[..., None]
    return to_logits(pi[..., None] * np.where(mask, advantage + term, 0.0), logits, trajectories)


def _members(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which outcome and which group each completion is: counts (groups, Y) -> two of (completions,)."""
    group, outcome = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return outcome, group


def _step_of_groups(advantage, outcome, group, groups: int, logits, trajectories, size: int) -> Floats:
    """The gradient of every group, (groups, M, V)."""
    per_outcome = np.zeros((groups, *trajectories.mask.shape))
    np.add.at(per_outcome, (group, outcome), advantage / size)
    return to_logits(per_outcome, np.broadcast_to(logits, (groups, *logits.shape)), trajectories)


def _advantages(per_token, trajectories, correct, rewards, rule, outcome, group) -> Floats:
    right = torch.from_numpy(correct[outcome])
    reward = right.double() if rewards is None else torch.from_numpy(rewards[outcome]).double()
    logps, mask = torch.from_numpy(per_token[outcome]), torch.from_numpy(trajectories.mask[outcome]).double()
    return rule(reward, logps, mask, correct=right, group=torch.from_numpy(group)).numpy()


def _log_factorial(counts: NDArray[np.int64]) -> Floats:
    return np.array([lgamma(n + 1) for n in range(int(counts.max()) + 1)])[counts]
