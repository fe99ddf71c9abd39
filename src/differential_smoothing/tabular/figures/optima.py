"""Pictures of optima and of one step: the frontier, the biases, and where a bonus helps. Each shows one thing."""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular.closed_form import Prompts, logsumexp, measure, prompt
from differential_smoothing.tabular.figures.style import BLUE, GREEN, GREY, ORANGE, PINK
from differential_smoothing.tabular.figures.style import axes as one_panel
from differential_smoothing.tabular.frontier import frontier
from differential_smoothing.tabular.oracle import closed_form_gradient
from differential_smoothing.tabular.theorem import at_budget, bonus_helps
from differential_smoothing.tabular.trajectories import sequences

__all__ = ["draw_biases", "draw_frontier", "draw_map"]


def _example() -> Prompts:
    """One prompt: 8 correct answers with a fifth of the mass and 12 wrong ones, both uneven."""
    right, wrong = np.arange(1, 9) ** -1.5, np.arange(1, 13) ** -1.5
    return prompt(np.concatenate([0.2 * right / right.sum(), 0.8 * wrong / wrong.sum()]), 8)


def draw_frontier(_: int):
    """Correctness against diversity at one budget."""
    given, kappa = _example(), 0.5
    figure, axes = one_panel()
    tilts = np.linspace(0.0, 1.0, 101)
    correct, diversity = frontier(given, kappa, tilts)
    beyond, over = np.append(diversity[0], 0.0), np.append(correct[0], correct[0, -1])
    axes.fill_between(beyond, 100 * over, 100, color="#F2F2F2", linewidth=0)
    axes.text(0.03, 0.93, "out of reach at this KL", transform=axes.transAxes, color=GREY)
    axes.plot(diversity[0], 100 * correct[0], color=BLUE, linewidth=2.4)
    curves = {"bonus": (ORANGE, np.linspace(0.3, 1, 80)), "penalty": (PINK, np.linspace(1, 1.6, 80))}
    for name, (colour, exponents) in curves.items():
        points = [measure(given, at_budget(given, kappa, np.array([a]), rule="entropy").log_pi) for a in exponents]
        x, y = (np.array([float(getattr(p, which)[0]) for p in points]) for which in ("diversity", "correctness"))
        axes.plot(x, 100 * y, color=colour, linewidth=1.6)
        end = 0 if name == "bonus" else -1
        axes.annotate(
            name, (x[end], 100 * y[end]), xytext=(0, -11), textcoords="offset points", color=colour, ha="center"
        )
    axes.set_xlim(0.8, 2.12)
    x, y = _with_gamma_n(given, kappa, np.linspace(0.45, 1, 60))
    axes.plot(x, 100 * y, color=GREEN, linewidth=1.6)
    axes.annotate(
        "DS with gamma_n", (x[8], 100 * y[8]), xytext=(-6, -12), textcoords="offset points", color=GREEN, ha="right"
    )
    axes.annotate(
        "DS, gamma_n = 0:\nthe frontier",
        (diversity[0, 45], 100 * correct[0, 45]),
        xytext=(5, 6),
        textcoords="offset points",
        color=BLUE,
        annotation_clip=False,
    )
    axes.plot(diversity[0, -1], 100 * correct[0, -1], "o", color="black", markersize=5)
    axes.annotate(
        "vanilla RL", (diversity[0, -1], 100 * correct[0, -1]), xytext=(2, 7), textcoords="offset points", ha="center"
    )
    axes.set_xlabel("Entropy among correct answers (nats)")
    axes.set_ylabel("Correct (%)")
    low, high = 100 * correct[0].min(), 100 * correct[0].max()
    axes.set_ylim(low - 0.6 * (high - low), high + 0.35 * (high - low))
    return figure


