"""The frontiers of a sweep as a figure and as Markdown: one panel per rule, always against the baseline's learning rates."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from .drawing import PALETTE

__all__ = ["arena_markdown", "frontier_figure"]

_UNITS = {"pass@1": 100, "pass@k": 100, "distinct": 1, "differ": 100}
_POINT = ["task", "rule", "strength", "learning_rate"]
_AXES = {
    "pass@1": "Pass@1 (%)",
    "pass@k": "Pass@{k} (%)",
    "distinct": "Distinct correct answers",
    "differ": "Two correct answers differ (%)",
}


def frontier_figure(
    means: pd.DataFrame,
    best: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    baseline: str,
    task: str = "",
    measure: str = "pass@k",
) -> None:
    """Small multiples of one task into an SVG or PNG file: every point of a rule over the baseline's, its best one ringed.

    ``means`` is the result of ``frontiers.point_means``, ``best`` of ``best_points``. Horizontal is Pass@1, vertical ``measure``; up and
    right is better. A line joins the strengths of a rule at one learning rate, the lighter the higher the rate; the grey line is the
    baseline's learning rates, in every panel. Crosses are 95% intervals of the best point.

    Raises ValueError for an unknown measure or task, or another suffix.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path = Path(path)
    shown = means[(means["task"] == task) & (means["evaluation"] == "evaluation")]
    if path.suffix not in (".svg", ".png") or measure not in _AXES or shown.empty:
        raise ValueError(
            f"frontier_figure got path={path.name!r}, measure={measure!r}, task={task!r}; expected a name ending in .svg or .png, "
            f"a measure of {', '.join(_AXES)}, and one of the tasks {sorted(means['task'].unique())}."
        )
    k = int(shown.loc[shown["measure"] == "pass@k", "k"].iloc[0])
    place = {name: shown[shown["measure"] == name].set_index(_POINT) for name in ("pass@1", measure)}
    x, y = (place[name]["estimate"] * _UNITS[name] for name in ("pass@1", measure))
    rules = [rule for rule in dict.fromkeys(shown["rule"]) if rule != baseline]
    columns = min(3, max(1, len(rules)))
    lines = -(-len(rules) // columns) or 1
    style = {"font.family": "sans-serif", "font.size": 8, "svg.hashsalt": "dsmooth", "svg.fonttype": "path"}
    with rc_context(style):
        figure = Figure(figsize=(2.5 * columns + 0.4, 2.1 * lines + 0.4), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        rates = sorted(shown["learning_rate"].unique())
        base = [
            (x[key], y[key]) for key in sorted((key for key in x.index if key[1] == baseline), key=lambda key: key[3])
        ]
        # a run that broke down would press all others into a corner
        least = [0.6 * min(values) for values in zip(*base, strict=True)]
        inside = [(x[key], y[key]) for key in x.index if x[key] >= least[0] and y[key] >= least[1]]
        if inside:  # a measure may be defined nowhere
            low, high = np.min(inside, axis=0), np.max(inside, axis=0)
            margin = np.maximum(0.08 * (high - low), 0.01)
            panels[0, 0].set_xlim(low[0] - margin[0], high[0] + margin[0])
            panels[0, 0].set_ylim(low[1] - margin[1], high[1] + margin[1])
        for axes, rule in zip(panels.flat, rules, strict=False):
            gone = sum((x[key], y[key]) not in inside for key in x.index if key[1] == rule)
            if gone and inside:
                axes.text(0.03, 0.03, f"{gone} broke down", transform=axes.transAxes, fontsize=7, color="#5A5A5A")
            ours = rule.startswith("ds")
            colour = PALETTE["m1" if ours else "m2"][0]
            axes.plot(*zip(*base, strict=True), color="#9A9A9A", linewidth=1.2, marker="o", markersize=3.2, zorder=2)
            for number, rate in enumerate(rates):
                keys = [key for key in x.index if key[1] == rule and key[3] == rate and (x[key], y[key]) in inside]
                axes.plot(
                    [x[key] for key in keys],
                    [y[key] for key in keys],
                    color=colour,
                    linewidth=1.0,
                    marker="o",
                    markersize=3.4,
                    alpha=1 - 0.65 * number / max(1, len(rates) - 1),
                    zorder=3,
                )
            for who, ring in ((rule, colour), (baseline, "#5A5A5A")):
                chosen = best[(best["task"] == task) & (best["rule"] == who)]
                for _, point in chosen.iterrows():
                    _cross(axes, place, tuple(point[_POINT]), measure, ring)
            axes.set_title(rule, fontsize=8.5, color=colour, loc="left", pad=3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="#ECECEC", linewidth=0.6)
            axes.set_axisbelow(True)
        for number in range(len(rules), panels.size):
            panels.flat[number].set_visible(False)
            panels.flat[number - columns].tick_params(labelbottom=True)  # the panel above is the lowest of its column
        figure.supxlabel(_AXES["pass@1"], fontsize=8.5)
        figure.supylabel(_AXES[measure].format(k=k), fontsize=8.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)


def _cross(axes, place: dict[str, pd.DataFrame], key: tuple, measure: str, colour: str) -> None:
    across, up = (place[name].loc[key] for name in ("pass@1", measure))
    ends = []
    for row, name in ((across, "pass@1"), (up, measure)):
        unit = _UNITS[name]
        ends.append(np.array([[row["estimate"] - row["low"]], [row["high"] - row["estimate"]]]) * unit)
    axes.errorbar(
        across["estimate"] * _UNITS["pass@1"],
        up["estimate"] * _UNITS[measure],
        xerr=ends[0],
        yerr=ends[1],
        fmt="o",
        markersize=7,
        markerfacecolor="none",
        color=colour,
        linewidth=0.9,
        zorder=4,
    )


def arena_markdown(
    best: pd.DataFrame, means: pd.DataFrame, paired: pd.DataFrame, dominance: pd.DataFrame, baseline: str
) -> str:
    """The report of a sweep: per task the best point of each rule, its paired difference to the baseline's, and who dominates it.

    Arguments are the results of ``frontiers``; ``dominance`` holds the rows of ``dominated_by`` of each best point, with its rule
    in the column ``of``. Bold: significant at 5% after Holm's correction.
    """
    blocks = []
    for task in dict.fromkeys(best["task"]):
        chosen = best[best["task"] == task]
        held_out = means[(means["task"] == task) & (means["evaluation"] == "evaluation")]
        k = int(held_out.loc[held_out["measure"] == "pass@k", "k"].iloc[0])
        seeds, problems = held_out["training_seeds"].max(), held_out["problems"].max()
        names = {"pass@1": "Pass@1", "pass@k": f"Pass@{k}", "distinct": "Distinct", "differ": "Differ"}
        lines = [
            [
                "Rule",
                "Strength",
                "Learning rate",
                *names.values(),
                *(f"{name} − {baseline}" for name in names.values()),
                "Dominated by",
            ]
        ]
        lines.append(["---", "---", "---:"] + ["---:"] * 8 + ["---"])
        for _, point in chosen.iterrows():
            key = [held_out[name] == point[name] for name in _POINT]
            mine = held_out[np.logical_and.reduce(key)].set_index("measure")["estimate"]
            cells = [_number(mine[name] * _UNITS[name], name) for name in names]
            if point["rule"] == baseline:
                cells += [""] * 4
            else:
                rows = paired[(paired["task"] == task) & (paired["rule"] == point["rule"])].set_index("measure")
                cells += [_difference(rows.loc[name], name) for name in names]
            against = dominance[(dominance["task"] == task) & (dominance["of"] == point["rule"])]
            sure = against[against["p_dominates"] < 0.05]
            by = ", ".join(_point_name(row) for _, row in sure.iterrows()) or "none"
            label = point["rule"] + ("*" if point["criterion"] == "closest" else "")
            lines.append([label, point["strength"], f"{point['learning_rate']:g}", *cells, by])
        table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
        blocks.append(
            f"**{task or 'Best point of each rule'}, chosen on other problems, judged on {problems} held-out ones, {seeds} training "
            f"seeds**\n\n{table}\n\nPass@k and Differ (two correct answers to a problem differ) in %, differences in points. Brackets: 95% "
            f"bootstrap intervals of the paired difference; bold: not 0 at 5% after Holm's correction. *: no point with the "
            f"baseline's Pass@1 on the selection problems. Dominated by: points better in Pass@1 and Pass@{k}, same correction.\n"
        )
    return "\n".join(blocks)


def _number(value: float, measure: str, sign: str = "") -> str:
    if value != value:
        return "–"  # not defined, as variety among correct answers where there are none
    return f"{value:{sign}.{2 if measure == 'distinct' else 1}f}"


def _difference(row: pd.Series, measure: str) -> str:
    unit = _UNITS[measure]
    if row["estimate"] != row["estimate"]:
        return "–"
    text = f"{_number(row['estimate'] * unit, measure, '+')} [{_number(row['low'] * unit, measure)}, {_number(row['high'] * unit, measure)}]"
    return f"**{text}**" if row["p_holm"] < 0.05 else text


def _point_name(row: pd.Series) -> str:
    return " ".join(part for part in (row["rule"], row["strength"], f"{row['learning_rate']:g}") if part)
