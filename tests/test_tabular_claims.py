"""The laboratory's verdicts: as the project states them, refuted by their counterexamples, red when something is broken; the command."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context

from differential_smoothing import cli
from differential_smoothing.tabular import biases, claims, dynamics, figures, oracle, population, theorem
from differential_smoothing.tabular.claims import frontier as frontier_claims
from differential_smoothing.tabular.claims import gamma_n as gamma_n_claims
from differential_smoothing.tabular.claims import oracle as oracle_claims
from differential_smoothing.tabular.claims import penalty as penalty_claims
from differential_smoothing.tabular.claims import population as population_claims
from differential_smoothing.tabular.claims import rules as rule_claims
from differential_smoothing.tabular.claims import steps as step_claims
from differential_smoothing.tabular.claims import theorem as theorem_claims
from differential_smoothing.tabular.claims import training as training_claims
from differential_smoothing.tabular.claims.verdict import FAIL, NOT, PASS, Case
from differential_smoothing.tabular.closed_form import Prompts, ds_reward, prompt, random_prompts
from differential_smoothing.tabular.divergences import REVERSE_KL
from differential_smoothing.tabular.figures.style import STYLE


def blocks(count=300, seed=0):
    return list(random_prompts(count, seed))


def rules(prompts, seed):
    random = np.random.default_rng(seed)
    return 10 ** random.uniform(-1, 1, len(prompts.log_p)), random.uniform(0.05, 0.95, len(prompts.log_p))


@pytest.fixture(scope="module")
def checked():
    return claims.check_claims(60, 1)


@pytest.mark.parametrize(("instances", "seed"), [(3, 0), (1, 7)])
def test_few_instances_still_hold_every_counterexample(instances, seed):
    assert [(c.name, c.verdict) for c in claims.check_claims(instances, seed) if c.verdict != c.expected] == []


@pytest.mark.parametrize(
    "refuted",
    [
        frontier_claims.bonus_dominates,
        rule_claims.gamma_n,
        rule_claims.entropy_at_budget,
        theorem_claims.literal,
        step_claims.every_answer,
        lambda none: rule_claims.improves(none, "centred"),
        lambda none: rule_claims.improves(none, "budget"),
        lambda none: step_claims.reinforcement(none, 2, NOT),
        lambda none: step_claims.rate(none, "gamma_p restores"),
        lambda none: step_claims.rate(none, "gamma_n restores"),
        gamma_n_claims.raises_correctness,
        lambda none: oracle_claims.several_tokens(0, 0),
        lambda none: penalty_claims.several_optima(),
        lambda none: penalty_claims.local_maximum(),
        lambda none: penalty_claims.point_mass(),
        lambda none: population_claims.shared_pass_at_k(population_claims.people(1, 0)),
        lambda none: population_claims.equal_pass_at_1(population_claims.people(1, 0)),
    ],
)
def test_the_stated_counterexample_alone_refutes(refuted):
    claim = refuted([])
    assert claim.verdict == claim.expected != PASS and claim.margin < 0 and "ounterexample" in claim.note


def test_gamma_p_above_beta_can_cost_diversity():
    given, one = prompt([2 / 5, 1 / 10, 1 / 2], 2), np.ones(1)
    above = theorem.improves_both(given, one, -2 * one, equal="beta")
    assert above.correctness > 0 and above.diversity == pytest.approx(-0.2767, abs=1e-4)


def test_every_claim_has_the_verdict_that_the_project_states(checked):
    assert [(c.name, c.verdict) for c in checked if c.verdict != c.expected] == []
    assert len({c.name for c in checked}) == len(checked)
    assert {c.verdict for c in checked} == {PASS, FAIL, NOT}
    assert all(c.held == 1 for c in checked if c.verdict == PASS)
    assert all(c.held < 1 for c in checked if c.verdict != PASS)


def test_a_broken_construction_turns_a_claim_red(monkeypatch):
    """DS that tilts the wrong answers instead: the theorem's claim fails and so says the verdict."""
    cases = [Case(given, *rules(given, 6)) for given in blocks(60)]
    assert theorem_claims.bonus(cases, REVERSE_KL, "reward").verdict == PASS
    assert theorem_claims.whole_budget(cases).verdict == PASS
    honest = theorem.matched_ds
    monkeypatch.setattr(
        theorem, "matched_ds", lambda p, pi, **k: honest(Prompts(p.log_p, p.exists & ~p.correct), pi, **k)
    )
    assert theorem_claims.bonus(cases, REVERSE_KL, "reward").verdict == FAIL


