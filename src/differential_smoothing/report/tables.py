"""The numbers of `evaluation.summarise` and `compare` as terminal tables, Markdown and plain words."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["comparison_table", "diagnosis_table", "savings", "tax", "to_markdown", "verdict"]


def comparison_table(summary: pd.DataFrame, comparisons: pd.DataFrame | None = None) -> "Table":
    """Tables for a terminal of 100 columns, to be printed with `rich`.

    `summary` is the result of `evaluation.summarise`; `comparisons` that of `evaluation.compare`, or several
    of them concatenated. The first table has a row per model: Pass@k in percent and distinct correct
    solutions, each with its interval. The second has a row per comparison: paired differences, Pass@k in
    percentage points, bold where the interval excludes 0. To stay narrow, both show the first, the middle and
    the last k only, and coverage, where it was summarised, in place of the middle k; the frames hold all of
    them.

    Raises ValueError if a frame is not such a result.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    both = Table.grid()
    for sheet in _sheets(summary, comparisons):
        table = Table(
            title=sheet.title,
            caption=sheet.caption,
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            show_edge=False,
            title_justify="left",
            caption_justify="left",
            title_style="bold",
            caption_style="dim",
        )
        for number, name in enumerate(sheet.header):
            table.add_column(name, justify="right" if number else "left")
        for label, cells in sheet.rows:
            # Text objects, because rich would read a "[" in a string as the start of markup.
            table.add_row(Text(label), *(Text(text, style="bold" if strong else "") for text, strong in cells))
        if both.row_count:
            both.add_row("")
        both.add_row(table)
    return both


