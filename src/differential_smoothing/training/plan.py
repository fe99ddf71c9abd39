"""What a configured training will do and cost, and every mistake in it that can be found without the weights.

Three kinds of findings, each a line for a person: a *mistake* is certain, and the run would fail or do something else than it says;
*unchecked* is what could not be looked at from here (no network, no GPU); a *note* is what may be meant but often is not. ``dsmooth
train`` looks for mistakes before every training, ``--dry-run`` prints the whole plan.
"""

from __future__ import annotations

import json
import os
import shlex
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differential_smoothing.integrations.card import in_words
from differential_smoothing.sampling.number_format import quick_dtype
from differential_smoothing.training import RunArguments, cost, hub, resolve_model
from differential_smoothing.training.run import frozen_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from differential_smoothing.integrations.trl import DSGRPOConfig

__all__ = ["Plan", "make_plan", "placement_of"]

LOOKED_AT = 500  # of problems that are made, not read


@dataclass
class Plan:
    """``rows`` of (heading, text), and what was found. ``str`` is the page that ``--dry-run`` prints."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = [("Note", self.notes), ("Unchecked", self.unchecked), ("MISTAKE", self.mistakes)]
        rows = [*self.rows, *((heading, text) for heading, texts in found for text in texts)]
        return "\n".join(
            textwrap.fill(
                text,
                118,
                initial_indent=f"{heading:<12}",
                subsequent_indent=" " * 12,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for heading, text in rows
        )


def make_plan(run: RunArguments, config: DSGRPOConfig, *, here: bool, gpu: cost.Gpu = cost.H100) -> Plan:
    """Look at everything but the weights.

    Args:
        here: the run is about to start in this process: what this machine lacks (vLLM, other processes) is a mistake. Otherwise it is
            only noted, since the training may be meant for another machine.
        gpu: what memory and time are estimated for.
    """
    plan = Plan()
    _options(plan, run, config, here)
    shape, context, tokenizer = _model(plan, run, config)
    plan.rows.append(("Rule", in_words(config)))
    count, lengths = _problems(plan, run, config, tokenizer, here)
    _lengths(plan, config, context, lengths)
    steps = _steps(plan, run, config, count)
    if shape is not None:
        _cost(plan, run, config, shape, lengths, steps, gpu)
    _output(plan, run, config, shape)
    return plan


# --- options -------------------------------------------------------------------------------------------------------


def _options(plan: Plan, run: RunArguments, config: DSGRPOConfig, here: bool) -> None:
    """What is wrong with the options alone, and with this machine for them."""
    mistakes = plan.mistakes
    if here and run.processes and run.processes != config.world_size:
        mistakes.append(
            f"The config is made for {run.processes} processes, and {config.world_size} were launched. Start it with accelerate launch "
            f"--num_processes {run.processes} -m differential_smoothing train ..., or say --processes {config.world_size}: the batch is "
            f"then {config.world_size}/{run.processes} as large unless you change gradient_accumulation_steps."
        )
    if config.use_vllm and run.rollout != "host":
        mistakes.append("use_vllm is set, but the rollout is our own sampler's. Set rollout: host.")
    if config.eval_strategy != "no":
        mistakes.append(
            f"eval_strategy={str(config.eval_strategy)!r}: dsmooth train has no problems to evaluate on while it trains. Leave it out, and "
            f"use dsmooth sample and evaluate on the checkpoints."
        )
    if config.push_to_hub:
        mistakes.append(
            f"push_to_hub would write the model over the run's own files. Leave it out, and upload what is finished: hf upload OWNER/NAME "
            f"{config.output_dir}/model."
        )
    needed = [("vllm", config.use_vllm, "use_vllm"), ("peft", run.lora_r > 0, "lora_r")]
    needed += [(name, name in config.report_to, f"report_to={name}") for name in ("wandb", "trackio", "mlflow")]
    for package, wanted, option in needed:
        if wanted and find_spec(package) is None:
            said = f"{option} needs the package {package}, which is not installed here: pip install {package}."
            (mistakes if here or (package != "vllm" or _has_gpu()) else plan.unchecked).append(said)
    if not config.use_cpu and not _has_gpu():
        said = "This machine has no GPU."
        if here:
            plan.notes.append(f"{said} The training will be very slow unless the model is very small.")
        else:
            plan.unchecked.append(f"{said} What depends on one was not tried.")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


# --- model ---------------------------------------------------------------------------------------------------------


def _model(
    plan: Plan, run: RunArguments, config: DSGRPOConfig
) -> tuple[cost.Shape | None, int | None, PreTrainedTokenizerBase | None]:
    """The model's shape, the positions it has, and its tokenizer; None for what is not known."""
    shape = context = tokenizer = None
    try:
        name = resolve_model(run.model)
        loaded = hub.load_config(name, known=list(cost.PUBLISHED))
        context = getattr(loaded.get_text_config(), "max_position_embeddings", None)
        _architecture(plan, name, loaded)
        try:
            shape = cost.shape_of(loaded)
        except ValueError as error:
            plan.notes.append(f"{error} So memory and time are not estimated.")
        tokenizer = hub.load_tokenizer(name, known=list(cost.PUBLISHED))
        if not _tokenizer(plan, run, config, tokenizer, loaded):
            tokenizer = None
    except hub.Unreachable as error:
        plan.unchecked.append(f"{error} Not looked at: its tokenizer, chat template and the lengths of prompts.")
        if shape is None and (shape := cost.PUBLISHED.get(run.model)):
            context = shape.context
            plan.notes.append(f"The size of {run.model} is the published one, as written in this program.")
    except ValueError as error:
        plan.mistakes.append(str(error))
    if shape is None:
        plan.rows.append(("Model", run.model))
    else:
        trained = "all trained"
        if run.lora_r:
            trained = f"{cost.lora_parameters(shape, run.lora_r):,} more in a LoRA adapter of rank {run.lora_r} trained"
        plan.rows.append(
            (
                "Model",
                f"{run.model}: {shape.parameters:,} parameters, {trained}; {shape.layers} layers of width {shape.hidden}, "
                f"{shape.context:,} positions, {shape.vocabulary:,} tokens.",
            )
        )
    if config.use_cpu and not plan.mistakes:
        plan.rows.append(("Numbers", _number_format(run, config)))
    return shape, context, tokenizer


