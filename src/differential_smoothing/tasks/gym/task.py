"""A data set of reasoning-gym as a ``Task``."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from differential_smoothing.tasks.task import SPLITS, Split, Task, Unreadable, Verdict, answer_of, split_of_text

from .forms import FORMS, Form
from .scorer import Scorer

__all__ = ["GymProblem", "ReasoningGym"]


@dataclass(frozen=True)
class GymProblem:
    """Where a generator makes an entry, and the entry. Two problems are equal if their questions are."""

    entry_seed: int = field(compare=False)
    entry_index: int = field(compare=False)
    question: str
    entry: Mapping[str, Any] = field(compare=False, repr=False)


class ReasoningGym(Task[GymProblem]):
    """See the package's docstring.

    Args:
        dataset: the data set's registered name, such as ``graph_color``.
        threshold: the least score that is correct, above 0 and at most 1. Many scorers give part of the score to answers
            in a wrong format or nearly right; 1.0 is neither.
        time_limit, memory_mb: of the scorer; see ``Scorer``.
        imports: modules that the worker imports first, such as one that registers a data set of your own.
        size: how many entries the generator has per seed: no more problems of all splits together can be drawn.
        options: of the generator's config.
    """

    column_names = ("entry_seed", "entry_index", "question")

    def __init__(
        self,
        dataset: str,
        *,
        threshold: float = 1.0,
        time_limit: float = 2.0,
        memory_mb: int = 1024,
        imports: Sequence[str] = (),
        size: int = 200_000,
        **options: Any,
    ):
        self.name = f"reasoning_gym:{dataset}"
        checks = {
            "0 < threshold <= 1": _number(threshold) and 0 < threshold <= 1,
            "time_limit > 0": _number(time_limit) and 0 < time_limit < float("inf"),
            "memory_mb >= 1, a whole number": type(memory_mb) is int and memory_mb >= 1,
            "imports as a list of module names": isinstance(imports, (list, tuple))
            and all(isinstance(module, str) for module in imports),
            "size >= 1, a whole number": type(size) is int and size >= 1,
            "options that JSON can hold": _is_json(options),
            "no seed among its options (problems have their own)": "seed" not in options,
        }
        for condition, holds in checks.items():
            if not holds:
                raise ValueError(
                    f"{self.name} needs {condition}; got threshold={threshold!r}, time_limit={time_limit!r}, "
                    f"memory_mb={memory_mb!r}, imports={imports!r}, size={size!r} and {options}."
                )
        self._threshold, self._size = threshold, size
        self._identity = {
            "threshold": threshold,
            "time_limit": time_limit,
            "memory_mb": memory_mb,
            "imports": list(imports),
            "size": size,
            "options": options,
        }
        self._form = FORMS.get(dataset, Form())
        self.words, self.pattern = self._form.words, self._form.pattern
        self._scorer = Scorer(
            dataset, {**options, "size": size}, imports=imports, time_limit=time_limit, memory_mb=memory_mb
        )
        self._made: dict[tuple[int, int], GymProblem] = {}
        self._make([(0, 0)])  # reports a wrong name or option now

    def problems(self, count: int, *, split: Split, seed: int) -> list[GymProblem]:
        """``count`` problems with different questions. ValueError if the generator's ``size`` entries have fewer."""
        if count < 1 or split not in SPLITS:
            raise ValueError(f"{self.name} needs count >= 1 and split train, dev or test; got {count} and {split!r}.")
        # generators seed entry i with seed + i: seeds that are far apart share no entries
        start = int.from_bytes(hashlib.sha256(f"reasoning_gym {seed}".encode()).digest()[:4]) // 2
        chosen: dict[str, GymProblem] = {}
        index = found_at = 0
        while len(chosen) < count and index < min(self._size, found_at + 20_000):
            # some generators take long, so not many more are made than the split's share calls for
            wanted = (count - len(chosen)) * (1.3 if split == "train" else 11)
            places = range(index, min(self._size, index + max(10, min(1000, int(wanted)))))
            for problem in self._make([(start, i) for i in places]):
                new = problem.question not in chosen and split_of_text(problem.question) == split
                if new and len(chosen) < count:
                    chosen[problem.question], found_at = problem, problem.entry_index
            index += len(places)
        if len(chosen) < count:
            raise ValueError(
                f"Only {len(chosen)} different problems of the {split} split were found among {index} entries of "
                f"{self.name} where {count} were asked for. Ask for fewer, widen its options, or raise size."
            )
        return list(chosen.values())

    def problem_id(self, problem: GymProblem) -> str:
        """A digest of the question."""
        return hashlib.sha256(problem.question.encode()).hexdigest()[:16]

    def prompt(self, problem: GymProblem, *, chat: bool = False) -> str | list[dict[str, str]]:
        """The compact prompt of the data set's form; with ``chat`` the question, and what is asked of the answer."""
        if not chat:
            return self._form.prompt(problem.entry)
        request = "Think inside <think> </think>, then give only the final answer inside <answer> </answer>."
        return [{"role": "user", "content": f"{problem.question.strip()}\n\n{request}"}]

    def identity(self):
        """All options: those of the generator make the entry that an answer is scored against."""
        return json.loads(json.dumps(self._identity))

    def columns(self, problem: GymProblem) -> dict[str, Any]:
        """Where the generator makes the entry, and its question, by which one sees that it is still the same entry."""
        return {name: getattr(problem, name) for name in self.column_names}

    def problem(self, entry_seed: int, entry_index: int, question: str) -> GymProblem:
        """The problem of these columns. ValueError if the generator makes another question there."""
        for value in (entry_seed, entry_index):
            if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value < 2**40:
                raise ValueError(
                    f"A {self.name} problem needs whole numbers entry_seed and entry_index >= 0; got {value!r:.80}."
                )
        made = self._make([(int(entry_seed), int(entry_index))])[0]
        if made.question != question:
            raise ValueError(
                f"{self.name} with these options makes another question at entry_seed={entry_seed}, "
                f"entry_index={entry_index} than {question!r:.80}: {made.question!r:.80}. Use the options and the version "
                f"of reasoning-gym that the problems were made with."
            )
        return made

    def verify(self, completion: str, problem: GymProblem, *, chat: bool = False) -> Verdict:
        """The score of the answer inside ``completion`` against the threshold. A score above 1 is a mistake of the scorer and not correct:
        one that adds up parts may say 1.0000000000000002 where it means "as good as right"."""
        return self.verify_all([completion], [problem], chat=chat)[0]

    def verify_all(
        self, completions: Sequence[str], problems: Sequence[GymProblem], *, chat: bool | Sequence[bool] = False
    ) -> list[Verdict]:
        """``verify`` for many at once, which costs one exchange with the worker."""
        chats = [chat] * len(completions) if isinstance(chat, bool) else chat
        verdicts: list[Any] = []  # a Verdict each in the end, None while the scorer is to be asked
        asked: list[tuple[int, int, str]] = []
        for completion, problem, tagged in zip(completions, problems, chats, strict=True):
            try:
                if not isinstance(completion, str):
                    raise Unreadable(f"not text but {type(completion).__name__}")
                answer = answer_of(completion, tagged).strip()
                answer = answer if tagged else self._form.expand(answer, problem.entry)
            except Unreadable as error:
                verdicts.append(Verdict(False, str(error), None))
                continue
            verdicts.append(None)
            asked.append((problem.entry_seed, problem.entry_index, answer))
        scored = iter(zip(asked, self._scorer.score(asked), strict=True))
        for place, (verdict, problem) in enumerate(zip(verdicts, problems, strict=True)):
            if verdict is None:
                (_, _, answer), score = next(scored)
                if self._threshold <= score.value <= 1:
                    verdicts[place] = Verdict(True, "correct", self._canonical(answer, problem))
                else:
                    scores = (
                        f"scores {score.value:g}, not {self._threshold:g}" if score.value <= 1 else "scores above 1"
                    )
                    verdicts[place] = Verdict(False, score.reason or scores, None)
        return verdicts

    def demonstration(self, problem: GymProblem, rng: random.Random) -> str | None:
        """A correct compact answer; by default the entry's own."""
        return self._form.demonstration(problem.entry, rng)

    def _canonical(self, answer: str, problem: GymProblem) -> str:
        try:
            return self._form.canonical(answer, problem.entry)
        except (ValueError, KeyError, TypeError, RecursionError):  # a lenient scorer reads more than the form
            return " ".join(answer.split())

    def _make(self, places: Sequence[tuple[int, int]]) -> list[GymProblem]:
        missing = [place for place in dict.fromkeys(places) if place not in self._made]
        if missing:
            for place, entry in zip(missing, self._scorer.entries(missing), strict=True):
                if not isinstance(entry, dict) or not isinstance(entry.get("question"), str):
                    raise ValueError(f"{self.name} made an entry without a question: {entry!r:.200}.")
                self._made[place] = GymProblem(*place, entry["question"], entry)
        return [self._made[place] for place in places]


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
