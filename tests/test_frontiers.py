"""Frontiers of rules, on made-up counts whose truth is known."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest

from differential_smoothing.evaluation.frontiers import (
    POINT,
    best_points,
    dominated_by,
    holm,
    paired_points,
    point_means,
)
from differential_smoothing.evaluation.resampling import resampled_means, standard_errors
from differential_smoothing.report import arena_markdown, frontier_figure

N = 16


def counts(truth, problems=80, seeds=(0, 1, 2), spread=0.005, seed=0):
    """Counts of points ``{(rule, strength, rate): (p_selection, p_evaluation)}`` with success rates around those p."""
    random = np.random.default_rng(seed)
    hard = {name: random.normal(0, 0.03, problems) for name in ("selection", "evaluation")}
    rows = []
    for (rule, strength, rate), chances in truth.items():
        for run, (evaluation, p) in itertools.product(seeds, zip(hard, chances, strict=True)):
            chance = np.clip(p + hard[evaluation] + random.normal(0, spread), 0.0, 1.0)
            c = random.binomial(N, chance)
            rows += [
                (
                    "",
                    rule,
                    strength,
                    rate,
                    run,
                    evaluation,
                    f"{evaluation}{i}",
                    N,
                    int(k),
                    min(int(k), 3),
                    0.5 if k > 1 else np.nan,
                    f"{rule}-{strength}-{rate}",
                )
                for i, k in enumerate(c)
            ]
    columns = [
        "task",
        "rule",
        "strength",
        "learning_rate",
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


TRUTH = {
    ("grpo", "", 1e-4): (0.10, 0.10),
    ("grpo", "", 3e-4): (0.06, 0.06),
    ("good", "1", 1e-4): (0.20, 0.20),
    ("good", "2", 1e-4): (0.15, 0.15),
    ("bad", "1", 1e-4): (0.04, 0.04),
    ("lucky", "1", 1e-4): (0.18, 0.10),  # better on the problems it is chosen on, and only there
}


def test_means_are_the_plain_means_and_intervals_hold_the_truth():
    table = counts(TRUTH)
    means = point_means(table, seed=0)
    for (rule, strength), rows in table[table["evaluation"] == "evaluation"].groupby(["rule", "strength"]):
        if rule == "grpo":
            continue
        mine = means[
            (means["rule"] == rule) & (means["strength"] == strength) & (means["evaluation"] == "evaluation")
        ].set_index("measure")
        assert mine.loc["pass@1", "estimate"] == pytest.approx((rows["c"] / N).mean())
        assert mine.loc["pass@k", "estimate"] == pytest.approx((rows["c"] > 0).mean())
        assert mine.loc["distinct", "estimate"] == pytest.approx(rows["distinct"].mean())
        assert mine.loc["differ", "estimate"] == pytest.approx(rows["differ"].mean())
        assert (mine["low"] <= mine["estimate"]).all() and (mine["estimate"] <= mine["high"]).all()
    assert set(means.loc[means["measure"] == "pass@k", "k"]) == {N}


def test_points_are_chosen_on_the_selection_problems_and_judged_on_the_others():
    table = counts(TRUTH)
    best = best_points(table, "grpo").set_index("rule")
    assert best.loc["grpo", "learning_rate"] == 1e-4 and best.loc["grpo", "criterion"] == "highest pass@1"
    assert best.loc["good", "criterion"] == "level" and best.loc["bad", "criterion"] == "closest"
    # what is only lucky on the selection problems is not ahead on the others
    shuffled = table.sample(frac=1, random_state=1)
    for given in (table, shuffled):
        paired = paired_points(given, best_points(given, "grpo"), "grpo", seed=0).set_index(["rule", "measure"])
        assert paired.loc[("good", "pass@1"), "p_holm"] < 1e-3 < paired.loc[("lucky", "pass@1"), "p_holm"]
        assert paired.loc[("bad", "pass@1"), "high"] < 0
        assert paired.loc[("good", "pass@1"), "estimate"] == pytest.approx(0.1, abs=0.03)


def test_the_level_criterion_takes_the_highest_pass_at_k_that_costs_no_pass_at_1():
    table = counts({("grpo", "", 1e-4): (0.1, 0.1), ("x", "a", 1e-4): (0.6, 0.6), ("x", "b", 1e-4): (0.14, 0.14)})
    table.loc[(table["strength"] == "a") & (table.index % 2 == 0), "c"] = 0  # often right, but not everywhere
    assert best_points(table, "grpo").set_index("rule").loc["x", "strength"] == "b"


def test_dominance_is_seen_and_not_invented():
    table = counts(TRUTH)
    grpo = best_points(table, "grpo").set_index("rule", drop=False).loc["grpo"]
    rivals = dominated_by(table, grpo).set_index(["rule", "strength"])
    assert rivals.loc[("good", "1"), "p_dominates"] < 0.05
    assert rivals.loc[("bad", "1"), "p_dominated"] < 0.05 < rivals.loc[("bad", "1"), "p_dominates"]
    assert rivals.loc[("lucky", "1"), "p_dominates"] > 0.05
    assert "grpo" not in rivals.index.get_level_values("rule")
    # to dominate takes both ends: a rival that is ahead in one only does not
    mixed = table.copy()
    good = mixed["rule"] == "good"
    mixed.loc[good & (mixed["c"] > 0), "c"] = N
    mixed.loc[good & (mixed.index % 3 > 0), "c"] = 0
    assert dominated_by(mixed, grpo).set_index(["rule", "strength"]).loc[("good", "1"), "p_dominates"] > 0.5


def test_equal_rules_are_rarely_called_different():
    called = 0
    for seed in range(20):
        table = counts({("grpo", "", 1e-4): (0.1, 0.1), ("same", "", 1e-4): (0.1, 0.1)}, seed=seed, seeds=range(5))
        paired = paired_points(table, best_points(table, "grpo"), "grpo", seed=0)
        called += bool((paired["p_holm"] < 0.05).any())
    assert called <= 4  # at 5% each, more than 4 of 20 has a chance of 0.3%


def test_holm_is_the_step_down_procedure():
    random = np.random.default_rng(0)
    for size in (1, 2, 7):
        p = random.random(size) ** 3
        by_hand, largest = np.empty(size), 0.0
        for rank, i in enumerate(sorted(range(size), key=lambda i: p[i])):
            largest = max(largest, p[i] * (size - rank))
            by_hand[i] = min(1.0, largest)
        assert np.allclose(holm(p), by_hand)
    assert list(holm(np.array([0.01, 0.04, 0.03]))) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("shape", [(1, 7), (2, 5), (3, 40)])
def test_standard_errors_are_those_of_all_resamples(shape):
    """Against many draws; and where some values are not defined too, where the exact formula is an approximation."""
    random = np.random.default_rng(1)
    values = random.random((*shape, 3)) ** 2 + random.random((shape[0], 1, 3)) + random.random((1, shape[1], 3))
    draws = np.concatenate(list(resampled_means(values, 0, 200_000)))
    assert standard_errors(values) == pytest.approx(draws.std(axis=0), rel=0.01)
    values[..., 1][random.random(shape) < 0.3] = np.nan
    draws = np.concatenate(list(resampled_means(values, 0, 200_000)))
    assert standard_errors(values) == pytest.approx(np.nanstd(draws, axis=0), rel=0.05 if shape[1] > 9 else 0.35)
    values[:, 1:, 2] = np.nan
    assert np.isnan(standard_errors(values)[2])


def test_one_k_for_levels_and_differences_and_no_k_for_what_nobody_scored():
    table = counts(TRUTH)
    chosen_on = table["evaluation"] == "selection"
    table.loc[chosen_on, ["n", "c"]] = table.loc[chosen_on, ["n", "c"]].to_numpy() // 2  # half the samples
    table.loc[table["prompt_id"] == "evaluation3", ["n", "c", "distinct"]] = 0
    means = point_means(table, seed=0).set_index([*POINT, "evaluation", "measure"])
    assert set(means.xs("pass@k", level="measure")["k"].groupby("evaluation").first()) == {N, N // 2}
    best = best_points(table, "grpo")
    paired = paired_points(table, best, "grpo", seed=0).set_index(["rule", "measure"])
    at = {row["rule"]: tuple(row[POINT]) for _, row in best.iterrows()}
    for measure in ("pass@1", "pass@k"):
        levels = [means.loc[(*at[rule], "evaluation", measure), "estimate"] for rule in ("good", "grpo")]
        assert paired.loc[("good", measure), "estimate"] == pytest.approx(levels[0] - levels[1])


def test_what_is_not_defined_is_no_comparison_and_is_shown_as_such():
    table = counts(TRUTH)
    whole = paired_points(table, best_points(table, "grpo"), "grpo", seed=0)
    table["differ"] = np.nan
    best = best_points(table, "grpo")
    paired = paired_points(table, best, "grpo", seed=0)
    of = paired.set_index(["rule", "measure"])
    assert of.xs("differ", level="measure")[["p", "p_holm"]].isna().all(axis=None)
    known = whole[whole["measure"] != "differ"]
    assert paired["p_holm"].dropna().to_numpy() == pytest.approx(holm(known["p"].to_numpy()))
    text = arena_markdown(
        best, point_means(table, seed=0), paired, dominated_by(table, best.iloc[0]).assign(of="grpo"), "grpo"
    )
    assert "nan" not in text and "| – |" in text


def test_missing_cells_are_named():
    table = counts(TRUTH)
    with pytest.raises(ValueError, match="no point of the baseline 'vanilla'"):
        best_points(table, "vanilla")
    with pytest.raises(ValueError, match="Every seed needs every problem once"):
        point_means(table.drop(index=table.index[5]), seed=0)
    one, other = (
        table[(table["rule"] == "grpo") & (table["seed"] == 0)],
        table[(table["rule"] == "good") & (table["seed"] == 1)],
    )
    apart = pd.concat([one, other])
    with pytest.raises(ValueError, match="no training seed in common"):
        paired_points(apart, best_points(apart, "grpo"), "grpo", seed=0)


def test_the_report_says_what_the_tables_say(tmp_path):
    table = counts(TRUTH)
    means, best = point_means(table, seed=0), best_points(table, "grpo")
    paired = paired_points(table, best, "grpo", seed=0)
    dominance = pd.concat([dominated_by(table, point).assign(of=point["rule"]) for _, point in best.iterrows()])
    text = arena_markdown(best, means, paired, dominance, "grpo")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "**+" in rows["good"] and "**" not in rows["lucky"] and "bad*" in rows
    assert rows["grpo"].rstrip(" |").endswith(("good 1 0.0001", "good 1 0.0001, good 2 0.0001", "good 2 0.0001"))
    assert rows["good"].rstrip(" |").endswith("none")
    for suffix in ("svg", "png"):
        frontier_figure(means, best, tmp_path / f"frontier.{suffix}", baseline="grpo")
        assert (tmp_path / f"frontier.{suffix}").stat().st_size > 5000
    first = (tmp_path / "frontier.svg").read_bytes()
    frontier_figure(means, best, tmp_path / "again.svg", baseline="grpo")
    assert first == (tmp_path / "again.svg").read_bytes()
    # a measure that is defined nowhere, and points that are all alike
    nowhere = counts(dict.fromkeys(TRUTH, (0.0, 0.0)))
    nowhere[["c", "distinct"]], nowhere["differ"] = 0, np.nan
    flat, chosen = point_means(nowhere, seed=0), best_points(nowhere, "grpo")
    assert paired_points(nowhere, chosen, "grpo", seed=0)["p"].isna().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for measure in ("pass@k", "differ"):
            frontier_figure(flat, chosen, tmp_path / f"{measure}.svg", baseline="grpo", measure=measure)
    with pytest.raises(ValueError, match="one of the tasks"):
        frontier_figure(means, best, tmp_path / "x.svg", baseline="grpo", task="chess")
