"""The entropy-of-pi penalty and populations: against brute force, a solver and exact rationals."""

import math
from fractions import Fraction

import numpy as np
import pytest

from differential_smoothing.tabular import frontier, theorem
from differential_smoothing.tabular.closed_form import Prompts, ds_reward, measure, optimum, prompt, random_prompts
from differential_smoothing.tabular.divergences import FORWARD_KL, HELLINGER, REVERSE_KL
from differential_smoothing.tabular.penalty import concave, penalty_maxima
from differential_smoothing.tabular.population import mean_over, pass_at_k, shared_budget

BENT = (FORWARD_KL, HELLINGER)


def singles(count, seed, most=8):
    for block in random_prompts(count, seed, most=most):
        for row, size in enumerate(block.exists.sum(1)):
            yield Prompts(block.log_p[row : row + 1, :size], block.correct[row : row + 1, :size])


@pytest.mark.parametrize("divergence", BENT, ids=lambda d: d.name)
def test_two_outcomes_against_every_policy_on_a_grid(divergence):
    """All local maxima of a line, and no other, from 200,000 values of C."""
    c = np.linspace(0, 1, 200_001)[1:-1]
    several = 0
    for p in (0.1, 0.5, 0.83):
        given, log_pi = prompt([p, 1 - p], 1), np.log(np.stack([c, 1 - c], 1))
        for gamma in (0.05, 0.5, 1.5, 4.0):
            value = c + gamma * (np.exp(log_pi) * log_pi).sum(1) - divergence(log_pi, given.log_p)
            peaks = 1 + np.flatnonzero((value[1:-1] > value[:-2]) & (value[1:-1] >= value[2:]))
            found, best = penalty_maxima(given, gamma, 1.0, divergence, every=True)
            assert sorted(np.exp(found[:, 0])) == pytest.approx(c[peaks], abs=2e-5)
            assert value.max() - 1e-12 <= best[0] <= value.max() + 1e-7
            several += len(peaks) > 1
            if concave(given, gamma, 1.0, divergence)[0]:
                assert len(peaks) == 1
    assert several >= 3


@pytest.mark.parametrize("divergence", BENT, ids=lambda d: d.name)
def test_maxima_are_stationary_and_no_policy_is_better(divergence):
    random, bent = np.random.default_rng(0), 0
    for given in singles(40, 3):
        beta = 10 ** random.uniform(-1, 1)
        gamma = beta * 10 ** random.uniform(-1.5, 0.5)
        log_pi, value = penalty_maxima(given, gamma, beta, divergence)
        whole, _ = penalty_maxima(given, gamma, beta, divergence, every=True)
        assert np.abs(np.exp(log_pi).sum(1) - 1).max() < 1e-12
        assert whole[0] == pytest.approx(log_pi[0], abs=1e-6)  # the two pivots do find the global one
        for one in whole:
            slope = given.correct[0] + gamma * one - beta * divergence.slope(one - given.log_p[0])
            assert np.ptp(slope) < 1e-8 * (1 + np.abs(gamma * one).max())
        reward = given.correct * 1.0
        for _ in range(40):
            other = log_pi[:1] + 10 ** random.uniform(-4, 0.7) * random.normal(size=log_pi[:1].shape)
            other -= np.log(np.exp(other).sum())
            assert frontier.objective(given, other, reward, beta, divergence, -gamma) <= value[0] + 1e-12
        bent += len(whole) > 1
        if concave(given, gamma, beta, divergence)[0]:
            assert len(whole) == 1
    assert bent > 3


def test_a_small_penalty_is_nearly_vanilla_rl_and_a_tie_is_broken_both_ways():
    given = prompt([1 / 3, 1 / 3, 1 / 3], 2)
    for divergence in BENT:
        weak, _ = penalty_maxima(given, 1e-9, 1.0, divergence)
        assert weak[0] == pytest.approx(optimum(given, given.correct * 1.0, 1.0, divergence=divergence)[0], abs=1e-7)
    log_pi, value = penalty_maxima(given, 1.0, 1.0, FORWARD_KL, every=True)
    assert len(log_pi) == 2 and value[0] == pytest.approx(value[1], abs=1e-14)
    assert log_pi[0, [1, 0, 2]] == pytest.approx(log_pi[1], abs=1e-9)


