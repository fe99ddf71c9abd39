"""Estimators of success and variety against enumeration of subsets, exact rationals and each other."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from differential_smoothing.evaluation import (
    bootstrap_mean,
    compare,
    counts,
    crossing,
    distinct_correct,
    effective_modes,
    gini_simpson,
    paired_difference,
    pass_at_k,
    pass_at_k_curve,
    pass_hat_k,
    rarefaction,
    samples_to_reach,
    summarise,
    vendi_score,
)
from differential_smoothing.report import comparison_table, pass_at_k_drawing, to_markdown, verdict


class TestPassCurves:
    def test_both_are_shares_of_subsets(self):
        for n in range(1, 11):
            for c, k in itertools.product(range(n + 1), range(1, n + 1)):
                subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
                one, all_of = (sum(map(rule, subsets)) / len(subsets) for rule in (any, all))
                assert pass_at_k_curve(n, c)[k - 1] == pytest.approx(one, abs=1e-15)
                assert pass_hat_k(n, c, k) == pytest.approx(all_of, abs=1e-15)

    def test_agree_with_exact_rationals_at_ten_thousand_samples(self):
        n, edges = 10_000, [1, 2, 3, 70, 100, 101, 1000, 5000, 9000, 9999, 10_000]
        c = np.array([0, *edges, *np.random.default_rng(0).integers(1, n, 9)])
        curves = pass_at_k_curve(n, c)
        assert curves.shape == (len(c), n) and np.isfinite(curves).all()
        for row, of_c in zip(curves, c.tolist(), strict=True):
            for k in edges:
                one = 1 - Fraction(math.comb(n - of_c, k), math.comb(n, k))
                every = Fraction(math.comb(of_c, k), math.comb(n, k))
                assert abs(float(Fraction(row[k - 1]) - one)) < 1e-12
                assert abs(float(Fraction(float(pass_hat_k(n, of_c, k))) - every)) < 1e-12

    def test_the_curve_is_pass_at_k_at_every_k_with_ragged_n(self):
        n, c = np.array([[0, 3, 7], [12, 12, 1]]), np.array([[0, 2, 0], [12, 5, 1]])
        curve = pass_at_k_curve(n, c)
        np.testing.assert_allclose(curve, pass_at_k(n[..., None], c[..., None], np.arange(1, 13)), atol=1e-15)
        np.testing.assert_array_equal(np.isnan(curve), np.arange(1, 13) > n[..., None])
        np.testing.assert_array_equal(pass_at_k_curve(n, c, 4), curve[..., :4])
        assert np.isnan(pass_at_k_curve(n, c, 20)[..., 12:]).all()
        assert pass_at_k_curve([], []).shape == (0, 1)

    def test_the_order_of_problems_does_not_matter(self):
        rng = np.random.default_rng(0)
        n = rng.integers(1, 40, 200)
        c = rng.integers(0, n + 1)
        order = rng.permutation(200)
        np.testing.assert_array_equal(pass_at_k_curve(n, c)[order], pass_at_k_curve(n[order], c[order]))

    def test_one_and_all_meet_at_one_sample_and_mirror_each_other(self):
        n, c, k = 30, np.arange(31)[:, None], np.arange(1, 31)
        np.testing.assert_allclose(pass_hat_k(n, c, 1), pass_at_k(n, c, 1), atol=1e-15)
        np.testing.assert_allclose(pass_hat_k(n, n - c, k), 1 - pass_at_k(n, c, k), atol=1e-15)
        assert np.isnan(pass_hat_k(3, 1, 4)) and pass_hat_k(9, 9, 9) == 1 and pass_hat_k(9, 8, 9) == 0

    @pytest.mark.parametrize(
        "call, words",
        [
            (lambda: pass_at_k_curve([4], [5]), "pass_at_k_curve got c = 5 correct among n = 4"),
            (lambda: pass_at_k_curve([4], [1], 0), "pass_at_k_curve got up_to = 0"),
            (lambda: pass_at_k_curve([4.5], [1]), "pass_at_k_curve got n = [4.5]"),
            (lambda: pass_hat_k(4, 5, 1), "pass_hat_k got c = 5"),
            (lambda: pass_hat_k(4, 1, 0), "pass_hat_k got k = 0"),
        ],
    )
    def test_bad_counts_are_refused(self, call, words):
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value) and "expected" in str(caught.value)


SPREADS = [[1], [4], [1, 1, 1], [3, 2, 1], [5, 1], [2, 2, 2, 1]]


class TestVariety:
    @pytest.mark.parametrize("repeats", SPREADS)
    @pytest.mark.parametrize("wrong", [None, 0, 3])
    def test_rarefaction_is_the_mean_over_all_subsets(self, repeats, wrong):
        forms = [form for form, times in enumerate(repeats) for _ in range(times)] + [None] * (wrong or 0)
        n = None if wrong is None else len(forms)
        for k in range(1, len(forms) + 1):
            subsets = list(itertools.combinations(forms, k))
            mean = sum(len(set(subset) - {None}) for subset in subsets) / len(subsets)
            assert rarefaction(repeats, k, n) == pytest.approx(mean, abs=1e-13)
        assert math.isnan(rarefaction(repeats, len(forms) + 1, n))
        assert rarefaction(repeats, len(forms), n) == pytest.approx(len(repeats), abs=1e-13)

    def test_rarefaction_agrees_with_exact_rationals_at_ten_thousand_samples(self):
        repeats, k = [1, 1, 2, 96, 900, 9000], np.array([[1, 5, 50], [500, 5000, 10_000]])
        exact = [
            sum(1 - Fraction(math.comb(10_000 - times, size), math.comb(10_000, size)) for times in repeats)
            for size in k.ravel().tolist()
        ]
        np.testing.assert_allclose(rarefaction(repeats, k).ravel(), [float(value) for value in exact], atol=1e-12)

    def test_rarefaction_without_a_correct_sample(self):
        assert math.isnan(rarefaction([], 1)) and rarefaction([], 2, 5) == 0
        np.testing.assert_array_equal(rarefaction([], [5, 6], 5), [0, np.nan])

    @pytest.mark.parametrize("repeats", SPREADS)
    def test_gini_simpson_is_the_share_of_pairs_that_differ(self, repeats):
        forms = [form for form, times in enumerate(repeats) for _ in range(times)]
        pairs = [a != b for a, b in itertools.combinations(forms, 2)]
        expected = float(np.mean(pairs)) if pairs else math.nan
        assert gini_simpson(repeats) == pytest.approx(expected, abs=1e-15, nan_ok=True)
        # Two samples hold one form, and a second one where they differ.
        assert rarefaction(repeats, 2) - 1 == pytest.approx(expected, abs=1e-13, nan_ok=True)

    def test_both_are_without_bias_and_the_plug_in_entropy_is_not(self):
        q, c = np.array([0.5, 0.3, 0.2]), 5
        differ = distinct = plug_in = 0.0
        for outcome in itertools.product(range(c + 1), repeat=3):
            if sum(outcome) == c:
                chance = math.factorial(c) * np.prod(
                    [p**m / math.factorial(m) for p, m in zip(q, outcome, strict=True)]
                )
                seen = np.array([m for m in outcome if m])
                differ += chance * gini_simpson(seen)
                distinct += chance * rarefaction(seen, 3)
                plug_in += chance * vendi_score(np.equal.outer(*[np.repeat(range(len(seen)), seen)] * 2))
        assert differ == pytest.approx(1 - (q**2).sum(), abs=1e-14)
        assert distinct == pytest.approx((1 - (1 - q) ** 3).sum(), abs=1e-14)
        assert plug_in < np.exp(-(q * np.log(q)).sum()) - 0.2

    def test_order_of_forms_does_not_matter(self):
        for order in itertools.permutations([4, 2, 1, 1]):
            assert rarefaction(order, 3, 12) == pytest.approx(rarefaction([1, 1, 2, 4], 3, 12), abs=1e-15)
            assert gini_simpson(order) == gini_simpson([1, 1, 2, 4])

    def test_effective_modes_of_even_forms_is_their_number(self):
        for m in range(1, 9):
            assert effective_modes(1 - 1 / m) == pytest.approx(m)
        np.testing.assert_array_equal(effective_modes([0, 1, np.nan]), [1, np.inf, np.nan])

    def test_vendi_score_of_equal_and_of_unlike_samples(self):
        assert vendi_score(np.ones((5, 5))) == pytest.approx(1)
        assert vendi_score(np.eye(5)) == pytest.approx(5)
        forms = np.array([0, 0, 0, 1, 1, 2])
        shares = np.array([3, 2, 1]) / 6
        same = forms[:, None] == forms
        assert vendi_score(same) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
        order = np.random.default_rng(0).permutation(6)
        assert vendi_score(same[order][:, order]) == pytest.approx(vendi_score(same), abs=1e-12)
        # Two samples of cosine x have the eigenvalues (1 + x) / 2 and (1 - x) / 2.
        assert vendi_score([[1, 0.6], [0.6, 1]]) == pytest.approx(np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2)))
        assert math.isnan(vendi_score(np.zeros((0, 0))))

    @pytest.mark.parametrize(
        "call, words",
        [
            (lambda: rarefaction([2, 0], 1), "repeats = [2, 0]"),
            (lambda: rarefaction([2.0], 1), "repeats = [2.0]"),
            (lambda: rarefaction([[2]], 1), "repeats = [[2]]"),
            (lambda: rarefaction([2, 2], 1, 3), "n = 3 samples and 4 correct"),
            (lambda: rarefaction([2, 2], 0), "k = "),
            (lambda: gini_simpson([-1, 3]), "gini_simpson got repeats = [-1, 3]"),
            (lambda: effective_modes([0.2, 1.2]), "from 0.2 to 1.2"),
            (lambda: vendi_score(np.ones((2, 3))), "shape (2, 3)"),
            (lambda: vendi_score([[1, 2], [2, 1]]), "negative eigenvalue -1"),
            (lambda: vendi_score([[1, 0.5], [0.4, 1]]), "not symmetric"),
            (lambda: vendi_score([[2, 0], [0, 2]]), "diagonal is not 1"),
            (lambda: vendi_score([[1, np.nan], [np.nan, 1]]), "not all finite"),
        ],
    )
    def test_bad_arguments_are_refused(self, call, words):
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value) and "expected" in str(caught.value)


ALL = ["pass@k", "pass^k", "average@n", "reward", "distinct", "coverage", "distinct@k", "distinct@k|correct", "differ"]
SOLUTIONS = {"all": 5, "two": 5, "one": 5, "none": 5, "unnamed": 5, "unscored": 5}


def rollouts(problems: dict[str, list], model: str = "m", seed: int = 0) -> pd.DataFrame:
    """A sample is the form of a correct completion, False for a wrong one, True for a correct one without a form, None for one
    without a score. The reward is 2 for a correct completion, NaN without a score."""
    rows = [
        (
            model,
            seed,
            -1,
            prompt_id,
            sample,
            None if answer is None else bool(answer),
            answer if isinstance(answer, str) else None,
            np.nan if answer is None else 2.0 * bool(answer),
        )
        for prompt_id, answers in problems.items()
        for sample, answer in enumerate(answers)
    ]
    columns = ["model", "seed", "step", "prompt_id", "sample", "correct", "canonical", "reward"]
    return pd.DataFrame(rows, columns=columns).astype({"correct": "boolean"})


KINDS = {
    "all": ["x", "y", "x", "z", False, None],
    "two": ["x", False, "y", False, False],
    "one": ["x", False, False, False, False],
    "none": [False] * 5,
    "unnamed": ["x", True, "y", False, False],
    "unscored": [None] * 5,
}


class TestSummary:
    def test_every_metric_is_the_mean_of_what_is_defined(self):
        rows = summarise(rollouts(KINDS), seed=0, ks=[1, 2, 3], num_solutions=SOLUTIONS, metrics=[*ALL, "modes"])
        found = rows.set_index(["metric", "k"])[["estimate", "problems", "samples"]]
        n, c = 5, np.array([4, 2, 1, 0, 3])
        expected = {}
        for k in (1, 2, 3):
            expected["pass@k", k] = (np.mean(pass_at_k(n, c, k)), 5, 25)
            expected["pass^k", k] = (np.mean(pass_hat_k(n, c, k)), 5, 25)
            forms = [rarefaction([2, 1, 1], k, 5), rarefaction([1, 1], k, 5), rarefaction([1], k, 5), 0]
            expected["distinct@k", k] = (np.mean(forms), 4, 20)
            among = [
                value
                for value in (rarefaction([2, 1, 1], k), rarefaction([1, 1], k), rarefaction([1], k))
                if not math.isnan(value)
            ]
            expected["distinct@k|correct", k] = (np.mean(among), len(among), 5 * len(among))
        expected["average@n", np.nan] = (np.mean(c / n), 5, 25)
        expected["reward", np.nan] = (np.mean(2 * c / n), 5, 25)
        expected["distinct", np.nan] = (np.mean([3, 2, 1, 0]), 4, 20)
        expected["coverage", np.nan] = (np.mean([3, 2, 1, 0]) / 5, 4, 20)
        expected["differ", np.nan] = (np.mean([5 / 6, 1]), 2, 10)
        expected["modes", np.nan] = (1 / (1 - np.mean([5 / 6, 1])), 2, 10)
        assert len(found) == len(expected) and list(dict.fromkeys(rows["metric"])) == [*ALL, "modes"]
        for key, values in expected.items():
            assert found.loc[key].tolist() == pytest.approx(values, abs=1e-12), key

    def test_average_at_n_is_pass_at_1_with_its_n(self):
        even = rollouts({"p": ["x", False, "y"], "q": [False, False, "x"]})
        rows = summarise(even, seed=0, ks=[1], metrics=["average@n", "pass@k"])
        assert rows["k"].tolist() == [3, 1]
        np.testing.assert_allclose(
            rows.loc[0, ["estimate", "low", "high"]].astype(float),
            rows.loc[1, ["estimate", "low", "high"]].astype(float),
            atol=1e-15,
        )

    def test_area_and_spread_are_those_of_the_mean_curve(self):
        rng = np.random.default_rng(1)
        frame = rollouts({f"p{i}": ["x" if hit else False for hit in rng.random(12 + i)] for i in range(6)})
        curve = summarise(frame, seed=0, ks=range(1, 13), metrics=["pass@k"])["estimate"].to_numpy()
        by_hand = sum((curve[k - 1] + curve[k]) / 2 * math.log((k + 1) / k) for k in range(1, 12)) / math.log(12)
        rows = summarise(frame, seed=0, metrics=["area", "spread"])
        assert rows["k"].tolist() == [12, 12]
        assert rows["estimate"].tolist() == pytest.approx([by_hand, curve[-1] - curve[0]], abs=1e-12)
        one = summarise(rollouts({"p": ["x"], "q": [False]}), seed=0, metrics=["area", "spread"])
        assert one["estimate"].tolist() == [0.5, 0.0]

    def test_the_sharpening_tax_is_the_rise_of_pass_at_1_minus_that_of_pass_at_k(self):
        before = rollouts({"p": ["x", False, False, False], "q": ["y", False, False, False]}, "base")
        after = rollouts({"p": ["x"] * 4, "q": [False] * 4}, "rl")
        rows = compare(pd.concat([before, after]), "rl", "base", seed=0, metrics=["spread", "pass@k"], ks=[1, 4])
        spread, one, four = rows["estimate"]
        assert (one, four) == (0.25, -0.5) and -spread == pytest.approx(one - four)

    def test_problems_are_solved_always_sometimes_or_never(self):
        rows = summarise(rollouts(KINDS), seed=0, metrics=["always", "sometimes", "never"])
        assert rows["estimate"].tolist() == [0.0, 4 / 5, 1 / 5] and rows["problems"].tolist() == [5] * 3
        solved = rollouts({"p": ["x", "x", None], "q": [False, "x"], "r": [False]})
        assert summarise(solved, seed=0, metrics=["always", "sometimes", "never"])["estimate"].tolist() == [1 / 3] * 3

    def test_distinct_at_n_is_distinct_correct(self):
        frame = rollouts(KINDS)
        known = distinct_correct(frame).dropna()
        rows = summarise(frame, seed=0, ks=[5], metrics=["distinct", "distinct@k"])
        assert rows["estimate"].tolist() == pytest.approx([known.mean()] * 2, abs=1e-13)
        assert rows["low"].tolist() == pytest.approx([rows["low"][0]] * 2, abs=1e-12)

    def test_order_of_rows_and_names_of_forms_do_not_matter(self):
        frame = rollouts(KINDS)
        other = frame.sample(frac=1, random_state=3)
        other["canonical"] = other["canonical"].map({"x": "C", "y": "A", "z": "B"})
        options = dict(seed=1, num_solutions=SOLUTIONS, metrics=[*ALL, "modes"])
        pd.testing.assert_frame_equal(summarise(other, **options), summarise(frame, **options))

    def test_forms_of_one_problem_are_not_those_of_another(self):
        apart = rollouts({"p": ["x", "x"], "q": ["y", "y"]})
        shared = rollouts({"p": ["x", "x"], "q": ["x", "x"]})
        options = dict(seed=0, metrics=["differ", "distinct@k"])
        pd.testing.assert_frame_equal(summarise(apart, **options), summarise(shared, **options))

    def test_the_interval_of_modes_is_that_of_differ_turned(self):
        rng = np.random.default_rng(0)
        frame = rollouts({f"p{i}": list(rng.choice(["x", "y", "z"], 6)) for i in range(30)})
        differ, modes = summarise(frame, seed=0, metrics=["differ", "modes"])[["estimate", "low", "high"]].to_numpy()
        np.testing.assert_allclose(modes, 1 / (1 - differ))

    def test_metrics_asked_together_have_the_intervals_they_have_alone(self):
        frame = rollouts({f"p{i}": ["x"] * (i % 5) + [False] * 4 for i in range(8)})
        ks = list(range(1, 9))
        together = summarise(frame, seed=0, ks=ks, metrics=["pass@k", "pass^k", "reward"])
        alone = summarise(frame, seed=0, ks=ks, metrics=["reward"])
        np.testing.assert_allclose(together.iloc[-1, 3:].astype(float), alone.iloc[0, 3:].astype(float), rtol=1e-12)

    def test_a_whole_curve_takes_the_fast_path_to_the_same_numbers(self):
        rng = np.random.default_rng(0)
        frame = rollouts({f"p{i}": ["x" if hit else False for hit in rng.random(60) < i / 9] for i in range(9)})
        rows = summarise(frame, seed=0, ks=range(1, 61), metrics=["pass@k"])
        few = summarise(frame, seed=0, ks=[7, 60], metrics=["pass@k"])
        np.testing.assert_allclose(rows.loc[[6, 59], "estimate"], few["estimate"], atol=1e-14)
        with pytest.raises(ValueError, match="expected whole numbers, at least 1"):
            summarise(frame, seed=0, ks=range(0, 61), metrics=["pass@k"])

    @pytest.mark.parametrize(
        "options, words",
        [
            (dict(metrics=["pass@k", "entropy"]), "['entropy'] unknown"),
            (dict(metrics=["coverage"]), "['coverage'] without its data"),
            (dict(metrics=["pass@k", "pass@k"]), "each once"),
            (dict(metrics="pass@k"), "metrics = 'pass@k'"),
            (dict(metrics=[]), "metrics = []"),
            (dict(metrics=["reach@k"]), "['reach@k'] unknown"),
            (dict(method="basic"), "method = 'basic'"),
        ],
    )
    def test_what_cannot_be_summarised_is_refused(self, options, words):
        with pytest.raises(ValueError) as caught:
            summarise(rollouts(KINDS), seed=0, **options)
        assert words in str(caught.value) and "expected" in str(caught.value)

    def test_rewards_that_are_no_numbers_are_refused_where_they_are_asked_for(self):
        frame = rollouts(KINDS).assign(reward="high")
        assert counts(frame)["n"].sum() == 25
        with pytest.raises(ValueError, match="reward column of type .*expected numbers"):
            summarise(frame, seed=0, metrics=["reward"])
        with pytest.raises(ValueError, match="'reward'. without"):
            summarise(frame.drop(columns="reward"), seed=0, metrics=["reward"])


def two_models(seeds: int = 2, problems: int = 40, n: int = 16) -> pd.DataFrame:
    """The sharp model solves more at k = 1 and fewer problems at k = 16 than the varied one."""
    rng = np.random.default_rng(2)
    parts = []
    for model in ("sharp", "varied"):
        for seed in range(seeds if model == "sharp" else 1):
            rates = np.where(np.arange(problems) % 2, 0.9, 0.0) if model == "sharp" else np.full(problems, 0.25)
            parts.append(
                rollouts(
                    {
                        f"p{i:02}": [
                            f"f{rng.integers(1 if model == 'sharp' else 4)}" if rng.random() < rate else False
                            for _ in range(n)
                        ]
                        for i, rate in enumerate(rates)
                    },
                    model,
                    seed,
                )
            )
    return pd.concat(parts, ignore_index=True)


class TestCompare:
    def test_new_metrics_are_paired_differences_where_both_are_defined(self):
        frame = two_models(1)
        rows = compare(frame, "varied", "sharp", seed=0, ks=[2], metrics=["differ", "distinct@k|correct", "reward"])
        forms = frame.dropna(subset="canonical").groupby(["model", "prompt_id", "canonical"]).size()
        per_problem = forms.groupby(["model", "prompt_id"]).apply(lambda m: gini_simpson(m.to_numpy())).unstack(0)
        both = per_problem.dropna()
        assert 10 < len(both) < 40
        expected = paired_difference(both["varied"], both["sharp"], seed=0)
        differ = rows.iloc[0]
        assert differ["problems"] == len(both) and differ["samples"] == 2 * 16 * len(both)
        assert differ["estimate"] == pytest.approx(expected.estimate, abs=1e-14)
        assert differ["low"] == pytest.approx(expected.low, abs=0.02) and differ["low"] > 0.2
        assert rows.iloc[1]["estimate"] == pytest.approx(differ["estimate"], abs=1e-13)
        rewards = frame.groupby(["model", "prompt_id"])["reward"].mean()
        assert tuple(rows.iloc[2][["estimate", "low", "high"]]) == pytest.approx(
            paired_difference(rewards["varied"], rewards["sharp"], seed=0), abs=1e-13
        )

    def test_samples_to_reach_and_crossing_are_rows_among_the_others(self):
        frame = two_models()
        rows = compare(frame, "varied", "sharp", seed=5, ks=[1, 16, 32], metrics=["reach@k", "pass@k", "crossing"])
        assert rows["metric"].tolist() == ["reach@k"] * 3 + ["pass@k"] * 3 + ["crossing"]
        table = counts(frame)
        curves = {
            model: pass_at_k_curve(part["n"], part["c"]).reshape(-1, 40, 16) for model, part in table.groupby("model")
        }
        varied, sharp = np.broadcast_to(curves["varied"], (2, 40, 16)), curves["sharp"]
        reach, at = samples_to_reach(varied, sharp, [1, 16], seed=5), crossing(varied, sharp, seed=5)
        np.testing.assert_array_equal(rows.loc[[0, 1, 6], ["estimate", "low", "high"]], [*reach, at])
        assert 1 < reach[0].low < reach[0].high < 4 and 1 < at.low <= at.estimate <= at.high < 8
        assert rows.loc[2, ["estimate", "low", "high"]].isna().all() and rows.loc[2, "problems"] == 0
        assert rows.loc[[0, 6], "problems"].tolist() == [40, 40] and rows.loc[6, "samples"] == 3 * 40 * 16
        never = compare(frame, "sharp", "varied", seed=5, ks=[16], metrics=["reach@k"]).iloc[0]
        assert never[["estimate", "low", "high"]].tolist() == [math.inf] * 3

    def test_curves_of_ragged_problems_end_at_the_smallest_n(self):
        a = rollouts({"p": ["x", False, False], "q": ["x", "y"], "r": [None, None]}, "a")
        b = rollouts({"p": [False, False, "x"], "q": [False, "y", False], "r": ["x", "x"]}, "b")
        rows = compare(pd.concat([a, b]), "b", "a", seed=0, metrics=["reach@k", "crossing"]).set_index(["metric", "k"])
        assert rows.loc[("reach@k", 2), "problems"] == 2 and rows.loc[("reach@k", 3), "problems"] == 0
        assert rows.loc[("reach@k", 2), "samples"] == 3 + 2 + 3 + 3

    def test_nothing_scored_is_undefined(self):
        frame = pd.concat([rollouts({"p": [None], "q": [None]}, model) for model in "ab"])
        rows = compare(frame, "a", "b", seed=0, metrics=["reach@k", "crossing", "differ"])
        assert rows["estimate"].isna().all() and (rows["problems"] == 0).all()

    def test_modes_are_no_difference(self):
        with pytest.raises(ValueError, match="'modes'. unknown"):
            compare(two_models(), "sharp", "varied", seed=0, metrics=["modes"])


def test_reports_show_what_they_showed_when_a_frame_holds_more(tmp_path):
    frame = two_models()
    solutions = {f"p{i:02}": 9 for i in range(40)}
    plain, more = (
        (
            summarise(frame, seed=0, num_solutions=solutions, metrics=metrics),
            compare(
                frame,
                "varied",
                "sharp",
                seed=0,
                num_solutions=solutions,
                metrics=metrics and [*metrics, "reach@k", "crossing"],
            ),
        )
        for metrics in (None, ALL)
    )
    assert len(more[0]) > len(plain[0]) and to_markdown(*more) == to_markdown(*plain)
    assert verdict(more[1]) == verdict(plain[1])
    comparison_table(*more)
    for number, tables in enumerate((plain, more)):
        pass_at_k_drawing(tables[0]).save(tmp_path / f"{number}.svg")
    assert (tmp_path / "0.svg").read_text() == (tmp_path / "1.svg").read_text()


def test_bca_reaches_the_tables():
    frame = two_models(1)
    rates = counts(frame)[lambda table: table["model"] == "sharp"]
    row = summarise(frame, seed=0, ks=[8], metrics=["pass@k"], method="bca").iloc[0]
    expected = bootstrap_mean(pass_at_k(rates["n"], rates["c"], 8), seed=0, method="bca")
    assert tuple(row[["estimate", "low", "high"]]) == pytest.approx(expected, abs=1e-12)
