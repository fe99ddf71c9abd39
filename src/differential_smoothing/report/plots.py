"""The figures of the page, each a `Drawing` of any width: Pass@k curves, paired differences, modes before and after."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .drawing import Drawing, model_roles, text_width

__all__ = ["difference_drawing", "interval_drawing", "modes_drawing", "pass_at_k_drawing"]

_SIZE = 12  # of the type, in pixels


def pass_at_k_drawing(summary: pd.DataFrame, width: float = 680) -> Drawing:
    """Pass@k in percent against k on a log axis, a curve with its band per model, from `evaluation.summarise`.

    Raises ValueError if the summary holds no Pass@k estimate.
    """
    curves = summary[(summary["metric"] == "pass@k") & summary["estimate"].notna()].sort_values("k")
    if curves.empty:
        raise ValueError(
            f"The page got a summary of {len(summary)} rows without a Pass@k estimate, expected at least one. Check that "
            "the rollouts have scored samples."
        )
    roles = model_roles(summary["model"])
    names = {model: _short(model, 0.34 * width) for model in roles}
    ks = sorted(curves["k"].unique())
    ends = curves.groupby("model")["estimate"].last()
    caption = ", ".join(f"{model} {100 * ends[model]:.1f}" for model in roles if model in ends)
    height = max(0.5 * width, 230, 18 * len(roles) + 70)
    drawing = Drawing(
        width,
        height,
        "Pass@k curves",
        f"Pass@k in percent against the number of samples k, from {ks[0]:.0f} to {ks[-1]:.0f}, with 95% bands. At the "
        f"last k: {caption}. The table below holds every value.",
    )
    left, right = 40, width - 22 - max(text_width(name, _SIZE) for name in names.values())
    top, bottom = 26, height - 40
    bounds = 100 * np.array([curves["low"].fillna(curves["estimate"]), curves["high"].fillna(curves["estimate"])])
    ticks = round_numbers(max(0, bounds.min() - 2), min(100, bounds.max() + 2), 6)
    ticks = [tick for tick in ticks if 0 <= tick <= 100]
    low, high = min(ticks[0], bounds.min()), max(ticks[-1], bounds.max())
    span = math.log2(ks[-1] / ks[0]) or 1.0
    across = {k: left + 4 + (right - left - 8) * (math.log2(k / ks[0]) / span if len(ks) > 1 else 0.5) for k in ks}

    def up(percent: float) -> float:
        return bottom - (bottom - top) * (percent - low) / (high - low)

    for tick in ticks:
        drawing.line([(left, up(tick)), (right, up(tick))], "grid")
        drawing.text(left - 7, up(tick) + 4, f"{tick:g}", anchor="end", size=_SIZE)
    drawing.line([(left, bottom), (right, bottom)], "rule")
    last = math.inf
    for k in reversed(ks):
        if last - across[k] > text_width(f"{k:.0f}", _SIZE) + 12:
            drawing.line([(across[k], bottom), (across[k], bottom + 4)], "rule")
            drawing.text(across[k], bottom + 17, f"{k:.0f}", anchor="middle", size=_SIZE)
            last = across[k]
    drawing.text((left + right) / 2, height - 6, "Number of samples k", anchor="middle", size=_SIZE)
    drawing.text(2, 12, "Pass@k (%)", size=_SIZE)
    by_model = {str(model): part for model, part in curves.groupby("model")}
    for model, part in by_model.items():
        edge = [(across[k], up(100 * v)) for k, v in zip(part["k"], part["low"])]
        other = [(across[k], up(100 * v)) for k, v in zip(part["k"], part["high"])]
        drawing.area(edge + other[::-1], roles[model][0], 0.16 * min(1, 4 / len(by_model)))
    for model, part in by_model.items():
        points = [(across[k], up(100 * v)) for k, v in zip(part["k"], part["estimate"])]
        drawing.line(points, roles[model][0], 1.8)
        for x, y in points:
            drawing.mark(x, y, *roles[model])
    heights = apart([up(100 * ends[model]) for model in by_model], 17, top + 4, bottom)
    for model, y in zip(by_model, heights):
        drawing.mark(right + 8, y, *roles[model])
        drawing.text(right + 16, y + 4, names[model], "ink", size=_SIZE)
    for i, k in enumerate(ks):
        from_x = (across[ks[i - 1]] + across[k]) / 2 if i else left
        to_x = (across[k] + across[ks[i + 1]]) / 2 if i + 1 < len(ks) else right
        rows = curves[curves["k"] == k].sort_values("estimate", ascending=False, kind="stable")
        lines = [f"{row.model}  {_interval(row, 100, 1)}" for row in rows.itertuples()]
        drawing.hit(from_x, top, to_x - from_x, bottom - top, "\n".join([f"Pass@{k:.0f} (%)", *lines]), across[k])
    return drawing


def difference_drawing(comparisons: pd.DataFrame, models: Sequence[str], width: float = 680) -> Drawing:
    """Paired differences as dots with intervals, hollow where the interval holds 0; `models` decides the colours.

    `comparisons` is the result of `evaluation.compare`, or several of them concatenated.
    """
    roles = model_roles(models)
    groups = list(dict.fromkeys(comparisons["model"]))
    points = comparisons[comparisons["metric"] != "distinct"]
    ks = sorted(points["k"].dropna().unique())
    if len(groups) > 2 and len(ks) > 3:  # first, middle and last tell the story; the table has all
        points = points[points["k"].isna() | points["k"].isin([ks[0], ks[len(ks) // 2], ks[-1]])]
    panels = [("Percentage points", points, 100, 1)]
    distinct = comparisons[comparisons["metric"] == "distinct"]
    if len(distinct):
        panels.append(("Distinct correct solutions", distinct, 1, 2))
    row, wide = 21, width > 500
    rows = sum(part["estimate"].notna().sum() + part["model"].nunique() for _, part, _, _ in panels)
    drawing = Drawing(
        width,
        row * rows + 62 * len(panels),
        "Paired differences",
        "Mean differences on the same problems with 95% intervals, a row per comparison and metric: "
        + "; ".join(
            f"{group}: "
            + ", ".join(
                f"{_metric(r)} {'no clear difference' if r.low <= 0 <= r.high else _interval(r, unit, digits, '+')}"
                for _, part, unit, digits in panels
                for r in part[part["model"] == group].itertuples()
            )
            for group in groups
        )
        + ".",
    )
    left, right = 92 if wide else 84, width - (150 if wide else 20)
    y = 0.0
    for title, part, unit, digits in panels:
        part = part[part["estimate"].notna()]
        values = unit * part[["low", "high"]].stack().dropna() if len(part) else pd.Series(dtype=float)
        values = pd.concat([values, unit * part["estimate"]])
        ticks = (
            round_numbers(min(0.0, values.min()), max(0.0, values.max()), 6 if wide else 4)
            if len(values)
            else [0.0, 1.0]
        )
        low, high = ticks[0], ticks[-1]

        def across(value: float, low: float = low, high: float = high) -> float:
            return left + (right - left) * (value - low) / (high - low)

        start = y + 4
        end = start + row * (len(part) + part["model"].nunique())
        for tick in ticks:
            drawing.line([(across(tick), start), (across(tick), end + 4)], "muted" if tick == 0 else "grid")
            drawing.text(across(tick), end + 19, _minus(f"{tick:+g}") if tick else "0", anchor="middle", size=_SIZE)
        drawing.text((left + right) / 2, end + 37, title, anchor="middle", size=_SIZE)
        y = start
        for group, cells in part.groupby("model", sort=False):
            role, shape = _role_of(group, roles)
            y += row
            # Behind the text a piece of paper, so that no grid line crosses it.
            name = _short(group, 0.8 * width)
            drawing.area(_box(0, y - 15, 1.1 * text_width(name, _SIZE) + 8, 20), "paper")
            drawing.text(2, y - 1, name, "ink", size=_SIZE, bold=True)
            for cell in cells.itertuples():
                y += row
                middle = y - 5
                sure = cell.low > 0 or cell.high < 0
                if not math.isnan(cell.low):
                    drawing.line([(across(unit * cell.low), middle), (across(unit * cell.high), middle)], role, 2.2)
                drawing.mark(across(unit * cell.estimate), middle, role, shape, 4.4, hollow=not sure)
                drawing.text(14, y - 1, _metric(cell), "muted", size=_SIZE)
                caption = _interval(cell, unit, digits, "+")
                if wide:
                    drawing.text(
                        width - 4, y - 1, caption, "ink" if sure else "muted", anchor="end", size=_SIZE, bold=sure
                    )
                drawing.hit(0, y - row + 5, width, row, f"{group}\n{_metric(cell)}  {caption}")
        y = end + 50
    drawing.height = y
    return drawing


def modes_drawing(modes: pd.DataFrame, before: str, after: str, width: float = 460) -> Drawing:
    """How often each correct solution was sampled before and after: counts of solutions in cells of a doubling grid.

    `modes` has the columns before, after, n_before and n_after, a row per solution. Both axes are logarithmic, and a
    solution that one side never sampled stands apart.
    """
    modes = modes[(modes["n_before"] > 0) & (modes["n_after"] > 0)]
    sizes = pd.concat([modes["n_before"], modes["n_after"]])
    most = int(sizes.max()) if len(sizes) else 1
    top = most.bit_length()
    cells = pd.DataFrame(
        {name: _doublings(modes[name], modes[f"n_{name}"], most) for name in ("before", "after")}
    ).value_counts()
    lost = int(((modes["before"] > 0) & (modes["after"] == 0)).sum())
    new = int(((modes["before"] == 0) & (modes["after"] > 0)).sum())
    had = int((modes["before"] > 0).sum())
    left, gap, below = 58, 6, 46
    side = (width - left - gap - 8) / (top + 1)
    height = side * (top + 1) + gap + below + 24
    drawing = Drawing(
        width,
        height,
        "Correct solutions before and after",
        f"Number of correct solutions by how often {before} (across) and {after} (up) sampled them. Of {had} solutions that "
        f"{before} found, {after} never sampled {lost}; it found {new} that {before} had not.",
    )
    # Bin 0 is "never"; a gap parts it from the others, which are the doublings of the share.
    names = ["0"]
    for b in range(1, top + 1):
        first, last = 2 ** (b - 1), min(2**b - 1, most)
        if sizes.nunique() == 1:
            names.append(f"{first}" if first == last else f"{first}–{last}")
        else:
            names.append(f"≥{100 * first / most:.2g}%")

    def place(b: int) -> float:
        return b * side + (gap if b else 0)

    floor = height - below
    shown = 1 if side > 34 else 2  # where cells are small, every second label
    for b in range(top + 1):
        for other in range(top + 1):
            drawing.area(_box(left + place(b) + 1, floor - place(other) - side + 1, side - 2, side - 2), "panel")
        if b % shown == 0 or b == 0:
            drawing.text(left + place(b) + side / 2, floor + 16, names[b], anchor="middle", size=11)
        drawing.text(left - 6, floor - place(b) - side / 2 + 4, names[b], anchor="end", size=11)
    peak = math.log1p(cells.max()) if len(cells) else 1
    for (x, y), count in cells.items():
        role = "m0" if x == y else "m2" if y < x else "m1"
        corner = left + place(x), floor - place(y) - side
        drawing.area(
            _box(corner[0] + 1, corner[1] + 1, side - 2, side - 2), role, 0.12 + 0.5 * math.log1p(count) / peak
        )
        size = min(12, (side - 3) / text_width(f"{count}", 1))
        if size >= 7:
            drawing.text(
                corner[0] + side / 2, corner[1] + side / 2 + size / 3, f"{count}", "ink", "middle", round(size, 1)
            )
        drawing.hit(*corner, side, side, f"{before}: {names[x]}\n{after}: {names[y]}\n{count} solutions")
    unit = f"samples of {most}" if sizes.nunique() == 1 else "share of samples"
    drawing.text(
        left + (width - left) / 2, height - 8, _short(f"{before} ({unit}) →", width - left), anchor="middle", size=_SIZE
    )
    # No turned text: a name that goes up is hard to read on a phone.
    drawing.text(2, 13, _short(f"↑ {after} ({unit})", width - 8), size=_SIZE)
    return drawing


def interval_drawing(low: float, estimate: float, high: float, bounds: tuple[float, float], sure: bool) -> Drawing:
    """A dot with its interval on the scale `bounds`, which holds 0, small enough for a table's cell."""
    width, height = 132, 22
    drawing = Drawing(width, height, "", "")
    span = (bounds[1] - bounds[0]) or 1.0

    def across(value: float) -> float:
        return 8 + (width - 16) * (value - bounds[0]) / span

    drawing.line([(across(0), 1), (across(0), height - 1)], "muted")
    drawing.line([(across(low), height / 2), (across(high), height / 2)], "m1", 2.2)
    if not math.isnan(estimate):
        drawing.mark(across(estimate), height / 2, "m1", 0, 4.2, hollow=not sure)
    return drawing


