"""Rules in real training steps: what reaches the loss, the log and the table is what the rule says of the group."""

import math
from functools import partial

import pandas as pd
import pytest
import torch
from test_trl import ABSORBED, Recording, even_length, make, rows, short, sometimes_silent, trained, weights
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
from differential_smoothing.rules import PRESETS, RULES, make_rule
from differential_smoothing.training import parse_config, train

OWN = '''"""A rule of a user's own: token by token, with an option."""
import torch

def by_token(rewards, logps, mask, *, correct, group, scale=1.0):
    place = torch.arange(mask.shape[1], device=mask.device) + 1.0
    return scale * (2 * correct.nan_to_num(nan=0.5) - 1)[:, None] * place * mask

def broken(rewards, logps, mask, *, correct, group, progress=0.0):
    return rewards / 0 if progress > 0.3 else rewards

broken.needs_logps = by_token.needs_logps = False
'''


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "elsewhere" / "mine.py"
    path.parent.mkdir()
    path.write_text(OWN)
    return path


class Watching(Recording):
    """Keeps every batch of completions as it was scored, before the host shuffles and splits it."""

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        batch = {k: v.clone() for k, v in output.items() if torch.is_tensor(v)}
        batch["prompts"] = [row["prompt"] for row in inputs]
        self.scored = [*getattr(self, "scored", []), batch]
        return output


def of_the_rule(trainer, batch, name, options, *, logps=None, reward=even_length):
    """The rule on what was generated: rewards from the texts, groups from the prompts. (batch,) or (batch, tokens)."""
    texts = trainer.processing_class.batch_decode(
        [ids[m.bool()] for ids, m in zip(batch["completion_ids"], batch["completion_mask"])], skip_special_tokens=True
    )
    rewards = torch.tensor([math.nan if r is None else r for r in reward(texts)])
    correct = torch.where(rewards.isnan(), rewards, (rewards > 0.5).float())
    group = torch.tensor([sorted(set(batch["prompts"])).index(p) for p in batch["prompts"]])
    return make_rule(name, options)(rewards, logps, batch["completion_mask"], correct=correct, group=group)


def run(model, folder, rule, *, trainer=Watching, **options):
    return trained(trainer, DSGRPOConfig, model, folder, **{"max_steps": 1, "rule": rule, **options})


# --- against the stock trainer ------------------------------------------------------------------------------------------


def test_dr_grpo_trains_as_the_stock_trainer_without_scaling(tiny_model, tmp_path):
    stock = weights(trained(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, scale_rewards="none"))
    ours = weights(run(tiny_model, tmp_path, "dr_grpo", trainer=DSGRPOTrainer, max_steps=3))
    other = weights(run(tiny_model, tmp_path, "psr", trainer=DSGRPOTrainer, max_steps=3))
    assert (ours - stock).abs().max() <= 1e-7
    assert (other - stock).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["entropy_bonus", "dr_grpo_loss"])
def test_a_preset_trains_as_the_stock_trainer_with_its_options(name, tiny_model, tmp_path):
    stock, plain = (
        weights(trained(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, max_steps=2, **options))
        for options in (PRESETS[name], {})
    )
    ours = weights(run(tiny_model, tmp_path, name, trainer=DSGRPOTrainer, max_steps=2))
    assert torch.equal(ours, stock)
    assert not torch.equal(stock, plain)


# --- what reaches the loss ------------------------------------------------------------------------------------------------

READS_LOGPS = [name for name in RULES if RULES[name][1]]


@pytest.mark.parametrize("name", ["maxrl", "pkpo", "ucpo", "ds_a"])
@pytest.mark.parametrize("rollout", [None, shared_prefix_rollout], ids=["host", "sampler"])
def test_the_loss_gets_the_rule_s_advantages(name, rollout, tiny_model, tmp_path):
    options = {"k": 2} if name == "pkpo" else {}
    trainer = run(tiny_model, tmp_path, name, rollout=rollout, rule_options=options)
    (batch,), (seen,) = trainer.scored, trainer.seen
    logps = batch.get("old_per_token_logps", batch.get("sampling_per_token_logps"))
    assert (logps is not None) or not RULES[name][1]
    expected = of_the_rule(trainer, batch, name, options, logps=logps)
    torch.testing.assert_close(batch["advantages"], expected, rtol=1e-5, atol=1e-6)
    assert expected.abs().max() > 0.1
    # the loss sees the rows in another order
    torch.testing.assert_close(seen["advantages"], expected[seen["ds_row"]], rtol=1e-5, atol=1e-6)


