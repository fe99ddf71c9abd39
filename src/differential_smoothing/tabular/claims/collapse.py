"""The claims about collapse: the critical strength, which side of it spreads and which collapses, and why nothing comes back."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np

from differential_smoothing.tabular import collapse, held, oracle
from differential_smoothing.tabular.claims.verdict import NOT, Claim, claim
from differential_smoothing.tabular.trajectories import Trajectories, sequences

__all__ = [
    "attracts",
    "certain_stays",
    "critical",
    "decay",
    "escape",
    "node",
    "noise",
    "published_sharpens",
    "race",
    "relative_holds",
    "sampled",
    "tree",
    "unequal",
]

RIGHT, WRONG = 3, 3
SIZES, TRAINED, SUCCESS, FLOOR = (2, 4, 8), (2, 4), (0.2, 0.5, 0.8, 0.95), 0.2


def critical() -> Claim:
    """The closed form of drift and hold against the Jacobian of the enumerated step."""
    off = []
    for size, success, name, strength in product(SIZES, SUCCESS, collapse.RULES, (0.3, 2.0)):
        logits, answers, correct = held.bandit(RIGHT, WRONG, success)
        options = {"floor": FLOOR} if name == "relative" else {}
        rate = held.rate(held.expected(name, strength, answers, correct, size, **options), logits, 0, 1)
        drift, hold = collapse.balance(success, RIGHT, name, size, wrong=WRONG, floor=FLOOR)
        off.append(-abs(rate - success / RIGHT * (drift - strength * hold)))
    return claim(
        "The critical strength",
        "A small difference between right answers grows at C / M (drift - strength hold), with drift and hold in closed form: published, centred, "
        "entropy-centred and relative term",
        off,
        f"against the Jacobian of the shipped advantages, all groups of {SIZES} enumerated, C = {SUCCESS}. Endless groups, centred: gamma* = sqrt((1 - C) / C)",
        tolerance=1e-7,
    )


def attracts() -> Claim:
    """A tenth above the critical strength and a tenth below it, at a held success rate, from the same start."""
    margins, none = [], 0
    for size, success, name in product(TRAINED, (0.3, 0.8), collapse.RULES):
        drift, hold = collapse.balance(success, RIGHT, name, size, wrong=WRONG)
        strength = float(collapse.Balance(drift, hold).critical)
        if strength == inf:
            none += 1
            continue
        logits, answers, correct = _uneven(success)
        lr = 1.2 * RIGHT / (success * strength * hold)
        below, above = (
            held.variety(
                held.train(
                    logits,
                    held.expected(name, factor * strength, answers, correct, size),
                    correct,
                    success,
                    steps=50,
                    lr=float(lr),
                ),
                answers,
                correct,
            )
            for factor in (0.9, 1.1)
        )
        start = held.variety(logits, answers, correct)
        margins += [above - start, start - 0.5 - below]
    return claim(
        "Above it spreads, below it collapses",
        "With success held and right answers nearly even, a strength 10% above the critical one ends more even, 10% below it loses an answer or more",
        margins,
        f"in answers in use, exp(entropy), of {RIGHT}; all groups of {TRAINED} enumerated at every step, C = 0.3 and 0.8, every term; {none} without any critical strength left out",
        tolerance=0.0,
    )


def _uneven(success: float):
    logits, answers, correct = held.bandit(RIGHT, WRONG, success)
    logits = logits + np.where(correct, np.array([0.06, -0.04, -0.02, 0.0, 0.0, 0.0]), 0.0)
    return held.at_success(logits, correct, success), answers, correct


def sampled(seed: int) -> Claim:
    """The same with drawn groups: nothing of the expectation is used."""
    success, size, margins = 0.5, 8, []
    strength = float(collapse.balance(success, RIGHT, "centred", size).critical)
    for factor in (0.5, 1.5):
        logits, answers, correct = _uneven(success)
        step = held.sampled("centred", factor * strength, answers, correct, size, groups=32, seed=seed)
        end = held.variety(held.train(logits, step, correct, success, steps=250, lr=1.0), answers, correct)
        margins.append(RIGHT - 1 - end if factor < 1 else end - (RIGHT - 0.5))
    return claim(
        "Sampled training finds the critical strength",
        "Trained on 32 drawn groups of 8 a step, half the critical strength keeps at most 2 of 3 right answers, one and a half times it at least 2.5",
        margins,
        f"C held at 0.5, centred, gamma* = {strength:.2f}",
        tolerance=0.0,
    )


def noise(seed: int) -> Claim:
    """One and a half times the critical strength, two drawn groups a step, the same learning rate x steps in small and in large steps."""
    success, size, ends, margins = 0.5, 8, {}, []
    strength = 1.5 * float(collapse.balance(success, RIGHT, "centred", size).critical)
    for lr in (1.0, 4.0):
        ends[lr] = []
        for run in range(8):
            logits, answers, correct = _uneven(success)
            step = held.sampled("centred", strength, answers, correct, size, groups=2, seed=100 * seed + run)
            end = held.train(logits, step, correct, success, steps=round(160 / lr), lr=lr)
            ends[lr].append(held.variety(end, answers, correct))
    kept = {lr: float(np.mean(x)) for lr, x in ends.items()}
    margins = [kept[1.0] - kept[4.0] - 0.5]
    return claim(
        "Large steps need more strength",
        "Two drawn groups a step at one and a half times the critical strength, mean of 8 runs: at the same learning rate x steps, the rate 4 keeps at least half an answer of 3 fewer than 1",
        margins,
        "the critical strength is that of the expected step. The noise of drawn groups moves answers apart, in proportion to the learning rate, and what it makes certain stays. "
        f"Answers in use: {', '.join(f'{lr:g}: {kept[lr]:.2f}, {min(x):.2f} to {max(x):.2f}' for lr, x in ends.items())}",
        tolerance=0.0,
    )


def published_sharpens() -> Claim:
    """Does some strength of the published term hold everywhere?"""
    grid = [(c, m) for c in np.linspace(0.02, 0.98, 49) for m in (2, 4, 16, 64)]
    hold = np.array([collapse.balance(c, m, "published", 8).hold for c, m in grid])
    few = np.array([(1 - c) * np.log(m / c) for c, m in grid])
    success, answers = 0.2, 8
    logits, tree, correct = held.bandit(answers, 2, success)
    grpo, strong = (
        held.rate(lambda z, _, g=g: oracle.closed_form_gradient(z, tree, correct, 8, gamma_p=g), logits, 0, 1)
        for g in (0.0, 5.0)
    )
    return claim(
        "The published term holds at some strength",
        "For every success rate and number of right answers some gamma_p of the term as published keeps equal proportions",
        np.where(few >= 1, np.minimum(hold, -1e-12), hold),
        f"it does where (1 - C) log(M / C) < 1, so not where few are right: there it pushes all right answers up, the likelier further, and sharpens by itself. "
        f"C = 0.2, M = 8, G = 8: a difference grows at {grpo:+.3f} with gamma_p = 0 and at {strong:+.3f} with 5. The centred term has a critical strength everywhere",
        expected=NOT,
        tolerance=0.0,
    )


def relative_holds() -> Claim:
    """Is kappa above 1 enough at every success rate and group size?"""
    sizes, rates = (2, 4, 8, 16, 64), np.linspace(0.05, 0.95, 19)
    found = {size: collapse.balance(rates, RIGHT, "relative", size).critical for size in sizes}
    endless = collapse.balance(rates, RIGHT, "relative").critical
    at = {c: float(collapse.balance(c, RIGHT, "relative", 8).critical) for c in (0.15, 0.5, 0.9)}
    return claim(
        "A relative strength above 1 holds",
        "A (1 - kappa (log pi - mean of the group's right)) keeps equal proportions for kappa = 1.05 at every success rate",
        np.concatenate([1.05 - endless, *(1.05 - found[size] for size in sizes)]),
        "with endless groups it does. A lone right answer of a group has no other to be compared with, so finite groups need E[A] / E[A (c - 1) / c]: with 8, "
        f"{at[0.15]:.2f} at C = 0.15, {at[0.5]:.2f} at 0.5, {at[0.9]:.2f} at 0.9; in pairs no strength holds",
        expected=NOT,
        tolerance=0.0,
    )


def certain_stays() -> Claim:
    """The push on a policy that is certain of one right answer, at any strength."""
    margins = []
    for name, success, strength in product(("published", "centred"), (0.1, 0.5, 0.9, 0.99), (0.0, 1.0, 10.0)):
        logits, answers, correct = held.bandit(RIGHT, WRONG, success)
        logits = held.at_success(logits + np.where(np.arange(2 * RIGHT) == 0, 18.0, 0.0), correct, success)
        push = held.expected(name, strength, answers, correct, 8)(logits, 0)[0]
        margins.append(push[0] - push[1])
    line = [float(collapse.separatrix(s, 0.5, RIGHT, "centred", 8)) for s in (0.5, 0.9, 0.99)]
    return claim(
        "What is certain stays",
        "While success is below 1, a right answer with all but e^-18 of the right mass gains on the others at every strength up to 10",
        margins,
        "log pi of what is certain, less its mean, is 0, so the term is silent and GRPO's push is left; the others are not drawn. "
        f"C = 0.5, M = 3, centred: a leader with 50%, 90%, 99% of the right mass is pulled back from gamma_p = {line[0]:.1f}, {line[1]:.1f}, {line[2]:.0f} on",
        tolerance=0.0,
    )


def escape() -> Claim:
    """How long a way back takes where all is right: the formula against training."""
    gamma_p, lr, off, times = 0.5, 0.05, [], []
    logits = np.zeros((1, 3))
    answers, correct = sequences([[0], [1], [2]]), np.array([True, True, False])
    for start in (0.1, 0.01):
        logits = np.log([[1 - start, start, 1e-300]])
        steps, predicted = 0, collapse.escape_time(start, gamma_p)
        while np.exp(logits[0, 1] - np.logaddexp(*logits[0, :2])) < 0.25 and steps < 3 * predicted / lr:
            logits = logits + lr * oracle.closed_form_gradient(logits, answers, correct, 8, gamma_p=gamma_p)
            steps += 1
        off.append(0.02 - abs(steps * lr / predicted - 1))
        times.append(predicted)
    rare = collapse.escape_time(1e-6, gamma_p)
    return claim(
        "The way back is as long as the answer is rare",
        "Where all is right, an answer of probability p needs lr x steps of about 1 / (2 gamma_p p log(1 / p)) to come back",
        off,
        f"gamma_p = 0.5: {times[0]:.0f} from 10%, {times[1]:.0f} from 1%, {rare:.0e} from one in a million. 2% of the time is allowed for finite steps",
        tolerance=0.0,
    )


def race() -> Claim:
    """The growth of a small difference while a prompt learns, endless groups, against the closed form."""
    off, words = [], []
    for start, rho, right, wrong in product((0.2,), (0.1, 0.3, 0.7), (4,), (4, 12)):
        gamma_p = rho * np.sqrt((1 - start) / start)
        grown = _growth(start, gamma_p, right, wrong)
        law = collapse.growth(start, gamma_p, right, wrong)
        off.append(0.02 - abs(np.log(grown / law)))
        words.append(f"{law:.2f}")
    return claim(
        "The race",
        "A small difference between right answers grows by (exp(rho - 1) / rho)^(2N / (M + N)) at most, rho = gamma_p / gamma*(first C), and is largest when C = 1 / (1 + gamma_p^2)",
        off,
        f"centred, endless groups, no held success; factors {', '.join(words)}. The clock is success, so no learning rate and no schedule of it is in the law",
        tolerance=0.0,
    )


def _growth(start: float, gamma_p: float, right: int, wrong: int) -> float:
    """By training a prompt whose right answers differ by 1e-6, with the population's advantages."""
    logits, _, correct = held.bandit(right, wrong, start)
    logits, tiny = logits[0], 1e-6
    logits[0] += tiny
    most = 1.0
    for _ in range(4000):
        pi = np.exp(logits) / np.exp(logits).sum()
        success = pi[correct].sum()
        up, down = np.sqrt((1 - success) / success), -np.sqrt(success / (1 - success))
        mean = (pi[correct] / success) @ np.log(pi[correct])
        weight = np.where(correct, up - gamma_p * (np.log(pi) - mean), down)
        logits = logits + 0.05 * pi * (weight - pi @ weight)
        now = (logits[0] - logits[1]) / tiny
        if now < most:
            return most
        most = now
    return most


