"""The picture of collapse: which strengths hold at which success rate, and who wins from where."""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular import collapse, held
from differential_smoothing.tabular.figures.style import BLUE, GREY, ORANGE, plain
from differential_smoothing.tabular.oracle import closed_form_gradient

__all__ = ["draw_collapse"]

ANSWERS, WRONG, SIZE, START, HELD = 8, 16, 8, 0.15, 0.5
STRENGTHS = (0.0, 0.12, 0.3, 0.6, 1.2, 2.1)


def draw_collapse(seed: int):
    """Left, success against gamma_p with paths of training; right, at one success rate, the leader's share against gamma_p."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _paths(left, seed)
    _basins(right)
    for axes in (left, right):
        plain(axes)
        axes.grid(visible=False)
    return figure


def _paths(axes, seed: int) -> None:
    success = np.linspace(0.12, 0.995, 300)
    critical = collapse.balance(success, ANSWERS, "centred", SIZE).critical
    top = 2.6
    axes.fill_between(success, critical, top, where=critical < top, color=BLUE, alpha=0.10, linewidth=0)
    axes.fill_between(success, 0, np.minimum(critical, top), color=ORANGE, alpha=0.10, linewidth=0)
    axes.plot(success, critical, color="black", linewidth=1.8)
    axes.text(0.60, 2.28, "right answers\neven out", color=BLUE, ha="left")
    axes.text(0.17, 0.90, "right answers sharpen", color=ORANGE, ha="left", va="center")
    axes.text(0.43, 1.50, "critical gamma_p")
    for strength in STRENGTHS:
        rate, used = _path(strength, seed)
        half = 0.055 * used / ANSWERS
        axes.fill_between(rate, strength - half, strength + half, color="#4D4D4D", linewidth=0)
        axes.annotate(
            f"{used[-1]:.1f}",
            (1.0, strength),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            color=BLUE if used[-1] > ANSWERS / 2 else ORANGE,
        )
        axes.annotate(
            "",
            (rate[0] + 0.035, strength),
            xytext=(rate[0], strength),
            arrowprops=dict(arrowstyle="-|>", color="white", linewidth=0.8, shrinkA=0, shrinkB=0),
        )
    axes.set_xlim(0.12, 1.0)
    axes.set_ylim(-0.12, top)
    axes.set_xlabel("Success rate C")
    axes.set_ylabel("gamma_p (centred)")
    axes.set_title(
        "Training runs to the right, width = right\nanswers in use; at the end, of 8:", fontsize=9, loc="left"
    )


def _path(strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Success and answers in use of one prompt that learns alone, expected steps."""
    logits, answers, correct = held.bandit(ANSWERS, WRONG, START)
    noise = np.random.default_rng(seed).normal(scale=0.5, size=ANSWERS)
    logits = logits + np.where(correct, np.append(noise, np.zeros(WRONG)), 0.0)
    logits, rate, used = held.at_success(logits, correct, START), [], []
    for step in range(601):
        if step % 6 == 0:
            pi = np.exp(logits[0] - np.logaddexp.reduce(logits[0]))
            rate.append(pi[correct].sum())
            used.append(held.variety(logits, answers, correct))
        logits = logits + 0.5 * closed_form_gradient(
            logits, answers, correct, SIZE, gamma_p=strength, level="sum", center=True
        )
    return np.array(rate), np.array(used)


def _basins(axes) -> None:
    share = np.linspace(1 / ANSWERS + 1e-6, 0.97, 400)
    line = collapse.separatrix(share, HELD, ANSWERS, "centred", SIZE)
    top = 2.6
    axes.fill_betweenx(share, np.minimum(line, top), top, color=BLUE, alpha=0.10, linewidth=0)
    axes.fill_betweenx(share, 0, np.minimum(line, top), color=ORANGE, alpha=0.10, linewidth=0)
    axes.plot(line, share, color="black", linewidth=1.8)
    for strength in (0.35, 0.8, 1.5, 2.2):
        edge = np.flatnonzero(line <= strength)
        reach = share[edge[-1]] if len(edge) else None
        if reach is None:
            spans = [(0.35, 0.62, ORANGE)]
        else:
            spans = [(reach - 0.06, max(reach - 0.28, 0.16), BLUE), (reach + 0.06, min(reach + 0.24, 0.97), ORANGE)]
        for low, high, colour in spans:
            if abs(high - low) > 0.04:
                axes.annotate(
                    "",
                    (strength, high),
                    xytext=(strength, low),
                    arrowprops=dict(arrowstyle="->", color=colour, linewidth=1.6),
                )
    axes.text(0.07, 0.90, "collapse: one answer wins", color=ORANGE)
    axes.text(1.32, 0.155, "even again", color=BLUE)
    axes.axhline(1 / ANSWERS, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, top)
    axes.set_ylim(0.08, 1.0)
    axes.set_xlabel("gamma_p (centred)")
    axes.set_ylabel("Leader's share of right answers")
    axes.set_title(f"Success held at {HELD:g} by the rest of\nthe model: who wins from where", fontsize=9, loc="left")
