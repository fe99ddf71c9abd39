"""One cell of a study, the work of one process: train its model, or launch the processes that do, then sample it.

A cell that was interrupted continues from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from .spec import Cell, Evaluation, Study

__all__ = ["launch", "launched", "log_of", "run_arguments", "work_on"]


def log_of(folder: Path, cell: Cell) -> Path:
    """Where everything goes that the process of ``cell`` prints."""
    return folder / "logs" / f"{cell.name}.log"


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


def launched(cell: Cell) -> bool:
    """Whether several processes train the cell together."""
    return int((cell.options or {}).get("processes") or 0) > 1


def launch(cell: Cell, folder: Path, steps: Sequence[int], sender: Connection) -> Path:
    """Train ``cell`` in processes of its own, and end them when this process is told to end. Never run here on GPUs."""
    finished = folder / cell.name / "model"
    if finished.is_dir():
        return finished
    options = cell.options or {}
    number, command = int(options.get("processes") or 1), list[str]()
    if number > 1 and options.get(
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
            sender.send(("train", step, max(step, int(options.get("max_steps") or 0), 1)))
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


def work_on(cell: Cell, study: Study, folder: Path, gpus: list[str], sender: Connection) -> None:
    """The whole life of one cell, in its own process; everything that is printed goes to the cell's log."""
    if gpus:  # nothing has asked for a GPU in this process yet
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    log = os.open(log_of(folder, cell), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from differential_smoothing.training import parse_config, resolve_model, snapshot, train

    result, steps = study.result(folder, cell), study.steps(cell)
    model, last = resolve_model(study.base_of(cell)), 0
    if cell.options is not None:
        if launched(cell) or (
            gpus and not cell.options.get("use_cpu")
        ):  # its end gives the GPU's memory back before sampling
            model = str(launch(cell, folder, steps, sender))
        else:
            run, config = parse_config(run_arguments(cell, folder, steps))
            model = str(train(run, config, on_step=lambda *at: sender.send(("train", *at))))
        last = max(int(cell.options.get("max_steps") or 0), 0) or _logged_step(folder / cell.name / "metrics.jsonl")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)  # a launched training's time is theirs
    seconds = time.process_time() + children.ru_utime + children.ru_stime
    evaluations = study.evaluations(cell)
    if list(evaluations) == ["evaluation"]:  # the cell leaves the table itself
        if not result.is_file():
            _sample(cell, model, evaluations["evaluation"], result, sender)
        return
    from differential_smoothing.rollouts import read_rollouts

    from .counts import join_counts, write_counts, write_log

    parts = []
    for step, weights in [*((step, str(snapshot(folder / cell.name, step))) for step in steps), (last, model)]:
        part = result.with_name(f"{cell.name}.step-{step}.counts")
        tables = {name: result.with_name(f"{cell.name}.step-{step}.{name}.rollouts") for name in evaluations}
        if not part.is_file():
            for name, evaluation in evaluations.items():
                if not tables[name].is_file():
                    _sample(cell, weights, evaluation, tables[name], sender)
            write_counts({name: read_rollouts(table) for name, table in tables.items()}, part, step=step)
        for table in tables.values():
            table.unlink(missing_ok=True)
        if weights != model:
            shutil.rmtree(weights, ignore_errors=True)
        parts.append(part)
    write_log(folder / cell.name / "metrics.jsonl", result, cell=cell.name, seconds=seconds)
    study.note_cell(folder, cell)
    join_counts(parts, result)


def _sample(cell: Cell, model: str, evaluation: Evaluation, table: Path, sender: Connection) -> None:
    """Sample ``model`` on the problems of ``evaluation`` into ``table``. The sampling seeds are the same for every model."""
    from differential_smoothing.sampling.jobs import Job
    from differential_smoothing.sampling.parts import sample_to_file

    task = evaluation.make_task()
    problems = task.problems(evaluation.problems, split=evaluation.split, seed=evaluation.seed)

    def sampled(done: int, total: int = len(problems)) -> None:
        sender.send(("sample", done, total))

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
