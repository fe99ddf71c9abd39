"""The same completions, sampled and scored in a real run of verl, give the same advantages in our TRL trainer as in verl."""

import json

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from verl_cpu.shared import FILE, OPTIONS, padded

from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer
from differential_smoothing.tasks import countdown
from differential_smoothing.training.base_model import SHIPPED_BASE

BATCH = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", OPTIONS)
def test_trl_gives_the_advantages_of_verl(name, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_BASE)
    size = BATCH["uid"].count(BATCH["uid"][0])
    # the shipped tokenizer has no token for a space, so decoding would run the numbers together
    texts = [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in BATCH["prompt_ids"]]
    problems = [countdown.read_prompt(text)[0] for text in texts]
    rows = [{"prompt": t, "nums": list(p.nums), "target": p.target} for t, p in zip(texts, problems, strict=True)]

    def replayed(prompts, trainer):
        assert len(prompts) == len(texts)
        return {
            "prompt_ids": BATCH["prompt_ids"],
            "completion_ids": BATCH["completion_ids"],
            "logprobs": BATCH["logps"],
        }

    trainer = DSGRPOTrainer(
        model=str(SHIPPED_BASE),
        args=DSGRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=len(rows),
            num_generations=size,
            max_completion_length=16,
            use_cpu=True,
            bf16=False,
            report_to=[],
            gradient_checkpointing=False,
            disable_tqdm=True,
            **OPTIONS[name],
        ),
        reward_funcs=countdown.countdown_correct,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        rollout_func=replayed,
    )
    trainer.model.train()
    output = trainer._generate_and_score_completions(rows)
    assert output["ds_correct"].tolist() == BATCH["correct"] and 0 < sum(BATCH["correct"]) < len(rows)
    ours = output["advantages"] if output["advantages"].dim() == 2 else output["advantages"][:, None]
    ours = ours * output["completion_mask"]
    in_verl = padded(BATCH["advantages"][name])
    torch.testing.assert_close(ours, in_verl, atol=2e-6, rtol=1e-5)
    assert in_verl.abs().max() > 0.1
