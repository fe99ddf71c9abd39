"""The claims about Pass@1 and Pass@k of many prompts under the optimum of each rule (see ``population``), reverse KL."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from differential_smoothing.tabular import population
from differential_smoothing.tabular.claims.verdict import NOT, Claim, claim
from differential_smoothing.tabular.closed_form import (
    Prompts,
    budgeted,
    ds_reward,
    entropy_reward,
    measure,
    optimum,
    random_prompts,
)
from differential_smoothing.tabular.divergences import Floats

__all__ = [
    "RULES",
    "People",
    "equal_beta",
    "equal_pass_at_1",
    "own_budget",
    "people",
    "shared_pass_at_1",
    "shared_pass_at_k",
]

SIZE = 16  # prompts of a random population
KS = (1, 4, 16, 64)
RULES = {
    "bonus": entropy_reward,
    "penalty": lambda prompts, gamma: entropy_reward(prompts, -gamma),
    "DS": ds_reward,
    "DS, gamma_n": lambda prompts, gamma: ds_reward(prompts, gamma, gamma),
}


class People(NamedTuple):
    """P populations in one block: ``member`` (B,) says whose each prompt is; ``beta`` of vanilla RL and ``gamma``, each (P,)."""

    prompts: Prompts
    member: NDArray[np.int64]
    beta: Floats
    gamma: Floats

    @property
    def vanilla(self):
        """(B,) measures of vanilla RL's optimum: what all rules are compared with, and what sets their budgets."""
        return measure(self.prompts, optimum(self.prompts, self.prompts.correct * 1.0, self.beta[self.member]))


def people(count: int, seed: int) -> People:
    """Random populations of 16 prompts with up to 12 outcomes, beta from 0.1 to 10 and gamma / beta from 0.05 to 1; the last
    one is the population of the counterexamples, two prompts with beta = 1 and gamma = 1/2."""
    random = np.random.default_rng([seed, 8])
    (block,) = random_prompts(count * SIZE, seed + 2, most=12)
    order = random.permutation(count * SIZE)
    log_p, correct = (
        np.full((len(order) + 2, block.log_p.shape[1]), -np.inf),
        np.zeros((len(order) + 2, block.log_p.shape[1]), bool),
    )
    log_p[:-2], correct[:-2] = block.log_p[order], block.correct[order]
    log_p[-2, :2], log_p[-1, :3] = np.log([1 / 2, 1 / 2]), np.log([1 / 20, 1 / 20, 18 / 20])
    correct[-2, 0] = correct[-1, :2] = True
    beta = 10 ** random.uniform(-1, 1, count)
    return People(
        Prompts(log_p, correct),
        np.append(np.repeat(np.arange(count), SIZE), [count, count]),
        np.append(beta, 1.0),
        np.append(beta * random.uniform(0.05, 1, count), 0.5),
    )


def equal_beta(crowd: People) -> Claim:
    """DS as written against vanilla RL, one beta for all prompts."""
    reward = ds_reward(crowd.prompts, crowd.gamma[crowd.member])
    worth = measure(crowd.prompts, optimum(crowd.prompts, reward, crowd.beta[crowd.member]))
    return claim(
        "Population Pass@k, equal beta",
        "At the same beta, gamma_p > 0 (log p as written) makes Pass@1, @4, @16 and @64 of a population at least vanilla RL's",
        np.minimum.reduce([_gain(crowd, worth, k) for k in KS]),
        f"on every prompt C rises; so does the KL, by a factor of {np.median(spent(crowd, worth) / spent(crowd, crowd.vanilla)):.2f} (median)",
    )


def own_budget(crowd: People) -> Claim:
    """Every rule with vanilla RL's KL on each prompt: ``budgeted`` finds a beta for each."""
    vanilla, margins, free = crowd.vanilla, [], 0
    seen = vanilla.divergence > 1e-9  # below, beta is not to be told from the rounding of K
    prompts = Prompts(*(part[seen] for part in crowd.prompts))
    for rule in RULES.values():
        _, log_pi = budgeted(prompts, rule(prompts, crowd.gamma[crowd.member[seen]]), vanilla.divergence[seen])
        gain = measure(prompts, log_pi).log_correct - vanilla.log_correct[seen]
        free += int(np.isnan(gain).sum())
        margins.append(-gain[~np.isnan(gain)])
    return claim(
        "Pass@k, each prompt's own budget",
        "Within K <= kappa on each prompt, vanilla RL's optimum is at least as correct as a bonus's, a penalty's and DS's, so it has the higher Pass@k for every k",
        np.concatenate(margins),
        f"kappa is what vanilla RL spends; beta solved for each prompt and rule; left out where a rule cannot spend as much ({free} of {len(RULES) * seen.sum()}). "
        "No rule improves any Pass@k so: diversity among a prompt's correct answers does not enter it",
    )


