"""The rollouts table: one row per completion, the only file format that passes between rooms.

| column       | type    | meaning                                                                   |
|--------------|---------|---------------------------------------------------------------------------|
| `prompt_id`  | string  | which problem; required                                                   |
| `sample`     | int64   | which of the completions of this prompt, from 0                           |
| `task`       | string  | which task wrote the prompt and verified the completion                   |
| `model`      | string  | which model or method: `base`, `grpo`, `ds_grpo`                          |
| `seed`       | int64   | training seed of the model, not the sampling seed                         |
| `step`       | int64   | optimiser step the rollout belongs to; -1 = evaluation of the final model |
| `prompt`     | string  | text given to the model                                                   |
| `completion` | string  | text it answered; required                                                |
| `solution`   | string  | what the verifier extracted; null where nothing was found                 |
| `reward`     | float64 | reward used in training; NaN = unscored                                   |
| `correct`    | bool    | the verifier's verdict; null = unscored; required, as a column            |
| `canonical`  | string  | canonical form of the solution; null unless correct                       |
| `advantage`  | float64 | advantage used in training; NaN outside training                          |
| `logp`       | float64 | log-probability summed over the completion's tokens, in nats; NaN unknown |
| `num_tokens` | int64   | tokens in the completion; null unknown                                    |

(`model`, `seed`, `step`, `prompt_id`, `sample`) identifies a row.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from differential_smoothing.files import whole

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "join_rollouts",
    "read_note",
    "read_rollouts",
    "refuse_duplicates",
    "write_rollouts",
]

SCHEMA_VERSION = 1
_VERSION_KEY = b"dsmooth.rollouts.version"
_NOTE_KEY = b"dsmooth.rollouts.note"
_ROW_GROUP = (
    8192  # a reader holds a whole row group: small ones let load_rollouts read tables that do not fit into memory
)

SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("sample", pa.int64(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("solution", pa.string()),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("correct", pa.bool_()),
        pa.field("canonical", pa.string()),
        pa.field("advantage", pa.float64(), nullable=False),
        pa.field("logp", pa.float64(), nullable=False),
        pa.field("num_tokens", pa.int64()),
    ],
    metadata={_VERSION_KEY: str(SCHEMA_VERSION)},
)
COLUMNS = tuple(SCHEMA.names)
_REQUIRED = ("prompt_id", "completion", "correct")
_DEFAULTS = {"task": "unknown", "model": "unknown", "seed": 0, "step": -1, "prompt": ""}
_LEAST = {"sample": 0, "step": -1, "num_tokens": 0}
_TEXT = ("prompt", "completion")
_IDENTITY = ["model", "seed", "step", "prompt_id", "sample"]


def write_rollouts(frame: pd.DataFrame, path: str | os.PathLike[str], *, note: Mapping[str, Any] | None = None) -> None:
    """Check `frame` and write it to `path` as Parquet, whole or not at all.

    The columns are those of the module's table, in any order; `frame` itself is left as it is. Only
    `prompt_id`, `completion` and `correct` must be there. Of the others, a missing `sample` numbers the
    completions of a prompt in row order, `task` and `model` become "unknown", `seed` 0, `step` -1, `prompt`
    "", and the rest is unknown (NaN or null). Missing folders are made. A reader of `path` sees the old file
    or the new one, never half of one.

    `note`, plain values, goes into the file's metadata: where the rollouts come from. `read_note` gives it back.

    Raises ValueError for a missing or unknown column, values of the wrong type, a null where none is allowed,
    a number below its least value, a canonical form on a row that is not correct, and for two rows with the
    same identity.
    """
    path = Path(path)
    where = f"Cannot write rollouts to {path}"
    table = _to_table(frame, where)
    _check_values(_to_frame(table), where)
    with whole(path) as temporary:
        schema = _noted(note)
        pq.write_table(table.cast(schema), temporary, compression="zstd", row_group_size=_ROW_GROUP)


def join_rollouts(
    parts: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], *, note: Mapping[str, Any] | None = None
) -> None:
    """Write the rows of `parts`, files of `write_rollouts`, in that order into `path`: the file that it would write of all of them.

    Holds a few thousand rows at once. Raises ValueError as `read_rollouts` does, and if two parts have rows of the same
    model, seed, step and problem.
    """
    path, seen = Path(path), set[tuple]()
    schema = _noted(note)
    with whole(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for part in map(Path, parts):
            problems = set()
            for batch in read_batches(part):
                problems |= set(zip(*(batch[name].to_pylist() for name in _IDENTITY[:-1]), strict=True))
                waiting.append(batch)
                table = pa.Table.from_batches(waiting)
                while len(table) >= _ROW_GROUP:
                    writer.write_table(table.slice(0, _ROW_GROUP).cast(schema), row_group_size=_ROW_GROUP)
                    table = table.slice(_ROW_GROUP)
                waiting = table.to_batches()
            if problems & seen:
                raise ValueError(
                    f"Cannot join rollouts into {path}: {part} has completions of {len(problems & seen)} problems (such as "
                    f"{min(problems & seen)[-1]!r}) that an earlier part has, expected whole problems in each. Give each part once."
                )
            seen |= problems
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting).cast(schema), row_group_size=_ROW_GROUP)


def read_note(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The note that `write_rollouts` put into the file's metadata; None if there is none. ValueError as `read_rollouts`."""
    with _opened(Path(path)) as file:
        note = (file.schema_arrow.metadata or {}).get(_NOTE_KEY)
    return None if note is None else json.loads(note)


