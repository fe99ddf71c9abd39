"""The envelope and leads over it: against brute force, under what must change nothing, and on made-up paths whose truth is known."""

import itertools

import numpy as np
import pandas as pd
import pytest

from differential_smoothing.evaluation.envelope import corrected, envelope_at, lead_over, margin_over, resample
from differential_smoothing.evaluation.frontiers import holm
from differential_smoothing.evaluation.paths import PLACE, chosen_points, final_counts, leads, path_means, usable_range


def best_mixture(at, x, y):
    """F(at) the slow way: every point, and every mixture of two, that has at least this x."""
    at = min(at, max(x))
    values = [v for u, v in zip(x, y, strict=True) if u >= at]
    for i, j in itertools.permutations(range(len(x)), 2):
        if x[i] < at <= x[j]:
            weight = (x[j] - at) / (x[j] - x[i])  # no more of point i than that
            values.append(weight * y[i] + (1 - weight) * y[j])
    return max(values)


@pytest.mark.parametrize("points", [1, 2, 3, 7, 40])
def test_the_envelope_is_the_best_mixture_of_two_points(points):
    random = np.random.default_rng(points)
    x, y = random.random((60, points)), random.random((60, points))
    x[:20], y[20:40] = x[:20].round(1), y[20:40].round(1)  # ties
    y[40:] = 1 - x[40:] ** 2 + 0.01 * y[40:]  # nearly all on the hull
    at = random.uniform(-0.1, 1.1, 60)
    at[::7] = x[::7, 0]  # at a point
    expected = [best_mixture(*row) for row in zip(at, x, y, strict=True)]
    assert envelope_at(at, x, y) == pytest.approx(expected, abs=1e-12)


def test_the_envelope_never_rises_and_holds_every_point():
    random = np.random.default_rng(0)
    x, y = random.random((1, 12)), random.random((1, 12))
    grid = np.linspace(-0.2, 1.2, 200)
    values = envelope_at(grid, np.repeat(x, 200, axis=0), np.repeat(y, 200, axis=0))
    assert (np.diff(values) <= 1e-12).all()
    inside = grid <= x.max()
    assert (np.diff(values[inside], 2) <= 1e-9).all()  # concave up to its right end
    assert [values[0], values[-1]] == pytest.approx([y.max(), y[0, x.argmax()]])
    assert (envelope_at(x[0], np.repeat(x, 12, axis=0), np.repeat(y, 12, axis=0)) >= y[0] - 1e-12).all()
    # the hull of the swapped axes is the same curve
    within = (grid > x[0, y.argmax()]) & (grid < x.max())
    back = envelope_at(values[within], np.repeat(y, within.sum(), axis=0), np.repeat(x, within.sum(), axis=0))
    assert back == pytest.approx(grid[within])


