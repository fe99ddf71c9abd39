"""``compute_score`` of verl for the tasks of this package, whichever they are, by the row's ``data_source``.

    reward.custom_reward_function.path=pkg://differential_smoothing.integrations.verl.reward
    reward.custom_reward_function.name=compute_score

The rows are those of ``dsmooth data --format verl``: ``data_source`` is the task's name, ``reward_model.ground_truth`` its columns as
JSON, ``extra_info.chat``: whether the answer is inside tags, ``extra_info.task_options`` holds the task's options as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from differential_smoothing.tasks import Task, make_task

__all__ = ["compute_score"]


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None, **_: Any
) -> dict[str, float]:
    """``{"score": 1.0 or 0.0, "acc": the same}`` of one completion. Hostile text is wrong, never an exception.

    ValueError if the row is none of ``dsmooth data``: an unknown task, or a ground truth that is no problem of it.
    """
    extra_info = extra_info or {}
    try:
        task = _task(data_source, extra_info.get("task_options") or "{}")
        columns = json.loads(ground_truth)
        problem = task.problem(**{name: columns[name] for name in task.column_names})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"compute_score cannot read this row: data_source={data_source!r:.80}, ground_truth={ground_truth!r:.200}: {error}. "
            f"Write the data with dsmooth data --format verl."
        ) from None
    correct = float(task.verify(solution_str, problem, chat=bool(extra_info.get("chat", True))).correct)
    return {"score": correct, "acc": correct}


@lru_cache(maxsize=64)
def _task(name: str, options: str) -> Task:
    return make_task(name, **json.loads(options))
