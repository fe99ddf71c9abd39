"""A study: several rules trained from one base with one budget, sampled on the same problems, compared.

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

The base is ``common``'s ``model``; ``chat``, ``numbers``, ``max_number`` and the longest completion are those of training
unless ``evaluation`` says otherwise, and so are ``task`` and ``task_options``. Every cell (model, seed) is a process of its own, so as many run at once as the machine bears, and none can disturb
another. A cell that was interrupted continues from its last checkpoint; one that is done is not done again.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from differential_smoothing.sampling import ENGINES, make_engine
from differential_smoothing.tasks import configured_task, read_options

__all__ = ["QUICKSTART", "Cell", "Evaluation", "Study", "make_study", "read_study", "run_arguments", "run_study"]

#: The study of ``dsmooth quickstart``.
QUICKSTART = Path(__file__).parents[1] / "data" / "quickstart.yaml"


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
    numbers: int = 4
    max_number: int = 10
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
        return configured_task(self.task, self.task_options, numbers=self.numbers, max_number=self.max_number)

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
        least = {"problems": 1, "samples": 1, "seed": 0, "numbers": 1, "max_number": 1, "max_completion_length": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"evaluation: {name} must be at least {smallest}, got {getattr(self, name)}.")
        if not self.temperature > 0:
            raise ValueError(f"evaluation: temperature must be above 0, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"evaluation: top_p must be above 0 and at most 1, got {self.top_p}.")


@dataclass(frozen=True)
class Study:
    """What a study file says; see the module's docstring."""

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
        """ValueError if a finished ``cell`` of the folder was made with other options. Here the study's definition says so already."""

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


def read_study(path: Path, **changes: Any) -> Study:
    """Read a study file; ``changes`` replace its top-level entries. ValueError says what is wrong with it.

    A file with ``rules`` instead of ``models`` is a ``sweep.Sweep``.
    """
    content = read_yaml(path)
    if isinstance(content, dict) and "rules" in content:
        from differential_smoothing.studies.sweep import make_sweep

        return make_sweep(path, {**content, **changes})
    return make_study(path, content, **changes)


def make_study(path: Path, content: Any, **changes: Any) -> Study:
    """A study from what its file holds, ``changes`` replacing its top-level entries. ValueError says what is wrong with it."""
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
    inherited = (
        "task",
        "task_options",
        "numbers",
        "max_number",
        "max_completion_length",
        "chat",
        "chat_template_kwargs",
    )
    try:
        return Evaluation(**{k: training[k] for k in inherited if k in training} | dict(options))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def run_study(
    study: Study, folder: Path, *, jobs: int = 0, on_progress: Callable[[str, str, int, int], None]
) -> list[Path]:
    """Run every cell that is not done, ``jobs`` at once; returns the file of each cell's result.

    Args:
        jobs: 0 is two on the CPU, and as many as there are GPUs for. With GPUs every cell sees only its own: as many as it has processes, or its
            vLLM's ``tensor_parallel_size``. More jobs than GPUs share them, where a cell needs only one.
        on_progress: called as (cell, "train" or "sample", done, total).

    As long as nothing has been sampled, the evaluation may be changed in a folder that is there. ValueError for an option that is wrong, before anything
    starts; RuntimeError if a cell fails, with the end of its log; the others are stopped and keep what they have.
    """
    from differential_smoothing.training.run import claim_folder, parse_config

    if jobs < 0:
        raise ValueError(f"jobs must be at least 1, or 0 for as many as there is room for; got {jobs}.")
    cells = study.cells()
    # Report a wrong option now, not in the log of a process in ten minutes.
    for cell in cells:
        if cell.options is not None:
            run, _ = parse_config(run_arguments(cell, folder, study.steps(cell)), elsewhere=_launched(cell))
            run.make_task()
        study.check_finished(folder, cell)
        for evaluation in study.evaluations(cell).values():
            evaluation.check(study.base_of(cell), cell)
    slots = _slots(study, jobs)
    sampled = any(study.result(folder, cells[0]).parent.glob("*"))  # the cells' results lie in one folder
    with claim_folder(
        folder,
        study.definition(),
        open_to_change=() if sampled else ("evaluation.", "by_task."),
        may_grow=("by_task.",),
    ):
        _run_cells(cells, study, folder, slots, on_progress)
    return [study.result(folder, cell) for cell in cells]


def _slots(study: Study, jobs: int) -> list[list[str]]:
    """The GPUs of each job, by the names that CUDA_VISIBLE_DEVICES has; empty without GPUs."""
    need = {cell.name: _gpus_of(cell, study) for cell in study.cells()}
    largest = max(need, key=need.__getitem__)
    gpus, most = [] if _on_the_cpu(study) else _visible_gpus(), need[largest]
    if not gpus:
        return [[] for _ in range(jobs or min(2, os.cpu_count() or 1))]
    if most > len(gpus):
        raise ValueError(
            f"{largest} needs {most} GPUs, for its processes or tensor_parallel_size, and this machine shows {len(gpus)}."
        )
    jobs = jobs or len(gpus) // most
    if most > 1 and jobs * most > len(gpus):
        raise ValueError(
            f"{jobs} jobs of {most} GPUs each do not fit on {len(gpus)}: they would take each other's. Take at most "
            f"{len(gpus) // most} jobs."
        )
    return [[gpus[(job * most + i) % len(gpus)] for i in range(most)] for job in range(jobs)]


