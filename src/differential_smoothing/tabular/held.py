"""Training of one prompt while the rest of a model holds its success rate: the laboratory of collapse.

A prompt that learns alone soon answers all right, and then nothing sharpens it any more. In a model with shared parameters success comes
to rest below 1, because other prompts want other things, and the right answers go on competing. Here a step is the expected (or a
sampled) step of ``oracle``, and then all right answers are shifted alike until their mass is C again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from differential_smoothing.advantages import (
    centred_logps,
    completion_logps,
    ds_grpo_advantages,
    group_advantages,
    smoothing_coefficient,
)
from differential_smoothing.tabular import oracle
from differential_smoothing.tabular.biases import conditional
from differential_smoothing.tabular.closed_form import logsumexp
from differential_smoothing.tabular.divergences import Floats
from differential_smoothing.tabular.trajectories import Trajectories, sequences, token_logps

__all__ = ["at_success", "bandit", "expected", "rate", "relative_advantages", "rule", "sampled", "train", "variety"]

Step = Callable[[Floats, int], Floats]


def relative_advantages(rewards, logps, mask, *, correct, group, kappa: float, floor: float = 0.0, level: str = "sum"):
    """``A (1 - kappa (log pi - its mean over the group's right answers))`` on right answers, ``A`` on wrong ones, (batch, tokens).

    A is that of the shipped ``group_advantages``. Where a group is all right A is 0, and ``floor`` takes its place in the term. ``level``
    "sum" takes whole answers, "token" each token and the mean over the tokens of the group's right answers.
    """
    advantages, right = group_advantages(rewards, group), correct.to(rewards.dtype)
    if level == "sum":
        centred = centred_logps(completion_logps(logps, mask, level="sum"), correct=right, group=group)[:, None]
    else:
        here = mask * right[:, None]
        sums = [_by(group, (here * x).sum(1)) for x in (logps, torch.ones_like(logps))]
        centred = logps - (sums[0] / sums[1].clamp(min=1))[:, None]
    strength = torch.where(_by(group, 1 - right) == 0, floor, advantages)
    term = (smoothing_coefficient(right, gamma_p=kappa, gamma_n=0.0) * strength)[:, None] * centred
    return torch.where(mask != 0, advantages[:, None] + term, 0.0)


def _by(group: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(batch,): the sum over its group, at each completion."""
    return torch.zeros(int(group.max()) + 1, dtype=values.dtype).index_add(0, group, values)[group]


def rule(name: str, strength: float, logits: Floats, *, floor: float = 0.0) -> oracle.Rule:
    """A rule of ``collapse.RULES`` from the shipped advantages, for one-token answers at ``logits`` (1, V), whose entropy one of them needs."""
    if name == "relative":
        return lambda *given, **ids: relative_advantages(*given, **ids, kappa=strength, floor=floor)
    options: dict[str, Any] | None = {"published": {}, "centred": {"level": "sum", "center": True}}.get(name)
    if options is not None:
        return oracle.ds_grpo(gamma_p=strength, **options)
    log_pi = logits[0] - logsumexp(logits[0])
    entropy = float(-(np.exp(log_pi) * log_pi).sum())
    return lambda rewards, logps, mask, **ids: ds_grpo_advantages(
        rewards,
        logps,
        mask,
        **ids,
        gamma_p=strength,
        gamma_n=0.0,
        center=True,
        entropies=torch.full_like(logps, entropy),
    )


def bandit(answers: int, wrong: int, success: float) -> tuple[Floats, Trajectories, NDArray[np.bool_]]:
    """Logits (1, M + N), trajectories and correctness of M equally likely right and N equally likely wrong one-token answers."""
    share = np.repeat([success / answers, (1 - success) / wrong], [answers, wrong])
    return (np.log(share)[None], sequences([[i] for i in range(answers + wrong)]), np.arange(answers + wrong) < answers)


def expected(
    name: str, strength: float | Callable[[int], float], answers: Trajectories, correct, size: int, **options
) -> Step:
    """The expected gradient of a rule by enumeration of all groups; a ``strength`` may depend on the step."""

    def gradient(logits: Floats, step: int) -> Floats:
        now = strength(step) if callable(strength) else strength
        return oracle.expected_gradient(logits, answers, correct, rule(name, now, logits, **options), size)

    return gradient


def sampled(
    name: str, strength: float, answers: Trajectories, correct, size: int, *, groups: int, seed: int, **options
) -> Step:
    """The gradient of ``groups`` drawn groups a step."""

    def gradient(logits: Floats, step: int) -> Floats:
        number = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
        shaped = rule(name, strength, logits, **options)
        return oracle.sampled_gradient(logits, answers, correct, shaped, size, groups=groups, seed=number)[0]

    return gradient


def rate(gradient: Step, logits: Floats, first: int, second: int, *, node: int = 0, width: float = 1e-4) -> float:
    """How fast the difference of two actions' logits at a ``node`` grows, per unit of itself and of lr x steps: a central difference."""
    move = np.zeros_like(logits)
    move[node, first], move[node, second] = width / 2, -width / 2
    change = gradient(logits + move, 0) - gradient(logits - move, 0)
    return float((change[node, first] - change[node, second]) / (2 * width))


def at_success(logits: Floats, correct, success: float) -> Floats:
    """One-token ``logits`` (1, V) with the right answers shifted alike until their mass is ``success``."""
    gap = logsumexp(logits[0], correct) - logsumexp(logits[0], ~correct)
    return np.where(correct, logits + np.log(success / (1 - success)) - gap, logits)


def variety(logits: Floats, answers: Trajectories, correct) -> float:
    """exp(entropy among right answers): how many are in use."""
    q, _, _ = conditional(token_logps(logits, answers).sum(-1), correct)
    return float(np.exp(-(q * np.log(np.where(q > 0, q, 1.0))).sum(-1)))


def train(logits: Floats, gradient: Step, correct, success: float, *, steps: int, lr: float) -> Floats:
    """``logits`` (1, V) after so many steps at a held success rate."""
    for step in range(steps):
        logits = at_success(logits + lr * gradient(logits, step), correct, success)
    return logits