def test_log_probs_that_a_rule_reads_are_those_of_the_policy_that_sampled(tiny_model, tmp_path):
    batches = [
        run(tiny_model, tmp_path, "ucpo", rollout=r, temperature=0.7).scored[0] for r in (None, shared_prefix_rollout)
    ]
    host, sampler = batches[0]["old_per_token_logps"], batches[1]["sampling_per_token_logps"]
    assert torch.equal(batches[0]["completion_ids"], batches[1]["completion_ids"])
    mask = batches[0]["completion_mask"].bool()
    assert (host - sampler)[mask].abs().max() < 1e-5


def test_a_rule_on_the_way_to_the_loss_keeps_its_row_through_the_buffer(own, tiny_model, tmp_path):
    """Accumulation, several steps per generation, several iterations: the host shuffles, splits and hands out again."""
    for name in ("maxrl", f"{own}:by_token"):
        trainer = run(
            tiny_model,
            tmp_path,
            name,
            max_steps=4,
            gradient_accumulation_steps=2,
            steps_per_generation=4,
            num_iterations=2,
            per_device_train_batch_size=8,
        )
        assert len(trainer.scored) == 1 and len(trainer.seen) == 8
        (batch,) = trainer.scored
        expected = of_the_rule(trainer, batch, name, {})
        places = []
        for seen in trainer.seen:
            places += seen["ds_row"].tolist()
            assert torch.equal(seen["completion_ids"], batch["completion_ids"][seen["ds_row"]])
            torch.testing.assert_close(seen["advantages"], expected[seen["ds_row"]], rtol=1e-6, atol=1e-6)
        assert sorted(places) == sorted([*range(32)] * 2) and places != sorted(places)


@pytest.mark.parametrize("level", ["token", "sum"])
@pytest.mark.parametrize("name", ["maxrl", "by_token"])
def test_differential_smoothing_stacks_on_a_rule(name, level, own, tiny_model, tmp_path):
    rule = f"{own}:by_token" if name == "by_token" else name
    trainer = run(tiny_model, tmp_path, rule, gamma_p=0.2, gamma_n=0.1, level=level)
    (seen,) = trainer.seen
    base = of_the_rule(trainer, trainer.scored[0], rule, {})[seen["ds_row"]]
    base = base if base.dim() == 2 else base[:, None]
    mask, logps = seen["completion_mask"], seen["logps"]
    factor = torch.where(seen["ds_correct"] == 1, -0.2, 0.1)[:, None]
    term = factor * (logps if level == "token" else (logps * mask).sum(1, keepdim=True))
    torch.testing.assert_close(seen["advantages"] * mask, (base + term) * mask, rtol=1e-5, atol=1e-6)
    assert (term * mask).abs().max() > 0.1


