"""The rows of a Parquet, JSON-lines, JSON or CSV file, one at a time and not interpreted. The content of the file determines its format.

A row that cannot be read comes out as a ``BadRow`` in its place, so that the caller decides whether it ends the reading.
"""

import contextlib
import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["LOOKED_AT", "BadRow", "Refused", "Source", "open_source"]

LARGEST_DOCUMENT = 2**28  # bytes of a JSON file that is one value: it is in memory as a whole
LONGEST_LINE = 2**26  # bytes: a completion of a million tokens has some 5 MB
ROWS_AT_ONCE = 2048
LOOKED_AT = 256  # lines that say which columns there are: a file may leave one out where it has nothing to say


class BadRow(ValueError):
    """One row is wrong. The message describes the fault; the caller adds the place."""


class Refused(ValueError):
    """One row shows that the file cannot be read as it is. The message describes the fault; the caller adds the place."""


class Source(NamedTuple):
    """``names`` of the columns, those that are ``numeric`` (judged by the first rows where there are no types), and
    ``rows(columns)``: pairs of a place, such as "line 3", and a dict with at least these columns, or a BadRow.
    """

    names: list[str]
    numeric: list[str]
    rows: Callable[[Iterable[str]], Iterator[tuple[str, "dict | BadRow | Refused"]]]


def open_source(path: Path) -> Source:
    """Look at the first bytes and at the columns. ValueError for a file that is none of the four containers, or empty."""
    with path.open("rb") as file:
        start = file.read(65536)
    if not start.strip():
        raise ValueError(f"{path} is empty, expected rollouts. Run the step that writes it again.")
    if start.startswith(b"PAR1"):
        return _parquet(path)
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if first.startswith(b"[") or (first.startswith(b"{") and not _is_row(path)):
        document = _document(path)
        if document is not None:
            return document
    line = first.partition(b"\n")[0]
    return _csv(path) if _is_header(line) else _jsonl(path)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Source:
    def unreadable(error: Exception) -> ValueError:
        return ValueError(f"{path} is not a readable Parquet file ({' '.join(str(error).split())}). Write it again.")

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(error) from error

    def rows(columns: Iterable[str]) -> Iterator[tuple[str, dict | BadRow | Refused]]:
        number = 0
        try:
            with pq.ParquetFile(path) as file:  # which holds the row group that it reads from
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=[n for n in schema.names if n in columns]):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"row {number}", row
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise unreadable(error) from error

    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    numeric = [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]
    return Source(schema.names, numeric, rows)


# --- JSON that is one value -------------------------------------------------------------------------------------------


def _document(path: Path) -> Source | None:
    """An array of objects, or an object of objects, whose names become `idx` where they have none; None for anything else."""
    size = path.stat().st_size
    if size > LARGEST_DOCUMENT:
        raise ValueError(
            f"{path} is one JSON value of {size} bytes, expected JSON lines, or at most {LARGEST_DOCUMENT} bytes. Write one object "
            "per line (jq -c '.[]')."
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):  # an error of Unicode is a ValueError
        return None
    if isinstance(value, dict):
        value = [{"idx": name} | row if isinstance(row, dict) else row for name, row in value.items()]
    if not isinstance(value, list) or not any(isinstance(row, dict) for row in value):
        return None

    def rows(_: Iterable[str] = ()) -> Iterator[tuple[str, dict | BadRow | Refused]]:
        for number, row in enumerate(value, 1):
            good = isinstance(row, dict)
            yield f"entry {number}", row if good else BadRow(f"{type(row).__name__} instead of a JSON object")

    return Source(*_names(row for row in value if isinstance(row, dict)), rows)


def _is_row(path: Path) -> bool:
    """Whether the first line is a row of JSON lines: an object, and not all of an object of numbered objects."""
    with path.open("rb") as file:
        line = b""
        while not line and (part := file.readline(LONGEST_LINE)):
            line = part.removeprefix(b"\xef\xbb\xbf").strip()
    row = _parsed(line) if len(line) < LONGEST_LINE else {}
    numbered = isinstance(row, dict) and all(
        name.isdecimal() and isinstance(value, dict) for name, value in row.items()
    )
    return isinstance(row, dict) and not (numbered and row)


def _names(rows: Iterable[dict]) -> tuple[list[str], list[str]]:
    """The columns, and those of them that hold numbers only."""
    seen: dict[str, bool] = {}
    for row in rows:
        for name, value in row.items():
            seen[name] = seen.get(name, True) and (value is None or isinstance(value, bool | int | float))
    return list(seen), [name for name, numbers in seen.items() if numbers]


# --- JSON lines -------------------------------------------------------------------------------------------------------


def _jsonl(path: Path) -> Source:
    def rows(columns: Iterable[str] = ()) -> Iterator[tuple[str, dict | BadRow | Refused]]:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    while line and not line.endswith(b"\n"):
                        line = file.readline(LONGEST_LINE)
                    yield f"line {number}", BadRow(f"longer than {LONGEST_LINE} bytes")
                    continue
                line = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
                if line:
                    yield f"line {number}", _parsed(line)

    first: list[dict] = []
    bad = None
    for number, (place, row) in enumerate(rows()):
        if number >= LOOKED_AT and first:
            break
        if isinstance(row, dict):
            first.append(row)
        else:
            bad = bad or f"{place}: {row}"
    names, numeric = _names(first)
    if bad and not names:
        raise ValueError(f"Cannot read {path}: {bad}, and no other line is better. Expected one JSON object per line.")
    return Source(names, numeric, rows)


def _parsed(line: bytes) -> dict | BadRow:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8 at byte {error.start}")
    except RecursionError:
        return BadRow("JSON nested too deep")
    except ValueError as error:
        return BadRow(f"not JSON ({error})")
    return row if isinstance(row, dict) else BadRow(f"{type(row).__name__} instead of a JSON object")


# --- CSV, which only inspect_ai's tables are read from ----------------------------------------------------------------


def _is_header(line: bytes) -> bool:
    return {b"id", b"epoch", b"input"} <= {name.strip(b'"\r') for name in line.split(b",")}


def _csv(path: Path) -> Source:
    def read() -> Iterator[tuple[int, list[str]]]:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                for fields in reader:
                    yield reader.line_num, fields
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"{path} is not a readable CSV file ({' '.join(str(error).split())}). Write it again, or as Parquet."
            ) from error

    names = next((fields for _, fields in read()), [])

    def rows(columns: Iterable[str]) -> Iterator[tuple[str, dict | BadRow | Refused]]:
        for line, fields in itertools.islice(read(), 1, None):
            if len(fields) == len(names):
                yield f"line {line}", _typed(dict(zip(names, fields, strict=True)), columns)
            elif fields:
                yield f"line {line}", BadRow(f"{len(fields)} fields where the header has {len(names)}")

    return Source(names, [name for name in names if name.startswith("score_")], rows)


def _typed(row: dict[str, str], columns: Iterable[str]) -> dict[str, object]:
    """CSV has no types: an empty field is missing, and a number is one where a number belongs."""
    typed: dict[str, object] = {name: row[name] or None for name in columns if name in row}
    for name, value in typed.items():
        if isinstance(value, str) and (name == "epoch" or name.startswith("score_")):
            with contextlib.suppress(ValueError):
                typed[name] = float(value)
    return typed
