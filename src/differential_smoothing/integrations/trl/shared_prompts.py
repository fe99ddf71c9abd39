"""The loss's forward pass with every prompt read once for all its completions.

The host reads prompt and completion of every row: a prompt with 8 completions is read, and its gradient computed, 8 times. Here each
different prompt of the batch, without its last token, is read once, its keys and values are repeated for its completions, and the last
token of the prompt is read with the completion. The log-probabilities are the same function of the weights, by the host's own head; sums in
another order differ in their last digits. The gain is the prompts' share of the tokens: a factor of 2 where prompts are as long as
completions, of almost the group's size where they are much longer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from differential_smoothing.integrations.trl.batch import VISION_INPUTS

__all__ = ["check_shareable", "refuse_images", "shared_prompt_logps"]


def check_shareable(*, num_processes: int, gradient_checkpointing: bool, padding_free: bool) -> None:
    """ValueError where prompts cannot be shared in the loss: the keys and values must outlive one forward pass of one process."""
    if num_processes > 1:
        raise ValueError(
            f"share_prompts=True reads a batch in two forward passes, which wrappers for several processes do not take; got "
            f"{num_processes} processes. Set share_prompts to false."
        )
    if gradient_checkpointing:
        raise ValueError(
            "share_prompts=True keeps the prompts' keys and values for the backward pass, which gradient_checkpointing=True throws "
            "away. Set one of them to false."
        )
    if padding_free:
        raise ValueError("share_prompts=True reads padded batches. Set share_prompts or padding_free to false.")


def shared_prompt_logps(
    model: torch.nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    logits_to_keep: int,
    *,
    compute_entropy: bool,
    batch_size: int,
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities (nats) of the completions' tokens and, if asked for, the entropies of their distributions.

    Args:
        model: a causal language model with a key-value cache and TRL's fused head (``fused_lm_head``).
        input_ids, attention_mask: (batch, tokens): prompts padded on the left, completions on the right. Rows in any order.
        logits_to_keep: how many of the last columns are the completion; the prompt has at least one column.
        batch_size: rows of one forward pass.

    Returns:
        (batch, logits_to_keep) twice, 0 where masked; the second is None unless ``compute_entropy``.
    """
    parts = [
        _of_rows(model, ids, mask, logits_to_keep)
        for ids, mask in zip(input_ids.split(batch_size), attention_mask.split(batch_size))
    ]
    logps = torch.cat([part.log_probs for part in parts])
    return logps, torch.cat(
        [part.entropy for part in parts]
    ) if compute_entropy else None  # a reference model's head has none


def refuse_images(kwargs: dict[str, Any]) -> None:
    """ValueError if a batch has inputs besides text, which would be left out."""
    given = [name for name in VISION_INPUTS if kwargs.get(name) is not None]
    if given:
        raise ValueError(
            f"share_prompts=True reads text only, and the batch has {given[0]}. Set share_prompts to false."
        )


def _of_rows(model: torch.nn.Module, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int) -> Any:
    """The host's output of its fused head, whose ``log_probs`` and ``entropy`` are (rows, logits_to_keep)."""
    start = input_ids.size(1) - logits_to_keep
    cache = None
    if start > 1:
        prompts = torch.cat([input_ids[:, : start - 1], attention_mask[:, : start - 1]], 1)
        different, row = torch.unique(prompts, dim=0, return_inverse=True)
        ids, mask = different.split(start - 1, dim=1)
        cache = _backbone(model)(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys.index_select(0, row), layer.values.index_select(0, row)
    kwargs: dict[str, Any] = {} if cache is None else {"past_key_values": cache}
    labels = input_ids[:, start:].masked_fill(attention_mask[:, start:] == 0, -100)
    return model(
        input_ids=input_ids[:, start - 1 : -1],
        attention_mask=attention_mask[:, :-1],
        shift_labels=labels,
        fused_lm_head=True,
        **kwargs,
    )


def _backbone(model: torch.nn.Module) -> torch.nn.Module:
    """The layers below the head. What a PEFT adapter calls its base model has the head, and would read the prompts through it."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return whole.base_model
