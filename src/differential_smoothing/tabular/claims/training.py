"""The claims about whole training runs of a population: what rules end with, and whether sampled runs follow the expected one."""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular import dynamics, oracle
from differential_smoothing.tabular.claims.verdict import NOT, PASS, Claim, claim

__all__ = ["sampled_runs", "trained"]

RUNS = 20
GROUPS = (4, 32, 256)


def sampled_runs(seed: int) -> Claim:
    """Sampled training against expected training, for DS with groups of 4 and more and more of them."""
    people = dynamics.population(2, 5, solutions=2, sharpness=1.0, noise=0.5, seed=0)
    options = {"gamma_p": 0.2, "level": "sum"}
    kind = dict(steps=16, lr=0.5, coupling=0.5, records=4, ks=(1, 4))
    exact = _path(dynamics.train(people, dynamics.closed_form(people, 4, **options), **kind))
    far, inside = [], []
    for groups in GROUPS:
        runs = np.array(
            [
                _path(
                    dynamics.train(
                        people,
                        dynamics.sampled(people, 4, oracle.ds_grpo(**options), groups=groups, seed=1000 * seed + run),
                        **kind,
                    )
                )
                for run in range(RUNS)
            ]
        )
        far.append(float(np.sqrt(np.mean((runs - exact) ** 2))))
        inside.append(np.minimum(exact - runs.min(0), runs.max(0) - exact) / runs.std(0))
    points = exact.size
    # The law is far ~ groups^(-1/2). Each squared distance is a mean of 20 runs: a third of the law's factor or less would be a variance
    # ratio below 1/9 of F(20, 20), whose chance is below 1e-5.
    law = far[0] / far[-1] / np.sqrt(GROUPS[-1] / GROUPS[0])
    return claim(
        "Sampled training follows the expectation",
        f"The range of {RUNS} sampled runs holds the expected path of Pass@1, Pass@4, diversity and entropy at every recorded step, and the distance falls as "
        "groups^(-1/2), by at least a third of that law's factor",
        [*inside[-1].ravel(), law - 1 / 3],
        f"in standard deviations of a run; {points} points, {GROUPS[-1]} groups per prompt and step. Were the expected path the runs' median, all {points} would hold but for a "
        f"chance of {points * 2.0 ** (1 - RUNS):.0e}. Root mean square distance with {', '.join(map(str, GROUPS))} groups: {', '.join(f'{x:.4f}' for x in far)}, "
        f"{law:.2f} of the law's factor {np.sqrt(GROUPS[-1] / GROUPS[0]):.0f}",
        tolerance=0.0,
    )


def _path(run: dynamics.History) -> np.ndarray:
    """(recorded steps after the first, 4)."""
    return np.column_stack([run.pass_at_k, run.diversity, run.entropy])[1:]


def trained(coupling: float) -> Claim:
    """A fixed population: one training run is one outcome, which must not turn a verdict with the seed of the other claims."""
    people = dynamics.population(64, 40, solutions=6, sharpness=0.7, noise=1.5, seed=0)
    (one, many), (fast_one, fast_many), (our_one, our_many) = (
        dynamics.train(
            people, dynamics.closed_form(people, 8, gamma_p=g), steps=600, lr=lr, coupling=coupling, records=1
        ).pass_at_k[-1]
        for g, lr in ((0.0, 2.0), (0.0, 3.0), (0.3, 2.0))
    )
    bonus, penalty = (
        dynamics.train(
            people,
            dynamics.with_entropy(people, dynamics.closed_form(people, 8), weight),
            steps=600,
            lr=2.0,
            coupling=coupling,
            records=1,
        ).pass_at_k[-1]
        for weight in (0.1, -0.1)
    )
    words = (
        f"one population, same steps: GRPO {one:.1%} / {many:.1%}, DS (gamma_p = 0.3, as published) {our_one:.1%} / {our_many:.1%}, "
        f"both at lr 2; GRPO at lr 3 {fast_one:.1%} / {fast_many:.1%}; entropy_coef 0.1 {bonus[0]:.1%} / {bonus[1]:.1%}, -0.1 {penalty[0]:.1%} / {penalty[1]:.1%}"
    )
    if coupling < 1:
        words += ": a faster GRPO closes the Pass@1 gap, not the Pass@64 gap"
    return claim(
        f"DS improves both in training, {coupling:.0%} of a step shared",
        "64 prompts, 40 answers, the same expected steps and learning rate: Pass@1 and Pass@64 are both above GRPO's",
        [our_one - one, our_many - many],
        words,
        expected=PASS if coupling < 1 else NOT,
        tolerance=0.0,
    )
