"""The live monitor: its statistics by enumeration, its error rate by simulation, and that it changes nothing."""

import itertools
import json
import logging
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from test_trl import SETTINGS, even_length, make, rows, short, sometimes_silent, weights
from transformers import IntervalStrategy
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing.evaluation.monitoring.groups import group_statistics, likelihood_statistics
from differential_smoothing.evaluation.monitoring.sequential import DropTest, t_quantile
from differential_smoothing.integrations.monitor import SharpeningMonitor
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
from differential_smoothing.tasks import countdown

# --- statistics of groups -------------------------------------------------------------------------------------------


def test_variety_and_pass_at_k_are_unbiased_by_enumeration():
    policy = {0: Fraction(1, 2), 1: Fraction(1, 3), -1: Fraction(1, 6)}  # two correct answers, one wrong
    share = policy[0] + policy[1]
    draws = list(itertools.product(policy, repeat=4))
    chance = np.array([float(math.prod(policy[a] for a in draw)) for draw in draws])
    answers = np.array(draws)
    _, by_group = group_statistics((answers >= 0).astype(float), answers, [1, 2, 4])
    two = ~np.isnan(by_group["variety_correct"])
    variety = 1 - sum((policy[a] / share) ** 2 for a in (0, 1))
    assert chance[two] @ by_group["variety_correct"][two] / chance[two].sum() == pytest.approx(float(variety))
    for k in (1, 2, 4):
        assert chance @ by_group[f"pass_at_{k}"] == pytest.approx(float(1 - (1 - share) ** k))


