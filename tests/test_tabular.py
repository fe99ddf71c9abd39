"""The laboratory: optima against exact rationals, brute force and a solver; the theorems against grids of rivals."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from differential_smoothing.tabular import frontier as front
from differential_smoothing.tabular import theorem
from differential_smoothing.tabular.claims import check_claims
from differential_smoothing.tabular.claims.frontier import small_prompts
from differential_smoothing.tabular.claims.theorem import reward_form_gap
from differential_smoothing.tabular.claims.verdict import FAIL, NOT, PASS, claim
from differential_smoothing.tabular.closed_form import (
    Prompts,
    budgeted,
    ds_reward,
    entropy_reward,
    logsumexp,
    measure,
    optimum,
    prompt,
    random_prompts,
)
from differential_smoothing.tabular.divergences import DIVERGENCES, FORWARD_KL, REVERSE_KL, Divergence

GIVEN = prompt([1 / 16, 4 / 16, 2 / 16, 9 / 16], 2)


def blocks(count=300, seed=0):
    return list(random_prompts(count, seed))


def rules(prompts, seed):
    random = np.random.default_rng(seed)
    return 10 ** random.uniform(-1, 1, len(prompts.log_p)), random.uniform(0.05, 0.95, len(prompts.log_p))


# closed forms


def test_ds_and_bonus_are_the_rationals_that_the_formulas_give():
    """p has square roots, e^(1/beta) = 2 and the tilt is 1/2: every probability is a fraction."""
    beta = 1 / math.log(2)
    p = [Fraction(n, 16) for n in (1, 4, 2, 9)]
    ds = [2 * Fraction(1, 4), 2 * Fraction(2, 4), p[2], p[3]]
    sharpened = [2 * p[0], 2 * p[1], p[2] ** 2, p[3] ** 2]
    for weights, reward in ((ds, ds_reward(GIVEN, beta / 2)), (sharpened, ds_reward(GIVEN, 0.0, beta))):
        exact = [float(w / sum(weights)) for w in weights]
        assert np.exp(optimum(GIVEN, reward, beta))[0] == pytest.approx(exact, rel=1e-14)
    squares = prompt([1 / 81, 16 / 81, 64 / 81], 2)
    bonus = [2 * Fraction(1, 9), 2 * Fraction(4, 9), Fraction(8, 9)]  # tilts the wrong outcome too
    exact = [float(w / sum(bonus)) for w in bonus]
    assert np.exp(optimum(squares, entropy_reward(squares, beta / 2), beta))[0] == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.name)
@pytest.mark.parametrize("form", ["reward", "entropy"])
def test_no_other_policy_has_a_better_objective(divergence, form):
    random = np.random.default_rng(0)
    for given in blocks(12, seed=3):
        for row in range(len(given.log_p)):
            n = given.exists[row].sum()
            one = Prompts(given.log_p[row : row + 1, :n], given.correct[row : row + 1, :n])
            reward = entropy_reward(one, 0.4) if form == "reward" else one.correct * 1.0
            weight = 0.4 if form == "entropy" else 0.0
            best = optimum(one, reward, 0.7, divergence=divergence, entropy=weight)
            value = front.objective(one, best, reward, 0.7, divergence, weight)
            for _ in range(20):
                other = best + 10 ** random.uniform(-5, 0) * random.normal(size=best.shape)
                other -= np.log(np.exp(other).sum())
                assert front.objective(one, other, reward, 0.7, divergence, weight) <= value + 1e-12


def test_entropy_of_pi_with_beta_is_the_reward_form_with_beta_plus_gamma():
    for given in blocks(50):
        beta, gamma = 0.7, 0.3
        policy = optimum(given, given.correct * 1.0, beta, entropy=gamma)
        assert np.allclose(policy, optimum(given, entropy_reward(given, gamma), beta + gamma), rtol=1e-12)


def test_optima_are_stationary_down_to_1e_300():
    for given in blocks(200):
        assert given.log_p[given.exists].min() >= -690.0001
        beta, strength = rules(given, 1)
        for divergence in DIVERGENCES:
            policy = optimum(given, ds_reward(given, beta * strength), beta, divergence=divergence)
            assert np.abs(np.exp(policy).sum(1) - 1).max() < 1e-12
            assert theorem.stationarity(given, policy, beta * strength, beta, divergence).max() < 1e-9
    assert min(b.log_p[b.exists].min() for b in blocks(200)) < -600


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.name)
def test_divergences_against_forty_digits(divergence):
    """Far from the base, and so near to it that the formula without its series would return rounding noise."""
    p, direction = [1e-300, 0.2, 0.3, 0.5], [0.0, 1.0, -2.0, 0.8]
    for size in (1e-7, 1e-3, 0.015, 0.5):
        pi = [x * (1 + size * d / 3) for x, d in zip(p, direction, strict=True)]
        with mpmath.workdps(60):
            x, y = [mpmath.mpf(v) for v in pi], [mpmath.mpf(v) for v in p]
            y[3], x[3] = 1 - sum(y[:3]), 1 - sum(x[:3])
            pairs = list(zip(x, y, strict=True))
            exact = {
                "reverse KL": sum(a * mpmath.log(a / b) for a, b in pairs),
                "forward KL": sum(b * mpmath.log(b / a) for a, b in pairs),
                "Hellinger": 2 * sum((mpmath.sqrt(a) - mpmath.sqrt(b)) ** 2 for a, b in pairs),
            }[divergence.name]
            logs = [np.array([[float(mpmath.log(v)) for v in side]]) for side in (x, y)]
        # log ratios of 1e-7 from logs of order 1 keep 9 digits, K twice that error
        assert divergence(*logs)[0] == pytest.approx(float(exact), rel=1e-15 / size + 1e-13)


def test_a_budget_is_spent_exactly_or_the_answer_is_nan():
    for divergence in DIVERGENCES:
        beta, policy = budgeted(GIVEN, entropy_reward(GIVEN, 0.3), 0.2, divergence=divergence)
        assert divergence(policy, GIVEN.log_p)[0] == pytest.approx(0.2, rel=1e-9)
        assert np.allclose(policy, optimum(GIVEN, entropy_reward(GIVEN, 0.3), beta, divergence=divergence))
    beta, policy = budgeted(GIVEN, GIVEN.correct * 1.0, -math.log(5 / 16) + 0.01)
    assert np.isnan(beta).all() and np.isnan(policy).all()


def test_random_prompts_are_what_they_say_and_the_seed_decides():
    one, two, other = blocks(400, 0), blocks(400, 0), blocks(400, 1)
    assert all(np.array_equal(a.log_p, b.log_p) and np.array_equal(a.correct, b.correct) for a, b in zip(one, two))
    assert not np.array_equal(one[0].log_p, other[0].log_p)
    sizes = np.concatenate([b.exists.sum(1) for b in one])
    right = np.concatenate([b.correct.sum(1) for b in one])
    assert len(sizes) == 400 and sizes.min() == 2 and sizes.max() > 400
    assert right.min() == 1 and np.all(right < sizes) and np.any(right == sizes - 1)
    assert all(not (b.correct & ~b.exists).any() for b in one)
    assert max(abs(np.exp(b.log_p).sum(1) - 1).max() for b in one) < 1e-12


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: prompt([0.5, 0.4], 1), "sum to 1"),
        (lambda: prompt([1.0, 0.0], 1), "> 0"),
        (lambda: prompt([0.5, 0.5], 2), "not all of the 2 outcomes"),
        (lambda: optimum(GIVEN, GIVEN.correct * 1.0, 0.0), "beta > 0"),
        (lambda: optimum(GIVEN, GIVEN.correct * 1.0, 1.0, entropy=-0.1, divergence=FORWARD_KL), "negative gamma"),
        (lambda: Divergence("chi-squared", 2.0), "from 0"),
        (lambda: next(random_prompts(0, 0)), "count >= 1"),
        (lambda: check_claims(0, 0), "at least 1"),
        (lambda: front.solve_frontier(blocks(5)[0], 0.1, 0.1), "one prompt"),
    ],
)
def test_errors_say_what_was_expected(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# Theorem 3.4


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.name)
def test_matched_ds_dominates_and_its_mirror_image_does_not(divergence):
    """The construction that tilts wrong answers and leaves correct ones alone must lose: the code can say no."""
    lost = 0
    for given in blocks(200):
        beta, strength = rules(given, 2)
        target = optimum(given, entropy_reward(given, beta * strength), beta, divergence=divergence)
        worth = measure(given, target, divergence)
        ours = theorem.matched_ds(given, target)
        assert theorem.compare(measure(given, ours, divergence), worth).holds.all()
        assert theorem.stationarity(given, ours, beta * strength, beta, divergence).max() < 1e-8
        assert theorem.stationarity(given, target, beta * strength, beta, divergence).max() > 1e-3
        mirrored = theorem.matched_ds(Prompts(given.log_p, given.exists & ~given.correct), target)
        lost += (~theorem.compare(measure(given, mirrored, divergence), worth).holds).sum()
    assert lost > 50


def constant_rival(given, strength, reward):
    """The DS optimum with this tilt, and a constant that gives correct answers ``reward`` in all."""
    power = np.where(given.correct, (1 - strength)[:, None], 1.0)
    values = np.where(given.exists, power * np.where(given.exists, given.log_p, 0.0) + reward * given.correct, -np.inf)
    return measure(given, values - logsumexp(values)[:, None])


def test_the_whole_budget_buys_the_most_correct_optimum_of_its_tilt():
    for given in blocks(60):
        beta, strength = rules(given, 3)
        target = measure(given, optimum(given, entropy_reward(given, beta * strength), beta))
        ours = theorem.at_budget(given, target.divergence, 1 - strength, rule="ds", least=target.log_odds)
        assert theorem.compare(measure(given, ours.log_pi), target).holds.all()
        assert (ours.centred > -1e-9).all()
        spent = measure(given, ours.log_pi)
        binds = (
            constant_rival(given, strength, 2000.0).divergence > target.divergence
        )  # else any C below 1 is within it
        assert binds.sum() > 0.3 * len(binds)
        for reward in np.linspace(-20, 20, 81):
            rival = constant_rival(given, strength, reward)
            fits = rival.divergence <= target.divergence * (1 - 1e-9)
            assert not (binds & fits & (rival.log_correct > spent.log_correct + 1e-9)).any()


def test_without_a_constant_no_ds_is_as_diverse_below_the_floor():
    """Brute force over gamma_p, gamma_n >= 0 and beta > 0 on the counterexample that the claim prints."""
    given, beta = prompt([1 / 4, 1 / 2, 1 / 4], 2), 1 / math.log(1.1)
    target = measure(given, optimum(given, entropy_reward(given, beta / 2), beta))
    floor = theorem.literal_floor(given, np.array([0.5]))[0]
    assert target.divergence[0] < 0.5 * floor
    grid = np.meshgrid([0.0, 0.05, 0.5], np.linspace(0, 2, 81), np.exp(np.linspace(-2, 12, 141)))
    lower, tilt, b = (values.ravel() for values in grid)
    many = Prompts(np.repeat(given.log_p, len(b), 0), np.repeat(given.correct, len(b), 0))
    rival = measure(many, optimum(many, ds_reward(many, tilt * b, lower * b), b))
    least = rival.divergence[rival.diversity >= target.diversity[0] - 1e-12].min()
    assert floor - 1e-12 <= least < floor * 1.05
    shifted = optimum(given, ds_reward(given, beta / 2, constant=np.array([-1.0])), beta)  # a constant reaches below
    assert measure(given, shifted).divergence[0] < floor


def test_the_reward_form_misses_what_the_policy_form_reaches_for_the_forward_kl_only():
    given = prompt([0.1, 0.2, 0.6, 0.1], 3)
    for divergence, gap in ((FORWARD_KL, 7.8e-4), (REVERSE_KL, 0.0)):
        target = optimum(given, given.correct * 1.0, 0.5, divergence=divergence, entropy=0.5)
        assert reward_form_gap(given, target, divergence) == pytest.approx(gap, abs=2e-5)


def test_improving_on_vanilla_at_equal_beta_and_at_equal_budget():
    for given in blocks(100):
        beta, strength = rules(given, 4)
        several = given.correct.sum(1) > 1
        at_beta = theorem.improves_both(given, beta, 1 - strength, equal="beta")
        assert (at_beta.correctness > -1e-12).all() and (at_beta.diversity > -1e-12).all()
        assert (at_beta.budget[several] < 0).mean() > 0.9
        fits = theorem.improves_both(given, beta, 1 - strength, equal="budget")
        assert (fits.correctness[~np.isnan(fits.correctness)] < 1e-9).all()
        centred = theorem.centred_ds(given, beta, 1 - strength)
        q = np.where(given.correct, centred - logsumexp(centred, given.correct)[:, None], -np.inf)
        base = np.where(given.correct, given.log_p - logsumexp(given.log_p, given.correct)[:, None], -np.inf)
        vanilla = measure(given, optimum(given, given.correct * 1.0, beta)).log_odds
        assert measure(given, centred).log_odds == pytest.approx(vanilla - REVERSE_KL(q, base), rel=1e-9, abs=1e-9)
        own_mean = (np.exp(q) * np.where(given.correct, given.log_p, 0.0)).sum(1)
        term = np.where(given.correct, 1 - (beta * strength)[:, None] * (given.log_p - own_mean[:, None]), 0.0)
        again = optimum(given, term, beta)
        assert np.exp(again) == pytest.approx(np.exp(centred), abs=1e-9)


# frontier


def test_frontier_is_what_the_solver_finds_and_its_ends_are_known():
    random = np.random.default_rng(0)
    for given in list(small_prompts(8, 5)):
        kappa = random.uniform(0.05, 0.5)
        correct, diversity = front.frontier(given, kappa, np.array([1.0, 0.8]))
        _, vanilla = budgeted(given, given.correct * 1.0, kappa)
        if not np.isnan(vanilla).any():
            assert correct[0, 0] == pytest.approx(measure(given, vanilla).correctness[0], abs=1e-9)
        if not np.isnan(correct[0, 1]):
            assert front.solve_frontier(given, kappa, diversity[0, 1]) == pytest.approx(correct[0, 1], abs=1e-6)
            again = front.correctness_on_frontier(given, np.array([kappa]), diversity[:, 1])
            assert np.exp(again[0]) == pytest.approx(correct[0, 1], abs=1e-9)
    assert np.isnan(front.exponent_for(GIVEN, np.array([0.7]))).all()  # above log 2


def test_random_policies_are_never_beyond_the_frontier():
    random = np.random.default_rng(1)
    many = Prompts(np.repeat(GIVEN.log_p, 2000, 0), np.repeat(GIVEN.correct, 2000, 0))
    policy = np.log(random.dirichlet([0.7] * 4, size=2000))
    assert np.nanmin(front.distance(many, measure(many, policy))) > -1e-9


def test_a_claim_that_nothing_refutes_is_not_as_expected():
    """NaN is an instance with nothing to offer: where a claim should fail, it is no proof that it does."""
    for expected in (NOT, FAIL):
        assert claim("x", "s", [np.nan], "n", expected=expected).verdict != expected
        assert claim("x", "s", [np.nan, -1.0], "n", expected=expected).verdict == expected
    assert claim("x", "s", [np.nan], "n").verdict == FAIL and claim("x", "s", [0.0], "n", expected=NOT).verdict == PASS
