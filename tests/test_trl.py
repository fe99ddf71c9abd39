"""The trainer against the stock trainer, over real training steps of a real model. Also the contract with the host."""

import inspect
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
from differential_smoothing.tasks import countdown

ABSORBED = 1e-30  # a gamma so small that float32 absorbs its term: the whole path of DS runs, the sum must not change


def rows(count=32):
    problems = countdown.generate(count, split="train", seed=0)
    return Dataset.from_list(
        [{"prompt": countdown.prompt(p), "nums": list(p.nums), "target": p.target} for p in problems]
    )


def even_length(completions, **_):
    """A reward that a random model sometimes earns and sometimes does not."""
    return [float(len(text) % 2 == 0) for text in completions]


def short(completions, **_):
    return [1.0 / (1 + len(text)) for text in completions]


def sometimes_silent(completions, **_):
    return [None if len(text) % 3 == 0 else float(len(text) % 2) for text in completions]


def make(trainer, config, model, folder, *, rewards=even_length, rollout=None, peft=None, dataset=None, **options):
    defaults = dict(
        output_dir=str(folder),
        per_device_train_batch_size=16,
        num_generations=4,
        max_completion_length=8,
        max_steps=3,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        seed=3,
        disable_tqdm=True,
        gradient_checkpointing=False,
    )
    return trainer(
        model=model,
        args=config(**{**defaults, **options}),
        reward_funcs=rewards,
        train_dataset=rows() if dataset is None else dataset,
        processing_class=AutoTokenizer.from_pretrained(model),
        rollout_func=rollout,
        peft_config=peft,
    )


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def trained(*args, **options):
    trainer = make(*args, **options)
    trainer.train()
    return trainer


