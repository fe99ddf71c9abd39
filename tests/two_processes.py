"""Run by test_trl.py under torchrun: the stock trainer and ours on two processes, same seed, same data."""

import json
import sys
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list, gather_object
from test_trl import ABSORBED, even_length, trained, weights
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer


class Recording(DSGRPOTrainer):
    """Keeps the last batch before the host shuffles it."""

    def _generate_and_score_completions(self, inputs):
        self.batch = super()._generate_and_score_completions(inputs)
        self.prompts = [row["prompt"] for row in inputs]
        return self.batch


def main(model: str, folder: Path) -> None:
    # 6 completions a process in groups of 4: the second group lies across both processes
    options = dict(per_device_train_batch_size=6, num_generations=4, max_steps=3)

    def run(trainer, config, **more):
        return trained(trainer, config, model, folder / "run", **options, **more)

    stock = weights(run(GRPOTrainer, GRPOConfig))
    result = {
        "zero": (weights(run(DSGRPOTrainer, DSGRPOConfig)) - stock).abs().max().item(),
        "absorbed": (weights(run(DSGRPOTrainer, DSGRPOConfig, gamma_p=ABSORBED)) - stock).abs().max().item(),
        "smoothed": (weights(run(DSGRPOTrainer, DSGRPOConfig, gamma_p=0.3)) - stock).abs().max().item(),
    }
    trainer = run(Recording, DSGRPOConfig, gamma_p=0.3, gamma_n=0.1, level="sum", stage="reward")
    batch = trainer.batch
    texts = trainer.processing_class.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    sums = (batch["old_per_token_logps"] * batch["completion_mask"]).sum(1)
    everyone = gather_object(
        list(
            zip(trainer.prompts, even_length(texts), sums.tolist(), batch["advantages"].tolist(), strict=True)
        )
    )
    prompts, rewards, logps, advantages = zip(*everyone, strict=True)
    rewards = torch.tensor(rewards)
    expected = ds_grpo_advantages(
        rewards, torch.tensor(logps)[:, None], torch.ones(len(rewards), 1), correct=rewards > 0.5,
        group=torch.tensor([sorted(set(prompts)).index(p) for p in prompts]), gamma_p=0.3, gamma_n=0.1, level="sum",
        stage="reward",
    )[:, 0]  # fmt: skip
    result["reward_stage_error"] = (torch.tensor(advantages) - expected).abs().max().item()
    result["processes"] = trainer.accelerator.num_processes
    broadcast_object_list([0])
    if trainer.accelerator.is_main_process:
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
