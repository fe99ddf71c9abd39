"""DS-GRPO and the rules of this package in rLLM: ``register("ds_grpo", gamma_p=0.3)`` before the trainer is made, then ``estimator: ds_grpo``.

rLLM (August 2026) gives an estimator whole groups: one reward per trajectory and, in ``traj_groups``, each step's log-probabilities. It takes one
number per trajectory back, so the levels ``mean`` and ``sum`` are exact, and a token level does not exist. Every trajectory counts as one completion
of all its steps' tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from differential_smoothing.advantages import group_advantages, shaping_term, smoothing_coefficient
from differential_smoothing.options import strengths
from differential_smoothing.rules import make_rule

__all__ = ["make_estimator", "register"]

Arrays = list[NDArray[np.float64]]


def register(name: str = "ds_grpo", **options: Any) -> None:
    """``make_estimator(**options)`` under ``name`` in rLLM's registry. ImportError where rLLM is missing; ValueError for a wrong option."""
    estimator = make_estimator(**options)
    from rllm.trainer.algorithms.advantage import register_rllm_adv_estimator

    register_rllm_adv_estimator(name)(estimator)


def make_estimator(
    *,
    gamma_p: float = 0.0,
    gamma_n: float = 0.0,
    level: str = "mean",
    center: bool = False,
    rule: str = "grpo",
    rule_options: Mapping[str, Any] | None = None,
    correct_threshold: float = 0.5,
) -> Callable[..., tuple[Arrays, Arrays]]:
    """An estimator ``(rewards, algorithm_config, *, traj_groups) -> (advantages, returns)`` in rLLM's signature.

    The rule ``grpo`` is rLLM's own: the population's standard deviation, eps 1e-6, unless ``norm_adv_by_std_in_grpo`` is false. ValueError for a
    negative or non-finite strength, another level than ``mean`` and ``sum``, an option without effect, and log-probs that are missing.
    """
    gammas = strengths(gamma_p, gamma_n, needed=False, advice="Pass them to register().")
    if level not in ("mean", "sum"):
        raise ValueError(f"level must be 'mean' or 'sum', got {level!r}: rLLM takes one advantage per trajectory.")
    smooths = any(gammas.values())
    if center and not smooths:
        raise ValueError("center=True has no effect while gamma_p and gamma_n are 0. Set gamma_p.")
    bound = None if rule == "grpo" else make_rule(rule, rule_options)
    if bound is None and rule_options:
        raise ValueError(
            f"rule_options={dict(rule_options)!r} belong to a rule; the rule is rLLM's own GRPO. Set rule."
        )
    if bound is not None and bound.requires("answer"):
        raise ValueError(
            f"The rule {rule!r} asks which completions give the same answer, which rLLM does not hand over."
        )
    reads = smooths or (bound is not None and bound.needs_logps)

    def estimator(
        rewards: Sequence[NDArray[np.float64]], algorithm_config: Any, *, traj_groups: Sequence[Any] = (), **_: Any
    ) -> tuple[Arrays, Arrays]:
        sizes = [len(each) for each in rewards]
        flat = torch.tensor(np.concatenate(rewards) if sizes else [], dtype=torch.float64)
        group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long))
        correct = torch.where(flat.isnan(), flat, (flat > correct_threshold).to(flat.dtype))
        logps, mask = (
            _tokens(traj_groups, len(flat)) if reads else (torch.zeros(len(flat), 1), torch.ones(len(flat), 1))
        )
        logps = logps.to(flat.dtype)
        if bound is None:
            scale = getattr(algorithm_config, "norm_adv_by_std_in_grpo", True)
            advantages = group_advantages(flat, group, scale="group" if scale else "none", eps=1e-6, correction=0)
        else:
            advantages = bound(flat, logps if bound.needs_logps else None, mask, correct=correct, group=group)
            if advantages.dim() == 2:
                raise ValueError(
                    f"The rule {bound!r} gives one advantage per token, and rLLM takes one per trajectory."
                )
        if smooths:
            chosen: Any = level
            term = shaping_term(
                logps,
                mask,
                advantages=advantages,
                correct=correct,
                group=group,
                coefficient=torch.where(flat.isnan(), 0.0, smoothing_coefficient(correct, **gammas)),
                level=chosen,
                center=center,
            )
            advantages = advantages + term.sum(1) / (mask != 0).sum(1).clamp(min=1)  # the same on every token
        parts: Arrays = [part.numpy() for part in advantages.split(sizes)]
        return parts, parts

    return estimator


def _tokens(groups: Sequence[Any], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(trajectories, tokens) log-probs and mask, from the steps' ``logprobs`` and ``response_ids``."""
    rows: list[list[float]] = []
    for group in groups:
        for trajectory in group.trajectories:
            for step in trajectory.steps:
                if len(step.logprobs) != len(step.response_ids):
                    raise ValueError(
                        f"A step of group {group.group_id!r} has {len(step.logprobs)} log-probs for {len(step.response_ids)} tokens, expected one each. "
                        f"Let the rollout engine return log-probs."
                    )
            rows.append([value for step in trajectory.steps for value in step.logprobs])
    if len(rows) != size:
        raise ValueError(
            f"rLLM handed over {len(rows)} trajectories for {size} rewards, expected equal numbers. Report its version."
        )
    logps = torch.zeros(size, max([1, *map(len, rows)]))
    mask = torch.zeros_like(logps)
    for place, row in enumerate(rows):
        logps[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return logps, mask