def _number_format(run: RunArguments, config: DSGRPOConfig) -> str:
    """In which number format the weights are on a CPU, and why."""
    asked = (config.model_init_kwargs or {}).get("dtype")
    if asked is not None or config.bf16:
        return f"Weights in {asked or 'float32'}{', products in bfloat16 (bf16: true)' if config.bf16 else ''}, as asked for."
    name = resolve_model(run.model)
    if frozen_dtype(run, config, name):
        return "Frozen weights in bfloat16, which this processor multiplies faster; the adapter in float32."
    if str(quick_dtype(name)) == "torch.bfloat16":
        return (
            "Weights in float32: they are trained, and bfloat16 would lose small steps. This processor multiplies bfloat16 faster: bf16: true "
            "casts for the products, lora_r freezes the weights."
        )
    return "Weights in float32."


def _architecture(plan: Plan, name: str, loaded: Any) -> None:
    kinds = loaded.architectures or []
    if not any(kind.endswith(("ForCausalLM", "ForConditionalGeneration")) for kind in kinds):
        plan.mistakes.append(
            f"{name!r} is no language model that can be trained: its config.json says architectures={kinds}, and one that ends in "
            f"ForCausalLM is needed."
        )
    folder = Path(name)
    if folder.is_dir() and not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        plan.mistakes.append(f"The folder {name!r} has a config but no weights (*.safetensors).")


def _tokenizer(plan: Plan, run: RunArguments, config: DSGRPOConfig, tokenizer: Any, loaded: Any) -> bool:
    """End of sequence and chat template: what would go wrong without an error, or with one that says little. Can prompts be made?"""
    ends = loaded.eos_token_id if isinstance(loaded.eos_token_id, list) else [loaded.eos_token_id]
    ends = {i for i in [*ends, tokenizer.eos_token_id] if i is not None}
    if tokenizer.eos_token_id is None:
        plan.mistakes.append(
            f"The tokenizer of {run.model!r} has no end-of-sequence token, so no completion would end. Set eos_token in its "
            f"tokenizer_config.json."
        )
    if not run.chat:
        return True
    if not tokenizer.chat_template:
        plan.mistakes.append(
            f"chat: true, but the tokenizer of {run.model!r} has no chat template: it is a base model's. Take the model's instruct "
            f"version, leave chat out, or put a template into the folder as chat_template.jinja."
        )
        return False
    probe, answer = [{"role": "user", "content": "Hello"}], "Certainly not"
    try:
        bare, prompt, whole = (
            _rendered(tokenizer, config, messages, generate)
            for messages, generate in (
                (probe, False),
                (probe, True),
                ([*probe, {"role": "assistant", "content": answer}], False),
            )
        )
    except Exception as error:
        plan.mistakes.append(f"The chat template of {run.model!r} fails on a plain question: {_said(error)}")
        return False
    at = whole.find(answer)
    # Templates such as Mistral's need no generation prompt: there the answer follows the question at once.
    if prompt == bare and at >= 0 and whole[: len(bare)] == bare and whole[len(bare) : at].strip():
        plan.mistakes.append(
            f"The chat template of {run.model!r} has no generation prompt: add_generation_prompt changes nothing, although an answer of the "
            f"assistant begins with {whole[len(bare) : at]!r}, so the model would have to write that first. Add to the template: "
            f"{{% if add_generation_prompt %}}...{{% endif %}}."
        )
    after = whole[at + len(answer) :].strip() if at >= 0 else ""
    closing = tokenizer.encode(after, add_special_tokens=False)[:1] if after else []
    if closing and closing[0] in tokenizer.all_special_ids and closing[0] not in ends:
        plan.notes.append(
            f"The chat template ends an answer with {tokenizer.decode(closing)!r}, and {run.model!r} stops at "
            f"{', '.join(repr(tokenizer.decode([i])) for i in sorted(ends))} unless its generation_config.json says more. Base models "
            f"do that; if completions run to their full length, this is why."
        )
    return True