def diagnosis_table(findings: pd.DataFrame) -> "Table":
    """The `findings` of `evaluation.diagnose` for a terminal, to be printed with `rich`; bold where 0 is excluded.

    Points, percentages of share and nats are changes, after minus before; undefined findings read "–".
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        caption="Brackets: 95% bootstrap intervals over problems.",
        caption_style="dim",
        caption_justify="left",
    )
    for name, justify in (("Finding", "left"), ("Estimate", "right"), ("Unit", "left"), ("Problems", "right")):
        table.add_column(name, justify=justify)
    for row in findings.itertuples():
        scale, unit = (100, "points") if row.unit in ("points", "share") else (1, row.unit)
        digits = 1 if scale == 100 else 2
        if pd.isna(row.estimate):
            text = "–"
        elif pd.isna(row.low):
            text = f"{scale * row.estimate:z.{digits}f}"
        else:
            text = f"{scale * row.estimate:z.{digits}f} [{scale * row.low:z.{digits}f}, {scale * row.high:z.{digits}f}]"
        strong = row.low > 0 or row.high < 0
        table.add_row(row.finding, Text(text, style="bold" if strong else ""), unit, str(row.problems))
    return table


def to_markdown(summary: pd.DataFrame, comparisons: pd.DataFrame | None = None) -> str:
    """The tables of `comparison_table` as Markdown text, with the same arguments and errors."""
    blocks = []
    for sheet in _sheets(summary, comparisons):
        lines = [sheet.header, ["---"] + ["---:"] * (len(sheet.header) - 1)]
        for label, cells in sheet.rows:
            lines.append([label.replace("|", "\\|"), *(f"**{text}**" if strong else text for text, strong in cells)])
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        blocks.append(f"**{sheet.title}**\n\n{table}\n\n{sheet.caption}\n")
    return "\n".join(blocks)


def verdict(comparisons: pd.DataFrame) -> list[str]:
    """One sentence per comparison, in plain words that say no more than the intervals allow.

    "ds_grpo - grpo: Pass@1 no clear difference, Pass@64 up by 4.7 points, distinct up by 0.22." `comparisons` and errors
    as in `comparison_table`. Up or down is said where the 95% interval excludes 0.
    """
    check_table("comparisons", comparisons)
    keys = _columns(comparisons)
    names = [f"Pass@{k:.0f}" if metric == "pass@k" else metric for metric, k in keys]
    sentences = []
    for label, cells in _rows(comparisons, keys, _in_words):
        claim = ", ".join(f"{name} {text}" for name, (text, _) in zip(names, cells, strict=True))
        sentences.append(f"{label}: {claim}.")
    return sentences


def tax(comparisons: pd.DataFrame, summary: pd.DataFrame, baseline: str) -> list[str]:
    """One or two sentences per model from rows "spread", "area" of `evaluation.compare` with `baseline`, and the shares solved of `summarise`.

    The sharpening tax is minus the difference in "spread": by how many points more Pass@1 rose than Pass@K. Errors as in `comparison_table`.
    """
    check_table("comparisons", comparisons)
    shares = summary.set_index(["model", "metric"])["estimate"]
    sentences = []
    for name, rows in comparisons.groupby("model", sort=False):
        model, rows = name.removesuffix(f" - {baseline}"), rows.set_index("metric")
        if not {"spread", "area"} <= set(rows.index) or rows.loc["spread", ["estimate", "low", "high"]].isna().any():
            continue
        spread, area = rows.loc["spread"], rows.loc["area"]
        sentences.append(
            f"Sharpening tax of {model} against {baseline}: {-100 * spread.estimate:+z.1f} [{-100 * spread.high:z.1f}, "
            f"{-100 * spread.low:z.1f}] points (rise of Pass@1 minus rise of Pass@{spread.k:.0f}); area under the Pass@k curve "
            f"{100 * area.estimate:+z.1f} [{100 * area.low:z.1f}, {100 * area.high:z.1f}] points."
        )
        parts = [
            f"{kind} {100 * shares[baseline, kind]:.0f}% -> {100 * shares[model, kind]:.0f}%"
            for kind in ("always", "sometimes", "never")
        ]
        sentences.append(
            f"Problems solved by all, some, none of the samples, {baseline} -> {model}: {', '.join(parts)}."
        )
    return sentences


def savings(comparisons: pd.DataFrame, baseline: str) -> list[str]:
    """One sentence per row "reach@k" of `evaluation.compare` with `baseline`, with where the curves cross if they do.

    "ds_grpo has grpo's Pass@32 with 19.1 [17.0, 21.5] samples; their curves cross at k = 2 [1, 3]." Nothing is said without
    an interval. Errors as in `comparison_table`.
    """
    check_table("comparisons", comparisons)
    sentences = []
    for row in comparisons[comparisons["metric"] == "reach@k"].itertuples():
        if pd.isna(row.low):
            continue
        model = row.model.removesuffix(f" - {baseline}")
        goal = f"{baseline}'s Pass@{row.k:.0f}"
        if math.isinf(row.estimate):
            claim = f"{model} does not have {goal} with as many samples"
        else:
            high = "more than there are" if math.isinf(row.high) else f"{row.high:.1f}"
            claim = f"{model} has {goal} with {row.estimate:.1f} [{row.low:.1f}, {high}] samples"
        same = comparisons[(comparisons["metric"] == "crossing") & (comparisons["model"] == row.model)]
        if len(same) and math.isfinite(same["estimate"].iloc[0]):
            at, low, high = same[["estimate", "low", "high"]].iloc[0]
            last = "none" if math.isinf(high) else f"{high:.0f}"
            claim += f"; their curves cross at k = {at:.0f} [{low:.0f}, {last}]"
        sentences.append(f"{claim}.")
    return sentences


def _in_words(row: pd.Series, metric: str) -> tuple[str, bool]:
    direction = "up" if row["low"] > 0 else "down" if row["high"] < 0 else ""
    if not direction:
        return "no clear difference", False
    if metric == "distinct":
        return f"{direction} by {abs(row['estimate']):.2f}", True
    return f"{direction} by {100 * abs(row['estimate']):.1f} points", True


class _Sheet(NamedTuple):
    title: str
    header: list[str]
    rows: list[tuple[str, list[tuple[str, bool]]]]
    caption: str


def _sheets(summary: pd.DataFrame, comparisons: pd.DataFrame | None) -> Iterator[_Sheet]:
    check_table("summary", summary)
    yield _sheet(
        "Means over problems: Pass@k and coverage in %, distinct correct solutions",
        "Model",
        summary,
        written_level,
        "Brackets: 95% bootstrap intervals.",
    )
    if comparisons is not None:
        check_table("comparisons", comparisons)
        yield _sheet(
            "Paired differences on the same problems, in percentage points and in solutions",
            "Difference",
            comparisons,
            written_difference,
            "Bold: the 95% interval excludes 0.",
        )


def _sheet(
    title: str, first: str, frame: pd.DataFrame, write: Callable[[pd.Series, str], tuple[str, bool]], note: str
) -> _Sheet:
    keys = _columns(frame)
    header = [f"Pass@{k:.0f}" if metric == "pass@k" else metric.capitalize() for metric, k in keys]
    # Other metrics of the frame may rest on fewer problems; the caption speaks of what the table shows.
    shown = frame[frame["metric"].isin([metric for metric, _ in keys])]
    return _Sheet(
        title, [first, *header], _rows(frame, keys, write), f"{note} {_extent(frame if shown.empty else shown)}."
    )


def check_table(name: str, frame: pd.DataFrame) -> None:
    needed = ["model", "metric", "k", "estimate", "low", "high", "problems", "training_seeds"]
    missing = [column for column in needed if column not in frame]
    if missing or frame.empty:
        raise ValueError(
            f"The report got {name} with {len(frame)} rows and without the columns {missing}, expected at "
            f"least one row and the columns {needed}. Give the result of "
            f"evaluation.{'summarise' if name == 'summary' else 'compare'}."
        )


def _columns(summary: pd.DataFrame) -> list[tuple[str, float]]:
    ks = sorted(summary.loc[summary["metric"] == "pass@k", "k"].unique())
    others = [name for name in ("distinct", "coverage") if (summary["metric"] == name).any()]
    picked = {ks[0], ks[-1]} | ({ks[len(ks) // 2]} if "coverage" not in others else set()) if ks else set()
    return [("pass@k", k) for k in sorted(picked)] + [(name, float("nan")) for name in others]


def _rows(
    frame: pd.DataFrame, keys: list[tuple[str, float]], write: Callable[[pd.Series, str], tuple[str, bool]]
) -> list[tuple[str, list[tuple[str, bool]]]]:
    rows = []
    for model, part in frame.groupby("model", sort=False):
        cells = []
        for metric, k in keys:
            match = part[(part["metric"] == metric) & ((part["k"] == k) | (metric != "pass@k"))]
            undefined = match.empty or pd.isna(match["estimate"].iloc[0])
            cells.append(("–", False) if undefined else write(match.iloc[0], metric))
        rows.append((str(model), cells))
    return rows


def written_level(row: pd.Series, metric: str) -> tuple[str, bool]:
    return _write(row, metric, sign=""), False


def written_difference(row: pd.Series, metric: str) -> tuple[str, bool]:
    return _write(row, metric, sign="+"), bool(row["low"] > 0 or row["high"] < 0)


def _write(row: pd.Series, metric: str, sign: str) -> str:
    unit, digits = (1, 2) if metric == "distinct" else (100, 1)
    estimate = f"{unit * row['estimate']:{sign}z.{digits}f}"
    if pd.isna(row["low"]):
        return estimate
    return f"{estimate} [{unit * row['low']:z.{digits}f}, {unit * row['high']:z.{digits}f}]"


def _extent(frame: pd.DataFrame) -> str:
    sizes = frame["problems"].unique()
    problems = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes.min()} to {sizes.max()}"
    seeds = frame.groupby("model", sort=False)["training_seeds"].max()
    runs = (
        f"{seeds.iloc[0]}"
        if seeds.nunique() == 1
        else ", ".join(f"{count} ({model})" for model, count in seeds.items())
    )
    return f"Problems: {problems}; training seeds: {runs}"
