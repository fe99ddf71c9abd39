"""The program that the commands belong to: its errors, its interruptions, its progress bars."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Jobs", "app", "bars", "main"]

Jobs = Annotated[int, typer.Option(help="Cells at once. 0: two on the CPU, or as many as there are GPUs for.")]
INTERRUPTED = 130  # the shell's status for Ctrl-C

app = typer.Typer(
    help="Train with Differential Smoothing (DS-GRPO), sample, and measure Pass@k and variety.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from differential_smoothing._version import __version__

        print(f"dsmooth {__version__}")
        raise typer.Exit()


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


@contextmanager
def bars() -> Iterator:
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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        tasks: dict[tuple[str, str], int] = {}

        def advance(cell: str, stage: str, done: int, total: int) -> None:
            key = (cell.split(",")[0], stage)
            if key not in tasks:
                tasks[key] = progress.add_task(f"{stage} {cell}", total=total)
            progress.update(tasks[key], completed=done, description=f"{stage} {cell}")

        yield advance


def _say(message, category, filename, lineno, file=None, line=None) -> None:
    """A warning of this package as one line for the reader; those of others as Python writes them."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        print(f"dsmooth: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=sys.stderr)


def main() -> None:
    """Entry point: an expected error is one paragraph, an interruption prints how to resume."""
    # What ends a job on a cluster ends it here as Ctrl-C does: the processes of a study are stopped with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.showwarning = _say
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
            "resumes from here"
            if sys.argv[1:2] in (["quickstart"], ["quickstart-llm"], ["compare"], ["train"], ["sample"], ["reproduce"])
            else "starts over"
        )
        print(f"\nInterrupted. The same command {again}.", file=sys.stderr)
    sys.exit(status or 0)
