"""One HTML file for a whole evaluation: opens from disk, asks the network for nothing, and runs nothing a model wrote.

Style and script are the two files in `data/page`. A Content-Security-Policy names their hashes, so that no other script
runs and no request leaves, whatever the texts hold. What a model wrote is in a JSON block, and the script shows it as text.
"""

import base64
import hashlib
import math
import os
from collections.abc import Callable, Iterable
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from differential_smoothing._version import __version__
from differential_smoothing.evaluation import counts as count
from differential_smoothing.evaluation import unscored
from differential_smoothing.files import whole

from . import embed, plots
from .drawing import PALETTE, Drawing, legal, model_roles
from .embed import Limits
from .tables import check_table, verdict

__all__ = ["Limits", "page", "write_page"]

_WIDE, _NARROW = 680, 340  # pixels; the narrow drawing is for phones
_LIMITS = Limits()
_VERDICTS = {"sharpened": "bad", "not sharpened": "good"}


def page(
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    comparisons: pd.DataFrame | None = None,
    *,
    diagnosis: Any = None,
    title: str = "Pass@k and variety",
    limits: Limits = _LIMITS,
) -> str:
    """The report as the text of one HTML file.

    `frame` is a rollouts table of one step; `summary` what `evaluation.summarise` makes of it; `comparisons` the result
    of `evaluation.compare`, or several of them concatenated; `diagnosis` a diagnosis of two of its models. The page
    holds every number of them, and of the completions as many as `limits` allow. The same arguments give the same text.

    Raises ValueError for frames that are not such results, a model of `summary` or `diagnosis` that `frame` lacks, and
    limits below 1.
    """
    return _compose(frame, summary, comparisons, diagnosis, title, limits)[0]


