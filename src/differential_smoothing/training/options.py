"""The options of a run: the trainer's, and those of ``RunArguments``, from flags and a config file, checked before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differential_smoothing.tasks import Task, make_task, read_options

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig


__all__ = ["RunArguments", "parse_config"]


@dataclass
class RunArguments:
    """The options of a config that are not the trainer's own: the model, the problems, the way to generate."""

    model: str = field(
        default="base",
        metadata={
            "help": "'base' or 'base:graph_color' (the shipped bases of Countdown and graph colouring), 'smollm2' (SmolLM2-135M-Instruct, from a "
            "package), a checkpoint folder, a GGUF file, or a Hub name."
        },
    )
    task: str = field(
        default="countdown",
        metadata={"help": "'countdown', 'math', or 'reasoning_gym:NAME' for a generator of reasoning-gym."},
    )
    task_options: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Options of the task, a mapping or JSON such as '{\"max_solutions\": 1}'."}
    )
    data_file: str | None = field(
        default=None,
        metadata={
            "help": "Problems to train on, .jsonl or .parquet with the task's columns (nums, target). Default: generated."
        },
    )
    problems: int = field(default=20_000, metadata={"help": "How many train problems to generate."})
    problems_seed: int = field(
        default=0, metadata={"help": "Seed of the generated problems, apart from the run's seed."}
    )
    chat: bool = field(default=False, metadata={"help": "Chat prompts with tagged answers, for language models."})
    rollout: str = field(
        default="shared_prefix",
        metadata={"help": "'shared_prefix': our sampler for small models. 'host': TRL's own generation, or vLLM."},
    )
    lora_r: int = field(default=0, metadata={"help": "Rank of a LoRA adapter on all linear layers; 0 trains all."})
    lora_last: int = field(
        default=0,
        metadata={
            "help": "The adapter is on so many last layers only; 0 is on all. The layers below need no backward pass, which saves most of its time."
        },
    )
    processes: int = field(
        default=0,
        metadata={
            "help": "How many processes, one per GPU, the config is made for; another number is refused. 0: any."
        },
    )
    monitor: bool = field(
        default=True,
        metadata={"help": "Log sharpening/... from the training groups and warn of a collapse. Changes no weight."},
    )

    snapshots: list[int] | None = field(
        default=None,
        metadata={
            "help": "Steps after which the weights are also kept, in snapshot-N/. Changes nothing in the training."
        },
    )

    def __post_init__(self):
        wrong = [step for step in self.snapshots or [] if not (isinstance(step, int) and step > 0)]
        if wrong:
            raise ValueError(f"snapshots must be whole steps of at least 1, got {wrong[0]!r}.")
        if self.rollout not in ("shared_prefix", "host"):
            raise ValueError(f"rollout must be 'shared_prefix' or 'host'; got {self.rollout!r}.")
        if self.lora_last < 0 or (self.lora_last and not self.lora_r):
            raise ValueError(
                f"lora_last={self.lora_last} is the number of layers that have the adapter of lora_r={self.lora_r}. Set lora_r too."
            )
        self.task_options = read_options(self.task_options)

    def make_task(self) -> Task:
        """The task with its options. ValueError names a wrong one."""
        return make_task(self.task, **(read_options(self.task_options) or {}))

    def read_problems(self, task: Task) -> list[Any]:
        """The problems to train on, from the file or the task. ValueError if the file holds none or something else."""
        if self.data_file:
            return task.training_problems(Path(self.data_file))
        return task.problems(self.problems, split="train", seed=self.problems_seed)