def test_group_statistics_by_hand():
    nan = math.nan
    correct = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, nan, 0], [nan] * 4, [1, 1, 0, 0]])
    answers = np.array([[7, 7, 8, 7], [1] * 4, [1, 2, 3, 4], [5, 5, 5, 5], [1] * 4, [5, -1, 9, 9]])
    means, groups = group_statistics(correct, answers, [1, 4])
    np.testing.assert_allclose(groups["variety_correct"], [2 / 3, nan, 1, 0, nan, nan])
    np.testing.assert_allclose(groups["distinct_correct"], [2, 0, 4, nan, nan, nan])
    np.testing.assert_allclose(groups["pass_at_4"], [1, 0, 1, nan, nan, 1])
    np.testing.assert_allclose(groups["all_wrong"], [0, 1, 0, 0, nan, 0])
    np.testing.assert_allclose(groups["all_correct"], [0, 0, 1, 0, nan, 0])
    assert means["variety_correct"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert means["pass_at_1"] == pytest.approx((3 / 4 + 0 + 1 + 2 / 3 + 1 / 2) / 5)


def test_likelihood_statistics_against_a_slow_twin():
    rng = np.random.default_rng(0)
    correct = rng.choice([0.0, 1.0, math.nan], size=(9, 5), p=[0.4, 0.4, 0.2])
    tokens = rng.integers(0, 4, size=(9, 5)).astype(float)
    logps, advantages = -tokens * rng.random((9, 5)), rng.normal(size=(9, 5))
    got = likelihood_statistics(correct, logps, tokens, advantages)
    above, cov, cov_correct = [], [], []
    for c, logp, t, a in zip(correct, logps, tokens, advantages):
        right, wrong = np.flatnonzero((c == 1) & (t > 0)), np.flatnonzero((c == 0) & (t > 0))
        both = np.append(right, wrong)
        pairs = [(logp[i] / t[i], logp[j] / t[j]) for i in right for j in wrong]
        above += [np.mean([(x > y) + (x == y) / 2 for x, y in pairs])] if pairs else []
        mean = logp / np.maximum(t, 1)
        cov += [np.cov(a[both], mean[both])[0, 1]] if len(both) > 1 else []
        cov_correct += [np.cov(a[right], mean[right])[0, 1]] if len(right) > 1 else []
    right, wrong = (correct == 1) & (tokens > 0), (correct == 0) & (tokens > 0)
    expected = {
        "entropy_correct": -logps[right].sum() / tokens[right].sum(),
        "entropy_incorrect": -logps[wrong].sum() / tokens[wrong].sum(),
        "surprisal_correct": -logps[right].mean(),
        "surprisal_incorrect": -logps[wrong].mean(),
        "likelier_correct": np.mean(above),
        "covariance": np.mean(cov),
        "covariance_correct": np.mean(cov_correct),
    }
    expected["entropy_discrepancy"] = expected["entropy_incorrect"] - expected["entropy_correct"]
    assert got == {name: pytest.approx(value) for name, value in expected.items()}
    assert cov_correct and above


# --- the sequential test --------------------------------------------------------------------------------------------


def first_alarms(test, draw, batches):
    """The batch of each run's first alarm; -1 for none."""
    first = np.full(len(test.alarm), -1)
    for batch in range(batches):
        test.update(draw(batch), at=batch)
        first[(first < 0) & test.alarm] = batch
    return first


def unequal_problems(rng, runs, groups, policy):
    """0 or 1 for problems of very different difficulty, under a policy given on the logit scale."""
    return (rng.random((runs, groups)) < 1 / (1 + np.exp(-policy - 1.5 * rng.normal(size=(runs, groups))))) * 1.0


@pytest.mark.parametrize("tolerance, wander", [(0.0, 0.0), (0.1, 0.2)], ids=["no tolerance", "wandering policy"])
def test_false_alarms_of_whole_runs_stay_within_alpha(tolerance, wander):
    rng, runs = np.random.default_rng(1), 300
    policy = rng.normal(size=runs) * wander

    def draw(_):
        nonlocal policy  # stationary, correlated over some 20 batches
        policy = 0.95 * policy + math.sqrt(1 - 0.95**2) * wander * rng.normal(size=runs)
        return unequal_problems(rng, runs, 4, policy[:, None])

    alarms = first_alarms(DropTest(alpha=0.05, tolerance=tolerance, runs=runs), draw, 2000)
    assert np.mean(alarms >= 0) <= 0.05


def test_the_simulation_above_can_find_false_alarms():
    """Repeated fixed-sample looks at the same stationary data go wrong, which is why the test is sequential."""
    rng, runs = np.random.default_rng(1), 100
    x = np.array([unequal_problems(rng, runs, 4, 0.0).mean(1) for _ in range(1000)])
    reference, wrong = x[:50].mean(0), np.zeros(runs, dtype=bool)
    for end in range(100, 1000, 10):
        wrong |= x[end - 50 : end].mean(0) < reference - 1.645 * x[:50].std(0) * math.sqrt(2 / 50)
    assert wrong.mean() > 0.3


@pytest.mark.parametrize("begin", [100, 1000])
def test_a_collapse_is_found_soon_and_its_beginning_is_told(begin):
    rng, runs = np.random.default_rng(2), 50
    test = DropTest(runs=runs)
    first = first_alarms(test, lambda t: unequal_problems(rng, runs, 8, -0.01 * max(0, t - begin)), begin + 300)
    assert (first > begin).all() and np.median(first) < begin + 200
    since = [test.drop(run).since for run in range(runs)]
    assert begin < np.median(since) < begin + 100
    drop = test.drop()
    assert drop.recent[2] < drop.reference[1] and drop.reference[1] < drop.reference[0] < drop.reference[2]


def test_the_wealth_is_fair_by_enumeration():
    """With the mean exactly at the bound, the expected wealth after three batches of two values is 1."""
    start = DropTest(warmup=20, tolerance=0.0)
    for batch in range(20):
        start.update([0.0, 1.0, 1.0, 1.0] if batch % 4 else [1.0, 1.0, 0.0, 0.0], at=batch)
    bound, total = float(start._bound[0]), 0.0
    for path in itertools.product((0.0, 1.0), repeat=6):
        test = DropTest(warmup=20, tolerance=0.0)
        test.restore(json.loads(json.dumps(start.state(), allow_nan=False)))
        for batch in range(3):
            test.update(path[2 * batch : 2 * batch + 2], at=batch)
        chance = math.prod(bound if value else 1 - bound for value in path)
        total += chance * 10 ** float(test.evidence[0])
    assert 0.3 < bound < 0.65 and total == pytest.approx(1.0, abs=1e-9)


def test_batches_without_values_prolong_the_reference_and_bet_nothing():
    test = DropTest(warmup=20)
    for batch in range(400):
        test.update([math.nan, math.nan], at=batch)
    assert math.isnan(test.evidence[0]) and not test.alarm[0]
    for batch in range(20):
        test.update([1.0, math.nan, 0.5], at=batch)
    before = test.evidence[0]
    test.update([math.nan], at=21)
    assert math.isfinite(before) and test.evidence[0] == pytest.approx(before, abs=1e-12)


def test_a_reference_of_ones_or_zeros_is_no_certainty():
    ones, zeros = DropTest(warmup=20, tolerance=0.0), DropTest(warmup=20, tolerance=0.0)
    for batch in range(20):
        ones.update([1.0, 1.0], at=batch)
        zeros.update([0.0, 0.0], at=batch)
    assert ones._bound[0] == pytest.approx(1 - math.log(40) / 40)
    for batch in range(500):
        zeros.update([0.0, 0.0], at=batch)
    assert zeros._bound[0] == 0 and not zeros.alarm[0]


def test_student_quantiles():
    from scipy.stats import t

    for dof in range(3, 12):
        for p in (0.95, 0.975, 0.9875):
            assert t_quantile(p, dof) == pytest.approx(t.ppf(p, dof), rel=0.03 if dof < 5 else 4e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": 19}, "warmup must be a whole number of batches, at least 20"),
        ({"warmup": 30.5}, "warmup must be a whole number"),
        ({"alpha": 0}, "alpha must lie in (0, 1)"),
        ({"tolerance": 1}, "tolerance must lie in [0, 1)"),
    ],
)
def test_wrong_settings_say_what_to_do(options, message, tiny_model, tmp_path):
    with pytest.raises(ValueError) as caught:
        DropTest(**options)
    assert message in str(caught.value)
    trainer = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path)
    with pytest.raises(ValueError):
        SharpeningMonitor(trainer, **options)
    assert "_compute_loss" not in vars(trainer)  # refused before anything was changed


