"""One training run from one config: task, model, trainer, and a folder that can be interrupted and continued.

The folder of a run holds ``config.json`` (everything that defines it), ``metrics.jsonl`` (one line per logged step),
``checkpoint-N/`` while it runs, and ``model/`` once it is finished. The same command continues an unfinished run from
its last whole checkpoint and leaves a finished one alone.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differential_smoothing.base_model import SHIPPED_BASE
from differential_smoothing.tasks import countdown

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig

__all__ = ["RunArguments", "parse_config", "resolve_model", "train"]


@dataclass
class RunArguments:
    """What a config says beside the trainer's own options: the model, the problems, the way to generate."""

    model: str = field(
        default="base",
        metadata={"help": "'base' (the shipped Countdown base), a checkpoint folder, or a Hub name."},
    )
    data_file: str | None = field(
        default=None,
        metadata={
            "help": "Problems to train on, .jsonl or .parquet with nums and target. Default: generated ones."
        },
    )
    problems: int = field(default=20_000, metadata={"help": "How many train problems to generate."})
    problems_seed: int = field(
        default=0, metadata={"help": "Seed of the generated problems, apart from the run's seed."}
    )
    numbers: int = field(default=4, metadata={"help": "How many numbers a generated problem has."})
    max_number: int = field(default=10, metadata={"help": "Numbers are drawn from 1 to this."})
    chat: bool = field(
        default=False, metadata={"help": "Chat prompts with tagged answers, for language models."}
    )
    rollout: str = field(
        default="shared_prefix",
        metadata={
            "help": "'shared_prefix': our sampler for small models. 'host': TRL's own generation, or vLLM."
        },
    )
    lora_r: int = field(
        default=0, metadata={"help": "Rank of a LoRA adapter on all linear layers; 0 trains all."}
    )

    def __post_init__(self):
        if self.rollout not in ("shared_prefix", "host"):
            raise ValueError(f"rollout must be 'shared_prefix' or 'host'; got {self.rollout!r}.")


def parse_config(arguments: Sequence[str]) -> tuple[RunArguments, DSGRPOConfig]:
    """``["--config", "x.yaml", "--gamma_p", "0.3", ...]`` -> both argument groups; flags override the file.

    Every option of TRL's GRPOConfig is one, under its own name. ValueError names an unknown or unreadable option and
    the nearest known one.
    """
    import yaml
    from trl import TrlParser

    from differential_smoothing.integrations.trl import DSGRPOConfig

    known = [f.name for f in (*fields(RunArguments), *fields(DSGRPOConfig)) if f.init]

    class Parser(TrlParser):
        def error(self, message: str) -> None:  # argparse would print every option of the trainer and exit
            raise ValueError(f"The options of the run cannot be read: {message}.")

    arguments = list(arguments)
    if "--config" in arguments:
        at = arguments.index("--config")
        if at + 1 == len(arguments):
            raise ValueError(
                "--config needs the path of a YAML file, for example configs/countdown_ds_grpo.yaml."
            )
        path = Path(arguments[at + 1])
        if not path.is_file():
            raise ValueError(
                f"There is no config file {str(path)!r}. The repository has examples in configs/."
            )
        try:
            content = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not readable as YAML: {' '.join(str(error).split())}.") from None
        if not isinstance(content, dict):
            raise ValueError(
                f"{path} must hold lines of the form 'option: value'; got {type(content).__name__}."
            )
        for key in content:
            if key not in known and key != "env":
                raise ValueError(f"{path} has an unknown option {key!r}.{_nearest(str(key), known)}")
    for argument in arguments:
        name = argument[2:].split("=")[0].replace("-", "_")
        if argument.startswith("--") and name != "config" and name.removeprefix("no_") not in known:
            raise ValueError(f"Unknown option {argument!r}.{_nearest(name, known)}")
    run, config = Parser((RunArguments, DSGRPOConfig)).parse_args_and_config(arguments)
    return run, config


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f" Did you mean {close[0]!r}?"
        if close
        else " Options are those of RunArguments, DSGRPOConfig, GRPOConfig."
    )


def resolve_model(model: str) -> str:
    """The folder or Hub name behind ``model``: ``base`` is the shipped one. ValueError if a folder has no model."""
    if model == "base":
        return str(SHIPPED_BASE)
    folder = Path(model)
    if (
        folder.is_dir()
        and not (folder / "config.json").is_file()
        and not (folder / "adapter_config.json").is_file()
    ):
        raise ValueError(
            f"{model!r} is a folder without config.json, so it holds no model. A run's trained model is in its "
            f"'model' folder, its checkpoints in 'checkpoint-N'."
        )
    if not folder.exists() and (model.startswith((".", "/", "~")) or model.count("/") > 1):
        raise ValueError(
            f"There is no model folder {model!r}. Give a folder, 'base', or a Hub name 'owner/model'."
        )
    return model