def test_vanilla_rl_dominates_global_maxima_and_not_every_local_one():
    given = prompt([1 / 10, 8 / 10, 1 / 10], 2)
    found, _ = penalty_maxima(given, 3.0, 1.0, FORWARD_KL, every=True)
    margins = [
        theorem.compare(
            measure(given, theorem.matched_ds(given, one[None], penalty=True), FORWARD_KL),
            measure(given, one[None], FORWARD_KL),
        ).worst[0]
        for one in found
    ]
    assert margins[0] >= -1e-12 and min(margins) == pytest.approx(-0.0805, abs=1e-4)


def test_from_gamma_beta_on_the_reverse_kl_optimum_is_one_outcome():
    random, given = np.random.default_rng(0), prompt([3 / 10, 2 / 10, 5 / 10], 2)
    corner = float((given.correct[0] + given.log_p[0]).max())  # r + beta log p at beta = gamma = 1
    for pi in random.dirichlet([0.3] * 3, size=200).clip(1e-12):
        assert (
            frontier.objective(given, np.log(pi / pi.sum())[None], given.correct * 1.0, 1.0, REVERSE_KL, -1.0) < corner
        )


# populations


def crowd():
    log_p = np.log([[1 / 2, 1 / 2, 1e-300], [1 / 20, 1 / 20, 18 / 20], [1 / 4, 1 / 4, 1 / 2]])
    log_p[0, 2] = -np.inf
    correct = np.array([[True, False, False], [True, True, False], [True, False, False]])
    return Prompts(log_p, correct), np.array([0, 0, 1])


def test_pass_at_k_is_the_rational_of_the_formula():
    """Vanilla RL with e^(1/beta) = 3: C = 3/4 and 3/12 in the first population, 3/6 in the second."""
    prompts, member = crowd()
    worth = measure(prompts, optimum(prompts, prompts.correct * 1.0, 1 / math.log(3)))
    rates = [Fraction(3, 4), Fraction(3, 12), Fraction(3, 6)]
    for k in (1, 2, 5, 64):
        each = [1 - (1 - rate) ** k for rate in rates]
        assert pass_at_k(worth, member, k) == pytest.approx([float((each[0] + each[1]) / 2), float(each[2])], rel=1e-13)
    with pytest.raises(ValueError, match="k >= 1"):
        pass_at_k(worth, member, 0)


def test_one_beta_spends_the_mean_budget_and_no_policy_within_it_is_more_correct():
    prompts, member = crowd()
    for reward in (prompts.correct * 1.0, ds_reward(prompts, 0.3)):
        beta, log_pi = shared_budget(prompts, reward, np.array([0.1, 0.2]), member)
        assert mean_over(REVERSE_KL(log_pi, prompts.log_p), member) == pytest.approx([0.1, 0.2], rel=1e-10)
        assert np.allclose(log_pi, optimum(prompts, reward, beta[member]), atol=1e-12)
    _, vanilla = shared_budget(prompts, prompts.correct * 1.0, np.array([0.1, 0.2]), member)
    best = pass_at_k(measure(prompts, vanilla), member, 1)
    random, near = np.random.default_rng(0), 0
    for _ in range(4000):
        with np.errstate(invalid="ignore"):
            other = vanilla + 10 ** random.uniform(-3, 0) * random.normal(size=vanilla.shape)
        other -= np.log(np.exp(other).sum(1, keepdims=True))
        within = mean_over(REVERSE_KL(other, prompts.log_p), member) <= [0.1, 0.2]
        rate = pass_at_k(measure(prompts, other), member, 1)
        assert not (within & (rate > best + 1e-12)).any()
        near += (within & (rate > best - 1e-3)).sum()
    assert near > 50


def test_a_budget_that_does_not_bind_is_nan_and_a_wrong_shape_is_said():
    prompts, member = crowd()
    beta, log_pi = shared_budget(prompts, prompts.correct * 1.0, np.array([0.1, 5.0]), member)
    assert beta[0] > 0 and np.isnan(beta[1]) and np.isnan(log_pi[2]).all() and not np.isnan(log_pi[:2]).any()
    with pytest.raises(ValueError, match="one kappa for each population"):
        shared_budget(prompts, prompts.correct * 1.0, np.array([0.1]), member)


@pytest.mark.parametrize(
    "call",
    [
        lambda given: penalty_maxima(given, 1.0, 1.0, REVERSE_KL),
        lambda given: penalty_maxima(given, 0.0, 1.0, FORWARD_KL),
        lambda given: penalty_maxima(crowd()[0], 1.0, 1.0, FORWARD_KL),
    ],
)
def test_what_the_search_cannot_take_is_said(call):
    with pytest.raises(ValueError, match="one prompt without padding, gamma > 0, beta > 0"):
        call(prompt([0.5, 0.5], 1))