def test_values_outside_0_and_1_are_refused():
    with pytest.raises(ValueError, match=r"needs values in \[0, 1\] of shape \(1, values\); got shape \(1, 2\)"):
        DropTest().update([0.5, 1.5], at=0)


# --- on a trainer ---------------------------------------------------------------------------------------------------


def first_letter(text, **_):
    return text.strip()[:1] or None


def watched(trainer, config, *args, monitor=None, **options):
    made = make(trainer, config, *args, **options)
    made.monitor = SharpeningMonitor(made, **{"canonical": first_letter, "warmup": 20, **(monitor or {})})
    made.train()
    return made


COUNTS = {
    f"sharpening/{name}"
    for name in (
        "pass_at_1",
        "pass_at_2",
        "pass_at_4",
        "all_wrong",
        "all_correct",
        "variety_correct",
        "distinct_correct",
    )
}
LOGGED = COUNTS | {
    f"sharpening/{name}"
    for name in (
        "entropy_correct",
        "entropy_incorrect",
        "entropy_discrepancy",
        "surprisal_correct",
        "surprisal_incorrect",
        "likelier_correct",
        "covariance",
        "covariance_correct",
    )
}


@pytest.mark.parametrize("host", [(GRPOTrainer, GRPOConfig), (DSGRPOTrainer, DSGRPOConfig)], ids=["stock", "ours"])
@pytest.mark.parametrize(
    "name",
    [
        "default",
        "accumulation",
        "buffer",
        "aligned buffer",
        "several rewards",
        "unscored",
        "truncated",
        "kl",
        "checkpointing",
        "rollout",
    ],
)
def test_it_changes_no_weight_and_no_random_number(name, host, tiny_model, tmp_path):
    options, monitor = dict(SETTINGS[name]), {}
    if host[0] is DSGRPOTrainer:
        options |= {"gamma_p": 0.3} | ({"correct_reward": "even_length"} if name == "several rewards" else {})
    elif name == "several rewards":
        monitor["correct_reward"] = "even_length"
    ends = []
    for watch in (False, True):
        trainer = make(*host, tiny_model, tmp_path, **options)
        if watch:
            SharpeningMonitor(trainer, canonical=first_letter, warmup=20, **monitor)
        trainer.train()
        ends.append((weights(trainer), torch.get_rng_state(), trainer.state.log_history))
    (plain, plain_rng, plain_log), (ours, ours_rng, log) = ends
    assert torch.equal(plain, ours) and torch.equal(plain_rng, ours_rng)
    names = {key for entry in log for key in entry if key.startswith("sharpening/")}
    few = name == "truncated"  # hardly any completion of the tiny model ends by itself
    assert names >= (COUNTS if few else LOGGED) and not any("sharpening" in key for entry in plain_log for key in entry)
    timed = ("time", "per_second", "flos")
    for before, after in zip(plain_log, log, strict=True):  # what the host logs is untouched
        assert all(after[k] == v or v != v for k, v in before.items() if not any(t in k for t in timed))


