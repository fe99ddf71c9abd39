"""The tables of the paper (arXiv 2511.19942) as studies: what is trained, what it costs, and where the numbers come from.

A table is a study file in ``data/`` with six entries more. ``sources``: option -> where its value comes from, which a base may change. ``bases``: the models that the whole study is done with, and what differs
for each. ``control``: the baseline is trained again at these times its learning rate, as models of their own, because a lower learning rate
alone keeps variety. ``claims``: the paper's claims, in words. ``scales``: changes under a name, for ``--scale``. Everything else is
``study``'s: every base is one study in a folder of its own, resumable cell by cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from differential_smoothing.studies.cell import run_arguments
from differential_smoothing.studies.spec import Study, make_study, read_yaml

if TYPE_CHECKING:
    from differential_smoothing.training.cost import Gpu, Range

__all__ = ["TABLES", "Paper", "Setting", "costs", "read_paper"]

#: Name of a table -> its file.
TABLES = {name: Path(__file__).parents[1] / "data" / f"paper_{name}.yaml" for name in ("math", "countdown", "f_grpo")}
PROMPT = 256  # tokens that a prompt is taken to have where costs are estimated


class Setting(NamedTuple):
    """One setting of a base's protocol: the option, its value, and where the value comes from."""

    option: str
    value: Any
    source: str


@dataclass(frozen=True)
class Paper:
    """One study per base model, what the paper claims of the table, in words, and each base's protocol with its sources."""

    table: str
    studies: Mapping[str, Study]
    claims: Sequence[str]
    protocol: Mapping[str, Sequence[Setting]]


def read_paper(table: str, *, model: str = "", scale: str = "", changes: Sequence[str] = ()) -> Paper:
    """The studies of a table of the paper.

    Args:
        model: one of the table's bases, by its name here or on the Hub; or any other folder or Hub name, which then takes their place.
        scale: changes under this name in the table's file, such as ``tiny``.
        changes: ``key=value``, the value as in YAML, applied last. ``max_steps=4`` is an option of every training, ``evaluation.samples=16`` one of
            the evaluation, ``models.ds_grpo.gamma_p=0.1`` one of a model, ``task_options.folder=data`` one of the task; ``seeds=[0]`` and
            ``control=[0.5]`` are entries of the file.

    ValueError names an unknown table, scale or change.
    """
    if table not in TABLES:
        raise ValueError(f"--table must be one of {', '.join(TABLES)}; got {table!r}.")
    path = TABLES[table]
    content = read_yaml(path)
    bases, scales = content.pop("bases"), content.pop("scales")
    claims, sources = content.pop("claims"), content.pop("sources")
    if scale:
        if scale not in scales:
            raise ValueError(f"--scale must be one of {', '.join(scales)}; got {scale!r}.")
        content = _merged(content, scales[scale])
    if model:
        named = {name: base for name, base in bases.items() if model in (name, base["model"])}
        bases = named or {_slug(model): {"model": model}}
    studies, protocol = {}, {}
    for name, base in bases.items():
        base = dict(base)
        own_sources, own_models = base.pop("sources", {}), base.pop("models", {})
        of_scale = scales.get(scale, {}).get("common", {})
        common = _merged(_merged(content["common"], base), {k: v for k, v in of_scale.items() if k in base})
        chosen = {**content, "common": common, "models": _merged(content["models"], own_models)}
        for change in changes:
            chosen = _changed(chosen, change)
        factors = chosen["control"]
        studies[name] = make_study(path, _controlled(path, chosen))
        protocol[name] = [
            Setting(option, factors if option == "control" else _value(studies[name], option), source)
            for option, source in {**sources, **own_sources}.items()
        ]
    return Paper(table, studies, claims, protocol)


