"""What our estimator costs in verl's driver process: against verl's own vectorised GRPO, on the same tensors, in turn.

    OMP_NUM_THREADS=1 python benchmarks/verl_driver.py

1,024 completions x 8,192 tokens in groups of 8, ragged, as verl pads them. Ours does more: correctness, the term of DS per token, and
the metrics ds/... . Printed: the ratio ours / verl's of processor seconds, per round, and its median. Needs the environment of
`make test-verl`.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from verl.trainer.ppo.core_algos import compute_grpo_vectorized_outcome_advantage

from differential_smoothing.integrations.verl.estimator import Handed, shaped_advantages
from differential_smoothing.integrations.verl.options import DSOptions

SETTINGS = {
    "gammas 0": DSOptions(),
    "token": DSOptions(gamma_p=0.2, gamma_n=0.1),
    "sum": DSOptions(gamma_p=0.2, gamma_n=0.1, level="sum"),
    "maxrl + token": DSOptions(rule="maxrl", gamma_p=0.2),
}


def seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def main(rows: int, tokens: int, rounds: int) -> None:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    length = torch.randint(tokens // 8, tokens + 1, (rows,), generator=draw)
    mask = (torch.arange(tokens) < length[:, None]).long()  # verl's masks are of this type
    rewards = torch.zeros(rows, tokens)
    correct = (torch.rand(rows, generator=draw) < 0.4).float()
    rewards[torch.arange(rows), length - 1] = correct
    uid = np.array([f"{row // 8:032x}" for row in range(rows)], dtype=object)
    extra = Handed(
        logps=-torch.rand(rows, tokens, generator=draw),
        correct=correct,
        counts=torch.ones(rows, dtype=torch.bool),
        final=torch.arange(rows),
    )

    def verls():
        compute_grpo_vectorized_outcome_advantage(rewards, mask, uid)

    for name, options in SETTINGS.items():

        def ours(options=options):
            shaped_advantages(options, rewards.sum(-1), mask, uid=uid, extra=extra)

        verls(), ours()
        ratios = []
        for number in range(rounds):
            pair = [verls, ours] if number % 2 == 0 else [ours, verls]
            times = {call: seconds(call) for call in pair}
            ratios.append(times[ours] / times[verls])
        print(
            f"{name}: ours / verl's {statistics.median(ratios):.2f} (median of {rounds}; {min(ratios):.2f} to {max(ratios):.2f}), "
            f"{rows} x {tokens}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=7)
    main(**vars(parser.parse_args()))
