"""Mathematics as a ``Task``: problems from data sets with one right answer each, verified by ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from differential_smoothing.tasks.math.sources import MathProblem, check_source
from differential_smoothing.tasks.task import Split, Task, Verdict

__all__ = ["STYLES", "VARIETIES", "Math", "Style"]

VARIETIES = ("answer", "calculations")


class Style(NamedTuple):
    """How a model is asked: what the system says ("" for nothing) and what the user says, with ``{question}`` in it."""

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
        columns: what the columns ``question`` and ``answer`` are called in files named by path; or a mapping of such mappings, by
            the name of a data set or path.
        variety: what ``canonical`` tells apart among right completions: their ``answer`` (one per problem, however it is written) or
            the ``calculations`` in their working (see ``solution_signature`` and its limits).
        overlap: what happens to training problems that share 13 words in a row with a test problem: ``keep`` or ``drop``.
            Those with the same text are dropped always.

    Data are loaded when ``problems`` is first asked for them, so verifying needs none. ValueError names a wrong option.
    """

    name = "math"
    column_names = ("question", "answer", "source")

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
        def names(given):
            return [check_source(name) for name in ([given] if isinstance(given, str) else given)]

        self._names = {"train": names(train), "test": names(test)}
        self._style, self._folder, self._columns = STYLES[style], folder and Path(folder), columns
        self._variety, self._overlap = variety, overlap

    def problems(self, count: int, *, split: Split, seed: int) -> list[MathProblem]:
        """``count`` problems, or all if there are fewer, with a warning."""
        raise NotImplementedError

    def problem_id(self, problem: MathProblem) -> str:
        """The data set and a digest of the normalised question."""
        raise NotImplementedError

    def prompt(self, problem: MathProblem, *, chat: bool = False) -> str | list[dict[str, str]]:
        """What the style says: as messages with ``chat``, else as one text."""
        user = self._style.user.replace("{question}", problem.question.strip())
        if not chat:
            return "\n\n".join(part for part in (self._style.system, user) if part) + "\n"
        system = [{"role": "system", "content": self._style.system}] if self._style.system else []
        return [*system, {"role": "user", "content": user}]

    def columns(self, problem: MathProblem) -> dict[str, str]:
        """``question``, ``answer`` and ``source``, all text."""
        return {"question": problem.question, "answer": problem.answer, "source": problem.source}

    def problem(self, question: str, answer: str, source: str = "math") -> MathProblem:
        """The problem of these columns. ValueError if one is not text or the question is empty."""
        return MathProblem(question, answer, source)

    def verify(self, completion: str, problem: MathProblem, *, chat: bool = False) -> Verdict:
        """See ``compare.verify``. ``chat`` changes nothing: the answer is in the last box either way."""
        return self.verify_all([completion], [problem])[0]

    def verify_all(
        self, completions: Sequence[str], problems: Sequence[MathProblem], *, chat: bool | Sequence[bool] = False
    ) -> list[Verdict]:
        """``verify`` for many at once, by processes in parallel."""
        raise NotImplementedError
