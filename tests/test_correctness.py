"""What decides that a completion is correct, in training: a list of reward functions, the threshold, and what is said of both."""

import logging
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_trl import Recording, even_length, make, rows, short, sometimes_silent, trained

from differential_smoothing.advantages import smoothing_coefficient
from differential_smoothing.integrations.answers import Answers
from differential_smoothing.integrations.correctness import CorrectnessWatch, correct_columns, correctness
from differential_smoothing.integrations.monitor import SharpeningMonitor
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer
from differential_smoothing.integrations.trl.metrics import term_metrics, term_sums
from differential_smoothing.integrations.verl.estimator import Handed, correct_of, shaped_advantages
from differential_smoothing.integrations.verl.options import DSOptions, read_options

NAN = math.nan


def two_tasks(count=32):
    return rows(count).add_column("kind", ["sums" if i % 2 else "words" for i in range(count)])


def sums(completions, kind, **_):
    return [float(len(text) % 2 == 0) if k == "sums" else None for text, k in zip(completions, kind)]


def words(completions, kind, **_):
    return [float(len(text) % 3 == 0) if k == "words" else None for text, k in zip(completions, kind)]


# --- which functions ------------------------------------------------------------------------------------------------


def test_positions_of_names_lists_and_numbers():
    names = ["a", "b", "b", "1"]
    for named, columns in [
        ("a", [0]),
        (0, [0]),
        ("0", [0]),
        ("1", [3]),
        (1, [1]),
        (["a", 2], [0, 2]),
        (("1", "a"), [3, 0]),
        ("a,1", [0, 3]),
    ]:
        assert correct_columns(names, named) == columns, named
    assert correct_columns(["only"], None) == [0] and correct_columns(["x,y"], "x,y") == [0]


@pytest.mark.parametrize(
    ("names", "named", "said"),
    [
        (["a", "b"], None, "set correct_reward to one of a, b, or to a list"),
        (["a", "a"], None, r"one of 0 \(a\), 1 \(a\)"),
        (
            ["a", "b", "a"],
            "a",
            r"is the name of 2 reward functions, at the positions 0, 2\. Set correct_reward to the position",
        ),
        (
            ["a", "b"],
            "c",
            r"correct_reward='c' must name one of the reward functions, or be its position from 0: a, b\.",
        ),
        (["a", "b"], ["a", "c"], "'c' must name"),
        (["a", "b"], 2, "=2 must name"),
        (["a", "b"], True, "=True must name"),
        (["a", "b"], -1, "=-1 must name"),
        (["a", "b"], [], "empty list"),
        (["a", "b"], 0.0, "=0.0 must name"),
    ],
)
def test_what_is_not_plain_says_what_helps(names, named, said):
    with pytest.raises(ValueError, match=said):
        correct_columns(names, named)


def test_the_first_known_reward_counts():
    rewards = torch.tensor([[1.0, 0.0], [NAN, 1.0], [0.0, 1.0], [NAN, NAN], [NAN, 0.5]])
    value, correct = correctness(rewards, [0, 1], 0.5)
    torch.testing.assert_close(correct, torch.tensor([1.0, 1, 0, NAN, 0]), equal_nan=True)
    torch.testing.assert_close(value, torch.tensor([1.0, 1, 0, NAN, 0.5]), equal_nan=True)
    torch.testing.assert_close(correctness(rewards, [1], 0.5)[1], torch.tensor([0.0, 1, 1, NAN, 0]), equal_nan=True)


def test_a_list_smooths_the_rows_of_every_task(tiny_model, tmp_path, caplog):
    options = dict(rewards=[sums, words], dataset=two_tasks(), gamma_p=0.3, gamma_n=0.1, max_steps=2)
    with caplog.at_level(logging.WARNING):
        trainer = trained(Recording, DSGRPOConfig, tiny_model, tmp_path, correct_reward=["sums", "words"], **options)
    seen = trainer.seen[0]
    assert set(seen["ds_correct"].tolist()) == {0.0, 1.0}
    moved = ((seen["advantages"] - seen["stock"][:, None]).abs() * seen["completion_mask"]).sum(1)
    assert (moved > 0).all()
    assert [entry["ds/unknown"] for entry in trainer.state.log_history[:2]] == [0.0, 0.0]
    assert "unknown" not in caplog.text