def train(
    run: RunArguments, config: DSGRPOConfig, *, on_step: Callable[[int, int], None] | None = None
) -> Path:
    """Train, or continue training, into ``config.output_dir``; returns the folder of the trained model.

    ``on_step(step, max_steps)`` is called after each optimiser step. ValueError if the folder belongs to another run.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer

    from differential_smoothing.integrations.trl import DSGRPOTrainer, shared_prefix_rollout

    # TRL warns that rollout_func may change; our tests hold the contract, so the user need not read it
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    model = resolve_model(run.model)
    if run.data_file:
        problems = countdown.read_problems(Path(run.data_file))
    else:
        problems = countdown.generate(
            run.problems,
            split="train",
            seed=run.problems_seed,
            numbers=run.numbers,
            max_number=run.max_number,
        )
    folder = Path(config.output_dir)
    if os.environ.get("RANK", "0") == "0":  # under torchrun the first process speaks for all
        claim_folder(folder, _definition(run, config))
    finished = folder / "model"
    if finished.is_dir():
        return finished

    rows = [
        {"prompt": countdown.prompt(p, chat=run.chat), "nums": list(p.nums), "target": p.target}
        for p in problems
    ]
    trainer = DSGRPOTrainer(
        model=model,
        args=config,
        reward_funcs=countdown.countdown_correct,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
        rollout_func=shared_prefix_rollout if run.rollout == "shared_prefix" else None,
        peft_config=_lora(run.lora_r),
        callbacks=[_progress(folder, on_step)],
    )
    trainer.train(resume_from_checkpoint=_last_whole_checkpoint(folder))
    if trainer.is_world_process_zero():
        unfinished = folder / "model.unfinished"
        trainer.save_model(str(unfinished))
        unfinished.rename(finished)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    return finished


def claim_folder(folder: Path, definition: dict[str, Any]) -> None:
    """Make ``folder`` the home of what ``definition`` defines, or check that it is. ValueError if it is another's."""
    path = folder / "config.json"
    definition = json.loads(json.dumps(definition, default=str))
    if path.is_file():
        try:
            existing = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(
                f"{path} cannot be read as JSON. Choose another folder, or delete this one."
            ) from None
        differing = sorted(k for k in {*existing, *definition} if existing.get(k) != definition.get(k))
        if differing:
            name = differing[0]
            raise ValueError(
                f"{folder} belongs to another run: it differs in {', '.join(differing[:5])} "
                f"({name} is {existing.get(name)!r} there and {definition.get(name)!r} here). Nothing was changed. "
                f"Choose another output folder, or delete this one to start over."
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and was not made by dsmooth (it has no config.json). Nothing was changed. "
            f"Choose another output folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(definition, indent=1, sort_keys=True) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that an interruption leaves the old content or the new, never half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def _definition(run: RunArguments, config: DSGRPOConfig) -> dict[str, Any]:
    """What makes two runs the same: all options but those that say where things are put or how often reported."""
    incidental = {
        "output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "logging_steps", "log_level",
        "save_steps", "save_total_limit", "hub_token", "resume_from_checkpoint", "dataloader_num_workers",
    }  # fmt: skip
    plain = {k: v for k, v in config.to_dict().items() if k not in incidental}
    return {"run": asdict(run), **plain}


def _last_whole_checkpoint(folder: Path) -> str | None:
    """trainer_state.json is the last file a checkpoint gets, so one without it was interrupted, and is removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
            whole.append(checkpoint)
        except (OSError, json.JSONDecodeError):
            shutil.rmtree(checkpoint)
    return str(max(whole, key=lambda c: int(c.name.rpartition("-")[2]))) if whole else None


def _progress(folder: Path, on_step: Callable[[int, int], None] | None):
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """Keeps metrics.jsonl equal to the trainer's history, which survives an interruption in the checkpoint."""

        def on_log(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                lines = [json.dumps(entry) for entry in state.log_history]
                write_atomically(folder / "metrics.jsonl", "\n".join(lines) + "\n")

        def on_step_end(self, args, state, control, **kwargs):
            if on_step is not None:
                on_step(state.global_step, state.max_steps)

    return Progress()


def _lora(rank: int):
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
