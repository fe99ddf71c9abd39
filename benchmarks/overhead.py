"""What Differential Smoothing costs: the stock trainer and ours, step by step in turn, in one process.

    python benchmarks/overhead.py --rounds 5 --steps 20

Both trainers take the same steps on the same model and data; a round is some steps of one, then of the other, and the
order alternates. Times are processor seconds of the one thread, which other work on the machine disturbs less than the
clock. Printed: the ratio ours / stock of the median step times, with a bootstrap interval over rounds, for
log pi_old from the loss's own forward pass (TRL's generation) and from the sampler (shared_prefix_rollout), and the
ratio of our sampler's step to that of TRL's generation.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
warnings.filterwarnings("ignore", category=FutureWarning)

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing.evaluation import bootstrap_mean
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
from differential_smoothing.tasks import countdown
from differential_smoothing.training.base_model import SHIPPED_BASE


class StepTimes(TrainerCallback):
    """Seconds of every optimiser step, generation included."""

    def __init__(self):
        self.times = []

    def on_step_begin(self, *_, **__):
        self.start = time.process_time()

    def on_step_end(self, *_, **__):
        self.times.append(time.process_time() - self.start)


def step_time(trainer_class, config_class, rollout, steps, dataset, seed, **options):
    """The median seconds of a step, the first two left out: they warm the caches up."""
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=str(SHIPPED_BASE),
            args=config_class(
                output_dir=folder,
                per_device_train_batch_size=128,
                num_generations=8,
                max_completion_length=16,
                max_steps=steps + 2,
                learning_rate=3e-5,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                logging_steps=10,
                save_strategy="no",
                disable_tqdm=True,
                seed=seed,
                **options,
            ),
            reward_funcs=countdown.countdown_correct,
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(SHIPPED_BASE),
            rollout_func=rollout,
            callbacks=[times],
        )
        trainer.log = lambda *_, **__: None
        trainer.train()
    return statistics.median(times.times[2:])


def main(rounds: int, steps: int) -> None:
    torch.set_num_threads(1)
    problems = countdown.generate(2000, split="train", seed=0)
    dataset = Dataset.from_list(
        [{"prompt": countdown.prompt(p), "nums": list(p.nums), "target": p.target} for p in problems]
    )
    arms = {
        ("stock", "host"): (GRPOTrainer, GRPOConfig, None, {}),
        ("ours", "host"): (DSGRPOTrainer, DSGRPOConfig, None, {"gamma_p": 0.2}),
        ("stock", "rollout"): (GRPOTrainer, GRPOConfig, shared_prefix_rollout, {}),
        ("ours", "rollout"): (DSGRPOTrainer, DSGRPOConfig, shared_prefix_rollout, {"gamma_p": 0.2}),
    }
    times = {arm: [] for arm in arms}
    for number in range(rounds):
        order = list(arms) if number % 2 == 0 else list(arms)[::-1]
        for arm in order:
            trainer, config, rollout, options = arms[arm]
            times[arm].append(step_time(trainer, config, rollout, steps, dataset, seed=number, **options))
    pairs = {
        "DS-GRPO / GRPO, TRL's generation": (("ours", "host"), ("stock", "host")),
        "DS-GRPO / GRPO, shared_prefix_rollout": (("ours", "rollout"), ("stock", "rollout")),
        "shared_prefix_rollout / TRL's generation, GRPO": (("stock", "rollout"), ("stock", "host")),
    }
    print(f"median step-time ratios over {rounds} rounds of {steps} steps, 95% interval of the mean")
    for name, (above, below) in pairs.items():
        ratios = [a / b for a, b in zip(times[above], times[below], strict=True)]
        interval = bootstrap_mean(ratios, seed=0)
        print(
            f"{name}: median {statistics.median(ratios):.3f}, mean {interval.estimate:.3f} "
            f"[{interval.low:.3f}, {interval.high:.3f}]"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    main(**vars(parser.parse_args()))
