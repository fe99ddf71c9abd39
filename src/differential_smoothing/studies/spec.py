"""What a study is: rules trained from one base with one budget, sampled on the same problems, compared.

A study is a small YAML file (``data/quickstart.yaml`` is one):

    common:                        # options of every run, those of `dsmooth train`
      max_steps: 400
      learning_rate: 3.0e-5
    models:                        # name -> what differs; null = sampled without training
      base: null
      grpo: {}
      ds_grpo: {gamma_p: 0.2}
    seeds: [0]                     # one training run per model and seed
    baseline: grpo                 # the others are compared to it, on the same problems
    evaluation: {split: test, problems: 500, samples: 64, seed: 0}

The base is ``common``'s ``model``; ``chat`` and the longest completion are those of training
unless ``evaluation`` sets them, and so are ``task`` and ``task_options``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from differential_smoothing.sampling import ENGINES, make_engine
from differential_smoothing.tasks import make_task, read_options

__all__ = ["Cell", "Evaluation", "Study", "check_seeds", "make_evaluation", "make_study", "read_yaml"]


class Cell(NamedTuple):
    """One training run and its samples, or only samples where ``options`` is None."""

    model: str
    seed: int
    options: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        return f"{self.model}-seed{self.seed}"


_MAPPINGS = ("task_options", "engine_options", "chat_template_kwargs")


@dataclass(frozen=True)
class Evaluation:
    """Which problems every model is sampled on, and how."""

    split: str = "test"
    problems: int = 500
    samples: int = 64
    seed: int = 0
    temperature: float = 1.0
    max_completion_length: int = 24
    chat: bool = False
    task: str = "countdown"
    task_options: Mapping[str, Any] | None = None
    top_p: float = 1.0
    engine: str = "shared_prefix"
    engine_options: Mapping[str, Any] | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    def make_task(self):
        """The task that the models are sampled on. ValueError names a wrong option."""
        return make_task(self.task, **(self.task_options or {}))

    def check(self, base: str, cell: Cell) -> None:
        """ValueError if the cell's model could not be sampled so, as far as that can be known before it is trained."""
        self.make_task()
        engine = make_engine(self.engine, base, self.engine_options)
        engine.check(top_p=self.top_p)
        if cell.options is not None and engine.elsewhere:
            raise ValueError(
                f"evaluation: the engine {self.engine!r} draws from the model that a server has, and not from those that the study "
                f"trains. Take engine 'vllm', or sample each finished model with dsmooth sample."
            )
        if (cell.options or {}).get("lora_r") and not engine.takes_adapters:
            raise ValueError(
                f"evaluation: {cell.model} trains an adapter (lora_r), and the engine {self.engine!r} takes whole models. Take engine "
                f"'transformers'."
            )

    def __post_init__(self):
        for name in _MAPPINGS:
            object.__setattr__(self, name, read_options(getattr(self, name), name))
        if self.engine not in ENGINES:
            raise ValueError(f"evaluation: there is no engine {self.engine!r}. Known: {', '.join(ENGINES)}.")
        for f in fields(self):
            if f.name in _MAPPINGS:
                continue
            value = getattr(self, f.name)
            allowed = {"str": str, "int": int, "float": (int, float), "bool": bool}[f.type]
            if not isinstance(value, allowed) or (isinstance(value, bool) and f.type != "bool"):
                raise ValueError(f"evaluation: {f.name} must be of type {f.type}, got {value!r}.")
        if self.split not in ("train", "dev", "test"):
            raise ValueError(f"evaluation: split must be train, dev or test, got {self.split!r}.")
        least = {"problems": 1, "samples": 1, "seed": 0, "max_completion_length": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"evaluation: {name} must be at least {smallest}, got {getattr(self, name)}.")
        if not self.temperature > 0:
            raise ValueError(f"evaluation: temperature must be above 0, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"evaluation: top_p must be above 0 and at most 1, got {self.top_p}.")


@dataclass(frozen=True)
class Study:
    """The content of a study file; see the module's docstring."""

    models: Mapping[str, Mapping[str, Any] | None]
    common: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    baseline: str = "grpo"
    evaluation: Evaluation = field(default_factory=Evaluation)

    @property
    def base(self) -> str:
        """The model that every run starts from, and that a model without options is."""
        return self.common.get("model", "base")

    def evaluations(self, cell: Cell) -> dict[str, Evaluation]:
        """What the cell's model is sampled on, by name. A study of models has one evaluation."""
        return {"evaluation": self.evaluation}

    def base_of(self, cell: Cell) -> str:
        """The model that ``cell`` starts from."""
        return self.base

    def steps(self, cell: Cell) -> tuple[int, ...]:
        """The steps before its last one after which the cell's model is sampled too."""
        return ()

    def definition(self) -> dict[str, Any]:
        """What makes two studies the same, so that one continues the other's folder."""
        return asdict(self)

    def check_finished(self, folder: Path, cell: Cell) -> None:
        """ValueError if a finished ``cell`` of the folder was made with other options. A study's definition has been compared already."""

    def note_cell(self, folder: Path, cell: Cell) -> None:
        """Write what ``cell`` was made with. Here the folder's definition has it."""

    def result(self, folder: Path, cell: Cell) -> Path:
        """The file that a finished cell leaves: a rollouts table."""
        return folder / "rollouts" / f"{cell.name}.parquet"

    def cells(self) -> list[Cell]:
        """Trained cells first, seed by seed, so that an unfinished study has whole pairs; samples-only ones last."""
        trained = [
            Cell(name, seed, {**self.common, **options, "seed": seed})
            for seed in self.seeds
            for name, options in self.models.items()
            if options is not None
        ]
        return trained + [Cell(name, 0, None) for name, options in self.models.items() if options is None]


def make_study(path: Path, content: Any, **changes: Any) -> Study:
    """A study from what its file holds, ``changes`` replacing its top-level entries. ValueError names the fault."""
    expected = {"common": dict, "models": dict, "seeds": list, "baseline": str, "evaluation": dict}
    if not isinstance(content, dict) or not content.get("models") or set(content) - set(expected):
        raise ValueError(
            f"{path} is not a study. Expected the entries {', '.join(expected)}, with models a mapping from a name to "
            f"the options of its training; got {list(content) if isinstance(content, dict) else content!r}."
        )
    content = {**content, **changes}
    for name, kind in expected.items():
        if name in content and not isinstance(content[name], kind):
            raise ValueError(f"{path}: {name} must be a {kind.__name__}, got {content[name]!r}.")
    for name, options in content["models"].items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
            raise ValueError(f"{path}: a model's name is letters, digits and _ . + -, and names folders; got {name!r}.")
        if not (options is None or isinstance(options, dict)):
            raise ValueError(f"{path}: {name} needs a mapping of options ({{}} for none) or null; got {options!r}.")
    seeds = check_seeds(path, content.get("seeds", [0]))
    settings = make_evaluation(path, "evaluation", content.get("evaluation", {}), content.get("common", {}))
    study = Study(**{**content, "seeds": seeds, "evaluation": settings})
    if study.baseline not in study.models:
        raise ValueError(f"{path}: baseline {study.baseline!r} is not one of the models {', '.join(study.models)}.")
    return study


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; ValueError if there is none or it cannot be read."""
    import yaml

    if not path.is_file():
        raise ValueError(f"There is no study file {str(path)!r}. benchmarks/ and the package's data/ hold examples.")
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as YAML: {' '.join(str(error).split())}.") from None


def check_seeds(path: Path, seeds: list) -> tuple[int, ...]:
    """``seeds`` as a tuple; ValueError unless they are different whole numbers >= 0."""
    if not seeds or not all(type(s) is int and s >= 0 for s in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path}: seeds must be different whole numbers >= 0, at least one; got {seeds!r}.")
    return tuple(seeds)


def make_evaluation(path: Path, name: str, options: Mapping[str, Any], training: Mapping[str, Any]) -> Evaluation:
    """The entry ``name`` of a study file, with the problem settings of the ``training`` options where it has none."""
    known = [f.name for f in fields(Evaluation)]
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"{path}: {name} has an unknown entry {unknown[0]!r}. It knows {', '.join(known)}.")
    inherited = ("task", "task_options", "max_completion_length", "chat", "chat_template_kwargs")
    try:
        return Evaluation(**{k: training[k] for k in inherited if k in training} | dict(options))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
