"""What a step of the configured training takes, as ``cost`` counts it, in words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from differential_smoothing.training import RunArguments, cost

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig
from .page import Plan

__all__ = ["estimate", "placement_of"]

# --- cost ----------------------------------------------------------------------------------------------------------


def estimate(
    plan: Plan,
    run: RunArguments,
    config: DSGRPOConfig,
    shape: cost.Shape,
    lengths: Sequence[int],
    steps: int | None,
    gpu: cost.Gpu,
) -> None:
    """Add the rows about tokens, memory and time, and notes on what does not fit the ``gpu``. ``lengths``: of prompts in tokens, 0 where unknown."""
    known = [n for n in lengths if n]
    assumed = 0 if known else min(512, max(0, shape.context - config.max_completion_length))
    mean, longest = (sum(known) / len(known), max(known)) if known else (assumed, assumed)
    batch = cost.Batch(
        prompts=config.generation_batch_size // config.num_generations,
        group=config.num_generations,
        prompt=longest,
        completion=config.max_completion_length,
        micro=config.per_device_train_batch_size,
    )
    placement = placement_of(run, config)
    held = cost.memory(shape, batch, placement, gpu)
    batch = replace(batch, prompt=round(mean))
    tokens = batch.tokens * (
        1 / (config.num_iterations * config.steps_per_generation / config.gradient_accumulation_steps)
    )
    if not known:
        plan.notes.append(f"Prompts are taken to have {assumed} tokens, since theirs are not known.")
    plan.rows.append(
        (
            "Tokens",
            f"{_count(tokens)} a step"
            + (f", {_count(tokens * steps)} in all" if steps else "")
            + ", if completions are on "
            f"average {batch.written.low:.0%} to {batch.written.high:.0%} as long as they may be.",
        )
    )
    parts = ", ".join(f"{name} {_gb(value)}" for name, value in held.items() if name != "peak" and value.high)
    where = "in all" if config.use_cpu else f"per GPU, {placement.sharding.upper()} over {placement.gpus}"
    plan.rows.append(("Memory", f"{_gb(held['peak'])} GB {where}: {parts}."))
    if config.use_cpu:
        return
    room = cost.at_once(shape, batch, placement, gpu)
    if held["peak"].low > gpu.memory:
        plan.notes.append(
            f"This does not fit one {gpu.name}. "
            + ("Spread it (fsdp: true, more processes), " if placement.sharding == "ddp" else "Take more processes, ")
            + "or lora_r: 32, or a smaller per_device_train_batch_size or vllm_gpu_memory_utilization."
        )
    elif held["peak"].high > gpu.memory:
        plan.notes.append(f"This may not fit one {gpu.name}: the high estimate does not.")
    if room < 1:
        plan.notes.append(
            f"vLLM gets {placement.reserved:.0%} of one {gpu.name}, too little for the weights ({2 * shape.parameters / 1e9:.1f} GB in bf16) and "
            f"one completion. Raise vllm_gpu_memory_utilization."
        )
    parts = cost.seconds(shape, batch, placement, gpu)
    step = parts.pop("step")
    in_all = f", {_hours(step * steps)} in all" if steps else ""
    plan.rows.append(
        (
            "Time",
            f"{step.low:.0f} to {step.high:.0f} s a generation on {placement.gpus} x {gpu.name}{in_all}: "
            + ", ".join(f"{name} {value.low:.0f} to {value.high:.0f} s" for name, value in parts.items() if value.high)
            + f". From the data sheet, {_percent(cost.Share().compute)} of its operations, {_percent(cost.Share().bandwidth)} of its bandwidth; no "
            f"measurement."
            + (f" vLLM has room for {room:.0f} completions of full length at once." if 1 <= room < 1e6 else ""),
        )
    )


def placement_of(run: RunArguments, config: DSGRPOConfig) -> cost.Placement:
    """Where and how the configured training runs, as ``cost`` counts it."""
    dtype = str((config.model_init_kwargs or {}).get("dtype", "float32"))
    native = (config.model_init_kwargs or {}).get(
        "distributed_config"
    ) or {}  # transformers' own FSDP2, as configs/README.md has it
    native = native if isinstance(native, dict) else vars(native)
    sharded = bool(config.fsdp or config.deepspeed) or os.environ.get("ACCELERATE_USE_FSDP") == "true"
    sharded = sharded or (native.get("fsdp_size") or 1) > 1
    aligned = config.gradient_accumulation_steps % (config.steps_per_generation * config.num_iterations) == 0
    old = (config.use_vllm and config.vllm_importance_sampling_correction) or not aligned
    return cost.Placement(
        gpus=config.world_size,
        sharding="fsdp" if sharded else "ddp",
        lora_rank=run.lora_r,
        weight_bytes=2 if dtype.endswith("16") or dtype == "auto" else 4,
        checkpointing=config.gradient_checkpointing,
        rollouts=("server" if config.vllm_mode == "server" else "vllm") if config.use_vllm else "model",
        reserved=config.vllm_gpu_memory_utilization,
        extra_forward=int(old),
        reference=config.beta > 0,
    )


def _gb(value: cost.Range) -> str:
    low, high = (f"{x / 1e9:.2g}" if x < 1e10 else f"{x / 1e9:.0f}" for x in (value.low, value.high))
    return low if low == high else f"{low} to {high}"


def _count(value: cost.Range) -> str:
    def one(x: float) -> str:
        for size, unit in ((1e9, " billion"), (1e6, " million")):
            if x >= size:
                return f"{x / size:.3g}{unit}"
        return f"{x:,.0f}"

    return f"{one(value.low)} to {one(value.high)}"


def _percent(share: cost.Range) -> str:
    return f"{share.low:.0%} to {share.high:.0%}"


def _hours(value: cost.Range) -> str:
    low, high = value.low / 3600, value.high / 3600
    return f"{low:.1f} to {high:.1f} hours" if high >= 1 else f"{low * 60:.0f} to {high * 60:.0f} minutes"
