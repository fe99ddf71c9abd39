"""Completions with their log-probabilities, several per prompt, from a transformers model.

Two things that ``generate`` does not give us for small models: the prompt's keys and values are computed once and
shared by all its completions, and the log-probability of every drawn token comes from the distribution that drew it,
so Differential Smoothing gets log pi_old for nothing. Large models belong on vLLM; this loop is for models whose
forward pass costs less than ``generate``'s bookkeeping, and for evaluation without further software.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicLayer

__all__ = ["Sample", "sample"]

#: Words above which a draw inverts the cumulated probabilities. Below, it is torch.multinomial's, whose draws older tables have.
MANY_WORDS = 4096


class Sample(NamedTuple):
    """One completion: its token ids, the end-of-sequence token included when it was drawn, and their log-probs, nats."""

    completion_ids: list[int]
    logps: list[float]


@torch.no_grad()
def sample(
    model: torch.nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    *,
    num_samples: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
    generator: torch.Generator | None = None,
    in_step: bool = False,
) -> list[list[Sample]]:
    """Draw ``num_samples`` completions for every prompt.

    Args:
        model: a causal language model that supports a key-value cache.
        prompt_ids: token ids of each prompt; lengths may differ.
        temperature: > 0; log-probs are those of the temperature-scaled distribution.
        generator: for draws that can be repeated; None uses torch's global state, as a trainer does.
        in_step: whether all processes of torch.distributed make equally many forward passes, as they must where the model's
            weights are sharded over them: each waits for the others' layers.

    Returns:
        For each prompt, in order, its ``num_samples`` samples.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0 to sample, got {temperature}.")
    if num_samples < 1 or max_new_tokens < 1:
        raise ValueError(f"num_samples and max_new_tokens must be at least 1, got {num_samples} and {max_new_tokens}.")
    if not prompt_ids or not all(len(ids) for ids in prompt_ids):
        raise ValueError(
            "Every prompt must have at least one token; got an empty prompt. Check the tokenizer's output."
        )
    device = next(model.parameters()).device
    width = max(map(len, prompt_ids))
    ids = torch.full((len(prompt_ids), width), pad_token_id, device=device)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(prompt_ids):  # padded on the left, so that all prompts end in the same column
        ids[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
        attention[row, width - len(prompt) :] = 1
    position = (attention.cumsum(1) - 1).clamp(min=0)
    output = model(input_ids=ids, attention_mask=attention, position_ids=position, use_cache=True, logits_to_keep=1)
    cache = output.past_key_values
    cache.batch_repeat_interleave(num_samples)
    reserve(cache, max_new_tokens)
    logits = output.logits[:, -1].repeat_interleave(num_samples, 0)
    attention = attention.repeat_interleave(num_samples, 0)
    position = position[:, -1:].repeat_interleave(num_samples, 0)

    ends = torch.tensor(list(eos_token_ids), device=device)
    finished = torch.zeros(len(logits), dtype=torch.bool, device=device)
    tokens, logps, lengths = [], [], torch.zeros(len(logits), dtype=torch.long, device=device)
    rows = torch.arange(len(logits), device=device)  # those that the model still reads
    for step in range(max_new_tokens):
        distribution = torch.log_softmax(logits.float() / temperature, -1)
        token = draw_words(distribution.exp(), generator)
        tokens.append(token)
        logps.append(distribution.gather(1, token))
        lengths += ~finished
        finished |= torch.isin(token[:, 0], ends)
        waiting = (~finished).any()
        if in_step:
            waiting = waiting.int()
            torch.distributed.all_reduce(waiting)
        if step + 1 == max_new_tokens or not waiting:
            break
        # Rows that have ended leave the model's batch in halvings, each of which copies the cache. They are drawn for all the
        # same, so that what the others draw does not depend on them.
        unfinished = ~finished[rows]
        if 0 < 2 * int(unfinished.sum()) <= len(rows):
            keep = unfinished.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            rows, attention, position = rows[keep], attention[keep], position[keep]
        attention = torch.cat([attention, attention.new_ones(len(attention), 1)], 1)
        position = position + 1
        output = model(
            input_ids=token[rows],
            attention_mask=attention,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )
        logits = logits.index_copy(0, rows, output.logits[:, -1])
    token_rows, logp_rows = torch.cat(tokens, 1).tolist(), torch.cat(logps, 1).tolist()
    samples = [
        Sample(ids[:length], values[:length])
        for ids, values, length in zip(token_rows, logp_rows, lengths.tolist(), strict=True)
    ]
    return [samples[i : i + num_samples] for i in range(0, len(samples), num_samples)]


def draw_words(probabilities: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token per row, (rows, 1). multinomial draws a random number per word: on a CPU a seventh of the time of a model of 49,152 words."""
    if probabilities.size(-1) <= MANY_WORDS:
        return torch.multinomial(probabilities, 1, generator=generator)
    cumulated = probabilities.cumsum(-1)
    whole = cumulated[:, -1:].contiguous()
    point = torch.rand(len(probabilities), 1, generator=generator, device=probabilities.device) * whole
    # The first word whose cumulated probability is above the point, which has a probability; the last such one where the product was rounded up.
    return torch.searchsorted(cumulated, point, right=True).minimum(torch.searchsorted(cumulated, whole))


def reserve(cache: Any, tokens: int) -> None:
    """Give every plain layer of ``cache`` room for ``tokens`` more, so that a step writes its own keys and copies no earlier ones."""
    for layer in cache.layers:
        if type(layer) is DynamicLayer:
            layer.__class__ = _Roomy
            layer.reserve(tokens)


class _Roomy(DynamicLayer):
    """A layer whose keys and values are the written part of a larger buffer."""

    keys: torch.Tensor
    values: torch.Tensor

    def reserve(self, tokens: int) -> None:
        self.buffers = [torch.nn.functional.pad(written, (0, 0, 0, tokens)) for written in (self.keys, self.values)]
        self._show(self.keys.size(-2))

    def _show(self, end: int) -> None:
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any):
        """Write the new tokens' keys and values; returns those of all tokens."""
        start, end = self.keys.size(-2), self.keys.size(-2) + key_states.size(-2)
        for buffer, new in zip(self.buffers, (key_states, value_states)):
            buffer[:, :, start:end] = new
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        end = self.keys.size(-2)
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self._show(end)
