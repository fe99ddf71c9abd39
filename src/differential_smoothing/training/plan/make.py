"""What a configured training will do and cost, and every mistake in it that can be found without the weights.

Three kinds of findings, each a line for a person: a *mistake* is certain, and the run would fail or do something else than its config states;
*unchecked* is what could not be looked at from here (no network, no GPU); a *note* is what may be meant but often is not. ``dsmooth
train`` looks for mistakes before every training, ``--dry-run`` prints the whole plan.
"""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from differential_smoothing.integrations.card import in_words
from differential_smoothing.tasks import read_options
from differential_smoothing.training import RunArguments, cost

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig
from .estimate import estimate, placement_of
from .model import look_at_model
from .page import Plan
from .problems import look_at_lengths, look_at_problems, look_at_steps

__all__ = ["make_plan"]


def make_plan(run: RunArguments, config: DSGRPOConfig, *, here: bool, gpu: cost.Gpu = cost.H100) -> Plan:
    """Look at everything but the weights.

    Args:
        here: the run is about to start in this process: what this machine lacks (vLLM, other processes) is a mistake. Otherwise it is
            only noted, since the training may be meant for another machine.
        gpu: what memory and time are estimated for.
    """
    plan = Plan()
    _options(plan, run, config, here)
    shape, context, tokenizer = look_at_model(plan, run, config)
    plan.rows.append(("Rule", in_words(config)))
    count, lengths = look_at_problems(plan, run, config, tokenizer, here)
    look_at_lengths(plan, config, context, lengths)
    steps = look_at_steps(plan, run, config, count)
    if shape is not None:
        estimate(plan, run, config, shape, lengths, steps, gpu)
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
            message = f"{option} needs the package {package}, which is not installed here: pip install {package}."
            (mistakes if here or (package != "vllm" or _has_gpu()) else plan.unchecked).append(message)
    if not config.use_cpu and not _has_gpu():
        message = "This machine has no GPU."
        if here:
            plan.notes.append(f"{message} The training will be very slow unless the model is very small.")
        else:
            plan.unchecked.append(f"{message} Checks that need one were skipped.")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


# --- what is left behind -------------------------------------------------------------------------------------------


def _output(plan: Plan, run: RunArguments, config: DSGRPOConfig, shape: cost.Shape | None) -> None:
    folder = Path(config.output_dir)
    state = "new"
    if (folder / "model").is_dir():
        state = "finished already: the command would only say so"
    elif list(folder.glob("checkpoint-*")):
        state = "begun: the command would resume from its last checkpoint"
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
    tests = (read_options(run.task_options) or {}).get("test")
    named = "" if tests is None else f" on {tests if isinstance(tests, str) else ', '.join(tests)}"
    command = ["dsmooth", "sample", "--model", f"{folder}/model", "--task", run.task]
    if run.task_options:
        command += ["--task-options", json.dumps(run.task_options)]
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