def _value(study: Study, option: str) -> Any:
    """The value of a dotted option; prompts of a generation and of an update are made of the batch sizes. None where there is none."""
    common = study.common
    if option in ("generation_prompts", "update_prompts"):
        accumulated = common["gradient_accumulation_steps"]
        rounds = common.get("steps_per_generation", accumulated) if option == "generation_prompts" else accumulated
        completions = common["processes"] * common["per_device_train_batch_size"] * rounds
        return completions // common["num_generations"]
    first, _, rest = option.partition(".")
    whole = {"models": study.models, "evaluation": asdict(study.evaluation), "seeds": list(study.seeds)}
    found: Any = whole[first] if first in whole else common.get(first)
    for key in rest.split(".") if rest else ():
        found = (found or {}).get(key)
    return found


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", Path(model).name).lstrip(".-") or "model"


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``other`` over ``one``, mappings within mappings too."""
    both = {
        key: _merged(one[key], value) if isinstance(value, dict) and isinstance(one.get(key), dict) else value
        for key, value in other.items()
    }
    return {**one, **both}


def _changed(content: dict[str, Any], change: str) -> dict[str, Any]:
    import yaml

    key, equals, text = change.partition("=")
    if not (equals and re.fullmatch(r"\w+(\.[\w+-]+)*", key)):
        raise ValueError(f"--set is 'key=value', as in max_steps=4 or evaluation.samples=16; got {change!r}.")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {key}: {text!r} cannot be read as YAML ({' '.join(str(error).split())}).") from None
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        value = float(value)  # YAML reads 1e-4 as text
    names = key.split(".")
    if names == ["common"] or (len(names) == 1 and isinstance(content.get(key), dict)):
        raise ValueError(f"--set {key}: name one option of it, as in max_steps=4 or evaluation.samples=16.")
    if names[0] not in content or names[0] in ("common", "baseline"):
        names = ["common", *(names[1:] if names[0] == "common" else names)]
    if names[0] == "models" and (len(names) < 3 or names[1] not in content["models"]):
        raise ValueError(
            f"--set {key}: an option of a model is models.NAME.OPTION, with one of {', '.join(content['models'])}."
        )
    for name in reversed(names):
        value = {name: value}
    return _merged(content, value)


def _controlled(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """``content`` with the baseline at the learning rates of the ``control``, which stands before the others in every table."""
    factors = content.pop("control")
    right = isinstance(factors, list) and all(type(f) in (int, float) and f > 0 for f in factors)
    if not right or not factors or len(set(factors)) < len(factors):
        raise ValueError(
            f"{path}: control must be different numbers > 0, at least one, such as [0.5, 0.25]: without the baseline at another "
            f"learning rate a difference means little. Got {factors!r}."
        )
    baseline, models = content["baseline"], content["models"]
    rate = {**content["common"], **(models[baseline] or {})}.get("learning_rate")
    if type(rate) not in (int, float):
        raise ValueError(f"{path}: learning_rate must be a number, got {rate!r}.")
    controls = {f"{baseline}_lr_x{f:g}": {**models[baseline], "learning_rate": rate * f} for f in factors}
    before = {name: options for name, options in models.items() if name in ("base", baseline)}
    return {**content, "models": {**before, **controls, **models}}


def costs(paper: Paper, folder: Path, gpu: Gpu) -> Iterator[tuple[str, str, int, Range | None]]:
    """What is trained and sampled: (base, what, cells, GPU hours of all of them), hours None where the model's size
    or the number of steps is not known. Trainings that do not fit the GPU's memory say so in what.

    From ``cost``, so data sheets and shares of them, and no measurement; prompts are taken to have ``PROMPT`` tokens. Cells that are
    done are not counted. Evaluation is counted as vLLM on one GPU, whatever the engine.
    """
    from differential_smoothing.training import cost, parse_config
    from differential_smoothing.training.plan import placement_of

    for base, study in paper.studies.items():
        shape = _shape(study.base)
        there = folder / base
        left = [cell for cell in study.cells() if not study.result(there, cell).is_file()]
        trained = [c for c in left if c.options is not None and not (there / c.name / "model").is_dir()]
        hours, held = None, 0.0
        if shape is not None:
            hours = cost.Range(0, 0)
            for name in dict.fromkeys(cell.model for cell in trained):  # seeds cost the same
                seeds = [cell for cell in trained if cell.model == name]
                run, config = parse_config(run_arguments(seeds[0], there), elsewhere=True)
                batch = cost.Batch(
                    prompts=config.generation_batch_size // config.num_generations,
                    group=config.num_generations,
                    prompt=PROMPT,
                    completion=config.max_completion_length,
                    micro=config.per_device_train_batch_size,
                )
                updates = config.num_iterations * config.steps_per_generation / config.gradient_accumulation_steps
                if config.max_steps <= 0:  # as many as the epochs take, which the number of problems decides
                    hours = None
                    break
                placement = placement_of(run, config)
                held = max(held, cost.memory(shape, batch, placement, gpu)["peak"].low)
                step = cost.seconds(shape, batch, placement, gpu)["step"]
                hours += step * (len(seeds) * config.max_steps / updates * config.world_size / 3600)
        misfit = f", which need {held / 1e9:.0f} GB on each GPU and do not fit" if held > gpu.memory else ""
        yield base, f"{len(trained)} trainings{misfit}", len(trained), hours
        if shape is not None:
            evaluation = study.evaluation
            batch = cost.Batch(
                prompts=evaluation.problems,
                group=evaluation.samples,
                prompt=PROMPT,
                completion=evaluation.max_completion_length,
                micro=1,
            )
            alone = cost.Placement(rollouts="vllm", reserved=0.9)
            hours = cost.seconds(shape, batch, alone, gpu)["sampling"] * (len(left) / 3600)
        of_each = f"at most {study.evaluation.problems:,} problems x {study.evaluation.samples} samples"
        yield base, f"{len(left)} evaluations, {of_each}", len(left), hours


def _shape(model: str) -> Any:
    """The model's shape from its folder, or as published; None where it is not known."""
    from differential_smoothing.training import cost, hub, resolve_model

    if model in cost.PUBLISHED:
        return cost.PUBLISHED[model]
    try:
        config = hub.load_config(resolve_model(model), known=list(cost.PUBLISHED))
    except hub.Unreachable:
        return None
    try:
        return cost.shape_of(config)
    except ValueError:  # another architecture: it can be trained, only its cost is not counted here
        return None
