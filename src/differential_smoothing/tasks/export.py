"""Problems written as the data sets that trainers read: verl's Parquet, or plain rows for TRL and for ``--data-file``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from differential_smoothing.files import whole

from .task import SPLITS, Task

__all__ = ["FORMATS", "write_problems"]

Format = Literal["verl", "trl", "jsonl"]
FORMATS = ("verl", "trl", "jsonl")


def write_problems(
    task: Task,
    folder: Path,
    *,
    format: Format,
    sizes: Mapping[str, int],
    seed: int,
    chat: bool = True,
    options: Mapping[str, Any] | None = None,
) -> list[Path]:
    """One file per entry of ``sizes``, ``folder/NAME.parquet`` (``.jsonl``); returns them.

    Args:
        format: ``"verl"``: Parquet with ``data_source, prompt, ability, reward_model, extra_info``, for ``compute_score`` of
            ``integrations.verl.reward``. ``"trl"``: Parquet with ``prompt`` and the task's columns. ``"jsonl"``: the same as JSON lines.
        sizes: how many problems of the splits ``train``, ``val`` (written from the dev split) and ``test``.
        seed: of the problems. The splits share none, whatever the seed.
        chat: prompts as messages that ask for tagged answers. Without it ``"verl"`` has the compact prompt as one message of a user, for
            models whose chat template adds nothing.
        options: those that ``task`` was made with; ``"verl"`` writes them into every row.

    ValueError if a file is there already, or a split or format is unknown. Nothing is written before all problems are there.
    """
    if format not in FORMATS:
        raise ValueError(f"The format must be one of {', '.join(FORMATS)}; got {format!r}.")
    splits: dict[str, Any] = {name: "dev" if name == "val" else name for name in sizes}
    if unknown := [name for name, split in splits.items() if split not in SPLITS]:
        raise ValueError(f"There is no split {unknown[0]!r}. Known are train, val and test.")
    suffix = ".jsonl" if format == "jsonl" else ".parquet"
    files = {name: folder / f"{name}{suffix}" for name in sizes}
    for file in files.values():
        if file.exists():
            raise ValueError(f"{file} exists and was not touched. Choose another folder, or delete it.")
    tables = {}
    for name, count in sizes.items():
        problems = task.problems(count, split=splits[name], seed=seed)
        tables[name] = [
            _verl_row(task, problem, index, name, chat, options or {})
            if format == "verl"
            else {"prompt": task.prompt(problem, chat=chat), **task.columns(problem)}
            for index, problem in enumerate(problems)
        ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with whole(files[name]) as partial:
            if format == "jsonl":
                partial.write_text(
                    "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
                )
            else:
                import pyarrow
                import pyarrow.parquet

                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), partial)
    return list(files.values())


def _verl_row(
    task: Task, problem: Any, index: int, split: str, chat: bool, options: Mapping[str, Any]
) -> dict[str, Any]:
    prompt = task.prompt(problem, chat=chat)
    return {
        "data_source": task.name,
        "prompt": [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt,
        "ability": "reasoning",
        # JSON, so that files of different tasks have one schema and can be mixed
        "reward_model": {"style": "rule", "ground_truth": json.dumps(task.columns(problem))},
        "extra_info": {
            "index": index,
            "split": split,
            "chat": chat,
            "task_options": json.dumps(dict(options)),
            "problem_id": task.problem_id(problem),
        },
    }
