"""A batch of the host: which of its tokens count, and who has computed log pi_old."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["VISION_INPUTS", "loss_mask", "mean_over_tokens", "old_logps", "triple"]

#: Keys of a batch that the model's forward pass takes beside ids and masks.
VISION_INPUTS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


def old_logps(inputs: dict[str, Any]) -> Tensor | None:
    """log pi_old per token if it has been computed: the host for its ratio, or the sampler."""
    old = inputs.get("old_per_token_logps")
    return inputs.get("sampling_per_token_logps") if old is None else old


def loss_mask(inputs: dict[str, Any]) -> Tensor:
    """(batch, tokens), nonzero where the loss counts the token: of the completion, and not written by a tool."""
    mask = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, tokens) -> (batch,), 0 for a completion without tokens that count."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def triple(result: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``result`` of ``_get_per_token_logps_and_entropies`` if it is the host's three values, else ValueError."""
    if isinstance(result, tuple) and len(result) == 3:
        return result
    got = f"{len(result)} values" if isinstance(result, (tuple, list)) else type(result).__name__
    raise ValueError(
        f"_get_per_token_logps_and_entropies must return three values, as TRL's own does: log-probs (batch, tokens), entropies (batch, "
        f"tokens) or None, the auxiliary loss or None; got {got}. A subclass written for an older TRL returns two: add None."
    )
