"""Collapse: critical strengths against slow twins, training on either side, the controller, and that each claim can fail."""

import importlib.util
from itertools import product
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from differential_smoothing.advantages import group_advantages
from differential_smoothing.tabular import collapse, controller, held, oracle
from differential_smoothing.tabular.claims import collapse as collapse_claims
from differential_smoothing.tabular.claims import controller as controller_claims
from differential_smoothing.tabular.claims.verdict import FAIL, NOT, PASS
from differential_smoothing.tabular.trajectories import sequences


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("success", [0.1, 0.5, 0.97, 1.0])
def test_the_means_are_those_of_every_group_listed(size, success):
    up = down = kept = undecided = 0.0
    for draw in product([0.0, 1.0], repeat=size):
        chance = np.prod([success if r else 1 - success for r in draw])
        values = group_advantages(torch.tensor(draw, dtype=torch.float64), torch.zeros(size, dtype=torch.long))
        right = sum(draw)
        # each completion stands for the one that is looked at, so the mean over right ones is weighted by how many there are
        up += chance * sum(float(v) for v, r in zip(values, draw, strict=True) if r) / (size * success)
        if success < 1:
            down += chance * sum(float(v) for v, r in zip(values, draw, strict=True) if not r) / (size * (1 - success))
        kept += chance * max(right - 1, 0) / (size * success)
        undecided += chance * (0 < right < size)
    means = collapse.group_means(success, size)
    assert np.allclose([means.up, means.kept, means.undecided], [up, kept, undecided], atol=1e-12)
    assert success == 1 or np.isclose(means.down, down, atol=1e-12)


def test_large_groups_come_to_the_endless_ones():
    success = np.array([0.2, 0.5, 0.9])
    near, limit = collapse.group_means(success, 1000), collapse.group_means(success, inf)
    assert np.allclose(
        [near.up, near.down, near.kept, near.up_kept], [limit.up, limit.down, limit.kept, limit.up_kept], atol=0.02
    )
    assert np.allclose(collapse.balance(success, 5, "centred").critical, [2, 1, 1 / 3])
    assert np.allclose(collapse.balance(success, 5, "relative").critical, 1)


def test_one_token_is_a_tree_of_one_node():
    for success, rule in product((0.4, 0.9), ("token", "sum", "mean")):
        tree = collapse.node_balance(success, 6, success, rule, 8, answers=6, tokens=1)
        assert np.allclose(tree, collapse.balance(success, 6, "published", 8))
    assert np.allclose(
        collapse.node_balance(0.4, 6, 0.4, "relative").critical, collapse.balance(0.4, 6, "relative").critical
    )


def test_many_tokens_need_strength_in_inverse_proportion():
    one, ten = (float(collapse.node_balance(0.5 ** (1 / t), 2, 0.5, "token").critical) for t in (1000, 10_000))
    law = np.log(2) / 0.5 / 1000
    assert np.isclose(one, law, rtol=0.01) and np.isclose(one / ten, 10, rtol=0.01)
    means = [
        float(collapse.node_balance(0.9 ** (1 / t), 2, 0.9, "mean", answers=4, tokens=t).critical)
        for t in (1000, 10_000)
    ]
    assert np.isclose(*means, rtol=0.01)


def test_the_relative_token_term_is_critical_between_one_over_t_and_one():
    for tokens in (1, 7, 100):
        kappa = [float(collapse.node_balance(c ** (1 / tokens), 2, c, "relative").critical) for c in (0.01, 0.5, 0.999)]
        assert kappa == sorted(kappa, reverse=True) and kappa[0] <= 1 and np.isclose(kappa[2], 1 / tokens, rtol=0.01)


def test_a_separatrix_ends_at_the_critical_strength_and_has_no_upper_bound():
    for rule in ("published", "centred"):
        near = float(collapse.separatrix(1 / 8 + 1e-6, 0.8, 8, rule, 8))
        assert np.isclose(near, float(collapse.balance(0.8, 8, rule, 8).critical), rtol=1e-3)
    assert collapse.separatrix(0.9999, 0.5, 8, "centred", 8) > 100


def test_on_the_separatrix_a_leader_stays():
    share, success, size = 0.6, 0.5, 4
    gamma_p = float(collapse.separatrix(share, success, 3, "centred", size))
    logits = np.log([[share * success, *[(1 - share) * success / 2] * 2, 0.25, 0.25]])
    answers, correct = sequences([[i] for i in range(5)]), np.arange(5) < 3
    for factor, sign in ((0.9, 1), (1.0, 0), (1.1, -1)):
        push = held.expected("centred", factor * gamma_p, answers, correct, size)(logits, 0)[0]
        gain = push[0] - push[1]
        assert abs(gain) < 1e-9 if sign == 0 else np.sign(gain) == sign


def test_a_crowd_has_the_mean_and_the_decided_share_that_were_asked_for():
    rates = collapse.crowd(0.57, 0.8, 8, prompts=20_000)
    assert np.isclose(rates.mean(), 0.57, atol=2e-3)
    assert np.isclose((rates**8 + (1 - rates) ** 8).mean(), 0.8, atol=2e-3)
    with pytest.raises(ValueError, match="all alike"):
        collapse.crowd(0.9, 0.3, 8)


