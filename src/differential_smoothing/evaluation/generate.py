"""Sample a model on problems and verify every answer: a model in, a rollouts table out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from differential_smoothing.sampling import sample
from differential_smoothing.tasks import Task, make_task

__all__ = ["sample_rollouts"]

ROWS_AT_ONCE = 2048


def sample_rollouts(
    model: str,
    problems: Sequence[Any],
    *,
    num_samples: int,
    seed: int,
    name: str,
    task: Task | None = None,
    training_seed: int = 0,
    temperature: float = 1.0,
    max_new_tokens: int = 24,
    chat: bool = False,
    on_problems: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Draw ``num_samples`` completions per problem and verify them.

    Args:
        model: a folder or Hub name that transformers can load (a PEFT adapter too).
        problems: problems of ``task``, which is Countdown where it is None.
        seed: of the draws. Draws are seeded batch by batch, so equal arguments repeat every completion.
        name, training_seed: what the table says in ``model`` and ``seed``: which rule trained it, from which seed.
        temperature: > 0; ``logp`` is that of the temperature-scaled distribution.
        on_problems: called with the number of problems done so far.

    Returns:
        The rollouts table of ``differential_smoothing.rollouts``, one row per completion.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = AutoModelForCausalLM.from_pretrained(model, dtype="auto" if device == "cuda" else torch.float32)
    network = network.to(device).eval()
    eos = network.generation_config.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    if eos is None:
        raise ValueError(
            f"Neither the model nor the tokenizer in {model} has an end-of-sequence token, so no completion would end. "
            f"Set eos_token_id in its generation_config.json."
        )
    generator = torch.Generator(device)
    task = make_task("countdown") if task is None else task

    prompts = [task.prompt(problem, chat=chat) for problem in problems]
    if chat:
        if tokenizer.chat_template is None:
            raise ValueError(
                f"The tokenizer in {model} has no chat template. Leave chat out, or give it a template."
            )
        texts = [
            tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts
        ]
    else:
        texts = prompts
    ids = tokenizer(texts, add_special_tokens=not chat)["input_ids"]
    rows = []
    step = max(1, ROWS_AT_ONCE // num_samples)
    for start in range(0, len(problems), step):
        generator.manual_seed(seed * 1_000_003 + start)
        groups = sample(
            network, ids[start : start + step], num_samples=num_samples, max_new_tokens=max_new_tokens,
            temperature=temperature, eos_token_ids=[eos] if isinstance(eos, int) else eos,
            pad_token_id=tokenizer.pad_token_id or 0, generator=generator,
        )  # fmt: skip
        drawn = [s for group in groups for s in group]
        completions = tokenizer.batch_decode([s.completion_ids for s in drawn], skip_special_tokens=True)
        asked = [start + i // num_samples for i in range(len(drawn))]
        verdicts = task.verify_all(completions, [problems[i] for i in asked], chat=chat)
        rows += [
            (task.problem_id(problems[i]), row % num_samples, texts[i], completion, verdict.correct,
             verdict.canonical, sum(s.logps), len(s.completion_ids))
            for row, (i, s, completion, verdict) in enumerate(zip(asked, drawn, completions, verdicts, strict=True))
        ]  # fmt: skip
        on_problems(min(start + step, len(problems)))
    columns = ["prompt_id", "sample", "prompt", "completion", "correct", "canonical", "logp", "num_tokens"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(
        task=task.name, model=name, seed=training_seed, step=-1, solution=None,
        reward=frame["correct"].astype(float), advantage=float("nan"),
    )  # fmt: skip
