"""What an engine is: token ids of prompts in, completions with their log-probabilities out.

Everything that makes two tables comparable stands outside: prompts, tokenizer, decoding and verifying are the same for every engine. An
engine loads the model when it is first asked to draw, so that a mistake is reported before minutes are spent.

A new engine is a subclass with ``draw``, and a line in ``engines.ENGINES``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Draw", "Engine", "end_tokens", "spread"]


class Draw(NamedTuple):
    """One completion: token ids, the end of sequence included when it was drawn, and their summed log-prob, nats; NaN: unknown."""

    completion_ids: list[int]
    logp: float


class Engine(ABC):
    """Draws completions of one model. ``model`` is a folder or Hub name; the other arguments are the engine's options."""

    #: Completions of one ``draw``, and so of one part of a table. Draws are seeded by it: another number, other completions.
    rows_at_once: int = 2048

    #: Whether it loads a PEFT adapter's folder, and whether somebody else has loaded what it draws from, whatever ``model`` is.
    takes_adapters, elsewhere = True, False

    def __init__(self, model: str):
        self.model = model

    def check(self, *, top_p: float) -> None:  # noqa: B027 (most have nothing to say)
        """ValueError for what is known to fail before anything is loaded."""

    @abstractmethod
    def draw(
        self,
        prompt_ids: Sequence[Sequence[int]],
        *,
        num_samples: int,
        seed: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
    ) -> list[list[Draw]]:
        """``num_samples`` completions for every prompt, in order.

        Args:
            prompt_ids: token ids of each prompt; lengths may differ.
            seed: of these draws, >= 0: equal arguments repeat every completion, as far as the engine can promise it.
            temperature, top_p: > 0, and in (0, 1]; ``logp`` is that of the distribution that both leave.
            max_new_tokens: a completion that is not over by then is cut.

        ValueError for what the engine cannot do; RuntimeError if drawing fails.
        """

    def identity(self) -> dict[str, Any]:
        """What decides about the draws beside the arguments and the model: two parts of one table agree in it."""
        return {}


def end_tokens(model: str, generation: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a completion: the generation config's, else the tokenizer's. ValueError if there are none."""
    eos = None if generation is None else generation.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    if eos is None:
        raise ValueError(
            f"Neither the model nor the tokenizer in {model} has an end-of-sequence token, so no completion would end. "
            f"Set eos_token_id in its generation_config.json."
        )
    return [eos] if isinstance(eos, int) else list(eos)


def spread(seed: int, index: int) -> int:
    """A seed of 56 bits for prompt ``index``. Neighbours would share draws: vLLM counts a prompt's completions up from its seed."""
    import hashlib

    return int.from_bytes(hashlib.sha256(f"{seed},{index}".encode()).digest()[:7])
