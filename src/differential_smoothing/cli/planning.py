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


@app.command()
def power(
    pilot: Files,
    baseline: Annotated[str, typer.Option(help="The model to compare with.")],
    model: Annotated[str, typer.Option(help="The other model. Default: the only other one of the pilot.")] = "",
    metric: Annotated[str, typer.Option(help="pass@1, pass@K, or distinct.")] = "pass@1",
    difference: Annotated[
        float | None, typer.Option(help="Difference to find: points of Pass@k, or answers. Default: the pilot's own.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Numbers of training seeds to plan for.")] = "1,3,5,10",
    samples: Annotated[int | None, typer.Option(help="Samples per problem, for pass@1. Default: the pilot's.")] = None,
    seed_sd: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation between training seeds, in points or answers, if the pilot has one seed."
        ),
    ] = None,
    chance: Annotated[float, typer.Option("--power", help="Chance of finding the difference.")] = 0.8,
    correct: Correct = None,
    threshold: Threshold = 0.5,
    step: Step = None,
    canonical: Form = "file",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """How many problems and training seeds a comparison needs, from a pilot of two models."""
    from differential_smoothing.evaluation.power import components, differences, least_problems

    planned = [int(number) for number in seeds.split(",") if number.strip().isdecimal()]
    if len(planned) != len(seeds.split(",")) or min(planned) < 1:
        raise ValueError(f"--seeds must be whole numbers from 1, such as 1,3,5; got {seeds!r}.")
    if not 0 < chance < 1:
        raise ValueError(f"--power must be a chance between 0 and 1, such as 0.8; got {chance}.")
    frame = results.load(
        pilot,
        text=False,
        correct=correct,
        threshold=threshold,
        step=step,
        canonical=canonical,
        skip_bad_rows=skip_bad_rows,
    )
    others = [name for name in sorted(frame["model"].astype(str).unique()) if name != baseline]
    if not model and len(others) != 1:
        raise ValueError(f"Give --model, one of {', '.join(others) or 'none: the pilot has the baseline only'}.")
    values, noise, n = differences(frame, model or others[0], baseline, metric)
    found = components(values, noise, n)
    scale, unit = (1.0, "answers") if metric == "distinct" else (100.0, "points")
    wanted = found.delta if difference is None else difference / scale
    print(
        f"Pilot: {model or others[0]} - {baseline} in {metric}: {scale * found.delta:+.2f} {unit}, {found.problems} problems x {n} samples, "
        f"{found.seeds} training seeds."
    )
    variance = None if seed_sd is None else (seed_sd / scale) ** 2
    if found.seeds == 1 and variance is None:
        variance = 0.0
        print("One training seed: the variance between seeds is unknown and taken as 0. So this is a lower bound.")
    for number in planned:
        need = least_problems(found, wanted, power=chance, seeds=number, samples=samples, seed_variance=variance)
        size = f"{need} problems" if need else "no number of problems is enough: add seeds"
        print(f"To find {scale * wanted:+.2f} {unit} with a chance of {chance:.0%} and {number} seeds: {size}.")