def _noted(note: Mapping[str, Any] | None) -> pa.Schema:
    if note is None:
        return SCHEMA
    return SCHEMA.with_metadata({**SCHEMA.metadata, _NOTE_KEY: json.dumps(note, sort_keys=True).encode()})


def read_rollouts(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a rollouts file that `write_rollouts` wrote.

    Returns a frame with all columns of the module's table, in its order. `correct` has the nullable type
    "boolean" and `num_tokens` the nullable type "Int64"; the others are plain int64, float64 and str.

    Raises ValueError when the file is missing, is not Parquet, carries another schema version or none, has
    other columns or types, or holds values that `write_rollouts` would refuse.
    """
    with _opened(Path(path)) as file:  # whole columns at once: their batches would be held beside the frame
        frame = _to_frame(file.read(columns=list(COLUMNS)).select(COLUMNS))
    _check_values(frame, f"Cannot read rollouts from {path}")
    return frame


def to_checked_frame(batches: list[pa.RecordBatch], where: str, advice: str = "") -> pd.DataFrame:
    """The frame that `read_rollouts` returns, from batches in the table's columns; `where` opens every error.

    `advice` replaces the usual one on rows that repeat an identity.
    """
    frame = _to_frame(pa.Table.from_batches(batches) if batches else SCHEMA.empty_table())
    _check_values(frame, where, advice)
    return frame


def read_batches(path: Path, *, text_of: Callable[[str], bool] = lambda task: True) -> Iterator[pa.RecordBatch]:
    """The file of `read_rollouts`, a few thousand rows at a time: columns and types are checked, values are not.

    Prompts and completions of a row group are read if `text_of` is true for one of its tasks, and "" otherwise.
    """
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            tasks = pc.unique(file.read_row_group(group, columns=["task"])["task"]).to_pylist()
            wanted = [n for n in COLUMNS if n not in _TEXT or any(map(text_of, tasks))]
            for batch in file.iter_batches(batch_size=4096, row_groups=[group], columns=wanted):
                for name in sorted(set(COLUMNS) - set(wanted)):
                    batch = batch.append_column(name, pa.array([""] * len(batch), pa.string()))
                yield batch.select(COLUMNS)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file of `read_rollouts`, its columns and types checked; whatever goes wrong while it is read is a ValueError."""
    where = f"Cannot read rollouts from {path}"
    if not path.is_file():
        raise ValueError(
            f"{where}: found no such file, expected a Parquet file written by write_rollouts. Check the "
            "path, or run the step that writes it first."
        )
    try:
        # Unlike read_table, this does not read columns out of folder names such as "step=3".
        with pq.ParquetFile(path) as file:
            _check_schema(file.schema_arrow, where)
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{where}: found something that is not a readable Parquet file ({reason}), expected one written "
            "by write_rollouts. Files of other tools are read by load_rollouts."
        ) from error


def is_ours(schema: pa.Schema) -> bool:
    """Whether `write_rollouts` of some release wrote a Parquet file, judged by its schema."""
    return _VERSION_KEY in (schema.metadata or {})