SETTINGS = {
    "default": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "buffer": {"steps_per_generation": 2, "num_iterations": 2},
    "aligned buffer": {"gradient_accumulation_steps": 4, "steps_per_generation": 2, "num_iterations": 2},
    "several rewards": {"rewards": [even_length, short, sometimes_silent], "reward_weights": [1.0, 0.3, 0.5]},
    "unscored": {"rewards": sometimes_silent},
    "truncated": {"mask_truncated_completions": True},
    "kl": {"beta": 0.1},
    "batch scale": {"scale_rewards": "batch"},
    "no scale": {"scale_rewards": "none", "loss_type": "dr_grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "entropy bonus": {"entropy_coef": 0.01},
    "top entropy": {"top_entropy_quantile": 0.5},
    "checkpointing": {"gradient_checkpointing": True},
    "rollout": {"rollout": shared_prefix_rollout},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_without_smoothing_it_trains_bit_for_bit_as_the_stock_trainer(name, tiny_model, tmp_path):
    options = SETTINGS[name]
    named = {"correct_reward": "even_length"} if name == "several rewards" else {}
    stock = weights(trained(GRPOTrainer, GRPOConfig, tiny_model, tmp_path / "stock", **options))
    for gamma in (0.0, ABSORBED):
        ours = trained(
            DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "ours", gamma_p=gamma, gamma_n=gamma, **named, **options
        )
        assert torch.equal(weights(ours), stock), f"gamma={gamma}"
    smoothed = trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "ds", gamma_p=0.5, **named, **options)
    assert not torch.equal(weights(smoothed), stock)  # so the comparison above can fail


class Recording(DSGRPOTrainer):
    """Keeps what the loss was given, and the current log-probabilities."""

    def _compute_loss(self, model, inputs):
        self.seen = getattr(self, "seen", [])
        loss = super()._compute_loss(model, inputs)
        self.seen.append({k: v.detach().clone() for k, v in (self._recorded or inputs).items() if torch.is_tensor(v)})
        return loss

    def _shape(self, inputs, logps, entropies=None):
        inputs["stock"] = inputs["advantages"].clone()
        super()._shape(inputs, logps, entropies)

    def _log_metrics(self, inputs, logps, term):
        super()._log_metrics(inputs, logps, term)
        inputs["logps"] = logps
        self._recorded = inputs if self._in_loss is inputs else None

    _recorded = None


@pytest.mark.parametrize("rollout", [None, shared_prefix_rollout], ids=["logps of the loss", "logps of the sampler"])
@pytest.mark.parametrize(
    "shape",
    [
        {"level": "token", "stage": "advantage"},
        {"level": "mean", "stage": "advantage", "scale_rewards": "none"},
        {"level": "sum", "stage": "advantage", "scale_rewards": "batch"},
        {"level": "sum", "stage": "advantage", "center": True},
        {"level": "mean", "stage": "reward"},
        {"level": "sum", "stage": "reward", "scale_rewards": "none"},
        {"level": "sum", "stage": "reward", "scale_rewards": "batch"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_the_loss_gets_the_advantages_of_the_pure_function(shape, rollout, tiny_model, tmp_path):
    gammas = {"gamma_p": 0.3, "gamma_n": 0.1}
    trainer = trained(Recording, DSGRPOConfig, tiny_model, tmp_path, max_steps=1, rollout=rollout, **gammas, **shape)
    (seen,) = trainer.seen
    mask, logps = seen["completion_mask"], seen["logps"]
    texts = trainer.processing_class.batch_decode(
        [ids[m.bool()] for ids, m in zip(seen["completion_ids"], mask)], skip_special_tokens=True
    )
    rewards = torch.tensor(even_length(texts))
    prompts = ["".join(map(str, ids.tolist())) for ids in seen["prompt_ids"]]  # the batch was shuffled: groups are ids
    group = torch.tensor([sorted(set(prompts)).index(p) for p in prompts])
    expected = ds_grpo_advantages(
        rewards,
        logps,
        mask,
        correct=rewards > 0.5,
        group=group,
        level=shape["level"],
        stage=shape["stage"],
        center=shape.get("center", False),
        scale=shape.get("scale_rewards", "group"),
        **gammas,
    )
    given = seen["advantages"] if seen["advantages"].dim() == 2 else seen["advantages"][:, None]
    torch.testing.assert_close(given * mask, expected, rtol=1e-5, atol=1e-6)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("rollout", [None, shared_prefix_rollout], ids=["logps of the loss", "logps of the sampler"])
def test_no_forward_pass_more_than_stock(rollout, tiny_model, tmp_path):
    def passes(trainer, config, **options):
        made = make(trainer, config, tiny_model, tmp_path, rollout=rollout, **options)
        count = [0]
        made.model.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
        made.train()
        return count[0]

    assert passes(DSGRPOTrainer, DSGRPOConfig, gamma_p=0.3) == passes(GRPOTrainer, GRPOConfig) > 3


def test_log_probs_of_the_sampler_are_those_of_the_trainer(tiny_model, tmp_path):
    trainer = trained(
        Recording,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        max_steps=1,
        rollout=shared_prefix_rollout,
        temperature=0.7,
        gradient_accumulation_steps=1,
        steps_per_generation=2,
        gamma_p=0.3,
    )
    (seen,) = trainer.seen  # steps_per_generation=2 makes the host compute old log-probs, temperature included
    mask = seen["completion_mask"].bool()
    difference = seen["old_per_token_logps"][mask] - seen["sampling_per_token_logps"][mask]
    assert difference.abs().max() < 1e-5
    assert seen["sampling_per_token_logps"][mask].mean() < -0.5


@pytest.mark.parametrize("rollout", [None, shared_prefix_rollout], ids=["logps of the loss", "logps of the sampler"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_completions_table_and_metrics_show_the_shaped_advantages(rollout, accumulation, tiny_model, tmp_path):
    options = dict(max_steps=2, log_completions=True, num_completions_to_print=0, learning_rate=1e-9, rollout=rollout)
    options |= {"gradient_accumulation_steps": accumulation}
    tables = {}
    for name, trainer, config, gammas in (
        ("stock", GRPOTrainer, GRPOConfig, {}),
        ("ours", DSGRPOTrainer, DSGRPOConfig, {"gamma_p": 0.3, "gamma_n": 0.2}),
    ):
        made = trained(trainer, config, tiny_model, tmp_path / name, **gammas, **options)
        tables[name] = pd.read_parquet(tmp_path / name / "completions" / "completions_00002.parquet")
    stock, ours = tables["stock"], tables["ours"]
    assert list(stock["completion"]) == list(ours["completion"])  # same draws, since the weights have hardly moved
    added = (ours["advantage"] - stock["advantage"]).to_numpy()
    correct = ours["even_length"].to_numpy() > 0.5
    assert (added[correct] > 0).all() and (added[~correct] < 0).all() and correct.any() and not correct.all()
    logged = made.state.log_history[-2]
    assert logged["ds/term_correct"] == pytest.approx(-0.3 * logged["ds/logp_correct"], rel=1e-5)
    assert logged["ds/term_incorrect"] == pytest.approx(0.2 * logged["ds/logp_incorrect"], rel=1e-5)
    assert logged["ds/correct"] == pytest.approx(logged["rewards/even_length/mean"])


def test_the_reward_stage_is_logged_too(tiny_model, tmp_path):
    trainer = trained(
        Recording,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        gamma_p=0.3,
        level="sum",
        stage="reward",
        max_steps=1,
        log_completions=True,
        num_completions_to_print=0,
    )
    (seen,) = trainer.seen
    table = pd.read_parquet(tmp_path / "completions" / "completions_00001.parquet")
    # the host shuffled the batch; ds_row says where each completion stood
    logged = torch.tensor(table["advantage"].to_numpy(), dtype=torch.float32)[seen["ds_row"]]
    torch.testing.assert_close(logged, seen["advantages"])


def test_correctness_is_the_named_reward_above_the_threshold(tiny_model, tmp_path):
    trainer = trained(
        Recording,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        gamma_p=0.3,
        max_steps=1,
        rewards=[even_length, short],
        correct_reward="short",
        correct_threshold=0.09,
    )
    (seen,) = trainer.seen
    ids = [ids[m.bool()] for ids, m in zip(seen["completion_ids"], seen["completion_mask"])]
    texts = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
    expected = [float(reward > 0.09) for reward in short(texts)]
    assert seen["ds_correct"].tolist() == expected and len(set(expected)) == 2


def test_the_rollout_draws_what_the_host_draws(tiny_model, tmp_path):
    tables = []
    for name, rollout in (("host", None), ("ours", shared_prefix_rollout)):
        trained(
            GRPOTrainer,
            GRPOConfig,
            tiny_model,
            tmp_path / name,
            rollout=rollout,
            max_steps=1,
            temperature=0.7,
            log_completions=True,
            num_completions_to_print=0,
        )
        tables.append(pd.read_parquet(tmp_path / name / "completions" / "completions_00001.parquet"))
    assert list(tables[0]["completion"]) == list(tables[1]["completion"])
    assert len(set(tables[0]["completion"])) > 4


@pytest.mark.parametrize("prompts", [["1 2 = 3 :"] * 6 + ["4 5 = 9 :"] * 4, ["1 2 = 3 :", "4 5 = 9 :"]])
def test_the_rollout_answers_every_prompt_in_place(prompts, tiny_model, tmp_path):
    trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path)
    result = shared_prefix_rollout(prompts, trainer)  # runs of 6 and 4: a share that cuts a group
    assert result["prompt_ids"] == trainer.processing_class(prompts)["input_ids"]
    assert len(result["completion_ids"]) == len(result["logprobs"]) == len(prompts)


def test_evaluation_at_the_reward_stage_uses_its_own_group_size(tiny_model, tmp_path):
    trainer = make(
        DSGRPOTrainer,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        gamma_p=0.3,
        level="sum",
        stage="reward",
        num_generations_eval=2,
        per_device_eval_batch_size=6,
    )
    trainer.model.eval()
    batch = trainer._generate_and_score_completions([row for row in rows(3).to_list() for _ in range(2)])
    pairs = batch["advantages"].view(3, 2)
    torch.testing.assert_close(pairs.sum(1), torch.zeros(3), atol=1e-4, rtol=0)
    assert pairs.abs().max() > 0.1


def test_truncated_completions_that_the_host_masks_get_nothing(tiny_model, tmp_path):
    trainer = trained(
        Recording, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, max_steps=1, mask_truncated_completions=True
    )
    (seen,) = trainer.seen
    truncated = seen["completion_mask"].sum(1) == 0
    assert truncated.any()
    assert torch.equal(seen["advantages"][truncated], seen["stock"][truncated][:, None].expand(-1, 8))


@pytest.mark.parametrize("level", ["mean", "sum"])
def test_truncated_completions_are_none_to_be_compared_with(level, tiny_model, tmp_path):
    """The term sums to 0 over those of a group that are trained on, as in the pure function."""
    gammas = {"gamma_p": 0.3, "gamma_n": 0.1}
    trainer = trained(
        Recording,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        max_steps=1,
        mask_truncated_completions=True,
        center=True,
        level=level,
        max_completion_length=64,
        num_generations=8,
        **gammas,
    )
    (seen,) = trainer.seen
    mask, correct = seen["completion_mask"], seen["ds_correct"]
    prompts = ["".join(map(str, ids.tolist())) for ids in seen["prompt_ids"]]
    group = torch.tensor([sorted(set(prompts)).index(p) for p in prompts])
    expected = ds_grpo_advantages(
        correct, seen["logps"], mask, correct=correct, group=group, level=level, center=True, **gammas
    )
    given = seen["advantages"] if seen["advantages"].dim() == 2 else seen["advantages"][:, None]
    torch.testing.assert_close(given * mask, expected, rtol=1e-5, atol=1e-6)
    kept = mask.sum(1) > 0
    assert not kept.all() and len(group[kept].unique()) < kept.sum()


def test_unscored_completions_get_nothing(tiny_model, tmp_path):
    trainer = trained(
        Recording, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, gamma_n=0.3, max_steps=1, rewards=sometimes_silent
    )
    (seen,) = trainer.seen
    unknown = seen["ds_correct"].isnan()
    assert unknown.any() and not unknown.all()
    assert (seen["advantages"][unknown] == 0).all() and seen["advantages"].isfinite().all()


def test_evaluate_works_and_logs_its_own_metrics(tiny_model, tmp_path):
    trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, per_device_eval_batch_size=8)
    trainer.eval_dataset = rows(8)
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_loss"])
    assert trainer.state.log_history[-1]["eval_ds/term_correct"] > 0


def test_a_lora_adapter_trains(tiny_model, tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    stock = trained(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, peft=lora, beta=0.1)
    ours = trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, peft=lora, beta=0.1, gamma_p=ABSORBED)
    smoothed = trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, peft=lora, beta=0.1, gamma_p=0.3)
    assert torch.equal(weights(ours), weights(stock))
    assert not torch.equal(weights(smoothed), weights(stock))


def test_resume_from_a_checkpoint_is_exact(tiny_model, tmp_path):
    options = dict(gamma_p=0.3, max_steps=4, save_strategy="steps", save_steps=2, rollout=shared_prefix_rollout)
    whole = trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, **options)
    resumed = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(weights(resumed), weights(whole))


def test_chat_prompts_and_the_model_card(tiny_model, tmp_path):
    dataset = rows().map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})

    def even_answer(completions, **_):
        return even_length([messages[0]["content"] for messages in completions])

    trainer = make(
        DSGRPOTrainer,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        gamma_p=0.3,
        rewards=even_answer,
        dataset=dataset,
        rollout=shared_prefix_rollout,
        max_steps=1,
    )
    trainer.processing_class.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    trainer.train()
    trainer.create_model_card(model_name="x")
    assert "2511.19942" in (tmp_path / "README.md").read_text()


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_train_bit_for_bit_as_the_stock_trainer_on_two(tiny_model, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            "2",
            "--master_port",
            "0",
            "--standalone",
            str(Path(__file__).with_name("two_processes.py")),
            tiny_model,
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["processes"] == 2
    assert result["zero"] == result["absorbed"] == 0.0
    assert result["smoothed"] > 0
    # the reward stage needs statistics of groups that lie across both processes
    assert result["reward_stage_error"] < 1e-5
    # and so do rules: of completions, of tokens, with and without log-probabilities, on batches that differ in width
    assert result["ucpo_widths"] == result["ds_a_widths"] == [5, 8]
    assert max(result["ucpo_error"], result["ds_a_error"], result["dr_grpo_error"]) < 1e-5


# --- what a user can get wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma_p": -0.1}, "gamma_p must be a finite number >= 0, got -0.1"),
        ({"gamma_n": float("nan")}, "gamma_n must be a finite number >= 0"),
        ({"level": "tokens"}, "level must be one of token, mean, sum; got 'tokens'"),
        ({"stage": "both"}, "stage must be one of advantage, reward"),
        ({"stage": "reward"}, "level='token' has no meaning there"),
        (
            {"gamma_p": 0.1, "center": True, "level": "sum", "stage": "reward"},
            "center shifts the term at the advantage stage",
        ),
        (
            {"stage": "reward", "level": "sum", "multi_objective_aggregation": "normalize_then_sum"},
            "'sum_then_normalize'",
        ),
    ],
)
def test_a_wrong_config_says_what_to_do(options, message, tmp_path):
    with pytest.raises(ValueError) as caught:
        DSGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
    assert message in str(caught.value)


