"""The commands that measure: evaluate, convert, diagnose, report, and the laboratory."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from differential_smoothing.report import results

from .app import app, bars

Files = Annotated[
    list[str],
    typer.Argument(
        help="Rollouts of one or more models: ours, TRL's, verl's, lm-evaluation-harness's, inspect_ai's, another tool's or plain JSON "
        "lines; a file or a folder of them. name=PATH names the model, name@1=PATH its training seed too."
    ),
]
Correct = Annotated[
    str | None,
    typer.Option(
        help="The column with the correctness, for files that have several; or 'verify': judge each completion by the file's right "
        "answers to mathematical problems."
    ),
]
Threshold = Annotated[float, typer.Option(help="A completion is correct if that column is above this.")]


def _steps(value: str) -> int | tuple[int, int]:
    ends = value.split(":")
    if len(ends) > 2 or not all(end.isdecimal() for end in ends):
        raise typer.BadParameter(f"got {value!r}, expected a step such as 900, or FIRST:LAST such as 900:1000.")
    return int(value) if len(ends) == 1 else (int(ends[0]), int(ends[1]))


Step = Annotated[
    str | None,
    typer.Option(
        help="For rollouts logged in training: the step to read, or FIRST:LAST for the groups of several.",
        parser=_steps,
        metavar="STEP",
    ),
]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out and count rows that cannot be read.")]
Form = Annotated[
    str,
    typer.Option(
        help="How to tell correct answers apart where no verifier of ours does: by the file's canonical forms, the "
        "solution that was extracted, or the whole completion."
    ),
]


@app.command()
def evaluate(
    rollouts: Files,
    baseline: Annotated[str, typer.Option(help="Compare the other models to this one, on the same problems.")] = "",
    output: Annotated[Path | None, typer.Option(help="Folder for the tables and the figure.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling behind the intervals.")] = 0,
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Pass@k with intervals, distinct correct answers, and paired differences, from rollouts of any tool."""
    results.folder(output)
    frame = results.load(
        rollouts,
        text=False,
        correct=correct,
        threshold=threshold,
        step=step,
        canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )
    results.report(frame, baseline, output, seed=seed)


@app.command()
def convert(
    rollouts: Files,
    output: Annotated[Path, typer.Option(help="The rollouts table to write, .parquet.")],
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
    text: Annotated[bool, typer.Option(help="Keep the prompts and completions.")] = True,
) -> None:
    """Write rollouts of any tool as one table of ours."""
    from differential_smoothing.rollouts import write_rollouts

    if output.suffix != ".parquet":
        raise ValueError(f"--output must end in .parquet, got {str(output)!r}.")
    if output.exists():
        raise ValueError(f"{output} exists and was not touched. Choose another --output, or delete it.")
    frame = results.load(
        rollouts,
        text=text,
        correct=correct,
        threshold=threshold,
        step=step,
        canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )
    write_rollouts(frame, output)
    missing = int(frame["correct"].isna().sum())
    print(f"{len(frame)} completions{f', {missing} of them unscored,' * bool(missing)} in {output}")


