"""BCa, ratios, bands and what two curves say, against scipy, enumerated resamples and simulated studies."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from differential_smoothing.evaluation import (
    bootstrap_curve,
    bootstrap_mean,
    crossing,
    paired_difference,
    paired_ratio,
    samples_to_reach,
    simultaneous_band,
)

spec = importlib.util.spec_from_file_location("coverage", Path(__file__).parents[1] / "benchmarks" / "coverage.py")
simulated = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulated)


def resamples(problems: int, seeds: int = 1) -> list[tuple]:
    """Every equally likely crossed resample, as an index of a (seeds, problems, ...) array."""
    return [
        np.ix_(rows, columns)
        for rows in itertools.product(range(seeds), repeat=seeds)
        for columns in itertools.product(range(problems), repeat=problems)
    ]


class TestBCa:
    def test_agrees_with_scipy_for_one_sample(self):
        values = np.random.default_rng(1).exponential(size=15) ** 2
        found = bootstrap_mean(values, seed=0, replications=100_000, level=0.9, method="bca")
        options = dict(n_resamples=100_000, confidence_level=0.9, vectorized=True, rng=np.random.default_rng(0))
        low, high = stats.bootstrap((values,), np.mean, method="BCa", **options).confidence_interval
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.02 * (high - low))
        plain = bootstrap_mean(values, seed=0, replications=100_000, level=0.9)
        assert found.low - plain.low > 0.02 * (high - low) and found.high - plain.high > 0.2 * (high - low)

    def test_crossed_factors_that_add_up_are_two_samples_of_scipy(self):
        # Seeds that are skewed and problems that are not, so that the correction must know of both.
        of_seed = np.random.default_rng(2).exponential(size=9) ** 2
        of_problem = np.linspace(-1, 1, 14)
        values = of_seed[:, None] + of_problem
        found = bootstrap_mean(values, seed=0, replications=60_000, level=0.9, method="bca")
        interval = stats.bootstrap(
            (of_seed, of_problem),
            lambda a, b, axis: a.mean(axis) + b.mean(axis),
            method="BCa",
            vectorized=True,
            n_resamples=60_000,
            confidence_level=0.9,
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = interval
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.025 * (high - low))

    def test_mirrors_and_scales_with_the_values(self):
        values = np.random.default_rng(0).exponential(size=40)
        there, back = (bootstrap_mean(v, seed=1, method="bca") for v in (values, 5 - 3 * values))
        assert (5 - 3 * there.high, 5 - 3 * there.low) == pytest.approx((back.low, back.high), abs=1e-10)

    def test_is_percentile_for_values_without_bias_and_skewness(self):
        values = np.concatenate([x := np.random.default_rng(0).normal(size=30), -x])
        bca, plain = (bootstrap_mean(values, seed=0, replications=100_000, method=m) for m in ("bca", "percentile"))
        assert (bca.low, bca.high) == pytest.approx((plain.low, plain.high), abs=0.01)

    def test_undefined_values_are_no_clusters(self):
        values = np.random.default_rng(0).exponential(size=12)
        more = np.append(values, [np.nan] * 3)
        few, many = (bootstrap_mean(v, seed=0, replications=50_000, method="bca") for v in (values, more))
        # Problems without a value still vary how many are drawn, so the ends differ a little.
        assert (many.low, many.high) == pytest.approx((few.low, few.high), abs=0.12 * (few.high - few.low))


class TestEverySort:
    """What all intervals share: one problem is never certain, equal problems have no spread, a seed repeats every digit."""

    CALLS = {
        "bca": lambda a, b, seed: [bootstrap_mean(a[:, 0], seed=seed, method="bca")],
        "difference": lambda a, b, seed: [paired_difference(a[:, 0], b[:, 0], seed=seed, method="bca")],
        "ratio": lambda a, b, seed: [paired_ratio(a[:, 0], b[:, 0], seed=seed)],
        "ratio, bca": lambda a, b, seed: [paired_ratio(a[:, 0], b[:, 0], seed=seed, method="bca")],
        "band": lambda a, b, seed: simultaneous_band(a[None], seed=seed),
        "crossing": lambda a, b, seed: [crossing(a, b, seed=seed)],
        "reach": lambda a, b, seed: samples_to_reach(b, a, [1, 2], seed=seed),
    }

    @pytest.mark.parametrize("name", CALLS)
    def test_one_problem_is_never_certain(self, name):
        a, b = np.array([[0.3, 0.4, 0.5]]), np.array([[0.2, 0.45, 0.6]])
        unknown = np.full((3, 3), np.nan)
        for sides in ((a, b), (np.vstack([a, unknown]), np.vstack([b, unknown]))):
            for found in self.CALLS[name](*sides, 0):
                assert math.isfinite(found.estimate) and math.isnan(found.low) and math.isnan(found.high)

    @pytest.mark.parametrize("name", CALLS)
    def test_equal_problems_have_no_spread(self, name):
        a, b = np.tile([0.3, 0.4, 0.5], (20, 1)), np.tile([0.2, 0.45, 0.6], (20, 1))
        for found in self.CALLS[name](a, b, 0):
            assert (found.low, found.high) == pytest.approx((found.estimate, found.estimate), abs=1e-9)

    @pytest.mark.parametrize("name", CALLS)
    def test_the_seed_decides_every_digit(self, name):
        rng = np.random.default_rng(0)
        a = np.sort(rng.random((30, 8)), axis=1)
        b = np.sort(np.clip(a + rng.normal(0, 0.2, (30, 1)) + np.linspace(-0.1, 0.1, 8), 0, 1), axis=1)
        call = self.CALLS[name]
        assert call(a, b, 3) == call(a, b, 3)
        if name != "crossing":  # whole numbers may well agree
            assert call(a, b, 3) != call(a, b, 4)

    @pytest.mark.parametrize("name", CALLS)
    def test_a_bad_seed_is_refused(self, name):
        a = np.random.default_rng(0).random((5, 3))
        with pytest.raises(ValueError, match=r"seed = -1, expected"):
            self.CALLS[name](a, a + 0.1, -1)


class TestRatio:
    def test_agrees_with_all_resamples_enumerated(self):
        rng = np.random.default_rng(3)
        a, b = rng.random((2, 4)), rng.random((2, 4)) + 0.2
        b[0, 1] = a[0, 1] = np.nan
        draws = [np.nanmean(a[at]) / np.nanmean(b[at]) for at in resamples(4, 2) if not np.isnan(a[at]).all()]
        found = paired_ratio(a, b, seed=0, replications=40_000, level=0.8)
        low, high = np.quantile(draws, [0.1, 0.9])
        assert found.estimate == pytest.approx(np.nanmean(a) / np.nanmean(b))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.02 * (high - low))

    def test_bca_agrees_with_scipy(self):
        rng = np.random.default_rng(0)
        b = rng.exponential(size=25)
        a = b * rng.exponential(size=25)
        found = paired_ratio(a, b, seed=0, replications=60_000, method="bca")
        low, high = stats.bootstrap(
            (a, b),
            lambda a, b, axis: a.mean(axis) / b.mean(axis),
            paired=True,
            vectorized=True,
            method="BCa",
            n_resamples=60_000,
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))

    def test_turns_over_with_its_sides_and_cancels_what_they_share(self):
        rng = np.random.default_rng(0)
        b = rng.exponential(size=50)
        a = b * rng.uniform(1.9, 2.1, 50)
        there, back = paired_ratio(a, b, seed=0), paired_ratio(b, a, seed=0)
        assert (1 / there.high, 1 / there.low) == pytest.approx((back.low, back.high), rel=1e-4)
        assert 1.9 < there.low < there.high < 2.1

    def test_nothing_to_divide_by_is_infinite_or_undefined(self):
        assert paired_ratio([1.0, 2.0, 1.0], [0.0] * 3, seed=0) == (math.inf,) * 3
        assert all(map(math.isnan, paired_ratio([0.0] * 3, [0.0] * 3, seed=0)))
        found = paired_ratio([1.0, 2.0, 1.0, 2.0], [0.0, 0.0, 0.0, 1.0], seed=0)
        assert found.estimate == 6 and found.high == math.inf and 1 < found.low < 6

    def test_values_of_one_side_only_are_refused(self):
        with pytest.raises(ValueError, match=r"paired_ratio got 1 values that are NaN on one side only, expected"):
            paired_ratio([1, np.nan], [1, 2], seed=0)


class TestBand:
    def test_of_one_metric_is_symmetric_and_near_the_pointwise_interval(self):
        values = np.random.default_rng(0).normal(size=(1, 400, 1))
        (band,), (alone,) = simultaneous_band(values, seed=0), bootstrap_curve(values, seed=0)
        assert band.high - band.estimate == pytest.approx(band.estimate - band.low)
        assert (band.low, band.high) == pytest.approx((alone.low, alone.high), rel=0.05)

    def test_of_independent_metrics_is_as_wide_as_theory_says(self):
        values = np.random.default_rng(0).normal(size=(1, 2000, 20)) * np.arange(1, 21)
        found = np.array(simultaneous_band(values, seed=0))
        widths = (found[:, 2] - found[:, 1]) / (2 * values[0].std(axis=0, ddof=1) / math.sqrt(2000))
        # P(max of 20 |z| < q) = 0.95
        assert widths == pytest.approx(stats.norm.ppf((1 + 0.95 ** (1 / 20)) / 2), rel=0.05)

    def test_copies_of_a_metric_and_level_ones_change_nothing(self):
        values = np.random.default_rng(0).random((2, 30, 1))
        level = np.full((2, 30, 1), 0.7)
        never = np.full((2, 30, 1), np.nan)
        alone = simultaneous_band(values, seed=0)[0]
        found = simultaneous_band(np.concatenate([values, level, 9 * values, never], axis=2), seed=0)
        assert found[0] == pytest.approx(alone) and found[2] == pytest.approx([9 * x for x in alone])
        assert found[1] == pytest.approx((0.7, 0.7, 0.7)) and all(map(math.isnan, found[3]))

    def test_many_metrics_use_the_resamples_of_few(self):
        values = np.random.default_rng(0).random((1, 20, 500))
        whole = bootstrap_curve(values, seed=1, replications=20_000)
        part = bootstrap_curve(values[:, :, [0, 250, 499]], seed=1, replications=20_000)
        np.testing.assert_allclose([whole[0], whole[250], whole[499]], part, rtol=1e-12)


def first(difference: np.ndarray, lead: float) -> float:
    behind = np.flatnonzero(lead * difference < -1e-12)
    return behind[0] + 1.0 if behind.size else math.inf


class TestCrossing:
    def test_is_the_first_k_where_the_other_leads(self):
        ks = np.arange(1, 9)
        a, b = np.tile(0.5 + 0 * ks, (3, 1)), np.tile(0.1 * ks - 0.02, (3, 1))
        assert crossing(a, b, seed=0) == (6, 6, 6) == crossing(b, a, seed=0)
        # A tie is not yet a lead.
        assert crossing(a, np.tile(0.1 * ks, (3, 1)), seed=0).estimate == 6
        assert crossing(a, b - 1, seed=0) == (math.inf,) * 3
        assert all(map(math.isnan, crossing(a, a, seed=0)))

    @pytest.mark.parametrize("level", [0.5, 0.9])
    def test_agrees_with_all_resamples_enumerated(self, level):
        rng = np.random.default_rng(8)
        a = 0.5 + np.linspace(0, 0.1, 12) + 0.2 * rng.random((2, 4, 1))
        b = 0.45 + np.linspace(0, 0.3, 12) + 0.2 * rng.random((2, 4, 1))
        lead = np.sign((a - b).mean(axis=(0, 1))[0])
        draws = np.sort([first((a - b)[at].mean(axis=(0, 1)), lead) for at in resamples(4, 2)])
        found = crossing(a, b, seed=0, replications=40_000, level=level)
        assert found.estimate == first((a - b).mean(axis=(0, 1)), lead)
        for end, tail in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
            assert np.mean(draws < end) <= tail + 0.01 and np.mean(draws <= end) >= tail - 0.01
        assert found.low < found.high

    def test_a_doubtful_crossing_says_so(self):
        rng = np.random.default_rng(0)
        gap = np.linspace(0.02, -0.02, 10) + rng.normal(0, 0.2, (40, 1))
        gap += np.linspace(0.02, -0.02, 10) - gap.mean(axis=0)
        found = crossing(0.5 + gap, np.full((40, 10), 0.5), seed=0)
        assert found == (6, 1, math.inf)

    def test_a_problem_without_a_curve_takes_no_part(self):
        rng = np.random.default_rng(0)
        a, b = np.sort(rng.random((2, 30, 6)), axis=2)
        more = [np.vstack([curve, np.full((1, 6), np.nan)]) for curve in (a, b)]
        assert crossing(*more, seed=0).estimate == crossing(a, b, seed=0).estimate


class TestSamplesToReach:
    def test_four_draws_in_one_need_a_quarter_of_the_samples(self):
        rate = np.random.default_rng(0).beta(0.5, 2, (50, 1))
        target, curve = 1 - (1 - rate) ** np.arange(1, 65), 1 - (1 - rate) ** (4 * np.arange(1, 65))
        ks = [4, 8, 16, 64]
        for k, found in zip(ks, samples_to_reach(curve, target, ks, seed=0), strict=True):
            assert found == pytest.approx((k / 4,) * 3, abs=1e-6)
        assert samples_to_reach(curve, target, [1, 3], seed=0) == [(1, 1, 1)] * 2
        assert samples_to_reach(target, curve, [1, 16], seed=0)[0] == pytest.approx((4, 4, 4))
        assert samples_to_reach(target, curve, [17, 64], seed=0) == [(math.inf,) * 3] * 2
        assert samples_to_reach(curve, curve, [1, 2, 64], seed=0) == [pytest.approx((k,) * 3) for k in (1, 2, 64)]

    def test_between_two_whole_numbers_it_is_linear(self):
        curve, target = np.tile([0.2, 0.4, 0.8], (3, 1)), np.tile([0.3, 0.5, 0.6], (3, 1))
        found = samples_to_reach(curve, target, [1, 2, 3], seed=0)
        assert [interval.estimate for interval in found] == pytest.approx([1.5, 2.25, 2.5])
        # A flat stretch is left at its first sample.
        assert samples_to_reach([[0.5, 0.5, 0.5]], [[0.5, 0.6, 0.7]], [1], seed=0)[0].estimate == 1

    def test_agrees_with_all_resamples_enumerated(self):
        rng = np.random.default_rng(4)
        curve, target = (np.cumsum(rng.random((2, 4, 6)) + 0.05, axis=2) / 7 for _ in range(2))
        draws = []
        for at in resamples(4, 2):
            mean, goal = curve[at].mean(axis=(0, 1)), target[at].mean(axis=(0, 1))[3]
            draws.append(math.inf if goal > mean[-1] else np.interp(goal, mean, np.arange(1, 7)))
        found = samples_to_reach(curve, target, [4], seed=0, replications=40_000, level=0.8)[0]
        low, high = np.quantile(draws, [0.1, 0.9])
        mean, goal = curve.mean(axis=(0, 1)), target.mean(axis=(0, 1))[3]
        assert found.estimate == pytest.approx(np.interp(goal, mean, np.arange(1, 7)))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))

    def test_the_far_end_may_be_more_than_there_are(self):
        rng = np.random.default_rng(0)
        rate = rng.beta(1, 2, (30, 1))
        target = 1 - (1 - rate) ** np.arange(1, 17)
        curve = 1 - (1 - np.clip(rate * np.exp(rng.normal(0, 0.4, (30, 1))), 0, 0.99)) ** np.arange(1, 17)
        found = samples_to_reach(curve, target, [12], seed=0)[0]
        assert 1 < found.low < found.estimate < 17 and found.high == math.inf

    @pytest.mark.parametrize(
        "call, words",
        [
            (lambda a: samples_to_reach(a, a, [0], seed=0), "ks = [0]"),
            (lambda a: samples_to_reach(a, a, [4], seed=0), "from 1 to 3"),
            (lambda a: samples_to_reach(a, a, [], seed=0), "ks = []"),
            (lambda a: samples_to_reach(a, a, [1.5], seed=0), "ks = [1.5]"),
            (lambda a: samples_to_reach(a, a[:, :2], [1], seed=0), "(5, 3) and (5, 2)"),
            (lambda a: crossing(a[0], a[0], seed=0), "(3,) and (3,)"),
            (lambda a: crossing(a, np.where(a == a[0, 0], np.nan, a), seed=0), "NaN at some k"),
            (lambda a: crossing(*[np.where([True, True, False], a, np.nan)] * 2, seed=0), "NaN at some k"),
            (lambda a: crossing(a / 0, a, seed=0), "infinite"),
            (lambda a: simultaneous_band(a, seed=0), "simultaneous_band got values of shape (5, 3)"),
            (lambda a: paired_ratio(a[0], a[0], seed=0, method="basic"), "method = 'basic'"),
        ],
    )
    def test_bad_arguments_are_refused(self, call, words):
        with pytest.raises(ValueError) as caught, np.errstate(all="ignore"):
            call(np.random.default_rng(0).random((5, 3)))
        assert words in str(caught.value) and "expected" in str(caught.value)


def test_the_truth_of_the_simulation_is_what_very_many_problems_give():
    """The estimates are without bias, so their means over 100,000 simulated problems meet the quadrature."""
    true, _ = simulated.truth()
    for name, values in simulated.estimates(*simulated.simulate(1000, seed=5)).items():
        studies = np.nanmean(values, axis=0)
        assert np.nanmean(values) == pytest.approx(true[name], abs=5 * studies.std() / math.sqrt(1000)), name


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """More studies than needed to tell 0.93 from 0.95, so that no lucky seed decides."""
    for (name, method), (held, _, _) in simulated.coverage(
        2000, seed=1, resamples=1500, methods=["percentile"]
    ).items():
        assert 0.93 <= held <= 0.97, (name, method, held)
    # These are worked out study by study, so there are fewer of them: 400 have a standard error of 0.011.
    for (name, method), (held, _, _) in simulated.coverage_of_curves(400, seed=1, resamples=400).items():
        assert 0.91 <= held <= 0.98, (name, method, held)
