"""The command that writes problems as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .app import app
from .training import TASK, TASK_OPTIONS

if TYPE_CHECKING:
    from differential_smoothing.tasks.export import Format


@app.command()
def data(
    output: Annotated[Path, typer.Option(help="Folder for train, val and test files.")],
    format: Annotated[str, typer.Option(help="verl (Parquet), trl (Parquet) or jsonl (for --data-file).")] = "verl",
    task: Annotated[str, typer.Option(help=TASK)] = "countdown",
    task_options: Annotated[str, typer.Option(help=TASK_OPTIONS)] = "",
    train: Annotated[int, typer.Option(help="Training problems.")] = 20_000,
    val: Annotated[int, typer.Option(help="Problems of the dev split; 0 for no file.")] = 1_024,
    test: Annotated[int, typer.Option(help="Problems of the test split; 0 for no file.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 0,
    chat: Annotated[bool, typer.Option(help="Chat prompts with tagged answers; else the compact form.")] = True,
) -> None:
    """Problems of a task as a data set for verl or TRL. The splits share no problem.

    Example: dsmooth data --task countdown --format verl --output data/countdown
    """
    from differential_smoothing.tasks import make_task, read_options
    from differential_smoothing.tasks.export import write_problems

    options = read_options(task_options or None) or {}
    counts = {"train": train, "val": val, "test": test}
    if wrong := [name for name, count in counts.items() if count < 0]:
        raise ValueError(f"--{wrong[0]} must be 0 or more, got {counts[wrong[0]]}.")
    files = write_problems(
        make_task(task, **options),
        output,
        format=cast("Format", format),  # checked there
        sizes={n: c for n, c in counts.items() if c},
        seed=seed,
        chat=chat,
        options=options,
    )
    print("Written: " + ", ".join(map(str, files)))
