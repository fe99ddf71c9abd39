"""What a task is: prompts, the verifier that shares their format contract, and what makes two answers the same.

Everything above this room (training, sampling, studies, the base model) sees a ``Task`` and nothing of its insides.
Data flows one way: ``problems`` -> ``prompt`` -> a completion -> ``verify``. A trainer carries the problem as the columns
of its data set, so ``reward`` and ``canonical`` take columns and make the problem of them again.

A new task is a subclass with the abstract methods below, and a line in ``registry.TASKS``.
"""

from __future__ import annotations

import hashlib
import json
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    import random


__all__ = ["SPLITS", "Task", "Unreadable", "Verdict", "answer_of", "read_rows", "split_of_text", "text_of", "texts_of"]

Split = Literal["train", "dev", "test"]


SPLITS = ("train", "dev", "test")


Prompt = str | list[dict[str, str]]


P = TypeVar("P")


class Verdict(NamedTuple):
    """``correct``; the ``reason`` in plain words; the ``canonical`` form, None unless correct."""

    correct: bool
    reason: str
    canonical: str | None


class Unreadable(Exception):
    """A completion without an answer that can be read; the message is the reason a Verdict gives."""


class Task(ABC, Generic[P]):
    """Prompts, verifier and canonical form of one kind of problem. ``P`` is the type of its problems."""

    #: What the rollouts table calls the task, and ``make_task`` its name.
    name: str
    #: The columns that ``columns`` makes and ``problem`` reads.
    column_names: ClassVar[tuple[str, ...]]
    #: Tokens of a small model of our own: these words, cut by the regular expression ``pattern``. White space separates
    #: and is no token where it is not among the words. By default every printable ASCII character.
    words: tuple[str, ...] = (*sorted(set(string.printable) - set(string.whitespace)), " ", "\n")
    pattern: str = r"[\s\S]"
    #: Whether ``problems`` makes as many as it is asked for; False where they are those of a data set.
    generated: ClassVar[bool] = True

    @abstractmethod
    def problems(self, count: int, *, split: Split, seed: int) -> list[P]:
        """``count`` different problems. No seed may put a problem into train here and into test there."""

    @abstractmethod
    def problem_id(self, problem: P) -> str:
        """The ``prompt_id`` of the rollouts table: equal for two problems exactly when they are the same."""

    @abstractmethod
    def prompt(self, problem: P, *, chat: bool = False) -> Prompt:
        """The compact form for small models, or with ``chat`` messages; most tasks ask for ``<answer>...</answer>`` there."""

    @abstractmethod
    def columns(self, problem: P) -> dict[str, Any]:
        """The problem's columns in a row of a data set, without its prompt; plain values that JSON and Arrow can hold."""

    @abstractmethod
    def problem(self, *args: Any, **columns: Any) -> P:
        """The problem of a row, the inverse of ``columns``. ValueError if the row holds none."""

    @abstractmethod
    def verify(self, completion: str, problem: P, *, chat: bool = False) -> Verdict:
        """Is the answer inside ``completion`` right? Hostile text gets a Verdict in bounded time, never an exception."""

    def verify_all(
        self, completions: Sequence[str], problems: Sequence[P], *, chat: bool | Sequence[bool] = False
    ) -> list[Verdict]:
        """``verify`` for many at once, one problem and one ``chat`` per completion. Tasks with a costly start override."""
        chats = [chat] * len(completions) if isinstance(chat, bool) else chat
        return [self.verify(c, p, chat=t) for c, p, t in zip(completions, problems, chats, strict=True)]

    def demonstration(self, problem: P, rng: random.Random) -> str | None:
        """A completion that solves ``problem`` in compact form, drawn at random if there are many. None: not known."""
        return None

    def in_chat(self, answer: str) -> str:
        """A demonstrated answer as a chat completion gives it."""
        return f"<answer>{answer}</answer>"

    def identity(self) -> dict[str, Any]:
        """Options that decide about verdicts beside the problem: two parts of one table agree in them. Plain values of JSON."""
        return {}

    @cached_property
    def reward(self) -> Callable[..., list[float]]:
        """TRL reward: 1.0 for a correct completion, else 0.0. Its ``__name__`` is the task's name and ``_correct``.

        Chat completions are read as tagged, plain text as bare.
        """

        def correct(completions, **columns) -> list[float]:
            texts = list(texts_of(completions))
            rows = zip(*(columns[name] for name in self.column_names), strict=True)
            problems = [self.problem(**dict(zip(self.column_names, row))) for row in rows]
            verdicts = self.verify_all([t for t, _ in texts], problems, chat=[tagged for _, tagged in texts])
            return [float(verdict.correct) for verdict in verdicts]

        correct.__name__ = f"{self.name.rpartition(':')[2]}_correct"
        return correct

    def canonical(self, completion: str, **columns: Any) -> str | None:
        """The canonical form of a correct completion's text, tagged or bare; None for a wrong one."""
        problem = self.problem(**{name: columns[name] for name in self.column_names})
        return self.verify(completion, problem, chat="<answer>" in completion).canonical

    def read_problems(self, path: Path) -> list[P]:
        """The problems of a ``.jsonl`` or ``.parquet`` file with the task's columns; others are ignored.

        ValueError names the file and the first row that is not a problem.
        """
        problems = []
        for place, row in read_rows(path, json.dumps(dict.fromkeys(self.column_names, "..."))):
            if missing := missing_columns(row, self.column_names):
                raise ValueError(
                    f"{path}, {place}: no {' and no '.join(missing)}. Every row of a {self.name} problem needs "
                    f"{', '.join(self.column_names)}. Correct or delete the row."
                )
            try:
                problems.append(self.problem(**{name: row[name] for name in self.column_names}))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, {place}: {error} Correct or delete the row.") from None
        if not problems:
            raise ValueError(f"{path} holds no problems. Expected one per row: {', '.join(self.column_names)}.")
        return problems

    def training_problems(self, path: Path) -> list[P]:
        """The problems of a file to train on: ``read_problems``, without what a task knows to be test problems."""
        return self.read_problems(path)


