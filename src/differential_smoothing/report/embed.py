"""What the page carries as data: every number, and a bounded choice of completions, as JSON that cannot end a script."""

import json
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = ["Limits", "completions", "cut", "dumps", "problems", "records"]


class Limits(NamedTuple):
    """How much a page carries. The page names what is left out.

    `problems`: at most so many have completions; `each`: correct ones, and as many others, per problem and model;
    `characters`: of one text; `total`: of all completions together; `rows`: of the table of single solutions.
    """

    problems: int = 200
    each: int = 4
    characters: int = 20_000
    total: int = 8_000_000
    rows: int = 50_000


def dumps(value: Any) -> str:
    """JSON for a script element: no "<" can open or close a tag, NaN is null, and every character is ASCII."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def cut(text: str, most: int) -> str:
    """At most `most` characters, the last an ellipsis where any were left out."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def records(frame: pd.DataFrame, characters: int = 500) -> dict[str, list]:
    """A frame as {"columns", "rows"}; NaN and null become None, text is cut at `characters`."""
    columns = [[_plain(value, characters) for value in frame[name]] for name in frame.columns]
    return {"columns": [str(name) for name in frame.columns], "rows": [list(row) for row in zip(*columns)]}


def problems(counts: pd.DataFrame, models: list[str], given_up: dict[str, bool]) -> dict[str, Any]:
    """Per problem and model, over the training seeds: n samples, c correct, mean of the distinct solutions.

    `counts` is the result of `evaluation.counts`. Lists of models hold lists of problems, in the order of "id".
    """
    ids = list(dict.fromkeys(counts["prompt_id"]))
    columns: dict[str, list] = {"n": [], "c": [], "distinct": []}
    for model in models:
        part = counts[counts["model"] == model].groupby("prompt_id")
        for name, how in (("n", "sum"), ("c", "sum"), ("distinct", "mean")):
            values = part[name].agg(how).reindex(ids)
            columns[name].append([_plain(value, 0) for value in values])
    return {"id": [cut(i, 200) for i in ids], **columns, "given_up": [_plain(given_up.get(i), 0) for i in ids]}


def completions(
    frame: pd.DataFrame, counts: pd.DataFrame, models: list[str], limits: Limits
) -> tuple[dict[str, Any], int]:
    """The first samples of the problems on which the models differ most, and how many texts had to be cut.

    Returns {place of the problem: {"prompt", "samples": per model [sample, seed, correct, num_tokens, logp, text,
    length of the whole text]}}. First samples, not chosen ones: draws of one policy come in no order.
    """
    # As in `problems`, places count the ids in the order of `counts`.
    ids = list(dict.fromkeys(counts["prompt_id"]))
    place = {prompt_id: i for i, prompt_id in enumerate(ids)}
    sums = counts.groupby(["model", "prompt_id"])[["n", "c"]].sum()
    rates = (sums["c"] / sums["n"].where(sums["n"] > 0)).unstack("model").reindex(ids)
    spread = (rates.max(axis=1) - rates.min(axis=1)).fillna(0).to_numpy()
    chosen = [ids[i] for i in np.argsort(-spread, kind="stable")[: limits.problems]]
    part = frame[frame["prompt_id"].isin(set(chosen))]
    right = part["correct"].astype("boolean").fillna(False)
    # Sorted by sample first, so that of several training seeds each gives its share.
    part = part.assign(_right=right).sort_values(["sample", "seed"], kind="stable")
    first = part.groupby(["prompt_id", "model", "_right"]).cumcount() < limits.each
    by_problem = dict(tuple(part[first].groupby("prompt_id")))
    out: dict[str, Any] = {}
    spent = cuts = 0
    for prompt_id in chosen:
        rows = by_problem[prompt_id].sort_values("_right", ascending=False, kind="stable")
        samples: list[list] = [[] for _ in models]
        too_long = 0
        for row in rows.itertuples():
            text = str(row.completion)
            too_long += len(text) > limits.characters
            kept = text[: limits.characters]
            spent += len(kept)
            verdict = None if pd.isna(row.correct) else int(row.correct)
            samples[models.index(row.model)].append(
                [
                    int(row.sample),
                    int(row.seed),
                    verdict,
                    _plain(row.num_tokens, 0),
                    _plain(row.logp, 0),
                    kept,
                    len(text),
                ]
            )
        prompt = str(rows["prompt"].iloc[0])
        spent += min(len(prompt), limits.characters)
        if spent > limits.total and out:
            break
        cuts += too_long
        out[str(place[prompt_id])] = {
            "prompt": prompt[: limits.characters],
            "prompt_length": len(prompt),
            "samples": samples,
        }
    return out, cuts


def _plain(value: Any, characters: int) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        # Sums over samples are whole; "12.0" would only make the page longer.
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return cut(value, characters)
