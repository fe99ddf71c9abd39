"""What several commands do with a table of rollouts: read it, measure it, diagnose it, show it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

__all__ = ["diagnosis", "load", "measure", "report"]


def load(arguments: list[str], **options):
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


def measure(frame, baseline: str, *, seed: int) -> tuple:
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


def diagnosis(frame, baseline: str, before: str, after: str, *, seed: int):
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


def report(frame, baseline: str, output: Path | None, *, seed: int) -> None:
    from rich.console import Console

    from differential_smoothing import report as shown

    summary, differences = measure(frame, baseline, seed=seed)
    Console(width=None if sys.stdout.isatty() else 100).print(shown.comparison_table(summary, differences))
    said = []
    if differences is not None:
        said = shown.verdict(differences) + shown.savings(_savings(frame, differences, baseline, seed=seed))
        print(*said, sep="\n")
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    summary.to_csv(output / "summary.csv", index=False)
    if differences is not None:
        differences.to_csv(output / "differences.csv", index=False)
    verdict = "".join(f"\n{sentence}\n" for sentence in said)
    (output / "report.md").write_text(shown.to_markdown(summary, differences) + verdict)
    for suffix in ("svg", "png"):
        shown.pass_at_k_figure(summary, output / f"pass_at_k.{suffix}")
    print(
        f"Tables and the figure are in {output}: report.md, summary.csv, differences.csv, pass_at_k.svg and .png"
    )
