"""One training on any number of processes: imported by test_processes.py, which also runs it under torchrun.

torchrun --nproc_per_node 2 tests/processes.py MODEL FOLDER [train|resume]
"""

import sys
import zlib
from pathlib import Path

import torch
from accelerate.utils import gather_object
from test_trl import make
from torch.distributed.tensor import DTensor

from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout

COMPLETIONS, GROUP = 12, 4  # of a step, on all processes: with two, the second group lies across both
# AdamW turns the rounding of a gradient near 0 into a whole step, so most cases go without
PLAIN = dict(optim="sgd", learning_rate=0.1)
CASES = {
    "token": dict(gamma_p=0.3, gamma_n=0.1, learning_rate=1e-4),  # AdamW
    "token, log-probs of the loss": dict(gamma_p=0.3, gamma_n=0.1, sampler_logps=False, **PLAIN),
    "token, centred": dict(gamma_p=0.3, gamma_n=0.1, center=True, **PLAIN),
    "sum": dict(gamma_p=1.0, gamma_n=1.0, level="sum", **PLAIN),
    "mean, centred": dict(gamma_p=3.0, gamma_n=1.0, level="mean", center=True, **PLAIN),
    "reward stage": dict(gamma_p=0.3, gamma_n=0.1, level="sum", stage="reward", **PLAIN),
    "schedule": dict(gamma_p=1.0, schedule="entropy_discrepancy", **PLAIN),
    "rule": dict(gamma_p=0.3, rule="ucpo", **PLAIN),
}
RESUMED, SHARDED = "token", "mean, centred"  # from a checkpoint in the middle; with FSDP2
FSDP = {"model_init_kwargs": {"distributed_config": {"fsdp_size": 2}}}


def drawn(prompts, trainer):
    """Tokens and log-probs that depend on the prompt and on which copy it is, alone: the same on any number of processes.

    A group's completions are about as long as each other, so that many rows are as wide as their own process's batch.
    """
    ids, _, _ = trainer._tokenize_prompts(prompts)
    first, completions, logps = trainer.accelerator.process_index * len(prompts), [], []
    for place, prompt in enumerate(prompts, first):
        copy = place % GROUP
        generator = torch.Generator().manual_seed(zlib.crc32(f"{prompt}{copy}".encode()))
        length = 6 + zlib.crc32(prompt.encode()) % 30 - copy
        tokens = torch.randint(3, len(trainer.processing_class), (length,), generator=generator)
        completions.append(tokens.tolist())
        logps.append(torch.rand(length, generator=generator).log().tolist())
    return {"prompt_ids": ids, "completion_ids": completions, "logprobs": logps}


def drawn_without_logps(prompts, trainer):
    return {**drawn(prompts, trainer), "logprobs": None}


class Recording(DSGRPOTrainer):
    """Keeps every step's completions of all processes in order: (prompt, tokens, advantages by token, width of the batch)."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.seen = []

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        mask, given = batch["completion_mask"], batch["advantages"]
        given = given if given.dim() == 2 else given[:, None].expand_as(mask)
        rows = [
            (row["prompt"], tokens[m.bool()].tolist(), advantages[m.bool()].tolist(), len(m))
            for row, tokens, advantages, m in zip(inputs, batch["completion_ids"], given, mask, strict=True)
        ]
        self.seen.append(gather_object(rows))
        return batch


def weights(trainer):
    """The whole model as one vector, on every process."""
    parts = [p.detach() for p in trainer.model.parameters()]
    return torch.cat([(p.full_tensor() if isinstance(p, DTensor) else p).flatten() for p in parts])


def trained(model, folder, case, processes, *, checkpoint=None, **options):
    """{"seen": of Recording, "weights": after 5 steps, "processes": how many there really were}, and the trainer."""
    options = {**CASES[case], **options}
    trainer = make(
        Recording,
        DSGRPOConfig,
        model,
        folder,
        max_steps=5,
        max_completion_length=40,
        num_generations=GROUP,
        per_device_train_batch_size=COMPLETIONS // processes,
        rollout=drawn if options.pop("sampler_logps", True) else drawn_without_logps,
        **options,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    found = {"seen": trainer.seen, "weights": weights(trainer), "processes": trainer.accelerator.num_processes}
    return found, trainer


def main(model: str, folder: Path, what: str) -> None:
    found = {}
    if what == "train":
        for case in CASES:
            saving = dict(save_strategy="steps", save_steps=2) if case == RESUMED else {}
            found[case], trainer = trained(model, folder / "run", case, 2, **saving)
        found["fsdp"], trainer = trained(model, folder / "fsdp", SHARDED, 2, **FSDP)
        found["fsdp"]["sharded"] = all(isinstance(p, DTensor) for p in trainer.model.parameters())
        trainer.save_model(str(folder / "model"))
        if trainer.accelerator.is_main_process:  # whose completions end at once, whatever their first token
            trainer.eos_token_ids = list(range(len(trainer.processing_class)))
        sampled = shared_prefix_rollout(["1 2 3 4 = 10 :"] * 2, trainer)
        found["lengths"] = gather_object([len(ids) for ids in sampled["completion_ids"]])
    else:
        checkpoint = str(folder / "run" / "checkpoint-2")
        found[RESUMED], trainer = trained(model, folder / "resumed", RESUMED, 2, checkpoint=checkpoint)
    if trainer.accelerator.is_main_process:
        torch.save(found, folder / f"{what}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
