"""One HTML file for a whole evaluation: opens from disk, asks the network for nothing, and runs nothing a model wrote.

Style and script are the two files in `data/page`. A Content-Security-Policy names their hashes, so that no other script
runs and no request leaves, whatever the texts hold. What a model wrote is in a JSON block, and the script shows it as text.
"""

import base64
import hashlib
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from differential_smoothing._version import __version__
from differential_smoothing.evaluation import counts as count
from differential_smoothing.files import whole

from . import embed
from .drawing import PALETTE, Drawing, model_roles
from .embed import Limits
from .pieces import Numbers, text_of
from .sections import completions_section, diagnosis_section, differences_section, pass_at_k_section, problems_section
from .tables import check_table

__all__ = ["page", "write_page"]

_LIMITS = Limits()


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
    number = Numbers()
    tables = {"summary": embed.records(summary)}

    if diagnosis is not None:
        parts.append(diagnosis_section(diagnosis, number, drawings, limits))
        tables["findings"] = embed.records(diagnosis.findings)
        biggest = diagnosis.modes[["before", "after"]].max(axis=1).sort_values(ascending=False, kind="stable")
        tables["modes"] = embed.records(diagnosis.modes.loc[biggest.index[: limits.rows].sort_values()])
    parts.append(pass_at_k_section(frame, summary, number, drawings))
    if comparisons is not None:
        parts.append(differences_section(comparisons, list(summary["model"].unique()), number, drawings))
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
    parts += [problems_section(number), completions_section(len(completions), len(problems["id"]), cuts, limits)]
    return _html(title, _facts(table, models), parts, data), drawings


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
<title>{text_of(title)}</title>
<link rel=icon href="data:,">
<style>{style}</style>
</head>
<body>
<a class=skip href=#main>Skip to the report</a>
<header>
<div class=top><h1><bdi>{text_of(title)}</bdi></h1><button id=theme type=button>Theme</button></div>
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
