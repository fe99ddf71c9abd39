"""The list of claims: what ``dsmooth tabular`` checks, in which order, on which instances (see ``verdict``).

Each subject has its file: ``theorem_claims``, ``penalty_claims``, ``frontier_claims``, ``rule_claims``, ``population_claims`` are about optima,
``step_claims``, ``gamma_n_claims``, ``oracle_claims`` and ``training_claims`` about training, ``collapse_claims`` and ``controller_claims`` about where it
comes to rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from differential_smoothing.tabular import (
    collapse_claims,
    controller_claims,
    frontier_claims,
    gamma_n_claims,
    oracle_claims,
    penalty_claims,
    population_claims,
    rule_claims,
    step_claims,
    theorem_claims,
    training_claims,
)
from differential_smoothing.tabular.closed_form import Prompts, random_prompts
from differential_smoothing.tabular.divergences import DIVERGENCES
from differential_smoothing.tabular.verdict import NOT, PASS, Case, Claim

__all__ = ["check_claims"]
Progress = Callable[[str, int, int], None]


def check_claims(instances: int, seed: int, on_progress: Progress | None = None) -> list[Claim]:
    """Every claim on ``instances`` random prompts (fewer where each is costly), all decided by ``seed``.

    Claims that do not extend hold their stated counterexample too, and the training claims have their own fixed population, so
    that verdicts do not hang on the seed.

    beta is log-uniform from 0.01 to 100, gamma / beta from 0.001 to 3. ``on_progress(claim, done, total)`` is called before each.
    """
    if instances < 1:
        raise ValueError(f"instances must be at least 1, got {instances}.")
    random = np.random.default_rng([seed, 1])
    cases = []
    for prompts in random_prompts(instances, seed):
        count = len(prompts.log_p)
        cases.append(Case(prompts, 10 ** random.uniform(-2, 2, count), 10 ** random.uniform(-3, 0.5, count)))
    crowd = population_claims.people(min(200, instances), seed)
    small = list(frontier_claims.small_prompts(min(200, instances), seed))
    jobs: list[tuple[str, Callable[[], Claim]]] = []
    for divergence in DIVERGENCES:
        for form in ("reward", "entropy"):
            jobs.append(
                (f"Theorem 3.4, bonus, {form} form", lambda d=divergence, f=form: theorem_claims.bonus(cases, d, f))
            )
        jobs.append(("Theorem 3.4, penalty", lambda d=divergence: theorem_claims.penalty(cases, d)))
        jobs.append(
            ("Theorem 3.4, penalty, entropy form", lambda d=divergence: penalty_claims.theorem_penalty(cases, d, seed))
        )
    jobs += [
        ("Theorem 3.4, whole budget", lambda: theorem_claims.whole_budget(cases)),
        ("Theorem 3.4, no constant", lambda: theorem_claims.literal(cases)),
        ("Theorem 3.4, mixed forms", theorem_claims.mixed_forms),
        ("The penalty against a solver", lambda: penalty_claims.solver(small[:30], seed)),
        ("Theorem 3.4, several optima", penalty_claims.several_optima),
        ("Theorem 3.4, local maxima", penalty_claims.local_maximum),
        ("Theorem 3.4, gamma >= beta", penalty_claims.point_mass),
        ("A bonus dominates DS", lambda: frontier_claims.bonus_dominates(cases)),
        ("Optima against a solver", lambda: frontier_claims.solver_optima(small, seed)),
        ("Frontier against a solver", lambda: frontier_claims.solver_frontier(small, seed)),
        ("Nothing beyond the frontier", lambda: frontier_claims.nothing_beyond(_every(3, cases))),
        ("gamma_n at equal budget", lambda: rule_claims.gamma_n(cases)),
        ("DS improves both, equal beta", lambda: rule_claims.improves(cases, "beta")),
        ("DS improves both, equal beta, centred", lambda: rule_claims.improves(cases, "centred")),
        ("DS improves both, equal budget", lambda: rule_claims.improves(cases, "budget")),
        ("A bonus or a penalty helps", lambda: rule_claims.bonus_helps(cases)),
        ("A bonus or penalty, equal budget", lambda: rule_claims.entropy_at_budget(cases)),
        ("Selection bias", lambda: step_claims.selection(cases)),
        ("Reinforcement bias, G = 8", lambda: step_claims.reinforcement(cases, 8, PASS)),
        ("Reinforcement bias, G = 2", lambda: step_claims.reinforcement(cases, 2, NOT)),
        ("GRPO helps every correct answer", lambda: step_claims.every_answer(cases)),
        *[(name, lambda n=name: step_claims.rate(cases, n)) for name in step_claims.RATES],
        ("gamma_n at equal beta", lambda: gamma_n_claims.at_equal_beta(cases)),
        ("gamma_n raises correctness", lambda: gamma_n_claims.raises_correctness(cases)),
        ("The price of gamma_n", lambda: gamma_n_claims.price(cases)),
        ("gamma_n lowers the noise", gamma_n_claims.noise),
        ("Pass@k, equal beta", lambda: population_claims.equal_beta(crowd)),
        ("Pass@k, own budget", lambda: population_claims.own_budget(crowd)),
        ("Pass@k, same Pass@1", lambda: population_claims.equal_pass_at_1(crowd)),
        ("Pass@1, shared budget", lambda: population_claims.shared_pass_at_1(crowd)),
        ("Pass@k, shared budget", lambda: population_claims.shared_pass_at_k(crowd)),
        ("GRPO collapses, several tokens", lambda: oracle_claims.several_tokens(min(200, instances), seed)),
        ("Four ways to one gradient", lambda: oracle_claims.gradients(seed)),
        ("Sampled and expected training", lambda: training_claims.sampled_runs(seed)),
        ("DS improves both, part shared", lambda: training_claims.trained(0.99)),
        ("DS improves both, all shared", lambda: training_claims.trained(1.0)),
        ("The critical strength", collapse_claims.critical),
        ("The critical strength of several tokens", collapse_claims.node),
        ("Above it spreads, below it collapses", collapse_claims.attracts),
        ("Sampled training finds it", lambda: collapse_claims.sampled(seed)),
        ("Large steps need more strength", lambda: collapse_claims.noise(seed)),
        ("The published term holds", collapse_claims.published_sharpens),
        ("A relative strength holds", collapse_claims.relative_holds),
        ("Branches of unequal success", collapse_claims.unequal),
        ("What is certain stays", collapse_claims.certain_stays),
        ("The way back", collapse_claims.escape),
        ("The race", collapse_claims.race),
        ("A decay collapses", collapse_claims.decay),
        ("Variety from logs", controller_claims.measured),
        ("Controller and closed form", controller_claims.rests),
        ("A variety target is held", controller_claims.holds),
    ]
    claims = []
    for number, (name, job) in enumerate(jobs):
        if on_progress is not None:
            on_progress(name, number, len(jobs))
        claims.append(job())
    if on_progress is not None:
        on_progress("done", len(jobs), len(jobs))
    return claims


def _every(step: int, cases: list[Case]) -> list[Case]:
    """Each ``step``-th prompt of every block: for a claim that costs several optima and a root search for each."""
    return [
        Case(Prompts(c.prompts.log_p[::step], c.prompts.correct[::step]), c.beta[::step], c.strength[::step])
        for c in cases
    ]
