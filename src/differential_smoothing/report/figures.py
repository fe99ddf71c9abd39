"""The Pass@k figure of `evaluation.summarise`, drawn by matplotlib for papers."""

import os
from pathlib import Path

import pandas as pd

from .drawing import PALETTE, model_roles
from .tables import check_table

__all__ = ["pass_at_k_figure"]


def pass_at_k_figure(summary: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw the Pass@k curves of `evaluation.summarise`, intervals as bands, into an SVG or PNG file.

    Pass@k in percent against k on a log2 axis; the model named "base" in grey. The suffix of `path` sets the
    format, and missing folders are made. The same summary gives the same SVG text. Bands are pointwise
    intervals of each model; whether two models differ is for the paired differences of `compare` to say, not
    for bands that overlap.

    Raises ValueError for another suffix, and if the summary holds no Pass@k estimate.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise ValueError(
            f"pass_at_k_figure got the path {path}, expected a name that ends in .svg or .png. SVG suits "
            "papers and web pages, PNG everything else."
        )
    check_table("summary", summary)
    curves = summary[(summary["metric"] == "pass@k") & summary["estimate"].notna()].sort_values("k")
    if curves.empty:
        raise ValueError(
            f"pass_at_k_figure got a summary of {len(summary)} rows without a Pass@k estimate, expected at "
            "least one. Check that the rollouts have scored samples and that ks are not above n."
        )
    colours = _colours(summary)
    style = {"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "dsmooth", "svg.fonttype": "path"}
    with rc_context(style):
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for model, colour in colours.items():
            curve = curves[curves["model"] == model]
            k, estimate, low, high = (
                curve[name].to_numpy() * unit
                for name, unit in (("k", 1), ("estimate", 100), ("low", 100), ("high", 100))
            )
            axes.fill_between(k, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(
                k,
                estimate,
                color=colour,
                linewidth=1.6,
                marker="o",
                markersize=3.6,
                markeredgecolor="white",
                markeredgewidth=0.4,
                clip_on=False,
            )
        axes.set_xscale("log", base=2)
        ks = sorted(curves["k"].unique())
        axes.xaxis.set_major_locator(FixedLocator(_ticks(ks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda k, _: f"{k:.0f}")
        axes.set_xlim(ks[0], ks[-1] if len(ks) > 1 else 2 * ks[0])
        axes.set_xlabel("Number of samples k")
        axes.set_ylabel("Pass@k (%)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#4D4D4D")
        axes.tick_params(color="#4D4D4D", length=3)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
        _label_ends(axes, curves, colours)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a date the same numbers give the same SVG, so that a diff shows a change of the numbers.
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)


def _colours(summary: pd.DataFrame) -> dict[str, str]:
    return {str(model): PALETTE[role][0] for model, (role, _) in model_roles(summary["model"]).items()}


def _ticks(ks: list[float]) -> list[float]:
    """The ks from the largest down, each at least a factor 1.6 below the last, so that no labels touch."""
    ticks = [ks[-1]]
    for k in reversed(ks[:-1]):
        if k * 1.6 <= ticks[-1]:
            ticks.append(k)
    return ticks


def _label_ends(axes, curves: pd.DataFrame, colours: dict[str, str]) -> None:
    """Write each model's name beside the end of its curve, moved apart where ends are close."""
    from matplotlib.transforms import blended_transform_factory

    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    ends = curves.groupby("model")["estimate"].last().mul(100).sort_values()
    gap = 0.07 * (top - bottom)
    heights: list[float] = []
    for end in ends:
        heights.append(max(end, heights[-1] + gap) if heights else end)
    # Labels were only moved up; half of the largest move back down centres the stack on the ends it names.
    shift = max((height - end for height, end in zip(heights, ends, strict=True)), default=0.0) / 2
    place = blended_transform_factory(axes.transAxes, axes.transData)
    for model, height in zip(ends.index, heights, strict=True):
        axes.text(1.03, height - shift, model, color=colours[model], transform=place, va="center")
