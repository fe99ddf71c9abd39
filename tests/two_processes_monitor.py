"""Run by test_monitor.py under torchrun: groups that lie across two processes, with and without the monitor."""

import json
import sys
from pathlib import Path

import numpy as np
from accelerate.utils import gather_object
from test_monitor import first_letter
from test_trl import even_length, make, weights
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing.evaluation.monitoring.groups import group_statistics, likelihood_statistics
from differential_smoothing.integrations.monitor import SharpeningMonitor
from differential_smoothing.integrations.trl import shared_prefix_rollout


class Keeping(GRPOTrainer):
    """Keeps the first batch's completions before the host shuffles it."""

    def _calculate_rewards(self, inputs, prompts, completions, ids):
        self.kept = getattr(self, "kept", completions)
        return super()._calculate_rewards(inputs, prompts, completions, ids)

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.batch = getattr(self, "batch", batch)
        return batch


def main(model: str, folder: Path) -> None:
    ends = []
    for watch in (False, True):
        # 6 completions a process in groups of 4: the second group lies across both processes
        trainer = make(
            Keeping,
            GRPOConfig,
            model,
            folder / "run",
            per_device_train_batch_size=6,
            num_generations=4,
            rollout=shared_prefix_rollout,
        )
        if watch:
            SharpeningMonitor(trainer, canonical=first_letter, warmup=20)
        trainer.train()
        ends.append(weights(trainer))
    batch = trainer.batch
    sums = (batch["sampling_per_token_logps"] * batch["completion_mask"]).sum(1)
    rows = gather_object(
        list(zip(trainer.kept, sums.tolist(), batch["completion_mask"].sum(1).tolist(), batch["advantages"].tolist()))
    )
    texts, logps, tokens, advantages = (list(column) for column in zip(*rows, strict=True))
    correct, answers, logps, tokens, advantages = (
        np.reshape(column, (-1, 4))
        for column in (
            even_length(texts),
            [ord((first_letter(t) or "\0")[0]) or -1 for t in texts],
            logps,
            tokens,
            advantages,
        )
    )
    expected, _ = group_statistics(correct, answers, [1, 2, 4])
    expected |= likelihood_statistics(correct, logps, tokens, advantages)
    result = {
        "processes": trainer.accelerator.num_processes,
        "difference": (ends[0] - ends[1]).abs().max().item(),
        "expected": {name: value for name, value in expected.items() if value == value},
        "logged": {},
    }
    if trainer.accelerator.is_main_process:
        logged = trainer.state.log_history[0]
        result["logged"] = {k.removeprefix("sharpening/"): v for k, v in logged.items() if "sharp" in k}
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
