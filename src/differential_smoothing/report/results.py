"""What several commands do with a table of rollouts: read it, measure it, diagnose it, show it."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

__all__ = ["arena", "diagnosis", "folder", "load", "measure", "model_name", "regimes", "report"]


def model_name(model: str | Path) -> str:
    """The name of a model without one: its folder's, and for ``<run>/model`` the run's."""
    path = Path(model)
    path = path.resolve() if path.is_dir() else path  # of "." too
    return (path.parent.name if path.name == "model" else "") or path.name


def load(arguments: list[str], **options):
    """The rollouts of every ``PATH``, ``name=PATH`` or ``name@seed=PATH``, one below the other."""
    import pandas as pd

    from differential_smoothing.rollouts import load_rollouts

    frames = []
    with warnings.catch_warnings(record=True) as caught:
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
    print(*(f"dsmooth: {warning.message}" for warning in caught), sep="\n", end="\n" * bool(caught), file=sys.stderr)
    return pd.concat(frames, ignore_index=True)


def measure(frame, baseline: str, *, seed: int) -> tuple:
    """The summary of a rollouts table, and the differences to the baseline, None without one."""
    import pandas as pd

    from differential_smoothing.evaluation import compare as paired
    from differential_smoothing.evaluation import summarise

    solutions = _solutions(frame)
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


def _solutions(frame) -> dict[str, int] | None:
    """How many solutions each problem has, what coverage is a share of; None, said in one line, where that is not known."""
    from differential_smoothing.tasks import countdown

    if not frame["task"].eq("countdown").all():
        return None
    ids = frame["prompt_id"].unique()
    if frame["prompt_id"].str.count(",").max() > 4:
        why = "to list all solutions of six numbers takes seconds a problem"
    else:
        try:
            solutions = countdown.count_solutions(ids)
        except ValueError as error:
            why = str(error)
        else:
            if all(solutions.values()):
                return solutions
            why = f"{next(i for i, number in solutions.items() if not number)!r} has no solution"
    print(f"dsmooth: coverage, the share of all solutions, is left out: {why.rstrip('.')}.", file=sys.stderr)
    return None


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


def _savings(frame, differences, baseline: str, *, seed: int) -> list[str]:
    """How many samples each model needs for the baseline's Pass@k, and where their curves cross, in words.

    At half the samples: at n of n samples the curve ends, and the answer could only lie below.
    """
    import pandas as pd

    from differential_smoothing.evaluation import compare as paired
    from differential_smoothing.report import savings

    known = differences.dropna(subset=["estimate", "k"])
    parts = []
    for name, ks in known.groupby("model", sort=False)["k"]:
        half = ks[ks <= ks.max() / 2]
        if len(half) and half.max() > 1:
            model = name.removesuffix(f" - {baseline}")
            k = int(half.max())
            parts.append(paired(frame, model, baseline, seed=seed, ks=[k], metrics=["reach@k", "crossing"]))
    return savings(pd.concat(parts), baseline) if parts else []


def _taxes(frame, differences, baseline: str, *, seed: int) -> list[str]:
    """The sharpening tax of each model and the shares of problems solved, in words."""
    import pandas as pd

    from differential_smoothing.evaluation import compare as paired
    from differential_smoothing.evaluation import summarise
    from differential_smoothing.report import tax

    if frame.groupby(["model", "prompt_id"]).size().min() < 2:
        return []
    models = [name.removesuffix(f" - {baseline}") for name in differences["model"].unique()]
    both = pd.concat([paired(frame, m, baseline, seed=seed, metrics=["spread", "area"]) for m in models])
    return tax(both, summarise(frame, seed=seed, metrics=["always", "sometimes", "never"]), baseline)


def folder(output: Path | None) -> None:
    """Make the folder for results before anything is computed; ValueError if that cannot be."""
    if output is None:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ValueError(
            f"--output must be a folder that can be written, and {output} cannot be ({error.strerror}). Nothing was changed. "
            "Choose another."
        ) from None


def report(frame, baseline: str, output: Path | None, *, seed: int) -> tuple:
    """Print what `measure` finds, write it into the folder `output`, which is there, and return it."""
    from rich.console import Console

    from differential_smoothing import report as shown
    from differential_smoothing.evaluation import unscored

    summary, differences = measure(frame, baseline, seed=seed)
    Console(width=None if sys.stdout.isatty() else 100).print(shown.comparison_table(summary, differences))
    lines = unscored(frame)
    if differences is not None:
        lines += shown.verdict(differences) + _savings(frame, differences, baseline, seed=seed)
        lines += _taxes(frame, differences, baseline, seed=seed)
    print(*lines, sep="\n", end="\n" * bool(lines))
    if output is None:
        return summary, differences
    summary.to_csv(output / "summary.csv", index=False)
    if differences is not None:
        differences.to_csv(output / "differences.csv", index=False)
    verdict = "".join(f"\n{sentence}\n" for sentence in lines)
    (output / "report.md").write_text(shown.to_markdown(summary, differences) + verdict)
    files = ["report.md", "summary.csv"] + ["differences.csv"] * (differences is not None)
    if summary.loc[summary["metric"] == "pass@k", "estimate"].notna().any():
        for suffix in ("svg", "png"):
            shown.pass_at_k_drawing(summary).save(output / f"pass_at_k.{suffix}")
        files += ["pass_at_k.svg and .png"]
    print(f"In {output} are {', '.join(files)}.")
    return summary, differences


def arena(counts, baseline: str, output: Path, *, seed: int, leads_over=(), logs=None) -> None:
    """The whole report of a sweep, from its counts per problem, into the folder ``output``; prints the report.

    A sweep with checkpoints, or with ``leads_over``, is compared as paths too, over the envelopes of the rules that ``leads_over`` names, or of ``baseline``'s; ``logs`` has the training logs of some rules (``sweep.read_logs``).
    """
    import pandas as pd

    from differential_smoothing import report as shown
    from differential_smoothing.evaluation import frontiers, paths

    output.mkdir(parents=True, exist_ok=True)
    final = paths.final_counts(counts)
    means = frontiers.point_means(final, seed=seed)
    best = frontiers.best_points(final, baseline)
    paired = frontiers.paired_points(final, best, baseline, seed=seed)
    dominance = pd.concat(
        [frontiers.dominated_by(final, point).assign(of=point["rule"]) for _, point in best.iterrows()],
        ignore_index=True,
    )
    text = shown.arena_markdown(best, means, paired, dominance, baseline)
    tables = {"points": means, "best": best, "differences": paired, "dominance": dominance}
    figures = []
    for task in dict.fromkeys(best["task"]):
        for measure, stem in (("pass@k", "frontier"), ("differ", "variety")):
            for suffix in ("svg", "png"):
                file = output / f"{'-'.join(part for part in (task, stem) if part)}.{suffix}"
                shown.frontier_figure(means, best, file, baseline=baseline, task=task, measure=measure)
            figures.append(f"![{stem}]({file.with_suffix('.svg').name})")
    lines = regimes(logs or {})
    over = [one for one in leads_over or [baseline] if _has_paths(counts, one)]
    lines += [
        f"There are no leads over {one}: they need several points of it and one of another rule on every task."
        for one in leads_over
        if one not in over
    ]
    if over and (leads_over or ("step" in counts and counts["step"].nunique() > 1)):
        walked = paths.path_means(counts)
        found = pd.concat(
            [paths.leads(counts, paths.chosen_points(counts, one), one, seed=seed) for one in over], ignore_index=True
        )
        ranges = pd.concat([paths.usable_range(counts, one).assign(baseline=one) for one in over], ignore_index=True)
        tables |= {"leads": found, "paths": walked, "range": ranges}
        for one in over:
            for task in dict.fromkeys(walked["task"]):
                for measure, stem in (("pass@k", "paths"), ("distinct", "paths-distinct")):
                    name = "-".join(part for part in (task, stem, one if one != over[0] else "") if part)
                    for suffix in ("svg", "png"):
                        shown.paths_figure(
                            walked, found, output / f"{name}.{suffix}", baseline=one, task=task, measure=measure
                        )
                    figures.append(f"![{stem}]({name}.svg)")
        text += "\n" + shown.leads_markdown(found)
        lines += shown.leads_sentences(found)
    for name, table in tables.items():
        table.to_csv(output / f"{name}.csv", index=False, float_format="%.6g")
    text += "".join(f"\n{sentence}\n" for sentence in lines)
    (output / "report.md").write_text(text + "\n" + "\n".join(figures) + "\n")
    print(text)
    print(
        f"Tables and figures are in {output}: report.md, {', '.join(f'{name}.csv' for name in tables)} and {len(figures)} figures."
    )


def _has_paths(counts, baseline: str) -> bool:
    """Whether the baseline has several points, which is what an envelope is made of, and another rule has one to compare, on every task."""
    if "step" in counts:
        counts = counts[(counts["step"] != 0) | (counts["rule"] != "base")]
    of_base = counts["rule"] == baseline
    points = (
        counts[of_base]
        .groupby("task")[[c for c in ("strength", "learning_rate", "step") if c in counts]]
        .apply(lambda p: len(p.drop_duplicates()))
    )
    return bool((points > 1).all()) and len(points) == counts["task"].nunique() and counts["rule"].nunique() > 1


def regimes(logs) -> list[str]:
    """Which regime each rule was in. A log that cannot be understood is left out, as a report should not fail for it."""
    from differential_smoothing.evaluation.diagnosis.regime import regime_sentences

    sentences = []
    for name, runs in logs.items():
        try:
            sentences += regime_sentences({name: runs})
        except ValueError as error:
            sentences.append(f"{name}: the regime is not known. {error}")
    return sentences