def test_prompts_that_are_alike_pool_to_one():
    one = collapse.balance(np.full(5, 0.4), 6, "centred", 8)
    assert np.isclose(collapse.pooled(np.full(5, 0.4), one), one.critical[0])


def test_a_relative_term_is_silent_on_wrong_answers_and_needs_a_floor_where_all_are_right():
    rewards = torch.tensor([1.0, 1, 0, 1, 1], dtype=torch.float64)
    logps = torch.tensor([[-1.0], [-3.0], [-2.0], [-0.5], [-1.5]], dtype=torch.float64)
    group, mask = torch.tensor([0, 0, 0, 1, 1]), torch.ones(5, 1)
    stock = group_advantages(rewards, group)
    for floor in (0.0, 0.2):
        got = held.relative_advantages(rewards, logps, mask, correct=rewards > 0, group=group, kappa=0.5, floor=floor)[
            :, 0
        ]
        a = float(stock[0])
        assert np.allclose(got, [a * 0.5, a * 1.5, float(stock[2]), -0.5 * floor * 0.5, 0.5 * floor * 0.5])


def test_the_token_level_of_one_token_is_the_sum_level():
    rewards = torch.tensor([1.0, 1, 0, 1], dtype=torch.float64)
    logps = torch.tensor([[-1.0], [-3.0], [-2.0], [-0.5]], dtype=torch.float64)
    given = (rewards, logps, torch.ones(4, 1))
    ids = {"correct": rewards > 0, "group": torch.zeros(4, dtype=torch.long), "kappa": 0.7}
    assert torch.allclose(
        held.relative_advantages(*given, **ids), held.relative_advantages(*given, **ids, level="token")
    )


@pytest.mark.parametrize(
    "bad",
    [
        lambda: collapse.group_means(0.5, 1),
        lambda: collapse.group_means(0.0, 8),
        lambda: collapse.balance(0.5, 3, "sum"),
        lambda: collapse.balance(0.5, 0, "centred"),
        lambda: collapse.node_balance(0.5, 2, 0.5, "centred"),
        lambda: collapse.escape_time(0.5, 1.0),
        lambda: collapse.worse_share(0.3, 0.6, 1.0),
        lambda: collapse.separatrix(0.5, 0.5, 3, "relative"),
        lambda: controller.Controller(0.0, 1.0),
    ],
)
def test_bad_input_is_named(bad):
    with pytest.raises(ValueError, match="got"):
        bad()


def test_variety_from_logs_adds_over_groups_and_knows_two_ends():
    logps = torch.log(torch.tensor([0.25] * 4 + [1.0] * 4, dtype=torch.float64))[:, None]
    group = torch.arange(2).repeat_interleave(4)
    right = torch.ones(8, dtype=torch.bool)
    total, number = controller.log_variety(logps, torch.ones(8, 1), correct=right, group=group)
    assert np.isclose(total, 4 * np.log(4)) and number == 8  # four even answers, and one that is certain
    some = torch.tensor([True, False, False, False] * 2)
    total, number = controller.log_variety(logps, torch.ones(8, 1), correct=some, group=group)
    assert np.isclose(total, np.log(4) - 2 * (1 + 1 / 2 + 1 / 3)) and number == 2


def test_the_controller_stores_nothing_while_it_is_at_its_bound_or_has_no_learning_rate():
    low = controller.Controller(0.5, 1.0, glide=0)
    for _ in range(200):
        assert low(np.array(0.1)) == 4.0
    assert low.scale == 1.0 and low(np.array(0.5)) == 1.0  # back at the target it is at once what it was
    still = controller.Controller(0.5, 1.0, glide=0)
    for _ in range(200):
        still(np.array(0.49), pace=0.0)
    assert still.scale == 1.0
    above = controller.Controller(0.5, 1.0, glide=0)
    assert above(np.array(0.5 * 1.05 + 1e-9)) == 0.0


def test_the_reference_glides_from_the_base_to_the_target():
    law = controller.Controller(0.5, 1.0, speed=0.0, glide=10)
    at_one = [float(law(np.array(1.0))) for _ in range(3)]
    assert at_one[0] == 1.0 and at_one[1] < 0.1 and at_one[2] == 0.0


def test_steering_follows_the_training_of_the_oracle():
    """A fixed strength in ``steer`` is plain gradient ascent."""
    logits, answers, correct = held.bandit(3, 2, 0.3)
    logits = logits + np.array([0.3, 0.0, -0.2, 0.0, 0.1])
    run = controller.steer(
        logits[None, None], answers, correct, 4, lambda ratio, pace: np.array([0.4]), steps=5, lr=np.array([0.5])
    )
    twin = logits
    for _ in range(5):
        twin = twin + 0.5 * oracle.expected_gradient(
            twin, answers, correct, oracle.ds_grpo(gamma_p=0.4, level="sum"), 4
        )
    assert np.allclose(run.logits[0, 0], twin, atol=1e-12)


