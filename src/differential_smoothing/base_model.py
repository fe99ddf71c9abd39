"""A base model to start from: a small transformer that has learned Countdown from solved problems.

Nothing needs to be downloaded to see sharpening happen. The repository ships the weights of a base with a stock
architecture (Llama, from its config) and a stock fast tokenizer; this module is the recipe that made them, and makes
them again: ``dsmooth base --output runs/base``. The base is *useful*, not good: it solves a problem in one try now and
then, nearly every problem in 64 tries, by many different solutions. That is the state in which reinforcement learning
finds a language model, and the state that it destroys when it sharpens.

Supervised learning sees train problems only (``countdown.split_of``): a uniformly drawn canonical solution in a random
spelling, so the base has no favourite among the correct answers beyond what its size imposes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from differential_smoothing.tasks import countdown

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["SHIPPED_BASE", "make_model", "make_tokenizer", "train_base"]

#: The weights in the package: 4 numbers from 1 to 10, targets 1 to 100.
SHIPPED_BASE = Path(__file__).parent / "data" / "countdown-4x10"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer for the compact form: the numbers 0 to 100 and every sign are one token each.

    Spaces separate and are not tokens; longer numbers fall into pieces of at most two digits, so nothing a Countdown
    prompt can hold is unknown to it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>", *map(str, range(101)), *"+-*/()=:"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex("100(?![0-9])|[0-9]{1,2}|."), behavior="isolated"),
        ]
    )
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left",
        model_max_length=128, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def make_model(*, seed: int, hidden: int = 128, layers: int = 4, heads: int = 4) -> LlamaForCausalLM:
    """A randomly initialised Llama for ``make_tokenizer``; about 0.8M parameters at the default size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=112, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, intermediate_size=3 * hidden, max_position_embeddings=128,
        tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def train_base(
    output: Path,
    *,
    steps: int = 2400,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
    numbers: int = 4,
    max_number: int = 10,
    targets: tuple[int, int] = (1, 100),
    problems: int = 24_000,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Teach a fresh model Countdown and save model and tokenizer to ``output``.

    ``on_step(step, loss)`` is called after every step; the loss is the mean cross-entropy per completion token, in nats.
    """
    tokenizer, model = make_tokenizer(), make_model(seed=seed)
    chosen = countdown.generate(
        problems, split="train", seed=seed, numbers=numbers, max_number=max_number, targets=targets
    )
    batches = _batches(chosen, tokenizer, batch_size, random.Random(seed))
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
    problems: list[countdown.Problem], tokenizer: PreTrainedTokenizerFast, size: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    solutions = [countdown.solve(*problem) for problem in problems]
    prompts = tokenizer([countdown.prompt(problem) for problem in problems])["input_ids"]
    while True:
        chosen = rng.choices(range(len(problems)), k=size)
        answers = tokenizer([countdown.shuffled(rng.choice(solutions[i]), rng) for i in chosen])["input_ids"]
        rows = [
            (prompts[i], [*answer, tokenizer.eos_token_id]) for i, answer in zip(chosen, answers, strict=True)
        ]
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.full((size, width), tokenizer.pad_token_id)
        labels = torch.full((size, width), -100)
        for row, (prompt, answer) in enumerate(rows):
            ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        yield ids, labels
