"""Rollout files for the tests of readers: what is recorded, and lines written on the spot."""

import json
import warnings
from pathlib import Path

import pandas as pd

from differential_smoothing.rollouts import load_rollouts

DATA = Path(__file__).parent / "data" / "rollouts"
REPORTS = Path(__file__).parent / "data" / "reports"
GIVEN = json.loads((DATA / "completions.json").read_text())


def plain_rows(task: str) -> list[dict]:
    return [
        {"prompt": row["prompt"], "completion": text, "correct": right}
        for row in GIVEN[task]
        for text, right in zip(row["completions"], row["correct"])
    ]


def lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def quietly(*args, **options) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_rollouts(*args, **options)


def least(**values: object) -> dict:
    return {"prompt_id": "a", "completion": "x", "correct": True} | values


def read(path: Path | str, **options) -> tuple[pd.DataFrame, str]:
    """The table, and all warnings as one text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        frame = load_rollouts(REPORTS / path, **options)
    return frame, "\n".join(str(warning.message) for warning in caught)


def totals(frame: pd.DataFrame) -> tuple[int, int, int, int]:
    """Rows, correct ones, unscored ones, problems."""
    return (len(frame), int(frame["correct"].sum()), int(frame["correct"].isna().sum()), frame["prompt_id"].nunique())


def report_lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (REPORTS / name).read_text().splitlines()]


def document(number: int, *, prompt: str = "", **rest: object) -> dict:
    row = {"doc_id": number, "arguments": {"gen_args_0": {"arg_0": prompt or f"Q{number}"}}, "target": str(number)}
    return (
        row
        | {"resps": [["x"]], "filtered_resps": ["x"], "doc_hash": "d", "prompt_hash": "p", "target_hash": "t"}
        | rest
    )