def _with_gamma_n(given: Prompts, kappa: float, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(diversity, C) at the budget with correct answers tilted by the exponent and wrong ones by 2 - exponent: gamma_n = gamma_p."""
    many = Prompts(*(np.repeat(part, len(exponents), 0) for part in given))
    power = np.where(many.correct, exponents[:, None], 2 - exponents[:, None]) * many.log_p

    def policy(reward: np.ndarray) -> np.ndarray:
        values = power + reward[:, None] * many.correct
        return values - logsumexp(values)[:, None]

    def spent(reward: np.ndarray) -> np.ndarray:
        return measure(many, policy(reward)).divergence

    rewards = np.linspace(-10, 10, 401)
    low = rewards[np.argmin([spent(np.full(len(exponents), reward)) for reward in rewards], 0)]
    high = low + 30
    for _ in range(60):  # K rises from its least value: bisection
        middle = (low + high) / 2
        below = spent(middle) < kappa
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    points = measure(many, policy(low))
    return points.diversity, points.correctness


def draw_biases(_: int):
    """Who gains in one expected step."""
    p = 0.6 * np.arange(1, 7) ** -1.2 / (np.arange(1, 7) ** -1.2).sum()
    given = prompt(np.append(p, 0.4), 6)
    bandit = sequences([[i] for i in range(7)])
    figure, axes = one_panel()
    rules = {
        "GRPO": (GREY, {}),
        "DS": (BLUE, {"gamma_p": 0.5, "level": "sum"}),
        "DS, centred": (GREEN, {"gamma_p": 0.5, "level": "sum", "center": True}),
        "DS, gamma_n only": (PINK, {"gamma_n": 0.5, "level": "sum"}),
    }
    q = p / p.sum()
    for name, (colour, options) in rules.items():
        gradient = closed_form_gradient(given.log_p[:, None], bandit, given.correct, 8, **options)[:, 0]
        gain = gradient[0, :6] - (q * gradient[0, :6]).sum()
        axes.plot(
            100 * p,
            gain,
            color=colour,
            linewidth=1.6,
            marker="o",
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
        axes.annotate(
            name,
            (100 * p[0], gain[0]),
            xytext=(7, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks([4, 8, 16, 32], ["4", "8", "16", "32"])
    axes.minorticks_off()
    axes.set_xlabel("Probability of a correct answer now (%)")
    axes.set_ylabel("Change of log share among correct\nper unit step, one expected step")
    return figure


def draw_map(_: int):
    """The sign of the slope of C in the strength of a bonus."""
    multiplicities = np.unique(np.round(np.geomspace(1, 200, 60)).astype(int))
    sharpnesses = np.linspace(0, 2.5, 61)
    helps = np.empty((len(sharpnesses), len(multiplicities)))
    for i, sharpness in enumerate(sharpnesses):
        for j, multiplicity in enumerate(multiplicities):
            right, wrong = np.arange(1, multiplicity + 1.0) ** -sharpness, np.arange(1, 31.0) ** -1.0
            given = prompt(np.concatenate([0.3 * right / right.sum(), 0.7 * wrong / wrong.sum()]), int(multiplicity))
            helps[i, j] = bonus_helps(given, given.log_p)[0]
    figure, axes = one_panel()
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

    colours = LinearSegmentedColormap.from_list("help", [PINK, "#FFFFFF", ORANGE])
    axes.pcolormesh(
        multiplicities,
        sharpnesses,
        helps,
        cmap=colours,
        norm=TwoSlopeNorm(0.0, helps.min(), helps.max()),
        shading="gouraud",
        rasterized=True,
    )
    axes.contour(multiplicities, sharpnesses, helps, levels=[0], colors="black", linewidths=1.2)
    axes.set_xscale("log")
    axes.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    axes.minorticks_off()
    axes.text(45, 0.35, "a bonus\nraises\ncorrectness", ha="center", va="center")
    axes.text(3.2, 1.75, "a penalty\nraises correctness", ha="center", va="center")
    axes.set_xlabel("Correct answers of the prompt")
    axes.set_ylabel("Sharpness of the base among them\n(Zipf exponent)")
    axes.grid(False)
    return figure
