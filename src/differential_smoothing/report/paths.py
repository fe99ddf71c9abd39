"""A sweep's paths as a figure, a table and sentences: who leads over the baseline's envelope, who ties, by how much."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from .drawing import PALETTE

__all__ = ["leads_markdown", "leads_sentences", "paths_figure"]

_PLACE = ["task", "rule", "strength", "learning_rate", "step"]
_UNITS = {"pass@1": 100, "pass@k": 100, "distinct": 1}
_COLOURS = ("m1", "m2", "m3", "m4", "m6", "m5")


def leads_markdown(leads: pd.DataFrame) -> str:
    """Tables of the results of ``evaluation.paths.leads``, one per task and baseline. Bold: the interval, 95% for all comparisons at once, excludes 0."""
    blocks = []
    for (task, baseline), found in leads.groupby(["task", "baseline"], sort=False):
        k = int(found["k"].max())
        lines = [
            [
                "Rule",
                "Point",
                "Chosen by",
                "Pass@1",
                f"Pass@{k}",
                "Distinct",
                f"Lead in Pass@{k}",
                "Lead in distinct",
                "Pass@1 beyond its best",
            ],
            ["---", "---", "---", "---:", "---:", "---:", "---:", "---:", "---:"],
        ]
        for _, rows in found.groupby(_PLACE, sort=False):
            of = rows.set_index("measure")
            first = rows.iloc[0]
            values = [_number(of.loc[m, "value"], m) for m in ("pass@1", "pass@k", "distinct")]
            gains = [_lead(of.loc[m], m) for m in ("pass@k", "distinct", "pass@1")]
            lines.append([first["rule"], _point(first), first["criterion"], *values, *gains])
        table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
        seeds, problems = found["training_seeds"], found["problems"].max()
        many = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
        missing = int(found["left_out"].max())
        note = (
            f" Up to {missing} of {baseline}'s points lack a seed of the comparison and are left out."
            if missing
            else ""
        )
        alone = (
            " With one seed the intervals speak of new problems for these trained models, not of training again."
            if seeds.min() == 1
            else ""
        )
        blocks.append(
            f"**{task + ': l' if task else 'L'}ead over the envelope of {baseline} at equal Pass@1**\n\n{table}\n\n"
            f"The envelope is the best that {baseline} reaches at a point's Pass@1 or a higher one with any strength, learning rate, checkpoint or mixture of two "
            f"({found['baseline_points'].max()} points). Points are chosen on other problems and judged on {problems} held-out ones, {many} training seed(s). Pass@k in %, leads in "
            f"points; leads are corrected for the bias of a maximum; brackets: 95% for all comparisons of the table with as many seeds at once; bold: they exclude 0. "
            f"Last column: Pass@1 minus the highest that {baseline} has anywhere.{note}{alone}\n"
        )
    return "\n".join(blocks)


def leads_sentences(leads: pd.DataFrame) -> list[str]:
    """In plain English, one sentence or two per task, baseline and rule: leads, ties or trails, by how much, and where."""
    sentences = []
    for (task, baseline, rule), found in leads.groupby(["task", "baseline", "rule"], sort=False):
        k = int(found["k"].max())
        names = {"pass@k": f"Pass@{k}", "distinct": "distinct answers"}
        where = f"{task}: " if task else ""
        measures_led, behind = [], []
        for measure, name in names.items():
            ahead = found[(found["measure"] == measure) & (found["low_all"] > 0)]
            rows = found[found["measure"] == measure]
            if (rows["high_all"] < 0).all():  # at every point that was chosen
                behind.append(name)
            if len(ahead):
                row = ahead.loc[ahead["estimate"].idxmax()]
                unit = " points" if measure == "pass@k" else ""
                measures_led.append(f"in {name} by {_lead(row, measure, bold=False)}{unit} ({_point(row)})")
        if measures_led:
            sentences.append(f"{where}{rule} leads {baseline}'s envelope at equal Pass@1 {' and '.join(measures_led)}.")
        elif behind:
            sentences.append(
                f"{where}{rule} trails {baseline}'s envelope at equal Pass@1 in {' and in '.join(behind)}."
            )
        else:
            sentences.append(f"{where}{rule} ties with {baseline}'s envelope: no lead at equal Pass@1 is clear of 0.")
        for _, rows in found.groupby(_PLACE, sort=False):
            of = rows.set_index("measure")
            if _beyond(of):
                sentences.append(
                    f"{where}{rule} ({_point(rows.iloc[0])}) lies beyond {baseline} at both ends: its Pass@1 is {_lead(of.loc['pass@1'], 'pass@1', bold=False)} points above the "
                    f"highest that {baseline} has anywhere, and its Pass@{k} {_lead(of.loc['pass@k'], 'pass@k', bold=False)} points above {baseline}'s there."
                )
    return sentences


def _beyond(of: pd.DataFrame) -> bool:
    """Whether Pass@1 is above the baseline's best anywhere and Pass@k above the baseline's there, both after correction."""
    return all(of.loc[m, "low_all"] > 0 for m in ("pass@1", "pass@k"))


def paths_figure(
    means: pd.DataFrame,
    leads: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    baseline: str,
    task: str = "",
    measure: str = "pass@k",
) -> None:
    """One task's paths into an SVG or PNG file: Pass@1 across, ``measure`` ("pass@k" or "distinct") up; a line per cell through its checkpoints.

    ``means`` is the result of ``evaluation.paths.path_means``, ``leads`` of ``leads``, whose points are ringed with the interval of their lead, put
    on the envelope's value. Rules with fewer training seeds than the baseline are left to the tables. Grey: the baseline's paths and, shaded, all that mixtures of their points reach. ValueError for an unknown task or measure.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from differential_smoothing.evaluation.envelope import envelope_at

    path = Path(path)
    shown = means[(means["task"] == task) & (means["evaluation"] == "evaluation")]
    if path.suffix not in (".svg", ".png") or measure not in ("pass@k", "distinct") or shown.empty:
        raise ValueError(
            f"paths_figure got path={path.name!r}, measure={measure!r}, task={task!r}; expected a name ending in .svg or .png, pass@k or distinct, and "
            f"one of the tasks {sorted(means['task'].unique())}."
        )
    unit = _UNITS[measure]
    base = shown[(shown["rule"] == baseline) | (shown["step"] == 0)]
    # rules that were only tried with fewer seeds stay in the tables: one path is noise
    most = shown.loc[(shown["rule"] == baseline) & (shown["step"] != 0), "training_seeds"].max()
    tried = shown.groupby("rule")["training_seeds"].transform("max")
    shown = shown[(tried >= most) | (shown["step"] == 0)]
    # a point below what the base had would press all others into a corner
    least = 0.6 * base["pass@1"].min()
    gone = sorted(set(shown.loc[shown["pass@1"] < least, "rule"]))
    shown = shown[shown["pass@1"] >= least]
    rules = [rule for rule in dict.fromkeys(shown.loc[shown["step"] != 0, "rule"]) if rule != baseline]
    style = {"font.family": "sans-serif", "font.size": 8, "svg.hashsalt": "dsmooth", "svg.fonttype": "path"}
    with rc_context(style):
        figure = Figure(figsize=(5.6, 4.0), layout="constrained")
        axes = figure.subplots()
        grid = np.linspace(base["pass@1"].min(), base["pass@1"].max(), 200)
        points = [np.repeat(base[name].to_numpy()[None], len(grid), axis=0) for name in ("pass@1", measure)]
        top = envelope_at(grid, *points) * unit
        low = min(shown[measure].min(), base[measure].min()) * unit
        axes.fill_between(100 * grid, low, top, color="#E4E4E4", linewidth=0, zorder=0, label=f"reached by {baseline}")
        for number, rule in enumerate([baseline, *rules]):
            colour = "#7F7F7F" if rule == baseline else PALETTE[_COLOURS[(number - 1) % len(_COLOURS)]][0]
            dashes = "-" if rule == baseline else ("-", "--", ":")[(number - 1) // len(_COLOURS) % 3]
            label = rule
            for _, cell in shown[(shown["rule"] == rule) & (shown["step"] != 0)].groupby(
                ["strength", "learning_rate"], sort=False
            ):
                cell = cell.sort_values("step")
                axes.plot(
                    100 * cell["pass@1"],
                    unit * cell[measure],
                    color=colour,
                    linestyle=dashes,
                    linewidth=1.0,
                    marker=".",
                    markersize=3,
                    label=label,
                    zorder=2,
                )
                label = None
            ringed = leads[
                (leads["task"] == task)
                & (leads["baseline"] == baseline)
                & (leads["rule"] == rule)
                & (leads["measure"].isin((measure, "pass@1")))
            ]
            for _, rows in ringed.groupby(_PLACE, sort=False):
                of = rows.set_index("measure")
                if of.loc["pass@1", "value"] < least:
                    continue
                x, y = 100 * of.loc["pass@1", "value"], unit * of.loc[measure, "value"]
                at = unit * of.loc[measure, "reference"]
                axes.plot([x], [y], marker="o", markersize=8, markerfacecolor="none", color=colour, zorder=4)
                ends = [at + unit * of.loc[measure, end] for end in ("low_all", "high_all")]
                axes.plot([x, x], ends, color=colour, linewidth=1.2, alpha=0.7, zorder=3)
        if gone:
            axes.text(
                0.02,
                0.02,
                f"Outside, Pass@1 below {100 * least:.0f}: {', '.join(gone)}",
                transform=axes.transAxes,
                fontsize=7,
                color="#5A5A5A",
            )
        axes.set_xlabel("Pass@1 (%)", fontsize=8.5)
        axes.set_ylabel(
            f"Pass@{int(shown['k'].iloc[0])} (%)" if measure == "pass@k" else "Distinct correct answers", fontsize=8.5
        )
        lowest, highest = low, (100 if measure == "pass@k" else unit * shown[measure].max())
        axes.set_ylim(
            lowest - 0.05 * (highest - lowest), highest + 0.03 * (highest - lowest)
        )  # wide intervals do not squeeze the paths
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#ECECEC", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=7, loc="best")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)


def _point(row: pd.Series) -> str:
    step = "" if row["step"] < 0 else f"step {row['step']}"
    return " ".join(part for part in (str(row["strength"]), f"lr {row['learning_rate']:g}", step) if part)


def _number(value: float, measure: str, sign: str = "") -> str:
    return "–" if value != value else f"{value * _UNITS[measure]:{sign}.{2 if measure == 'distinct' else 1}f}"


def _lead(row: pd.Series, measure: str, *, bold: bool = True) -> str:
    text = f"{_number(row['estimate'], measure, '+')} [{_number(row['low_all'], measure)}, {_number(row['high_all'], measure)}]"
    return f"**{text}**" if bold and (row["low_all"] > 0 or row["high_all"] < 0) else text
