"""One training run from one config: task, model, trainer, and a folder that can be interrupted and continued.

The folder of a run holds ``config.json`` (everything that defines it), ``metrics.jsonl`` (one line per logged step),
the trainer's ``checkpoint-N/``, and ``model/`` once it is finished. The same command continues an unfinished run from
its last whole checkpoint and leaves a finished one alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differential_smoothing.files import claim_folder, write_text
from differential_smoothing.sampling.memory import keep_freed_memory

from .models import frozen_dtype, lora, resolve_model
from .options import RunArguments

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig

__all__ = ["last_whole_checkpoint", "snapshot", "train"]


def train(run: RunArguments, config: DSGRPOConfig, *, on_step: Callable[[int, int], None] | None = None) -> Path:
    """Train, or continue training, into ``config.output_dir``; returns the folder of the trained model.

    ``on_step(step, max_steps)`` is called after each optimiser step. ValueError if the folder belongs to another run.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer

    from differential_smoothing.integrations.monitor import SharpeningMonitor
    from differential_smoothing.integrations.trl import DSGRPOTrainer, shared_prefix_rollout

    # TRL warns that rollout_func may change; our tests hold the contract, so the user need not read it
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    if config.use_cpu:
        keep_freed_memory()
    model, task = resolve_model(run.model), run.make_task()
    problems = run.read_problems(task)
    folder = Path(config.output_dir)
    finished = folder / "model"
    with ExitStack() as stack:
        if os.environ.get("RANK", "0") == "0":  # under torchrun the first process speaks for all
            stack.enter_context(claim_folder(folder, _definition(run, config)))
        if finished.is_dir():
            return finished
        rows = [{"prompt": task.prompt(p, chat=run.chat), **task.columns(p)} for p in problems]
        if (dtype := frozen_dtype(run, config, model)) is not None:
            config.model_init_kwargs = {**(config.model_init_kwargs or {}), "dtype": dtype}
        trainer = DSGRPOTrainer(
            model=model,
            args=config,
            reward_funcs=task.reward,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(model),
            rollout_func=shared_prefix_rollout if run.rollout == "shared_prefix" else None,
            peft_config=lora(model, run.lora_r, run.lora_last),
            callbacks=[_progress(folder, on_step)],
            canonical=task.canonical,
        )
        trainer.add_callback(_snapshots(trainer, folder, run.snapshots or []))
        if run.monitor:
            SharpeningMonitor(trainer, canonical=task.canonical)
        checkpoint = last_whole_checkpoint(folder)
        if checkpoint is not None and 0 < config.max_steps <= int(checkpoint.rpartition("-")[2]):
            trainer._load_from_checkpoint(
                checkpoint
            )  # stopped after its last step: to resume would train one step more
        else:
            trainer.train(resume_from_checkpoint=checkpoint)
        unfinished = folder / "model.unfinished"
        trainer.save_model(str(unfinished))
        trainer.create_model_card(model_name=folder.name)
        if trainer.is_world_process_zero():
            (folder / "README.md").replace(unfinished / "README.md")
            unfinished.rename(finished)
    return finished


def _definition(run: RunArguments, config: DSGRPOConfig) -> dict[str, Any]:
    """What makes two runs the same: all options but those that say where things are put or how often reported."""
    incidental = {
        "output_dir",
        "logging_dir",
        "run_name",
        "report_to",
        "disable_tqdm",
        "logging_steps",
        "log_level",
        "save_steps",
        "save_total_limit",
        "save_strategy",
        "logging_strategy",
        "log_completions",
        "hub_token",
        "num_completions_to_print",
        "resume_from_checkpoint",
        "dataloader_num_workers",
        "monitor",
        "snapshots",
    }
    return {k: v for k, v in {**config.to_dict(), **asdict(run)}.items() if k not in incidental}


def last_whole_checkpoint(folder: Path) -> str | None:
    """trainer_state.json is the last file a checkpoint gets: one without it was interrupted and is passed over."""
    whole: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        step = checkpoint.name.removeprefix("checkpoint-")
        try:
            state = json.loads((checkpoint / "trainer_state.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue
        if step.isdigit() and isinstance(state, dict) and "global_step" in state:
            whole[int(step)] = checkpoint
    return str(whole[max(whole)]) if whole else None


def _progress(folder: Path, on_step: Callable[[int, int], None] | None):
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """Keeps metrics.jsonl equal to the trainer's history, which survives an interruption in the checkpoint."""

        def on_log(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                lines = [json.dumps(entry) for entry in state.log_history]
                write_text(folder / "metrics.jsonl", "\n".join(lines) + "\n")

        def on_step_end(self, args, state, control, **kwargs):
            if on_step is not None:
                on_step(state.global_step, state.max_steps)

    return Progress()


def snapshot(folder: Path, step: int) -> Path:
    """Where a run keeps the weights it had after ``step``."""
    return folder / f"snapshot-{step}"


def _snapshots(trainer: Any, folder: Path, steps: Sequence[int]):
    from transformers import TrainerCallback

    class Snapshots(TrainerCallback):
        """Keeps the weights at the chosen steps, each folder whole or not at all. A step comes before its checkpoint, so a run that is
        continued from a checkpoint has all snapshots up to it."""

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step in steps:
                target = snapshot(folder, state.global_step)
                partial = target.with_name(target.name + ".partial")
                trainer.save_model(str(partial), _internal_call=True)  # nothing is pushed to the Hub
                trainer.accelerator.wait_for_everyone()
                if state.is_world_process_zero:
                    if target.exists():  # of a run that was interrupted between this step and its next checkpoint
                        shutil.rmtree(target)
                    partial.rename(target)

    return Snapshots()