@pytest.mark.slow
def test_ten_thousand_instances():
    assert [c.name for c in claims.check_claims(10_000, 0) if c.verdict != c.expected] == []


def test_the_command_writes_everything_and_the_seed_decides(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dsmooth", "tabular", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr()

    status, said = run("--instances", 20, "--output", tmp_path / "a")
    assert status == 0, said.err
    assert "does not extend" in said.out and "worst margin" in said.out
    frame = pd.read_csv(tmp_path / "a" / "claims.csv")
    assert set(frame["seed"]) == {0} and {"verdict", "margin", "held", "note"} <= set(frame)
    assert status == int((frame["verdict"] != frame["expected"]).any())
    page = (tmp_path / "a" / "section.html").read_text()
    assert page.count("<svg") == 6 and "<script" not in page and 'src="' not in page
    for name in ("frontier", "biases", "map", "dynamics", "modes", "collapse"):
        assert (tmp_path / "a" / f"{name}.png").stat().st_size > 5000
        assert f"{name}-" in page
    with rc_context(STYLE):
        again = figures.FIGURES["biases"][0](0)
        again.savefig(tmp_path / "again.svg", dpi=200, metadata={"Date": None})
    assert (tmp_path / "again.svg").read_text() == (tmp_path / "a" / "biases.svg").read_text()
    status, said = run("--instances", 0)
    assert status == 2 and "--instances" in said.err
    status, said = run("--output", tmp_path / "a" / "claims.csv")
    assert status == 2 and "must be a folder that can be written" in said.err


def test_without_matplotlib_the_verdicts_come_all_the_same(tmp_path):
    """In a process where matplotlib cannot be found, as after an install without the extra."""
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'matplotlib' else find(name, *a)\n"
        "sys.modules['matplotlib'] = None\n"
        f"sys.argv = ['dsmooth', 'tabular', '--instances', '3', '--output', {str(tmp_path)!r}]\n"
        "from differential_smoothing.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verdicts = pd.read_csv(tmp_path / "claims.csv")
    assert (verdicts["verdict"] == verdicts["expected"]).all() and len(verdicts) == done.stdout.count("worst margin")
    assert "matplotlib, which is not installed (pip install 'differential-smoothing[plot]')" in done.stderr
    assert sorted(f.name for f in tmp_path.iterdir()) == ["claims.csv", "section.html"]
    assert "<svg" not in (tmp_path / "section.html").read_text()


# each new claim goes red when what it is about is broken


def test_vanilla_rl_does_not_dominate_a_bonus(monkeypatch):
    """The penalty's construction is the wrong one against a bonus: the same code says so."""
    cases = [Case(given, *rules(given, 6)) for given in blocks(60)]
    honest = penalty_claims.optimum
    assert penalty_claims.theorem_penalty(cases, REVERSE_KL, 0).verdict == PASS
    monkeypatch.setattr(penalty_claims, "optimum", lambda p, r, b, entropy: honest(p, r, b, entropy=-entropy))
    assert penalty_claims.theorem_penalty(cases, REVERSE_KL, 0).verdict == FAIL


def test_a_search_that_stops_at_the_second_best_is_seen_by_the_solver(monkeypatch):
    small, honest = list(frontier_claims.small_prompts(12, 4)), penalty_claims.penalty_maxima
    assert penalty_claims.solver(small, 0).verdict == PASS
    monkeypatch.setattr(
        penalty_claims, "penalty_maxima", lambda *a: tuple(part[-1:] for part in honest(*a, every=True))
    )
    assert penalty_claims.solver(small, 0).verdict == FAIL


def test_vanilla_rl_at_a_given_pass_at_1_is_found_as_by_bisection():
    random = np.random.default_rng(0)
    member, rho = np.repeat([0, 1, 2], 4), random.uniform(0.01, 0.9, 12)
    given = Prompts(np.log(np.column_stack([rho, 1 - rho])), np.tile([True, False], (12, 1)))
    wanted = np.array([0.2, 0.5, 0.95])
    found = 1 - np.exp(population.tilted_to(given, wanted, member))
    for number, target in enumerate(wanted):
        mine, low, high = rho[member == number], -50.0, 50.0
        for _ in range(200):
            tilt = (low + high) / 2
            odds = mine / (1 - mine) * np.exp(tilt)
            low, high = (tilt, high) if (odds / (1 + odds)).mean() < target else (low, tilt)
        assert np.allclose(found[member == number], odds / (1 + odds), atol=1e-12)


def test_a_larger_budget_would_beat_vanilla_rl(monkeypatch):
    crowd = population_claims.people(20, 0)
    assert population_claims.shared_pass_at_1(crowd).verdict == PASS
    assert population_claims.own_budget(crowd).verdict == PASS
    honest = population_claims.spent
    monkeypatch.setattr(population_claims, "spent", lambda *a: 1.5 * honest(*a))
    assert population_claims.shared_pass_at_1(crowd).verdict == FAIL
    budgeted = population_claims.budgeted
    monkeypatch.setattr(population_claims, "budgeted", lambda p, r, kappa: budgeted(p, r, 1.5 * kappa))
    assert population_claims.own_budget(crowd).verdict == FAIL


def test_a_gamma_p_of_the_other_sign_loses_at_equal_beta(monkeypatch):
    crowd = population_claims.people(20, 0)
    assert population_claims.equal_beta(crowd).verdict == PASS
    monkeypatch.setattr(population_claims, "ds_reward", lambda prompts, gamma: ds_reward(prompts, -gamma))
    assert population_claims.equal_beta(crowd).verdict == FAIL


def test_a_gamma_n_that_gains_twice_as_much_would_be_cheaper(monkeypatch):
    cases, honest = [Case(given, *rules(given, 6)) for given in blocks(60)], biases.correctness_rates
    assert gamma_n_claims.price(cases).verdict == gamma_n_claims.at_equal_beta(cases).verdict == PASS
    monkeypatch.setattr(biases, "correctness_rates", lambda *a: (honest(*a)[0], 2 * honest(*a)[1]))
    assert gamma_n_claims.price(cases).verdict == FAIL


@pytest.mark.parametrize(("p", "right", "size"), [([1 / 10, 1 / 10, 8 / 10], 1, 2), ([6 / 10, 2 / 10, 2 / 10], 1, 8)])
def test_gamma_n_adds_noise_where_the_claim_does_not_reach(p, right, size):
    """Wrong answers that differ, or C above 1/2."""
    signal = [gamma_n_claims.signal(prompt(p, right), gamma, size) for gamma in (0.0, 1.0)]
    assert signal[1] < signal[0] - 0.1


@pytest.mark.parametrize(("off", "verdict"), [(2.0, PASS), (12.0, FAIL)])
def test_the_joint_bound_of_sampling_fails_beyond_its_quantile(monkeypatch, off, verdict):
    honest = oracle.sampled_gradient

    def moved(*arguments, **options):
        mean, error = honest(*arguments, **options)
        return mean + off * error * (np.arange(mean.size).reshape(mean.shape) == 0), error

    monkeypatch.setattr(oracle, "sampled_gradient", moved)
    assert oracle_claims.gradients(0).verdict == verdict


def test_sampled_runs_of_another_gamma_do_not_follow(monkeypatch):
    honest = dynamics.closed_form
    monkeypatch.setattr(training_claims, "GROUPS", (4, 256))
    monkeypatch.setattr(dynamics, "closed_form", lambda *a, gamma_p, **k: honest(*a, gamma_p=-gamma_p, **k))
    assert training_claims.sampled_runs(0).verdict == FAIL


def test_the_normalised_variance_is_that_of_numpy():
    from differential_smoothing.tabular.closed_form import normalised_variance, prompt

    given = prompt([0.1, 0.2, 0.3, 0.4], 3)
    q = np.array([0.1, 0.2, 0.3]) / 0.6
    assert normalised_variance(given, np.log([[0.1, 0.2, 0.3, 0.4]]))[0] == pytest.approx(q.var() / q.mean() ** 2)


def test_sigma_and_the_entropy_can_disagree():
    from differential_smoothing.tabular.claims import sigma

    found = sigma.order(0)
    assert found.verdict == NOT and found.margin < 0 and found.held > 0.5
