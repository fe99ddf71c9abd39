"""Sample a model on problems and verify every answer: a model in, a rollouts table out.

A job is cut into parts, each a few problems with all their completions. Draws are seeded part by part, so a part is the
same in every process and at any time; ``parts`` writes them one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differential_smoothing.tasks import Task, make_task

from .engines import make_engine

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Job", "sample_rollouts"]


def sample_rollouts(
    model: str, problems: Sequence[Any], *, on_problems: Callable[[int], None] = lambda done: None, **options: Any
) -> pd.DataFrame:
    """Draw ``num_samples`` completions per problem and verify them, all in memory; ``options`` as in ``Job``.

    Args:
        on_problems: called with the number of problems done so far.

    Returns:
        The rollouts table of ``differential_smoothing.rollouts``, one row per completion.
    """
    import pandas as pd

    job = Job(model, problems, **options)
    frames = []
    for part in range(job.num_parts):
        frames.append(job.part(part))
        on_problems(min((part + 1) * job.step, len(problems)))
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class Job:
    """Completions to draw and verify, and how.

    Args:
        model: a folder or Hub name that transformers can load (a PEFT adapter too, where the engine takes one).
        problems: different problems of ``task``, which is Countdown where it is None.
        num_samples: completions per problem.
        seed: of the draws.
        name, training_seed: the values of ``model`` and ``seed`` in the table: the rule and the seed of the training.
        temperature: > 0; ``logp`` is that of the distribution that is left by the temperature and by ``top_p``, in (0, 1].
        max_new_tokens: longest completion.
        chat_template_kwargs: what the chat template takes besides, such as ``{"enable_thinking": False}``.
        engine, engine_options: what draws, of ``sampling.ENGINES``, and its options.

    ValueError for a wrong option, repeated problems, or ``chat`` without a chat template.
    """

    model: str
    problems: Sequence[Any]
    num_samples: int
    seed: int
    name: str
    task: Task = field(default_factory=lambda: make_task("countdown"))
    training_seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 24
    chat: bool = False
    engine: str = "shared_prefix"
    engine_options: Mapping[str, Any] | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self):
        for name in ("num_samples", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be > 0 to sample, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}.")
        if not len(self.problems):
            raise ValueError("There are no problems to sample. Give at least one.")
        if len(set(self.prompt_ids)) < len(self.problems):
            first = next(name for name in self.prompt_ids if self.prompt_ids.count(name) > 1)
            raise ValueError(
                f"Problems are sampled once each, and {first!r} is there several times. Take the repetitions out; for more "
                f"completions of a problem, raise the number of samples."
            )
        self._drawer.check(top_p=self.top_p)  # reports a wrong engine option now

    @cached_property
    def prompt_ids(self) -> list[str]:
        """The problems' names in the table."""
        return [self.task.problem_id(problem) for problem in self.problems]

    @property
    def step(self) -> int:
        """Problems of a part."""
        return max(1, self._drawer.rows_at_once // self.num_samples)

    @property
    def num_parts(self) -> int:
        """Into how many parts the problems fall."""
        return -(-len(self.problems) // self.step)

    @cached_property
    def _drawer(self):
        return make_engine(self.engine, self.model, self.engine_options)

    @cached_property
    def _tokenizer(self):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model)

    @cached_property
    def texts(self) -> list[str]:
        """The prompts as the model reads them, chat template applied."""
        prompts: list[Any] = [self.task.prompt(problem, chat=self.chat) for problem in self.problems]
        if not self.chat:
            return prompts
        if self._tokenizer.chat_template is None:
            raise ValueError(
                f"The tokenizer in {self.model} has no chat template. Leave chat out, or give it a template."
            )
        template, more = self._tokenizer.apply_chat_template, self.chat_template_kwargs or {}
        return [template(prompt, add_generation_prompt=True, tokenize=False, **more) for prompt in prompts]

    def identity(self) -> dict[str, Any]:
        """What makes two jobs the same: plain values, equal on every machine that has the same model and problems."""
        problems = hashlib.sha256()
        for problem, name, text in zip(self.problems, self.prompt_ids, self.texts, strict=True):
            columns = json.dumps(
                self.task.columns(problem), sort_keys=True
            )  # the right answer, where the prompt does not give it
            problems.update(f"{len(name)} {len(text)} {len(columns)}\n{name}{text}{columns}".encode())
        return {
            "name": self.name,
            "training_seed": self.training_seed,
            "weights": weights_of(self.model),
            "task": self.task.name,
            "problems": len(self.problems),
            "problems_sha256": problems.hexdigest(),
            "samples": self.num_samples,
            "seed": self.seed,
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "max_new_tokens": self.max_new_tokens,
            "chat": self.chat,
            "engine": self.engine,
            "problems_per_part": self.step,
            **{f"task_{key}": value for key, value in self.task.identity().items()},
            **{f"engine_{key}": value for key, value in self._drawer.identity().items()},
        }

    def part(self, index: int) -> pd.DataFrame:
        """The rollouts table of part ``index``, drawn and verified."""
        import pandas as pd

        start = index * self.step
        problems, texts = self.problems[start : start + self.step], self.texts[start : start + self.step]
        n, drawer = self.num_samples, self._drawer
        groups = drawer.draw(
            self._tokenizer(texts, add_special_tokens=not self.chat)["input_ids"],
            num_samples=n,
            seed=self.seed * 1_000_003 + start,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
        )
        draws = [draw for group in groups for draw in group]
        completions = self._tokenizer.batch_decode([d.completion_ids for d in draws], skip_special_tokens=True)
        asked = [problem for problem in problems for _ in range(n)]
        verdicts = self.task.verify_all(completions, asked, chat=self.chat)
        columns = ["prompt_id", "sample", "prompt", "completion", "correct", "canonical", "logp", "num_tokens"]
        rows = [
            (
                self.prompt_ids[start + row // n],
                row % n,
                texts[row // n],
                completion,
                verdict.correct,
                verdict.canonical,
                draw.logp,
                len(draw.completion_ids),
            )
            for row, (draw, completion, verdict) in enumerate(zip(draws, completions, verdicts, strict=True))
        ]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.assign(
            task=self.task.name,
            model=self.name,
            seed=self.training_seed,
            step=-1,
            solution=None,
            reward=frame["correct"].astype(float),
            advantage=float("nan"),
        )


def weights_of(model: str) -> str:
    """Which model ``model`` is: a hash of what a folder holds, or a Hub name and the commit that is loaded."""
    folder = Path(model)
    if not folder.is_dir():
        from transformers import AutoConfig

        return f"{model}@{getattr(AutoConfig.from_pretrained(model), '_commit_hash', None) or 'unknown'}"
    found = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin", ".model", ".jinja") and file.name not in NO_PART_OF_A_MODEL:
            with file.open("rb") as content:
                found.update(f"{file.name} {file.stat().st_size}\n".encode())
                while block := content.read(2**22):
                    found.update(block)
    return f"sha256:{found.hexdigest()}"


#: What a checkpoint's folder holds beside the model.
NO_PART_OF_A_MODEL = ("trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin")
