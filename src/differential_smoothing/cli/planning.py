"""The commands before a training or a study: what can a rule change here, and how much must be sampled to see it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from differential_smoothing.report import results

from .app import app
from .measuring import Correct, Files, Form, SkipBadRows, Step, Threshold


@app.command()
def advise(
    rollouts: Files,
    group: Annotated[int, typer.Option(help="Completions per prompt in the training to come.")] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens of a completion that decide about its answer.")] = 10,
    log: Annotated[
        Path | None,
        typer.Option(help="A GRPO run of the planned length: its folder, metrics.jsonl or trainer_state.json."),
    ] = None,
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Before training: can Differential Smoothing help this base, and with which strength?"""
    from differential_smoothing.advice import advise as advice_for
    from differential_smoothing.evaluation import counts
    from differential_smoothing.evaluation.diagnosis.regime import read_log

    frame = results.load(
        rollouts,
        text=False,
        correct=correct,
        threshold=threshold,
        step=step,
        canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )
    models = sorted(frame["model"].astype(str).unique())
    if len(models) > 1:
        raise ValueError(f"dsmooth advise takes the rollouts of one base; these are of {', '.join(models)}. Give one.")
    found = advice_for(counts(frame), group=group, tokens=tokens, log=None if log is None else read_log(log))
    print(*found.sentences, sep="\n")
