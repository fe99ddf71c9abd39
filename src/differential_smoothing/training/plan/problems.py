"""Checks of the problems: how many there are, how long their prompts are, how many steps they make."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from differential_smoothing.tasks import read_options
from differential_smoothing.training import RunArguments, hub

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig
from .model import in_one_line, rendered
from .page import Plan

__all__ = ["look_at_lengths", "look_at_problems", "look_at_steps"]

LOOKED_AT = 500  # of problems that are made, not read


# --- problems ------------------------------------------------------------------------------------------------------


def look_at_problems(
    plan: Plan, run: RunArguments, config: DSGRPOConfig, tokenizer: Any, here: bool
) -> tuple[int | None, list[int]]:
    """How many problems there are, None if that is not known, and the lengths of prompts in tokens, 0 where they cannot be told."""
    try:
        task = run.make_task()
        looked = run
        if task.generated and not run.data_file:  # making them all can take minutes, and they are much alike
            looked = replace(run, problems=min(run.problems, LOOKED_AT))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            problems = looked.read_problems(task)
        if not here:  # the training will say them
            plan.notes += [str(warning.message) for warning in caught if warning.category is UserWarning]
        prompts: list[Any] = [task.prompt(problem, chat=run.chat) for problem in problems]
    except (ValueError, OSError, ImportError, NotImplementedError) as error:
        reason = hub.explain(error, "the data")
        if isinstance(reason, hub.Unreachable):
            plan.unchecked.append(
                f"The problems of {run.task} cannot be loaded from here, so their number and lengths are not known. {error}"
            )
        else:
            plan.mistakes.append(str(error))
        return None, []
    count = len(problems) + run.problems - looked.problems
    described = f"{count:,} of {run.task}" + (
        f" ({_short(options)})" if (options := read_options(run.task_options)) else ""
    )
    lengths = [0] * len(prompts)
    if tokenizer is not None:
        try:
            texts = [rendered(tokenizer, config, p) if run.chat else p for p in prompts]
        except Exception as error:
            plan.mistakes.append(
                f"The chat template of {run.model!r} does not take this task's prompts, which have the roles "
                f"{', '.join(m['role'] for m in prompts[0])}: {in_one_line(error)}"
            )
        else:
            lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=not run.chat)["input_ids"]]
            described += f"; prompts of {sum(lengths) / len(lengths):.0f} tokens on average, {max(lengths):,} at most"
            described += f", of the first {len(lengths)}" if count > len(lengths) else ""
    plan.rows.append(("Problems", described + "."))
    return count, lengths


def _short(options: dict[str, Any]) -> str:
    return (
        ", ".join(f"{key}: {value}" for key, value in options.items())
        .replace("'", "")
        .replace("[", "")
        .replace("]", "")
    )


def look_at_lengths(plan: Plan, config: DSGRPOConfig, context: int | None, lengths: Sequence[int]) -> None:
    """A mistake where a prompt and a completion together exceed the model or vLLM. ``lengths``: of prompts in tokens."""
    longest = max(lengths, default=0)
    limits = [(context, "the model has positions for"), (config.vllm_max_model_length, "vllm_max_model_length is")]
    for limit, what in limits:
        if not limit or longest + config.max_completion_length <= limit:
            continue
        over = [n for n in lengths if n + config.max_completion_length > limit]
        plan.mistakes.append(
            f"A prompt of {longest:,} tokens and a completion of {config.max_completion_length:,} make "
            f"{longest + config.max_completion_length:,}, and {what} {limit:,}. "
            + (f"{len(over):,} of {len(lengths):,} prompts are too long. " if over else "")
            + f"Lower max_completion_length to {max(0, limit - longest):,}"
            + (" or leave the longest problems out." if over else ".")
        )


def look_at_steps(plan: Plan, run: RunArguments, config: DSGRPOConfig, count: int | None) -> int | None:
    """Optimiser steps in all, counted as TRL counts them; writes the rows about batch and steps."""
    prompts = config.generation_batch_size // config.num_generations
    updates = config.num_iterations * config.steps_per_generation / config.gradient_accumulation_steps
    processes = config.world_size
    plan.rows.append(
        (
            "Sampling",
            f"{prompts} prompts x {config.num_generations} completions = {config.generation_batch_size}, of at most "
            f"{config.max_completion_length:,} tokens at temperature {config.temperature:g}, on {processes} "
            f"process{'es' if processes > 1 else ''} "
            f"({_engine(run, config)}); {config.per_device_train_batch_size} at once in the model; {updates:g} "
            f"update{'s' if updates != 1 else ''} from them.",
        )
    )
    if count is None:
        steps = config.max_steps if config.max_steps > 0 else None
    else:
        if count < prompts:
            plan.mistakes.append(
                f"There are {count} problems, and every step takes {prompts} ({config.generation_batch_size} completions in groups "
                f"of {config.num_generations}), so no step would be made. Give more problems or a smaller batch."
            )
            return None
        batches = count // prompts * config.num_iterations * config.steps_per_generation  # incomplete ones are left out
        per_epoch = max(
            1, batches // config.gradient_accumulation_steps + (batches % config.gradient_accumulation_steps > 0)
        )
        steps = config.max_steps if config.max_steps > 0 else ceil(config.num_train_epochs * per_epoch)
        plan.rows.append(
            (
                "Training",
                f"{steps:,} steps, {steps / per_epoch:.3g} times through the problems ({per_epoch:,} steps each); learning "
                f"rate {config.learning_rate:g}, {getattr(config.lr_scheduler_type, 'value', config.lr_scheduler_type)}; loss {config.loss_type}, "
                f"clip {config.epsilon:g}/{config.epsilon if config.epsilon_high is None else config.epsilon_high:g}, KL {config.beta:g}.",
            )
        )
    return steps


def _engine(run: RunArguments, config: DSGRPOConfig) -> str:
    if config.use_vllm:
        return f"vLLM, {config.vllm_mode}"
    return "our sampler" if run.rollout == "shared_prefix" else "transformers"