def test_rows_that_are_never_known_are_counted_and_told_of_once(tiny_model, tmp_path, caplog):
    options = dict(rewards=[sums, words], dataset=two_tasks(), gamma_p=0.3, max_steps=4)
    with caplog.at_level(logging.WARNING):
        trainer = trained(Recording, DSGRPOConfig, tiny_model, tmp_path, correct_reward="sums", **options)
    for seen, entry in zip(trainer.seen, trainer.state.log_history):
        assert entry["ds/unknown"] == pytest.approx(seen["ds_correct"].isnan().float().mean().item())
    assert 0 < trainer.state.log_history[0]["ds/unknown"] < 1
    said = [r.getMessage() for r in caplog.records if "is unknown" in r.getMessage()]
    assert len(said) == 1
    assert "sums returned None for every completion, while words scored them" in said[0]
    assert "set correct_reward=['sums', 'words']" in said[0]


def test_a_judge_that_now_and_then_says_nothing_is_no_other_task(tiny_model, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = trained(
            DSGRPOTrainer,
            DSGRPOConfig,
            tiny_model,
            tmp_path,
            rewards=[sometimes_silent, short],
            gamma_p=0.3,
            correct_reward="sometimes_silent",
            correct_threshold=0.5,
        )
    assert any(0 < entry.get("ds/unknown", 0) < 1 for entry in trainer.state.log_history)
    assert "is unknown" not in caplog.text


# --- the threshold --------------------------------------------------------------------------------------------------


def ten_or_fifteen(completions, **_):
    return [15.0 if len(text) % 2 else 10.0 for text in completions]


@pytest.mark.parametrize("steps", [2, 6])
def test_a_threshold_that_separates_nothing_is_told_of_once(steps, tiny_model, tmp_path, caplog):
    options = dict(rewards=ten_or_fifteen, gamma_p=0.3, max_steps=steps)
    with caplog.at_level(logging.WARNING):
        trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, **options)
        said = [r.getMessage() for r in caplog.records if "correct_threshold" in r.getMessage()]
        assert len(said) == 1
        assert "(ten_or_fifteen) vary between 10 and 15, all above correct_threshold=0.5" in said[0]
        caplog.clear()
        trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, **options, correct_threshold=12)
        trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, max_steps=steps)
    assert "correct_threshold" not in caplog.text


def test_the_monitor_of_a_stock_trainer_says_it_and_that_of_ours_does_not_repeat_it(tiny_model, tmp_path, caplog):
    from trl import GRPOConfig, GRPOTrainer

    for trainer, config in ((GRPOTrainer, GRPOConfig), (DSGRPOTrainer, DSGRPOConfig)):
        with caplog.at_level(logging.WARNING):
            made = make(trainer, config, tiny_model, tmp_path, rewards=ten_or_fifteen, max_steps=2)
            SharpeningMonitor(made)
            made.train()
        assert caplog.text.count("all above correct_threshold=0.5") == 1
        caplog.clear()


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([[10, 15]] * 4, True),
        ([[10, 10]] * 9, False),
        ([[0, 1]] * 9, False),
        ([[10, 15]] * 3, False),
        ([[10, 10], [15, 15], [10, 10], [10, 10]], True),
        ([[0, 0.1]] * 4, True),
        ([[0.5, 0.1]] * 4, True),
        ([[0.5, 0.51]] * 4, False),
        ([[NAN, NAN]] * 9, False),
        ([[NAN, 3], [4, NAN], [4, 4], [3, 3]], True),
        ([[0, 0.1]] * 3 + [[1, 0]] * 9, False),
    ],
)
def test_one_side_by_hand(batches, said):
    watch = CorrectnessWatch(["f"], [0], 0.5)
    found = [text for batch in batches for text in watch.update(torch.tensor(batch).float()[:, None], 2)]
    assert (len(found) == 1) == said and len(found) <= 1
    assert (found or watch.close() != []) or not said


@pytest.mark.parametrize("threshold", [None, "0.5", "half", NAN, math.inf, True, [0.5]])
def test_a_threshold_that_is_no_number_is_refused_at_once(threshold, tiny_model, tmp_path):
    with pytest.raises(ValueError, match="correct_threshold must be a finite number, got"):
        DSGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, correct_threshold=threshold)