def decay() -> Claim:
    """gamma_p that falls linearly to 0, and learning rates that do too."""
    success, size, margins = 0.5, 4, []
    strength = float(collapse.balance(success, RIGHT, "centred", size).critical)
    logits, answers, correct = _uneven(success)
    steps, start = 120, held.variety(logits, answers, correct)
    ends = {}
    for name, schedule in {
        "constant, 1.1": lambda step: 1.1 * strength,
        "linear to 0, from 1.6": lambda step: 1.6 * strength * (1 - step / steps),
    }.items():
        gradient = held.expected("centred", schedule, answers, correct, size)
        ends[name] = held.variety(held.train(logits, gradient, correct, success, steps=steps, lr=6.0), answers, correct)
    margins = [ends["constant, 1.1"] - start, RIGHT - 1 - ends["linear to 0, from 1.6"]]
    return claim(
        "A gamma_p that decays to 0 collapses",
        "With success held, gamma_p from 1.6 times the critical strength linearly to 0 ends with at most 2 of 3 right answers, a constant one of 1.1 times it with all",
        margins,
        "a small difference grows with the mean over the run of drift - gamma_p hold: a linear decay is worth half its start, two thirds where the learning rate decays too. "
        f"Answers in use at the end: {', '.join(f'{k}: {v:.2f}' for k, v in ends.items())}",
        tolerance=0.0,
    )


