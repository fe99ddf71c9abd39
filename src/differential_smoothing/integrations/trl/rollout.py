"""``shared_prefix_rollout``: a ``rollout_func`` for small models that reads every prompt once for all its completions."""

from __future__ import annotations

from inspect import signature
from itertools import groupby
from math import gcd

from torch.distributed.tensor import DTensor
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from differential_smoothing.sampling import sample

__all__ = ["shared_prefix_rollout"]

#: Since TRL 1.16, which switches gradient checkpointing off while it generates and on again with these options.
_RESTORES_CHECKPOINTING = "gradient_checkpointing_kwargs" in signature(unwrap_model_for_generation).parameters


def shared_prefix_rollout(prompts: list, trainer: GRPOTrainer) -> dict[str, list]:
    """A ``rollout_func`` for small models: every prompt is read once for all its completions, log-probs come along.

    Pass it as ``DSGRPOTrainer(..., rollout_func=shared_prefix_rollout)`` (or to the stock trainer). It replaces
    ``generate``, whose bookkeeping costs more than the forward passes of a model below some 10M parameters. It samples
    at ``temperature`` and knows no other sampling option: ValueError if one is set.
    """
    args = trainer.args
    neutral_values = {"top_p": (1.0,), "top_k": (0, None), "min_p": (None, 0.0), "repetition_penalty": (1.0,)}
    wrong = [
        f"{name}={getattr(args, name)}"
        for name, neutral in neutral_values.items()
        if getattr(args, name) not in neutral
    ]
    if wrong or args.generation_kwargs:
        raise ValueError(
            f"shared_prefix_rollout samples from the whole distribution at the given temperature; it cannot do "
            f"{', '.join(wrong) or 'generation_kwargs'}. Remove the option, or leave the rollout to the host "
            f"(rollout: host in a config, no rollout_func in Python)."
        )
    if getattr(trainer, "environment_factories", None) or trainer.tools:
        raise ValueError(
            "shared_prefix_rollout draws one answer per completion: it calls no tools and steps through no environment. Leave the rollout "
            "to the host (rollout: host in a config, no rollout_func in Python)."
        )
    # The host repeats each prompt for its completions, but where a process's share begins is up to its sampler: the
    # greatest common divisor of the runs of equal prompts is a number of completions that fits them all.
    copies = gcd(*(len(list(run)) for _, run in groupby(prompts)))
    prompt_ids, images, _ = trainer._tokenize_prompts(prompts[::copies])
    if images is not None:
        raise ValueError(
            "shared_prefix_rollout reads text only; got prompts with images. Leave the rollout to the host."
        )
    options = {"gradient_checkpointing_kwargs": args.gradient_checkpointing_kwargs} if _RESTORES_CHECKPOINTING else {}
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator, **options) as model:
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        groups = sample(
            model,
            prompt_ids,
            num_samples=copies,
            max_new_tokens=args.max_completion_length,
            temperature=args.temperature,
            eos_token_ids=getattr(trainer, "eos_token_ids", [trainer._tokenizer.eos_token_id]),  # one before TRL 1.16
            pad_token_id=trainer._tokenizer.pad_token_id,
            in_step=sharded or any(isinstance(p, DTensor) for p in model.parameters()),
        )
    samples = [drawn for group in groups for drawn in group]
    return {
        "prompt_ids": [ids for ids in prompt_ids for _ in range(copies)],
        "completion_ids": [drawn.completion_ids for drawn in samples],
        "logprobs": [drawn.logps for drawn in samples],
    }