def _on_the_cpu(study: Study) -> bool:
    """Whether nothing in the study is made for a GPU: small models, which may share one while they are sampled."""
    cells = study.cells()
    trained = [cell.options.get("use_cpu", False) for cell in cells if cell.options is not None]
    return (
        bool(trained)
        and all(trained)
        and all(e.engine != "vllm" for cell in cells for e in study.evaluations(cell).values())
    )


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _gpus_of(cell: Cell, study: Study) -> int:
    """How many GPUs a cell takes at most, in training or in sampling. 1 where it takes none: there is nothing to keep apart."""
    options = cell.options or {}
    trained = 1 if options.get("use_cpu") else int(options.get("processes") or 1)
    sampled = [(e.engine_options or {}).get("tensor_parallel_size", 1) for e in study.evaluations(cell).values()]
    return max([trained, *(size for size in sampled if isinstance(size, int))])


def _run_cells(
    cells: list[Cell],
    study: Study,
    folder: Path,
    slots: list[list[str]],
    on_progress: Callable[[str, str, int, int], None],
) -> None:
    waiting = [cell for cell in cells if not study.result(folder, cell).is_file()]
    failures: list[str] = []
    running: list[BaseProcess] = []
    lock = threading.Lock()

    def work(gpus: list[str]) -> None:
        while True:
            with lock:
                if failures or not waiting:
                    return
                cell = waiting.pop(0)
                try:
                    process, said = _start(cell, study, folder, gpus[: _gpus_of(cell, study)])
                except (
                    OSError,
                    RuntimeError,
                    EOFError,
                ) as error:  # EOFError: interrupted while the server of processes starts
                    failures.append(f"{cell.name} could not be started: {error}.")
                    return
                running.append(process)
            with said:
                try:
                    while True:
                        on_progress(cell.name, *said.recv())
                except (EOFError, OSError):  # the cell has ended, one way or the other
                    status = _exit_status(process, lock)
            if status != 0:
                failures.append(f"{cell.name} stopped with status {status}. {_end_of_log(folder, cell)}")

    threads = [threading.Thread(target=work, args=(gpus,), daemon=True) for gpus in slots]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a join without a limit would not hear Ctrl-C on every system
                thread.join(0.2)
                if failures:
                    break
    finally:
        with lock:
            waiting.clear()
            for process in running:
                if process.is_alive():
                    process.terminate()
            for process in running:
                process.join()
    if failures:
        raise RuntimeError(failures[0])


def _exit_status(process: BaseProcess, lock: threading.Lock) -> int | None:
    """Wait for ``process`` to end; its exit status, read under the ``lock`` that is also held when a process is started.

    A fork server hands an exit status over once, through a pipe, and starting a process asks every other one for its own. Of two
    threads that read the same pipe one gets nothing, and Python then reports status 255 for a process that ended well.
    """
    wait([process.sentinel])  # looks, and does not read
    with lock:
        process.join()
        return process.exitcode


@functools.cache
def _processes() -> BaseContext:
    """Where cells come from: on Linux forks of a process that has imported the trainer already, some ten seconds saved each."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["differential_smoothing.integrations.trl", "differential_smoothing.training"])
    return context


def _start(cell: Cell, study: Study, folder: Path, gpus: list[str]) -> tuple[BaseProcess, Connection]:
    context = _processes()
    said, says = context.Pipe(duplex=False)
    _log(folder, cell).parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_work_on, args=(cell, study, folder, gpus, says), name=f"dsmooth {cell.name}")
    # One thread per process: two trainings with a thread each are far quicker than two that fight for both cores.
    with _environment(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", PYTHONUNBUFFERED="1"):
        process.start()
    says.close()
    return process, said


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """The environment that new processes inherit, while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _log(folder: Path, cell: Cell) -> Path:
    return folder / "logs" / f"{cell.name}.log"


def _end_of_log(folder: Path, cell: Cell) -> str:
    log = _log(folder, cell)
    try:
        lines = log.read_text(errors="replace").splitlines()[-15:]
    except OSError as error:
        return f"Its log cannot be read: {error}."
    return "\n".join([f"The end of {log}:", *lines])


def run_arguments(cell: Cell, folder: Path, steps: Sequence[int] = ()) -> list[str]:
    """The arguments of `dsmooth train` that train ``cell`` into its place in ``folder`` and keep its weights after ``steps``."""
    options = {**(cell.options or {}), "output_dir": str(folder / cell.name)}
    if steps:
        options["snapshots"] = list(steps)
    arguments: list[str] = []
    for key, value in options.items():
        if value is None:  # the option's default
            continue
        if isinstance(value, list):
            arguments += [f"--{key}", *map(str, value)]
        else:  # with "=", because argparse takes a following -5e-05 for an option
            arguments.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return arguments