def shared_pass_at_1(crowd: People) -> Claim:
    """Every rule with vanilla RL's mean KL over the population, one beta."""
    margins = np.concatenate([-_gain(crowd, worth, 1) for worth in _shared(crowd).values()])
    return claim(
        "Population Pass@1, one shared budget",
        "With one beta and the same mean KL over the population, no bonus, penalty or DS has a higher Pass@1 than vanilla RL",
        margins,
        "four rules per population: vanilla RL has the highest mean C within a mean KL",
    )


def shared_pass_at_k(crowd: People) -> Claim:
    """The same for Pass@k: whether DS improves both ends."""
    worth, vanilla = _shared(crowd), crowd.vanilla
    gains = {name: {k: _gain(crowd, one, k) for k in KS} for name, one in worth.items()}
    shares = "; ".join(
        f"{name} " + ", ".join(f"{np.mean(gain[k] > 1e-9):.0%}" for k in KS[1:]) for name, gain in gains.items()
    )
    first, many = ([population.pass_at_k(one, crowd.member, k)[-1] for one in (vanilla, worth["DS"])] for k in (1, 4))
    return claim(
        "DS improves both, one shared budget",
        "With one beta and the same mean KL over the population, DS (log p as written) has at least vanilla RL's Pass@1 and Pass@4",
        np.minimum(gains["DS"][1], gains["DS"][4]),
        f"never Pass@1, but mostly Pass@k: -gamma_p log p pays most where correct answers are rare, so KL moves to the hard prompts. Share of populations "
        f"with a higher Pass@4, @16, @64: {shares}. Counterexample, two prompts (1/2 | 1/2) and (1/20, 1/20 | 9/10), beta = 1, gamma_p = 1/2: "
        f"Pass@1 {first[0]:.4f} -> {first[1]:.4f}, Pass@4 {many[0]:.4f} -> {many[1]:.4f}",
        expected=NOT,
    )


def equal_pass_at_1(crowd: People) -> Claim:
    """The control that training needs, in theory: vanilla RL at the strength that gives the rule's own Pass@1, whatever the KL."""
    gains = {name: _against_equal_pass_at_1(crowd, rule) for name, rule in RULES.items()}
    shares = "; ".join(
        f"{name} " + ", ".join(f"{np.mean(gain[k] > 1e-9):.0%}" for k in KS[1:]) for name, gain in gains.items()
    )
    # many right answers on the easier prompt: the sum of p^a counts them, so the term lifts the prompt that needs it less
    log_p, correct = np.full((2, 6), -np.inf), np.zeros((2, 6), bool)
    log_p[0], log_p[1, :2] = np.log([1 / 10] * 5 + [1 / 2]), np.log([1 / 4, 3 / 4])
    correct[0, :5] = correct[1, 0] = True
    two = People(Prompts(log_p, correct), np.zeros(2, dtype=np.int64), np.ones(1), np.full(1, 0.5))
    example = _against_equal_pass_at_1(two, RULES["DS"])
    return claim(
        "DS against vanilla RL at the same Pass@1",
        "With log p as written and gamma_p <= beta, a population's Pass@4, @16 and @64 are at least those of vanilla RL at the beta with the same Pass@1",
        np.minimum.reduce([np.append(gains["DS"][k], example[k]) for k in KS[1:]]),
        f"but on nearly all: no other strength of vanilla RL does what the term does, it lifts prompts whose correct answers are rare, for more KL. A bonus does it "
        f"too. Share of populations with a higher Pass@4, @16, @64: {shares}. Counterexample, where the easier prompt has the more answers: "
        f"(1/10 five times | 1/2) and (1/4 | 3/4), beta = 1, gamma_p = 1/2: Pass@4 {example[4][0]:+.4f}",
        expected=NOT,
    )


def _against_equal_pass_at_1(crowd: People, rule) -> dict[int, Floats]:
    reward = rule(crowd.prompts, crowd.gamma[crowd.member])
    worth = measure(crowd.prompts, optimum(crowd.prompts, reward, crowd.beta[crowd.member]))
    log_wrong = population.tilted_to(crowd.prompts, population.pass_at_k(worth, crowd.member, 1), crowd.member)
    return {
        k: population.pass_at_k(worth, crowd.member, k) - population.mean_over(-np.expm1(k * log_wrong), crowd.member)
        for k in KS[1:]
    }


def _shared(crowd: People) -> dict:
    kappa = spent(crowd, crowd.vanilla)
    return {
        name: measure(
            crowd.prompts,
            population.shared_budget(
                crowd.prompts, rule(crowd.prompts, crowd.gamma[crowd.member]), kappa, crowd.member
            )[1],
        )
        for name, rule in RULES.items()
    }


def spent(crowd: People, worth) -> Floats:
    return population.mean_over(worth.divergence, crowd.member)


def _gain(crowd: People, worth, k: int) -> Floats:
    """Pass@k of ``worth`` less vanilla RL's, (P,)."""
    return population.pass_at_k(worth, crowd.member, k) - population.pass_at_k(crowd.vanilla, crowd.member, k)
