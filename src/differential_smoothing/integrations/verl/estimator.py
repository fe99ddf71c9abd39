"""The advantages that verl's actor gets: any rule, and the term of Differential Smoothing on top. Tensors in, tensors out.

The estimator that ``plugin`` registers is ``estimate`` below. verl hands an estimator of ours no log-probabilities, so the trainer of
``plugin`` leaves them in ``handed``, a context variable. **When verl passes the batch to estimators** (its pull request 7473), ``batch``
of ``estimate`` takes that place: ``Handed`` is then made from it, and the trainers of ``plugin`` can go.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from differential_smoothing.advantages import completion_logps, shaping_term, smoothing_coefficient, smoothing_term
from differential_smoothing.integrations.correctness import correctness
from differential_smoothing.integrations.verl.options import DSOptions, read_options
from differential_smoothing.rules.discrepancy import entropy_discrepancy

__all__ = ["Handed", "correct_of", "deciding_values", "estimate", "final_rows", "handed", "shaped_advantages"]


@dataclass
class Handed:
    """What the trainer knows of the batch beside what verl gives an estimator. B rows of T tokens.

    Args:
        logps: (B, T) of the sampling policy, nats.
        correct: (B,) in {0, 1, NaN}.
        counts: (B,) bool, False for rows that verl added to fill the batch up.
        final: (B,) each row's place of the last output of its session; ``arange(B)`` where a session has one output.
        entropies: (B, T) nats, or None if they were not computed.
        progress: share of the training that is done.
        where: for messages, such as "step 12".
        options: what ``algorithm.ds`` was read as; None: ``estimate`` reads it itself, and the rule is made anew.
        metrics: filled by ``estimate``.
    """

    logps: Tensor
    correct: Tensor
    counts: Tensor
    final: Tensor
    entropies: Tensor | None = None
    progress: float = 0.0
    where: str = "this batch"
    options: DSOptions | None = None
    metrics: dict[str, float] | None = None


#: Set by the trainer around verl's own advantage step.
handed: contextvars.ContextVar[Handed | None] = contextvars.ContextVar("dsmooth_handed", default=None)


def estimate(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    config: Any = None,
    index: np.ndarray | None = None,
    batch: Any = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """verl's signature: (B, T) rewards and mask, the ``algorithm`` section, (B,) uids -> advantages and returns, both (B, T).

    RuntimeError if the stock trainer called it, which hands over no log-probabilities.
    """
    extra = handed.get()
    if extra is None:
        raise RuntimeError(
            "algorithm.adv_estimator=dsmooth needs the old log-probabilities, which verl's own trainers do not hand to estimators. Set "
            "trainer.v1.trainer_mode to dsmooth_sync, dsmooth_colocate_async or dsmooth_separate_async, and leave trainer.use_v1 true."
        )
    section = {} if config is None else config
    advantages, extra.metrics = shaped_advantages(
        extra.options or read_options(section.get("ds", None)),
        token_level_rewards.sum(-1),
        response_mask,
        uid=index,
        extra=extra,
        norm_by_std=section.get("norm_adv_by_std_in_grpo", True),
    )
    return advantages, advantages


@torch.no_grad()
def shaped_advantages(
    options: DSOptions, rewards: Tensor, mask: Tensor, *, uid: Sequence[Any], extra: Handed, norm_by_std: bool = True
) -> tuple[Tensor, dict[str, float]]:
    """The rule's advantages plus the term, and what is logged of them.

    Args:
        options: see ``DSOptions``.
        rewards: (B,), NaN = unscored.
        mask: (B, T), nonzero where the token counts.
        uid: (B,) ids of the prompts, in any order and of any type.
        extra: see ``Handed``.
        norm_by_std: verl's ``norm_adv_by_std_in_grpo``, for the rule ``grpo``.

    Returns:
        (B, T) advantages, 0 where masked, unscored or padding; and metrics ``ds/...``, without those that are undefined:
        ``ds/correct`` (share of completions), ``ds/logp_correct`` and ``ds/logp_incorrect`` (mean per token, nats),
        ``ds/term_correct`` and ``ds/term_incorrect`` (mean of what the gammas added per token), and, where there are any, ``ds/unknown``:
        the share of completions without correctness, as where one of several data sources has no ``correct_key``.

    A session with several outputs is one completion of its group, as in verl's own GRPO: the last output's advantage is that of all of
    them, and the term of each is that of its own tokens.
    """
    group = torch.as_tensor(np.unique(np.asarray(uid, dtype=str), return_inverse=True)[1], device=mask.device)
    rewards = torch.where(extra.counts, rewards.float(), torch.nan)
    correct = torch.where(extra.counts, extra.correct.to(rewards.dtype), torch.nan)
    logps, metrics = extra.logps, {}
    if (unknown := float(correct[extra.counts].isnan().float().mean())) > 0:
        metrics["ds/unknown"] = unknown
    gammas = {"gamma_p": options.gamma_p, "gamma_n": options.gamma_n}
    if options.schedule != "constant":
        discrepancy = entropy_discrepancy(logps.float(), mask, correct)
        gammas = {name: gamma * max(discrepancy, 0.0) for name, gamma in gammas.items()}
        metrics["ds/entropy_discrepancy"] = discrepancy
    coefficient = torch.where(rewards.isnan(), 0.0, smoothing_coefficient(correct, **gammas))

    before = rewards
    if options.stage == "reward" and options.smooths:
        level: Any = options.level  # not "token": checked with the options, and again by completion_logps
        rewards = rewards + coefficient * completion_logps(logps.float(), mask, level=level)
        coefficient = torch.zeros_like(coefficient)
    final, place = torch.unique(extra.final, return_inverse=True)
    base = _of_rule(options, rewards, mask, group, correct, extra, final, norm_by_std)
    if len(final) < len(rewards):
        base = base[place]
    of_group = {"correct": torch.where(rewards.isnan(), torch.nan, correct), "group": group, "coefficient": coefficient}
    if options.relative:
        size = base if base.dim() == 1 else (base * mask).sum(1) / mask.sum(1).clamp(min=1)
        term = shaping_term(
            logps.float(),
            mask,
            advantages=size,
            level=options.level,
            relative=True,
            floor=options.relative_floor,
            **of_group,
        )
        shaped = (base if base.dim() == 2 else base[:, None]) + term
        advantages, sums = _with_term(shaped, logps, mask, torch.zeros_like(coefficient), options, None)
        sums[:, 2] = term.sum(1)
    elif options.center and options.level != "token" and options.smooths:
        whole = completion_logps(logps.float(), mask, level=options.level)[:, None]  # a completion is one token here
        has_tokens = (mask != 0).any(1, keepdim=True)
        constant = shaping_term(whole, has_tokens, advantages=rewards, level="sum", center=True, **of_group)
        base = base + (constant[:, 0] if base.dim() == 1 else constant)
        advantages, sums = _with_term(base, logps, mask, torch.zeros_like(coefficient), options, None)
        sums[:, 2] = constant[:, 0] * sums[:, 0]
    else:
        entropies = extra.entropies if options.needs_entropies else None
        advantages, sums = _with_term(base, logps, mask, coefficient, options, entropies)
        if options.stage == "reward" and options.level != "token" and options.smooths:
            unshaped = _of_rule(options, before, mask, group, correct, extra, final, norm_by_std)[place]
            sums[:, 2] = (base - unshaped) * sums[:, 0]
    return advantages, metrics | _means(correct, sums)


def _of_rule(
    options: DSOptions,
    rewards: Tensor,
    mask: Tensor,
    group: Tensor,
    correct: Tensor,
    extra: Handed,
    final: Tensor,
    norm_by_std: bool,
) -> Tensor:
    """The rule's advantages of the rows ``final``, (F,) or (F, T)."""
    whole = len(final) == len(rewards)
    pick = (lambda values: values) if whole else (lambda values: values[final])
    if options.rule == "grpo":
        return _verls_grpo(pick(rewards), pick(group), norm_by_std)
    advantages = options.bound(
        pick(rewards),
        pick(extra.logps.float()) if options.bound.needs_logps else None,
        pick(mask),
        correct=pick(correct),
        group=pick(group),
        progress=extra.progress,
        where=extra.where,
    )
    if advantages.dim() == 2 and not whole:
        raise ValueError(
            f"algorithm.ds.rule={options.rule} gives every token its own advantage, and sessions of this batch have several outputs, "
            f"whose tokens it does not see. Take rule=grpo with gamma_p and gamma_n, or an agent loop with one output."
        )
    return advantages


