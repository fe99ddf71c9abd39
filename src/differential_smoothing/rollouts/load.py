"""One rollouts file of any tool as the project's table."""

import math
import os
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .format import Format
from .formats import detect
from .rows import EMPTY, Canonical, Rows
from .sources import LOOKED_AT, BadRow, Refused, Source, open_source
from .table import is_ours, read_batches

__all__ = ["load_rollouts"]

PLACES_TOLD = 5
THRESHOLD = 0.5
VERIFY = "verify"


def load_rollouts(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    seed: int | None = None,
    correct: str | None = None,
    threshold: float = THRESHOLD,
    step: int | tuple[int, int] | None = None,
    canonical: Canonical = "file",
    skip_bad_rows: bool = False,
    text: bool = True,
) -> pd.DataFrame:
    """Read a rollouts file of any of these formats into the table of `read_rollouts`. The content tells which it is.

    | format                                    | prompt_id           | correct                     | sample   |
    |-------------------------------------------|---------------------|-----------------------------|----------|
    | ours (`write_rollouts`)                   | as written          | as written                  | as it is |
    | TRL `log_completions`, Parquet            | hash of the prompt  | the only reward column      | in order |
    | verl `rollout_data_dir`, JSON lines       | hash of the prompt  | `acc` if present or `score` | in order |
    | verifiers `results.jsonl`                 | hash of the prompt  | `reward`                    | in order |
    | lm-evaluation-harness `--log_samples`     | `doc_id` *          | the only "metric,filter"    | in order |
    | inspect_ai `samples_df`, Parquet or CSV   | `id` *              | the only `score_...`        | epoch - 1 |
    | evalscope `reviews`, JSON lines           | `group_id` *        | the main score              | in order |
    | lighteval details, Parquet                | `doc.id` *          | the only metric             | in order |
    | NeMo-Skills `output*.jsonl`               | hash of the prompt  | `symbolic_correct` or `is_correct` | in order |
    | Qwen2.5-Math's evaluation, JSON lines     | `idx` *             | `score`                     | in order |
    | OpenCompass predictions, JSON             | its key *           | "verify"                    | in order |
    | rows of `prompt_id` or `prompt`, `completion`, `correct` or `reward` | as given or the prompt's hash | `correct` or `reward` | as given or in order |

    * Where rows of one id have several prompts, as in a file or folder of several tasks, they are several problems, named by id
    and prompt; with a warning. Releases of the harness before 0.4.7 do not name filters: they are numbered, "exact_match,1".

    Args:
        path: a file, or a folder of them, such as TRL's `completions/`; hidden files and others than .parquet, .jsonl
            and .csv are left out there.
        model, seed: values for a file without them: the name of the file without its ending, and 0. Given,
            they replace the file's own; a file of several models, or seeds, is then refused.
        correct: the column with the correctness; required where the table above has "the only" and there are
            several. For lm-evaluation-harness it is "metric,filter", as in "exact_match,strict-match". Not for our own.
            "verify" (unless a column is called so): the verifier of mathematical answers judges each completion against the
            right answer that the file holds; rows without one, or with one that cannot be read, are unscored.
        threshold: correct means that the column is above it. A missing or NaN value, or a rollout that ended in an error, is
            unscored: `correct` is null, and a warning counts these rows. Scores of harnesses are from 0 to 1; another number
            is refused, unless a threshold other than 0.5 is given.
        step: of the rows that belong to a training step, keep this step's. Rows of an evaluation (-1) are all kept. A pair
            (first, last) keeps the groups of all these steps as one evaluation (step -1, samples numbered anew).
        canonical: the canonical form of a correct row is what the `file` says (null if it has none), or, for tasks where
            the text is the answer, its `solution` (the harness's `filtered_resps`, verl's `pred`), or its
            `completion`, both without white space around them.
        skip_bad_rows: leave out rows that cannot be read, with a warning that counts them and names the first.
        text: False leaves `prompt` and `completion` empty, once all else is known. The peak of memory then does not
            grow with the texts, beyond those of a few thousand rows, or of one row group of a Parquet file.

    `correct` and `canonical` are the verifier's and not the file's where the task is known: `prompt` is one that
    the Countdown task writes (`prompt_id` is then the problem's), or the file has the task "countdown", or no task and
    no prompt, and `prompt_id` is a problem's. Where the prompt is not there, a completion with <answer> in it is read
    as tagged. A warning counts the rows where the file had another verdict.

    Raises ValueError for a missing or empty path, an unknown format, a choice of column that is open, a step that is
    not there, rows that repeat an identity, a score that is no verdict, and, with file and line, the first row that cannot be read.
    """
    if canonical not in ("file", "solution", "completion"):
        raise ValueError(f"canonical is {canonical!r}, expected 'file', 'solution' or 'completion'.")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold is {threshold!r}, expected a finite number: correct means above it.")
    window = step if isinstance(step, tuple) else None
    if window is not None and not 0 <= window[0] <= window[1]:
        raise ValueError(f"step is {step!r}, expected (first, last) with 0 <= first <= last, both included.")
    path = Path(path)
    where = f"Cannot read rollouts from {path}"
    steps: Counter[int] = Counter()
    notes: Counter[str] = Counter()
    bad: list[str] = []
    advice: dict[str, None] = {}
    rows = Rows(text, notes)

    def wanted(at: int) -> bool:
        return window[0] <= at <= window[1] if window is not None else step is None or at in (step, -1)

    for file in _files(path, where):
        if _starts_as_ours(file):
            # Without texts to keep, only those that a verifier of ours reads are worth reading.
            for batch in read_batches(file, text_of=lambda task: text or task == "countdown"):
                rows.take(batch, steps, wanted)
            continue
        source = open_source(file)
        form = detect(source, f"Cannot read rollouts from {file}")
        source = form.prepare(source)
        advice[form.runs] = None
        column, left_out, others = _column(form, source, correct, file)
        if left_out:
            warnings.warn(f"{file}: {left_out}.", stacklevel=2)
        chosen = correct is None and column in form.preferred
        better = form.preferred[: form.preferred.index(column)] if chosen else ()
        full = dict.fromkeys(others, True)  # of the other columns, those with a value in every row
        for place, row in source.rows(form.known_by | form.used | {column or ""} | set(others)):
            try:
                if isinstance(row, BadRow | Refused):
                    raise row
                for (
                    name
                ) in better:  # of a column that came too late, the rows before would have none, and these another
                    if row.get(name) is not None:
                        raise Refused(
                            f"the row has {name!r}, which holds the correctness, and the first {LOOKED_AT} lines have only "
                            f"{column!r}. Add {name!r} to the first row, null where it is not known; or name the column with correct (--correct)."
                        )
                for name in [name for name in full if row.get(name) is None]:
                    del full[name]
                for completion in form.read(row, column):
                    _refuse_no_verdict(completion.score, column, form, threshold)
                    steps[completion.step] += 1
                    if wanted(completion.step):
                        rows.add(completion, threshold, canonical, model or path.stem, form.own_id, column is None)
            except Refused as error:
                raise ValueError(f"{file}, {place}: {error}") from None
            except BadRow as error:
                bad.append(f"{file}, {place}: {error}" if len(bad) < PLACES_TOLD else "")
                if not skip_bad_rows:
                    raise ValueError(
                        f"{bad[0]}. Correct or delete the row (read as {form.name}), or leave such rows out with "
                        "skip_bad_rows (--skip-bad-rows)."
                    ) from None
        if empty := notes.pop(EMPTY, 0):
            notes[_why_empty(column, form, list(full))] += empty
    if not rows.count:
        there = ", ".join(map(str, sorted(steps)[:10]))
        raise ValueError(
            f"{where}: found no rows"
            + (
                f" of step {step if window is None else f'{window[0]} to {window[1]}'}, only of {there}"
                if there
                else ""
            )
            + (f" and {len(bad)} that cannot be read ({bad[0]})" if bad else "")
            + ", expected at least one. Choose another file or step."
        )
    frame = rows.frame(where, " ".join(filter(None, advice)))
    if window is not None:
        frame["step"] = -1
        frame["sample"] = frame.groupby(["model", "seed", "prompt_id"]).cumcount()
    if bad:
        notes[f"left out because they cannot be read: {'; '.join(filter(None, bad))}"] += len(bad)
    for note, count in (+notes).items():
        unscored = note.startswith("unscored")
        of, rest = (f"{count} of {rows.count}", " They enter no average.") if unscored else (f"{count}", "")
        warnings.warn(f"{path}: {of} rows are {note}.{rest}", stacklevel=2)
    return _named(frame, model, seed, where)


