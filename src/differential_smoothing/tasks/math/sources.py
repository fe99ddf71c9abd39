"""Where mathematical problems come from: public data sets by name, or files of your own, all as (question, answer, source).

A data set of ``SOURCES`` is looked for in a local folder first (``NAME-SPLIT`` or ``NAME`` as ``.jsonl`` or ``.parquet``, or a folder ``NAME`` as
the Hub has it), else loaded from the Hub through ``datasets``. The names, configs, splits and columns are those of the data sets' public
cards and files in November 2026; nothing here was ever run against the Hub. A column that is not there is an error with
the columns that are, and the option ``columns`` names other columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from differential_smoothing.tasks.math.extract import boxed
from differential_smoothing.tasks.task import read_rows

__all__ = ["SOURCES", "MathProblem", "Source", "check_columns", "check_source", "load"]

Use = Literal["train", "test"]


@dataclass(frozen=True)
class MathProblem:
    """A question, its right answer as text, and the data set or file that it is from."""

    question: str
    answer: str
    source: str = "math"


@dataclass(frozen=True)
class Source:
    """A data set of the Hub: its name there, configs, the split to train on and the one to test on, and its columns.

    ``worked``: the column ``answer`` is a whole solution, whose last ``\\boxed`` or ``####`` has the answer. ``context``: a column whose
    text, where there is any, stands before the question.
    """

    hub: str
    question: str
    answer: str
    train: str = "train"
    test: str = "test"
    configs: tuple[str | None, ...] = (None,)
    worked: str = ""
    context: str = ""


_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)

#: Name in ``train`` and ``test`` -> data set. Where there is only one split it serves both uses.
SOURCES = {
    "math": Source("EleutherAI/hendrycks_math", "problem", "solution", configs=_SUBJECTS, worked="\\boxed"),
    "math500": Source("HuggingFaceH4/MATH-500", "problem", "answer", train="test"),
    "dapo_17k": Source("BytedTsinghua-SIA/DAPO-Math-17k", "prompt", "reward_model.ground_truth", test="train"),
    # the 14,116 English ones of dapo_17k once each; there the Hub's file holds every question about a hundred times, and takes minutes
    "dapo_14k": Source("open-r1/DAPO-Math-17k-Processed", "prompt", "solution", test="train", configs=("en",)),
    "deepscaler": Source("agentica-org/DeepScaleR-Preview-Dataset", "problem", "answer", test="train"),
    "gsm8k": Source("openai/gsm8k", "question", "answer", configs=("main",), worked="####"),
    "aime24": Source("math-ai/aime24", "problem", "solution", train="test", worked="\\boxed"),
    "aime25": Source("math-ai/aime25", "problem", "answer", train="test"),
    "amc23": Source("math-ai/amc23", "question", "answer", train="test"),
    # open-ended, text only, English competitions: the part that papers report. Its margins of error for a few answers are not used
    "olympiadbench": Source(
        "Hothan/OlympiadBench",
        "question",
        "final_answer",
        test="train",
        configs=("OE_TO_maths_en_COMP",),
        context="context",
    ),
    "minerva": Source("math-ai/minervamath", "question", "answer", train="test"),
}

#: What the columns of a file of one's own may be called without being named.
_USUAL = {"question": ("question", "problem"), "answer": ("answer",)}

# DAPO's instruction stands around every question; here the style of the task asks
_DAPO_BEFORE = "Solve the following math problem step by step."
_DAPO_AFTER = 'Remember to put your answer on its own line after "Answer:".'


def check_source(name: object) -> str:
    """``name`` if it is a data set of ``SOURCES`` or the path of a .jsonl or .parquet file; ValueError otherwise."""
    if isinstance(name, str) and (name in SOURCES or Path(name).suffix in (".jsonl", ".parquet")):
        return name
    raise ValueError(
        f"There is no mathematical data set {name!r}. Known are {', '.join(SOURCES)}; a file of your own is named by its path, "
        f"which ends in .jsonl or .parquet."
    )


def check_columns(columns: object) -> Mapping[str, Any]:
    """``columns`` if it is an option of that name as ``load`` reads it; ValueError otherwise."""

    def flat(mapping: object) -> bool:
        return isinstance(mapping, Mapping) and all(
            key in _USUAL and isinstance(value, str) for key, value in mapping.items()
        )

    columns = {} if columns is None else columns
    if flat(columns) or (isinstance(columns, Mapping) and all(map(flat, columns.values()))):
        return columns
    raise ValueError(
        'columns must say what the columns question and answer are called, as in {"question": "task", "answer": "key"}, or do '
        f'so by data set, as in {{"aime24": {{"answer": "Answer"}}}}; got {columns!r:.200}.'
    )


def load(
    name: str, use: Use, *, folder: Path | None = None, columns: Mapping[str, Any] | None = None
) -> Iterator[MathProblem]:
    """The problems of a data set or file, one after the other. A problem without an answer has the answer "".

    Args:
        name: of ``SOURCES``, or a path.
        use: which split of a data set is read, its ``train`` or its ``test``. A file is read whole.
        folder: see the module. columns: see ``Math``.

    ValueError if it cannot be loaded, holds no problem, lacks a column, or a row is no problem.
    """
    columns = columns or {}
    known = name in SOURCES or name in columns or not columns.keys() <= _USUAL.keys()
    named = columns.get(name, {}) if known else columns
    where, rows = _rows(name, use, folder)
    empty = True
    for place, row in rows:
        yield _problem(row, f"{where}, {place}", name, named)
        empty = False
    if empty:
        raise ValueError(f"{where} holds no problems.")


# --- a row ----------------------------------------------------------------------------------------------------------


def _problem(row: object, where: str, name: str, named: Mapping[str, str]) -> MathProblem:
    source = SOURCES.get(name)
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: a row must be a mapping of columns, got {row!r:.100}. Correct or delete it.")
    values = {}
    for column in _USUAL:
        names = [named[column]] if column in named else [getattr(source, column)] if source else _USUAL[column]
        found = [value for value in (_column(row, n) for n in names) if value is not _MISSING]
        if len(found) != 1:
            raise ValueError(
                f"{where}: {'no' if not found else 'more than one'} column for the {column}. Expected {' or '.join(names)}; found "
                f"{', '.join(map(str, row))}. Say which it is with the task's option columns: "
                f'{{"{name}": {{"{column}": "NAME"}}}}, or reward_model.ground_truth for a field in a column.'
            )
        values[column] = found[0]
    question, answer = _question(values["question"], where), _text_of(values["answer"], where)
    if source and source.context and isinstance(row.get(source.context), str):
        question = f"{row[source.context].strip()}\n{question}".strip()
    worked = source.worked if source and "answer" not in named else ""
    origin = row.get("source") if not source else name
    return MathProblem(
        question, _final(answer, worked), origin if isinstance(origin, str) and origin else Path(name).stem
    )


_MISSING = object()


def _column(row: Mapping[str, Any], name: str) -> Any:
    """A column, or with points in its name a field of a column."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _question(value: object, where: str) -> str:
    """The question as text: of messages the only one, of DAPO's prompts what its instruction stands around."""
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0].get("content")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where}: the question must be text, or a list of one message with text; got {value!r:.100}. Correct or delete the row."
        )
    text = value.strip()
    if not text.startswith(_DAPO_BEFORE):
        return text
    question, after, rest = text.partition("\n\n")[2].rpartition(_DAPO_AFTER)
    if not question.strip() or rest.strip():
        raise ValueError(
            f"{where}: the instruction around the question is not the one that is known of DAPO-Math-17k, so it cannot be taken "
            f"off: {text!r:.200} ... Write the questions into a file of your own without it."
        )
    return question.strip()


