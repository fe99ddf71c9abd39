"""One training run from one config: task, model, trainer, and a folder that can be interrupted and continued.

The folder of a run holds ``config.json`` (everything that defines it), ``metrics.jsonl`` (one line per logged step),
the trainer's ``checkpoint-N/``, and ``model/`` once it is finished. The same command continues an unfinished run from
its last whole checkpoint and leaves a finished one alone.
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differential_smoothing.sampling.memory import keep_freed_memory
from differential_smoothing.sampling.number_format import quick_dtype
from differential_smoothing.tasks import Task, configured_task, read_options
from differential_smoothing.training.base_model import SHIPPED_BASES
from differential_smoothing.training.packaged import checkpoint_of_gguf, find_gguf

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig

__all__ = ["RunArguments", "parse_config", "resolve_model", "snapshot", "train"]


@dataclass
class RunArguments:
    """What a config says beside the trainer's own options: the model, the problems, the way to generate."""

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
    numbers: int = field(default=4, metadata={"help": "Countdown: how many numbers a generated problem has."})
    max_number: int = field(default=10, metadata={"help": "Countdown: numbers are drawn from 1 to this."})
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
        return configured_task(self.task, self.task_options, numbers=self.numbers, max_number=self.max_number)

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
    """``processes`` of the flags or the file, before either is parsed; at least 1. The parser complains of one that is no number."""
    flags = [part for argument in given for part in argument.split("=", 1)]
    said = dict(pairwise(flags)).get("--processes", file.get("processes", 1))
    return max(1, int(said)) if str(said).isdecimal() else 1


def _elsewhere(config: type[DSGRPOConfig], processes: int) -> type[DSGRPOConfig]:
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


def resolve_model(model: str) -> str:
    """The folder or Hub name behind ``model``: ``base`` and ``base:graph_color`` are the shipped ones, a GGUF file becomes a folder.

    ValueError if a folder has no model.
    """
    if model in SHIPPED_BASES:
        return str(SHIPPED_BASES[model])
    if (gguf := find_gguf(model)) is not None:
        return str(checkpoint_of_gguf(gguf))
    folder = Path(model)
    if folder.is_dir() and not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{model!r} is a folder without config.json, so it holds no model. A run's trained model is in its "
            f"'model' folder, its checkpoints in 'checkpoint-N'."
        )
    if not folder.exists() and (model.startswith((".", "/", "~")) or model.count("/") > 1):
        raise ValueError(f"There is no model folder {model!r}. Give a folder, 'base', or a Hub name 'owner/model'.")
    return model


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
            peft_config=_lora(model, run.lora_r, run.lora_last),
            callbacks=[_progress(folder, on_step)],
            canonical=task.canonical,
        )
        trainer.add_callback(_snapshots(trainer, folder, run.snapshots or []))
        if run.monitor:
            SharpeningMonitor(trainer, canonical=task.canonical)
        checkpoint = _last_whole_checkpoint(folder)
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


def frozen_dtype(run: RunArguments, config: DSGRPOConfig, model: str) -> str | None:
    """``"bfloat16"`` where an adapter is trained on a CPU over weights that are quicker so: see ``number_format``. None: the host's, float32.

    Weights that are trained themselves stay in float32: bfloat16 has 8 bits, and a step smaller than 1/256 of a weight would be lost.
    """
    import torch

    on_cpu = config.use_cpu or not config.n_gpu
    chosen = "dtype" in (config.model_init_kwargs or {}) or config.bf16
    return "bfloat16" if run.lora_r and on_cpu and not chosen and quick_dtype(model) == torch.bfloat16 else None


#: Options that older versions did not know, with the default that means what those versions did. At their default they
#: are no part of what a run or a study is, so its old folder is still its own.
ADDED_LATER = [
    ("task", "countdown"),
    ("task_options", None),
    ("rule", "grpo"),
    ("rule_options", None),
    ("schedule", "constant"),
    ("relative", False),
    ("relative_floor", 0.2),
    ("density", "old"),
    ("base_weight", 1.0),
    ("variety_target", None),
    ("share_prompts", False),
    ("processes", 0),
    ("lora_last", 0),
    ("engine", "shared_prefix"),
    ("engine_options", None),
    # a run has options of these names, TRL's, that always were part of it
    ("evaluation.top_p", 1.0),
    ("selection.top_p", 1.0),
    ("evaluation.chat_template_kwargs", None),
    ("selection.chat_template_kwargs", None),
]