def _refuse_no_verdict(score: float, column: str | None, form: Format, threshold: float) -> None:
    """A harness scores an answer from 0 to 1. Any other number is not a score of correctness, and could exceed every threshold."""
    if form.unit and threshold == THRESHOLD and not (score != score or 0 <= score <= 1):
        raise Refused(
            f"{column} is {score:g}, expected a score from 0 to 1: no verdict on an answer. Name the metric that is one with "
            "correct (--correct), or the value above which it means correct with threshold (--threshold)."
        )


def _why_empty(column: str | None, form: Format, full: list[str]) -> str:
    named = f"{', '.join(full[:3])} {'has' if len(full) == 1 else 'have'} a value in every row"
    return f"unscored, because {column} is empty there" + (f" ({named}: --correct {full[0]})" if full else "")


def _files(path: Path, where: str) -> list[Path]:
    if path.is_file():
        return [path]
    endings = (".parquet", ".jsonl", ".csv")
    files = sorted(f for f in path.glob("[!.]*") if f.suffix in endings and f.is_file())
    if not files:
        found = "a folder with no .parquet, .jsonl or .csv file" if path.is_dir() else "no such file"
        raise ValueError(f"{where}: found {found}, expected rollouts. Check the path.")
    return files


def _starts_as_ours(file: Path) -> bool:
    try:
        return is_ours(pq.read_schema(file))
    except (pa.ArrowException, OSError):
        return False  # not Parquet, or broken: open_source reports it


