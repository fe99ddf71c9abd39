"""A sweep: every rule at several strengths and learning rates from one base with one budget. The arena's studies.

    common: {...}                                    # options of every run, those of `dsmooth train`
    rules:                                           # name -> options; the one that is a list is the rule's strength
      grpo: {seeds: [0, 1, 2, 3, 4]}
      ds_token: {gamma_p: [0.1, 0.2, 0.4]}
      pkpo: {rule: pkpo, rule_options: {k: [2, 4, 8]}}
      mine: {rule: "my_rules.py:mine"}
    learning_rates: [1.0e-4, 2.0e-4, 4.0e-4]
    tasks: {countdown: {}}                           # name -> options that differ; may be left out
    seeds: [0, 1, 2]
    checkpoints: [100, 200, 400]                     # steps after which a run is sampled besides its last; may be left out
    baseline: grpo
    leads_over: [grpo, entropy_bonus]                # leads over the envelopes of these; with checkpoints, the baseline's if left out
    selection: {split: dev, problems: 300, samples: 64}      # chooses each rule's best point
    evaluation: {split: test, problems: 500, samples: 64}    # what is reported

A rule may have ``learning_rates`` and ``seeds`` of its own, which replace the sweep's. With ``checkpoints`` every run is a path: it is sampled
after each of these steps and its last one, on the same problems with the same sampling seeds, and so is the base (step 0). Rules,
strengths, rates, seeds and tasks may be added to a sweep that has run; cells that are done stay as they are.

A *point* is a rule at one strength and one learning rate on one task; it is trained once per seed. A cell leaves counts per problem,
not completions, so that a sweep of hundreds of cells is a file of a few hundred kilobytes. Everything else (processes, resuming, folders)
is ``study``'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from differential_smoothing.studies.spec import Cell, Evaluation, Study, check_seeds, make_evaluation
from differential_smoothing.tasks import read_options

if TYPE_CHECKING:
    pass


__all__ = ["Point", "Sweep", "make_sweep"]


class Point(NamedTuple):
    """A rule at one strength (its text, "" for a rule without one) and one learning rate on one task ("" for the only one)."""

    rule: str
    strength: str
    learning_rate: float
    task: str

    @property
    def name(self) -> str:
        """The point as a model's name, which names folders: ``ds_token-0.2-lr0.0001``."""
        rate = f"lr{self.learning_rate:g}" if self.learning_rate else ""  # the base has none
        parts = [self.task, self.rule, self.strength, rate]
        return "-".join(part for part in parts if part)


