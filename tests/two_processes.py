"""Run by test_trl.py under torchrun: the stock trainer and ours on two processes, same seed, same data."""

import json
import sys
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list, gather_object
from test_trl import ABSORBED, even_length, trained, weights
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
from differential_smoothing.rules import make_rule


class Recording(DSGRPOTrainer):
    """Keeps the last batch before the host shuffles it."""

    def _generate_and_score_completions(self, inputs):
        self.batch = super()._generate_and_score_completions(inputs)
        self.prompts = [row["prompt"] for row in inputs]
        return self.batch


def uneven(prompts, trainer):
    """Shorter completions on the second process, so that the batches differ in width."""
    drawn, most = shared_prefix_rollout(prompts, trainer), 8 if trainer.accelerator.is_main_process else 5
    return drawn | {name: [row[:most] for row in drawn[name]] for name in ("completion_ids", "logprobs")}


def difference_from_one_process(trainer, rule):
    """How far the advantages are from the rule's on all completions in one batch; and the widths of the processes' batches."""
    batch = trainer.batch
    texts = trainer.processing_class.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    logps, mask, width = (
        batch["sampling_per_token_logps"],
        batch["completion_mask"],
        batch["completion_mask"].shape[1],
    )

    def padded(values):
        return torch.nn.functional.pad(values, (0, 8 - width)).tolist()

    given = batch["advantages"] if batch["advantages"].dim() == 2 else batch["advantages"][:, None] * mask
    columns = (trainer.prompts, even_length(texts), padded(logps), padded(mask), padded(given), [width] * len(texts))
    prompts, rewards, logps, mask, given, widths = zip(*gather_object(list(zip(*columns, strict=True))), strict=True)
    rewards, mask = torch.tensor(rewards), torch.tensor(mask)
    group = torch.tensor([sorted(set(prompts)).index(p) for p in prompts])
    expected = make_rule(rule)(rewards, torch.tensor(logps), mask, correct=rewards, group=group)
    expected = (expected if expected.dim() == 2 else expected[:, None]) * mask
    assert expected.abs().max() > 0.1
    return (torch.tensor(given) - expected).abs().max().item(), sorted(set(widths))


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
        list(zip(trainer.prompts, even_length(texts), sums.tolist(), batch["advantages"].tolist(), strict=True))
    )
    prompts, rewards, logps, advantages = zip(*everyone, strict=True)
    rewards = torch.tensor(rewards)
    expected = ds_grpo_advantages(
        rewards,
        torch.tensor(logps)[:, None],
        torch.ones(len(rewards), 1),
        correct=rewards > 0.5,
        group=torch.tensor([sorted(set(prompts)).index(p) for p in prompts]),
        gamma_p=0.3,
        gamma_n=0.1,
        level="sum",
        stage="reward",
    )[:, 0]
    result["reward_stage_error"] = (torch.tensor(advantages) - expected).abs().max().item()
    for rule in ("ucpo", "ds_a", "dr_grpo"):
        trainer = run(Recording, DSGRPOConfig, rule=rule, rollout=uneven)
        result[f"{rule}_error"], result[f"{rule}_widths"] = difference_from_one_process(trainer, rule)
    result["processes"] = trainer.accelerator.num_processes
    broadcast_object_list([0])
    if trainer.accelerator.is_main_process:
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