def test_center_stacks_on_a_rule(own, tiny_model, tmp_path):
    rule = f"{own}:by_token"
    trainer = run(tiny_model, tmp_path, rule, gamma_p=0.2, level="sum", center=True)
    (batch,) = trainer.scored
    mask, correct = batch["completion_mask"], batch["ds_correct"]
    whole = (batch["old_per_token_logps"] * mask).sum(1)
    term = torch.zeros(16)
    for i in range(16):
        kin = [j for j in range(16) if j // 4 == i // 4 and correct[j] == correct[i]]
        if correct[i] == 1:
            term[i] = -0.2 * (whole[i] - whole[kin].mean())
    expected = of_the_rule(trainer, batch, rule, {}) + term[:, None]
    torch.testing.assert_close(batch["advantages"] * mask, expected * mask, rtol=1e-5, atol=1e-5)
    assert term.abs().max() > 0.1


def test_token_entropies_centre_the_term(tiny_model, tmp_path):
    """At temperature 0.7, entropies recomputed here from the model's own logits."""
    for rollout, options in ((None, {}), (shared_prefix_rollout, {}), (None, {"rule": "maxrl"})):
        trainer = make(
            Watching,
            DSGRPOConfig,
            tiny_model,
            tmp_path,
            gamma_p=0.3,
            gamma_n=0.1,
            center=True,
            temperature=0.7,
            max_steps=1,
            rollout=rollout,
            learning_rate=0.0,
            **options,
        )
        trainer.train()
        (batch,), (seen,) = trainer.scored, trainer.seen
        ids = torch.cat([seen["prompt_ids"], seen["completion_ids"]], 1)
        attention = torch.cat([seen["prompt_mask"], seen["completion_mask"]], 1)
        with torch.no_grad():
            logits = trainer.model(
                ids, attention_mask=attention, position_ids=(attention.cumsum(1) - 1).clamp(min=0)
            ).logits
        width = seen["completion_ids"].shape[1]
        log_pi = (logits[:, -width - 1 : -1] / 0.7).log_softmax(-1)
        entropy = -(log_pi.exp() * log_pi).sum(-1)
        chosen = log_pi.gather(2, seen["completion_ids"][:, :, None])[:, :, 0]
        factor = torch.where(seen["ds_correct"] == 1, -0.3, 0.1)[:, None]
        base = of_the_rule(trainer, batch, options.get("rule", "grpo"), {})[seen["ds_row"], None]
        mask = seen["completion_mask"]
        expected = (base + factor * (chosen + entropy)) * mask
        torch.testing.assert_close(seen["advantages"] * mask, expected, rtol=1e-4, atol=1e-4)
        assert (entropy * mask).max() > 0.5 and ((chosen + entropy) * mask).abs().max() > 0.3


def test_token_centring_that_is_absorbed_trains_as_the_stock_trainer(tiny_model, tmp_path):
    buffer = {"steps_per_generation": 2, "num_iterations": 2}
    stock = weights(trained(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, **buffer))
    ours, moved = (
        weights(trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=g, center=True, **buffer))
        for g in (ABSORBED, 0.3)
    )
    assert torch.equal(ours, stock) and not torch.equal(moved, stock)


def test_unscored_and_truncated_completions(tiny_model, tmp_path):
    trainer = run(tiny_model, tmp_path, "ucpo", rewards=sometimes_silent, mask_truncated_completions=True)
    (batch,) = trainer.scored
    unscored, cut = batch["ds_correct"].isnan(), batch["completion_mask"].sum(1) == 0
    assert unscored.any() and cut.any() and not (unscored | cut).all()
    assert (batch["advantages"][unscored] == 0).all() and batch["advantages"].isfinite().all()


def test_a_rule_reads_the_weighted_sum_of_the_rewards_and_the_named_correctness(tiny_model, tmp_path):
    def both(texts):
        return [1.0 * a + 0.3 * b for a, b in zip(even_length(texts), short(texts))]

    trainer = run(
        tiny_model,
        tmp_path,
        "f_grpo",
        rewards=[even_length, short],
        reward_weights=[1.0, 0.3],
        correct_reward="even_length",
    )
    (batch,) = trainer.scored
    expected = of_the_rule(trainer, batch, "f_grpo", {}, reward=both)
    torch.testing.assert_close(batch["advantages"], expected, rtol=1e-5, atol=1e-6)


def test_evaluation_asks_the_rule_with_its_own_groups(tiny_model, tmp_path):
    trainer = make(
        Watching,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        rewards=short,
        rule="dr_grpo",
        num_generations_eval=2,
        per_device_eval_batch_size=6,
    )
    trainer.model.eval()
    batch = trainer._generate_and_score_completions([row for row in rows(3).to_list() for _ in range(2)])
    assert (batch["advantages"].view(3, 2).sum(1)).abs().max() < 1e-6 and batch["advantages"].abs().max() > 1e-3


# --- log and table ----------------------------------------------------------------------------------------------------------


