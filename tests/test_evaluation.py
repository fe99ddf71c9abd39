"""Evaluation against enumeration, exact rationals and simulated studies."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from differential_smoothing.evaluation import (
    bootstrap_curve,
    bootstrap_mean,
    compare,
    counts,
    coverage,
    distinct_correct,
    maj_at_k,
    paired_difference,
    pass_at_k,
    summarise,
)


def exact_pass_at_k(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


class TestPassAtK:
    def test_is_the_share_of_subsets_with_a_correct_sample(self):
        for n in range(1, 11):
            for c, k in itertools.product(range(n + 1), range(1, n + 1)):
                subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
                share = sum(map(any, subsets)) / len(subsets)
                assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-15)

    def test_agrees_with_exact_rationals_at_ten_thousand_samples(self):
        n = 10_000
        rng = np.random.default_rng(0)
        edges = [1, 2, 50, 70, 71, 100, 200, 400, 5000, 9000, 9999, 10_000]
        c = np.concatenate([np.repeat([0, *edges], len(edges)), rng.integers(0, 300, 60), rng.integers(0, n, 60)])
        k = np.concatenate([np.tile(edges, len(edges) + 1), rng.integers(1, 300, 60), rng.integers(1, n, 60)])
        exact = [float(exact_pass_at_k(n, *pair)) for pair in zip(c.tolist(), k.tolist(), strict=True)]
        np.testing.assert_allclose(pass_at_k(n, c, k), exact, rtol=0, atol=1e-13)

    def test_one_sample_one_correct_and_all_correct(self):
        assert pass_at_k(8, 3, 1) == 3 / 8 and pass_at_k(8, 1, 5) == 5 / 8
        assert pass_at_k(8, 0, 8) == 0 and pass_at_k(8, 8, 1) == 1 and pass_at_k(8, 1, 8) == 1

    def test_broadcasts_over_all_three(self):
        n, c, k = np.array([4, 6, 6])[:, None, None], np.array([0, 3, 4])[:, None], [1, 2, 4]
        result = pass_at_k(n, c, k)
        assert result.shape == (3, 3, 3)
        for at in np.ndindex(3, 3, 3):
            one = exact_pass_at_k([4, 6, 6][at[0]], [0, 3, 4][at[1]], k[at[2]])
            assert result[at] == pytest.approx(float(one), abs=1e-15)

    def test_more_than_the_samples_can_answer_is_undefined(self):
        np.testing.assert_array_equal(np.isnan(pass_at_k([0, 3, 4, 5], 0, 4)), [True, True, False, False])
        assert isinstance(pass_at_k(3, 1, 2), float)

    def test_whole_numbers_may_arrive_as_floats(self):
        assert pass_at_k(np.array([4.0]), 2.0, 2) == pass_at_k(4, 2, 2)

    @pytest.mark.parametrize(
        "arguments, words",
        [
            ((4, 5, 1), "c = 5 correct among n = 4"),
            ((4, [1, 4, 5], 1), "c = 5 correct among n = 4"),
            ((-1, 0, 1), "n = -1"),
            ((4, -1, 1), "c = -1"),
            ((4, 1, 0), "k = 0, expected whole numbers, at least 1"),
            ((4, 1.5, 1), "c = 1.5"),
            ((np.nan, 0, 1), "n = nan"),
            ((np.inf, 0, 1), "n = inf"),
            (("4", 1, 1), "n = '4'"),
            ((4, True, 1), "c = True"),
        ],
    )
    def test_bad_counts_are_refused(self, arguments, words):
        with pytest.raises(ValueError) as caught:
            pass_at_k(*arguments)
        assert words in str(caught.value) and "expected" in str(caught.value)

    def test_a_whole_curve_for_many_problems_is_cheap(self):
        start = time.process_time()
        curve = pass_at_k(1024, np.arange(1000)[:, None], np.arange(1, 1025))
        assert time.process_time() - start < 5
        assert np.all(np.diff(curve, axis=1) >= -1e-15) and np.all(np.diff(curve, axis=0) >= -1e-15)


def rollouts(problems: dict[str, list[str | None | bool]], model: str = "m", seed: int = 0) -> pd.DataFrame:
    """A sample is the canonical form of a correct completion, False for a wrong one, None for one without a
    score."""
    rows = [
        (model, seed, -1, prompt_id, sample, None if answer is None else bool(answer), answer or None)
        for prompt_id, answers in problems.items()
        for sample, answer in enumerate(answers)
    ]
    frame = pd.DataFrame(rows, columns=["model", "seed", "step", "prompt_id", "sample", "correct", "canonical"])
    return frame.astype({"correct": "boolean"})


class TestDiversity:
    def test_distinct_correct_counts_forms_per_problem(self):
        frame = rollouts({"p": ["x", "y", "x", False], "q": [False, None], "r": ["x", None, "x"], "s": [None, None]})
        found = distinct_correct(frame)
        assert found.loc["m", 0].to_dict() == pytest.approx({"p": 2, "q": 0, "r": 1, "s": np.nan}, nan_ok=True)

    def test_a_correct_completion_without_a_form_makes_the_count_unknown(self):
        frame = rollouts({"p": ["x", "y"], "q": ["x", "y"]})
        frame.loc[0, "canonical"] = None
        assert distinct_correct(frame).loc["m", 0].to_dict() == pytest.approx({"p": np.nan, "q": 2}, nan_ok=True)

    def test_forms_of_wrong_completions_and_of_other_seeds_do_not_count(self):
        frame = pd.concat([rollouts({"p": ["x", "y"]}), rollouts({"p": ["z", "z"]}, seed=1)], ignore_index=True)
        frame.loc[0, "correct"] = False
        assert distinct_correct(frame).tolist() == [1, 1]

    def test_coverage_is_the_share_of_all_solutions(self):
        found = distinct_correct(rollouts({"p": ["x", "y", "x"], "q": [False], "r": [None]}))
        share = coverage(found, {"p": 8, "q": 3, "r": 1, "unused": 0})
        assert share.tolist() == pytest.approx([0.25, 0, np.nan], nan_ok=True)

    @pytest.mark.parametrize(
        "solutions, words",
        [
            ({"p": 2}, "no entry for 1 prompt ids ('q')"),
            ({"p": 2, "q": 0}, "below 1 for 1 prompt ids ('q')"),
            ({"p": 2, "q": math.nan}, "below 1 for 1 prompt ids ('q')"),
            ({"p": 1, "q": 1}, "2 distinct correct solutions of 'p' where num_solutions is 1"),
        ],
    )
    def test_impossible_numbers_of_solutions_are_refused(self, solutions, words):
        with pytest.raises(ValueError) as caught:
            coverage(distinct_correct(rollouts({"p": ["x", "y"], "q": ["x"]})), solutions)
        assert words in str(caught.value) and "expected" in str(caught.value)


def enumerated_maj(answers: list[object], correct: list[bool], k: int) -> Fraction:
    scores = []
    for subset in itertools.combinations(range(len(answers)), k):
        votes = {}
        for i in subset:
            if answers[i] is not None:
                votes[answers[i]] = votes.get(answers[i], 0) + 1
        top = [answer for answer, count in votes.items() if count == max(votes.values())]
        right = {answers[i] for i in subset if correct[i]}
        scores.append(Fraction(sum(answer in right for answer in top), len(top)) if top else Fraction(0))
    return sum(scores) / len(scores)


class TestMajAtK:
    ANSWERS = ["7", "8", "7", None, "9", "8", "7", "1", None]
    CORRECT = [True, False, True, False, False, False, True, False, False]

    @pytest.mark.parametrize("k", range(1, 10))
    def test_is_the_mean_over_all_subsets(self, k):
        exact = float(enumerated_maj(self.ANSWERS, self.CORRECT, k))
        assert maj_at_k(self.ANSWERS, self.CORRECT, k, seed=0) == pytest.approx(exact, abs=1e-15)

    @pytest.mark.parametrize("k", [2, 4, 5])
    def test_sampled_subsets_estimate_that_mean(self, k):
        drawn = [maj_at_k(self.ANSWERS, self.CORRECT, k, seed=seed, subsamples=20) for seed in range(400)]
        exact = float(enumerated_maj(self.ANSWERS, self.CORRECT, k))
        assert np.std(drawn) > 0.02
        assert np.mean(drawn) == pytest.approx(exact, abs=4 * np.std(drawn) / 20)
        assert drawn[3] == maj_at_k(self.ANSWERS, self.CORRECT, k, seed=3, subsamples=20)

    def test_ties_silence_and_too_few_samples(self):
        assert maj_at_k(["a", "b"], [True, False], 2, seed=0) == 0.5
        assert maj_at_k(["a", "b", "c"], [True, False, True], 3, seed=0) == pytest.approx(2 / 3)
        assert maj_at_k([None, float("nan")], [False, False], 2, seed=0) == 0
        assert math.isnan(maj_at_k(["a", "b"], [True, False], 3, seed=0))

    @pytest.mark.parametrize(
        "answers, correct, k, words",
        [
            (["a", "a"], [True, False], 1, "'a' marked both correct and wrong"),
            (["a", None], [True, True], 2, None),
            (["a"], [True, False], 1, "1 answers and `correct` of shape (2,)"),
            (["a", "b"], [1, 0], 1, "type int64"),
            (["a", "b"], [True, False], 0, "k = 0"),
        ],
    )
    def test_bad_votes_are_refused(self, answers, correct, k, words):
        if words is None:  # a sample without an answer casts no vote, whatever its verdict
            assert maj_at_k(answers, correct, k, seed=0) == 1
            return
        with pytest.raises(ValueError) as caught:
            maj_at_k(answers, correct, k, seed=0)
        assert words in str(caught.value) and "expected" in str(caught.value)


def enumerated_bootstrap(values: np.ndarray, quantiles: list[float]) -> list[float]:
    """Quantiles of the mean over every equally likely crossed resample of a small (seeds, problems) array."""
    seeds, problems = values.shape
    means = []
    for rows in itertools.product(range(seeds), repeat=seeds):
        for columns in itertools.product(range(problems), repeat=problems):
            part = values[np.ix_(rows, columns)]
            if not np.isnan(part).all():
                means.append(np.nanmean(part))
    return np.quantile(means, quantiles).tolist()


class TestIntervals:
    @pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 4)])
    def test_agrees_with_all_resamples_enumerated(self, shape):
        values = np.random.default_rng(1).normal(size=shape)
        found = bootstrap_mean(values, seed=0, replications=40_000, level=0.8)
        low, high = enumerated_bootstrap(values, [0.1, 0.9])
        assert found.estimate == pytest.approx(values.mean(), abs=1e-14)
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.02 * (high - low))

    def test_undefined_entries_are_left_out_of_the_means(self):
        values = np.array([[0.3, np.nan, 1.2, -0.4, np.nan], [2.0, 0.1, np.nan, 0.9, np.nan]])
        found = bootstrap_mean(values, seed=0, replications=40_000, level=0.8)
        low, high = enumerated_bootstrap(values, [0.1, 0.9])
        assert found.estimate == pytest.approx(np.nanmean(values))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.02 * (high - low))

    def test_a_problem_that_is_never_defined_changes_no_estimate(self):
        values = np.random.default_rng(0).random(30)
        more = np.append(values, np.nan)
        assert bootstrap_mean(more, seed=0).estimate == pytest.approx(values.mean(), abs=1e-15)
        assert bootstrap_mean(more, seed=0).low == pytest.approx(bootstrap_mean(values, seed=0).low, abs=0.01)

    def test_a_row_of_problems_is_one_training_seed(self):
        values = np.random.default_rng(0).random(20)
        assert bootstrap_mean(values, seed=3) == bootstrap_mean(values[None], seed=3)

    def test_the_seed_decides_every_digit(self):
        values = np.random.default_rng(0).random((3, 700))
        assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
        assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)

    def test_level_widens_and_unit_scales(self):
        values = np.random.default_rng(0).random(50)
        wide, narrow = bootstrap_mean(values, seed=0, level=0.99), bootstrap_mean(values, seed=0, level=0.5)
        assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
        np.testing.assert_allclose(
            bootstrap_mean(100 * values - 7, seed=0), 100 * np.array(bootstrap_mean(values, seed=0)) - 7
        )

    @pytest.mark.parametrize("values", [[0.4], [[0.4], [0.7]], [0.4, np.nan, np.nan], [[np.nan, 0.1], [np.nan, 0.3]]])
    def test_one_problem_is_never_certain(self, values):
        found = bootstrap_mean(values, seed=0)
        assert found.estimate == pytest.approx(np.nanmean(values)) and math.isnan(found.low) and math.isnan(found.high)

    def test_nothing_defined_is_nan_throughout(self):
        assert all(map(math.isnan, bootstrap_mean([[np.nan, np.nan]], seed=0)))

    def test_a_curve_has_the_intervals_of_its_metrics(self):
        values = np.random.default_rng(0).random((3, 40, 4))
        values[0, 3, 1] = values[:, :, 2] = np.nan
        curve = bootstrap_curve(values, seed=9)
        alone = [bootstrap_mean(values[:, :, metric], seed=9) for metric in range(4)]
        np.testing.assert_allclose(curve, alone, rtol=1e-13)

    def test_paired_difference_is_the_mean_of_differences(self):
        rng = np.random.default_rng(0)
        b = rng.random((2, 60))
        a = b + rng.normal(0.05, 0.02, (2, 60))
        a[0, 7] = b[0, 7] = np.nan
        found = paired_difference(a, b, seed=1, level=0.9)
        assert found == bootstrap_mean(a - b, seed=1, level=0.9)
        assert found.low > 0 and bootstrap_mean(a, seed=1).low < bootstrap_mean(b, seed=1).high

    def test_crossed_resampling_covers_where_problems_alone_do_not(self):
        """200 studies of 5 training seeds whose spread counts; intervals.py says how far below 95% they
        stay."""
        rng = np.random.default_rng(0)
        crossed = alone = 0
        for study in range(200):
            values = rng.normal(0, 0.5, (5, 1)) + rng.normal(0, 1, (1, 60)) + rng.normal(0, 1, (5, 60))
            whole = bootstrap_mean(values, seed=study, replications=300)
            crossed += whole.low <= 0 <= whole.high
            part = bootstrap_mean(values.mean(axis=0), seed=study, replications=300)
            alone += part.low <= 0 <= part.high
        assert 0.84 * 200 <= crossed <= 0.98 * 200
        assert alone < 0.75 * 200

    def test_problems_of_one_seed_cover_near_the_nominal_level(self):
        rng = np.random.default_rng(0)
        hits = 0
        for study in range(400):
            found = bootstrap_mean(rng.beta(0.4, 0.8, 60), seed=study, replications=300)
            hits += found.low <= 1 / 3 <= found.high
        assert 0.90 * 400 <= hits <= 0.98 * 400

    def test_a_full_size_study_is_fast(self):
        values = np.random.default_rng(0).random((5, 1000))
        values[2, 3] = np.nan
        start = time.perf_counter()
        bootstrap_mean(values, seed=0)
        assert time.process_time() - start < 5

    @pytest.mark.parametrize(
        "call, words",
        [
            (lambda: bootstrap_mean([], seed=0), "values of shape (0,)"),
            (lambda: bootstrap_mean(0.5, seed=0), "values of shape ()"),
            (lambda: bootstrap_mean(np.zeros((2, 3, 4)), seed=0), "bootstrap_curve"),
            (lambda: bootstrap_mean([0.0, np.inf], seed=0), "1 infinite values"),
            (lambda: bootstrap_mean([0, 1], seed=None), "seed = None"),
            (lambda: bootstrap_mean([0, 1], seed=True), "seed = True"),
            (lambda: bootstrap_mean([0, 1], seed=-1), "seed = -1"),
            (lambda: bootstrap_mean([0, 1], seed=0, replications=99), "replications = 99"),
            (lambda: bootstrap_mean([0, 1], seed=0, level=95), "level = 95"),
            (lambda: bootstrap_curve(np.zeros((2, 3)), seed=0), "values of shape (2, 3)"),
            (lambda: paired_difference([0, 1], [0, 1, 2], seed=0), "(1, 2) and (1, 3)"),
            (lambda: paired_difference([[0, 1]] * 2, [0, 1], seed=0), "(2, 2) and (1, 2)"),
            (lambda: paired_difference([0, np.nan], [0, 1], seed=0), "1 values that are NaN on one side only"),
        ],
    )
    def test_bad_arguments_are_refused(self, call, words):
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value) and "expected" in str(caught.value)

    def test_the_seed_is_required(self):
        with pytest.raises(TypeError, match="seed"):
            bootstrap_mean([0, 1])


def study(seeds: int = 3, problems: int = 20, n: int = 8) -> pd.DataFrame:
    """Base with one training seed, and two trained models with `seeds`, on the same problems."""
    rng = np.random.default_rng(5)
    difficulty = rng.beta(1, 2, problems)
    parts = []
    for model, runs, lift in [("base", 1, 0.7), ("grpo", seeds, 1.1), ("ds_grpo", seeds, 1.3)]:
        for seed in range(runs):
            parts.append(
                rollouts(
                    {
                        f"p{i:02}": [f"s{rng.integers(6)}" if rng.random() < lift * rate else False for _ in range(n)]
                        for i, rate in enumerate(difficulty)
                    },
                    model,
                    seed,
                )
            )
    return pd.concat(parts, ignore_index=True)


SOLUTIONS = {f"p{i:02}": 6 for i in range(20)}


class TestSummary:
    def test_counts_leave_unscored_rows_out(self):
        frame = rollouts({"q": ["x", None, False], "p": [None, None], "r": ["x", "x", "y"]})
        expected = {"prompt_id": ["p", "q", "r"], "n": [0, 2, 3], "c": [0, 1, 3], "distinct": [np.nan, 1, 2]}
        expected["differ"] = [np.nan, np.nan, 2 / 3]
        table = counts(frame)
        assert list(table.columns) == ["model", "seed", "prompt_id", "n", "c", "distinct", "differ"]
        pd.testing.assert_frame_equal(table[list(expected)], pd.DataFrame(expected), check_dtype=False)

    @pytest.mark.parametrize(
        "change, words",
        [
            (lambda frame: frame.iloc[:0], "have 0 rows"),
            (lambda frame: frame.drop(columns="canonical"), "lack the columns ['canonical']"),
            (lambda frame: pd.concat([frame, frame]), "2 rows that repeat"),
            (lambda frame: frame.assign(step=[0, 100]), "mix 2 steps (0, 100"),
        ],
    )
    def test_frames_that_cannot_be_counted_are_refused(self, change, words):
        with pytest.raises(ValueError) as caught:
            counts(change(rollouts({"p": ["x", False]})))
        assert words in str(caught.value) and "expected" in str(caught.value)

    def test_estimates_are_plain_means_over_seeds_and_problems(self):
        frame = study()
        summary = summarise(frame, seed=0, num_solutions=SOLUTIONS).set_index(["model", "metric", "k"])
        for model, part in frame.groupby("model"):
            groups = [group for _, group in part.groupby(["seed", "prompt_id"])]
            for k in (1, 2, 4, 8):
                exact = np.mean([float(exact_pass_at_k(8, int(group["correct"].sum()), k)) for group in groups])
                assert summary.loc[(model, "pass@k", k), "estimate"] == pytest.approx(exact, abs=1e-13)
            distinct = np.mean([len(set(group["canonical"].dropna())) for group in groups])
            assert summary.loc[(model, "distinct", np.nan), "estimate"] == pytest.approx(distinct)
            assert summary.loc[(model, "coverage", np.nan), "estimate"] == pytest.approx(distinct / 6)
        assert len(summary) == 3 * 6
        assert (summary["low"] < summary["estimate"]).all() and (summary["estimate"] < summary["high"]).all()

    def test_the_interval_is_that_of_bootstrap_mean_over_seeds_and_problems(self):
        frame = study()
        table = counts(frame)
        rate = (table["c"] / table["n"])[table["model"] == "grpo"].to_numpy().reshape(3, 20)
        row = summarise(frame, seed=4, ks=[1]).set_index(["model", "metric"]).loc[("grpo", "pass@k")]
        assert tuple(row[["estimate", "low", "high"]]) == pytest.approx(bootstrap_mean(rate, seed=4), abs=1e-13)
        assert (row["problems"], row["training_seeds"], row["samples"]) == (20, 3, 480)

    def test_columns_and_default_ks(self):
        summary = summarise(rollouts({"p": ["x"] * 6, "q": [False] * 6}), seed=0)
        assert list(summary.columns) == [
            "model",
            "metric",
            "k",
            "estimate",
            "low",
            "high",
            "problems",
            "training_seeds",
            "samples",
        ]
        assert summary["metric"].tolist() == ["pass@k"] * 4 + ["distinct"]
        assert summary["k"].tolist() == pytest.approx([1, 2, 4, 6, np.nan], nan_ok=True)

    def test_order_of_rows_does_not_matter(self):
        frame = study()
        shuffled = frame.sample(frac=1, random_state=0)
        pd.testing.assert_frame_equal(
            summarise(shuffled, seed=1, num_solutions=SOLUTIONS), summarise(frame, seed=1, num_solutions=SOLUTIONS)
        )
        pd.testing.assert_frame_equal(compare(shuffled, "grpo", "base", seed=1), compare(frame, "grpo", "base", seed=1))

    def test_ragged_problems_leave_the_ks_they_cannot_answer(self):
        frame = rollouts({"p": ["x", False], "q": ["x", "y", False, False], "r": [None], "s": [False, "x", None]})
        summary = summarise(frame, seed=0).set_index(["metric", "k"])
        assert summary["problems"].tolist() == [3, 3, 1, 3]
        assert summary["samples"].tolist() == [8, 8, 4, 8]
        assert summary.loc[("pass@k", 4), "estimate"] == 1 and math.isnan(summary.loc[("pass@k", 4), "low"])
        assert summary.loc[("pass@k", 2), "estimate"] == pytest.approx((1 + 5 / 6 + 1) / 3)

    def test_nothing_scored_is_undefined_and_not_zero(self):
        summary = summarise(rollouts({"p": [None, None], "q": [None]}), seed=0)
        assert summary["estimate"].isna().all() and (summary["problems"] == 0).all()

    def test_seeds_on_different_problems_are_refused(self):
        frame = pd.concat([rollouts({"p": ["x"], "q": ["x"]}), rollouts({"q": ["x"]}, seed=7)])
        with pytest.raises(ValueError, match=r"seeds \[7\] of m lack 1 problems .*'p'.*expected"):
            summarise(frame, seed=0)


class TestCompare:
    def test_is_the_paired_difference_per_seed_and_problem(self):
        frame = study()
        table = counts(frame).set_index(["model", "seed", "prompt_id"])
        rows = compare(frame, "ds_grpo", "grpo", seed=2, num_solutions=SOLUTIONS).set_index(["metric", "k"])
        assert set(rows["model"]) == {"ds_grpo - grpo"} and set(rows["samples"]) == {2 * 480}
        for metric, k, column, unit in [
            ("pass@k", 1, "c", 8),
            ("distinct", np.nan, "distinct", 1),
            ("coverage", np.nan, "distinct", 6),
        ]:
            a, b = (table.loc[model, column].to_numpy().reshape(3, 20) / unit for model in ("ds_grpo", "grpo"))
            found = tuple(rows.loc[(metric, k), ["estimate", "low", "high"]])
            assert found == pytest.approx(paired_difference(a, b, seed=2), abs=1e-13)

    def test_a_baseline_of_one_seed_stands_beside_every_seed(self):
        frame = study()
        table = counts(frame).set_index(["model", "seed", "prompt_id"])["c"] / 8
        row = compare(frame, "grpo", "base", seed=2, ks=[1]).iloc[0]
        a = table.loc["grpo"].to_numpy().reshape(3, 20)
        b = np.broadcast_to(table.loc["base"].to_numpy(), (3, 20))
        assert tuple(row[["estimate", "low", "high"]]) == pytest.approx(paired_difference(a, b, seed=2), abs=1e-13)
        assert row["training_seeds"] == 3 and row["samples"] == 480 + 160

    def test_training_seeds_that_cannot_be_paired_are_refused(self):
        frame = study()
        frame = frame[(frame["model"] != "grpo") | (frame["seed"] > 0)]
        with pytest.raises(ValueError, match=r"ds_grpo has the training seeds \[0, 1, 2\] and grpo \[1, 2\]"):
            compare(frame, "ds_grpo", "grpo", seed=0)

    @pytest.mark.parametrize("other", ["grpo", "base"])
    def test_swapping_the_models_flips_the_sign(self, other):
        frame = study()
        there, back = compare(frame, "ds_grpo", other, seed=0), compare(frame, other, "ds_grpo", seed=0)
        assert there["samples"].tolist() == back["samples"].tolist()
        np.testing.assert_allclose(there["estimate"], -back["estimate"], atol=1e-15)
        np.testing.assert_allclose(there["low"], -back["high"], atol=1e-12)

    def test_only_equal_numbers_of_samples_compare_distinct_solutions(self):
        frame = pd.concat(
            [
                rollouts({"p": ["x", "y", "z"], "q": ["x", "y"]}, "a"),
                rollouts({"p": ["x", False], "q": ["x", False]}, "b"),
            ]
        )
        rows = compare(frame, "a", "b", seed=0).set_index(["metric", "k"])
        assert rows.loc[("distinct", np.nan), ["estimate", "problems", "samples"]].tolist() == [1, 1, 4]
        assert rows.loc[("pass@k", 1), ["estimate", "problems", "samples"]].tolist() == [0.5, 2, 9]
        assert rows.loc[("pass@k", 3), "problems"] == 0

    @pytest.mark.parametrize(
        "pair, words", [(("grpo", "absent"), "baseline 'absent'"), (("grpo", "grpo"), "two different models")]
    )
    def test_pairs_that_cannot_be_made_are_refused(self, pair, words):
        with pytest.raises(ValueError) as caught:
            compare(study(), *pair, seed=0)
        assert words in str(caught.value) and "expected" in str(caught.value)

    def test_problems_of_one_side_only_are_named(self):
        frame = study()
        frame = frame[(frame["model"] != "base") | (frame["prompt_id"] > "p04")]
        with pytest.raises(ValueError, match=r"do not share 5 problems \('p00', 'p01', 'p02', \.\.\.\), expected"):
            compare(frame, "grpo", "base", seed=0)


def test_a_study_of_usual_size_is_summarised_in_seconds():
    rng = np.random.default_rng(0)
    runs, problems, n = 11, 500, 64
    correct = rng.random((runs, problems, n)) < rng.beta(0.5, 1, (1, problems, 1))
    form = np.array([f"form {i}" for i in range(30)], dtype=object)[rng.integers(30, size=correct.size)]
    run = np.repeat(np.arange(runs), problems * n)
    frame = pd.DataFrame(
        {
            "model": np.where(run == 0, "base", np.where(run < 6, "grpo", "ds_grpo")),
            "seed": np.maximum(run - 1, 0) % 5,
            "step": -1,
            "prompt_id": np.tile(np.repeat([f"p{i}" for i in range(problems)], n), runs),
            "sample": np.tile(np.arange(n), runs * problems),
            "correct": correct.ravel(),
            "canonical": np.where(correct.ravel(), form, None),
        }
    )
    start = time.perf_counter()
    summary = summarise(frame, seed=0)
    assert time.perf_counter() - start < 15
    assert summary["training_seeds"].groupby(summary["model"]).first().to_dict() == {"base": 1, "grpo": 5, "ds_grpo": 5}
