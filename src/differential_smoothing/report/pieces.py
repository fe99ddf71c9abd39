"""Pieces of the HTML page: sections, figures, tables, numbers with their intervals, and text that cannot be anything but text."""

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import pandas as pd

from . import embed, plots
from .drawing import Drawing, legal

__all__ = [
    "Numbers",
    "estimate_text",
    "figure_of",
    "interval_plot",
    "metrics_table",
    "name_of",
    "saves",
    "section",
    "table_of",
    "text_of",
    "unit_of",
]

_WIDE, _NARROW = 680, 340  # pixels; the narrow drawing is for phones


class Numbers:
    """Table 1, Table 2, Figure 1: numbered as they come."""

    def __init__(self) -> None:
        self.last = {"Table": 0, "Figure": 0}

    def __call__(self, kind: str) -> str:
        self.last[kind] += 1
        return f"<b>{kind} {self.last[kind]}.</b>"


# --- pieces ---------------------------------------------------------------------------------------------------------


def section(name: str, title: str, body: str) -> str:
    """A section of the page with its heading and anchor."""
    return f"<section id={name} aria-labelledby={name}-title>\n<h2 id={name}-title tabindex=-1>{title}</h2>\n{body}\n</section>"


def figure_of(
    name: str,
    draw: Callable[[float], Drawing],
    drawings: dict[str, Drawing],
    caption: str,
    small: bool = False,
    tables: Iterable[str] = (),
) -> str:
    """A figure in a wide and a narrow form, of which the browser shows the one that fits; put into ``drawings`` under its ``name``."""
    drawings[name] = draw(_WIDE)
    wide, narrow = drawings[name].svg(inline=True), draw(_NARROW).svg(inline=True)
    hint = "Values: point at the figure, or focus it and press the arrow keys."
    save = f"<button class=quiet type=button data-svg={name}>Figure as SVG</button>"
    return (
        f'<figure><div class="wide{" small" if small else ""}">{wide}</div><div class=narrow>{narrow}</div>'
        f"<figcaption>{caption} {hint} <span class=saves>{save}{saves(*tables)}</span></figcaption></figure>"
    )


def saves(*tables: str) -> str:
    """Buttons that save the ``tables`` as CSV."""
    return "".join(
        f"<button class=quiet type=button data-csv={name}>{name.capitalize()} as CSV</button>" for name in tables
    )


def table_of(caption: str, header: list[str], rows: list[list[str]], kind: str = "", label: str = "") -> str:
    """`rows`: the content of the row's heading, then cells as `<td>`."""
    head = "".join(f"<th scope=col>{name}</th>" for name in header)
    body = "\n".join(f"<tr><th scope=row>{first}</th>{''.join(cells)}</tr>" for first, *cells in rows)
    return (
        f'<div class=box tabindex=0 role=region aria-label="{label}"><table class="{kind}"><caption>{caption}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def metrics_table(frame: pd.DataFrame, caption: str, first: str, label: str, difference: bool) -> str:
    """A row per model or comparison, a column per metric and k."""
    ks = sorted(frame.loc[frame["metric"] == "pass@k", "k"].unique())
    others = [name for name in ("distinct", "coverage") if (frame["metric"] == name).any()]
    header = [first, *(f"Pass@{k:.0f}" for k in ks), *(name.capitalize() for name in others), "Problems", "Seeds"]
    rows = []
    for name, part in frame.groupby("model", sort=False):
        found = {(row.metric, row.k if row.metric == "pass@k" else None): row for row in part.itertuples()}
        cells = []
        keys: list[tuple[str, Any]] = [("pass@k", k) for k in ks]
        for key in [*keys, *((other, None) for other in others)]:
            row = found.get(key)
            scale = (1.0, 2) if key[0] == "distinct" else (100.0, 1)
            sure = difference and row is not None and bool(row.low > 0 or row.high < 0)
            cells.append(
                "<td>–</td>" if row is None else estimate_text(row, *scale, "", sure, "+" if difference else "")
            )
        problems = sorted(set(part["problems"]))
        size = f"{problems[0]}" if len(problems) == 1 else f"{problems[0]}–{problems[-1]}"
        cells += [f"<td>{size}</td>", f"<td>{part['training_seeds'].max()}</td>"]
        rows.append([name_of(name), *cells])
    return table_of(caption, header, rows, "metrics", label)


def estimate_text(row: Any, scale: float, digits: int, unit: str, sure: bool, sign: str = "") -> str:
    """An estimate with its interval as HTML; bold where ``sure``."""
    if math.isnan(row.estimate):
        return "<td>–</td>"
    text = f"{scale * row.estimate:{sign}z.{digits}f}{unit}"
    text = f"<strong>{text}</strong>" if sure else text
    if not math.isnan(row.low):
        text += f"<small>[{scale * row.low:z.{digits}f}, {scale * row.high:z.{digits}f}]</small>"
    return f"<td>{text.replace('-', '−')}</td>"


def unit_of(unit: Any) -> tuple[float, int, str]:
    """Scale, digits and what to write behind: points and shares are fractions in the frame."""
    if unit in ("points", "share"):
        return 100.0, 1, " points" if unit == "points" else "%"
    return 1.0, 2, f" {escape(unit)}" if isinstance(unit, str) and unit else ""


def interval_plot(row: Any, bounds: tuple[float, float], sure: bool) -> str:
    """An estimate and its interval as a small drawing inside a table cell."""
    svg = plots.interval_drawing(row.low, row.estimate, row.high, bounds, sure).svg(inline=True)
    # The numbers stand in the cell beside it, so who hears the page loses nothing.
    hidden = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    return f"<td class=plot>{hidden}</td>"


def text_of(value: Any, most: int = 200) -> str:
    """Text as HTML shows it, control characters and markup included, cut after ``most`` characters."""
    return escape(legal(embed.cut(value, most)))


def name_of(model: Any) -> str:
    """A model's name in HTML."""
    return f"<bdi>{text_of(model, 80)}</bdi>"