def test_the_table_and_the_log_hold_the_rule_s_values(own, tiny_model, tmp_path):
    for name, gamma in (("maxrl", 0.0), (f"{own}:by_token", 0.0), ("maxrl", 0.2)):
        folder = tmp_path / f"{name.rpartition(':')[2]}{gamma}"
        trainer = run(
            tiny_model,
            folder,
            name,
            gamma_p=gamma,
            log_completions=True,
            num_completions_to_print=0,
            learning_rate=1e-9,
        )
        table = pd.read_parquet(folder / "completions" / "completions_00001.parquet")
        (batch,), (seen,) = trainer.scored, trainer.seen
        shown = seen["advantages"] if gamma else batch["advantages"]
        mask = (seen if gamma else batch)["completion_mask"]
        means = shown if shown.dim() == 1 else (shown * mask).sum(1) / mask.sum(1)
        if gamma:  # the term came on the way to the loss, where the rows are shuffled
            means = torch.empty_like(means).index_copy_(0, seen["ds_row"], means)
        assert table["advantage"].tolist() == pytest.approx(means.tolist(), rel=1e-6, abs=1e-7)
        logged = trainer.state.log_history[0]
        assert (logged["ds/term_correct"] > 0) == (gamma > 0)
        assert logged["ds/term_incorrect"] == 0


def test_progress_reaches_the_rule(tiny_model, tmp_path):
    """PKPO with k from 2 to 1: the second of two steps is at half of the training, so at k = 1."""
    trainer = run(tiny_model, tmp_path, "pkpo", rule_options={"k": 2, "anneal": True}, max_steps=2)
    for batch, k in zip(trainer.scored, (2, 1), strict=True):
        expected = of_the_rule(trainer, batch, "pkpo", {"k": k})
        torch.testing.assert_close(batch["advantages"], expected, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(expected, of_the_rule(trainer, batch, "pkpo", {"k": 3 - k}))


# --- configs and mistakes ---------------------------------------------------------------------------------------------------


def test_a_rule_of_one_s_own_from_a_yaml_config(own, tiny_model, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        f"model: {tiny_model}\noutput_dir: {tmp_path / 'run'}\nrule: {own}:by_token\nrule_options:\n  scale: 0.5\nproblems: 40\n"
        "per_device_train_batch_size: 8\nnum_generations: 4\nmax_completion_length: 8\nmax_steps: 1\nuse_cpu: true\nbf16: false\n"
        "report_to: none\ndisable_tqdm: true\nlearning_rate: 1.0e-2\ngradient_checkpointing: false\nlog_completions: true\n"
        "num_completions_to_print: 0\n"
    )
    arguments, config = parse_config(["--config", str(path)])
    assert config.rule_options == {"scale": 0.5}
    model = train(arguments, config)
    assert (model / "config.json").is_file()
    # every answer of a random model is wrong: minus the mean of 0.5, 1, 1.5, ... over the tokens
    table = pd.read_parquet(tmp_path / "run" / "completions" / "completions_00001.parquet")
    assert table["advantage"].max() <= -0.5 and table["advantage"].min() >= -0.5 * 4.5
    with pytest.raises(ValueError, match="differs in .*rule_options"):
        arguments, config = parse_config(["--config", str(path)])
        config.rule_options = {"scale": 0.25}
        train(arguments, config)


def test_rule_options_on_the_command_line():
    flags = ["--output_dir", "x", "--use_cpu", "true", "--bf16", "false", "--rule", "pkpo"]
    _, config = parse_config([*flags, "--rule_options", '{"k": 3}'])
    assert config.rule_options == {"k": 3}
    with pytest.raises(ValueError, match="rule_options"):
        parse_config([*flags, "--rule_options", "k=3"])


def test_a_bad_rule_stops_the_training_with_its_name_and_the_step(own, tiny_model, tmp_path):
    with pytest.raises(ValueError) as caught:
        run(tiny_model, tmp_path, f"{own}:broken", max_steps=4)
    assert f"{own}:broken" in str(caught.value) and "step 2" in str(caught.value)


def test_presets_set_the_host_s_options_and_leave_what_the_user_set(tmp_path):
    def config(**options):
        return DSGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)

    stock = config()
    for name, options in PRESETS.items():
        made = config(rule=name)
        assert {option: getattr(made, option) for option in options} == dict(options), name
        assert any(getattr(stock, option) != value for option, value in options.items()), name
        differing = {k for k, v in made.to_dict().items() if v != stock.to_dict()[k]}
        assert differing - {"logging_dir"} <= {*options, "rule"}, name
    assert config(rule="entropy_bonus", entropy_coef=0.3).entropy_coef == 0.3
    mixed = config(rule="clip_higher", epsilon=0.1)
    assert (mixed.epsilon, mixed.epsilon_high) == (0.1, 0.28)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rule": "maxlr"}, ("no rule 'maxlr'", "maxrl")),
        ({"rule": 3}, ("rule must be the name", "got 3")),
        ({"rule": "nowhere.py:f"}, ("'nowhere.py:f'", "no file")),
        ({"rule": "pkpo", "rule_options": {"k": 0}}, ("pkpo", "k must be a whole number >= 1, got 0")),
        ({"rule": "pkpo", "rule_options": {"K": 2}}, ("no option 'K'", "k, baseline")),
        ({"rule": "pkpo", "rule_options": [2]}, ("rule_options must be a mapping", "[2]")),
        ({"rule": "grpo", "rule_options": {"scale": "none"}}, ("leaves the advantages to the host", "scale_rewards")),
        ({"rule": "clip_higher", "rule_options": {"x": 1}}, ("leaves the advantages to the host",)),
        ({"rule": "ds_e", "gamma_p": 0.1}, ("gammas of its own", "rule_options")),
        ({"rule": "maxrl", "gamma_p": 0.1, "level": "sum", "stage": "reward"}, ("use stage='advantage'",)),
        ({"rule": "maxrl", "multi_objective_aggregation": "normalize_then_sum"}, ("sum_then_normalize",)),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_a_mistake_is_refused_before_the_training(options, said, tmp_path):
    with pytest.raises(ValueError) as caught:
        DSGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
    for part in said:
        assert part in str(caught.value), str(caught.value)