class Keeping(GRPOTrainer):
    """Keeps what the host knows of each generated batch."""

    def _calculate_rewards(self, inputs, prompts, completions, ids):
        rewards = super()._calculate_rewards(inputs, prompts, completions, ids)
        self.kept = (completions, rewards[:, 0].tolist())
        return rewards

    def _generate_and_score_completions(self, inputs):
        self.batch = super()._generate_and_score_completions(inputs)
        return self.batch


@pytest.mark.parametrize("rollout", [None, shared_prefix_rollout], ids=["logps of the loss", "logps of the sampler"])
def test_the_logged_values_are_those_of_the_batch(rollout, tiny_model, tmp_path):
    options = dict(max_steps=1, gradient_accumulation_steps=2, learning_rate=1e-9, rollout=rollout)
    trainer = watched(Keeping, GRPOConfig, tiny_model, tmp_path, **options)
    texts, rewards = trainer.kept
    batch, logged = trainer.batch, trainer.state.log_history[0]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        position = (mask.cumsum(1) - 1).clamp(min=0)
        output = trainer.model(ids, attention_mask=mask, position_ids=position).logits.log_softmax(-1)
    start = batch["prompt_ids"].shape[1]
    logps = output[:, start - 1 : -1].gather(2, batch["completion_ids"][:, :, None])[:, :, 0]
    sums = (logps * batch["completion_mask"]).sum(1).double().numpy().reshape(-1, 4)
    tokens = batch["completion_mask"].sum(1).double().numpy().reshape(-1, 4)
    answers = np.array([ord(first_letter(t) or "\0") if first_letter(t) else -1 for t in texts]).reshape(-1, 4)
    correct = np.array(rewards).reshape(-1, 4)
    expected, _ = group_statistics(correct, answers, [1, 2, 4])
    expected |= likelihood_statistics(correct, sums, tokens, batch["advantages"].double().numpy().reshape(-1, 4))
    got = {key.removeprefix("sharpening/"): v for key, v in logged.items() if key.startswith("sharpening/")}
    assert got == {name: pytest.approx(v, rel=1e-4, abs=1e-6) for name, v in expected.items() if v == v}
    assert logged["sharpening/pass_at_1"] == pytest.approx(logged["rewards/even_length/mean"])


def test_the_advantages_in_effect_are_judged(tiny_model, tmp_path):
    """Stock GRPO treats the correct completions of a group alike; gamma_p > 0 favours the less likely ones."""
    options = dict(max_steps=2, learning_rate=1e-9)
    stock = watched(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, **options).state.log_history[0]
    ours = watched(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, **options).state.log_history[0]
    assert stock["sharpening/covariance_correct"] == pytest.approx(0, abs=1e-6)
    assert ours["sharpening/covariance_correct"] < -1e-4
    assert stock["sharpening/surprisal_correct"] == ours["sharpening/surprisal_correct"]