def test_numbers_of_numpy_are_numbers(tmp_path):
    for kind in (np.float32, np.float64, np.float16, np.int64):
        config = DSGRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            gamma_p=kind(1),
            gamma_n=kind(0),
            correct_threshold=kind(1),
        )
        assert (config.gamma_p, config.gamma_n, config.correct_threshold) == (1, 0, 1)
        assert {type(v).__module__ for v in (config.gamma_p, config.gamma_n, config.correct_threshold)} == {"builtins"}
    coefficient = smoothing_coefficient(torch.tensor([1.0, 0.0]), gamma_p=np.uint8(3), gamma_n=np.float32(0.5))
    assert coefficient.tolist() == [-3.0, 0.5]
    with pytest.raises(ValueError, match="gamma_p must be a finite number >= 0"):
        DSGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, gamma_p=np.float32("nan"))


# --- metrics --------------------------------------------------------------------------------------------------------


def test_tokens_without_a_log_prob_are_in_no_mean_of_log_probs():
    logps = torch.tensor([[-1.0, NAN, -3.0], [NAN, NAN, -5.0], [-2.0, -2.0, -9.0], [NAN, NAN, NAN]])
    mask, correct = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 1]]), torch.tensor([1.0, 1, 0, NAN])
    term = torch.where(logps.isnan(), 0.0, -0.5 * logps) * (mask * (correct == 1)[:, None])
    values = term_metrics(term_sums(correct, mask, logps, term).tolist())
    assert values["ds/logp_correct"] == pytest.approx((-1 - 3) / 2) and values["ds/logp_incorrect"] == pytest.approx(-2)
    assert values["ds/term_correct"] == pytest.approx(0.5 * 4 / 5) and values["ds/term_incorrect"] == 0
    assert values["ds/correct"] == pytest.approx(2 / 3) and values["ds/unknown"] == pytest.approx(1 / 4)
    assert math.isnan(term_metrics(term_sums(correct, mask * 0, logps, term).tolist())["ds/logp_correct"])


def test_verl_divides_by_the_tokens_that_have_a_log_prob_too():
    logps = torch.tensor([[-1.0, NAN, -3.0], [NAN, NAN, -5.0], [-2.0, -2.0, -9.0], [-1.0, -1.0, -1.0]])
    mask, correct = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [0, 0, 0]]), torch.tensor([1.0, 1, 0, 0])
    extra = Handed(logps=logps, correct=correct, counts=torch.ones(4, dtype=torch.bool), final=torch.arange(4))
    for shaping in ({}, {"level": "mean"}, {"level": "sum", "center": True}):
        options = DSOptions(rule="dr_grpo", gamma_p=0.5, **shaping)
        _, metrics = shaped_advantages(options, correct.clone(), mask, uid=[0, 0, 1, 1], extra=extra)
        assert metrics["ds/logp_correct"] == pytest.approx(-2) and metrics["ds/logp_incorrect"] == pytest.approx(-2)
        assert metrics["ds/term_correct"] == pytest.approx(0.5 * 4 / 5) or shaping


def test_verl_takes_a_list_of_keys():
    infos = [{"acc": 1}, {"passed": True, "acc": None}, {"passed": 0.2}, {"acc": NAN, "passed": 1}, {"format": 1}, None]
    for given, expected in (
        ("acc", [1, 9, 9, 9, 9, 9]),
        (["acc", "passed"], [1, 1, 0, 1, 9, 9]),
        (["passed", "acc"], [1, 1, 0, 1, 9, 9]),
    ):
        options = read_options({"correct_key": given})
        assert correct_of(torch.zeros(6), infos, options).nan_to_num(nan=9).tolist() == expected
    with pytest.raises(ValueError, match="correct_key=right,good: no completion of this batch has that key"):
        correct_of(torch.zeros(1), [{"acc": 1}], DSOptions(correct_key=["right", "good"]))
    for wrong in ([], [1], 3):
        with pytest.raises(ValueError, match="correct_key cannot be"):
            DSOptions(correct_key=wrong)


def test_verl_takes_numbers_of_numpy_and_refuses_what_is_none():
    options = DSOptions(gamma_p=np.float32(0.5), gamma_n=np.int64(1), correct_threshold=np.float16(0.5))
    assert options.smooths
    for wrong in (None, "0.5", NAN, True):
        with pytest.raises(ValueError, match=r"algorithm\.ds\.correct_threshold must be a finite number"):
            DSOptions(correct_threshold=wrong)


