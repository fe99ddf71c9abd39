"""The numbers of ``evaluation.sets`` as a paper prints them: a row per model, a column per test set, a table per k."""

from __future__ import annotations

import pandas as pd

from .tables import written_difference, written_level

__all__ = ["sets_markdown"]


def sets_markdown(levels: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Markdown tables of Pass@k by test set in percent, and of the differences in points, bold where the 95% interval excludes 0."""
    blocks = []
    for k in sorted(levels["k"].unique()):
        blocks.append(_table(levels[levels["k"] == k], f"Pass@{k:.0f}, %", "Model", written_level))
        found = differences[differences["k"] == k]
        if len(found):
            blocks.append(
                _table(found, f"Paired differences of Pass@{k:.0f}, points", "Difference", written_difference)
            )
    sizes = levels.drop_duplicates("set").set_index("set")["problems"]
    sizes_text = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
    seeds = levels.groupby("model", sort=False)["training_seeds"].max()
    trained = ", ".join(f"{count} ({model})" for model, count in seeds.items())
    blocks.append(
        f"Brackets: 95% bootstrap intervals over problems, and training seeds where there are several. Bold: the interval "
        f"excludes 0. Problems: {sizes_text}; training seeds: {trained}.\n"
    )
    return "\n".join(blocks)


def _table(frame: pd.DataFrame, title: str, first: str, write) -> str:
    sets = list(dict.fromkeys(frame["set"]))
    lines = [[first, *sets], ["---", *["---:"] * len(sets)]]
    for model, rows in frame.groupby("model", sort=False):
        cells = []
        for name in sets:
            row = rows[rows["set"] == name]
            text, strong = (
                ("–", False) if row.empty or pd.isna(row["estimate"].iloc[0]) else write(row.iloc[0], "pass@k")
            )
            cells.append(f"**{text}**" if strong else text)
        lines.append([str(model), *cells])
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"**{title}**\n\n{body}\n"