def split_of_text(text: str) -> Split:
    """80% train, 10% dev, 10% test, decided by a hash of ``text`` and nothing else.

    So no seed, size or order of generation can put a problem into train here and into test there.
    """
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
    return "train" if share < 0.8 else "dev" if share < 0.9 else "test"


def answer_of(completion: str, tagged: bool) -> str:
    """The answer inside a completion. ``tagged=False``: the whole completion is the answer (compact form).

    ``tagged=True`` (chat form): after the last ``</think>`` there must be exactly one ``<answer>...</answer>`` with
    nothing but white space after it; Unreadable otherwise. Two answers are refused, since a model could hedge.
    """
    if not tagged or not isinstance(completion, str):
        return completion
    final = completion.rpartition("</think>")[2]
    opened, closed = final.count("<answer>"), final.count("</answer>")
    if (opened, closed) != (1, 1):
        raise Unreadable(f"{opened} <answer> and {closed} </answer> tags; one pair is expected")
    answer, closing, after = final.partition("<answer>")[2].partition("</answer>")
    if not closing:
        raise Unreadable("</answer> before <answer>")
    if after.strip():
        raise Unreadable("text after </answer>")
    return answer


def texts_of(completions: Iterable) -> Iterator[tuple[str, bool]]:
    """Each completion as text, and whether it came as chat messages, whose answer is inside tags.

    No message, or one without text (a tool call), is an empty answer: wrong, and no exception.
    """
    for completion in completions:
        yield text_of(completion), not isinstance(completion, str)


def text_of(completion: Any) -> str:
    """A completion as text: of chat messages the last one's, the blocks of text in it joined; "" where there is none."""
    if isinstance(completion, list):
        last = completion[-1] if completion else None
        completion = last.get("content") if isinstance(last, Mapping) else None
    if isinstance(completion, list):
        texts = [block.get("text") for block in completion if isinstance(block, Mapping)]
        completion = "".join(text for text in texts if isinstance(text, str))
    return completion if isinstance(completion, str) else ""


def missing_columns(row: object, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that a row of a file does not have, or has no value for."""
    return [name for name in names if not isinstance(row, dict) or row.get(name) is None]


def read_rows(path: Path, example: str) -> Iterator[tuple[str, Any]]:
    """The rows of a ``.jsonl`` or ``.parquet`` file, each with its place. ``example``: a row, for the error message."""
    if not path.is_file():
        raise ValueError(f"There is no data file {str(path)!r}. Expected a .jsonl or .parquet file of problems.")
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            rows = pyarrow.parquet.read_table(path).to_pylist()
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{path} is not a parquet file: {error}. Write it again, or give a .jsonl file.") from None
        yield from ((f"row {i}", row) for i, row in enumerate(rows))
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"{path}, line {number} is not JSON ({error}). Expected one object per line, for example "
                        f"{example}. Correct or delete the line."
                    ) from None
