"""What the live monitor costs: one training in which it works in every other step.

    python benchmarks/monitor.py --pairs 40

Same trainer, same model, same data: a pair is two neighbouring steps, one watched and one not, and the order alternates. Times are
CPU seconds of the process (one thread), so that what else the machine does counts little. Printed: the ratio watched / not watched,
with a bootstrap interval over pairs, and, with less noise, the share of a watched step that is spent in the monitor's own code.
"""

import argparse
import math
import os
import statistics
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing.evaluation import bootstrap_mean
from differential_smoothing.integrations.monitor import SharpeningMonitor
from differential_smoothing.integrations.trl import shared_prefix_rollout
from differential_smoothing.tasks import countdown
from differential_smoothing.training.base_model import SHIPPED_BASE


class Timed(SharpeningMonitor):
    """The monitor with a switch, and a clock around its own work; the host's methods that it calls are not counted."""

    watches, seconds, hosts = True, 0.0, 0.0

    def _rewards(self, method, *args):
        return self._timed(super()._rewards, method, *args)

    def _generation(self, method, *args):
        return self._timed(super()._generation, method, *args)

    def _loss(self, method, *args):
        return self._timed(super()._loss, method, *args)

    def _logps(self, method, *args, **kwargs):
        return self._timed(super()._logps, method, *args, **kwargs)

    def on_step_end(self, *args, **kwargs):
        if self.watches:
            begin = time.process_time()
            super().on_step_end(*args, **kwargs)
            self.seconds += time.process_time() - begin

    def _timed(self, extension, method, *args, **kwargs):
        if not self.watches:
            return method(*args, **kwargs)
        host = 0.0

        def hosts_own(*args, **kwargs):
            nonlocal host
            begin = time.process_time()
            result = method(*args, **kwargs)
            host = time.process_time() - begin
            return result

        begin = time.process_time()
        result = extension(hosts_own, *args, **kwargs)
        self.seconds += time.process_time() - begin - host
        return result


class Steps(TrainerCallback):
    """Switches the monitor, and keeps the CPU seconds of every step and of the monitor in it."""

    def __init__(self, monitor):
        self.monitor, self.steps = monitor, []

    def on_step_begin(self, args, state, control, **_):
        self.monitor.watches = state.global_step % 4 in (0, 3)
        self.monitor.seconds, self.begin = 0.0, time.process_time()

    def on_step_end(self, *_, **__):
        self.steps.append((self.monitor.watches, time.process_time() - self.begin, self.monitor.seconds))


def main(pairs: int) -> None:
    torch.set_num_threads(1)
    problems = countdown.generate(2000, split="train", seed=0)
    dataset = Dataset.from_list(
        [{"prompt": countdown.prompt(p), "nums": list(p.nums), "target": p.target} for p in problems]
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=str(SHIPPED_BASE),
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=128,
                num_generations=8,
                max_completion_length=16,
                max_steps=2 * pairs + 4,
                learning_rate=3e-5,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                logging_steps=10,
                save_strategy="no",
                disable_tqdm=True,
                seed=0,
            ),
            reward_funcs=countdown.countdown_correct,
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(SHIPPED_BASE),
            rollout_func=shared_prefix_rollout,
        )
        trainer.log = lambda *_, **__: None
        steps = Steps(Timed(trainer, canonical=countdown.countdown_canonical, warmup=20))
        trainer.add_callback(steps)  # after the monitor, so that its work at the end of a step counts
        trainer.train()
    measured = steps.steps[4:]  # the first steps warm the caches up
    logs, shares = [], []
    for one, other in zip(measured[::2], measured[1::2], strict=True):
        (_, watched, own), (_, plain, _) = (one, other) if one[0] else (other, one)
        logs.append(math.log(watched / plain))
        shares.append(own / (watched - own))
    interval = [math.exp(end) for end in bootstrap_mean(logs, seed=0)]
    share = bootstrap_mean(shares, seed=0)
    print(f"{pairs} pairs of steps, with and without the monitor; GRPO, shared_prefix_rollout, CPU seconds")
    print(
        f"step with / without: median {math.exp(statistics.median(logs)):.3f}, geometric mean {interval[0]:.3f} "
        f"[{interval[1]:.3f}, {interval[2]:.3f}]"
    )
    print(
        f"the monitor's own code, share of the rest of the step: median {statistics.median(shares):.2%}, "
        f"mean {share.estimate:.2%} [{share.low:.2%}, {share.high:.2%}]"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    main(**vars(parser.parse_args()))