def write_page(
    path: str | os.PathLike[str],
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    comparisons: pd.DataFrame | None = None,
    *,
    diagnosis: Any = None,
    title: str = "Pass@k and variety",
    limits: Limits = _LIMITS,
    figures: tuple[str, ...] = ("svg", "png"),
) -> list[Path]:
    """Write `page` to `path`, and its figures beside it as `<name>-<figure>.svg` and `.png`; what was written.

    Missing folders are made, and a reader of `path` sees the old page or the new one. PNG needs matplotlib. Errors as
    in `page`, and ValueError for a `path` that does not end in .html.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"The page got the path {str(path)!r}, expected a name that ends in .html.")
    text, drawings = _compose(frame, summary, comparisons, diagnosis, title, limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    written = [path]
    for name, drawing in drawings.items():
        for suffix in figures:
            written.append(path.with_name(f"{path.stem}-{name}.{suffix}"))
            drawing.save(written[-1])
    return written


def _compose(
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    comparisons: pd.DataFrame | None,
    diagnosis: Any,
    title: str,
    limits: Limits,
) -> tuple[str, dict[str, Drawing]]:
    check_table("summary", summary)
    if comparisons is not None:
        check_table("comparisons", comparisons)
    if min(limits) < 1:
        raise ValueError(f"The page got {limits}, expected every limit at least 1. A limit of 1 keeps next to nothing.")
    needed = ["prompt", "completion"]
    missing = [name for name in needed if name not in frame]
    if missing:
        raise ValueError(f"The page got a rollouts table without the columns {missing}. Read it with read_rollouts.")
    frame = frame.reindex(columns=[*frame.columns, *(name for name in ("num_tokens", "logp") if name not in frame)])
    table = count(frame)
    sampled = set(table["model"])
    roles = {model: role for model, role in model_roles(summary["model"]).items() if model in sampled}
    models = list(roles)
    strangers = sampled.symmetric_difference(summary["model"])
    if diagnosis is not None:
        strangers |= {diagnosis.before, diagnosis.after} - sampled
    if strangers:
        raise ValueError(
            f"The page got rollouts of {sorted(sampled)} and a summary or diagnosis that does not fit them: "
            f"{sorted(map(str, strangers))} is on one side only, expected the same models. Summarise these rollouts."
        )
    drawings: dict[str, Drawing] = {}
    parts: list[str] = []
    number = _Numbers()
    tables = {"summary": embed.records(summary)}

    if diagnosis is not None:
        parts.append(_diagnosis(diagnosis, number, drawings, limits))
        tables["findings"] = embed.records(diagnosis.findings)
        biggest = diagnosis.modes[["before", "after"]].max(axis=1).sort_values(ascending=False, kind="stable")
        tables["modes"] = embed.records(diagnosis.modes.loc[biggest.index[: limits.rows].sort_values()])
    parts.append(_pass_at_k(frame, summary, number, drawings))
    if comparisons is not None:
        parts.append(_differences(comparisons, list(summary["model"].unique()), number, drawings))
        tables["differences"] = embed.records(comparisons)
    given_up = {}
    if diagnosis is not None:
        given_up = dict(zip(diagnosis.problems["prompt_id"], diagnosis.problems["given_up"]))
    completions, cuts = embed.completions(frame, table, models, limits)
    problems = embed.problems(table, models, given_up)
    data = {
        "models": [embed.cut(model, 80) for model in models],
        "roles": [role for role, _ in roles.values()],
        "reference": models.index(_reference(models, comparisons, diagnosis)),
        "diagnosis": diagnosis is not None,
        "seeds": int(table["seed"].nunique()),
        "tables": tables,
        "problems": problems,
        "completions": completions,
    }
    parts += [_problems(number), _completions(len(completions), len(problems["id"]), cuts, limits)]
    return _html(title, _facts(table, models), parts, data), drawings


class _Numbers:
    """Table 1, Table 2, Figure 1: numbered as they come."""

    def __init__(self) -> None:
        self.last = {"Table": 0, "Figure": 0}

    def __call__(self, kind: str) -> str:
        self.last[kind] += 1
        return f"<b>{kind} {self.last[kind]}.</b>"


# --- sections -------------------------------------------------------------------------------------------------------


def _diagnosis(diagnosis: Any, number: _Numbers, drawings: dict[str, Drawing], limits: Limits) -> str:
    before, after = _name(diagnosis.before), _name(diagnosis.after)
    kind = _VERDICTS.get(diagnosis.verdict, "")
    said = "\n".join(f"<p>{_text(sentence, 2_000)}</p>" for sentence in diagnosis.sentences)
    findings = diagnosis.findings
    scales = {
        unit: (min(0.0, part[["low", "estimate"]].min().min()), max(0.0, part[["high", "estimate"]].max().max()))
        for unit, part in findings.fillna({"unit": ""}).groupby("unit")
    }
    rows = []
    for row in findings.itertuples():
        sure = bool(row.low > 0 or row.high < 0)
        bounds = scales[row.unit or ""]
        plot = "<td></td>" if math.isnan(row.estimate) or math.isnan(row.low) else _cell_plot(row, bounds, sure)
        name = f"{_text(str(row.finding).capitalize())}<span class=means>{_text(row.meaning, 500)}</span>"
        rows.append([name, _estimate(row, *_unit(row.unit), sure), plot, f"<td>{int(row.problems)}</td>"])
    table = _table(
        f"{number('Table')} What was measured, {before} before and {after} after, with 95% intervals; bold where the "
        "interval excludes 0. Dots of one unit share a scale, and the line is at 0.",
        ["Finding", "Estimate", "Interval", "Problems"],
        rows,
        "findings",
        "Findings of the diagnosis",
    )
    figure = ""
    if len(diagnosis.modes):

        def draw(width: float) -> Drawing:
            return plots.modes_drawing(diagnosis.modes, diagnosis.before, diagnosis.after, min(width, 470))

        more = len(diagnosis.modes) - limits.rows
        note = f" The file holds the {limits.rows} most sampled of {len(diagnosis.modes)}." if more > 0 else ""
        figure = _figure(
            "modes",
            draw,
            drawings,
            f"{number('Figure')} Each correct solution by how often {before} (across) and {after} (up) sampled it: the cells "
            f"count solutions. Blue gained, orange lost, grey stayed.{note}",
            small=True,
            tables=["modes"],
        )
    verdict_line = f"<p class='verdict {kind}'>{before} → {after}: <strong>{_text(diagnosis.verdict)}</strong>.</p>"
    return _section("diagnosis", "Diagnosis", f"{verdict_line}\n{said}\n{table}\n{_saves('findings')}\n{figure}")


def _pass_at_k(frame: pd.DataFrame, summary: pd.DataFrame, number: _Numbers, drawings: dict[str, Drawing]) -> str:
    figure = _figure(
        "pass-at-k",
        lambda width: plots.pass_at_k_drawing(summary, width),
        drawings,
        f"{number('Figure')} Unbiased Pass@k, the chance that one of k samples is correct, with pointwise 95% bands. Bands "
        "that overlap do not say that two models are equal: see the paired differences.",
    )
    table = _metrics(
        summary,
        f"{number('Table')} Means over problems with 95% bootstrap intervals: Pass@k and coverage in percent, "
        "distinct correct solutions per problem.",
        "Model",
        "Means over problems",
        False,
    )
    missing = "".join(f"<p class=note>{_text(sentence, 500)}</p>" for sentence in unscored(frame))
    return _section("pass-at-k", "Pass@k and variety", f"{figure}\n{table}\n{missing}{_saves('summary')}")


def _differences(comparisons: pd.DataFrame, models: list[str], number: _Numbers, drawings: dict[str, Drawing]) -> str:
    # The name alone is isolated: one that turns the direction of writing must not turn the sentence.
    said = "".join(
        f"<li>{_name(name)}{_text(sentence.removeprefix(str(name)), 1_000)}</li>"
        for name, sentence in zip(comparisons["model"].unique(), verdict(comparisons), strict=True)
    )
    figure = _figure(
        "differences",
        lambda width: plots.difference_drawing(comparisons, models, width),
        drawings,
        f"{number('Figure')} Differences on the same problems with 95% intervals. A hollow mark: the interval holds 0.",
    )
    table = _metrics(
        comparisons,
        f"{number('Table')} The same differences for every k, in percentage points and in solutions; bold where "
        "the interval excludes 0.",
        "Difference",
        "Paired differences",
        True,
    )
    return _section("differences", "Paired differences", f"<ul>{said}</ul>\n{figure}\n{table}\n{_saves('differences')}")


def _problems(number: _Numbers) -> str:
    return _section(
        "problems",
        "Problems",
        f"""<div class=tools>
