"""The list of claims: what ``dsmooth tabular`` checks, in which order, on which instances (see ``verdict``).

Each subject has its file: ``theorem``, ``penalty``, ``frontier``, ``rules``, ``population``, ``sigma`` are about optima,
``steps``, ``gamma_n``, ``oracle`` and ``training`` about training, ``collapse`` and ``controller`` about where it
comes to rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from differential_smoothing.tabular.claims import (
    collapse,
    controller,
    frontier,
    gamma_n,
    oracle,
    penalty,
    population,
    rules,
    sigma,
    steps,
    theorem,
    training,
)
from differential_smoothing.tabular.claims.verdict import NOT, PASS, Case, Claim
from differential_smoothing.tabular.closed_form import Prompts, random_prompts
from differential_smoothing.tabular.divergences import DIVERGENCES

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
    crowd = population.people(min(200, instances), seed)
    small = list(frontier.small_prompts(min(200, instances), seed))
    jobs: list[tuple[str, Callable[[], Claim]]] = []
    for divergence in DIVERGENCES:
        for form in ("reward", "entropy"):
            jobs.append((f"Theorem 3.4, bonus, {form} form", lambda d=divergence, f=form: theorem.bonus(cases, d, f)))
        jobs.append(("Theorem 3.4, penalty", lambda d=divergence: theorem.penalty(cases, d)))
        jobs.append(
            ("Theorem 3.4, penalty, entropy form", lambda d=divergence: penalty.theorem_penalty(cases, d, seed))
        )
    jobs += [
        ("Theorem 3.4, bonus, by sigma", lambda: sigma.theorem_3_4(cases)),
        ("DS improves both, equal beta, by sigma", lambda: sigma.equal_beta(cases)),
        ("Sigma orders as the entropy", lambda: sigma.order(seed)),
        ("Theorem 3.4, whole budget", lambda: theorem.whole_budget(cases)),
        ("Theorem 3.4, no constant", lambda: theorem.literal(cases)),
        ("Theorem 3.4, mixed forms", theorem.mixed_forms),
        ("The penalty against a solver", lambda: penalty.solver(small[:30], seed)),
        ("Theorem 3.4, several optima", penalty.several_optima),
        ("Theorem 3.4, local maxima", penalty.local_maximum),
        ("Theorem 3.4, gamma >= beta", penalty.point_mass),
        ("A bonus dominates DS", lambda: frontier.bonus_dominates(cases)),
        ("Optima against a solver", lambda: frontier.solver_optima(small, seed)),
        ("Frontier against a solver", lambda: frontier.solver_frontier(small, seed)),
        ("Nothing beyond the frontier", lambda: frontier.nothing_beyond(_every(3, cases))),
        ("gamma_n at equal budget", lambda: rules.gamma_n(cases)),
        ("DS improves both, equal beta", lambda: rules.improves(cases, "beta")),
        ("DS improves both, equal beta, centred", lambda: rules.improves(cases, "centred")),
        ("DS improves both, equal budget", lambda: rules.improves(cases, "budget")),
        ("A bonus or a penalty helps", lambda: rules.bonus_helps(cases)),
        ("A bonus or penalty, equal budget", lambda: rules.entropy_at_budget(cases)),
        ("Selection bias", lambda: steps.selection(cases)),
        ("Reinforcement bias, G = 8", lambda: steps.reinforcement(cases, 8, PASS)),
        ("Reinforcement bias, G = 2", lambda: steps.reinforcement(cases, 2, NOT)),
        ("GRPO helps every correct answer", lambda: steps.every_answer(cases)),
        *[(name, lambda n=name: steps.rate(cases, n)) for name in steps.RATES],
        ("gamma_n at equal beta", lambda: gamma_n.at_equal_beta(cases)),
        ("gamma_n raises correctness", lambda: gamma_n.raises_correctness(cases)),
        ("The price of gamma_n", lambda: gamma_n.price(cases)),
        ("gamma_n lowers the noise", gamma_n.noise),
        ("Pass@k, equal beta", lambda: population.equal_beta(crowd)),
        ("Pass@k, own budget", lambda: population.own_budget(crowd)),
        ("Pass@k, same Pass@1", lambda: population.equal_pass_at_1(crowd)),
        ("Pass@1, shared budget", lambda: population.shared_pass_at_1(crowd)),
        ("Pass@k, shared budget", lambda: population.shared_pass_at_k(crowd)),
        ("GRPO collapses, several tokens", lambda: oracle.several_tokens(min(200, instances), seed)),
        ("Four ways to one gradient", lambda: oracle.gradients(seed)),
        ("Sampled and expected training", lambda: training.sampled_runs(seed)),
        ("DS improves both, part shared", lambda: training.trained(0.99)),
        ("DS improves both, all shared", lambda: training.trained(1.0)),
        ("The critical strength", collapse.critical),
        ("The critical strength of several tokens", collapse.node),
        ("Above it spreads, below it collapses", collapse.attracts),
        ("Sampled training finds it", lambda: collapse.sampled(seed)),
        ("Large steps need more strength", lambda: collapse.noise(seed)),
        ("The published term holds", collapse.published_sharpens),
        ("A relative strength holds", collapse.relative_holds),
        ("Branches of unequal success", collapse.unequal),
        ("What is certain stays", collapse.certain_stays),
        ("The way back", collapse.escape),
        ("The race", collapse.race),
        ("A decay collapses", collapse.decay),
        ("Variety from logs", controller.measured),
        ("Controller and closed form", controller.rests),
        ("A variety target is held", controller.holds),
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
