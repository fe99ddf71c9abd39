"""Mathematics as a ``Task``: problems from data sets with one right answer each, verified by ``compare``."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from differential_smoothing.tasks.math.compare import unreadable, verify_many
from differential_smoothing.tasks.math.contamination import WORDS, contaminated, normal, unique
from differential_smoothing.tasks.math.sources import SOURCES, MathProblem, Use, check_columns, check_source, load
from differential_smoothing.tasks.math.working import solution_signature
from differential_smoothing.tasks.task import SPLITS, Split, Task, Verdict, split_of_text

__all__ = ["STYLES", "VARIETIES", "Math", "Style"]

VARIETIES = ("answer", "calculations")


class Style(NamedTuple):
    """How a model is asked: the system message ("" for none) and the user message, with ``{question}`` in it."""

    system: str
    user: str


_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

#: ``boxed``: the request after the question, as most published evaluations have it, for any model.
#: ``qwen_math``: the request as the system prompt, which the Qwen2.5-Math family was published with.
#: ``question``: the question and nothing else, for a base model or a template that has a request of its own.
STYLES = {
    "boxed": Style("", "{question}\n\n" + _BOXED),
    "qwen_math": Style(_BOXED, "{question}"),
    "question": Style("", "{question}"),
}


class Math(Task[MathProblem]):
    """Mathematical problems of public data sets or of files of one's own.

    Args:
        train, test: a data set of ``SOURCES`` or the path of a .jsonl or .parquet file, or a list of them.
        style: how the model is asked, one of ``STYLES``.
        folder: where the data sets lie as files; what is not there is loaded from the Hub.
        columns: what the columns ``question`` and ``answer`` are called in files named by path, as in ``{"answer": "key"}``; a point stands
            for a field in a column, ``reward_model.ground_truth``. Or a mapping of such mappings, by the name of a data set or path.
        variety: what ``canonical`` tells apart among right completions: their ``answer`` (one per problem, however it is written) or
            the ``calculations`` in their working (see ``solution_signature`` and its limits).
        overlap: what happens to training problems that share 13 words in a row with a test problem: ``keep`` or ``drop``.
            Those with the same text are dropped always.

    Data are loaded when ``problems`` is first asked for them, so verifying needs none. ValueError names a wrong option.
    """

    name = "math"
    column_names = ("question", "answer", "source")
    generated = False

    def __init__(
        self,
        train: str | Sequence[str] = "math",
        test: str | Sequence[str] = "math500",
        style: str = "boxed",
        folder: str | None = None,
        columns: Mapping[str, Any] | None = None,
        variety: str = "answer",
        overlap: str = "keep",
    ):
        for option, value, known in (
            ("style", style, STYLES),
            ("variety", variety, VARIETIES),
            ("overlap", overlap, ("keep", "drop")),
        ):
            if not isinstance(value, str) or value not in known:
                raise ValueError(f"The option {option} of math must be one of {', '.join(known)}; got {value!r}.")
        if not (folder is None or isinstance(folder, str)):
            raise ValueError(f"The option folder of math must be the path of a folder; got {folder!r}.")
        self._names = {"train": _names(train), "test": _names(test)}
        self._style, self._folder, self._columns = (
            STYLES[style],
            Path(folder) if folder else None,
            check_columns(columns),
        )
        self._variety, self._overlap = variety, overlap
        self._loaded: dict[Use, list[MathProblem]] = {}

    def problems(self, count: int, *, split: Split, seed: int) -> list[MathProblem]:
        """``count`` problems, or all of the split if it has fewer, with a warning: data sets end where generators do not.

        ``test``: the test sets in their order; with a smaller ``count`` a subset drawn by ``seed``. ``train`` and ``dev``: the training sets
        in an order drawn by ``seed``; a hash of the question makes a tenth of them ``dev`` and the rest ``train``. Left out of a split, with a
        warning with the numbers of copies, questions whose copies have different answers, and answers that cannot be read; out of the
        training sets also what the test sets hold. ValueError if nothing is left or the data cannot be loaded.
        """
        if count < 1 or split not in SPLITS:
            raise ValueError(f"math needs count >= 1 and split train, dev or test; got {count} and {split!r}.")
        use: Use = "test" if split == "test" else "train"
        found = self._load(use)
        if use == "train":
            # the splits of other tasks have a test tenth too; here the test problems are those of the test sets
            found = [p for p in found if (split_of_text(normal(p.question)) == "dev") == (split == "dev")]
        if not found:
            raise ValueError(
                f"math has no {split} problems: {_in_words(self._names[use])} has none left. Name more data sets."
            )
        if count > len(found):
            warnings.warn(
                f"math: {count:,} {split} problems were asked for and there are {len(found):,}; all are used.",
                stacklevel=2,
            )
        places = list(range(len(found)))
        random.Random(f"math {split} {seed}").shuffle(places)
        places = sorted(places[:count]) if use == "test" else places[:count]
        return [found[place] for place in places]

    def _load(self, use: Use) -> list[MathProblem]:
        if use in self._loaded:
            return self._loaded[use]
        names = self._names[use]
        if not names:
            raise ValueError(f"math has no {use} sets. Name one in the task's option {use}.")
        # counted as they come: DAPO-17k has 1.8 million rows
        rows = Counter(p for name in names for p in load(name, use, folder=self._folder, columns=self._columns))
        kept, copies, disagreeing = unique(rows, within=use == "test")
        reasons = unreadable(problem.answer for problem in kept)
        unread = [problem for problem in kept if problem.answer in reasons]
        kept = [problem for problem in kept if problem.answer not in reasons]
        left_out = {
            "copies of another question": rows.total() - len(rows) + len(copies),
            "questions whose copies have different answers": len(disagreeing),
            "without an answer that can be read": len(unread),
        }
        example = f" The first such answer is {unread[0].answer!r:.80} to {unread[0].question!r:.80}." if unread else ""
        if use == "train" and self._names["test"]:
            same, overlapping = contaminated(kept, self._load("test"))
            left_out["that are test problems"] = len(same)
            if self._overlap == "drop":
                left_out[f"that share {WORDS} words in a row with a test problem"] = len(overlapping)
            elif overlapping:
                example += f" Of those used, {len(overlapping):,} share {WORDS} words in a row with a test problem."
            drop = {*same, *(overlapping if self._overlap == "drop" else ())}
            kept = [problem for problem in kept if problem not in drop]
        details = "; ".join(f"{number:,} {what}" for what, number in left_out.items() if number)
        if details or example:
            counted = f"{len(kept):,} of {rows.total():,} problems are used."
            details = f" Left out: {details}." if details else ""
            warnings.warn(f"math, {_in_words(names)} ({use}): {counted}{details}{example}", stacklevel=3)
        self._loaded[use] = kept
        return kept

    def problem_id(self, problem: MathProblem) -> str:
        """The data set and a digest of the normalised question: ``aime24:0a1b2c3d4e5f``."""
        return (
            f"{problem.source.replace(':', '_')}:{hashlib.sha256(normal(problem.question).encode()).hexdigest()[:12]}"
        )

    def prompt(self, problem: MathProblem, *, chat: bool = False) -> str | list[dict[str, str]]:
        """The style's prompt: as messages with ``chat``, else as one text that ends with a line break."""
        user = self._style.user.replace("{question}", problem.question.strip())
        if not chat:
            return "\n\n".join(part for part in (self._style.system, user) if part) + "\n"
        system = [{"role": "system", "content": self._style.system}] if self._style.system else []
        return [*system, {"role": "user", "content": user}]

    def identity(self):
        """What the canonical form tells apart. The rest is in the problems."""
        return {"variety": self._variety}

    def columns(self, problem: MathProblem) -> dict[str, str]:
        """``question``, ``answer`` and ``source``, all text."""
        return {"question": problem.question, "answer": problem.answer, "source": problem.source}

    def problem(self, question: str, answer: str, source: str = "math") -> MathProblem:
        """The problem of these columns. ValueError if one of them is not text, or empty."""
        for column, value in (("question", question), ("answer", answer), ("source", source)):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"A math problem needs the text of its {column}; got {value!r:.80}.")
        return MathProblem(question, answer, source)

    def verify(self, completion: str, problem: MathProblem, *, chat: bool = False) -> Verdict:
        """See ``compare.verify``. ``chat`` changes nothing: the answer is in the last box either way."""
        return self.verify_all([completion], [problem])[0]

    def verify_all(
        self, completions: Sequence[str], problems: Sequence[MathProblem], *, chat: bool | Sequence[bool] = False
    ) -> list[Verdict]:
        """``verify`` for many at once, by processes in parallel."""
        verdicts = verify_many(completions, [problem.answer for problem in problems])
        if self._variety == "answer":
            return verdicts
        return [
            verdict._replace(canonical=solution_signature(completion) or "no calculation")
            if verdict.correct
            else verdict
            for verdict, completion in zip(verdicts, completions)
        ]

    def read_problems(self, path: Path) -> list[MathProblem]:
        """The problems of a .jsonl or .parquet file, whose columns are named as those of ``train``. Nothing is left out of it."""
        problems = list(load(str(path), "train", columns=self._columns))
        for reason in unreadable(problem.answer for problem in problems).values():
            raise ValueError(f"{path}: {reason}")
        return problems

    def training_problems(self, path: Path) -> list[MathProblem]:
        """``read_problems`` without those that the test sets hold, which are counted in a warning. ValueError if none is left."""
        problems = self.read_problems(path)
        if not self._names["test"]:
            return problems
        try:
            same, overlapping = contaminated(problems, self._load("test"))
        except ValueError as error:
            raise ValueError(
                f'{path} is to be checked against the test sets. {error} With "test": [] nothing is checked.'
            ) from None
        drop = {*same, *(overlapping if self._overlap == "drop" else ())}
        kept = [problem for problem in problems if problem not in drop]
        if not kept:
            raise ValueError(
                f"{path} has no problem left to train on: all of them are test problems of {_in_words(self._names['test'])}."
            )
        if len(kept) < len(problems):
            warnings.warn(
                f"math, {path}: {len(problems) - len(kept):,} of {len(problems):,} problems are left out: they are test problems.",
                stacklevel=3,
            )
        return kept


def _names(given: object) -> list[str]:
    names = [check_source(name) for name in (given if isinstance(given, (list, tuple)) else [given])]
    sources: dict[str, str] = {}
    for name in names:
        source = name if name in SOURCES else Path(name).stem
        if sources.setdefault(source, name) != name:
            raise ValueError(
                f"{sources[source]!r} and {name!r} would both be the data set {source!r}. Rename one of the files."
            )
    return names


def _in_words(names: Sequence[str]) -> str:
    return " and ".join(names)
