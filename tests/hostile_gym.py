"""A data set of reasoning-gym whose scorer does, to whoever runs it, what the answer says."""

import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass

from reasoning_gym.factory import ProceduralDataset, register_dataset

TEMPORARY = tempfile.gettempdir()  # found by writing, so before the limits hold


@dataclass
class HostileConfig:
    seed: int = 0
    size: int = 100
    questions: int = 50  # different ones


class Hostile(ProceduralDataset):
    def __init__(self, config):
        super().__init__(config=config, seed=config.seed, size=config.size)

    def __getitem__(self, index):
        return {
            "question": f"Question {index % self.config.questions}: 1 + 1 =",
            "answer": "right",
            "metadata": {"place": (self.seed, index), "expression": "1 + 1"},
        }

    def score_answer(self, answer, entry):
        assert entry["metadata"]["place"][0] == self.seed and entry["answer"] == "right"  # not what JSON made of it
        if answer.startswith("eval "):
            return float(len(eval(answer.removeprefix("eval "))))
        return getattr(self, answer.split()[0] if answer else "none", self.none)()

    def none(self):
        return None

    def right(self):
        return 1.0

    def half(self):
        return 0.5

    def trusted(self):
        return float(eval("1 + 1") == 2)

    def hang(self):
        while True:
            pass

    def sleep(self):
        time.sleep(1000)

    def backtrack(self):  # in C: no signal handler of Python's would run
        return float(bool(re.match(r"(a+)+$", "a" * 50 + "b")))

    def memory(self):
        return float(len(bytearray(10**10)))

    def segfault(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def leave(self):
        os._exit(0)

    def stop(self):
        sys.exit(0)

    def interrupt(self):
        raise KeyboardInterrupt

    def unprintable(self):
        class Evil(Exception):
            def __str__(self):
                raise SystemExit

        raise Evil

    def recursion(self):
        return self.recursion()

    def patricide(self):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)

    def shout(self):
        os.write(1, b'{"scores": [[1.0, ""]]}\n' * 1000)
        print("[1.0]")
        return 1.0

    def nan(self):
        return float("nan")

    def infinite(self):
        return float("inf")

    def text(self):
        return "1.0e"

    def write(self):
        with open(os.path.join(TEMPORARY, "hostile_gym_was_here"), "w") as file:
            file.write("x" * 10)
        return 1.0

    def environment(self):
        return float("DSMOOTH_SECRET" in os.environ)


register_dataset("hostile", Hostile, HostileConfig)