CLAIMS = {
    "critical": collapse_claims.critical,
    "node": collapse_claims.node,
    "published": collapse_claims.published_sharpens,
    "unequal": collapse_claims.unequal,
    "relative": collapse_claims.relative_holds,
    "stays": collapse_claims.certain_stays,
    "race": collapse_claims.race,
    "measured": controller_claims.measured,
}


@pytest.mark.parametrize("name", list(CLAIMS))
def test_a_claim_is_as_stated(name):
    found = CLAIMS[name]()
    assert found.verdict == found.expected and found.expected == (NOT if name in ("published", "relative") else PASS)


@pytest.mark.parametrize(
    ("name", "where", "broken"),
    [
        ("critical", "balance", lambda b: collapse.Balance(b.drift, 1.01 * b.hold)),
        ("node", "node_balance", lambda b: collapse.Balance(1.01 * b.drift, b.hold)),
        ("race", "growth", lambda g: 1.05 * g),
        ("unequal", "worse_share", lambda s: 1.01 * s),
    ],
)
def test_a_claim_turns_red_when_its_formula_is_broken(monkeypatch, name, where, broken):
    honest = getattr(collapse, where)
    monkeypatch.setattr(collapse, where, lambda *a, **k: broken(honest(*a, **k)))
    assert CLAIMS[name]().verdict == FAIL


def test_variety_from_logs_without_its_harmonic_numbers_is_something_else(monkeypatch):
    honest = controller.log_variety

    def raw(logps, mask, *, correct, group):
        return float(-logps.sum(1)[correct].sum()), honest(logps, mask, correct=correct, group=group)[1]

    monkeypatch.setattr(controller, "log_variety", raw)
    assert controller_claims.measured().verdict == FAIL


def test_a_term_of_the_other_sign_spreads_nothing(monkeypatch):
    honest = held.expected
    monkeypatch.setattr(held, "expected", lambda name, strength, *a, **k: honest(name, 0.0, *a, **k))
    monkeypatch.setattr(collapse_claims, "TRAINED", (4,))
    assert collapse_claims.attracts().verdict == FAIL


def test_a_controller_without_its_proportional_part_misses(monkeypatch):
    """Dual ascent alone, an integral: it swings and misses."""

    class Integral(controller.Controller):
        def __call__(self, ratio, pace=1.0):
            super().__call__(ratio, pace)
            return self.scale

    monkeypatch.setattr(controller, "Controller", Integral)
    assert controller_claims.holds().verdict == FAIL


def _benchmark():
    path = Path(__file__).parents[1] / "benchmarks" / "critical.py"
    spec = importlib.util.spec_from_file_location("critical", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_grid_finds_the_crossing_that_was_put_into_it():
    critical = _benchmark()
    rows = []
    for strength, step, prompt in product((0.0, 0.1, 0.2, 0.4), (20, 50, 100, 200), range(4)):
        # variety falls with the time spent, at 1 - strength / 0.3 of GRPO's pace
        time = critical.spent(1e-4, step, 200)
        differ = 0.8 * np.exp(-max(1 - strength / 0.3, 0) * time / 0.004)
        rows.append(
            (
                "grpo" if strength == 0 else "ds_token",
                strength,
                1e-4,
                step,
                0,
                "evaluation",
                str(prompt),
                64,
                32,
                3.0,
                differ,
            )
        )
    counts = pd.DataFrame(rows, columns=critical.COLUMNS)
    table = critical.grid(counts, ["ds_token"], 0.8, 0.5, tokens=7, branches=2, group=8).set_index("step")
    last = table.loc[200]
    # exp(-x) is one half at log 2, so the crossing is at 0.3 (1 - 0.004 log 2 / B), up to the straight lines
    assert np.isclose(last["measured"], 0.3 * (1 - 0.004 * np.log(2) / last["budget"]), atol=0.04)
    assert np.isclose(last["half"], 0.004 * np.log(2), rtol=0.25)
    assert np.isclose(last["alone"], float(critical.balance(last["success"], 7, 2, 8).critical))
    # at a success rate that stays, time is all that is left of the path
    assert np.isclose(last["predicted"], last["alone"] * (1 - last["half"] / last["budget"]), rtol=2e-3)
    assert table.loc[20, "predicted"] == 0 and table.loc[20, "budget"] < last["half"] < last["budget"]
    assert bool(critical.judged(table).loc[200]) == (0.5 <= last["quotient"] <= 2)
    lost = table.assign(measured=np.nan, quotient=np.nan)  # collapsed at every strength tried, up to 0.4
    assert critical.judged(lost.assign(predicted=0.1)).tolist() == [False] * 4
    assert critical.judged(lost.assign(predicted=0.3)).isna().all()
    with pytest.raises(ValueError, match="missing are step"):
        critical.grid(counts.drop(columns="step"), ["ds_token"], 0.8, 0.5, tokens=7, branches=2, group=8)
    with pytest.raises(ValueError, match="ds_sum"):
        critical.grid(counts, ["ds_sum"], 0.8, 0.5, tokens=7, branches=2, group=8)
