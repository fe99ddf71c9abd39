"""A few processes that run mpmath and sympy for us, each request bounded in time and memory: see ``worker``.

``signal.alarm`` works on the main thread alone and not at all inside one long operation
in C. Here another process is asked, so this works from any thread, in a reward function, and after a fork (the child starts its own
processes; the parent's stay the parent's). Nothing starts before the first request. At exit the processes are ended and
waited for; if this process is killed, they see the end of their input and exit.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Pool"]

START = 300.0  # seconds for loading sympy: the machine may be busy
PATIENCE = 30.0  # a process bounds a request itself; if it is silent for so long, something is wrong with it
JOBS_PER_PROCESS = 4  # fewer requests than this are not worth starting another process for


class _Process:
    def __init__(self) -> None:
        # -P: the folder of the program is not put on the path, where its neighbour math.py would hide the standard module
        self.popen = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self.fd = self.popen.stdout.fileno()
        self.ready = False
        self.deadline = time.monotonic() + START
        self.buffer = b""

    def ask(self, request: Sequence[str]) -> None:
        self.buffer = b""
        self.deadline = time.monotonic() + PATIENCE
        with suppress(BrokenPipeError):  # it has died; the reply will be the end of its output
            self.popen.stdin.write((json.dumps(request) + "\n").encode())

    def reply(self) -> list | None:
        """What there is to read: a whole reply, or None while it is not whole. EOFError if the process has died."""
        part = os.read(self.fd, 65536)
        if not part:
            raise EOFError
        self.buffer += part
        return json.loads(self.buffer) if self.buffer.endswith(b"\n") else None

    def end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self.let_go()

    def let_go(self) -> None:
        """Close our ends of the pipes; the process is somebody else's, or gone."""
        self.popen.stdin.close()
        self.popen.stdout.close()
        if self.popen.returncode is None:
            self.popen.returncode = 0  # the process of the parent: not ours to wait for


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """At most ``size`` processes (by default one per core, four at most), started when there is work for them."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size or max(1, min(4, _cores()))
        self._reset()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()

    def _forget(self) -> None:
        """In a child after a fork: another thread may have held the lock, and the processes belong to the parent."""
        old = self._all
        self._reset()
        for process in old:
            process.let_go()

    def close(self) -> None:
        """End every process. The pool can be used again."""
        with self._changed:
            processes, self._idle, self._all = self._all, [], set()
        for process in processes:
            process.end()

    def run(self, requests: Sequence[Sequence[str]]) -> list[tuple[Any, str]]:
        """``(value, reason)`` for each request, in order; value None when it was not answered, with the reason.

        RuntimeError if the processes cannot be started.
        """
        replies: list[tuple[Any, str]] = [(None, "not asked")] * len(requests)
        waiting = list(range(len(requests)))[::-1]
        most = min(self.size, -(-len(requests) // JOBS_PER_PROCESS))
        mine: dict[_Process, int | None] = {}  # process -> the request it works on; None while it starts
        with selectors.DefaultSelector() as selector:
            try:
                while waiting or mine:
                    while waiting and len(mine) < most and len(mine) < len(waiting) + len(mine):
                        process = self._take(wait=not mine)
                        if process is None:
                            break
                        selector.register(process.fd, selectors.EVENT_READ, process)
                        mine[process] = None
                        if process.ready:
                            mine[process] = waiting.pop()
                            process.ask(requests[mine[process]])
                    soonest = min(process.deadline for process in mine)
                    events = selector.select(max(0.0, soonest - time.monotonic()))
                    done = [key.data for key, _ in events]
                    done += [p for p in mine if p not in done and time.monotonic() > p.deadline]
                    for process in done:
                        self._step(process, mine, replies, waiting, requests, selector)
            finally:
                for process in mine:  # an exception, such as Ctrl-C: its next reply would answer an older request
                    self._discard(process)
        return replies

    def _step(self, process, mine, replies, waiting, requests, selector) -> None:
        """Take the reply of ``process``, then give it its next request or hand it back."""
        job = mine[process]
        try:
            if time.monotonic() > process.deadline:
                raise EOFError
            reply = process.reply()
            if reply is None:
                return
        except (EOFError, ValueError, OSError):
            selector.unregister(process.fd)
            del mine[process]
            code = process.popen.poll()
            self._discard(process)
            if not process.ready:
                raise RuntimeError(_why_not_started(code)) from None
            replies[job] = (None, "stopped by its limits")
            return
        if process.ready:
            replies[job] = tuple(reply)
        process.ready = True
        if waiting:
            mine[process] = waiting.pop()
            process.ask(requests[mine[process]])
        else:
            selector.unregister(process.fd)
            del mine[process]
            self._give_back(process)

    def _take(self, wait: bool) -> _Process | None:
        with self._changed:
            while not self._idle and len(self._all) >= self.size:
                if not wait:
                    return None
                self._changed.wait()
            if self._idle:
                return self._idle.pop()
            process = _Process()
            self._all.add(process)
            return process

    def _give_back(self, process: _Process) -> None:
        with self._changed:
            if process in self._all:  # not closed in the meantime
                self._idle.append(process)
            self._changed.notify()

    def _discard(self, process: _Process) -> None:
        with self._changed:
            self._all.discard(process)
            self._changed.notify()
        process.end()


def _why_not_started(code: int | None) -> str:
    if importlib.util.find_spec("sympy") is None:
        return (
            "Comparing these answers needs sympy, which is not installed: pip install 'differential-smoothing[math]'."
        )
    return (
        f"The process that compares answers did not start (exit code {code}); try {sys.executable} -c 'import sympy'."
    )