@dataclass(frozen=True)
class Sweep(Study):
    """The content of a sweep file; ``models`` holds the points' names. See the module's docstring."""

    points: Mapping[str, Point] = field(default_factory=dict)
    by_task: Mapping[str, Mapping[str, Evaluation]] = field(default_factory=dict)
    checkpoints: tuple[int, ...] = ()
    seeds_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    leads_over: tuple[str, ...] = ()

    def cells(self) -> list[Cell]:
        """The bases, where there are paths to begin there; then whole seeds, each with all its points."""
        trained = [
            Cell(name, seed, {**self.common, **options, "seed": seed})
            for seed in sorted({seed for seeds in self.seeds_of.values() for seed in seeds})
            for name, options in self.models.items()
            if options is not None and seed in self.seeds_of[name]
        ]
        return [Cell(name, 0, None) for name, options in self.models.items() if options is None] + trained

    def base_of(self, cell: Cell) -> str:
        """The model of the cell's task."""
        if cell.options is not None:
            return cell.options.get("model", "base")
        task = self.points[cell.model].task
        return next(
            {**self.common, **options}.get("model", "base")
            for name, options in self.models.items()
            if options is not None and self.points[name].task == task
        )

    def steps(self, cell: Cell) -> tuple[int, ...]:
        """The checkpoints before the cell's last step."""
        if cell.options is None:
            return ()
        return tuple(step for step in self.checkpoints if step < cell.options["max_steps"])

    def definition(self) -> dict[str, Any]:
        """What is sampled and when. The training of each cell is held by the cell's own folder, so cells may be added."""
        by_task = {task: json.dumps(chosen, sort_keys=True) for task, chosen in asdict(self)["by_task"].items()}
        return {"by_task": by_task, "checkpoints": list(self.checkpoints)}

    def note_cell(self, folder: Path, cell: Cell) -> None:
        """Write what ``cell`` was trained with, or its model where it was not, beside its counts."""
        path = self.result(folder, cell).with_suffix(".cell.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._made_with(cell), sort_keys=True, default=str) + "\n")

    def check_finished(self, folder: Path, cell: Cell) -> None:
        """ValueError if the counts of ``cell`` were made with other options: they would be reported as results of these."""
        result = self.result(folder, cell)
        path = result.with_suffix(".cell.json")
        if not (result.is_file() and path.is_file()):
            return
        was, now = json.loads(path.read_text()), json.loads(json.dumps(self._made_with(cell), default=str))
        differing = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
        if differing:
            name = differing[0]
            raise ValueError(
                f"{folder} has finished {cell.name} with other options: it differs in {', '.join(differing[:5])} ({name} is "
                f"{was.get(name)!r:.80} there and {now.get(name)!r:.80} here). Nothing was changed. Give the rule another name, choose "
                f"another output folder, or delete {result.name} and the cell's folder to train it again."
            )

    def _made_with(self, cell: Cell) -> dict[str, Any]:
        incidental = ("logging_steps", "save_steps", "save_total_limit", "report_to", "disable_tqdm")
        options = {"model": self.base_of(cell)} if cell.options is None else cell.options
        return {key: value for key, value in options.items() if key not in incidental}

    def evaluations(self, cell: Cell) -> dict[str, Evaluation]:
        """Both ``selection`` and ``evaluation`` of the cell's task."""
        return dict(self.by_task[self.points[cell.model].task])

    def result(self, folder: Path, cell: Cell) -> Path:
        """The counts of a finished cell."""
        return folder / "counts" / f"{cell.name}.parquet"


def make_sweep(path: Path, content: Mapping[str, Any]) -> Sweep:
    """A sweep from what its file holds. ValueError names the fault."""
    kinds = {
        "common": dict,
        "rules": dict,
        "learning_rates": list,
        "tasks": dict,
        "seeds": list,
        "baseline": str,
        "selection": dict,
        "evaluation": dict,
        "checkpoints": list,
        "leads_over": list,
    }
    unknown = sorted(set(content) - set(kinds))
    if unknown:
        raise ValueError(f"{path} has an unknown entry {unknown[0]!r}. A sweep knows {', '.join(kinds)}.")
    for name, kind in kinds.items():
        if name in content and not isinstance(content[name], kind):
            raise ValueError(f"{path}: {name} must be a {kind.__name__}, got {content[name]!r}.")
    for name in ("rules", "learning_rates", "selection", "evaluation"):
        if not content.get(name):
            raise ValueError(f"{path}: a sweep needs the entry {name}; it is missing or empty.")
    _check_rates(path, content["learning_rates"])
    common = content.get("common", {})
    checkpoints = _checkpoints(path, content.get("checkpoints", []), common)
    tasks = content.get("tasks") or {"": {}}
    points, seeds_of = {}, {}
    models: dict[str, dict[str, Any] | None] = {}
    for task, changed in tasks.items():
        _check_name(path, "task", task or "countdown")
        if not isinstance(changed, dict | None):
            raise ValueError(f"{path}: the task {task} needs a mapping of options ({{}} for none), got {changed!r}.")
        for rule, options in content["rules"].items():
            _check_name(path, "rule", rule)
            if not isinstance(options, dict):
                raise ValueError(
                    f"{path}: the rule {rule} needs a mapping of options ({{}} for none), got {options!r}."
                )
            own = {key: options[key] for key in ("learning_rates", "seeds") if key in options}
            rates = _check_rates(path, own.get("learning_rates", content["learning_rates"]))
            seeds = check_seeds(path, own.get("seeds", content.get("seeds", [0])))
            options = {key: value for key, value in options.items() if key not in own}
            for strength, chosen in _strengths(path, rule, options):
                if wrong := {"learning_rate", "seed"} & set(chosen):
                    raise ValueError(
                        f"{path}: {rule} has {wrong.pop()}, which the sweep sets. Give the rule learning_rates or seeds, as lists."
                    )
                for rate in rates:
                    point = Point(rule, strength, float(rate), task)
                    if point.name in models:
                        raise ValueError(f"{path}: two points are called {point.name}. Rename a rule or a task.")
                    points[point.name] = point
                    seeds_of[point.name] = seeds
                    models[point.name] = {**(changed or {}), **chosen, "learning_rate": float(rate)}
        if checkpoints:
            base = Point("base", "", 0.0, task)
            points[base.name], models[base.name] = base, None
    baseline = content.get("baseline", "grpo")
    if baseline not in content["rules"]:
        raise ValueError(f"{path}: baseline {baseline!r} is not one of the rules {', '.join(content['rules'])}.")
    by_task = {
        task: {
            name: make_evaluation(path, name, {"split": split} | content[name], {**common, **(changed or {})})
            for name, split in (("selection", "dev"), ("evaluation", "test"))
        }
        for task, changed in tasks.items()
    }
    for chosen in by_task.values():
        one, other = chosen["selection"], chosen["evaluation"]
        if (one.split, one.seed) == (other.split, other.seed):
            raise ValueError(
                f"{path}: selection and evaluation are both on the split {one.split!r} with seed {one.seed}, so the best points would be "
                f"chosen on the problems that they are judged on. Take split: dev for selection and split: test for evaluation."
            )
    leads_over = tuple(content.get("leads_over", ()))
    known = [rule for rule in content["rules"] if rule in leads_over]
    if len(known) < len(leads_over):
        raise ValueError(
            f"{path}: leads_over must name different rules of {', '.join(content['rules'])}, got {list(leads_over)!r}."
        )
    return Sweep(
        models=models,
        common=common,
        seeds=check_seeds(path, content.get("seeds", [0])),
        baseline=baseline,
        evaluation=by_task[next(iter(by_task))]["evaluation"],
        points=points,
        by_task=by_task,
        checkpoints=checkpoints,
        seeds_of=seeds_of,
        leads_over=leads_over,
    )


def _check_rates(path: Path, rates: Any) -> list[float]:
    good = isinstance(rates, list) and rates and all(type(rate) in (int, float) and rate > 0 for rate in rates)
    if not good or len(set(rates)) < len(rates):
        raise ValueError(
            f"{path}: learning_rates must be different numbers > 0, got {rates!r}. YAML reads 1e-4 as text: write 1.0e-4."
        )
    return rates


def _checkpoints(path: Path, steps: list, common: Mapping[str, Any]) -> tuple[int, ...]:
    if not all(type(step) is int and step > 0 for step in steps) or sorted(set(steps)) != steps:
        raise ValueError(f"{path}: checkpoints must be increasing steps of at least 1, got {steps!r}.")
    if steps and type(common.get("max_steps")) is not int:
        raise ValueError(f"{path}: with checkpoints, common needs max_steps: the number of steps of every run.")
    if steps and steps[0] >= common["max_steps"]:
        raise ValueError(
            f"{path}: no checkpoint lies before the last step, {common['max_steps']}, which is sampled anyway; got {steps!r}."
        )
    return tuple(steps)


def _check_name(path: Path, what: str, name: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+]*", name):
        raise ValueError(f"{path}: a {what}'s name is letters, digits and _ . +, and names folders; got {name!r}.")


def _strengths(path: Path, rule: str, options: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(strength as text, options) for every value of the one option that is a list; nested in ``rule_options`` too."""
    inner = read_options(options.get("rule_options"), "rule_options") or {}
    swept = [("", key) for key, value in options.items() if isinstance(value, list)]
    swept += [("rule_options", key) for key, value in inner.items() if isinstance(value, list)]
    if len(swept) > 1:
        raise ValueError(
            f"{path}: {rule} has several lists ({', '.join(key for _, key in swept)}). One option of a rule is swept; write "
            f"the other combinations as rules of their own."
        )
    if not swept:
        yield "", dict(options)
        return
    where, key = swept[0]
    values = (inner if where else options)[key]
    if not values:
        raise ValueError(
            f"{path}: {key} of {rule} is an empty list, so the rule has no strength. Give it one, or no list."
        )
    for value in values:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if not re.fullmatch(r"[A-Za-z0-9_.+-]+", text):
            raise ValueError(f"{path}: the values of {key} in {rule} must be numbers or short words, got {value!r}.")
        yield text, {**options, "rule_options": {**inner, key: value}} if where else {**options, key: value}
