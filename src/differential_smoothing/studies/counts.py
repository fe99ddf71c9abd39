"""What a finished cell of a sweep leaves: counts per problem, its training's log and its cost; written by its process, read for the report.

A cell leaves counts, not completions, so that a sweep of hundreds of cells is a file of a few hundred kilobytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
from differential_smoothing.files import whole

from .sweep import Sweep

__all__ = [
    "COUNTS",
    "LOGGED",
    "join_counts",
    "read_costs",
    "read_counts",
    "read_logs",
    "write_counts",
    "write_log",
    "write_table",
]

#: What is kept of a training's log: from it a study tells in which regime it was.
LOGGED = (
    "step",
    "learning_rate",
    "reward",
    "frac_reward_zero_std",
    "entropy",
    "ds/correct",
    "ds/groups_all_correct",
    "ds/groups_all_wrong",
    "ds/logp_correct",
    "ds/logp_incorrect",
    "ds/term_correct",
    "ds/term_incorrect",
    "ds/gamma_p",
    "ds/variety",
)


#: What is known of a problem after sampling: samples, correct ones, distinct correct answers, chance that two correct ones differ.
COUNTS = ("n", "c", "distinct", "differ")


def write_counts(frames: Mapping[str, pd.DataFrame], path: Path, *, step: int) -> None:
    """Write what is kept of a model: per problem of each evaluation ``n``, ``c``, ``distinct`` and ``differ`` of ``evaluation.counts``."""
    import pandas as pd

    from differential_smoothing.evaluation import counts

    table = pd.concat(
        [counts(frame).assign(evaluation=name, step=step) for name, frame in frames.items()], ignore_index=True
    )
    write_table(table[["model", "seed", "step", "evaluation", "prompt_id", *COUNTS]], path)


def join_counts(parts: Sequence[Path], path: Path) -> None:
    """One table of a cell from those of its checkpoints, which then go."""
    import pandas as pd

    write_table(pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True), path)
    for part in parts:
        part.unlink(missing_ok=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of counts so that ``path`` holds all of it or is not there."""
    with whole(path) as partial:
        table.to_parquet(partial, index=False)


def write_log(metrics: Path, result: Path, *, cell: str, seconds: float) -> None:
    """Keep what a cell's training logged and cost, beside its counts: ``.log.json`` has a list of ``{step, reward, ...}`` of numbers.

    ``seconds`` of processor time stand in a file of their own, ``.cost.json``: they differ from run to run, the counts do not.
    """
    cost, log = {"cell": cell, "processor_seconds": round(seconds, 1)}, []
    if metrics.is_file():
        for line in metrics.read_text().splitlines():
            entry = json.loads(line)
            numbers = {key: float(value) for key, value in entry.items() if _is_number(value)}
            if "reward" in numbers:  # the last entry is the host's summary
                log.append({key: float(f"{numbers[key]:.6g}") for key in sorted(numbers) if key in LOGGED})
    result.with_suffix(".cost.json").write_text(
        json.dumps(cost) + "\n"
    )  # the cell's table is written last: it marks the cell as complete
    result.with_suffix(".log.json").write_text(json.dumps(log) + "\n")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def read_counts(sweep: Sweep, folder: Path) -> pd.DataFrame:
    """The counts of all finished cells, with the point of each: columns ``rule``, ``strength``, ``learning_rate``, ``task``,
    ``model``, ``seed``, ``step``, ``evaluation``, ``prompt_id`` and ``COUNTS``. Problems of ``evaluation`` that are in ``selection`` too, as they can be where
    both are on one split, are left out of ``evaluation``. ValueError if there are no finished cells."""
    import pandas as pd

    files = [(cell, sweep.result(folder, cell)) for cell in sweep.cells()]
    done = [(cell, file) for cell, file in files if file.is_file()]
    if not done:
        raise ValueError(f"{folder} has no finished cell of this sweep yet. Run dsmooth compare first.")
    parts = []
    for cell, file in done:
        point = sweep.points[cell.model]
        table = pd.read_parquet(file).assign(**point._asdict())
        if "step" not in table:  # published before there were checkpoints
            table["step"] = int((cell.options or {}).get("max_steps") or 0)
        parts.append(table)
    table = pd.concat(parts, ignore_index=True)
    problem = pd.MultiIndex.from_frame(table[["task", "prompt_id"]])
    judged = table["evaluation"] == "evaluation"
    table = table[~(judged & problem.isin(problem[table["evaluation"] == "selection"]))].reset_index(drop=True)
    first = ["task", "rule", "strength", "learning_rate", "step", "seed", "evaluation", "prompt_id"]
    return table[[*first, *COUNTS, "model"]]


def read_costs(sweep: Sweep, folder: Path) -> pd.DataFrame:
    """What the training of each rule cost: ``task``, ``rule``, ``cells``, the median ``processor_seconds`` of a cell, and its ``ratio``
    to the baseline's. Cells that were continued after an interruption count what their last process took."""
    import pandas as pd

    rows = []
    for cell in sweep.cells():
        file = sweep.result(folder, cell).with_suffix(".cost.json")
        if cell.options is not None and file.is_file():
            point = sweep.points[cell.model]
            rows.append((point.task, point.rule, json.loads(file.read_text())["processor_seconds"]))
    table = pd.DataFrame(rows, columns=["task", "rule", "processor_seconds"])
    costs = table.groupby(["task", "rule"], sort=False)["processor_seconds"].agg(["count", "median"]).reset_index()
    costs.columns = ["task", "rule", "cells", "processor_seconds"]
    base = costs[costs["rule"] == sweep.baseline].set_index("task")["processor_seconds"]
    costs["ratio"] = costs["processor_seconds"] / costs["task"].map(base)
    return costs


def read_logs(sweep: Sweep, folder: Path, rule: str = "") -> dict[str, list[list[dict[str, Any]]]]:
    """The training logs of a rule's finished cells, the baseline's if none is named: "rule strength lr task" -> one list of entries per seed.

    Cells without a ``.log.json`` beside their counts, as older ones are, are left out.
    """
    logs: dict[str, list[list[dict[str, Any]]]] = {}
    for cell in sweep.cells():
        point = sweep.points[cell.model]
        file = sweep.result(folder, cell).with_suffix(".log.json")
        if point.rule == (rule or sweep.baseline) and file.is_file():
            parts = (point.task, point.rule, point.strength, f"lr {point.learning_rate:g}")
            logs.setdefault(" ".join(part for part in parts if part), []).append(json.loads(file.read_text()))
    return logs