def test_evaluation_has_its_own_values(tiny_model, tmp_path):
    trainer = make(
        GRPOTrainer,
        GRPOConfig,
        tiny_model,
        tmp_path,
        per_device_eval_batch_size=8,
        num_generations_eval=2,
        eval_steps=2,
        max_steps=4,
    )
    trainer.eval_dataset, trainer.args.eval_strategy = rows(8), IntervalStrategy.STEPS
    monitor = SharpeningMonitor(trainer, warmup=20)
    trainer.train()
    evaluated = [e for e in trainer.state.log_history if "eval_sharpening/pass_at_2" in e]
    assert len(evaluated) == 2 and "eval_sharpening/entropy_correct" in evaluated[0]
    assert not any("pass_at_4" in key or "change" in key or "evidence" in key for e in evaluated for key in e)
    assert monitor._starts["pass_at_4"][0] == 4  # training batches only


def test_a_resumed_training_knows_its_start(tiny_model, tmp_path, caplog):
    options = dict(
        max_steps=26,
        save_strategy="steps",
        save_steps=22,
        rollout=shared_prefix_rollout,
        per_device_train_batch_size=8,
        learning_rate=1e-4,
        dataset=rows(64),
    )
    whole = watched(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, **options)
    resumed = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, **options)
    SharpeningMonitor(resumed, canonical=first_letter, warmup=20)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-22"))
    assert torch.equal(weights(resumed), weights(whole))
    for a, b in zip(whole.state.log_history[:-1], resumed.state.log_history[:-1], strict=True):
        assert {k: v for k, v in a.items() if "sharp" in k} == {k: v for k, v in b.items() if "sharp" in k}
    assert "sharpening/change_entropy_correct" in resumed.state.log_history[-2]
    assert "sharpening/evidence_pass_at_4" in resumed.state.log_history[-2]
    assert not caplog.records
    other = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, **options)
    SharpeningMonitor(other, canonical=first_letter, warmup=30)
    with caplog.at_level(logging.WARNING, "differential_smoothing"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-22"))
    assert "takes the first batches from here on for the start of training" in caplog.text
    # and a checkpoint of a training without a monitor can be watched from there on
    plain = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path / "plain", **options)
    plain.train()
    late = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path / "plain", **options)
    SharpeningMonitor(late)
    late.train(resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-22"))
    assert late.state.global_step == 26


@pytest.mark.parametrize("stop", [False, True])
def test_a_collapse_is_warned_of_once_and_can_end_the_training(stop, tiny_model, tmp_path, caplog):
    made = make(
        GRPOTrainer,
        GRPOConfig,
        tiny_model,
        tmp_path,
        rollout=shared_prefix_rollout,
        max_steps=60,
        learning_rate=1e-9,
        rewards=lambda completions, **_: [1.0] * len(completions),
    )

    def collapsing(text, **_):
        return text if made.state.global_step < 24 else "the one answer"

    SharpeningMonitor(made, canonical=collapsing, warmup=20, stop=stop)
    with caplog.at_level(logging.WARNING, "differential_smoothing"):
        made.train()
    (record,) = [r for r in caplog.records if r.name.startswith("differential_smoothing")]
    message = record.getMessage()
    assert "the chance that two correct answers to a problem differ has fallen, since about step 24" in message
    assert "lower the learning rate first" in message and ("Training stops here" in message) == stop
    assert (made.state.global_step < 40) == stop


def test_a_canonical_that_fails_ends_no_training(tiny_model, tmp_path, caplog):
    def careless(text, **_):
        raise KeyError("no such column")

    with caplog.at_level(logging.WARNING, "differential_smoothing"):
        trainer = watched(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, monitor={"canonical": careless})
    assert caplog.text.count("canonical failed on a correct completion (KeyError: 'no such column')") == 1
    assert "sharpening/variety_correct" not in trainer.state.log_history[0]
    assert "sharpening/pass_at_4" in trainer.state.log_history[0]


def test_canonical_is_asked_about_correct_completions_with_their_columns(tiny_model, tmp_path):
    seen = []

    def canonical(text, *, nums, target, **_):
        seen.append((text, tuple(nums), target))
        return text

    watched(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, monitor={"canonical": canonical}, max_steps=1)
    assert seen and all(len(text) % 2 == 0 and isinstance(target, int) for text, _, target in seen)


def test_countdown_answers_are_compared_by_their_canonical_form():
    forms = [
        countdown.countdown_canonical(text, nums=[2, 3, 7], target=13)
        for text in ("2 * 3 + 7", "7 + 3 * 2", "<think>x</think><answer>7+2*3</answer>", "2+3+7")
    ]
    assert forms[0] == forms[1] == forms[2] is not None and forms[3] is None


def test_what_a_user_can_get_wrong(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="watches the groups of TRL's GRPOTrainer; got str"):
        SharpeningMonitor("trainer")
    several = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, rewards=[even_length, short])
    with pytest.raises(ValueError, match="set correct_reward to one of even_length, short"):
        SharpeningMonitor(several)
    with pytest.raises(ValueError, match="canonical must be a function"):
        SharpeningMonitor(several, correct_reward="short", canonical="text")
    SharpeningMonitor(several, correct_reward="short")
    with pytest.raises(ValueError, match="has a SharpeningMonitor already"):
        SharpeningMonitor(several, correct_reward="short")


