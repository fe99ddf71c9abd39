"""Advice before training: shares of groups by enumeration, the price of price.py, the critical strength, and the verdicts."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from differential_smoothing.advice import advise, group_shares, price
from differential_smoothing.cli import app
from differential_smoothing.rollouts import write_rollouts
from differential_smoothing.tabular.collapse import node_balance


def base(differ=0.8, success=(0, 3, 8, 16), n=16):
    return pd.DataFrame({"n": n, "c": success, "differ": [differ if c >= 2 else np.nan for c in success]})


def log(decided, steps=40):
    return [{"step": s, "reward": 0.4, "frac_reward_zero_std": decided} for s in range(1, steps + 1)]


@pytest.mark.parametrize("group", [2, 3, 5])
def test_group_shares_equal_all_draws_of_a_group(group):
    n, c = [6, 7, 5], [6, 3, 1]
    right, wrong = [], []
    for m, k in zip(n, c):
        samples = [True] * k + [False] * (m - k)
        draws = list(itertools.combinations(samples, group))
        right.append(np.mean([all(draw) for draw in draws]))
        wrong.append(np.mean([not any(draw) for draw in draws]))
    shares = group_shares(n, c, group)
    assert shares.all_correct == pytest.approx(np.mean(right)) and shares.all_wrong == pytest.approx(np.mean(wrong))
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(
    ("n", "group", "message"),
    [([4, 3], 4, "one has 3"), ([], 4, "no problems"), ([8], 1, "at least 2"), ([8], 2.0, "whole")],
)
def test_group_shares_need_enough_samples(n, group, message):
    with pytest.raises(ValueError, match=message):
        group_shares(n, [0] * len(n), group)


def test_the_term_is_cheaper_where_more_is_correct_and_equal_to_grpo_without_strength():
    assert price([0.3, 0.7], gamma_p=0.0) == pytest.approx(1.0)
    prices = [price([success]) for success in (0.05, 0.2, 0.5, 0.8, 0.9)]
    assert prices == sorted(prices, reverse=True) and 0.8 < prices[1] < 0.95 and prices[-1] < 0
    assert prices[3] < price([0.2, 0.8]) < prices[1]


def test_the_critical_strength_is_the_laboratory_s():
    one = advise(base(success=[8] * 3), group=8, tokens=5)
    expected = node_balance(0.5 ** (1 / 5), 5 ** (1 / 5), 0.5, "token", 8).critical
    assert one.critical["token"] == pytest.approx(float(expected))
    assert advise(base(), group=8, tokens=50).critical["token"] < one.critical["token"]


@pytest.mark.parametrize(
    ("differ", "entries", "verdict"),
    [
        (0.8, None, "depends on the training's length"),
        (0.8, log(0.7), "can lead"),
        (0.8, log(0.3), "cannot lead yet"),
        (0.8, [{"step": 1, "reward": 0.5}], "depends on the training's length"),
        (0.05, log(0.7), "nothing to keep"),
        (math.nan, log(0.7), "can lead"),
    ],
)
def test_verdicts(differ, entries, verdict):
    found = advise(base(differ), group=8, log=entries)
    assert found.verdict == verdict and sum(f"Verdict: {verdict}" in line for line in found.sentences) == 1
    assert ("variety of correct answers is unknown" in " ".join(found.sentences)) == math.isnan(differ)


def test_a_base_that_solves_nothing_gets_no_strength():
    found = advise(base(math.nan, success=[0, 0]), group=8)
    assert found.critical == {"token": math.inf, "relative": math.inf} and found.shares == (0, 0, 1)
    assert "solves none of the problems" in found.sentences[-1] and "inf" not in " ".join(found.sentences)


@pytest.mark.parametrize("tokens", [0, 1.5, True])
def test_tokens_must_be_a_count(tokens):
    with pytest.raises(ValueError, match="tokens must be a whole number"):
        advise(base(), tokens=tokens)


def table(path, models=("base",)):
    rows = [
        {
            "model": m,
            "prompt_id": str(p),
            "sample": s,
            "completion": "x",
            "correct": s < p,
            "canonical": str(s) if s < p else None,
        }
        for m in models
        for p in range(6)
        for s in range(12)
    ]
    write_rollouts(pd.DataFrame(rows), path)
    return path


def test_the_command_prints_the_advice_and_refuses_two_models(tmp_path):
    run = CliRunner().invoke(app, ["advise", str(table(tmp_path / "b.parquet")), "--group", "4"])
    assert run.exit_code == 0 and "Of groups of 4" in run.output and "depends on the training's length" in run.output
    run = CliRunner().invoke(app, ["advise", str(table(tmp_path / "two.parquet", ("a", "b")))])
    assert isinstance(run.exception, ValueError) and "these are of a, b" in str(run.exception)
