"""The sections of the HTML page, each from the tables that it shows."""

import math
from typing import Any

import pandas as pd

from differential_smoothing.evaluation import unscored

from . import plots
from .drawing import Drawing
from .embed import Limits
from .pieces import (
    Numbers,
    estimate_text,
    figure_of,
    interval_plot,
    metrics_table,
    name_of,
    saves,
    section,
    table_of,
    text_of,
    unit_of,
)
from .tables import verdict

__all__ = ["completions_section", "diagnosis_section", "differences_section", "pass_at_k_section", "problems_section"]

_VERDICTS = {"sharpened": "bad", "not sharpened": "good"}


# --- sections -------------------------------------------------------------------------------------------------------


def diagnosis_section(diagnosis: Any, number: Numbers, drawings: dict[str, Drawing], limits: Limits) -> str:
    """The verdict of a diagnosis, its sentences and findings."""
    before, after = name_of(diagnosis.before), name_of(diagnosis.after)
    kind = _VERDICTS.get(diagnosis.verdict, "")
    paragraphs = "\n".join(f"<p>{text_of(sentence, 2_000)}</p>" for sentence in diagnosis.sentences)
    findings = diagnosis.findings
    scales = {
        unit: (min(0.0, part[["low", "estimate"]].min().min()), max(0.0, part[["high", "estimate"]].max().max()))
        for unit, part in findings.fillna({"unit": ""}).groupby("unit")
    }
    rows = []
    for row in findings.itertuples():
        sure = bool(row.low > 0 or row.high < 0)
        bounds = scales[row.unit or ""]
        plot = "<td></td>" if math.isnan(row.estimate) or math.isnan(row.low) else interval_plot(row, bounds, sure)
        name = f"{text_of(str(row.finding).capitalize())}<span class=means>{text_of(row.meaning, 500)}</span>"
        rows.append([name, estimate_text(row, *unit_of(row.unit), sure), plot, f"<td>{int(row.problems)}</td>"])
    table = table_of(
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
        figure = figure_of(
            "modes",
            draw,
            drawings,
            f"{number('Figure')} Each correct solution by how often {before} (across) and {after} (up) sampled it: the cells "
            f"count solutions. Blue gained, orange lost, grey stayed.{note}",
            small=True,
            tables=["modes"],
        )
    verdict_line = f"<p class='verdict {kind}'>{before} → {after}: <strong>{text_of(diagnosis.verdict)}</strong>.</p>"
    return section("diagnosis", "Diagnosis", f"{verdict_line}\n{paragraphs}\n{table}\n{saves('findings')}\n{figure}")


def pass_at_k_section(frame: pd.DataFrame, summary: pd.DataFrame, number: Numbers, drawings: dict[str, Drawing]) -> str:
    """The curves of Pass@k and the table of all metrics."""
    figure = figure_of(
        "pass-at-k",
        lambda width: plots.pass_at_k_drawing(summary, width),
        drawings,
        f"{number('Figure')} Unbiased Pass@k, the chance that one of k samples is correct, with pointwise 95% bands. Bands "
        "that overlap do not say that two models are equal: see the paired differences.",
    )
    table = metrics_table(
        summary,
        f"{number('Table')} Means over problems with 95% bootstrap intervals: Pass@k and coverage in percent, "
        "distinct correct solutions per problem.",
        "Model",
        "Means over problems",
        False,
    )
    missing = "".join(f"<p class=note>{text_of(sentence, 500)}</p>" for sentence in unscored(frame))
    return section("pass-at-k", "Pass@k and variety", f"{figure}\n{table}\n{missing}{saves('summary')}")


def differences_section(
    comparisons: pd.DataFrame, models: list[str], number: Numbers, drawings: dict[str, Drawing]
) -> str:
    # The name alone is isolated: one that turns the direction of writing must not turn the sentence.
    """The paired differences to the baseline, with their sentences."""
    paragraphs = "".join(
        f"<li>{name_of(name)}{text_of(sentence.removeprefix(str(name)), 1_000)}</li>"
        for name, sentence in zip(comparisons["model"].unique(), verdict(comparisons), strict=True)
    )
    figure = figure_of(
        "differences",
        lambda width: plots.difference_drawing(comparisons, models, width),
        drawings,
        f"{number('Figure')} Differences on the same problems with 95% intervals. A hollow mark: the interval holds 0.",
    )
    table = metrics_table(
        comparisons,
        f"{number('Table')} The same differences for every k, in percentage points and in solutions; bold where "
        "the interval excludes 0.",
        "Difference",
        "Paired differences",
        True,
    )
    return section(
        "differences", "Paired differences", f"<ul>{paragraphs}</ul>\n{figure}\n{table}\n{saves('differences')}"
    )


def problems_section(number: Numbers) -> str:
    """The table of problems, which the page's script fills."""
    return section(
        "problems",
        "Problems",
        f"""<div class=tools>
<label class=grow>Search in the problems<input id=find type=search autocomplete=off spellcheck=false></label>
<label class=grow>Show<select id=which></select></label>
<p id=count role=status></p>
{saves("problems")}
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


def completions_section(held: int, problems: int, cuts: int, limits: Limits) -> str:
    """The completions of a chosen problem, which the page's script fills; states how many of them the page holds."""
    some = f"the {held} problems on which the models differ most, of {problems}" if held < problems else "every problem"
    note = f"The page holds completions of {some}: per model the first {limits.each} correct and the first {limits.each} others."
    if cuts:
        note += f" {cuts} longer texts are cut at {limits.characters:,} characters."
    return section(
        "completions",
        "Completions",
        f"""<div class=tools><button id=problem-before type=button>Previous problem</button>
<button id=problem-after type=button>Next problem</button>{saves("completions")}</div>
<p class=note>{note}</p>
<h3>Prompt</h3>
<div id=prompt></div>
<div id=columns class=columns></div>""",
    )
