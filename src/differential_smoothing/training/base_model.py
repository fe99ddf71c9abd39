"""A base model to start from: a small transformer that has learned a task from solved problems.

Nothing needs to be downloaded to see sharpening happen. The repository ships the weights of a base with a stock
architecture (Llama, from its config) and a stock fast tokenizer; this module is the recipe that made them, and makes
them again: ``dsmooth base --output runs/base``. The base is *useful*, not good: it solves a problem in one try now and
then, nearly every problem in 64 tries, by many different solutions. That is the state in which reinforcement learning
finds a language model, and the state that it destroys when it sharpens.

Supervised learning sees problems of the train split only, with answers that the task draws anew each time: for Countdown
a uniformly drawn canonical solution in a random spelling, so the base has no favourite among the correct answers beyond
what its size imposes. ``--task`` makes a base for any task that can demonstrate answers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from differential_smoothing.tasks import Task, make_task

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["SHIPPED_BASE", "SHIPPED_BASES", "make_model", "make_tokenizer", "train_base"]

#: The weights in the package: 4 numbers from 1 to 10, targets 1 to 100.
SHIPPED_BASE = Path(__file__).parents[1] / "data" / "countdown-4x10"

#: The shipped bases by name: Countdown, and colourings of graphs with 7 vertices. ``make bases`` makes the latter again.
SHIPPED_BASES = {"base": SHIPPED_BASE, "base:graph_color": SHIPPED_BASE.with_name("graph_color")}


def make_tokenizer(task: Task | None = None, *, context: int = 128) -> PreTrainedTokenizerFast:
    """A word-level tokenizer for the compact form of ``task``, whose ``words`` are one token each; None is Countdown.

    Countdown's words are the numbers 0 to 100 and every sign. Longer numbers fall into pieces of at most two digits, so
    nothing a prompt can hold is unknown to it. White space separates and is no token, unless it is among the words.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    task = make_task("countdown") if task is None else task
    words = ["<pad>", "<eos>", "<unk>", *task.words]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    spaces = [] if " " in task.words else [pre_tokenizers.WhitespaceSplit()]
    split = pre_tokenizers.Split(Regex(task.pattern), behavior="isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([*spaces, split])
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def make_model(
    *, seed: int, hidden: int = 128, layers: int = 4, heads: int = 4, vocabulary: int = 112, context: int = 128
) -> LlamaForCausalLM:
    """A randomly initialised Llama for ``make_tokenizer``; about 0.8M parameters at the default size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=3 * hidden,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def train_base(
    output: Path,
    *,
    task: Task | None = None,
    steps: int = 2400,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
    problems: int = 24_000,
    hidden: int = 128,
    layers: int = 4,
    context: int = 128,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Teach a fresh model ``task`` (None: Countdown) and save model and tokenizer to ``output``.

    Args:
        steps: optimiser steps of ``batch_size`` solved problems each, at most ``problems`` different ones.
        hidden, layers: size of the model; 4 attention heads.
        context: longest prompt and completion together, in tokens.
        on_step: ``on_step(step, loss)`` is called after every step; the loss is the mean cross-entropy per completion
            token, in nats.

    ValueError if the task cannot demonstrate answers, or a prompt with its answer is longer than ``context``.
    """
    task = make_task("countdown") if task is None else task
    tokenizer = make_tokenizer(task, context=context)
    model = make_model(seed=seed, hidden=hidden, layers=layers, vocabulary=len(tokenizer), context=context)
    chosen = task.problems(problems, split="train", seed=seed)
    batches = _batches(task, chosen, tokenizer, batch_size, random.Random(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, steps // 20)
    model.train()
    for step in range(steps):
        rate = min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate
        ids, labels = next(batches)
        loss = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        on_step(step + 1, loss.item())
    model.eval().save_pretrained(output)
    tokenizer.save_pretrained(output)


def _batches(
    task: Task, problems: Sequence[Any], tokenizer: PreTrainedTokenizerFast, size: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    prompts = tokenizer([task.prompt(problem) for problem in problems])["input_ids"]
    while True:
        chosen = rng.choices(range(len(problems)), k=size)
        texts = [task.demonstration(problems[i], rng) for i in chosen]
        if None in texts:
            raise ValueError(
                f"The task {task.name!r} has no demonstrated answer to "
                f"{task.prompt(problems[chosen[texts.index(None)]])!r:.200}, so no base can be taught it."
            )
        answers = tokenizer(texts)["input_ids"]
        rows = [(prompts[i], [*answer, tokenizer.eos_token_id]) for i, answer in zip(chosen, answers, strict=True)]
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        if width > tokenizer.model_max_length:
            raise ValueError(
                f"A prompt and its answer have {width} tokens, more than the context of {tokenizer.model_max_length}. "
                f"Set context to {width} or more."
            )
        ids = torch.full((size, width), tokenizer.pad_token_id)
        labels = torch.full((size, width), -100)
        for row, (prompt, answer) in enumerate(rows):
            ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        yield ids, labels