def _rendered(tokenizer: Any, config: DSGRPOConfig, messages: Any, generate: bool = True) -> str:
    options = config.chat_template_kwargs or {}
    return tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=False, **options)


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# --- problems ------------------------------------------------------------------------------------------------------


def _problems(
    plan: Plan, run: RunArguments, config: DSGRPOConfig, tokenizer: Any, here: bool
) -> tuple[int | None, list[int]]:
    """How many problems there are, None if that is not known, and the lengths of prompts in tokens, 0 where they cannot be told."""
    try:
        task = run.make_task()
        looked = run
        if task.generated and not run.data_file:  # making them all can take minutes, and they are much alike
            looked = replace(run, problems=min(run.problems, LOOKED_AT))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            problems = looked.read_problems(task)
        if not here:  # the training will say them
            plan.notes += [str(warning.message) for warning in said if warning.category is UserWarning]
        prompts = [task.prompt(problem, chat=run.chat) for problem in problems]
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
    described = f"{count:,} of {run.task}" + (f" ({_short(run.task_options)})" if run.task_options else "")
    lengths = [0] * len(prompts)
    if tokenizer is not None:
        try:
            texts = [_rendered(tokenizer, config, p) if run.chat else p for p in prompts]
        except Exception as error:
            plan.mistakes.append(
                f"The chat template of {run.model!r} does not take this task's prompts, which have the roles "
                f"{', '.join(m['role'] for m in prompts[0])}: {_said(error)}"
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


def _lengths(plan: Plan, config: DSGRPOConfig, context: int | None, lengths: Sequence[int]) -> None:
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


def _steps(plan: Plan, run: RunArguments, config: DSGRPOConfig, count: int | None) -> int | None:
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


# --- cost ----------------------------------------------------------------------------------------------------------


def _cost(
    plan: Plan,
    run: RunArguments,
    config: DSGRPOConfig,
    shape: cost.Shape,
    lengths: Sequence[int],
    steps: int | None,
    gpu: cost.Gpu,
) -> None:
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


# --- what is left behind -------------------------------------------------------------------------------------------


def _output(plan: Plan, run: RunArguments, config: DSGRPOConfig, shape: cost.Shape | None) -> None:
    folder = Path(config.output_dir)
    state = "new"
    if (folder / "model").is_dir():
        state = "finished already: the command would only say so"
    elif list(folder.glob("checkpoint-*")):
        state = "begun: the command would go on from its last checkpoint"
    size = ""
    if shape is not None:
        trained = cost.lora_parameters(shape, run.lora_r) if run.lora_r else shape.parameters
        width = 4 if run.lora_r else placement_of(run, config).weight_bytes
        size = f" of {3 * width * trained / 1e9:.2g} GB"
    kept = f", {config.save_total_limit} kept" if config.save_total_limit else ", all kept"
    when = f"a checkpoint{size} every {config.save_steps:g} steps{kept}"
    if getattr(config.save_strategy, "value", config.save_strategy) != "steps":
        when = f"checkpoints{size} by {getattr(config.save_strategy, 'value', config.save_strategy)}{kept}"
    plan.rows.append(("Saved", f"{folder}/ ({state}): {when}; metrics.jsonl; at the end model/ with its card."))
    tests = (run.task_options or {}).get("test")
    named = "" if tests is None else f" on {tests if isinstance(tests, str) else ', '.join(tests)}"
    command = ["dsmooth", "sample", "--model", f"{folder}/model", "--task", run.task]
    if run.task_options:
        command += ["--task-options", json.dumps(run.task_options)]
    for flag, value, default in (("--numbers", run.numbers, 4), ("--max-number", run.max_number, 10)):
        command += [flag, str(value)] if value != default else []
    command += ["--chat"] if run.chat else []
    if run.chat and config.chat_template_kwargs:
        command += ["--chat-template-kwargs", json.dumps(config.chat_template_kwargs)]
    command += ["--top-p", f"{config.top_p:g}"] if config.top_p != 1 else []
    if config.use_vllm or config.top_p != 1:  # our own sampler, the default, is for small models and has no top_p
        command += ["--engine", "vllm" if config.use_vllm else "transformers"]
    command += ["--max-new-tokens", str(config.max_completion_length), "--temperature", f"{config.temperature:g}"]
    command += ["--output", f"{folder}.parquet"]
    plan.rows.append(
        (
            "Evaluated",
            f"While training: the reward of each step and sharpening/... from its groups. Afterwards{named}, not by itself: "
            f"{shlex.join(command)}",
        )
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