def _verls_grpo(rewards: Tensor, group: Tensor, norm_by_std: bool) -> Tensor:
    """(F,) of verl's own vectorised estimator over the scored rows, 0 elsewhere. A group of one keeps its reward, as verl has it."""
    from verl.trainer.ppo.core_algos import compute_grpo_vectorized_outcome_advantage

    scored = ~rewards.isnan()
    advantages = torch.zeros_like(rewards)
    if scored.any():
        one = torch.ones_like(rewards[scored])[:, None]
        advantages[scored] = compute_grpo_vectorized_outcome_advantage(
            rewards[scored][:, None], one, group[scored].cpu().numpy(), norm_adv_by_std_in_grpo=norm_by_std
        )[0][:, 0]
    return advantages


def _with_term(
    base: Tensor, logps: Tensor, mask: Tensor, coefficient: Tensor, options: DSOptions, entropies: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``base + term`` per token, 0 where masked, and per row: tokens, sum of log-probs, sum of the term, tokens that have a log-prob.
    (B, T), (B, 4).

    The term is ``smoothing_term``, written as ``mask * (base + slope * logp)`` with some rows at a time, which stay in the processor's
    cache: a third of the time. Rows with a log-probability that is not finite go to ``smoothing_term`` itself, which knows what to do.
    """
    advantages = torch.empty(mask.shape, dtype=base.dtype, device=base.device)
    sums = base.new_zeros(len(mask), 4)
    size = max(1, _BLOCK // max(mask.size(1), 1))
    ones = base.new_empty(min(size, len(mask)), mask.size(1))
    for start in range(0, len(mask), size):
        rows = slice(start, start + size)
        log_probs, of_rule = logps[rows].to(base.dtype), base[rows, None] if base.dim() == 1 else base[rows]
        values = log_probs if entropies is None else log_probs + entropies[rows].to(base.dtype)
        counts = ones[: len(log_probs)].copy_(mask[rows])  # verl's masks hold 0 and 1
        tokens, total = counts.sum(1), torch.linalg.vecdot(values, counts)
        if not total.isfinite().all():
            counts = mask[rows] != 0
            term = smoothing_term(
                log_probs,
                counts,
                coefficient=coefficient[rows],
                level=options.level,
                entropies=None if entropies is None else entropies[rows].to(base.dtype),
            )
            advantages[rows] = torch.where(counts, of_rule + term, 0.0)
            scored = (counts & ~log_probs.isnan()).sum(1)
            sums[rows] = torch.stack([tokens, torch.where(counts, log_probs, 0.0).nansum(1), term.sum(1), scored], 1)
            continue
        if options.level == "token":
            slope, of_term = coefficient[rows], coefficient[rows] * total
        else:  # the same for every token of the completion
            whole = coefficient[rows] * (total / tokens.clamp(min=1) if options.level == "mean" else total)
            slope, of_term, of_rule = torch.zeros_like(whole), whole * tokens, of_rule + whole[:, None]
        torch.addcmul(of_rule, slope[:, None], values, out=advantages[rows]).mul_(counts)
        of_logps = total if entropies is None else torch.linalg.vecdot(log_probs, counts)
        sums[rows] = torch.stack([tokens, of_logps, of_term, tokens], 1)
    return advantages, sums


_BLOCK = 2**16  # numbers: a quarter of a megabyte of float32


def _means(correct: Tensor, sums: Tensor) -> dict[str, float]:
    known = ~correct.isnan()
    values = {"ds/correct": correct[known].mean()} if known.any() else {}
    for name, value in (("correct", 1), ("incorrect", 0)):
        tokens, logp, term, scored = sums[correct == value].sum(0)
        if scored > 0:  # a sampler may not know the log-prob of a token
            values[f"ds/logp_{name}"] = logp / scored
        if tokens > 0:
            values[f"ds/term_{name}"] = term / tokens
    return {name: float(value) for name, value in values.items()}


def correct_of(scores: Tensor, infos: Sequence[Mapping[str, Any] | None] | None, options: DSOptions) -> Tensor:
    """(B,) in {0, 1, NaN}: whether ``correct_key`` of each row's reward info, or the score without a key, is above the threshold."""
    values = deciding_values(scores, infos, options)
    return torch.where(values.isnan(), values, (values > options.correct_threshold).to(values.dtype))


def deciding_values(scores: Tensor, infos: Sequence[Mapping[str, Any] | None] | None, options: DSOptions) -> Tensor:
    """(B,) what ``correct_of`` compares with the threshold, NaN = unknown.

    Args:
        scores: (B,) what ``compute_score`` gave, NaN = unscored.
        infos: (B,) what else it returned per row; read only with ``correct_key``.

    ValueError if no row has the key, or a value is no number.
    """
    values = scores
    if options.correct_key is not None:
        known = [info if isinstance(info, Mapping) else {} for info in infos or []]
        keys = sorted({str(key) for info in known for key in info})
        if not set(options.correct_keys) & set(keys):
            raise ValueError(
                f"algorithm.ds.correct_key={','.join(options.correct_keys)}: no completion of this batch has that key. compute_score returned "
                f"{', '.join(keys) or 'a number alone'}."
            )
        told = scores.new_tensor([[_number(info.get(key), options) for key in options.correct_keys] for info in known])
        values = correctness(told, range(len(options.correct_keys)), options.correct_threshold)[0]
    return values


def _number(value: Any, options: DSOptions) -> float:
    try:
        return float("nan") if value is None else float(value + 0)  # text has no + 0: a "1" is not read as a number
    except (TypeError, ValueError):
        raise ValueError(
            f"algorithm.ds.correct_key={','.join(options.correct_keys)} must be a number or a bool, or None for unknown; got {value!r:.80}."
        ) from None


def final_rows(keys: Sequence[str]) -> Tensor:
    """(B,) for each row, keyed ``uid_session_output``, the row of the last output of its session."""
    last: dict[str, tuple[int, int]] = {}
    sessions = []
    for row, key in enumerate(keys):
        session, _, output = key.rpartition("_")
        sessions.append(session)
        last[session] = max(last.get(session, (-1, -1)), (int(output), row))
    return torch.tensor([last[session][1] for session in sessions])
