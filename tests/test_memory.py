"""Freed memory is kept: the next tensor of the same size needs no fresh pages. In processes of their own, which the setting outlives."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from differential_smoothing.sampling.memory import keep_freed_memory
if {keep}:
    print(keep_freed_memory())
for _ in range(10):  # until the heap has settled
    torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_memory_is_kept():
    def faults(keep):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(keep=keep)], capture_output=True, text=True, check=True
        )
        return run.stdout.split()

    told, kept = faults(True)
    if told == "False":
        pytest.skip("the C library is not glibc")
    (given_back,) = faults(False)
    assert int(kept) < 0.1 * int(given_back)
