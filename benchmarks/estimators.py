"""The whole Pass@k curve of a million rollouts: against the usual loop, with bootstrap bands, and in how much memory.

    OMP_NUM_THREADS=2 python benchmarks/estimators.py

1,000 problems x 1,000 samples, k = 1, ..., 1000. Times are processor seconds over all threads, which other work on the machine
does not lengthen by its share, the best of several in one process, side by side, on one table. Memory is the resident size of a
process of its own that reads the table, counts it, and computes the curve with its intervals: what it grows by, against the
bytes of the table. Written to benchmarks/results/estimators.txt.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from differential_smoothing.evaluation import bootstrap_curve, counts, pass_at_k_curve
from differential_smoothing.rollouts import read_rollouts, write_rollouts


def usual(n, c, ks):
    """The estimator as it is usually written (Chen et al. 2021, figure 3), problem by problem and k by k."""

    def estimate(n, c, k):
        if n - c < k:
            return 1.0
        return 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))

    return np.array([[estimate(of_n, of_c, k) for k in ks] for of_n, of_c in zip(n, c, strict=True)])


def rollouts(problems, samples, seed):
    rng = np.random.default_rng(seed)
    correct = rng.random((problems, samples)) < rng.beta(0.5, 1.5, (problems, 1))
    form = np.array([f"{i} + {i + 1} * {i + 2} - {i + 3}" for i in range(50)], dtype=object)
    solution = form[np.minimum(rng.geometric(0.2, correct.size), 50) - 1]
    prompt = [f"Use the numbers {i}, {i + 1}, {i + 2} and {i + 3} to make {i * 7 % 100}." for i in range(problems)]
    correct = correct.ravel()
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"problem-{i}" for i in range(problems)], samples),
            "sample": np.tile(np.arange(samples), problems),
            "task": "countdown",
            "model": "grpo",
            "seed": 0,
            "step": -1,
            "prompt": np.repeat(prompt, samples),
            "completion": solution,
            "solution": solution,
            "reward": correct.astype(float),
            "correct": pd.array(correct, dtype="boolean"),
            "canonical": np.where(correct, solution, None),
        }
    )


def best_of(times, call):
    seconds = []
    for _ in range(times):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory(path, connection, replications):
    """In a fresh process: bytes of the table, resident size before reading it, after, and at most while working."""
    import pyarrow as pa

    warm = pd.DataFrame({name: ["a"] for name in ("model", "prompt_id", "canonical")})
    warm = warm.assign(seed=0, step=-1, sample=0, correct=True)
    counts(warm)  # imports and caches are no part of the table
    before = resident()
    frame = read_rollouts(path)
    pa.default_memory_pool().release_unused()
    table, after, peak, done = int(frame.memory_usage(deep=True).sum()), resident(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    problem = counts(frame)
    curve = pass_at_k_curve(problem["n"], problem["c"])
    bootstrap_curve(curve[None], seed=0, replications=replications)
    done.set()
    watcher.join()
    connection.send((table, before, after, max(peak[0], resident())))


def main(problems, samples, replications, seed):
    frame = rollouts(problems, samples, seed)
    count_time = best_of(3, lambda: counts(frame))
    problem = counts(frame)
    n, c = problem["n"].to_numpy(), problem["c"].to_numpy()
    ks = range(1, samples + 1)
    slow = []
    usual_time = best_of(1, lambda: slow.append(usual(n, c, ks)))
    curve_time = best_of(7, lambda: pass_at_k_curve(n, c))
    curve = pass_at_k_curve(n, c)
    bootstrap_time = best_of(3, lambda: bootstrap_curve(curve[None], seed=0, replications=replications))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rollouts.parquet"
        write_rollouts(frame, path)
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=memory, args=(path, there, replications))
        process.start()
        table, before, after, peak = here.recv()
        process.join()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    text = f"""{problems} problems x {samples} samples = {problems * samples:,} rollouts; k = 1, ..., {samples}; OMP_NUM_THREADS={threads}

usual loop over problems and k / whole curves   {usual_time / curve_time:.0f} times the time ({usual_time:.2f} s, {curve_time:.4f} s)
largest difference between the two              {np.abs(slow[0] - curve).max():.1e}
{replications:,} bootstrap replications, all k          {bootstrap_time:.2f} s, {bootstrap_time / usual_time:.2f} of the usual loop without any interval
counting the rollouts                           {count_time:.2f} s
bytes of the table                              {table / 2**20:.0f} MiB
growth by reading it                            {(after - before) / table:.2f} times that
growth by reading, counting, curve, intervals   {(peak - before) / table:.2f} times that
"""
    print(text, end="")
    (Path(__file__).parent / "results" / "estimators.txt").write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--replications", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