<label class=grow>Search in the problems<input id=find type=search autocomplete=off spellcheck=false></label>
<label class=grow>Show<select id=which></select></label>
<p id=count role=status></p>
{_saves("problems")}
</div>
<div class=box tabindex=0 role=region aria-label="Problems">
<table id=problem-table><caption>{number("Table")} Correct out of scored samples, and distinct correct solutions, per problem
and model. Headings sort; a problem that is underlined opens its completions below.</caption><thead></thead><tbody></tbody></table>
</div>
<div class=tools role=group aria-label="Pages of the table">
<button id=first type=button>First</button><button id=previous type=button>Previous</button>
<p id=page role=status></p><button id=next type=button>Next</button><button id=last type=button>Last</button>
</div>""",
    )


def _completions(held: int, problems: int, cuts: int, limits: Limits) -> str:
    some = f"the {held} problems on which the models differ most, of {problems}" if held < problems else "every problem"
    note = f"The page holds completions of {some}: per model the first {limits.each} correct and the first {limits.each} others."
    if cuts:
        note += f" {cuts} longer texts are cut at {limits.characters:,} characters."
    return _section(
        "completions",
        "Completions",
        f"""<div class=tools><button id=problem-before type=button>Previous problem</button>
<button id=problem-after type=button>Next problem</button>{_saves("completions")}</div>
<p class=note>{note}</p>
<h3>Prompt</h3>
<div id=prompt></div>
<div id=columns class=columns></div>""",
    )


# --- pieces ---------------------------------------------------------------------------------------------------------


def _section(name: str, title: str, body: str) -> str:
    return f"<section id={name} aria-labelledby={name}-title>\n<h2 id={name}-title tabindex=-1>{title}</h2>\n{body}\n</section>"


def _figure(
    name: str,
    draw: Callable[[float], Drawing],
    drawings: dict[str, Drawing],
    caption: str,
    small: bool = False,
    tables: Iterable[str] = (),
) -> str:
    drawings[name] = draw(_WIDE)
    wide, narrow = drawings[name].svg(inline=True), draw(_NARROW).svg(inline=True)
    hint = "Values: point at the figure, or focus it and press the arrow keys."
    save = f"<button class=quiet type=button data-svg={name}>Figure as SVG</button>"
    return (
        f'<figure><div class="wide{" small" if small else ""}">{wide}</div><div class=narrow>{narrow}</div>'
        f"<figcaption>{caption} {hint} <span class=saves>{save}{_saves(*tables)}</span></figcaption></figure>"
    )


def _saves(*tables: str) -> str:
    return "".join(
        f"<button class=quiet type=button data-csv={name}>{name.capitalize()} as CSV</button>" for name in tables
    )


def _table(caption: str, header: list[str], rows: list[list[str]], kind: str = "", label: str = "") -> str:
    """`rows`: the content of the row's heading, then cells as `<td>`."""
    head = "".join(f"<th scope=col>{name}</th>" for name in header)
    body = "\n".join(f"<tr><th scope=row>{first}</th>{''.join(cells)}</tr>" for first, *cells in rows)
    return (
        f'<div class=box tabindex=0 role=region aria-label="{label}"><table class="{kind}"><caption>{caption}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _metrics(frame: pd.DataFrame, caption: str, first: str, label: str, difference: bool) -> str:
    """A row per model or comparison, a column per metric and k."""
    ks = sorted(frame.loc[frame["metric"] == "pass@k", "k"].unique())
    others = [name for name in ("distinct", "coverage") if (frame["metric"] == name).any()]
    header = [first, *(f"Pass@{k:.0f}" for k in ks), *(name.capitalize() for name in others), "Problems", "Seeds"]
    rows = []
    for name, part in frame.groupby("model", sort=False):
        found = {(row.metric, row.k if row.metric == "pass@k" else None): row for row in part.itertuples()}
        cells = []
        for key in [("pass@k", k) for k in ks] + [(other, None) for other in others]:
            row = found.get(key)
            scale = (1.0, 2) if key[0] == "distinct" else (100.0, 1)
            sure = difference and row is not None and bool(row.low > 0 or row.high < 0)
            cells.append("<td>–</td>" if row is None else _estimate(row, *scale, "", sure, "+" if difference else ""))
        problems = sorted(set(part["problems"]))
        size = f"{problems[0]}" if len(problems) == 1 else f"{problems[0]}–{problems[-1]}"
        cells += [f"<td>{size}</td>", f"<td>{part['training_seeds'].max()}</td>"]
        rows.append([_name(name), *cells])
    return _table(caption, header, rows, "metrics", label)


def _estimate(row: Any, scale: float, digits: int, unit: str, sure: bool, sign: str = "") -> str:
    if math.isnan(row.estimate):
        return "<td>–</td>"
    text = f"{scale * row.estimate:{sign}z.{digits}f}{unit}"
    text = f"<strong>{text}</strong>" if sure else text
    if not math.isnan(row.low):
        text += f"<small>[{scale * row.low:z.{digits}f}, {scale * row.high:z.{digits}f}]</small>"
    return f"<td>{text.replace('-', '−')}</td>"


def _unit(unit: Any) -> tuple[float, int, str]:
    """Scale, digits and what to write behind: points and shares are fractions in the frame."""
    if unit in ("points", "share"):
        return 100.0, 1, " points" if unit == "points" else "%"
    return 1.0, 2, f" {escape(unit)}" if isinstance(unit, str) and unit else ""


def _cell_plot(row: Any, bounds: tuple[float, float], sure: bool) -> str:
    svg = plots.interval_drawing(row.low, row.estimate, row.high, bounds, sure).svg(inline=True)
    # The numbers stand in the cell beside it, so who hears the page loses nothing.
    hidden = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    return f"<td class=plot>{hidden}</td>"


def _text(value: Any, most: int = 200) -> str:
    return escape(legal(embed.cut(value, most)))


def _name(model: Any) -> str:
    return f"<bdi>{_text(model, 80)}</bdi>"


def _reference(models: list[str], comparisons: pd.DataFrame | None, diagnosis: Any) -> str:
    """The model that the others are held against: before the diagnosis's training, or the baseline, or the first."""
    if diagnosis is not None:
        return diagnosis.before
    label = "" if comparisons is None else str(comparisons["model"].iloc[0])
    fitting = [model for model in models if label.endswith(f" - {model}")]
    return max(fitting, key=len) if fitting else models[0]


def _facts(table: pd.DataFrame, models: list[str]) -> str:
    n = table["n"]
    size = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    seeds = table["seed"].nunique()
    return (
        f"{len(models)} model{'s' * (len(models) > 1)}, {table['prompt_id'].nunique():,} problems, {size} scored samples per "
        f"problem{f' and training seed, {seeds} training seeds' if seeds > 1 else ''}. Made by dsmooth {__version__}."
    )


@cache
def _file(name: str) -> str:
    return (resources.files("differential_smoothing") / "data" / "page" / name).read_text(encoding="utf-8")


def _palette() -> str:
    light, dark = (";".join(f"--{role}:{pair[i]}" for role, pair in PALETTE.items()) for i in (0, 1))
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _html(title: str, facts: str, sections: list[str], data: dict[str, Any]) -> str:
    style, script = _palette() + _file("page.css"), _file("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    links = "".join(
        f"<li><a href=#{name}>{name.replace('-', ' ').capitalize().replace('Pass at k', 'Pass@k')}</a></li>"
        for name in (section.split("id=", 1)[1].split(" ", 1)[0] for section in sections)
    )
    body = "\n".join(sections)
    return f"""<!doctype html>
<html lang=en>
<head>
<meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{policy}">
<meta name=viewport content="width=device-width, initial-scale=1">
<meta name=referrer content=no-referrer>
<title>{_text(title)}</title>
<link rel=icon href="data:,">
<style>{style}</style>
</head>
<body>
<a class=skip href=#main>Skip to the report</a>
<header>
<div class=top><h1><bdi>{_text(title)}</bdi></h1><button id=theme type=button>Theme</button></div>
<p class=facts>{facts}</p>
<nav aria-label=Sections><ul>{links}</ul></nav>
</header>
<main id=main>
<noscript><p class=note>Without JavaScript the problems, the completions and the downloads are missing.</p></noscript>
{body}
</main>
<div id=tip hidden></div>
<p id=spoken class=spoken aria-live=polite></p>
<script type="application/json" id=data>{embed.dumps(data)}</script>
<script>{script}</script>
</body>
</html>
"""