def tree(depth: int, branches: int = 2) -> tuple[Trajectories, np.ndarray]:
    """Answers of ``depth`` tokens: at each, ``branches`` right ones and one that makes the answer wrong whatever follows (one token each)."""
    right = [list(path) for path in product(range(branches), repeat=depth)]
    wrong = [
        [*path, branches, *[0] * (depth - length - 1)]
        for length in range(depth)
        for path in product(range(branches), repeat=length)
    ]
    return sequences(right + wrong), np.arange(len(right) + len(wrong)) < len(right)


def node() -> Claim:
    """The critical strength of the levels at the nodes of a tree, against the Jacobian."""
    depth, branches, off, words = 3, 2, [], []
    answers, correct = tree(depth, branches)
    open_nodes = answers.allowed.sum(1) > 1
    for success, level, strength in product(SUCCESS, ("token", "sum", "mean"), (0.1, 1.0)):
        mass = success ** (1 / depth)
        logits = np.where(answers.allowed, 0.0, -50.0)
        logits[open_nodes, branches] = np.log(branches * (1 - mass) / mass)

        def gradient(z, _, level=level, strength=strength):
            return oracle.closed_form_gradient(z, answers, correct, 8, gamma_p=strength, level=level)

        for place in range(depth):
            here = int(answers.node[0, place])
            drift, hold = collapse.node_balance(
                mass, branches, success, level, 8, answers=branches**depth, tokens=depth
            )
            # reach x probability of the branch x success behind it, per token of the completion
            share = (mass / branches) ** (place + 1) * mass ** (depth - place - 1) / depth
            off.append(-abs(held.rate(gradient, logits, 0, 1, node=here) - share * (drift - strength * hold)))
    for length in (1, 7, 100, 1000):
        words.append(f"{length}: {float(collapse.node_balance(0.5 ** (1 / length), 2, 0.5, 'token', 8).critical):.4f}")
    return claim(
        "The critical strength of several tokens",
        "At every node of a tree a difference grows at share (drift - gamma_p hold), drift = (1 - R)(A+ - A-), for the levels token, sum and mean",
        off,
        f"{depth} tokens, {branches} right branches each, G = 8, against the Jacobian. T tokens share the failure, so the token level needs 1 / T of one token's strength: at C = 0.5, "
        f"b = 2, by T: {', '.join(words)}",
        tolerance=1e-7,
    )


