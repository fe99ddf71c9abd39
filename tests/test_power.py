"""The power planner: variance components of known effects, power against simulation, and the command."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from differential_smoothing.cli import app
from differential_smoothing.evaluation.power import Components, components, differences, least_problems, power_of
from differential_smoothing.evaluation.resampling import standard_errors
from differential_smoothing.rollouts import write_rollouts

KNOWN = Components(problem=0.04, seed=0.0004, rest=0.02, noise=0.01, samples=16, delta=0.03, problems=500, seeds=5)


def draw(rng, delta, problems, seeds, pilot=KNOWN):
    return (
        delta
        + rng.normal(0, pilot.problem**0.5, problems)
        + rng.normal(0, pilot.seed**0.5, (seeds, 1))
        + rng.normal(0, pilot.rest**0.5, (seeds, problems))
    )


def test_components_are_found_again():
    rng = np.random.default_rng(0)
    found = np.mean([components(draw(rng, 0.03, 300, 6))[:3] for _ in range(200)], axis=0)
    assert found == pytest.approx([KNOWN.problem, KNOWN.seed, KNOWN.rest], rel=0.08)


def test_one_seed_knows_no_variance_between_seeds():
    rng = np.random.default_rng(0)
    values = draw(rng, 0.03, 400, 1)
    found = components(values, np.full(values.shape, 0.005), 16)
    assert np.isnan(found.seed) and found.rest == pytest.approx(0.005)
    assert found.problem + found.rest == pytest.approx(values.var(ddof=1))
    with pytest.raises(ValueError, match="variance between seeds is not known"):
        power_of(found, 0.02, problems=100, seeds=3)
    assert 0 < power_of(found, 0.02, problems=100, seeds=3, seed_variance=0.0) < 1


@pytest.mark.parametrize(
    ("problems", "seeds", "delta"), [(200, 5, 0.04), (400, 2, 0.05), (150, 1, 0.05), (1000, 8, 0.02)]
)
def test_power_is_the_share_of_simulated_studies_that_find_the_difference(problems, seeds, delta):
    rng = np.random.default_rng(1)
    pilot = KNOWN._replace(seed=0.0) if seeds == 1 else KNOWN
    studies = [draw(rng, delta, problems, seeds, pilot) for _ in range(3000)]
    found = np.mean([abs(x.mean()) > 1.959964 * standard_errors(x[:, :, None])[0] for x in studies])
    assert power_of(pilot, delta, problems=problems, seeds=seeds) == pytest.approx(found, abs=0.03)


def test_more_of_everything_finds_more():
    def at(problems=200, seeds=5, samples=16, delta=0.03):
        return power_of(KNOWN, delta, problems=problems, seeds=seeds, samples=samples)

    assert at() < at(problems=400) and at() < at(seeds=10) and at() < at(samples=64) and at() < at(delta=0.05)
    assert at(samples=4) < at() and at(delta=-0.03) == pytest.approx(at())


def test_the_least_number_of_problems_is_the_least():
    need = least_problems(KNOWN, 0.03, power=0.8, seeds=10)
    assert power_of(KNOWN, 0.03, problems=need, seeds=10) >= 0.8 > power_of(KNOWN, 0.03, problems=need - 1, seeds=10)
    assert least_problems(KNOWN._replace(seed=1.0), 0.03, power=0.8, seeds=3) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difference": 0.0}, "difference other than 0"),
        ({"problems": 1}, "problems >= 2"),
        ({"seeds": 0}, "seeds >= 1"),
        ({"level": 1.0}, "level in"),
    ],
)
def test_studies_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        power_of(KNOWN, **({"difference": 0.1, "problems": 9, "seeds": 3} | options))
    with pytest.raises(ValueError, match="samples must be the pilot's, 16"):
        power_of(KNOWN._replace(noise=float("nan")), 0.1, problems=9, seeds=3, samples=8)


def frame(models=("base", "rl"), seeds=2, n=4, p=6):
    rng = np.random.default_rng(0)
    rows = [
        {
            "model": m,
            "seed": s,
            "prompt_id": str(i),
            "sample": j,
            "completion": "x",
            "correct": bool(rng.random() < 0.5),
            "canonical": "a",
        }
        for m in models
        for s in range(1 if m == "base" else seeds)
        for i in range(p)
        for j in range(n)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def pilot(tmp_path):
    table = frame()
    table.loc[~table["correct"], "canonical"] = None
    write_rollouts(table, tmp_path / "pilot.parquet")
    return tmp_path / "pilot.parquet"


def test_differences_are_those_of_the_counts(pilot):
    from differential_smoothing.rollouts import read_rollouts

    table = read_rollouts(pilot)
    values, noise, n = differences(table, "rl", "base", "pass@1")
    shares = table.assign(correct=table["correct"].astype(float)).groupby(["model", "seed", "prompt_id"])["correct"]
    mean, both = shares.mean(), shares.var(ddof=1) / 4
    for s in (0, 1):
        for i, prompt in enumerate(map(str, range(6))):
            assert values[s, i] == pytest.approx(mean["rl", s, prompt] - mean["base", 0, prompt])
            assert noise[s, i] == pytest.approx(both["rl", s, prompt] + both["base", 0, prompt])
    assert n == 4 and np.isnan(differences(table, "rl", "base", "pass@4")[1]).all()
    for metric in ("pass@9", "pass@x", "coverage"):
        with pytest.raises(ValueError, match=r"needs 9 samples|metric must be"):
            differences(table, "rl", "base", metric)
    with pytest.raises(ValueError, match="two different models of the pilot, which has base, rl"):
        differences(table, "rl", "rl", "pass@1")


def test_the_command_plans_and_names_what_is_wrong(pilot):
    def run(*more):
        return CliRunner().invoke(app, ["power", str(pilot), "--baseline", "base", *more])

    good = run("--difference", "5", "--seeds", "2,50")
    assert good.exit_code == 0 and good.output.count("To find +5.00 points with a chance of 80%") == 2
    assert "6 problems x 4 samples, 2 training seeds" in good.output
    assert "must be whole numbers" in str(run("--seeds", "0,x").exception)
    assert "between 0 and 1" in str(run("--power", "2").exception)
