"""Margins are judged by how far rounding may have moved them: a bound from the magnitudes, checked with 60 digits."""

import mpmath
import numpy as np
import pytest

from differential_smoothing.tabular import theorem
from differential_smoothing.tabular.claims import theorem as theorem_claims
from differential_smoothing.tabular.claims.verdict import FAIL, PASS, Case, claim
from differential_smoothing.tabular.closed_form import (
    Prompts,
    entropy_reward,
    measure,
    optimum,
    random_prompts,
    rounding,
)
from differential_smoothing.tabular.divergences import DIVERGENCES


def instances(count: int, seed: int, most: int = 12) -> list[Case]:
    """As ``check_claims`` draws them, each prompt by itself."""
    random, cases = np.random.default_rng([seed, 1]), []
    for block in random_prompts(count, seed, most=most):
        for row, size in enumerate(block.exists.sum(1)):
            given = Prompts(block.log_p[row : row + 1, :size], block.correct[row : row + 1, :size])
            cases.append(Case(given, 10 ** random.uniform(-2, 2, 1), 10 ** random.uniform(-3, 0.5, 1)))
    return cases


def exact(case: Case) -> tuple:
    """log C, log W, the diversity and the reverse KL of a bonus's optimum, from its formula, in 60 digits."""
    number = mpmath.mpf
    with mpmath.workdps(60):
        log_p = [number(float(x)) for x in case.prompts.log_p[0]]
        right = case.prompts.correct[0]
        beta, strength = number(float(case.beta[0])), number(float(case.strength[0]))
        tilted = [x - strength * x + (1 / beta if r else 0) for x, r in zip(log_p, right)]
        top = max(tilted)
        whole = top + mpmath.log(sum(mpmath.exp(t - top) for t in tilted))
        log_pi = [t - whole for t in tilted]
        log_c, log_w = (
            mpmath.log(sum(mpmath.exp(x) for x, r in zip(log_pi, right) if r == side)) for side in (True, False)
        )
        q = [x - log_c for x, r in zip(log_pi, right) if r]
        diversity = -sum(mpmath.exp(x) * x for x in q)
        # as the code: sum p f(x), which does not ask that p sums to 1
        spent = sum(mpmath.exp(x) * (x - y) - mpmath.exp(x) + mpmath.exp(y) for x, y in zip(log_pi, log_p))
        return log_c, log_w, diversity, spent


def test_the_bound_holds_and_is_no_blanket():
    """No number is further from the exact one than its bound; and the bounds follow the numbers' own conditioning."""
    used, bounds = [], []
    for case in instances(300, 3):
        log_pi = optimum(case.prompts, entropy_reward(case.prompts, case.beta * case.strength), case.beta)
        found, allowed = measure(case.prompts, log_pi), rounding(case.prompts, log_pi)
        for value, bound, right in zip(found, allowed, exact(case), strict=True):
            with mpmath.workdps(60):
                off = float(abs(mpmath.mpf(float(value[0])) - right))
            assert off <= bound[0], (case, value, bound)
            used.append(off / bound[0])
        bounds.append([b[0] for b in allowed])
    bounds = np.array(bounds)
    assert np.quantile(used, 0.9) > 1e-4  # not far from what rounding does
    assert np.median(bounds) < 1e-13 and bounds[:, 3].max() > 1e4 * bounds[:, 3].min()


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.name)
def test_the_bound_of_a_divergence_follows_its_scale(divergence):
    """Far below 1e-9: a budget that is wrong by a millionth is never within it."""
    for case in instances(60, 5):
        log_pi = optimum(
            case.prompts, entropy_reward(case.prompts, case.beta * case.strength), case.beta, divergence=divergence
        )
        bound = rounding(case.prompts, log_pi, divergence).divergence[0]
        assert 0 < bound < 1e-6 * divergence(log_pi, case.prompts.log_p)[0] + 1e-20


def ill_conditioned() -> Case:
    """One wrong answer of probability e^-178, a weak tilt: K = 3e-5 is a sum of differences of log-probabilities up to 200."""
    log_p = np.array([-0.0915, -2.44, -9.0, -13.3, -28.1, -59.1, -104.0, -203.6, -178.6])
    log_p -= np.log(np.exp(log_p).sum())
    return Case(Prompts(log_p[None], np.arange(9)[None] < 8), np.array([0.0223]), np.array([0.0114]))


def test_the_tilt_of_the_bonus_is_found_at_its_own_budget():
    """The cheapest DS policy of the bonus's tilt is the bonus's own optimum: its K is the budget, computed another way."""
    cases = [ill_conditioned()]
    for strength in np.linspace(0.001, 0.05, 400):
        cases.append(cases[0]._replace(strength=np.array([strength])))
    found = theorem_claims.whole_budget(cases)
    assert found.verdict == PASS and found.held == 1 and not found.note.startswith("no margin")


def test_a_budget_below_the_cheapest_is_still_refused():
    """A thousandth less than the tilt costs: no optimum, as it must be."""
    case = ill_conditioned()
    target = measure(
        case.prompts, optimum(case.prompts, entropy_reward(case.prompts, case.beta * case.strength), case.beta)
    )
    for share, there in ((1.0, True), (0.999, False), (1 - 1e-9, False)):
        ours = theorem.at_budget(case.prompts, share * target.divergence, 1 - case.strength, rule="ds")
        assert np.isfinite(ours.reward[0]) == there


def test_an_error_above_rounding_is_a_refutation(monkeypatch):
    """The whole-budget policy made less correct by 1e-10 in log C, which a blanket of 1e-9 would let pass."""
    cases, honest = instances(50, 2), theorem.at_budget
    assert theorem_claims.whole_budget(cases).verdict == PASS

    def worse(prompts, *args, **options):
        found = honest(prompts, *args, **options)
        return found._replace(log_pi=found.log_pi - 1e-10 * prompts.correct)

    monkeypatch.setattr(theorem, "at_budget", worse)
    assert theorem_claims.whole_budget(cases).verdict == FAIL


def test_one_tolerance_per_margin_and_none_for_nothing():
    assert claim("n", "s", [-1e-12, 0.0], "", tolerance=np.array([1e-11, 0.0])).verdict == PASS
    assert claim("n", "s", [-1e-12, -1e-12], "", tolerance=np.array([1e-11, 0.0])).verdict == FAIL
    missing = claim("n", "s", [np.nan, 1.0], "note", tolerance=np.array([np.nan, 0.0]))
    assert (
        missing.verdict == FAIL
        and missing.note.startswith("no margin on 1 of 2")
        and missing.held == 0.5
        and missing.margin == 1.0
    )