def unequal() -> Claim:
    """The price: a first token with two branches, of which one leads to success twice as often, and what follows is not learnt."""
    success, size, off, words = np.array([0.6, 0.3]), 8, [], []
    answers, correct = sequences([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([True, False, True, False])
    after = np.log(np.column_stack([success, 1 - success]))
    for gamma_p in (0.3, 1.0, 3.0):
        share = collapse.worse_share(success[0], success[1], gamma_p, size)
        logits = np.concatenate([np.log([[1 - share, share]]), after])

        def gradient(z, _, gamma_p=gamma_p):
            return oracle.closed_form_gradient(z, answers, correct, size, gamma_p=gamma_p)

        push = gradient(logits, 0)[0]
        off += [-abs(push[0] - push[1]), -held.rate(gradient, logits, 0, 1)]
        words.append(f"{gamma_p}: {share:.1%}")
    return claim(
        "A strength keeps what is worse",
        "Where two branches lead to success with chances that stay different, the term leaves the worse one the share at which c_k (A+ - A- - gamma_p log pi_k) is equal, not 0",
        off,
        f"chances 0.6 and 0.3, G = 8, by gamma_p: {'; '.join(words)}. Each token of an answer pays that, so too strong a term holds success down: the other end of the usable range. "
        "Margins: no force there, and it pulls back from either side",
        tolerance=1e-9,
    )