def _launched(cell: Cell) -> bool:
    """Whether several processes train the cell together."""
    return int((cell.options or {}).get("processes") or 0) > 1


def _launch(cell: Cell, folder: Path, steps: Sequence[int], says: Connection) -> Path:
    """Train ``cell`` in processes of its own, and end them when this process is told to end. Never run here on GPUs."""
    finished = folder / cell.name / "model"
    if finished.is_dir():
        return finished
    number, command = int(cell.options.get("processes") or 1), []
    if number > 1 and cell.options.get(
        "use_cpu"
    ):  # where accelerate launch starts one process; standalone: a free port for each study
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)]
    elif number > 1:
        command = ["-m", "accelerate.commands.launch", "--num_processes", str(number)]
    command += ["-m", "differential_smoothing", "train"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen([sys.executable, *command, *run_arguments(cell, folder, steps)])
    try:
        while (status := _status_within(process, 2)) is None:
            step = _logged_step(folder / cell.name / "metrics.jsonl")
            says.send(("train", step, max(step, int(cell.options.get("max_steps") or 0), 1)))
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status != 0 or not finished.is_dir():
        raise RuntimeError(
            f"The training of {cell.name} in {number} process(es) of its own ended with status {status}."
        )
    return finished


def _status_within(process: subprocess.Popen, seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _logged_step(metrics: Path) -> int:
    """The last step of a run's metrics.jsonl, which is replaced as a whole; 0 before there is one."""
    try:
        return int(json.loads(metrics.read_text().splitlines()[-1])["step"])
    except (OSError, IndexError, KeyError, ValueError):
        return 0


def _work_on(cell: Cell, study: Study, folder: Path, gpus: list[str], says: Connection) -> None:
    """The whole life of one cell, in its own process; everything that is printed goes to the cell's log."""
    if gpus:  # nothing has asked for a GPU in this process yet
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    log = os.open(_log(folder, cell), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from differential_smoothing.training import parse_config, resolve_model, snapshot, train

    result, steps = study.result(folder, cell), study.steps(cell)
    model, last = resolve_model(study.base_of(cell)), 0
    if cell.options is not None:
        if _launched(cell) or (
            gpus and not cell.options.get("use_cpu")
        ):  # its end gives the GPU's memory back before sampling
            model = str(_launch(cell, folder, steps, says))
        else:
            run, config = parse_config(run_arguments(cell, folder, steps))
            model = str(train(run, config, on_step=lambda *at: says.send(("train", *at))))
        last = max(int(cell.options.get("max_steps") or 0), 0) or _logged_step(folder / cell.name / "metrics.jsonl")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)  # a launched training's time is theirs
    seconds = time.process_time() + children.ru_utime + children.ru_stime
    evaluations = study.evaluations(cell)
    if list(evaluations) == ["evaluation"]:  # the cell leaves the table itself
        if not result.is_file():
            _sample(cell, model, evaluations["evaluation"], result, says)
        return
    from differential_smoothing.rollouts import read_rollouts
    from differential_smoothing.studies.sweep import join_counts, write_counts, write_log

    parts = []
    for step, weights in [*((step, str(snapshot(folder / cell.name, step))) for step in steps), (last, model)]:
        part = result.with_name(f"{cell.name}.step-{step}.counts")
        tables = {name: result.with_name(f"{cell.name}.step-{step}.{name}.rollouts") for name in evaluations}
        if not part.is_file():
            for name, evaluation in evaluations.items():
                if not tables[name].is_file():
                    _sample(cell, weights, evaluation, tables[name], says)
            write_counts({name: read_rollouts(table) for name, table in tables.items()}, part, step=step)
        for table in tables.values():
            table.unlink(missing_ok=True)
        if weights != model:
            shutil.rmtree(weights, ignore_errors=True)
        parts.append(part)
    write_log(folder / cell.name / "metrics.jsonl", result, cell=cell.name, seconds=seconds)
    study.note_cell(folder, cell)
    join_counts(parts, result)


def _sample(cell: Cell, model: str, evaluation: Evaluation, table: Path, says: Connection) -> None:
    """Sample ``model`` on the problems of ``evaluation`` into ``table``, with the same seeds whatever the model."""
    from differential_smoothing.sampling.jobs import Job
    from differential_smoothing.sampling.parts import sample_to_file

    task = evaluation.make_task()
    problems = task.problems(evaluation.problems, split=evaluation.split, seed=evaluation.seed)

    def sampled(done: int, total: int = len(problems)) -> None:
        says.send(("sample", done, total))

    job = Job(
        model,
        problems,
        num_samples=evaluation.samples,
        seed=evaluation.seed + 1 + cell.seed,
        name=cell.model,
        task=task,
        training_seed=cell.seed,
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
        chat=evaluation.chat,
        max_new_tokens=evaluation.max_completion_length,
        engine=evaluation.engine,
        engine_options=evaluation.engine_options,
        chat_template_kwargs=evaluation.chat_template_kwargs,
    )
    sample_to_file(job, table, on_problems=sampled)