def test_several_rewards_need_to_be_told_which_is_correctness(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="set correct_reward to one of even_length, short"):
        make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, rewards=[even_length, short])
    with pytest.raises(ValueError, match="correct_reward='accuracy' must name one of the reward functions"):
        make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, correct_reward="accuracy")


def test_the_stock_config_is_refused(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="DSGRPOTrainer needs args=DSGRPOConfig"):
        make(DSGRPOTrainer, GRPOConfig, tiny_model, tmp_path)


def test_shared_prefix_rollout_refuses_options_it_cannot_honour(tiny_model, tmp_path):
    trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, rollout=shared_prefix_rollout, top_p=0.9)
    with pytest.raises(ValueError, match=r"cannot do top_p=0.9"):
        trainer.train()


# --- the contract with the host: a change in TRL should fail here, by name ------------------------------------------


def test_the_private_methods_we_extend_are_as_we_know_them():
    parameters = {
        "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
        "_generate_and_score_completions": ["self", "inputs"],
        "_compute_loss": ["self", "model", "inputs"],
    }
    for name, expected in parameters.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == expected
    loss = inspect.getsource(GRPOTrainer._compute_loss)
    # the term can be added on the way into the loss only while the advantages are read after the log-probs
    assert loss.index("_get_per_token_logps_and_entropies(") < loss.index('inputs["advantages"]')
