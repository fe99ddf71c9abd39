"""Entries and scores of a reasoning-gym data set, from a process of its own: see ``worker.py``."""

from __future__ import annotations

import functools
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["MAX_CHARACTERS", "Score", "Scorer", "Worker"]

MAX_CHARACTERS = 4096  # of an answer; longer ones are refused unread
REMEMBERED = 16384  # scores of short answers
STARTING = 60.0  # seconds for the worker to import and to make a batch of entries


class Score(NamedTuple):
    """What the data set's scorer gave, NaN where it gave nothing, and then why."""

    value: float
    reason: str


class _Gone(Exception):
    """The worker died or did not answer in time."""


class _Failed(Exception):
    """The worker says that a request cannot be done, and why."""


class Worker:
    """A process that runs ``worker.py``, started at the first use and after every death."""

    def __init__(self, imports: Sequence[str]):
        self._imports = list(imports)
        self._process: Any = None  # a Popen with both pipes
        self._owner = 0
        self.lock = threading.Lock()

    def ask(self, request: dict[str, Any], lines: int, seconds: float) -> Iterator[Any]:
        """The ``lines`` replies to a request, each within ``seconds``; _Gone if one is missing, _Failed if it says so."""
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._start()
        process, text = self._process, b""
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            for _ in range(lines):
                deadline = time.monotonic() + seconds
                while b"\n" not in text:
                    left = deadline - time.monotonic()
                    ready = select.select([process.stdout], [], [], left)[0] if left > 0 else []
                    chunk = os.read(process.stdout.fileno(), 1 << 20) if ready else b""
                    if not chunk:
                        raise _Gone("died" if ready else "was silent for too long")
                    text += chunk
                line, _, text = text.partition(b"\n")
                try:
                    reply = json.loads(line)
                except ValueError:
                    raise _Gone("wrote something else than a reply") from None
                if isinstance(reply, dict):
                    raise _Failed(reply["error"])
                yield reply
        except _Failed:
            raise
        except BrokenPipeError:
            self.close()
            raise _Gone("died") from None
        except BaseException:  # what the worker may still write is no reply to the next request
            self.close()
            raise

    def _start(self) -> None:
        keep = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "SYSTEMROOT")
        environment = {name: os.environ[name] for name in keep if name in os.environ} | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONHASHSEED": "0",  # an entry must be the same in every process
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py")), json.dumps(self._imports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        self._owner = os.getpid()
        weakref.finalize(self, _stop, self._process, os.getpid())

    def close(self) -> None:
        """End the worker; the next use starts another."""
        if self._process is not None:
            _stop(self._process, self._owner)
            self._process = None


@functools.lru_cache(maxsize=None)
def worker_of(imports: tuple[str, ...]) -> Worker:
    """The one worker of this process for these imports: all data sets share it, since its start takes seconds."""
    return Worker(imports)


class Scorer:
    """One data set of reasoning-gym behind a worker process, which it shares with other data sets.

    Args:
        dataset: its registered name.
        options: of its config, ``size`` among them; no ``seed``.
        imports: modules that the worker imports first, such as one that registers a data set of your own.
        time_limit: seconds of processor time for one answer, above 0, so that a busy machine makes no honest answer
            wrong; ten times as many and five by the clock. After ten answers of a batch that took longer (or one that took longer
            by the clock) it is a tenth for the rest of the batch.
        memory_mb: what scoring may take beyond what the worker has.

    The limits hold a hang, a crash and a memory bomb, and an answer that a scorer evaluates is read as a literal, or in
    sympy's names alone. This is no sandbox: whoever writes an answer to break out of sympy's parser may get as far as
    this user gets, writing to files and reading this process's environment excepted.
    """

    def __init__(
        self,
        dataset: str,
        options: Mapping[str, Any],
        *,
        imports: Sequence[str] = (),
        time_limit: float = 2.0,
        memory_mb: int = 1024,
    ):
        self._settings: dict[str, Any] = {
            "dataset": dataset,
            "options": dict(options),
            "time_limit": time_limit,
            "memory_mb": memory_mb,
        }
        self.worker = worker_of(tuple(imports))
        self._remembered: OrderedDict[tuple[int, int, str], Score] = OrderedDict()

    def entries(self, places: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """The entry of each (seed, index), as JSON gives it back: lists for tuples, text for the keys of mappings.

        ValueError if the data set, an option or a place does not exist, or reasoning-gym is not installed.
        """
        with self.worker.lock:
            try:
                [entries] = self._ask({"make": list(places)}, 1, STARTING + 0.1 * len(places))
            except _Gone as gone:
                raise ValueError(
                    f"reasoning_gym:{self._settings['dataset']} made no entries: its process {gone}. "
                    f"Check the options {self._settings['options']}."
                ) from None
        return entries

    def score(self, items: Sequence[tuple[int, int, str]]) -> list[Score]:
        """The score of each (seed, index, answer). Never an exception for what an answer does to its scorer."""
        with self.worker.lock:
            scores: dict[tuple[int, int, str], Score] = {}
            for item in items:
                if item in self._remembered:
                    self._remembered.move_to_end(item)
                    scores[item] = self._remembered[item]
                elif len(item[2]) > MAX_CHARACTERS:
                    scores[item] = Score(
                        float("nan"), f"too long: {len(item[2])} characters, at most {MAX_CHARACTERS} are read"
                    )
            asked = [item for item in dict.fromkeys(items) if item not in scores]
            fresh = dict(zip(asked, self._score(asked), strict=True))
            for item, score in fresh.items():
                if len(item[2]) <= 256:
                    self._remembered[item] = score
                    if len(self._remembered) > REMEMBERED:
                        self._remembered.popitem(last=False)
            scores |= fresh
            return [scores[item] for item in items]

    def _score(self, items: list[tuple[int, int, str]]) -> list[Score]:
        scores: list[Score] = []
        while len(scores) < len(items):
            left = items[len(scores) :]
            try:
                for value, reason in self._ask(
                    {"score": left}, len(left), STARTING + 20 * self._settings["time_limit"]
                ):
                    scores.append(Score(float("nan") if value is None else value, reason))
            except _Gone as gone:  # this answer got at the process that watches the scoring
                scores.append(Score(float("nan"), f"the scorer's process {gone}"))
        return scores

    def _ask(self, request: dict[str, Any], lines: int, seconds: float) -> Iterator[Any]:
        try:
            yield from self.worker.ask({"settings": self._settings, **request}, lines, seconds)
        except _Failed as failed:
            self._refuse(str(failed))

    def _refuse(self, error: str) -> None:
        name = self._settings["dataset"]
        if error.startswith("ModuleNotFoundError: No module named 'reasoning_gym'"):
            raise ValueError(
                "The tasks 'reasoning_gym:...' need the package reasoning-gym. "
                "Install it: pip install 'differential-smoothing[gym]'."
            )
        raise ValueError(
            f"reasoning_gym:{name} with options {self._settings['options']} cannot be used ({error[:300]}). "
            f"Check the name and the options of its config in reasoning-gym."
        )


def _stop(process: Any, owner: int) -> None:
    if owner == os.getpid():  # a fork of ours must not end our worker
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
