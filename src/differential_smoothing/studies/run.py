"""Runs the cells of a study, as many at once as the machine bears. Each is a process of its own, so none can disturb another; one that is done is
not done again.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .cell import launched, log_of, run_arguments, work_on
from .gpus import gpus_of, gpus_of_jobs
from .spec import Cell, Study

__all__ = ["exit_status", "run_study"]


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
    from differential_smoothing.files import claim_folder
    from differential_smoothing.training.options import parse_config

    if jobs < 0:
        raise ValueError(f"jobs must be at least 1, or 0 for as many as there is room for; got {jobs}.")
    cells = study.cells()
    # Report a wrong option now, not in the log of a process in ten minutes.
    for cell in cells:
        if cell.options is not None:
            run, _ = parse_config(run_arguments(cell, folder, study.steps(cell)), elsewhere=launched(cell))
            run.make_task()
        study.check_finished(folder, cell)
        for evaluation in study.evaluations(cell).values():
            evaluation.check(study.base_of(cell), cell)
    slots = gpus_of_jobs(study, jobs)
    sampled = any(study.result(folder, cells[0]).parent.glob("*"))  # the cells' results lie in one folder
    with claim_folder(
        folder,
        study.definition(),
        open_to_change=() if sampled else ("evaluation.", "by_task."),
        may_grow=("by_task.",),
    ):
        run_cells(cells, study, folder, slots, on_progress)
    return [study.result(folder, cell) for cell in cells]


def run_cells(
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
                    process, receiver = _start(cell, study, folder, gpus[: gpus_of(cell, study)])
                except (
                    OSError,
                    RuntimeError,
                    EOFError,
                ) as error:  # EOFError: interrupted while the server of processes starts
                    failures.append(f"{cell.name} could not be started: {error}.")
                    return
                running.append(process)
            with receiver:
                try:
                    while True:
                        on_progress(cell.name, *receiver.recv())
                except (EOFError, OSError):  # the cell has ended, one way or the other
                    status = exit_status(process, lock)
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


def exit_status(process: BaseProcess, lock: threading.Lock) -> int | None:
    """Wait for ``process`` to end; its exit status, read under the ``lock`` that is also held when a process is started.

    A fork server hands an exit status over once, through a pipe, and starting a process asks every other one for its own. Of two
    threads that read the same pipe one gets nothing, and Python then reports status 255 for a process that ended well.
    """
    wait([process.sentinel])  # looks, and does not read
    with lock:
        process.join()
        return process.exitcode


@functools.cache
def _processes() -> Any:
    """Where cells come from: on Linux forks of a process that has imported the trainer already, some ten seconds saved each."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["differential_smoothing.integrations.trl", "differential_smoothing.training"])
    return context


def _start(cell: Cell, study: Study, folder: Path, gpus: list[str]) -> tuple[BaseProcess, Connection]:
    context = _processes()
    receiver, sender = context.Pipe(duplex=False)
    log_of(folder, cell).parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=work_on, args=(cell, study, folder, gpus, sender), name=f"dsmooth {cell.name}")
    # One thread per process: two trainings with a thread each are far quicker than two that fight for both cores.
    with _environment(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", PYTHONUNBUFFERED="1"):
        process.start()
    sender.close()
    return process, receiver


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


def _end_of_log(folder: Path, cell: Cell) -> str:
    log = log_of(folder, cell)
    try:
        lines = log.read_text(errors="replace").splitlines()[-15:]
    except OSError as error:
        return f"Its log cannot be read: {error}."
    return "\n".join([f"The end of {log}:", *lines])
