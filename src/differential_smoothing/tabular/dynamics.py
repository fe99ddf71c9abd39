"""Training of a population of tabular policies, deterministic in expectation or with sampled groups.

Every prompt has its own softmax, and ``coupling`` is the share of a step that prompts share: at 0 each prompt learns alone, at 1 the
same change of logits is made to all of them, as if all parameters were common. A step adds

    lr * ((1 - coupling) * g_prompt + coupling * mean over prompts of g)

with g the gradient of TRL's surrogate with respect to the logits (``oracle``). What is recorded is exact, not sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from differential_smoothing.tabular.biases import conditional
from differential_smoothing.tabular.divergences import Floats
from differential_smoothing.tabular.oracle import Rule, closed_form_gradient, expected_gradient, sampled_gradient
from differential_smoothing.tabular.trajectories import Trajectories, log_policy, sequences, token_logps

__all__ = ["History", "Population", "closed_form", "enumerated", "population", "sampled", "train", "with_entropy"]

Gradient = Callable[[Floats, int], Floats]


class Population(NamedTuple):
    """``logits`` (P, M, V) of P prompts over the same ``trajectories``, and which are ``correct``, (P, Y) bool."""

    logits: Floats
    trajectories: Trajectories
    correct: NDArray[np.bool_]


class History(NamedTuple):
    """Recorded at ``step`` (R,), means over prompts: ``pass_at_k`` (R, K) for ``ks``, ``distinct`` correct trajectories among the
    largest k samples, ``diversity`` the entropy among correct (nats), ``modes`` its exponential, ``entropy`` of the policy.
    ``logits`` are the last ones."""

    step: NDArray[np.int64]
    ks: tuple[int, ...]
    pass_at_k: Floats
    distinct: Floats
    diversity: Floats
    modes: Floats
    entropy: Floats
    logits: Floats


def population(prompts: int, answers: int, *, solutions: int, sharpness: float, noise: float, seed: int) -> Population:
    """Prompts that share their ``answers`` (one token each): answer j has base logit ``-sharpness * log(j + 1)`` plus a normal
    draw times ``noise`` for each prompt, and each prompt accepts ``solutions`` answers, drawn uniformly."""
    if not 1 <= solutions < answers or prompts < 1:
        raise ValueError(
            f"population needs at least 1 prompt and 1 <= solutions < answers, got prompts={prompts}, answers={answers}, "
            f"solutions={solutions}."
        )
    random = np.random.default_rng(seed)
    logits = -sharpness * np.log1p(np.arange(answers)) + noise * random.normal(size=(prompts, answers))
    correct = random.random((prompts, answers)).argsort(1) < solutions
    return Population(logits[:, None], sequences([[a] for a in range(answers)]), correct)


def closed_form(people: Population, group_size: int, **options) -> Gradient:
    """The expected gradient of DS-GRPO, ``options`` as in ``oracle.closed_form_gradient``; without any, of GRPO."""
    return lambda logits, step: closed_form_gradient(logits, people.trajectories, people.correct, group_size, **options)


def enumerated(people: Population, group_size: int, rule: Rule) -> Gradient:
    """The expected gradient under any rule, by enumeration of all groups: for few trajectories."""
    return lambda logits, step: np.stack(
        [
            expected_gradient(one, people.trajectories, right, rule, group_size)
            for one, right in zip(logits, people.correct, strict=True)
        ]
    )


def sampled(people: Population, group_size: int, rule: Rule, *, groups: int, seed: int) -> Gradient:
    """The gradient under any rule of ``groups`` >= 2 groups drawn for every prompt at every step, by ``seed``."""

    def gradient(logits: Floats, step: int) -> Floats:
        seeds = np.random.SeedSequence([seed, step]).generate_state(len(logits))
        return np.stack(
            [
                sampled_gradient(one, people.trajectories, right, rule, group_size, groups=groups, seed=int(s))[0]
                for one, right, s in zip(logits, people.correct, seeds, strict=True)
            ]
        )

    return gradient


def with_entropy(people: Population, gradient: Gradient, weight: float) -> Gradient:
    """``gradient`` plus ``weight`` times that of the mean token entropy, TRL's ``entropy_coef``: > 0 bonus, < 0 penalty.

    As in TRL the entropy of the softmax at the visited nodes is differentiated, not which nodes are visited.
    """
    trajectories = people.trajectories

    def total(logits: Floats, step: int) -> Floats:
        log_pi = log_policy(logits, trajectories)
        policy = np.exp(log_pi)
        surprise = np.where(trajectories.allowed, -log_pi, 0.0)
        slope = policy * (surprise - (policy * surprise).sum(-1, keepdims=True))
        pi = np.exp(token_logps(logits, trajectories).sum(-1))
        visits = np.zeros((len(logits), len(trajectories.allowed)))
        for node in range(visits.shape[1]):
            here = ((trajectories.node == node) & trajectories.mask).sum(1) / trajectories.mask.sum(1)
            visits[:, node] = (pi * here).sum(-1)
        return gradient(logits, step) + weight * visits[..., None] * slope

    return total


def train(
    people: Population,
    gradient: Gradient,
    *,
    steps: int,
    lr: float,
    coupling: float = 0.0,
    ks: tuple[int, ...] = (1, 64),
    records: int = 60,
    on_step: Callable[[int], None] | None = None,
) -> History:
    """``steps`` steps of gradient ascent, recorded ``records`` + 1 times at most, the first and the last step included.

    Raises ValueError for lr <= 0, a coupling outside [0, 1], and logits that stop being finite.
    """
    if not (lr > 0 and 0 <= coupling <= 1 and steps >= 1):
        raise ValueError(f"train needs lr > 0, 0 <= coupling <= 1 and steps >= 1, got {lr}, {coupling} and {steps}.")
    logits = people.logits.copy()
    at = np.unique(np.linspace(0, steps, records + 1).astype(int))
    rows = []
    for step in range(steps + 1):
        if step in at:
            rows.append(_record(people, logits, ks))
        if step < steps:
            each = gradient(logits, step)
            logits = logits + lr * ((1 - coupling) * each + coupling * each.mean(0, keepdims=True))
            if not np.isfinite(logits).all():
                raise ValueError(
                    f"Logits are no longer finite after step {step + 1}: lr={lr} is too large for this rule."
                )
            if on_step is not None:
                on_step(step + 1)
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return History._make((at, ks, *columns, logits))


def _record(people: Population, logits: Floats, ks: tuple[int, ...]) -> tuple:
    log_pi = token_logps(logits, people.trajectories).sum(-1)
    pi = np.exp(log_pi)
    wrong = np.where(people.correct, 0.0, pi).sum(-1)
    q, _, _ = conditional(log_pi, people.correct)
    diversity = -(q * np.log(np.where(q > 0, q, 1.0))).sum(-1)
    found = -np.expm1(max(ks) * np.log1p(-np.minimum(pi, 1 - 1e-16)))
    return (
        [float((1 - wrong**k).mean()) for k in ks],
        np.where(people.correct, found, 0.0).sum(-1).mean(),
        diversity.mean(),
        np.exp(diversity).mean(),
        -(pi * log_pi).sum(-1).mean(),
    )
