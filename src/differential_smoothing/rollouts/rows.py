"""Rows on their way into the table, and the verdicts of the verifiers of ours on them."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from differential_smoothing.tasks import countdown

from .format import Completion
from .table import COLUMNS, SCHEMA, to_checked_frame

__all__ = ["EMPTY", "Rows"]

ROWS_AT_ONCE = 4096
CHARACTERS_AT_ONCE = 2**23
Canonical = Literal["file", "solution", "completion"]
EMPTY = "unscored, because their score is empty"  # the caller names the column
NULL = "unscored, because correct is null"
NO_GOLD = "unscored, because the file has no right answer for them"
NO_TEXT = "unscored, because the file does not keep the completions"
ODD_GOLD = "unscored, because their right answer cannot be read as mathematics"


class Rows:
    """Rows on their way into the table: columns of a few thousand at a time, as Arrow.

    ``notes`` counts the rows about which the reader has something to say.
    """

    def __init__(self, text: bool, notes: Counter) -> None:
        self.text, self.notes = text, notes
        self.count = self.characters = 0
        self.batches: list[pa.RecordBatch] = []
        self.columns: dict[str, list] = {name: [] for name in COLUMNS}
        self.unjudged: list[tuple[int, str, str]] = []  # place in the columns, answer, right answer
        self.prompts: list[np.ndarray] = []  # of ids that are unique in one task only, a number per prompt; else 0
        self.prompt_keys: list[int] = []

    def add(
        self, row: Completion, threshold: float, canonical: Canonical, model: str, own_id: bool, verify: bool
    ) -> None:
        """``own_id``: rows of one id and several prompts are several problems, see `Format`. ``verify``: the verdict is the
        mathematical verifier's, against the right answer of the file."""
        notes, waiting = self.notes, False
        verdict = None if row.score != row.score else row.score > threshold
        form = row.canonical
        if canonical != "file":
            form = row.solution if canonical == "solution" else row.completion
            form = None if form is None else form.strip()
        problem, tagged = _known(row.task, row.prompt_id, row.prompt)
        if problem is not None and row.answer is not None:
            row.prompt_id, row.task = problem.id, "countdown"
            verdict, form = _checked(problem, tagged, row.answer, verdict, notes)
            own_id = False
        elif verify:
            if row.gold is None or row.answer is None:
                notes[NO_TEXT if row.answer is None else NO_GOLD] += 1
            else:
                self.unjudged.append((len(self.columns["correct"]), row.answer, row.gold))
        else:
            for note in filter(None, (row.note, (row.unscored or EMPTY) if verdict is None else None)):
                notes[note] += 1
        self.prompt_keys.append(_key(row.prompt) if own_id and row.prompt else 0)
        values = (
            row.prompt_id,
            row.sample,
            row.task or "unknown",
            row.model or model,
            row.seed,
            row.step,
            row.prompt if self.text else "",
            row.completion if self.text else "",
            row.solution,
            row.reward,
            verdict,
            form if verdict or waiting else None,
            row.advantage,
            row.logp,
            row.num_tokens,
        )
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)
        self.count += 1
        self.characters += len(row.prompt) + len(row.completion) if self.text else 0
        if self.count % ROWS_AT_ONCE == 0 or self.characters > CHARACTERS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        self._judge()
        arrays = [pa.array(values, field.type) for values, field in zip(self.columns.values(), SCHEMA, strict=True)]
        self.batches.append(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
        self.prompts.append(np.array(self.prompt_keys, dtype=np.uint64))
        self.columns, self.prompt_keys = {name: [] for name in COLUMNS}, []
        self.characters = 0

    def _judge(self) -> None:
        """The mathematical verifier's verdicts on the rows that wait for them."""
        if not self.unjudged:
            return
        from differential_smoothing.tasks.math.compare import unreadable, verify_many

        odd = unreadable(gold for _, _, gold in self.unjudged)
        self.notes[ODD_GOLD] += sum(gold in odd for _, _, gold in self.unjudged)
        readable = [row for row in self.unjudged if row[2] not in odd]
        verdicts = verify_many([answer for _, answer, _ in readable], [gold for _, _, gold in readable])
        for (place, _, _), verdict in zip(readable, verdicts, strict=True):
            self.columns["correct"][place] = verdict.correct
        for place, _, _ in self.unjudged:
            if not self.columns["correct"][place]:
                self.columns["canonical"][place] = None
        self.unjudged = []

    def take(self, batch: pa.RecordBatch, steps: Counter, wanted: Callable[[int], bool]) -> None:
        """Rows of our own table: verified again if there is something to verify, without a detour for the rest."""
        at = batch["step"].to_pylist()
        steps.update(at)
        kept = [wanted(step) for step in at]
        if not all(kept):
            batch = batch.filter(pa.array(kept))
        columns = dict(zip(COLUMNS, batch.columns, strict=True))
        if "countdown" in pc.unique(columns["task"]).to_pylist():
            names = ("task", "prompt_id", "prompt", "completion", "correct", "canonical")
            verdicts = [
                # without its text (`text=False`) a completion cannot be verified again
                _checked(known[0], known[1], completion, correct, self.notes)
                if task == "countdown" and completion and (known := _known(task, prompt_id, prompt))[0] is not None
                else (correct, form)
                for task, prompt_id, prompt, completion, correct, form in zip(*(columns[n].to_pylist() for n in names))
            ]
            columns["correct"] = pa.array([correct for correct, _ in verdicts], pa.bool_())
            columns["canonical"] = pa.array([form for _, form in verdicts], pa.string())
        if not self.text:
            columns["prompt"] = columns["completion"] = pa.array([""] * len(batch), pa.string())
        self.notes[NULL] += columns["correct"].null_count
        self.batches.append(pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMA))
        self.prompts.append(np.zeros(len(batch), dtype=np.uint64))
        self.count += len(batch)

    def _name_problems(self) -> None:
        """An id with several prompts is several problems, of several tasks: each is then named by its prompt as well."""
        prompts = np.concatenate(self.prompts)
        if not prompts.any():
            return
        table = pa.Table.from_batches(self.batches)
        ids = table["prompt_id"].to_pandas()
        pairs = pd.DataFrame({"id": ids, "prompt": prompts})[prompts != 0].drop_duplicates()
        shared = set(pairs.loc[pairs["id"].duplicated(), "id"])
        if not shared:
            return
        renamed = ids.isin(shared).to_numpy() & (prompts != 0)
        names = [f"{i} ({p:016x})" if new else i for i, p, new in zip(ids, prompts, renamed, strict=True)]
        field = SCHEMA.field("prompt_id")
        self.batches = table.set_column(0, field, pa.array(names, field.type)).to_batches()
        self.notes[
            f"of problems whose id has several prompts, as in files of several tasks: such as {min(shared)!r}, in the table "
            f"{min(n for n, new in zip(names, renamed, strict=True) if new)!r}"
        ] += int(renamed.sum())

    def frame(self, where: str, advice: str = "") -> pd.DataFrame:
        """The table. ValueError, opening with ``where``, for rows that repeat an identity, with ``advice`` if given."""
        self.flush()
        self._name_problems()
        samples = pa.chunked_array([batch["sample"] for batch in self.batches]).to_pandas()
        if (samples < 0).any():
            if (samples >= 0).any():
                raise ValueError(
                    f"{where}: found {int((samples < 0).sum())} rows without a sample number beside rows that have one, "
                    "expected it in all rows or in none. Add or remove it."
                )
            keys = pa.Table.from_batches([b.select(["model", "seed", "step", "prompt_id"]) for b in self.batches])
            samples = keys.to_pandas().groupby(["model", "seed", "step", "prompt_id"]).cumcount()
            place = COLUMNS.index("sample")
            table = pa.Table.from_batches(self.batches)
            field = SCHEMA.field("sample")
            self.batches = table.set_column(place, field, pa.array(samples, pa.int64())).to_batches()
        return to_checked_frame(self.batches, where, advice)


def _key(prompt: str) -> int:
    return int.from_bytes(blake2b(prompt.encode("utf-8", "replace"), digest_size=8).digest(), "big") or 1


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
        notes["Countdown answers to which the file gives another verdict than the verifier, whose verdict is used"] += 1
    return correct, form


def _verified(problem: countdown.Problem, tagged: bool, answer: str) -> tuple[bool, str | None]:
    # sampled answers repeat, above all within a problem; only short ones are worth their memory
    verify = _verify_short if len(answer) <= 256 else _verify_short.__wrapped__
    return verify(problem, tagged, answer)


@lru_cache(maxsize=16384)
def _verify_short(problem: countdown.Problem, tagged: bool, answer: str) -> tuple[bool, str | None]:
    verdict = countdown.verify_completion(answer, problem.nums, problem.target, tagged=tagged)
    return verdict.correct, verdict.canonical
