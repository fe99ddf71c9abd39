"""Engines in this process: our own sampler, and transformers' ``generate`` or continuous batching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from .engine import Draw, Engine, end_tokens
from .memory import keep_freed_memory
from .number_format import quick_dtype
from .shared_prefix import sample

if TYPE_CHECKING:
    from transformers import GenerationConfig

__all__ = ["SharedPrefix", "Transformers"]


class _Local(Engine):
    """A transformers model on the GPU, if there is one, in its own precision; otherwise in that of ``quick_dtype``."""

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model)

    @cached_property
    def network(self) -> Any:
        from transformers import AutoModelForCausalLM

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            keep_freed_memory()
        network = AutoModelForCausalLM.from_pretrained(self.model, dtype="auto" if device == "cuda" else self.precision)
        return network.to(device).eval()

    @cached_property
    def precision(self) -> torch.dtype:
        """The number format on a CPU."""
        return quick_dtype(self.model)

    @cached_property
    def ends(self) -> list[int]:
        return end_tokens(self.model, self.network.generation_config, self.tokenizer)

    def identity(self):
        """The kind of device, which decides about the precision and the stream of random numbers; on a CPU a precision other than float32."""
        if torch.cuda.is_available():
            return {"device": "cuda"}
        return {"device": "cpu"} | ({} if self.precision == torch.float32 else {"dtype": "bfloat16"})

    @property
    def padding(self) -> int:
        return self.tokenizer.pad_token_id or 0


class SharedPrefix(_Local):
    """``sampling.sample``: the prompt is computed once for its completions. For small models.

    Equal arguments repeat every completion to the bit on the same kind of device.

    Args:
        rows: completions at once; fewer take less memory for their keys and values. It decides about the draws, as the seed does.
    """

    def __init__(self, model: str, rows: int = 2048):
        super().__init__(model)
        if not (isinstance(rows, int) and rows > 0):
            raise ValueError(f"rows must be a whole number >= 1, got {rows!r}.")
        self.rows_at_once = rows

    def check(self, *, top_p):
        """ValueError for top_p below 1, which it does not know."""
        if top_p != 1:
            raise ValueError(
                f"The engine 'shared_prefix' draws from the whole distribution, got top_p={top_p}. Take engine 'transformers'."
            )

    def draw(self, prompt_ids, *, num_samples, seed, temperature, top_p, max_new_tokens):
        """See ``Engine.draw``."""
        self.check(top_p=top_p)
        groups = sample(
            self.network,
            prompt_ids,
            num_samples=num_samples,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            eos_token_ids=self.ends,
            pad_token_id=self.padding,
            generator=torch.Generator(self.network.device).manual_seed(seed),
        )
        return [[Draw(s.completion_ids, sum(s.logps)) for s in group] for group in groups]


class Transformers(_Local):
    """transformers' own generation: continuous batching on a GPU where it is installed, else ``generate``.

    Args:
        batch_size: completions at once of ``generate``; lower it when memory runs out. It decides about the draws, as the seed does.
        continuous: True or False decides instead of the device. Continuous batching draws as the scheduler happens to
            batch, so a seed does not promise the same completions again. It was run here on CPU only.
        continuous_options: of transformers' ContinuousBatchingConfig, such as ``max_memory_percent`` or ``num_blocks``.
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 64,
        continuous: bool | None = None,
        continuous_options: dict[str, Any] | None = None,
    ):
        super().__init__(model)
        if not (isinstance(batch_size, int) and batch_size > 0):
            raise ValueError(f"batch_size must be a whole number >= 1, got {batch_size!r}.")
        self.batch_size, self.continuous_options = batch_size, continuous_options or {}
        self.continuous = torch.cuda.is_available() if continuous is None else bool(continuous)
        if self.continuous:
            self.rows_at_once = (
                8192  # a part ends with a few long completions alone on the device: the fewer parts, the better
            )

    def identity(self):
        """The kind of device, which of the two ways, and the batch size of ``generate``."""
        way = {"continuous": True} if self.continuous else {"continuous": False, "batch_size": self.batch_size}
        return super().identity() | way

    def draw(self, prompt_ids, *, num_samples, seed, temperature, top_p, max_new_tokens):
        """See ``Engine.draw``."""
        from transformers import GenerationConfig

        # Explicit, because whatever is left out here comes from the model's own file: top_k 20, a repetition penalty, ...
        config = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            min_p=None,
            repetition_penalty=1.0,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.ends,
            pad_token_id=self.padding,
            use_cache=True,
        )
        with self._own(config):
            if self.continuous:
                return self._continuous(prompt_ids, config, num_samples, seed, temperature, top_p)
            return self._generate(prompt_ids, config, num_samples, seed, temperature, top_p)

    @contextmanager
    def _own(self, config: GenerationConfig) -> Iterator[None]:
        before = self.network.generation_config
        self.network.generation_config = config
        try:
            yield
        finally:
            self.network.generation_config = before

    def _generate(
        self, prompt_ids: Sequence, config: GenerationConfig, n: int, seed: int, temperature: float, top_p: float
    ) -> list[list[Draw]]:
        device, pad = self.network.device, self.padding
        rows = [ids for ids in prompt_ids for _ in range(n)]
        drawn: list[Draw] = []
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            for start in range(0, len(rows), self.batch_size):
                batch = rows[start : start + self.batch_size]
                width = max(map(len, batch))
                ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in batch], device=device)
                mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=device)
                logps = _LogProbs(temperature, top_p, width)
                output = self.network.generate(
                    input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[logps]
                )
                drawn += logps.read(output, self.ends)
        return [drawn[i : i + n] for i in range(0, len(drawn), n)]

    def _continuous(
        self, prompt_ids: Sequence, config: GenerationConfig, n: int, seed: int, temperature: float, top_p: float
    ) -> list[list[Draw]]:
        from transformers import ContinuousBatchingConfig

        config.update(temperature=temperature, top_p=top_p)
        # One request per completion: the scheduler shares the blocks of equal prompts, and request ids come back in order.
        rows = [list(ids) for ids in prompt_ids for _ in range(n)]
        found = self.network.generate_batch(
            rows,
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(
                return_logprobs=True, seed=seed, **self.continuous_options
            ),
        )
        outputs = list(found.values())
        wrong = [output.error for output in outputs if output.error]
        if len(outputs) < len(rows) or wrong:
            raise RuntimeError(
                f"transformers' continuous batching gave {len(outputs) - len(wrong)} of {len(rows)} completions"
                f"{f'; the first error: {wrong[0]}' if wrong else ''}. See its log; engine option continuous=false "
                f"takes the plain generate."
            )
        drawn = [Draw(list(output.generated_tokens), float(sum(output.logprobs))) for output in outputs]
        return [drawn[i : i + n] for i in range(0, len(drawn), n)]


