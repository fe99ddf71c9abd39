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
