"""The command that does a paper's table again: reproduce."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from differential_smoothing.report import results

from .app import Jobs, app, bars

CLAIMED = {"paper": "arXiv 2511.19942", "f-grpo": "arXiv 2602.06717"}


@app.command()
def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="'paper': Gai et al. 2025, arXiv 2511.19942; 'f-grpo': the independent comparison, arXiv 2602.06717."
        ),
    ],
    table: Annotated[str, typer.Option(help="Which table of the paper: math or countdown.")] = "",
    output: Annotated[
        Path | None,
        typer.Option(help="Run folder. Rerun the command to resume. Default: runs/paper-TABLE or runs/f-grpo."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Run only this one of its models, or another in their place: a folder or a Hub name.")
    ] = "",
    scale: Annotated[
        str, typer.Option(help="'tiny': the same protocol for a small local model, in minutes on a CPU.")
    ] = "",
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="key=value, as in max_steps=4, evaluation.samples=16, models.ds_grpo.gamma_p=0.1, seeds=[0]."
        ),
    ] = None,
    gpu: Annotated[str, typer.Option(help="GPU for the estimated cost: a100, h100 or h200.")] = "h100",
    jobs: Jobs = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start without asking.")] = False,
) -> None:
    """The protocol of a paper's table, as one study that can be stopped and continued: what it costs first, then the table.

    Example: dsmooth reproduce paper --table countdown --model base --scale tiny
    """
    import pandas as pd

    from differential_smoothing.evaluation import unscored
    from differential_smoothing.evaluation.sets import by_set
    from differential_smoothing.report import sets_markdown
    from differential_smoothing.rollouts import read_rollouts
    from differential_smoothing.studies.paper import read_paper
    from differential_smoothing.studies.run import run_study
    from differential_smoothing.training.cost import gpu_named

    if what not in CLAIMED:
        raise ValueError(f"There are 'paper' and 'f-grpo' to reproduce; got {what!r}.")
    if what == "f-grpo":
        if table:
            raise ValueError(f"f-grpo has one table, so --table has no effect; got {table!r}. Leave it out.")
        table = "f_grpo"
    elif table not in ("math", "countdown"):
        raise ValueError(f"--table must be one of math, countdown; got {table!r}.")
    chosen_gpu = gpu_named(gpu)
    output = output or Path("runs") / (what if what == "f-grpo" else f"paper-{table}")
    paper = read_paper(table, model=model, scale=scale, changes=change or ())
    _say_costs(paper, output, chosen_gpu)
    if dry_run:
        _print_protocol(paper)
        print("Nothing was started.")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise ValueError("Nothing was started. Say --yes to start, or --dry-run to see this only.")
        typer.confirm("Start?", abort=True)
    blocks = []
    for base, study in paper.studies.items():
        with bars() as advance:
            files = run_study(study, output / base, jobs=jobs, on_progress=advance)
        # the models as the study has them; its cells are in the order of their training
        order = sorted(zip(study.cells(), files, strict=True), key=lambda pair: list(study.models).index(pair[0].model))
        frame = pd.concat([read_rollouts(path) for _, path in order], ignore_index=True)
        samples = int(frame.groupby(["model", "seed", "prompt_id"]).size().min())
        ks = sorted({1, min(16, samples), samples})
        levels, differences = by_set(frame, study.baseline, ks=ks, seed=0)
        levels.to_csv(output / base / "sets.csv", index=False)
        differences.to_csv(output / base / "sets_differences.csv", index=False)
        blocks.append("\n".join([f"## {base}: {study.base}\n\n{sets_markdown(levels, differences)}", *unscored(frame)]))
        _write_pages(frame, study.baseline, output / base, base)
    claimed = "\n".join(f"* {claim}" for claim in paper.claims)
    heading = f"# {table}: the protocol of {CLAIMED[what]}, run {'at scale ' + scale if scale else 'as the study says'}"
    text = "\n".join([heading, "", *blocks, f"{claimed}\n  ({CLAIMED[what]}; the numbers above are this run's.)", ""])
    report = output / (
        f"report-{'-'.join(paper.studies)}.md" if model else "report.md"
    )  # that of all bases is not overwritten
    report.write_text(text)
    print(text)
    print(f"The table is {report}; beside it a folder per base with report.html.")


def _print_protocol(paper) -> None:
    """Every base's settings with the source of each."""
    from rich.console import Console
    from rich.table import Table

    for base, settings in paper.protocol.items():
        table = Table("option", "value", "source", title=f"Protocol of {base}", title_justify="left")
        for option, value, source in settings:
            table.add_row(option, str(value), source)
        Console().print(table)


def _say_costs(paper, output: Path, gpu) -> None:
    """What there is to do and its cost, one line per base and kind of work, and the sum."""
    from differential_smoothing.studies.paper import PROMPT, costs
    from differential_smoothing.training.cost import Range

    total, unknown = Range(0, 0), False
    for base, study in paper.studies.items():
        names = ", ".join(name for name, options in study.models.items() if options is not None)
        print(f"{base}: {study.base}; {names}; seeds {', '.join(map(str, study.seeds))}; {output / base}")
        if study.common.get("use_cpu"):
            print("    on the CPU: no GPU hours")
    for base, work, number, hours in costs(paper, output, gpu):
        if paper.studies[base].common.get("use_cpu"):
            continue
        unknown |= hours is None and number > 0
        total += hours or Range(0, 0)
        print(f"    {base}: {work}: {'not known from here' if hours is None else _range(hours)}")
    if all(study.common.get("use_cpu") for study in paper.studies.values()):
        return
    print(
        f"Left to do: {_range(total)} on {gpu.name}{', and what is unknown' if unknown else ''}. Estimated from the data sheet with "
        f"prompts of {PROMPT} tokens; no measurement."
    )


def _range(hours) -> str:
    return f"{hours.low:,.0f} to {hours.high:,.0f} GPU hours"


def _write_pages(frame, baseline: str, folder: Path, title: str) -> None:
    """The usual report, of all test sets together and a page of each where there are several."""
    from differential_smoothing.evaluation.sets import set_of
    from differential_smoothing.report import write_page

    names = set_of(frame)
    several = names.nunique() > 1
    for name in ["", *(dict.fromkeys(names) if several else [])]:
        part = frame[names == name] if name else frame
        summary, differences = results.measure(part, baseline, seed=0)
        page = folder / ("report.html" if not name else f"report-{name.replace(os.sep, '-')}.html")
        write_page(
            page,
            part,
            summary,
            differences,
            title=" ".join(filter(None, [title, name])),
            figures=(),
            diagnosis=results.diagnosis(part, baseline, "", "", seed=0),
        )