@app.command()
def diagnose(
    before: Annotated[
        list[str],
        typer.Option(help="Rollouts of the model before training: PATH, name=PATH or name@seed=PATH, any tool's."),
    ],
    after: Annotated[
        list[str],
        typer.Option(help="Rollouts of the trained model on the same problems; once per file, one per training seed."),
    ],
    output: Annotated[Path | None, typer.Option(help="Folder for the tables behind the verdict, CSV.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random halves and the resampling.")] = 0,
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Did training sharpen the model? A verdict with its evidence, and what to change."""
    from rich.console import Console

    from differential_smoothing import report
    from differential_smoothing.evaluation import diagnose as compare_both

    results.folder(output)
    both = [
        results.load(
            paths, correct=correct, threshold=threshold, step=step, canonical=canonical, skip_bad_rows=skip_bad_rows
        )
        for paths in (before, after)
    ]
    found = compare_both(*both, seed=seed)
    console = Console(width=None if sys.stdout.isatty() else 100)
    for sentence in found.sentences:
        console.print(sentence, markup=False, highlight=False)
    console.print()
    console.print(report.diagnosis_table(found.findings))
    if output is None:
        return
    for name in ("findings", "survival", "modes", "problems"):
        getattr(found, name).to_csv(output / f"{name}.csv", index=False)
    (output / "verdict.txt").write_text("\n".join(found.sentences) + "\n")
    print(f"\nThe tables behind it are in {output}: findings, survival, modes and problems .csv, verdict.txt")


@app.command()
def regime(
    logs: Annotated[
        list[Path], typer.Argument(help="Run folders, metrics.jsonl, or TRL's trainer_state.json; of any GRPO run.")
    ],
) -> None:
    """Could rules differ in this run? Shares of decided groups at its start and end, from its own log."""
    from differential_smoothing.evaluation.diagnosis.regime import read_log, regime_sentences

    print(*regime_sentences({str(path): [read_log(path)] for path in logs}), sep="\n")


@app.command()
def report(
    rollouts: Files,
    output: Annotated[Path, typer.Option(help="The page, .html; its figures go beside it.")],
    baseline: Annotated[str, typer.Option(help="Compare the other models to this one, on the same problems.")] = "",
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Pass@k and variety",
    problems: Annotated[int, typer.Option(help="Number of problems with completions on the page.")] = 200,
    each: Annotated[int, typer.Option(help="Correct completions, and incorrect ones, per problem and model.")] = 4,
    characters: Annotated[int, typer.Option(help="Longest completion on the page, in characters.")] = 20_000,
    before: Annotated[str, typer.Option(help="Diagnose from this model. Default: the one named base.")] = "",
    after: Annotated[str, typer.Option(help="... to this one. Default: the baseline, else the only other.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the resampling behind the intervals.")] = 0,
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """One HTML file to read, send and keep: curves, differences, every problem, completions side by side."""
    from importlib.util import find_spec

    from differential_smoothing.report import Limits, write_page

    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ValueError(f"--output must be a file that ends in .html, got {str(output)!r}.")
    for name, value in (("problems", problems), ("each", each), ("characters", characters)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    results.folder(output.parent)
    frame = results.load(
        rollouts, correct=correct, threshold=threshold, step=step, canonical=canonical, skip_bad_rows=skip_bad_rows
    )
    summary, differences = results.measure(frame, baseline, seed=seed)
    written = write_page(
        output,
        frame,
        summary,
        differences,
        title=title,
        diagnosis=results.diagnosis(frame, baseline, before, after, seed=seed),
        limits=Limits(problems=problems, each=each, characters=characters),
        figures=("svg", "png") if find_spec("matplotlib") else ("svg",),
    )
    print(f"The page is {output}; beside it: {', '.join(path.name for path in written[1:])}")


@app.command()
def card(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/x/model.")],
    rollouts: Files,
    baseline: Annotated[str, typer.Option(help="Compare the other models to this one, on the same problems.")] = "",
    name: Annotated[str, typer.Option(help="Name of the model in the rollouts. Default: the name of its run.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the resampling behind the intervals.")] = 0,
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Put an evaluation with its intervals into a model's README.md, for people and for the Hub. Nothing is sent."""
    from differential_smoothing import report
    from differential_smoothing.evaluation import unscored
    from differential_smoothing.integrations.card import add_evaluation

    if not any((model / file).is_file() for file in ("config.json", "adapter_config.json")):
        raise ValueError(
            f"{model} is not a model's folder: it has no config.json. A run's is RUN/model, once it is finished."
        )
    frame = results.load(
        rollouts,
        text=False,
        correct=correct,
        threshold=threshold,
        step=step,
        canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )
    summary, differences = results.measure(frame, baseline, seed=seed)
    add_evaluation(
        model / "README.md",
        "\n".join([report.to_markdown(summary, differences), *unscored(frame), ""]),
        summary,
        model=name or results.model_name(model),
        task=", ".join(sorted(frame["task"].unique())),
    )
    print(f"The evaluation is in {model / 'README.md'}. To publish the folder: hf upload OWNER/NAME {model}")


@app.command()
def tabular(
    instances: Annotated[int, typer.Option(help="Random prompts per claim.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the prompts and of every draw.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for claims.csv, the figures and section.html.")] = Path(
        "runs/tabular"
    ),
) -> None:
    """The paper's theory on tables, exactly: each claim with its verdict and worst margin, and six figures."""
    import pandas as pd

    from differential_smoothing.tabular.claims import check_claims
    from differential_smoothing.tabular.figures import draw_all, page_section

    if instances < 1 or not 0 <= seed < 2**31:
        raise ValueError(f"--instances must be at least 1 and --seed from 0 to 2147483647, got {instances} and {seed}.")
    draws = importlib.util.find_spec("matplotlib") is not None
    results.folder(output)
    with bars() as advance:
        claims = check_claims(
            instances, seed, on_progress=lambda name, done, total: advance("claims", "check", done, total)
        )
    for claim in claims:
        print(f"{claim.verdict:15}  {claim.name}: {claim.statement}.")
        exceptions = round((1 - claim.held) * claim.instances)
        held = f"{claim.held:.1%} of {claim.instances}" + f", all but {exceptions}" * (0 < exceptions < 10)
        print(f"{'':15}  worst margin {claim.margin:.1e}, holds on {held}; {claim.note}")
    pd.DataFrame(claims).assign(seed=seed).to_csv(output / "claims.csv", index=False)
    if draws:
        draw_all(output, seed=seed)
    (output / "section.html").write_text(page_section(claims, output if draws else None), encoding="utf-8")
    print(f"claims.csv, section.html{' and the figures (.svg, .png)' * draws} are in {output}")
    if not draws:
        print(
            "dsmooth: no figures were drawn: they need matplotlib, which is not installed (pip install "
            "'differential-smoothing[plot]'). The verdicts do not need it.",
            file=sys.stderr,
        )
    news = [claim.name for claim in claims if claim.verdict != claim.expected]
    if news:
        print(f"dsmooth: not as this project states: {'; '.join(news)}.", file=sys.stderr)
        raise typer.Exit(1)
