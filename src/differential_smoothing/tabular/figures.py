"""Four pictures of the laboratory and the page that holds them. Each says one thing.

Colours are those of the report's figure (Okabe and Ito), base and vanilla RL in grey.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np

from differential_smoothing.tabular import dynamics
from differential_smoothing.tabular.claims import Claim
from differential_smoothing.tabular.closed_form import Prompts, logsumexp, measure, prompt
from differential_smoothing.tabular.frontier import frontier
from differential_smoothing.tabular.oracle import closed_form_gradient, sequences
from differential_smoothing.tabular.theorem import at_budget, bonus_helps

__all__ = ["FIGURES", "draw_all", "page_section"]

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F"
STYLE = {"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "dsmooth", "svg.fonttype": "path"}


def draw_all(folder: Path, *, seed: int) -> list[Path]:
    """Every figure as .svg and .png into ``folder``. The same seed gives the same SVG text."""
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with rc_context(STYLE):
        for name, (draw, _) in FIGURES.items():
            figure = draw(seed)
            for suffix in ("svg", "png"):
                path = folder / f"{name}.{suffix}"
                figure.savefig(path, dpi=200, metadata={"Date": None} if suffix == "svg" else None)
                paths.append(path)
    return paths


def page_section(claims: list[Claim], folder: Path) -> str:
    """The figures that ``draw_all`` left in ``folder`` and the table of claims as one HTML section with everything inside: no
    files, no scripts, no network."""
    parts = ["<section id='tabular'>", "<h2>The exact laboratory</h2>"]
    for name, (_, caption) in FIGURES.items():
        svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
        # ids are unique within a figure only
        svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
        parts.append(f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>")
    parts.append(
        "<table><thead><tr><th>Claim</th><th>Verdict</th><th>Worst margin</th><th>Holds on</th><th>Instances</th>"
        "<th>Condition, counterexample</th></tr></thead><tbody>"
    )
    for claim in claims:
        cells = (
            f"{claim.name}: {claim.statement}.",
            claim.verdict,
            f"{claim.margin:.1e}",
            f"{claim.held:.1%}",
            str(claim.instances),
            claim.note,
        )
        parts.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join([*parts, "</tbody></table>", "</section>"])


def _example() -> Prompts:
    """One prompt: 8 correct answers with a fifth of the mass and 12 wrong ones, both uneven."""
    right, wrong = np.arange(1, 9) ** -1.5, np.arange(1, 13) ** -1.5
    return prompt(np.concatenate([0.2 * right / right.sum(), 0.8 * wrong / wrong.sum()]), 8)


def _frontier(_: int):
    given, kappa = _example(), 0.5
    figure, axes = _axes()
    tilts = np.linspace(0.0, 1.0, 101)
    correct, diversity = frontier(given, kappa, tilts)
    beyond, over = np.append(diversity[0], 0.0), np.append(correct[0], correct[0, -1])
    axes.fill_between(beyond, 100 * over, 100, color="#F2F2F2", linewidth=0)
    axes.text(0.03, 0.93, "out of reach at this KL", transform=axes.transAxes, color=GREY)
    axes.plot(diversity[0], 100 * correct[0], color=BLUE, linewidth=2.4)
    curves = {"bonus": (ORANGE, np.linspace(0.3, 1, 80)), "penalty": (PINK, np.linspace(1, 1.6, 80))}
    for name, (colour, exponents) in curves.items():
        points = [
            measure(given, at_budget(given, kappa, np.array([a]), rule="entropy").log_pi) for a in exponents
        ]
        x, y = (
            np.array([float(getattr(p, which)[0]) for p in points]) for which in ("diversity", "correctness")
        )
        axes.plot(x, 100 * y, color=colour, linewidth=1.6)
        end = 0 if name == "bonus" else -1
        axes.annotate(
            name,
            (x[end], 100 * y[end]),
            xytext=(0, -11),
            textcoords="offset points",
            color=colour,
            ha="center",
        )
    axes.set_xlim(0.8, 2.12)
    x, y = _with_gamma_n(given, kappa, np.linspace(0.45, 1, 60))
    axes.plot(x, 100 * y, color=GREEN, linewidth=1.6)
    axes.annotate(
        "DS with gamma_n",
        (x[8], 100 * y[8]),
        xytext=(-6, -12),
        textcoords="offset points",
        color=GREEN,
        ha="right",
    )
    axes.annotate(
        "DS, gamma_n = 0:\nthe frontier", (diversity[0, 45], 100 * correct[0, 45]), xytext=(5, 6), textcoords="offset points",
        color=BLUE, annotation_clip=False,
    )  # fmt: skip
    axes.plot(diversity[0, -1], 100 * correct[0, -1], "o", color="black", markersize=5)
    axes.annotate(
        "vanilla RL",
        (diversity[0, -1], 100 * correct[0, -1]),
        xytext=(2, 7),
        textcoords="offset points",
        ha="center",
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


def _biases(_: int):
    p = 0.6 * np.arange(1, 7) ** -1.2 / (np.arange(1, 7) ** -1.2).sum()
    given = prompt(np.append(p, 0.4), 6)
    bandit = sequences([[i] for i in range(7)])
    figure, axes = _axes()
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


def _map(_: int):
    multiplicities = np.unique(np.round(np.geomspace(1, 200, 60)).astype(int))
    sharpnesses = np.linspace(0, 2.5, 61)
    helps = np.empty((len(sharpnesses), len(multiplicities)))
    for i, sharpness in enumerate(sharpnesses):
        for j, multiplicity in enumerate(multiplicities):
            right, wrong = np.arange(1, multiplicity + 1.0) ** -sharpness, np.arange(1, 31.0) ** -1.0
            given = prompt(
                np.concatenate([0.3 * right / right.sum(), 0.7 * wrong / wrong.sum()]), int(multiplicity)
            )
            helps[i, j] = bonus_helps(given, given.log_p)[0]
    figure, axes = _axes()
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


def _dynamics(seed: int):
    from matplotlib.figure import Figure

    people = dynamics.population(64, 40, solutions=6, sharpness=0.7, noise=1.5, seed=seed)
    grpo = dynamics.closed_form(people, 8)
    rules = {
        "bonus 0.1": (ORANGE, dynamics.with_entropy(people, grpo, 0.1)),
        "DS 0.3": (BLUE, dynamics.closed_form(people, 8, gamma_p=0.3)),
        "DS 0.3, centred": (GREEN, dynamics.closed_form(people, 8, gamma_p=0.3, level="sum", center=True)),
        "GRPO": (GREY, grpo),
        "gamma_n 0.1": (PINK, dynamics.closed_form(people, 8, gamma_n=0.1)),
    }
    figure = Figure(figsize=(8.2, 3.1), layout="constrained")
    panels = figure.subplots(1, 2)
    ends: tuple[list, list] = ([], [])
    for name, (colour, gradient) in rules.items():
        run = dynamics.train(people, gradient, steps=500, lr=2.0, coupling=1.0, records=100)
        for axes, column, end in zip(panels, run.pass_at_k.T, ends, strict=True):
            axes.plot(run.step, 100 * column, color=colour, linewidth=1.8)
            end.append((100 * column[-1], name, colour))
    for axes, label, end in zip(panels, ("Pass@1 (%)", "Pass@64 (%)"), ends, strict=True):
        _plain(axes)
        axes.set_xlabel("Training step")
        axes.set_ylabel(label)
        axes.set_xlim(0, 500)
        _label_right(axes, end)
    return figure


def _label_right(axes, ends: list[tuple[float, str, str]]) -> None:
    """Names beside the ends of the curves, moved apart where they would touch."""
    bottom, top = axes.get_ylim()
    ends, gap = sorted(ends), 0.07 * (top - bottom)
    step = gap * np.arange(len(ends))
    level = np.array([end for end, _, _ in ends]) - step
    # moved up only, and moved down only: both keep the gap, and so does their mean, which is the nearer to the curves
    up, down = np.maximum.accumulate(level), np.minimum.accumulate(level[::-1])[::-1]
    for height, (_, name, colour) in zip((up + down) / 2 + step, ends, strict=True):
        axes.annotate(
            name,
            (1.02, height),
            xycoords=("axes fraction", "data"),
            color=colour,
            va="center",
            annotation_clip=False,
        )


def _axes():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#4D4D4D")
    axes.tick_params(color="#4D4D4D", length=3)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


FIGURES = {
    "frontier": (_frontier, "One prompt, KL(pi || p) = 0.5 nats. DS with gamma_n = 0 is the best trade of correctness for diversity; a bonus, a "
                 "penalty and gamma_n spend part of the budget on wrong answers."),
    "biases": (_biases, "Six correct answers with 60% of the mass, groups of 8, gammas 0.5: GRPO makes the likely answer likelier. The published term hardly "
               "helps the rare ones, the centred term helps them all, and gamma_n sharpens further."),
    "map": (_map, "Prompts whose base is right 30% of the time and spreads the rest over 30 wrong answers (Zipf exponent 1). Colour: how fast "
            "correctness changes with a small entropy bonus at equal beta, orange up, pink down (there a penalty raises it), white and the "
            "line not at all. A bonus helps where correct answers are many and even. At equal KL neither helps."),
    "dynamics": (_dynamics, "64 prompts that share all parameters, expected steps with groups of 8. Pass@1 rises for all; GRPO pays with Pass@64, gamma_n most."),
}  # fmt: skip
