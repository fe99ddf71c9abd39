"""Where mathematical problems come from: public data sets by name, or files of your own, all as (question, answer, source).

A data set of ``SOURCES`` is looked for in a local folder first (``NAME-SPLIT`` or ``NAME`` as ``.jsonl`` or ``.parquet``, or a folder ``NAME`` as
the Hub has it), else loaded from the Hub through ``datasets``. The names, configs, splits and columns are those of the data sets' public
cards and files in November 2026; nothing here was ever run against the Hub. A column that is not there is an error with
the columns that are, and the option ``columns`` says what to read instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from differential_smoothing.tasks.math.extract import boxed
from differential_smoothing.tasks.task import read_rows

__all__ = ["SOURCES", "MathProblem", "Source", "check_columns", "check_source", "load", "read_file"]

Use = Literal["train", "test"]


@dataclass(frozen=True)
class MathProblem:
    """A question, its right answer as text, and the data set or file that it is from. Equal by question and answer."""

    question: str
    answer: str
    source: str = "math"


@dataclass(frozen=True)
class Source:
    """A data set of the Hub: its name there, configs, the split to train on and the one to test on, and its columns.

    The answer is all of the column ``answer``, or the last box in it where the column is a ``worked`` solution.
    """

    hub: str
    question: str
    answer: str
    train: str = "train"
    test: str = "test"
    configs: tuple[str | None, ...] = (None,)
    worked: bool = False


_SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra", "precalculus",
)  # fmt: skip

#: Name in ``train`` and ``test`` -> data set. Where there is only one split it serves both uses.
SOURCES = {
    "math": Source("EleutherAI/hendrycks_math", "problem", "solution", configs=_SUBJECTS, worked=True),
    "math500": Source("HuggingFaceH4/MATH-500", "problem", "answer", train="test"),
    "dapo_17k": Source("BytedTsinghua-SIA/DAPO-Math-17k", "prompt", "reward_model.ground_truth", test="train"),
    # the English ones of dapo_17k, 14,116, without its copies
    "dapo_14k": Source("open-r1/DAPO-Math-17k-Processed", "prompt", "solution", test="train", configs=("en",)),
    "deepscaler": Source("agentica-org/DeepScaleR-Preview-Dataset", "problem", "answer", test="train"),
    "gsm8k": Source("openai/gsm8k", "question", "answer", configs=("main",)),
    "aime24": Source("math-ai/aime24", "problem", "solution", train="test", worked=True),
    "aime25": Source("math-ai/aime25", "problem", "answer", train="test"),
    "amc23": Source("math-ai/amc23", "question", "answer", train="test"),
    # open-ended, text only, English competitions: the part that papers report
    "olympiadbench": Source(
        "Hothan/OlympiadBench", "question", "final_answer", test="train", configs=("OE_TO_maths_en_COMP",)
    ),
    "minerva": Source("math-ai/minervamath", "question", "answer", train="test"),
}

#: Columns of a file of one's own that are read without being named, the first that is there.
_QUESTION, _ANSWER = ("question", "problem"), ("answer",)

# DAPO's instruction around every question; the style of the task asks instead
_DAPO = re.compile(
    r"Solve the following math problem step by step\. The last line of your response should be of the form Answer: \$Answer[^\n]{0,100}\n+"
    r"(?P<question>.*\S)\s+Remember to put your answer on its own line after \"Answer:\"\.\s*",
    re.DOTALL,
)


def check_source(name: object) -> str:
    """``name`` if it is a data set of ``SOURCES`` or the path of a .jsonl or .parquet file; ValueError otherwise."""
    if isinstance(name, str) and (name in SOURCES or Path(name).suffix in (".jsonl", ".parquet")):
        return name
    raise ValueError(
        f"There is no mathematical data set {name!r}. Known are {', '.join(SOURCES)}; a file of your own is named by its path, "
        f"which ends in .jsonl or .parquet."
    )