def _check_schema(schema: pa.Schema, where: str) -> None:
    version = (schema.metadata or {}).get(_VERSION_KEY)
    if version != str(SCHEMA_VERSION).encode():
        found = "no rollouts schema version" if version is None else f"schema version {version.decode()}"
        raise ValueError(
            f"{where}: found {found}, expected version {SCHEMA_VERSION}. Write the file again with "
            "write_rollouts of this release, or read it with the release that wrote it."
        )
    _check_columns(schema.names, COLUMNS, where)
    wrong = [
        f"{field.name} is {schema.field(field.name).type} instead of {field.type}"
        for field in SCHEMA
        if schema.field(field.name).type != field.type
    ]
    if wrong:
        raise ValueError(
            f"{where}: found columns of the wrong type ({', '.join(wrong)}), expected the types of schema "
            f"version {SCHEMA_VERSION}. Write the file again with write_rollouts."
        )


def refuse_duplicates(frame: pd.DataFrame, where: str, advice: str = "") -> None:
    """Raise ValueError, its message opening with `where` and ending with `advice`, if two rows have the same identity."""
    repeated = frame.duplicated(_IDENTITY)
    if repeated.any():
        first = ", ".join(f"{name}={frame.loc[repeated, name].tolist()[0]!r}" for name in _IDENTITY)
        raise ValueError(
            f"{where}: found {int(repeated.sum())} rows that repeat the identity of an earlier row (first: "
            f"{first}), expected one row per ({', '.join(_IDENTITY)}). "
            + (
                advice
                or "Remove rows that were read twice, or number the completions of each prompt 0, 1, 2, ... in `sample`."
            )
        )


def _check_columns(found: list[str], required: tuple[str, ...], where: str) -> None:
    missing = [name for name in required if name not in found]
    unknown = [name for name in found if name not in COLUMNS]
    if missing or unknown or len(set(found)) < len(found):
        raise ValueError(
            f"{where}: found the columns {list(found)}, of which {missing or 'none'} missing and "
            f"{unknown or 'none'} unknown, expected {list(required)} and no other than {list(COLUMNS)}, each "
            "once. Add, rename or drop columns to match."
        )


def _to_table(frame: pd.DataFrame, where: str) -> pa.Table:
    _check_columns(list(frame.columns), _REQUIRED, where)
    frame = frame.assign(**{name: value for name, value in _DEFAULTS.items() if name not in frame})
    if "sample" not in frame:
        frame["sample"] = frame.groupby(["model", "seed", "step", "prompt_id"], dropna=False).cumcount()
    arrays = []
    for field in SCHEMA:
        if field.name not in frame:
            array = pa.nulls(len(frame), field.type)
        else:
            column = frame[field.name]
            try:
                # Arrow would parse text such as "3" and "true", and so hide a mistake.
                text = isinstance(column.dtype, pd.StringDtype) and column.notna().any()
                if text and field.type != pa.string():
                    raise TypeError("text")
                # Booleans that met a missing value may arrive as 1.0, 0.0 and NaN.
                if field.type == pa.bool_():
                    column = column.astype("boolean")
                array = pa.array(column, field.type, from_pandas=True)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise ValueError(
                    f"{where}: found {_example(column)} in column {field.name} (type {column.dtype}), "
                    f"expected {field.type} values. Convert the column first."
                ) from error
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if field.type == pa.float64():
            array = array.fill_null(float("nan"))
        if not field.nullable and array.null_count:
            raise ValueError(
                f"{where}: found {array.null_count} nulls in column {field.name}, expected a {field.type} in "
                "every row. Fill them, or drop those rows."
            )
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _example(column: pd.Series) -> str:
    return "values such as " + ", ".join(map(repr, column.dropna().unique()[:3].tolist()))


def _to_frame(table: pa.Table) -> pd.DataFrame:
    nullable = {pa.bool_(): pd.BooleanDtype(), pa.int64(): pd.Int64Dtype()}
    frame = table.to_pandas(types_mapper=nullable.get, ignore_metadata=True)
    return frame.astype({field.name: "int64" for field in SCHEMA if field.type == pa.int64() and not field.nullable})


def _check_values(frame: pd.DataFrame, where: str, advice: str = "") -> None:
    for name, least in _LEAST.items():
        low = frame.loc[frame[name] < least, name]
        if len(low):
            raise ValueError(
                f"{where}: found {name} {low.iloc[0]} ({len(low)} rows below {least}), expected at least "
                f"{least}. Correct column {name}."
            )
    stray = frame["canonical"].notna() & ~frame["correct"].fillna(False)
    if stray.any():
        raise ValueError(
            f"{where}: found a canonical form on {int(stray.sum())} rows that are not correct (first: "
            f"prompt_id {frame.loc[stray, 'prompt_id'].iloc[0]!r}), expected null there. Set canonical only "
            "where correct is true: the count of distinct solutions rests on it."
        )
    refuse_duplicates(frame, where, advice)
