"""One rollouts file, whoever made it, as the project's table."""

import math
import os
import warnings
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from differential_smoothing.tasks import countdown

from .formats import Completion, Format, detect
from .sources import LOOKED_AT, BadRow, Source, open_source
from .table import COLUMNS, SCHEMA, is_ours, read_batches, to_checked_frame

__all__ = ["load_rollouts"]

ROWS_AT_ONCE = 4096
CHARACTERS_AT_ONCE = 2**23
PLACES_TOLD = 5
Canonical = Literal["file", "solution", "completion"]


def load_rollouts(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    seed: int | None = None,
    correct: str | None = None,
    threshold: float = 0.5,
    step: int | None = None,
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
    | lm-evaluation-harness `--log_samples`     | `doc_id`            | the only "metric,filter"    | in order |
    | inspect_ai `samples_df`, Parquet or CSV   | `id`                | the only `score_...`        | epoch - 1 |
    | rows of `prompt_id` or `prompt`, `completion`, `correct` or `reward` | as given or the prompt's hash | `correct` or `reward` | as given or in order |

    Args:
        path: a file, or a folder of them, such as TRL's `completions/`; hidden files and others than .parquet, .jsonl
            and .csv are left out there.
        model, seed: what the table says where the file does not: the name of the file without its ending, and 0. Given,
            they replace what the file says; a file of several models, or seeds, is then refused.
        correct: the column that says "correct"; it must be given where the table above says "the only" and there are
            several. For lm-evaluation-harness it is "metric,filter", as in "exact_match,strict-match". Not for our own.
        threshold: correct means that the column is above it. A missing or NaN value is unscored: `correct` is null.
        step: of the rows that belong to a training step, keep this step's. Rows of an evaluation (-1) are all kept.
        canonical: the canonical form of a correct row is what the `file` says (null if it has none), or, for tasks where
            the text is the answer, its `solution` (the harness's `filtered_resps`, verl's `pred`), or its
            `completion`, both without white space around them.
        skip_bad_rows: leave out rows that cannot be read, with a warning that counts them and names the first.
        text: False leaves `prompt` and `completion` empty, once all else is known. The peak of memory then does not
            grow with the texts, beyond those of a few thousand rows, or of one row group of a Parquet file.

    `correct` and `canonical` are the verifier's, whatever the file says, where the task is known: `prompt` is one that
    the Countdown task writes (`prompt_id` is then the problem's), or the file says task "countdown", or says no task and
    no prompt, and `prompt_id` is a problem's. Where the prompt is not there, a completion with <answer> in it is read
    as tagged. A warning counts the rows where the file had another verdict.

    Raises ValueError for a missing or empty path, an unknown format, a choice of column that is open, a step that is
    not there, rows that repeat an identity, and, with file and line, the first row that cannot be read.
    """
    if canonical not in ("file", "solution", "completion"):
        raise ValueError(f"canonical is {canonical!r}, expected 'file', 'solution' or 'completion'.")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold is {threshold!r}, expected a finite number: correct means above it.")
    path = Path(path)
    where = f"Cannot read rollouts from {path}"
    rows = _Rows(text)
    steps: Counter[int] = Counter()
    notes: Counter[str] = Counter()
    bad: list[str] = []
    for file in _files(path, where):
        if _starts_as_ours(file):
            # Without texts to keep, only those that a verifier of ours reads are worth reading.
            for batch in read_batches(file, text_of=lambda task: text or task == "countdown"):
                rows.take(batch, steps, step, notes)
            continue
        source = open_source(file)
        form = detect(source, f"Cannot read rollouts from {file}")
        column = _column(form, source, correct, file)
        chosen = correct is None and column in form.preferred
        better = form.preferred[: form.preferred.index(column)] if chosen else ()
        for place, row in source.rows(form.known_by | form.used | {column}):
            try:
                if isinstance(row, BadRow):
                    raise row
                for name in better:  # of a column that came too late, the rows before would have none, and these another
                    if row.get(name) is not None:
                        raise ValueError(
                            f"{file}, {place}: the row has {name!r}, which says what is correct, and the first {LOOKED_AT} lines have only "
                            f"{column!r}. Add {name!r} to the first row, null where it is not known; or name the column with correct (--correct)."
                        )
                for completion in form.read(row, column):
                    steps[completion.step] += 1
                    if step is None or completion.step in (step, -1):
                        rows.add(completion, threshold, canonical, model or path.stem, notes)
            except BadRow as error:
                bad.append(f"{file}, {place}: {error}" if len(bad) < PLACES_TOLD else "")
                if not skip_bad_rows:
                    raise ValueError(
                        f"{bad[0]}. Mend or delete the row (read as {form.name}), or leave such rows out with "
                        "skip_bad_rows (--skip-bad-rows)."
                    ) from None
    if not rows.count:
        there = ", ".join(map(str, sorted(steps)[:10]))
        raise ValueError(
            f"{where}: found no rows" + (f" of step {step}, only of {there}" if there else "")
            + (f" and {len(bad)} that cannot be read ({bad[0]})" if bad else "")
            + ", expected at least one. Choose another file or step."
        )  # fmt: skip
    if bad:
        notes[f"left out because they cannot be read: {'; '.join(filter(None, bad))}"] += len(bad)
    for note, count in notes.items():
        warnings.warn(f"{path}: {count} rows are {note}.", stacklevel=2)
    return _named(rows.frame(where), model, seed, where)


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
        return False  # not Parquet, or broken: open_source says so


def _column(form: Format, source: Source, correct: str | None, file: Path) -> str:
    columns = form.columns(source)
    if correct is not None:
        # "exact_match" alone will do where one filter was used
        found = [c for c in columns if c == correct] or [
            c for c in columns if c.rpartition(",")[0] == correct
        ]
        found = found or [correct] * (correct in source.names)
    else:
        found = [name for name in form.preferred if name in source.names][:1] if form.preferred else columns
    if len(found) == 1:
        return found[0]
    if not columns and correct is None:
        raise ValueError(
            f"{file} ({form.name}) has no column that says which completions are correct, expected one of numbers or "
            "true/false. Add a column correct or reward."
        )
    raise ValueError(
        f"{file} ({form.name}) has {len(columns)} columns that may say which completions are correct: "
        f"{', '.join(columns[:20]) or 'none'}; expected "
        + ("one. Name it" if correct is None else f"one of them, got {correct!r}. Name another")
        + " with correct (--correct)."
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


class _Rows:
    """Rows on their way into the table: columns of a few thousand at a time, as Arrow."""

    def __init__(self, text: bool) -> None:
        self.text = text
        self.count = self.characters = 0
        self.batches: list[pa.RecordBatch] = []
        self.columns: dict[str, list] = {name: [] for name in COLUMNS}

    def add(
        self, row: Completion, threshold: float, canonical: Canonical, model: str, notes: Counter
    ) -> None:
        verdict = None if row.score != row.score else row.score > threshold
        form = row.canonical
        if canonical != "file":
            form = row.solution if canonical == "solution" else row.completion
            form = None if form is None else form.strip()
        problem, tagged = _known(row.task, row.prompt_id, row.prompt)
        if problem is not None and row.answer is not None:
            row.prompt_id, row.task = problem.id, "countdown"
            verdict, form = _checked(problem, tagged, row.answer, verdict, notes)
        elif row.note:
            notes[row.note] += 1
        values = (
            row.prompt_id, row.sample, row.task or "unknown", row.model or model, row.seed, row.step,
            row.prompt if self.text else "", row.completion if self.text else "", row.solution, row.reward,
            verdict, form if verdict else None, row.advantage, row.logp, row.num_tokens,
        )  # fmt: skip
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)
        self.count += 1
        self.characters += len(row.prompt) + len(row.completion) if self.text else 0
        if self.count % ROWS_AT_ONCE == 0 or self.characters > CHARACTERS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        arrays = [
            pa.array(values, field.type) for values, field in zip(self.columns.values(), SCHEMA, strict=True)
        ]
        self.batches.append(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
        self.columns = {name: [] for name in COLUMNS}
        self.characters = 0

    def take(self, batch: pa.RecordBatch, steps: Counter, step: int | None, notes: Counter) -> None:
        """Rows of our own table: verified again if there is something to verify, without a detour for the rest."""
        steps.update(batch["step"].to_pylist())
        if step is not None:
            batch = batch.filter(pa.array([s in (step, -1) for s in batch["step"].to_pylist()]))
        columns = dict(zip(COLUMNS, batch.columns, strict=True))
        if "countdown" in pc.unique(columns["task"]).to_pylist():
            names = ("task", "prompt_id", "prompt", "completion", "correct", "canonical")
            verdicts = [
                # without its text (`text=False`) a completion cannot be verified again
                _checked(*known, completion, correct, notes)
                if task == "countdown" and completion and (known := _known(task, prompt_id, prompt))[0]
                else (correct, form)
                for task, prompt_id, prompt, completion, correct, form in zip(
                    *(columns[n].to_pylist() for n in names)
                )
            ]
            columns["correct"] = pa.array([correct for correct, _ in verdicts], pa.bool_())
            columns["canonical"] = pa.array([form for _, form in verdicts], pa.string())
        if not self.text:
            columns["prompt"] = columns["completion"] = pa.array([""] * len(batch), pa.string())
        self.batches.append(pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMA))
        self.count += len(batch)

    def frame(self, where: str) -> pd.DataFrame:
        self.flush()
        samples = pa.chunked_array([batch["sample"] for batch in self.batches]).to_pandas()
        if (samples < 0).any():
            if (samples >= 0).any():
                raise ValueError(
                    f"{where}: found {int((samples < 0).sum())} rows without a sample number beside rows that have one, "
                    "expected it in all rows or in none. Add or remove it."
                )
            keys = pa.Table.from_batches(
                [b.select(["model", "seed", "step", "prompt_id"]) for b in self.batches]
            )
            samples = keys.to_pandas().groupby(["model", "seed", "step", "prompt_id"]).cumcount()
            place = COLUMNS.index("sample")
            table = pa.Table.from_batches(self.batches)
            field = SCHEMA.field("sample")
            self.batches = table.set_column(place, field, pa.array(samples, pa.int64())).to_batches()
        return to_checked_frame(self.batches, where)


# --- the task we know -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)  # completions of a prompt stand together
def _known(task: str | None, prompt_id: str, prompt: str) -> tuple[countdown.Problem | None, bool | None]:
    """The Countdown problem of a row, and whether its answers are tagged (None: it cannot be known)."""
    if task not in (None, "unknown", "countdown"):
        return None, None
    if read := countdown.read_prompt(prompt):
        return read
    if task == "countdown" or not prompt:
        try:
            return countdown.Problem.from_id(prompt_id), None
        except ValueError:
            pass
    return None, None


def _checked(
    problem: countdown.Problem, tagged: bool | None, answer: str, given: bool | None, notes: Counter
) -> tuple[bool, str | None]:
    correct, form = _verified(problem, "<answer>" in answer if tagged is None else tagged, answer)
    if given is not None and given != correct:
        notes[
            "Countdown answers to which the file gives another verdict than the verifier, whose verdict is used"
        ] += 1
    return correct, form


def _verified(problem: countdown.Problem, tagged: bool, answer: str) -> tuple[bool, str | None]:
    # sampled answers repeat, above all within a problem; only short ones are worth their memory
    verify = _verify_short if len(answer) <= 256 else _verify_short.__wrapped__
    return verify(problem, tagged, answer)


@lru_cache(maxsize=16384)
def _verify_short(problem: countdown.Problem, tagged: bool, answer: str) -> tuple[bool, str | None]:
    verdict = countdown.verify_completion(answer, problem.nums, problem.target, tagged=tagged)
    return verdict.correct, verdict.canonical
