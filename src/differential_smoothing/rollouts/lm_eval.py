"""lm-evaluation-harness ``--log_samples``, read from what 0.4.3, 0.4.6, 0.4.7 and 0.4.13 write (``EvaluationTracker``).

A document has a row per filter. From 0.4.7 on each row names its filter and its metrics; before, neither is written, and the
filters of a document are told apart by their order.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from .format import Completion, Format
from .sources import BadRow, Refused, Source
from .values import gold_of, if_text, name_of, number, sound, text

__all__ = ["LM_EVAL", "REPEATED", "per_response"]

# Giving it to the response that the filter took would not do: which one that was is not written down.
REPEATED = (
    "unscored, because their metric is one value for several responses to a problem and so no response's verdict. "
    "Evaluate with one response per problem and one file per seed (name@1=FILE), or let the metric give a list with one "
    "value per response; where the file has right answers to mathematical problems, --correct verify judges each response"
)
WRITTEN = frozenset(
    {
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "doc_hash",
        "prompt_hash",
        "target_hash",
        "filter",
        "metrics",
    }
)
NO_METRIC = "bypass"  # of --predict_only: 999 in every row


def per_response(value: object, responses: int, name: str) -> tuple[list, str | None]:
    """The value of each response, and why they have none: one value for several is not any response's."""
    if isinstance(value, list):
        if len(value) != responses:
            raise BadRow(f"{name} has {len(value)} values for {responses} responses")
        return value, None
    return ([value], None) if responses == 1 else ([None] * responses, REPEATED)


def _read(row: dict, column: str | None) -> Iterator[Completion]:
    """``column`` is "metric,filter"; rows of other filters repeat the same responses and give nothing. None: the first filter."""
    metric, _, kept = (column or "").rpartition(",")
    if row.get("filter", "none") != (row["first filter"] if column is None else kept):
        return
    responses, filtered = (row.get(name) for name in ("resps", "filtered_resps"))
    if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], list):
        raise BadRow("resps is not [[text, ...]]: a completion task has one request per document")
    responses = responses[0]
    if column is not None and metric not in row:
        if metric in row["metrics"]:
            raise BadRow(f"no {metric}, expected the metric in every row")
        return  # another task, which has other metrics
    values, unscored = per_response(row[metric] if column is not None else None, len(responses), metric)
    found = filtered[0] if isinstance(filtered, list) and len(filtered) == 1 else None
    if not isinstance(found, list):
        found = [found] if len(responses) == 1 else []
    prompt: Any = row.get("arguments")
    for key in ("gen_args_0", "arg_0") if isinstance(prompt, dict) else (0, 0):
        try:
            prompt = prompt[key]
        except (KeyError, IndexError, TypeError):
            prompt = ""
    prompt = sound(prompt, "arguments") if isinstance(prompt, str) else ""
    for sample, response in enumerate(responses):
        completion = text({"resps": response}, "resps")
        solution = found[sample] if len(found) == len(responses) else None
        score = number({metric: values[sample]}, metric)
        yield Completion(
            name_of(row, "doc_id"),
            prompt,
            completion,
            score,
            completion,
            sample,
            reward=score,
            solution=if_text(solution, "filtered_resps"),
            gold=gold_of(row.get("target")),
            unscored=unscored,
        )


def _with_filters(source: Source) -> Source:
    """Rows that name their ``filter``, their ``metrics``, and the ``first filter`` of their document.

    Where no filter is written, the first row of a document is of filter "1", the next of "2", ...
    """

    def rows(_: Iterable[str]) -> Iterator[tuple[str, "dict | BadRow | Refused"]]:
        seen: dict[bytes, tuple[bytes, str, int]] = {}
        for place, row in source.rows(source.names):  # the metrics are named by the rows
            if isinstance(row, dict):
                document, responses = _document(row), _digest(row.get("resps"))
                first, first_filter, times = seen.get(document, (responses, "", 0))
                if not isinstance(row.get("metrics"), list):
                    metrics = [name for name, value in row.items() if name not in WRITTEN and _is_metric(value)]
                    named = {"filter": row.get("filter", str(times + 1)), "metrics": metrics}
                    if "filter" not in row and first != responses:
                        row = Refused(
                            f"document {row.get('doc_id')!r:.20} was there before with other responses, expected one run. {RUNS}"
                        )
                    else:
                        row = row | named
                if isinstance(row, dict):
                    first_filter = first_filter or row.get("filter", "none")
                    seen[document] = first, first_filter, times + 1
                    row = row | {"first filter": first_filter}
            yield place, row

    return source._replace(rows=rows)


RUNS = (
    "Where a file holds several runs of a task, give each its own file, and a name and seed: name@0=FILE name@1=FILE."
)


def _is_metric(value: object) -> bool:
    return all(isinstance(v, bool | int | float) for v in (value if isinstance(value, list) else [value]))


def _document(row: dict) -> bytes:
    return _digest([row.get(name) for name in ("doc_id", "doc_hash", "prompt_hash", "target_hash", "arguments")])


def _digest(value: object) -> bytes:
    return hashlib.blake2b(repr(value).encode("utf-8", "replace"), digest_size=8).digest()


def _columns(source: Source) -> dict[str, str]:
    """Each "metric,filter", with a warning where documents do not have it."""
    found: Counter[str] = Counter()
    documents = set()
    for _, row in source.rows(source.names):
        if isinstance(row, dict) and isinstance(row.get("metrics"), list):
            documents.add(_document(row))
            found.update(
                f"{m},{row.get('filter', 'none')}"
                for m in row["metrics"]
                if isinstance(m, str) and m != NO_METRIC and m in row
            )
    return {
        column: f"{len(documents) - rows} of {len(documents)} documents have no {column} and are left out"
        * (rows < len(documents))
        for column, rows in found.items()
    }


LM_EVAL = Format(
    "lm-evaluation-harness",
    frozenset({"doc_id", "resps"}),
    frozenset({"filter", "filtered_resps", "arguments", "target", "metrics", "doc_hash", "prompt_hash", "target_hash"}),
    _columns,
    (),
    _read,
    prepare=_with_filters,
    own_id=True,
    free=False,
    unit=True,
    gold="target",
    hint="The metric bypass of --predict_only does not judge correctness: evaluate without it.",
    add="",
    runs=RUNS,
    several=" A number is the place of a filter in the file; releases before 0.4.7 do not write its name.",
)
