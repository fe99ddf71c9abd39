"""``dsmooth``: what a person types. Every command is a thin reading of arguments around a function of the package."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130  # the shell's status for Ctrl-C

app = typer.Typer(
    help="Train with Differential Smoothing (DS-GRPO), sample, and measure what happened to Pass@k and variety.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def quickstart(
    output: Annotated[
        Path, typer.Option(help="Run folder; the same command continues what is in it.")
    ] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Training seed of both runs.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes at once.")] = min(2, os.cpu_count() or 1),
) -> None:
    """GRPO and DS-GRPO from the same base with the same budget: a table and a figure in some ten minutes."""
    from differential_smoothing.study import QUICKSTART, read_study

    _compare(
        read_study(QUICKSTART, seeds=[seed]),
        output if seed == 0 else output.with_name(f"{output.name}-{seed}"),
        jobs,
    )


@app.command()
def compare(
    study: Annotated[Path, typer.Argument(help="A study file, such as benchmarks/sharpening.yaml.")],
    output: Annotated[Path, typer.Option(help="Run folder; the same command continues what is in it.")],
    jobs: Annotated[int, typer.Option(help="Processes at once.")] = min(2, os.cpu_count() or 1),
) -> None:
    """Run a study from one YAML file, resumable cell by cell, and report it."""
    from differential_smoothing.study import read_study

    _compare(read_study(study), output, jobs)


def _compare(study, output: Path, jobs: int) -> None:
    import pandas as pd

    from differential_smoothing.report import write_page
    from differential_smoothing.rollouts import read_rollouts
    from differential_smoothing.study import run_study

    with _bars() as advance:
        files = run_study(study, output, jobs=jobs, on_progress=advance)
    frame = pd.concat([read_rollouts(path) for path in files], ignore_index=True)
    _report(frame, study.baseline, output, seed=0)
    summary, differences = _measure(frame, study.baseline, seed=0)
    diagnosis = _diagnosis(frame, study.baseline, "", "", seed=0)
    write_page(
        output / "report.html",
        frame,
        summary,
        differences,
        diagnosis=diagnosis,
        title=output.name,
        figures=(),
    )
    print(f"All of it on one page: {output / 'report.html'}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(context: typer.Context) -> None:
    """One training run: --config FILE, and every option of TRL's GRPOConfig, ours, and RunArguments as a flag.

    The same command continues an interrupted run. Example: dsmooth train --config configs/countdown_ds_grpo.yaml
    --gamma_p 0.3 --output_dir runs/mine
    """
    from differential_smoothing.training import parse_config
    from differential_smoothing.training import train as run

    arguments, config = parse_config(context.args)
    print(f"The trained model is in {run(arguments, config)}")


@app.command()
def sample(
    model: Annotated[str, typer.Option(help="'base', a checkpoint folder, or a Hub name.")],
    output: Annotated[Path, typer.Option(help="The rollouts table to write, .parquet.")],
    name: Annotated[
        str, typer.Option(help="What the table calls the model. Default: its folder's name.")
    ] = "",
    data_file: Annotated[
        Path | None, typer.Option(help="Problems, .jsonl or .parquet with nums and target.")
    ] = None,
    split: Annotated[str, typer.Option(help="Generated problems: train, dev or test.")] = "test",
    problems: Annotated[int, typer.Option(help="How many problems to generate.")] = 500,
    numbers: Annotated[int, typer.Option(help="How many numbers a generated problem has.")] = 4,
    max_number: Annotated[int, typer.Option(help="Numbers are drawn from 1 to this.")] = 10,
    samples: Annotated[int, typer.Option(help="Completions per problem.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the problems and the draws.")] = 0,
    training_seed: Annotated[
        int, typer.Option(help="The seed the model was trained from, for the table.")
    ] = 0,
    temperature: Annotated[float, typer.Option(help="Above 0.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion, in tokens.")] = 24,
    chat: Annotated[bool, typer.Option(help="Chat prompts with tagged answers.")] = False,
) -> None:
    """Sample a model on Countdown problems and verify every answer."""
    from differential_smoothing.evaluation.generate import sample_rollouts
    from differential_smoothing.rollouts import write_rollouts
    from differential_smoothing.tasks import countdown
    from differential_smoothing.training import resolve_model

    if samples < 1:
        raise ValueError(f"--samples must be at least 1, got {samples}.")
    if output.suffix != ".parquet":
        raise ValueError(f"--output must end in .parquet, got {str(output)!r}.")
    if output.exists():
        raise ValueError(f"{output} exists and was not touched. Choose another --output, or delete it.")
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed must be from 0 to 2147483647, got {seed}.")
    if data_file is not None:
        chosen = countdown.read_problems(data_file)
    else:
        chosen = countdown.generate(problems, split=split, seed=seed, numbers=numbers, max_number=max_number)
    folder = resolve_model(model)
    # a run's model lies in <run>/model, and it is the run that has a name
    name = name or (Path(model).parent.name if Path(model).name == "model" else "") or Path(model).name
    with _bars() as advance:
        frame = sample_rollouts(
            folder, chosen, num_samples=samples, seed=seed + 1 + training_seed, name=name, training_seed=training_seed,
            temperature=temperature, max_new_tokens=max_new_tokens, chat=chat,
            on_problems=lambda done: advance(name, "sample", done, len(chosen)),
        )  # fmt: skip
    write_rollouts(frame, output)
    print(f"{len(frame)} completions, {frame['correct'].mean():.1%} correct, in {output}")


# what `evaluate` and `convert` say about the files they read
Files = Annotated[
    list[str],
    typer.Argument(
        help="Rollouts of one or more models: ours, TRL's, verl's, lm-evaluation-harness's, inspect_ai's or plain JSON "
        "lines; a file or a folder of them. name=PATH names the model, name@1=PATH its training seed too.",
    ),
]
Correct = Annotated[
    str | None, typer.Option(help="The column that says correct, for files that have several.")
]
Threshold = Annotated[float, typer.Option(help="Correct means that this column is above it.")]
Step = Annotated[int | None, typer.Option(help="Of rollouts logged in training, read this step's.")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out and count rows that cannot be read.")
]
Form = Annotated[
    str,
    typer.Option(
        help="What tells correct answers apart, where no verifier of ours does: the file's canonical forms, the "
        "solution that was extracted, or the whole completion.",
    ),
]


@app.command()
def evaluate(
    rollouts: Files,
    baseline: Annotated[
        str, typer.Option(help="Compare the other models to this one, on the same problems.")
    ] = "",
    output: Annotated[Path | None, typer.Option(help="Folder for the tables and the figure.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling behind the intervals.")] = 0,
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Pass@k with intervals, distinct correct answers, and paired differences, from rollouts of any tool."""
    if output is not None and output.is_file():
        raise ValueError(f"--output must be a folder, and {output} is a file. Nothing was changed.")
    frame = _load(
        rollouts, text=False, correct=correct, threshold=threshold, step=step, canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )  # fmt: skip
    _report(frame, baseline, output, seed=seed)


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
    frame = _load(
        rollouts, text=text, correct=correct, threshold=threshold, step=step, canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )  # fmt: skip
    write_rollouts(frame, output)
    print(f"{len(frame)} completions in {output}")


