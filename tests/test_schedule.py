"""The entropy-discrepancy schedule: its formula on a slow twin, and what it does to a real trainer."""

import math

import pytest
import torch
from test_trl import even_length, make

from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
from differential_smoothing.rules.discrepancy import entropy_discrepancy


def slow(logps, mask, correct, positive, negative):
    sides = []
    for side in (1.0, 0.0):
        values = [
            value
            for row, kept, right in zip(logps.tolist(), mask.tolist(), correct.tolist(), strict=True)
            for value, keep in zip(row, kept, strict=True)
            if keep and right == side and not math.isnan(value)
        ]
        mean = sum(values) / len(values) if values else 0.0
        weights = [math.exp(value - mean) for value in values]
        sides.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights) if values else 0.0)
    return -positive * sides[0] + negative * sides[1]


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    logps = -4 * torch.rand(12, 5, generator=generator, dtype=torch.float64)
    mask = (torch.rand(12, 5, generator=generator) < 0.8).long()
    logps[0, 0] = float("nan")
    correct = torch.randint(0, 2, (12,), generator=generator).double()
    correct[1] = float("nan")
    return logps, mask, correct


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("positive", "negative"), [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0)])
def test_the_formula(seed, positive, negative):
    logps, mask, correct = batch(seed)
    given = entropy_discrepancy(logps, mask, correct, positive=positive, negative=negative)
    assert given == pytest.approx(slow(logps, mask, correct, positive, negative), abs=1e-12)


def test_equal_sides_cancel_and_the_more_uncertain_right_answers_give_a_bonus():
    logps = torch.tensor([[-1.0, -2.0], [-1.0, -2.0]])
    mask, correct = torch.ones(2, 2), torch.tensor([1.0, 0.0])
    assert entropy_discrepancy(logps, mask, correct) == pytest.approx(0.0)
    assert entropy_discrepancy(logps * torch.tensor([[2.0], [1.0]]), mask, correct) > 0
    assert entropy_discrepancy(logps * torch.tensor([[1.0], [2.0]]), mask, correct) < 0
    assert entropy_discrepancy(logps, mask, torch.zeros(2)) < 0  # no right answer: the wrong ones alone


@pytest.mark.parametrize("rollout", [None, shared_prefix_rollout])
def test_the_trainer_follows_it(rollout, tiny_model, tmp_path):
    seen = []

    class Watching(DSGRPOTrainer):
        def _compute_loss(self, model, inputs):
            seen.append((self.entropy_coef, self._gammas, {**inputs}))
            return super()._compute_loss(model, inputs)

    trainer = make(
        Watching,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        rollout=rollout,
        rewards=even_length,
        schedule="entropy_discrepancy",
        gamma_p=0.5,
        gamma_n=0.25,
        entropy_coef=2.0,
        max_steps=3,
    )
    trainer.train()
    assert len(seen) == 3
    for coefficient, gammas, inputs in seen:
        logps = inputs.get("old_per_token_logps")
        logps = inputs["sampling_per_token_logps"] if logps is None else logps
        expected = entropy_discrepancy(logps.double(), inputs["completion_mask"], inputs["ds_correct"].double())
        assert coefficient == pytest.approx(2.0 * expected, abs=1e-5)
        assert gammas["gamma_p"] == pytest.approx(0.5 * max(expected, 0), abs=1e-5)
        assert gammas["gamma_n"] == pytest.approx(0.25 * max(expected, 0), abs=1e-5)
    assert len({coefficient for coefficient, _, _ in seen}) == 3
    logged = [
        entry["ds/entropy_discrepancy"] for entry in trainer.state.log_history if "ds/entropy_discrepancy" in entry
    ]
    assert logged == pytest.approx([coefficient / 2.0 for coefficient, _, _ in seen], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "entropy_discrepancy"}, "all of them are 0"),
        ({"schedule": "entropy_discrepancy", "gamma_p": 0.1, "use_adaptive_entropy": True}, "Choose one"),
        ({"schedule": "cosine", "gamma_p": 0.1}, "schedule must be one of constant, entropy_discrepancy"),
    ],
)
def test_a_wrong_schedule_says_so(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        DSGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], **options)