@contextmanager
def claim_folder(
    folder: Path,
    definition: dict[str, Any],
    *,
    adopt: bool = False,
    open_to_change: tuple[str, ...] = (),
    may_grow: tuple[str, ...] = (),
) -> Iterator[None]:
    """Hold ``folder`` as the home of what ``definition`` defines, alone, while the block runs.

    ``adopt`` takes a folder over that has no config.json although it is not empty. Keys that begin with one of ``open_to_change`` may
    differ from what the folder was, and are changed. Keys that begin with one of ``may_grow`` may be
    added or taken out; one that stays must keep its value. ValueError if it is another's, if something else is in it, or if another process is at
    work in it.
    """
    path, lock = folder / "config.json", folder / "lock"
    own = {path.name, path.name + ".partial", lock.name}  # a folder with no more than these holds no work yet
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Choose another output folder.")
    others = sorted(p.name for p in folder.iterdir() if p.name not in own) if folder.is_dir() else []
    if others and not path.is_file() and not adopt:
        raise ValueError(
            f"{folder} holds {others[0]!r} and was not made by dsmooth (it has no config.json). Nothing was changed. "
            f"Choose another output folder."
        )
    definition = _flat(json.loads(json.dumps(definition, default=str)))
    definition = {k: v for k, v in definition.items() if not _added_later(k, v, definition)}
    existing = definition
    if path.is_file() and others:
        try:
            existing = dict(json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise ValueError(
                f"{path} cannot be read as a run's config. Nothing was changed. Choose another folder."
            ) from None
    keys = (k for k in {*existing, *definition} if not k.startswith(open_to_change))
    grown = {k for k in {*existing} ^ {*definition} if k.startswith(may_grow)}
    kept = {k: existing[k] for k in grown if k in existing}  # what was taken out comes back as it was, or not at all
    differing = sorted(k for k in keys if existing.get(k) != definition.get(k) and k not in grown)
    if differing:
        name = differing[0]
        raise ValueError(
            f"{folder} belongs to another run: it differs in {', '.join(differing[:5])} ({name} is "
            f"{existing.get(name)!r:.80} there and {definition.get(name)!r:.80} here). Nothing was changed. Choose "
            f"another output folder, or delete this one to start over."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another process is at work in {folder}. Wait until it is done or stop it, then run this again."
            ) from None
        write_atomically(path, json.dumps({**kept, **definition}, indent=1, sort_keys=True) + "\n")
        yield


def _added_later(key: str, value: Any, definition: dict[str, Any]) -> bool:
    def overrides(name: str) -> bool:  # one model's default in a study whose other models have something else
        return key.startswith("models.") and f"common.{name}" in definition

    return any(
        value == default and f".{key}".endswith(f".{name}") and not overrides(name) for name, default in ADDED_LATER
    )


def _flat(definition: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"models": {"grpo": {"level": "sum"}}}`` -> ``{"models.grpo.level": "sum"}``: a difference has a short name."""
    flat: dict[str, Any] = {}
    for key, value in definition.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that an interruption leaves the old content or the new, never half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


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


def _last_whole_checkpoint(folder: Path) -> str | None:
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
                write_atomically(folder / "metrics.jsonl", "\n".join(lines) + "\n")

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


def _lora(model: str, rank: int, last: int):
    if not rank:
        return None
    from peft import LoraConfig

    options = {"r": rank, "lora_alpha": 2 * rank, "task_type": "CAUSAL_LM"}
    if not last:
        return LoraConfig(target_modules="all-linear", **options)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    layers = config.get_text_config().num_hidden_layers
    if last > layers:
        raise ValueError(f"lora_last={last} is more than the {layers} layers of {model}.")
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    linear = {name for name, module in network.base_model.named_modules() if isinstance(module, torch.nn.Linear)}
    names = sorted({name.rpartition(".")[2] for name in linear})
    return LoraConfig(target_modules=names, layers_to_transform=list(range(layers - last, layers)), **options)
