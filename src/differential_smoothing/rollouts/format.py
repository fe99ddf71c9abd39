"""What a format is: one function per tool from a row of its file to completions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .sources import Source
from .values import NAN

__all__ = ["Completion", "Format", "numeric_but", "unchanged"]


@dataclass(slots=True)
class Completion:
    """One completion. ``score`` is compared with the threshold, NaN = unscored. ``answer`` is the last message of the
    completion; None where the file keeps no completions. ``sample`` -1: numbered by the reader. ``gold`` is the right answer
    that the file holds, None without one. ``unscored``: why a row has no score, where the reader knows; ``note`` is counted.
    """

    prompt_id: str
    prompt: str
    answer: str | None
    score: float
    completion: str = ""
    sample: int = -1
    task: str | None = None
    model: str | None = None
    seed: int = 0
    step: int = -1
    solution: str | None = None
    reward: float = NAN
    canonical: str | None = None
    advantage: float = NAN
    logp: float = NAN
    num_tokens: int | None = None
    gold: str | None = None
    unscored: str | None = None
    note: str | None = None


def unchanged(source: Source) -> Source:
    """For a tool whose rows need no preparation."""
    return source


class Format(NamedTuple):
    """How the rows of a tool are read.

    ``known_by`` are the columns that tell the format, ``used`` all that ``read(row, column)`` looks at. ``columns`` are those that
    may say "correct", each with a warning for its choice, "" for none; unasked, the first of the ``preferred`` that is there is
    taken, or the only one. ``read`` gets None for the column where a verifier of ours decides. ``prepare`` gives rows the shape
    that the rest expects.

    own_id: the prompt's id is unique within one task of one file only, so rows with one id and several prompts are several problems.
    free: a column that is none of ``columns`` may be named as well.
    unit: the scores of the tool are from 0 to 1; others are no verdict, unless a threshold is named.
    gold: the column with the right answer, "" without one. add: a column that could be added for the verdicts. hint, several: the message if no column, or several, could be the correctness.
    runs: what to do about rows that repeat an identity.
    """

    name: str
    known_by: frozenset[str]
    used: frozenset[str]
    columns: Callable[[Source], dict[str, str]]
    preferred: tuple[str, ...]
    read: Callable[[dict, "str | None"], Iterator[Completion]]
    prepare: Callable[[Source], Source] = unchanged
    own_id: bool = False
    free: bool = True
    unit: bool = False
    gold: str = ""
    add: str = "correct"
    hint: str = ""
    several: str = ""
    runs: str = ""


def numeric_but(*others: str) -> Callable[[Source], dict[str, str]]:
    """Any column of numbers or true/false but these."""
    return lambda source: dict.fromkeys((n for n in source.numeric if n not in others), "")
