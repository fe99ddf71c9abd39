"""One drawing, three outlets: SVG that takes its colours from the page, SVG that stands alone, PNG.

A `Drawing` is a list of paths, dots and texts in pixels, y downwards. Colours are given as roles ("ink", "m1"), so that
the page can show one drawing in light and in dark.
"""

import math
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

__all__ = ["PALETTE", "Drawing", "legal", "model_roles", "text_width"]

# role -> (on a light page, on a dark page). m1 to m6 are the colours of Okabe and Ito ("Color Universal Design", 2008)
# that stay apart on white and next to grey; on dark they are lighter, to keep a contrast of 3 to 1.
PALETTE = {
    "paper": ("#FFFFFF", "#15181C"),
    "panel": ("#F5F6F7", "#1E2227"),
    "ink": ("#1B1E22", "#E7E9EB"),
    "muted": ("#5A6169", "#A3ABB3"),
    "rule": ("#D5D9DD", "#3A4047"),
    "grid": ("#E6E8EA", "#2A2F35"),
    "link": ("#00568A", "#7CC4F5"),
    "good": ("#00704F", "#3CC79C"),
    "bad": ("#A84300", "#F08B4B"),
    "m0": ("#7F7F7F", "#A0A0A0"),
    "m1": ("#0072B2", "#4A9FDE"),
    "m2": ("#D55E00", "#F0803C"),
    "m3": ("#009E73", "#2BC295"),
    "m4": ("#CC79A7", "#E09AC2"),
    "m5": ("#56B4E9", "#8AD0F7"),
    "m6": ("#E69F00", "#F5BC42"),
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Corners of the marks around their centre; a circle has none. Shapes tell models apart in print without colour.
_CORNERS = [
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
]


def model_roles(models: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Colour role and number of the mark of each model: "base" in grey, the others in the order of their names."""
    names = list(dict.fromkeys(models))
    others = sorted(name for name in names if name != "base")
    # Every sixth model the shapes move on by one more, so that no pair of colour and shape comes back before 30 models.
    roles = {name: (f"m{i % 6 + 1}", (i + i // 6 + 1) % len(_CORNERS)) for i, name in enumerate(others)}
    return ({"base": ("m0", 0)} if "base" in names else {}) | roles


def text_width(text: str, size: float) -> float:
    """A guess, in pixels, that is seldom too small: nothing here can measure type."""
    return size * sum(0.34 if c in "iljt.,:;|'!()[] " else 0.9 if c in "mwMW%@" else 0.6 for c in text)


class _Shape(NamedTuple):
    kind: str  # path, circle, text
    points: list[tuple[float, float]]
    stroke: str = ""
    fill: str = ""
    width: float = 0
    opacity: float = 1
    text: str = ""
    anchor: str = "start"
    size: float = 12  # font size, or radius
    bold: bool = False


class Drawing:
    """A figure of `width` x `height` pixels. `title` names it in a word or two, `summary` describes it."""

    def __init__(self, width: float, height: float, title: str, summary: str) -> None:
        self.width, self.height = width, height
        self.title, self.summary = legal(title), legal(summary)
        self._shapes: list[_Shape] = []
        self._hits: list[tuple[tuple[float, float, float, float], str, float | None]] = []

    def line(self, points: Sequence[tuple[float, float]], role: str, width: float = 1) -> None:
        """A line through the points; one with NaN in it is a gap."""
        run: list[tuple[float, float]] = []
        for point in [*points, (math.nan, math.nan)]:
            if math.isnan(point[0]) or math.isnan(point[1]):
                if len(run) > 1:
                    self._shapes.append(_Shape("path", run, stroke=role, width=width))
                run = []
            else:
                run = [*run, point]

    def area(self, points: Sequence[tuple[float, float]], role: str, opacity: float = 1) -> None:
        """A filled polygon; points with NaN are left out."""
        kept = [point for point in points if not (math.isnan(point[0]) or math.isnan(point[1]))]
        if len(kept) > 2:
            self._shapes.append(_Shape("path", kept, fill=role, opacity=opacity))

    def mark(self, x: float, y: float, role: str, shape: int = 0, radius: float = 3.6, hollow: bool = False) -> None:
        """The mark of a model, with a thin edge of paper around it; hollow, an edge of its colour around paper."""
        if math.isnan(x) or math.isnan(y):
            return
        stroke, fill, width = (role, "paper", 1.6) if hollow else ("paper", role, 0.8)
        if not _CORNERS[shape]:
            self._shapes.append(_Shape("circle", [(x, y)], stroke, fill, width, size=radius))
        else:
            corners = [(x + radius * dx, y + radius * dy) for dx, dy in _CORNERS[shape]]
            self._shapes.append(_Shape("path", corners, stroke, fill, width))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        role: str = "muted",
        anchor: str = "start",
        size: float = 12,
        bold: bool = False,
    ) -> None:
        """Text with its baseline at y; anchor is start, middle or end."""
        self._shapes.append(_Shape("text", [(x, y)], "", role, text=legal(text), anchor=anchor, size=size, bold=bold))

    def hit(self, x: float, y: float, width: float, height: float, says: str, guide: float | None = None) -> None:
        """A place that says its values under the pointer or the arrow keys of the page; `guide`: x of a line there."""
        self._hits.append(((x, y, width, height), legal(says), guide))

    def svg(self, inline: bool = False) -> str:
        """SVG text: to stand alone in light colours, or inline with the colours of the page, named, and with its hits."""

        def colour(role: str) -> str:
            return "none" if not role else f"var(--{role})" if inline else PALETTE[role][0]

        parts = []
        for shape in self._shapes:
            x, y = shape.points[0]
            paint = f'fill="{colour(shape.fill)}"'
            if shape.stroke:
                paint += f' stroke="{colour(shape.stroke)}" stroke-width="{shape.width:g}" stroke-linejoin="round"'
            if shape.opacity != 1:
                paint += f' fill-opacity="{shape.opacity:.3g}"'
            if shape.kind == "text":
                weight = ' font-weight="600"' if shape.bold else ""
                parts.append(
                    f'<text x="{x:.1f}" y="{y:.1f}" {paint} font-size="{shape.size:g}"{weight} '
                    f'text-anchor="{shape.anchor}">{escape(shape.text)}</text>'
                )
            elif shape.kind == "circle":
                parts.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{shape.size:g}" {paint}/>')
            else:
                close = "Z" if shape.fill else ""
                path = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in shape.points) + close
                parts.append(f'<path d="{path}" {paint}/>')
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="{_FONT}"'
        body = "\n".join(parts)
        if not inline:
            paper = f'<rect width="100%" height="100%" fill="{PALETTE["paper"][0]}"/>'
            head = f"<title>{escape(self.title)}</title><desc>{escape(self.summary)}</desc>{paper}"
            return (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}" {size}>\n'
                f"{head}\n{body}\n</svg>\n"
            )
        hits = "".join(
            f'<rect class="hit" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" data-says="{escape(says)}"'
            + (f' data-guide="{guide:.1f}"' if guide is not None else "")
            + "/>"
            for (x, y, w, h), says, guide in self._hits
        )
        focus = ' tabindex="0"' if hits else ""
        # A label and no <title>: browsers show a title as a tooltip of their own, on top of the values.
        label = escape(f"{self.title}. {self.summary}")
        return f'<svg role="img" aria-label="{label}" {size}{focus}>\n{body}\n{hits}</svg>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an SVG or, by matplotlib, a PNG file at twice the size; ValueError for another suffix."""
        path = Path(path)
        if path.suffix not in (".svg", ".png"):
            raise ValueError(f"A figure got the path {path}, expected a name that ends in .svg or .png.")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".svg":
            path.write_text(self.svg(), encoding="utf-8")
        else:
            with warnings.catch_warnings():
                # A name in a script that the font lacks becomes boxes; the SVG and the page have it.
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                self._figure().savefig(path, dpi=200)

    def _figure(self):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.patches import Circle, Polygon

        inch, point = 100, 72 / 100  # 100 pixels of the drawing are an inch
        with rc_context({"font.family": "sans-serif", "text.parse_math": False}):
            figure = Figure(figsize=(self.width / inch, self.height / inch), facecolor=PALETTE["paper"][0])
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.set_xlim(0, self.width)
            axes.set_ylim(self.height, 0)
            for order, shape in enumerate(self._shapes):
                colours = {
                    "facecolor": (PALETTE[shape.fill][0], shape.opacity) if shape.fill else "none",
                    "edgecolor": PALETTE[shape.stroke][0] if shape.stroke else "none",
                    "linewidth": shape.width * point,
                    "zorder": order,
                }
                if shape.kind == "text":
                    side = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
                    axes.text(
                        *shape.points[0],
                        shape.text,
                        color=PALETTE[shape.fill][0],
                        ha=side,
                        va="baseline",
                        zorder=order,
                        fontsize=shape.size * point,
                        fontweight="bold" if shape.bold else "normal",
                    )
                elif shape.kind == "circle":
                    axes.add_patch(Circle(shape.points[0], shape.size, **colours))
                else:
                    axes.add_patch(Polygon(shape.points, closed=bool(shape.fill), joinstyle="round", **colours))
        return figure


def legal(text: str) -> str:
    """Without the characters that XML 1.0 forbids: one of them would make the whole file unreadable."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