def _load(arguments: list[str], **options):
    """The rollouts of every ``PATH``, ``name=PATH`` or ``name@seed=PATH``, one below the other."""
    import pandas as pd

    from differential_smoothing.rollouts import load_rollouts

    frames = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        for argument in arguments:
            name, equals, path = argument.partition("=")
            if not equals or Path(argument).exists():  # as in runs/step=3/x.parquet
                name, path = "", argument
            elif not name:
                raise ValueError(f"{argument!r} names no model. Expected name=PATH or name@seed=PATH.")
            stem, _, number = name.rpartition("@")
            seed = int(number) if stem and number.isdecimal() and len(number) < 10 else None
            name = name if seed is None else stem
            frames.append(load_rollouts(path, model=name or None, seed=seed, **options))
    print(
        *(f"dsmooth: {warning.message}" for warning in said), sep="\n", end="\n" * bool(said), file=sys.stderr
    )
    return pd.concat(frames, ignore_index=True)


@app.command()
def diagnose(
    before: Annotated[
        list[str],
        typer.Option(
            help="Rollouts of the model before training: PATH, name=PATH or name@seed=PATH, any tool's."
        ),
    ],
    after: Annotated[
        list[str],
        typer.Option(
            help="Rollouts of the trained model on the same problems; once per file, one per training seed."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the tables behind the verdict, CSV.")
    ] = None,
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

    if output is not None and output.is_file():
        raise ValueError(f"--output must be a folder, and {output} is a file. Nothing was changed.")
    both = [
        _load(
            paths,
            correct=correct,
            threshold=threshold,
            step=step,
            canonical=canonical,
            skip_bad_rows=skip_bad_rows,
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
    output.mkdir(parents=True, exist_ok=True)
    for name in ("findings", "survival", "modes", "problems"):
        getattr(found, name).to_csv(output / f"{name}.csv", index=False)
    (output / "verdict.txt").write_text("\n".join(found.sentences) + "\n")
    print(f"\nThe tables behind it are in {output}: findings, survival, modes and problems .csv, verdict.txt")


@app.command()
def report(
    rollouts: Files,
    output: Annotated[Path, typer.Option(help="The page, .html; its figures go beside it.")],
    baseline: Annotated[
        str, typer.Option(help="Compare the other models to this one, on the same problems.")
    ] = "",
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Pass@k and variety",
    problems: Annotated[int, typer.Option(help="The page holds completions of so many problems.")] = 200,
    each: Annotated[int, typer.Option(help="Correct completions, and others, per problem and model.")] = 4,
    characters: Annotated[int, typer.Option(help="Longer completions are cut here.")] = 20_000,
    before: Annotated[
        str, typer.Option(help="Diagnose the way from this model. Default: the one named base.")
    ] = "",
    after: Annotated[
        str, typer.Option(help="... to this one. Default: the baseline, else the only other.")
    ] = "",
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
    frame = _load(
        rollouts,
        correct=correct,
        threshold=threshold,
        step=step,
        canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )
    summary, differences = _measure(frame, baseline, seed=seed)
    written = write_page(
        output, frame, summary, differences, title=title,
        diagnosis=_diagnosis(frame, baseline, before, after, seed=seed),
        limits=Limits(problems=problems, each=each, characters=characters),
        figures=("svg", "png") if find_spec("matplotlib") else ("svg",),
    )  # fmt: skip
    print(f"The page is {output}; beside it: {', '.join(path.name for path in written[1:])}")


def _diagnosis(frame, baseline: str, before: str, after: str, *, seed: int):
    """The diagnosis of the named pair; of the obvious one where none is named, and None where there is none."""
    from differential_smoothing.evaluation import diagnose as compare_both

    models = list(frame["model"].unique())
    asked = bool(before or after)
    before = before or ("base" if "base" in models else baseline)
    others = [model for model in models if model != before]
    after = after or (baseline if baseline in others else others[0] if len(others) == 1 else "")
    if asked and (before not in models or after not in others):
        raise ValueError(
            f"--before {before!r} and --after {after!r} must be two different models of these tables, which have "
            f"{', '.join(map(repr, models))}."
        )
    if before not in models or after not in others:
        return None
    try:
        return compare_both(frame[frame["model"] == before], frame[frame["model"] == after], seed=seed)
    except ValueError as error:
        if asked:
            raise
        print(f"dsmooth: the page has no diagnosis. {error}", file=sys.stderr)
        return None


@app.command()
def base(
    output: Annotated[Path, typer.Option(help="Where to save the model and its tokenizer.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 2400,
    seed: Annotated[int, typer.Option(help="Of the weights, the problems and the order.")] = 0,
    numbers: Annotated[int, typer.Option(help="How many numbers a problem has.")] = 4,
    max_number: Annotated[int, typer.Option(help="Numbers are drawn from 1 to this.")] = 10,
    problems: Annotated[int, typer.Option(help="How many train problems to learn from.")] = 24_000,
) -> None:
    """Make the shipped base model again, or another, from solved problems."""
    from differential_smoothing.base_model import train_base

    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ValueError(f"{output} is not empty. Nothing was changed; choose a new folder.")
    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}.")
    with _bars() as advance:
        train_base(
            output, steps=steps, seed=seed, numbers=numbers, max_number=max_number, problems=problems,
            on_step=lambda step, loss: advance(f"base, loss {loss:.3f}", "train", step, steps),
        )  # fmt: skip
    print(f"The base model is in {output}")


@app.command()
def tabular(
    instances: Annotated[int, typer.Option(help="Random prompts that each claim is checked on.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the prompts and of every draw.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for claims.csv, the figures and section.html.")] = Path(
        "runs/tabular"
    ),
) -> None:
    """The paper's theory on tables, exactly: each claim with its verdict and worst margin, and four figures."""
    import pandas as pd

    from differential_smoothing.tabular.claims import check_claims
    from differential_smoothing.tabular.figures import draw_all, page_section

    if instances < 1 or not 0 <= seed < 2**31:
        raise ValueError(
            f"--instances must be at least 1 and --seed from 0 to 2147483647, got {instances} and {seed}."
        )
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output must be a folder, and {output} is a file. Nothing was changed.")
    with _bars() as advance:
        claims = check_claims(instances, seed, on_progress=lambda name, done, total: advance(
            "claims", "check", done, total))  # fmt: skip
    for claim in claims:
        print(f"{claim.verdict:15}  {claim.name}: {claim.statement}.")
        print(
            f"{'':15}  worst margin {claim.margin:.1e}, holds on {claim.held:.1%} of {claim.instances}; {claim.note}"
        )
    output.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(claims).assign(seed=seed).to_csv(output / "claims.csv", index=False)
    draw_all(output, seed=seed)
    (output / "section.html").write_text(page_section(claims, output), encoding="utf-8")
    print(f"claims.csv, section.html and the figures (.svg, .png) are in {output}")
    news = [claim.name for claim in claims if claim.verdict != claim.expected]
    if news:
        print(f"dsmooth: not as this project states: {'; '.join(news)}.", file=sys.stderr)
        raise typer.Exit(1)


def _measure(frame, baseline: str, *, seed: int) -> tuple:
    """The summary of a rollouts table, and the differences to the baseline, None without one."""
    import pandas as pd

    from differential_smoothing.evaluation import compare as paired
    from differential_smoothing.evaluation import summarise
    from differential_smoothing.tasks import countdown

    # all solutions of more than six numbers are too many to list
    known = frame["task"].eq("countdown").all() and frame["prompt_id"].str.count(",").max() < 6
    solutions = countdown.count_solutions(frame["prompt_id"].unique()) if known else None
    summary = summarise(frame, seed=seed, num_solutions=solutions)
    others = [model for model in summary["model"].unique() if model != baseline]
    if baseline and baseline not in set(summary["model"]):
        raise ValueError(f"--baseline {baseline!r} is not a model of these tables: {', '.join(others)}.")
    differences = None
    if baseline and others:
        differences = pd.concat(
            [paired(frame, model, baseline, seed=seed, num_solutions=solutions) for model in others]
        )
    return summary, differences


def _savings(frame, differences, baseline: str, *, seed: int):
    """How many samples each model needs for the baseline's Pass@k at the largest k, and where their curves cross."""
    import pandas as pd

    from differential_smoothing.evaluation import compare as paired

    largest = differences.dropna(subset=["estimate", "k"]).groupby("model", sort=False)["k"].max()
    return pd.concat(
        [differences.iloc[:0]]
        + [
            paired(frame, name.removesuffix(f" - {baseline}"), baseline, seed=seed, ks=[int(k)], metrics=["reach@k", "crossing"])
            for name, k in largest.items()
        ]
    )  # fmt: skip


def _report(frame, baseline: str, output: Path | None, *, seed: int) -> None:
    from rich.console import Console

    from differential_smoothing import report

    summary, differences = _measure(frame, baseline, seed=seed)
    Console(width=None if sys.stdout.isatty() else 100).print(report.comparison_table(summary, differences))
    said = []
    if differences is not None:
        said = report.verdict(differences) + report.savings(_savings(frame, differences, baseline, seed=seed))
        print(*said, sep="\n")
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    summary.to_csv(output / "summary.csv", index=False)
    if differences is not None:
        differences.to_csv(output / "differences.csv", index=False)
    verdict = "".join(f"\n{sentence}\n" for sentence in said)
    (output / "report.md").write_text(report.to_markdown(summary, differences) + verdict)
    for suffix in ("svg", "png"):
        report.pass_at_k_figure(summary, output / f"pass_at_k.{suffix}")
    print(
        f"Tables and the figure are in {output}: report.md, summary.csv, differences.csv, pass_at_k.svg and .png"
    )


@contextmanager
def _bars() -> Iterator:
    """One progress bar per (cell, stage); yields ``advance(cell, stage, done, total)``."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns) as progress:
        tasks: dict[tuple[str, str], int] = {}

        def advance(cell: str, stage: str, done: int, total: int) -> None:
            key = (cell.split(",")[0], stage)
            if key not in tasks:
                tasks[key] = progress.add_task(f"{stage} {cell}", total=total)
            progress.update(tasks[key], completed=done, description=f"{stage} {cell}")

        yield advance


def main() -> None:
    """Entry point: an expected error is one paragraph, an interruption says how to go on."""
    # What ends a job on a cluster ends it here as Ctrl-C does: the processes of a study are stopped with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    try:
        status = app(standalone_mode=False)  # commands return nothing: a number is typer's exit status
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except (ValueError, RuntimeError, OSError) as error:
        print(f"dsmooth: {error}", file=sys.stderr)
        status = 2
    except ImportError as error:
        print(
            f"dsmooth: {error}. Install what is missing: pip install 'differential-smoothing[trl,peft,plot]', or vllm.",
            file=sys.stderr,
        )
        status = 2
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own usage errors have one
            raise
        print(f"dsmooth: {error.format_message()}", file=sys.stderr)
        status = 2
    if status == INTERRUPTED:
        again = (
            "goes on from here"
            if sys.argv[1:2] in (["quickstart"], ["compare"], ["train"])
            else "starts over"
        )
        print(f"\nInterrupted. The same command {again}.", file=sys.stderr)
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