def _column(form: Format, source: Source, correct: str | None, file: Path) -> tuple[str | None, str, list[str]]:
    """The column with the correctness (None: the verifier decides), a warning about its choice, and the other candidates."""
    columns = form.columns(source)
    if correct == VERIFY and correct not in columns:
        if not form.gold:
            raise ValueError(
                f"{file} ({form.name}) has no right answers to verify against, expected a column of them. Name the column that "
                "holds the correctness with correct (--correct), or add a column gold to rows of prompt, completion and gold."
            )
        return None, "", []
    if correct is not None:
        # "exact_match" alone will do where one filter was used
        found = [c for c in columns if c == correct] or [c for c in columns if c.rpartition(",")[0] == correct]
        found = found or [correct] * (form.free and correct in source.names)
    else:
        found = [name for name in form.preferred if name in source.names][:1] if form.preferred else list(columns)
    if len(found) == 1:
        return (
            found[0],
            columns.get(found[0], ""),
            [name for name in columns if name != found[0] and name in source.names],
        )
    verifier = (
        f" Where the problems are mathematical, --correct {VERIFY} judges every completion against the file's own right answers "
        f"({form.gold})."
        if form.gold
        else ""
    )
    if not columns and (correct is None or not form.free):
        raise ValueError(
            f"{file} ({form.name}) has no column with the correctness of completions, expected one of numbers or "
            f"true/false. {form.hint}{f'Add a column {form.add}.' * bool(form.add)}{verifier}"
        )
    raise ValueError(
        f"{file} ({form.name}) has {len(columns)} columns that may say which completions are correct: "
        f"{', '.join(list(columns)[:20]) or 'none'}; expected "
        + ("one. Name it" if correct is None else f"one of them, got {correct!r}. Name another")
        + f" with correct (--correct).{form.several}"
    )


def _named(frame: pd.DataFrame, model: str | None, seed: int | None, where: str) -> pd.DataFrame:
    for name, value in (("model", model), ("seed", seed)):
        found = frame[name].unique()
        if value is not None and len(found) > 1:
            raise ValueError(
                f"{where}: found the {name}s {', '.join(map(str, found[:5]))}, expected one, to be called {value!r}. "
                "Leave the name out, or split the file."
            )
        if value is not None:
            frame[name] = value
    return frame