def test_unscored_completions_are_neither_correct_nor_wrong(tiny_model, tmp_path):
    trainer = watched(Keeping, GRPOConfig, tiny_model, tmp_path, rewards=sometimes_silent, max_steps=1)
    rewards = np.array(trainer.kept[1]).reshape(-1, 4)
    share = [np.nanmean(group) for group in rewards if not np.isnan(group).all()]
    assert np.isnan(rewards).any()
    assert trainer.state.log_history[0]["sharpening/pass_at_1"] == pytest.approx(np.mean(share))


@pytest.mark.slow
def test_two_processes_see_the_groups_of_both(tiny_model, tmp_path):
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
            str(Path(__file__).with_name("two_processes_monitor.py")),
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
    assert result["processes"] == 2 and result["difference"] == 0.0
    assert result["logged"] == {name: pytest.approx(v, rel=1e-4) for name, v in result["expected"].items()}


def test_a_monitor_in_callbacks_says_how_it_is_attached(tiny_model, tmp_path):
    defaults = dict(model=tiny_model, reward_funcs=even_length, train_dataset=rows())
    config = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], per_device_train_batch_size=8)
    how = r"Make the trainer first, without the monitor in callbacks=\[...\], then SharpeningMonitor\(trainer\)"
    with pytest.raises(ValueError, match=f"got none.*{how}"):
        GRPOTrainer(**defaults, args=config, callbacks=[SharpeningMonitor])
    with pytest.raises(ValueError, match=f"got none.*{how}"):
        SharpeningMonitor()
    monitor = SharpeningMonitor(make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path))
    with pytest.raises(ValueError, match=f"watches another trainer.*{how}"):
        GRPOTrainer(**defaults, args=config, callbacks=[monitor])
    other = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path)
    other.add_callback(monitor)
    with pytest.raises(ValueError, match=f"watches another trainer.*{how}"):
        other.train()
    for threshold in ("0.5", math.nan, True):
        with pytest.raises(ValueError, match="correct_threshold must be a finite number"):
            SharpeningMonitor(make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path), correct_threshold=threshold)


def test_a_trainer_that_calculates_no_rewards_is_watched_without_an_error(tiny_model, tmp_path, caplog):
    made = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path)
    monitor = SharpeningMonitor(made)
    made._calculate_rewards = lambda inputs, prompts, *_: torch.ones(len(prompts), 1)  # past the monitor
    with caplog.at_level(logging.WARNING):
        made.train()
    assert caplog.text.count("has seen no rewards") == 1 and monitor._blind and made.state.global_step == 3


def test_several_rewards_decide_for_the_monitor_too(tiny_model, tmp_path):
    def first(completions, **_):
        return [None] * len(completions)

    made = make(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, rewards=[first, even_length], max_steps=1)
    SharpeningMonitor(made, correct_reward=["first", "even_length"])
    made.train()
    logged = made.state.log_history[0]
    assert logged["sharpening/pass_at_1"] == pytest.approx(logged["rewards/even_length/mean"])