def _text_of(value: object, where: str) -> str:
    """An answer as text: 27.0 as 27, a list of answers joined with commas, "" for none."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(_text_of(part, where) for part in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value).strip()
    raise ValueError(
        f"{where}: the answer must be text, a number or a list of them; got {value!r:.100}. Correct or delete the row."
    )


def _final(answer: str, worked: str) -> str:
    """The answer at the end of a worked solution; any other answer as it is."""
    if "\\boxed" in answer:
        return boxed(answer) or ""
    if "####" in answer:
        return answer.rpartition("####")[2].strip()
    return "" if worked else answer


# --- the rows of a data set -----------------------------------------------------------------------------------------


def _rows(name: str, use: Use, folder: Path | None) -> tuple[str, Iterator[tuple[str, object]]]:
    """Where a data set is, in words, and its rows, each with its place."""
    source = SOURCES.get(name)
    if source is None:
        return name, read_rows(Path(name), '{"question": "...", "answer": "..."}')
    split = getattr(source, use)
    if folder is not None and not folder.is_dir():
        raise ValueError(
            f"There is no folder {str(folder)!r}. The task's option folder is the folder with the data sets as files."
        )
    if folder is not None:
        for stem in (f"{name}-{split}", name):
            for suffix in (".jsonl", ".parquet"):
                if (file := folder / (stem + suffix)).is_file():
                    return str(file), read_rows(file, '{"question": "...", "answer": "..."}')
    local = folder / name if folder is not None and (folder / name).is_dir() else None
    where = f"{local or source.hub} ({split})"
    return where, _loaded(name, source, split, local, folder)


def _loaded(
    name: str, source: Source, split: str, local: Path | None, folder: Path | None
) -> Iterator[tuple[str, object]]:
    """The rows of a data set as ``datasets`` loads it, from its folder or from the Hub, config after config."""
    try:
        import datasets
    except ImportError:
        raise ValueError(
            "Data sets are loaded by the package datasets, which is not installed: pip install 'differential-smoothing[trl]'."
        ) from None
    for config in source.configs:
        try:
            rows = datasets.load_dataset(str(local or source.hub), config, split=split)
        except Exception as error:  # what the Hub's client raises depends on its version and on the network
            raise ValueError(_why_not_loaded(name, source, config, split, local, folder, error)) from None
        for number, row in enumerate(rows):
            yield f"{config or ''} row {number}".strip(), row


def _why_not_loaded(
    name: str, source: Source, config: str | None, split: str, local: Path | None, folder: Path | None, error: Exception
) -> str:
    cause = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    what = f"split {split!r}" + (f" of the config {config!r}" if config else "")
    if local is not None:
        return (
            f"{local} does not hold the data set {name!r} as the Hub has it, with the {what} ({cause}). Download it again (hf download "
            f"--repo-type dataset {source.hub} --local-dir {local}), or put the problems into {local}.jsonl."
        )
    looked = (
        f" It is not in the folder {folder} either ({name}.jsonl, {name}.parquet or a folder {name})." if folder else ""
    )
    offline = any(word in cause.lower() for word in ("offline", "connect", "reach", "timeout", "resolve"))
    if "gated" in cause.lower() or "401" in cause or "403" in cause:
        reason = "the Hub gives it only to those who accepted its terms: do so on its page there, and log in with hf auth login"
    elif offline:
        reason = "the Hub cannot be reached"
    else:
        reason = f"the Hub has no such data set, or not with the {what}"
    return (
        f"The data set {name!r} ({source.hub}) could not be loaded: {reason} ({cause}).{looked} Without a network, download it "
        f"elsewhere (hf download --repo-type dataset {source.hub} --local-dir DATA/{name}) and say so in the task's options: "
        f'{{"folder": "DATA"}}. If it has been loaded on this machine before, HF_HUB_OFFLINE=1 takes it from the cache.'
    )
