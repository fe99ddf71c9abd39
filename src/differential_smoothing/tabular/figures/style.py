"""What the laboratory's figures share: colours, axes, and names beside curves instead of legends."""

from __future__ import annotations

import numpy as np

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PINK", "STYLE", "axes", "label_right", "plain"]

# Okabe and Ito, as in the report; base and vanilla RL in grey
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F"
STYLE = {"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "dsmooth", "svg.fonttype": "path"}


def axes():
    """A figure of one panel, and the panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    panel = figure.add_subplot()
    plain(panel)
    return figure, panel


def plain(axes) -> None:
    """Two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#4D4D4D")
    axes.tick_params(color="#4D4D4D", length=3)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def label_right(axes, ends: list[tuple[float, str, str]]) -> None:
    """Names beside the ends of the curves, moved apart where they would touch."""
    bottom, top = axes.get_ylim()
    ends, gap = sorted(ends), 0.07 * (top - bottom)
    step = gap * np.arange(len(ends))
    level = np.array([end for end, _, _ in ends]) - step
    # moved up only, and moved down only: both keep the gap, and so does their mean, which is the nearer to the curves
    up, down = np.maximum.accumulate(level), np.minimum.accumulate(level[::-1])[::-1]
    for height, (_, name, colour) in zip((up + down) / 2 + step, ends, strict=True):
        axes.annotate(
            name, (1.02, height), xycoords=("axes fraction", "data"), color=colour, va="center", annotation_clip=False
        )
