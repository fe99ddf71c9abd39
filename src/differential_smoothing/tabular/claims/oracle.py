"""The claims about the oracle of expected gradients: four ways to one gradient, and answers of several tokens."""

from __future__ import annotations

from math import lgamma

import numpy as np

from differential_smoothing.tabular import biases as bias
from differential_smoothing.tabular import oracle
from differential_smoothing.tabular.claims.verdict import NOT, Claim, claim
from differential_smoothing.tabular.divergences import Floats
from differential_smoothing.tabular.trajectories import Trajectories, random_tree, sequences, token_logps

__all__ = ["gradients", "several_tokens"]

GROUPS = 2000
FALSE_ALARM = 1e-6


def several_tokens(trees: int, seed: int) -> Claim:
    """Random trees, and one of two binary tokens of which the first may end the answer: what is learned at the first moves a wrong
    answer too."""
    random, rates = np.random.default_rng([seed, 9]), []
    for number in range(trees):
        tree = random_tree(int(random.integers(4, 11)), int(random.integers(2**31)))
        leaves = len(tree.mask)
        correct = random.permutation(leaves) < random.integers(2, leaves)
        rates.append(_rate(random.normal(scale=1.5, size=tree.allowed.shape), tree, correct, (2, 4, 8)[number % 3])[0])
    tree, correct = sequences([[0, 0], [0, 1], [1]]), np.array([True, False, True])
    rate, gains = _rate(np.log([[0.7, 0.3], [0.7, 0.3]]), tree, correct, 4)
    return claim(
        "GRPO collapses, answers of several tokens",
        "One expected GRPO step never raises the entropy among correct answers that share tokens with others",
        -np.array([*rates, rate]),
        f"{trees} random trees of 4 to 10 answers, G = 2, 4, 8, and the counterexample: answers 00 (0.49, correct), 01 (0.21, wrong), 1 (0.30, correct), "
        f"G = 4: {rate:+.4f} nats per unit step. The log-probability of 00 gains {gains[0]:.3f}, because its first token is shared with the wrong 01; the rarer 1 "
        f"gains {gains[2]:.3f}",
        expected=NOT,
    )


def _rate(logits: Floats, tree: Trajectories, correct, size: int) -> tuple[float, Floats]:
    """d(diversity) of an expected GRPO step, and the gain of every answer's log-probability, per unit step."""
    gradient = oracle.closed_form_gradient(logits, tree, correct, size)
    policy = np.where(tree.allowed, np.exp(logits), 0.0)
    policy = policy / policy.sum(1, keepdims=True)
    gain = gradient - (policy * gradient).sum(1, keepdims=True)  # of the log-probability of each action
    gains = np.where(tree.mask, gain[tree.node, tree.action], 0.0).sum(1)
    return float(bias.diversity_rate(token_logps(logits, tree).sum(1), correct, gains)), gains


def gradients(seed: int) -> Claim:
    """Do the four ways of ``oracle`` agree? The seed decides logits and samples."""
    from scipy import stats

    random, off, far = np.random.default_rng([seed, 5]), [], []
    trees = (sequences([[i] for i in range(5)]), sequences([[0, 0], [0, 1, 1], [0, 1, 0], [1], [2, 2, 0]]))
    options = (
        {},
        {"gamma_p": 0.3, "gamma_n": 0.2},
        {"gamma_p": 0.3, "gamma_n": 0.2, "level": "sum"},
        {"gamma_p": 0.3, "gamma_n": 0.1, "level": "mean", "center": True},
        {"gamma_p": 0.3, "level": "mean", "stage": "reward", "scale": "none"},
    )
    for size in (2, 4, 8):
        for tree in trees:
            for option in options:
                logits, rule = random.normal(size=tree.allowed.shape), oracle.ds_grpo(**option)
                correct = np.array([True, False, True, True, False])
                exact = oracle.expected_gradient(logits, tree, correct, rule, size)
                closed = oracle.closed_form_gradient(logits, tree, correct, size, **option)
                counts = oracle.enumerate_groups(5, size)
                log_pi = token_logps(logits, tree).sum(-1)
                factorial = np.array([lgamma(n + 1) for n in range(size + 1)])
                weight = np.exp(counts @ log_pi + factorial[size] - factorial[counts].sum(1))
                auto = oracle.surrogate_gradient(logits, tree, correct, rule, counts, weight)
                off.append(-max(np.abs(exact - closed).max(), np.abs(exact - auto).max()))
                mean, error = oracle.sampled_gradient(
                    logits, tree, correct, rule, size, groups=GROUPS, seed=int(random.integers(2**31))
                )
                allowed = tree.allowed
                far.append(np.abs(mean - exact)[allowed] / np.maximum(error[allowed], 1e-12))
    far = np.concatenate(far)
    # Bonferroni: the chance that any coordinate of any instance is beyond this is at most FALSE_ALARM
    bound = float(stats.t.ppf(1 - FALSE_ALARM / (2 * len(far)), GROUPS - 1))
    if far.max() > bound:
        off.append(bound - float(far.max()))
    return claim(
        "Four ways to one gradient",
        "Enumeration, closed form and autograd through the shipped ds_grpo_advantages agree to 1e-10, and sampling within its error",
        off,
        f"G = 2, 4, 8; bandits and trajectories of several tokens. Sampling: {GROUPS:,} groups, {len(far)} coordinates, the largest deviation is "
        f"{far.max():.2f} standard errors of {bound:.2f} allowed, at which all true ones together fail with chance {FALSE_ALARM:g} (Student, Bonferroni)",
        tolerance=1e-10,
    )