def parse_config(arguments: Sequence[str], *, elsewhere: bool = False) -> tuple[RunArguments, DSGRPOConfig]:
    """``["--config", "x.yaml", "--gamma_p", "0.3", ...]`` -> both argument groups; flags override the file.

    Every option of TRL's GRPOConfig is one, under its own name. ValueError names an unknown or unreadable option and
    the nearest known one. ``elsewhere``: the run is to be planned and not to be started here, so the GPUs that it needs may be
    missing, and ``processes`` is believed.
    """
    from trl import TrlParser

    from differential_smoothing.integrations.trl import DSGRPOConfig

    known = [f.name for f in (*fields(RunArguments), *fields(DSGRPOConfig)) if f.init]

    class Parser(TrlParser):
        def error(self, message: str) -> None:  # argparse would print every option of the trainer and exit
            raise ValueError(f"The options of the run cannot be read: {message}.")

    arguments = [part for argument in arguments for part in _split_config_flag(argument)]
    given = {argument[2:].split("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")}
    if arguments and not arguments[0].startswith("--"):
        raise ValueError(f"Options start with --, got {arguments[0]!r}. Did you mean --config {arguments[0]}?")
    for name in sorted(given - {"config"}):
        if name.removeprefix("no_") not in known:
            raise ValueError(f"Unknown option {'--' + name!r}.{_nearest(name, known)}")
    file: dict[str, Any] = {}
    if "--config" in arguments:
        at = arguments.index("--config")
        if at + 1 == len(arguments):
            raise ValueError("--config needs the path of a YAML file, for example configs/countdown_ds_grpo.yaml.")
        file = _config_file(Path(arguments[at + 1]), known)
        given |= set(file)
    if "output_dir" not in given:
        raise ValueError("Say where the run should live: --output_dir runs/mine, or output_dir in the config file.")
    kind = _elsewhere(DSGRPOConfig, _processes(arguments, file)) if elsewhere else DSGRPOConfig
    try:
        run, config = Parser((RunArguments, kind)).parse_args_and_config(arguments)
    except TypeError as error:
        raise ValueError(f"The options of the run cannot be read: a value has the wrong type ({error}).") from None
    except ValueError as error:
        if "divisible by" not in str(error):
            raise
        raise ValueError(
            f"{error} It is per_device_train_batch_size x gradient_accumulation_steps x processes, counted in completions, and "
            f"must hold whole groups of num_generations: with groups of 8, for example 4 x 16 x 1."
        ) from None
    return run, config


def _processes(given: Sequence[str], file: dict[str, Any]) -> int:
    """``processes`` of the flags or the file, before either is parsed; at least 1. The parser reports a value that is not a number."""
    flags = [part for argument in given for part in argument.split("=", 1)]
    wanted = dict(pairwise(flags)).get("--processes", file.get("processes", 1))
    return max(1, int(wanted)) if str(wanted).isdecimal() else 1


def _elsewhere(config: Any, processes: int) -> type[DSGRPOConfig]:
    """``config`` as it would be on a machine with GPUs, launched with so many processes."""
    import torch

    class Elsewhere(config):
        world_size = property(lambda self: processes)

        def __post_init__(self):
            use_cpu = self.use_cpu
            self.use_cpu = use_cpu or not torch.cuda.is_available()  # the host refuses bf16 without a GPU
            super().__post_init__()
            self.use_cpu = use_cpu

    return Elsewhere


def _split_config_flag(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--config=") else [argument]


def _config_file(path: Path, known: Sequence[str]) -> dict[str, Any]:
    """Read a config file only to check it; the host's parser reads it again."""
    import yaml

    if not path.is_file():
        raise ValueError(f"There is no config file {str(path)!r}. dsmooth configs writes examples into configs/.")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold lines of the form 'option: value'; got {type(content).__name__}.")
    text = ("model", "task", "data_file", "rollout", "level", "stage", "rule", "schedule", "density")
    numbers = ("gamma_p", "gamma_n", "correct_threshold")
    for key, value in content.items():
        if key not in known and key != "env":
            raise ValueError(f"{path} has an unknown option {key!r}.{_nearest(str(key), known)}")
        if value is None:
            raise ValueError(f"{path}: {key} has no value. Give it one or remove the line.")
        if (key in text and not isinstance(value, str)) or (key in numbers and isinstance(value, (list, dict))):
            raise ValueError(f"{path}: {key} must be {'text' if key in text else 'a number'}, got {value!r}.")
        if key == "task_options" and not isinstance(value, dict):
            raise ValueError(f"{path}: task_options must be a mapping, got {value!r}.")
    return content


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else " Options are those of RunArguments, DSGRPOConfig, GRPOConfig."