ANSWERS = """import torch

seen = []

def by_answer(rewards, logps, mask, *, correct, group, answer):
    seen.append((answer.clone(), correct.clone()))
    return torch.where(answer >= 0, answer.to(rewards.dtype), -1.0)

by_answer.needs_logps = False
"""


def first_sign(text, **columns):
    assert set(columns) >= {"nums", "target"}
    return text.strip()[:1]


def test_a_rule_may_ask_which_answers_are_the_same(tiny_model, tmp_path):
    rule = tmp_path / "answers.py"
    rule.write_text(ANSWERS)
    trainer = make(
        partial(Watching, canonical=first_sign),
        DSGRPOConfig,
        tiny_model,
        tmp_path / "run",
        rule=f"{rule}:by_answer",
        max_steps=1,
    )
    trainer.train()
    (batch,) = trainer.scored
    texts = trainer.processing_class.batch_decode(
        [ids[m.bool()] for ids, m in zip(batch["completion_ids"], batch["completion_mask"])], skip_special_tokens=True
    )
    right = even_length(texts)
    advantages = batch["advantages"].tolist()
    assert {a for a, r in zip(advantages, right) if not r} == {-1.0}
    same: dict[str, set[float]] = {}
    for text, advantage, r in zip(texts, advantages, right):
        if r:
            same.setdefault(first_sign(text, nums=0, target=0), set()).add(advantage)
    # one number for each answer, another for each other answer
    assert len(same) > 1 and all(len(numbers) == 1 for numbers in same.values())
    assert len(set.union(*same.values())) == len(same)


def test_a_rule_that_asks_for_answers_needs_to_be_told_them(tiny_model, tmp_path):
    rule = tmp_path / "answers.py"
    rule.write_text(ANSWERS)
    with pytest.raises(ValueError, match=r"which completions give the same answer.*canonical=f"):
        make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "run", rule=f"{rule}:by_answer")


def test_a_file_may_be_called_as_a_rule_with_gammas_is(tmp_path):
    (tmp_path / "ds_mine.py").write_text("def mine(rewards, logps, mask, *, correct, group):\n    return rewards\n")
    config = DSGRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, rule=f"{tmp_path / 'ds_mine.py'}:mine", gamma_p=0.1
    )
    assert config.gamma_p == 0.1