# --- answers --------------------------------------------------------------------------------------------------------


def test_the_text_stands_first_whatever_the_columns_are_called():
    row = {"text": "of the row", "completion": "of the row too", "nums": [1]}
    seen = []
    for function in (
        lambda text, **columns: seen.append((text, columns)) or text,
        lambda completion, **columns: seen.append((completion, columns)) or completion,
        lambda text, /, **columns: seen.append((text, columns)) or text,
        lambda text, nums, **columns: seen.append((text, {"nums": nums, **columns})) or text,
    ):
        assert Answers(function)(" 42", row) == " 42"
    assert [sorted(columns) for _, columns in seen] == [
        ["completion", "nums"],
        ["nums", "text"],
        ["completion", "nums", "text"],
        ["completion", "nums"],
    ]
    assert Answers(lambda text, /, **_: text)([{"role": "assistant", "content": "7"}], row) == "7"
    assert Answers(str)("x", {}) == "x"  # a builtin without a signature of its own


def test_no_answer_and_failures_are_none_with_one_warning(caplog):
    for function, why in (
        (lambda text: 1 / 0, "ZeroDivisionError"),
        (lambda text: 7, "neither text nor None"),
        (lambda: "x", "TypeError"),
    ):
        answers = Answers(function)
        with caplog.at_level(logging.WARNING):
            assert answers("a", {}) is answers("b", {}) is None
        assert caplog.text.count("canonical failed") == 1 and why in caplog.text
        caplog.clear()
    assert Answers(lambda text: None)("a", {}) is None and not caplog.text
    with pytest.raises(ValueError, match="canonical must be a function"):
        Answers("text")


ANSWERS = "import torch\n\ndef by_answer(rewards, logps, mask, *, correct, group, answer):\n    return answer.to(rewards.dtype)\n\nby_answer.needs_logps = False\n"


@pytest.mark.parametrize("column", ["text", "completion", "answer"])
def test_a_column_of_any_name_reaches_rule_and_monitor(column, tiny_model, tmp_path, caplog):
    rule = tmp_path / "answers.py"
    rule.write_text(ANSWERS)
    dataset = rows().add_column(column, ["of the row"] * 32)

    def canonical(text, **columns):
        return text[:1]

    made = []
    for kind in (None, canonical):  # the monitor's default, and one of the user's
        trainer = make(
            lambda **options: DSGRPOTrainer(canonical=canonical, **options),
            DSGRPOConfig,
            tiny_model,
            tmp_path / "run",
            dataset=dataset,
            rule=f"{rule}:by_answer",
            max_steps=1,
        )
        SharpeningMonitor(trainer, canonical=kind)
        with caplog.at_level(logging.WARNING):
            trainer.train()
        made.append(trainer)
    assert "canonical failed" not in caplog.text
    assert made[0]._answer.max() > 0  # several answers were told apart
    assert all("sharpening/variety_correct" in trainer.state.log_history[0] for trainer in made)


# --- a missing TRL --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["trl", "monitor"])
def test_without_trl_the_import_says_what_to_install(module):
    code = f"import sys\nsys.modules['trl'] = None\nimport differential_smoothing.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("ModuleNotFoundError: ")
    assert "needs TRL, which is not installed" in last and "pip install 'differential-smoothing[trl]'" in last
    assert "During handling" not in done.stderr and "direct cause" not in done.stderr


def test_a_reward_that_shares_its_name_is_taken_by_position(tiny_model, tmp_path):
    def even(completions, **_):
        return even_length(completions)

    def odd(completions, **_):
        return [1 - reward for reward in even_length(completions)]

    odd.__name__ = "even"
    with pytest.raises(ValueError, match="is the name of 2 reward functions"):
        make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, rewards=[even, odd], correct_reward="even")
    ends = [
        trained(
            Recording, DSGRPOConfig, tiny_model, tmp_path, rewards=[even, odd], correct_reward=place, max_steps=1
        ).seen[0]["ds_correct"]
        for place in (0, 1)
    ]
    assert torch.equal(ends[0], 1 - ends[1])