def _doublings(count: pd.Series, n: pd.Series, most: int) -> np.ndarray:
    """0 for 0, else 1 + floor(log2(share * most)), at least 1: the doubling that a count of `most` samples falls in."""
    with np.errstate(divide="ignore"):
        bins = 1 + np.floor(np.log2(count.to_numpy(float) * most / n.to_numpy(float)) + 1e-9)
    return np.where(count.to_numpy() == 0, 0, np.maximum(bins, 1)).astype(int)


def _box(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers whose first and last enclose [low, high]; 0 is one of them if it is inside."""
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10, 20) if span / (power * m) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) + 0.0 for i in range(first, max(last, first + 1) + 1)]


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places nearest to the given ones, in squares, that stand at least `gap` apart in the same order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[list[float]] = []  # [mean of place - rank * gap, how many]
    for rank, i in enumerate(order):
        blocks.append([places[i] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, count = blocks.pop()
            blocks[-1] = [
                (blocks[-1][0] * blocks[-1][1] + mean * count) / (blocks[-1][1] + count),
                blocks[-1][1] + count,
            ]
    apart = [mean for mean, count in blocks for _ in range(int(count))]
    apart = [max(low, min(value, high - (len(order) - 1) * gap)) + rank * gap for rank, value in enumerate(apart)]
    return [apart[order.index(i)] for i in range(len(places))]


def _short(text: str, width: float) -> str:
    """The text on one line, cut with an ellipsis where it would be wider than `width`."""
    text = " ".join(str(text)[:200].split())
    if text_width(text, _SIZE) <= width:
        return text
    while text and text_width(text + "…", _SIZE) > width:
        text = text[:-1]
    return text + "…"


def _role_of(comparison: str, roles: dict[str, tuple[str, int]]) -> tuple[str, int]:
    """The colour of the model that a comparison "<model> - <baseline>" names first; the longest name that fits."""
    fitting = [model for model in roles if str(comparison).startswith(f"{model} - ")]
    return roles[max(fitting, key=len)] if fitting else ("ink", 0)


def _metric(row) -> str:
    return f"Pass@{row.k:.0f}" if row.metric == "pass@k" else row.metric.capitalize()


def _interval(row, unit: float, digits: int, sign: str = "") -> str:
    if math.isnan(row.estimate):
        return "–"
    caption = f"{unit * row.estimate:{sign}z.{digits}f}"
    if not math.isnan(row.low):
        caption += f" [{unit * row.low:z.{digits}f}, {unit * row.high:z.{digits}f}]"
    return _minus(caption)


def _minus(number: str) -> str:
    return number.replace("-", "−")