class _LogProbs:
    """A logits processor that scales and cuts, and adds up the log-probs of what is then drawn.

    ``generate`` can hand out the scores of all steps, (steps, batch, vocabulary) numbers; this keeps those of one step. It does the
    temperature and the cut itself, because the processors of a caller come before those of the configuration.
    """

    def __init__(self, temperature: float, top_p: float, width: int):
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self._warpers = [TemperatureLogitsWarper(float(temperature))] if temperature != 1 else []
        self._warpers += [TopPLogitsWarper(float(top_p))] if top_p < 1 else []
        self._width, self._last = width, None
        self._taken: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._take(input_ids)
        scores = scores.float()
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        self._last = scores.log_softmax(-1)
        return scores

    def _take(self, ids: torch.Tensor) -> None:
        if self._last is not None:
            self._taken.append(self._last.gather(1, ids[:, self._width + len(self._taken), None])[:, 0])

    def read(self, output: torch.Tensor, ends: Sequence[int]) -> list[Draw]:
        """The draws of ``generate``'s output, (batch, prompt and completion)."""
        self._take(output)
        logps = torch.stack(self._taken, 1).double().tolist()
        draws = []
        for ids, values in zip(output[:, self._width :].tolist(), logps, strict=True):
            end = next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))
            draws.append(Draw(ids[:end], sum(values[:end])))
        return draws
