"""Pictures of training: what rules do to Pass@1 and Pass@64, to modes and entropy, step by step."""

from __future__ import annotations

from functools import cache

from differential_smoothing.tabular import dynamics
from differential_smoothing.tabular.figures.style import BLUE, GREEN, GREY, ORANGE, PINK, label_right, plain

__all__ = ["draw_dynamics", "draw_modes"]

COLOURS = {
    "bonus 0.1": (ORANGE, "-"),
    "penalty 0.1": (ORANGE, "--"),
    "DS 0.3": (BLUE, "-"),
    "DS 0.3, centred": (GREEN, "-"),
    "GRPO": (GREY, "-"),
    "gamma_n 0.1": (PINK, "-"),
}


@cache
def _runs(seed: int) -> dict[str, dynamics.History]:
    people = dynamics.population(64, 40, solutions=6, sharpness=0.7, noise=1.5, seed=seed)
    grpo = dynamics.closed_form(people, 8)
    rules = {
        "bonus 0.1": dynamics.with_entropy(people, grpo, 0.1),
        "penalty 0.1": dynamics.with_entropy(people, grpo, -0.1),
        "DS 0.3": dynamics.closed_form(people, 8, gamma_p=0.3),
        "DS 0.3, centred": dynamics.closed_form(people, 8, gamma_p=0.3, level="sum", center=True),
        "GRPO": grpo,
        "gamma_n 0.1": dynamics.closed_form(people, 8, gamma_n=0.1),
    }
    return {
        name: dynamics.train(people, gradient, steps=500, lr=2.0, coupling=1.0, records=100)
        for name, gradient in rules.items()
    }


def draw_dynamics(seed: int):
    """Pass@1 and Pass@64 of six rules."""
    columns = {
        "Pass@1 (%)": lambda run: 100 * run.pass_at_k[:, 0],
        "Pass@64 (%)": lambda run: 100 * run.pass_at_k[:, 1],
    }
    return _panels(seed, columns)


def draw_modes(seed: int):
    """The effective number of correct answers, and the entropy of the policy."""
    columns = {
        "Correct answers in use, exp(entropy)": lambda run: run.modes,
        "Entropy of the policy (nats)": lambda run: run.entropy,
    }
    return _panels(seed, columns)


def _panels(seed: int, columns: dict):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 3.1), layout="constrained")
    for axes, (label, column) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        ends = []
        for name, run in _runs(seed).items():
            colour, line = COLOURS[name]
            values = column(run)
            axes.plot(run.step, values, line, color=colour, linewidth=1.8)
            ends.append((float(values[-1]), name, colour))
        plain(axes)
        axes.set_xlabel("Training step")
        axes.set_ylabel(label)
        axes.set_xlim(0, 500)
        label_right(axes, ends)
    return figure