def test_what_changes_nothing_and_what_does():
    random = np.random.default_rng(1)
    x, y = random.random((30, 9)), random.random((30, 9))
    at = random.uniform(0, 1, 30)
    plain = envelope_at(at, x, y)
    order = random.permutation(9)
    assert envelope_at(at, x[:, order], y[:, order]) == pytest.approx(plain)
    assert envelope_at(at, np.tile(x, 2), np.tile(y, 2)) == pytest.approx(plain)
    dominated = np.column_stack([x, x[:, 3] - 0.05]), np.column_stack([y, y[:, 3] - 0.05])
    assert envelope_at(at, *dominated) == pytest.approx(plain)
    mixed = np.column_stack([x, (x[:, 2] + x[:, 5]) / 2]), np.column_stack([y, (y[:, 2] + y[:, 5]) / 2])
    assert envelope_at(at, *mixed) == pytest.approx(plain)  # a mixture is no news
    assert envelope_at(2 * at + 3, 2 * x + 3, 5 * y - 1) == pytest.approx(5 * plain - 1)
    better = np.column_stack([x, np.ones(30)]), np.column_stack([y, np.ones(30)])
    assert envelope_at(at, *better) == pytest.approx(1.0)
    means = np.stack([np.column_stack([at, x]), np.column_stack([plain + 0.25, y])], axis=2)
    assert lead_over(1)(means) == pytest.approx(0.25)
    assert margin_over(0)(means) == pytest.approx(at - x.max(axis=1))


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="at least one point"):
        envelope_at([0.5], np.zeros((1, 0)), np.zeros((1, 0)))
    with pytest.raises(ValueError, match="expected \\(rows,\\)"):
        envelope_at([0.5, 0.5], np.zeros((1, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="training seeds, problems, measures"):
        resample(np.zeros((2, 3, 4)), seed=0)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_the_noise_has_the_variance_of_a_new_study(seeds):
    """Over many studies with known components the variance of the resamples is that of the study's means."""
    random = np.random.default_rng(seeds)
    problems, of_seed, of_problem, rest = 30, 0.3, 0.5, 0.8
    found, means = [], []
    for study in range(150):
        values = (
            random.normal(0, of_seed * (seeds > 1), (1, seeds, 1, 1))
            + random.normal(0, of_problem, (1, 1, problems, 1))
            + random.normal(0, rest, (1, seeds, problems, 1))
        )
        drawn = resample(values, seed=study, replications=200)
        found.append((drawn.of_problems + drawn.of_seeds).var())
        means.append(drawn.means[0, 0])
    truth = (of_seed**2 * (seeds > 1)) / seeds + of_problem**2 / problems + rest**2 / (seeds * problems)
    assert np.var(means) == pytest.approx(truth, rel=0.35)
    assert np.mean(found) == pytest.approx(truth, rel=0.2)


def test_undefined_values_are_left_out_of_means():
    values = np.random.default_rng(0).random((2, 3, 20, 1))
    values[0, :, ::4] = np.nan
    drawn = resample(values, seed=0)
    assert drawn.means[:, 0] == pytest.approx([np.nanmean(values[0]), values[1].mean()])
    assert np.isfinite(drawn.of_problems).all()


def test_the_correction_takes_the_bias_of_ties_away():
    """40 equal baseline points, a rule's point that is equal too: the plain lead is far below 0, the corrected one is near it."""
    random = np.random.default_rng(2)
    plain, estimates, held = [], [], []
    for study in range(60):
        values = np.repeat(random.random((1, 1, 80, 1)), 2, axis=3) + random.normal(0, 0.4, (13, 1, 80, 2))
        values[1:, ..., 0] += 0.3  # the envelope is flat at the rule's Pass@1
        found = corrected(lead_over(1), resample(values, seed=study, replications=300), seed=0)
        plain.append(found.plain)
        estimates.append(found.estimate)
        held.append(found.interval()[0] <= 0 <= found.interval()[1])
    assert np.mean(plain) < -0.06 and abs(np.mean(estimates)) < 0.5 * abs(np.mean(plain))
    assert np.mean(held) > 0.85


def test_without_noise_there_is_no_interval_and_no_p():
    values = np.tile(np.array([[0.5, 0.9], [0.4, 0.8], [0.6, 0.7]])[:, None, None], (1, 2, 10, 1))
    found = corrected(lead_over(1), resample(values, seed=0), seed=0)
    assert [found.estimate, found.plain] == pytest.approx([0.15, 0.15]) and found.interval() == pytest.approx(
        (0.15, 0.15)
    )
    assert np.isnan(found.p)
    one_problem = corrected(lead_over(1), resample(values[:, :, :1], seed=0), seed=0)
    assert one_problem.plain == pytest.approx(0.15) and np.isnan(one_problem.interval()).all()


N = 16


def paths(truth, problems=100, seeds=range(5), noise=0.004, seed=0):
    """Counts of points ``{(rule, strength, rate, step): (pass@1, share of problems that are solved at all)}``; distinct 3 where "ds" is in the rule."""
    random = np.random.default_rng(seed)
    rows = []
    for (rule, strength, rate, step), (p, solved) in truth.items():
        for run, evaluation in itertools.product(seeds, ("selection", "evaluation")):
            ordered = (np.arange(problems) + 0.5) / problems
            chance = np.where(ordered < solved, np.clip(p / solved + random.normal(0, noise), 0, 1), 0.0)
            c = random.binomial(N, chance)
            rows += [
                (
                    "",
                    rule,
                    strength,
                    rate,
                    step,
                    run,
                    evaluation,
                    f"{evaluation}{i:03}",
                    N,
                    int(k),
                    min(int(k), 3 if "ds" in rule else 1),
                    np.nan,
                    f"{rule}-{strength}-{rate}",
                )
                for i, k in enumerate(c)
            ]
    columns = [
        "task",
        "rule",
        "strength",
        "learning_rate",
        "step",
        "seed",
        "evaluation",
        "prompt_id",
        "n",
        "c",
        "distinct",
        "differ",
        "model",
    ]
    return pd.DataFrame(rows, columns=columns)


GRPO = {
    ("base", "", 0.0, 0): (0.15, 1.0),
    ("grpo", "", 1e-4, 100): (0.30, 0.90),
    ("grpo", "", 1e-4, 200): (0.40, 0.75),
    ("grpo", "", 3e-4, 100): (0.35, 0.80),
    ("grpo", "", 3e-4, 200): (0.50, 0.60),
}
RIVALS = {
    ("ds", "0.2", 1e-4, 100): (0.30, 0.95),
    ("ds", "0.2", 1e-4, 200): (0.40, 0.95),  # some 20 points above the line from (0.15, 1) to (0.50, 0.60)
    ("ds", "0.3", 1e-4, 100): (0.50, 0.92),
    ("ds", "0.3", 1e-4, 200): (0.60, 0.90),  # beyond the right end
    ("same", "", 1e-4, 100): (0.38, 0.74),  # on it
    ("same", "", 1e-4, 200): (0.42, 0.69),
    ("broken", "1", 1e-4, 200): (0.01, 0.02),
}


@pytest.fixture(scope="module")
def table():
    return paths(GRPO | RIVALS)


def test_leads_are_found_and_not_invented(table):
    chosen = chosen_points(table, "grpo")
    assert "grpo" not in set(chosen["rule"]) and "base" not in set(chosen["rule"])
    best = chosen[chosen["criterion"].str.contains("pass@1") & (chosen["rule"] == "ds")].iloc[0]
    assert (best["strength"], best["step"]) == ("0.3", 200)
    found = leads(table, chosen, "grpo", seed=0)
    assert len(found) == 3 * len(chosen)
    ds = found[(found["rule"] == "ds") & (found["strength"] == "0.3") & (found["step"] == 200)].set_index("measure")
    assert ds.loc["pass@k", "low_all"] > 0.05 and ds.loc["distinct", "low_all"] > 0.5
    assert ds.loc["pass@1", "low"] > 0 and ds.loc["pass@1", "estimate"] == pytest.approx(0.10, abs=0.05)
    assert (found.loc[(found["rule"] == "same") & (found["measure"] != "pass@1"), "p_holm"] > 0.05).all()
    assert (found.loc[(found["rule"] == "broken") & (found["measure"] == "pass@1"), "high_all"] < 0).all()
    tested = found["p"].notna()
    assert found.loc[tested, "p_holm"].to_numpy() == pytest.approx(holm(found.loc[tested, "p"].to_numpy()))
    assert (found["low_all"] <= found["low"]).all() and (found["high"] <= found["high_all"]).all()


def test_the_reference_is_the_brute_force_of_plain_means(table):
    found = leads(table, chosen_points(table, "grpo"), "grpo", seed=0).set_index([*PLACE, "measure"])
    judged = table[table["evaluation"] == "evaluation"]
    means = judged.assign(p=judged["c"] / N, solved=judged["c"] > 0).groupby(PLACE)[["p", "solved", "distinct"]].mean()
    base = means[means.index.get_level_values("rule").isin(["grpo", "base"])]
    for key, row in found.iterrows():
        mine = means.loc[key[:5]]
        if key[5] == "pass@1":
            expected = base["p"].max()
        else:
            expected = best_mixture(
                mine["p"], list(base["p"]), list(base["solved" if key[5] == "pass@k" else "distinct"])
            )
        assert row["reference"] == pytest.approx(expected)
        assert row["value"] == pytest.approx(mine[{"pass@1": "p", "pass@k": "solved", "distinct": "distinct"}[key[5]]])


def test_any_rule_can_be_the_baseline_and_order_and_dominated_points_do_not_matter(table):
    points = chosen_points(table, "grpo")
    plain = leads(table, points, "grpo", seed=0)
    shuffled = leads(table.sample(frac=1, random_state=0), points, "grpo", seed=0)
    shuffled = shuffled.set_index([*PLACE, "measure"]).loc[
        list(plain[[*PLACE, "measure"]].itertuples(index=False, name=None))
    ]
    assert shuffled[["value", "reference"]].to_numpy() == pytest.approx(plain[["value", "reference"]].to_numpy())
    worse = paths({("grpo", "", 9e-4, 50): (0.05, 0.3)}, seed=9)
    more = leads(pd.concat([table, worse]), points, "grpo", seed=0)
    assert more["reference"].to_numpy() == pytest.approx(plain["reference"].to_numpy())
    assert (more["baseline_points"] == plain["baseline_points"] + 1).all()
    other = leads(table, chosen_points(table, "ds"), "ds", seed=0)
    of_grpo = other[(other["rule"] == "grpo") & (other["measure"] == "pass@k")]
    assert (of_grpo["estimate"] < 0).all() and (of_grpo["high"] < 0).any() and set(other["baseline"]) == {"ds"}
    with pytest.raises(ValueError, match="no point of the baseline 'ppo'"):
        chosen_points(table, "ppo")


def test_points_with_fewer_seeds_are_left_out_of_the_envelope(table):
    # one run that is far better than all others, and was repeated by no other seed
    lucky = paths({("grpo", "", 5e-4, 200): (0.9, 1.0)}, seeds=(0,))
    found = leads(pd.concat([table, lucky]), chosen_points(table, "grpo"), "grpo", seed=0)
    plain = leads(table, chosen_points(table, "grpo"), "grpo", seed=0)
    assert (found["left_out"] == 1).all() and found["reference"].to_numpy() == pytest.approx(
        plain["reference"].to_numpy()
    )
    # and the other way round: one point with a seed more than the others does not throw them out
    more = paths({("grpo", "", 1e-4, 100): (0.30, 0.90), ("ds", "0.3", 1e-4, 200): (0.60, 0.90)}, seeds=(5,))
    again = leads(pd.concat([table, more]), chosen_points(table, "grpo"), "grpo", seed=0)
    assert again["reference"].to_numpy() == pytest.approx(plain["reference"].to_numpy())
    # the base is one model, whatever the seed
    once = table[(table["rule"] != "base") | (table["seed"] == 0)]
    assert (leads(once, chosen_points(once, "grpo"), "grpo", seed=0)["baseline_points"] == 5).all()
    with pytest.raises(ValueError, match="Every checkpoint of a task needs every problem once"):
        path_means(table.drop(index=table.index[3]))
    apart = table[(table["rule"] == "ds") & (table["seed"] == 0) | (table["rule"] == "grpo") & (table["seed"] == 1)]
    with pytest.raises(ValueError, match="no training seed in common"):
        chosen_points(apart, "grpo")


def test_the_usable_range_says_where_a_rule_stands(table):
    rows = usable_range(table, "grpo").set_index(["rule", "strength"])
    assert rows.loc[("ds", "0.3"), "verdict"] == "beyond" and rows.loc[("ds", "0.2"), "verdict"] == "above"
    assert rows.loc[("broken", "1"), "verdict"] == "broke down"
    assert (rows["step"] == 200).all()
    without_base = usable_range(table[table["step"] > 0], "grpo").set_index(["rule", "strength"])
    assert without_base.loc[("broken", "1"), "verdict"] == "broke down"


def test_the_final_points_are_those_of_a_sweep_without_checkpoints(table):
    final = final_counts(table)
    assert "step" not in final and "base" not in set(final["rule"])
    assert len(final) == 6 * 5 * 2 * 100  # grpo twice, ds twice, same, broken
    assert len(final_counts(final)) == len(final)
    means = path_means(table)
    assert len(means) == 2 * len(GRPO | RIVALS) and set(means["k"]) == {N} and set(path_means(final)["step"]) == {-1}


def test_a_sweep_reports_leads_ties_regimes_and_figures(table, tmp_path, capsys):
    from test_regime import log

    from differential_smoothing.report import leads_sentences, paths_figure, results

    results.arena(table, "grpo", tmp_path, seed=0, logs={"grpo lr 0.0003": [log(0.9)]})
    report, said = (tmp_path / "report.md").read_text(), capsys.readouterr().out
    for text in (report, said):
        assert "ds leads grpo's envelope at equal Pass@1 in Pass@16 by +" in text
        assert "same ties with grpo's envelope" in text and "broken trails grpo's envelope" in text
        assert "grpo lr 0.0003: decided" in text
    found, walked = (
        pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=[""]) for name in ("leads", "paths")
    )
    assert len(found) == 15 and len(walked) == 2 * len(GRPO | RIVALS) and (tmp_path / "range.csv").is_file()
    for name in ("paths", "paths-distinct"):
        assert (tmp_path / f"{name}.svg").stat().st_size > 5000 and f"({name}.svg)" in report
    # signs: what leads over grpo is trailed by grpo
    turned = leads_sentences(leads(table, chosen_points(table, "ds"), "ds", seed=0))
    assert any(line.startswith("grpo trails ds's envelope") for line in turned)
    with pytest.raises(ValueError, match="one of the tasks"):
        paths_figure(path_means(table), found, tmp_path / "x.svg", baseline="grpo", task="chess")
