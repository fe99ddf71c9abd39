"""The claims about holding a variety target: what the logs say about variety, and where the controller comes to rest."""

from __future__ import annotations

from math import lgamma

import numpy as np
import torch

from differential_smoothing.tabular import controller, held, oracle
from differential_smoothing.tabular.claims.collapse import tree
from differential_smoothing.tabular.claims.verdict import Claim, claim
from differential_smoothing.tabular.closed_form import measure, prompt
from differential_smoothing.tabular.frontier import distance
from differential_smoothing.tabular.trajectories import sequences, token_logps

__all__ = ["holds", "measured", "rests"]

FIXED = (0.1, 0.2, 0.3)


def measured() -> Claim:
    """The estimator from logs, in expectation over all groups."""
    off, size = [], 8
    for success in (0.05, 0.2, 0.5, 0.9):
        logits, answers, correct = held.bandit(3, 1, success)
        logits = held.at_success(logits + np.array([0.8, 0.0, -1.0, 0.0]), correct, success)
        log_pi = token_logps(logits, answers).sum(-1)
        counts = oracle.enumerate_groups(4, size)
        factorial = np.array([lgamma(n + 1) for n in range(size + 1)])
        chance = np.exp(counts @ log_pi + factorial[size] - factorial[counts].sum(1))
        total = number = 0.0
        for weight, row in zip(chance, counts, strict=True):
            drawn = np.repeat(np.arange(4), row)
            logps = torch.from_numpy(log_pi[drawn])[:, None]
            value, right = controller.log_variety(
                logps,
                torch.ones_like(logps),
                correct=torch.from_numpy(correct[drawn]),
                group=torch.zeros(size, dtype=torch.long),
            )
            total, number = total + weight * value, number + weight * right
        _, entropy = controller.varieties(logits, answers, correct)
        off.append(-abs(total / number - entropy - controller.bias(success, size)))
    return claim(
        "Variety from logs",
        "Surprisal of right completions with harmonic numbers for log C is in expectation the entropy among right answers, plus sum over k >= G of (1 - C)^k / k",
        off,
        f"all groups of {size} enumerated; at C = 0.05, 0.2, 0.5, 0.9 the bias is {', '.join(f'{x:.4f}' for x in controller.bias(np.array([0.05, 0.2, 0.5, 0.9]), size))} nats. "
        "Without the harmonic numbers it would be log(1 / C)",
        tolerance=1e-9,
    )


def rests() -> Claim:
    """The controller against the closed form, with a KL penalty: four starts, three learning rates, both forms of the term."""
    p, beta, size = np.array([0.12, 0.05, 0.03, 0.3, 0.25, 0.15, 0.1]), 1.0, 8
    given, answers = prompt(p, 3), sequences([[i] for i in range(7)])
    entropy = measure(given, given.log_p).diversity
    starts = np.array(
        [
            p,
            [0.02, 0.45, 0.03, 0.1, 0.1, 0.1, 0.2],
            [0.6, 0.02, 0.02, 0.09, 0.09, 0.09, 0.09],
            [0.02, 0.02, 0.02, 0.04, 0.3, 0.3, 0.3],
        ]
    )
    logits, lr = np.repeat(np.log(starts), 3, 0)[:, None, None], np.tile([0.5, 1.0, 2.0], 4)
    margins, words = [], []
    for center in (False, True):
        target = 1.1
        gamma_p, log_pi = controller.rest(given, target * entropy, beta, size, center=center)
        run = controller.steer(
            logits,
            answers,
            given.correct[0],
            size,
            controller.Controller(target, np.ones(len(lr)), speed=0.2),
            steps=2500,
            lr=lr,
            base=given.log_p[:, None],
            beta=beta,
            center=center,
        )
        end = token_logps(run.logits, answers).sum(-1)[:, 0]
        margins += [0.01 - np.abs(end - log_pi).max(1), 0.01 - np.abs(run.gamma_p[-1] / gamma_p - 1)]
        margins.append(1e-9 - distance(given, measure(given, log_pi)))
        words.append(
            f"{'centred' if center else 'published'} gamma_p = {gamma_p[0]:.3f}, C = {np.exp(log_pi[0, :3]).sum():.3f}"
        )
    return claim(
        "Controller and closed form agree",
        "From four starts and at three learning rates the controller ends at the policy that the closed form names, every probability and gamma_p within 1%, and that "
        "policy is on the frontier of correctness and variety at its KL",
        np.concatenate(margins),
        f"one prompt, beta = 1, G = 8, target 1.1 of the base's variety: {'; '.join(words)}",
        tolerance=0.0,
    )


def holds() -> Claim:
    """Targets against fixed strengths: three learning rates that decay, two levels, prompts that differ, noise in the measure."""
    answers, correct = tree(3)
    random, prompts = np.random.default_rng(0), 8
    logits = np.where(answers.allowed, random.normal(scale=0.5, size=(prompts, *answers.allowed.shape)), -50.0)
    choice = answers.allowed.sum(1) > 1
    logits[:, choice, 2] += np.log(2 / 0.52 * 0.48)
    lr = np.array([1.0, 2.0, 4.0])
    runs = np.repeat(logits[None], len(lr), 0)

    def end(strength, level):
        return controller.steer(runs, answers, correct, 8, strength, steps=400, lr=lr, decay=True, level=level).ratio[
            -1
        ]

    target, steered, margins = 0.7, [], []
    for level, unit in (("token", 1 / 3), ("mean", 1.0)):
        law = controller.Controller(target, np.full(len(lr), 1.4 * unit), glide=40)
        steered.append(
            end(lambda ratio, pace, law=law: law(ratio * np.exp(0.03 * random.normal(size=len(ratio))), pace), level)
        )
    margins = 0.1 - np.abs(np.concatenate(steered) / target - 1)
    fixed = [
        np.concatenate([end(lambda ratio, pace, g=g: np.full(len(ratio), g), level) for level in ("token", "mean")])
        for g in FIXED
    ]
    missed = [np.abs(one / target - 1).max() - 0.1 for one in fixed]
    return claim(
        "A variety target is held",
        "The same target ends within 10% at three learning rates and two levels, and no fixed gamma_p of 0.1, 0.2, 0.3 does",
        [*margins, *missed],
        f"8 prompts, answers of 3 tokens, linear decay, 3% noise. Target 0.7 of the base's variety, ends at {np.concatenate(steered).min():.2f} to "
        f"{np.concatenate(steered).max():.2f}; "
        + ", ".join(f"fixed {g} at {one.min():.2f} to {one.max():.2f}" for g, one in zip(FIXED, fixed, strict=True)),
        tolerance=0.0,
    )
