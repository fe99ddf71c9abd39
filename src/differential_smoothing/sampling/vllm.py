"""vLLM in this process. Never run here, where vLLM cannot be installed: written against the interface that its documentation and
TRL 1.16's colocated mode use (vLLM 0.22 to 0.31), and tested with a stand-in of the same calls."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from .engine import Draw, Engine, spread

__all__ = ["VLLM"]

_MISSING = "The engine 'vllm' needs vLLM, which is not installed ({}). pip install vllm, or take engine 'vllm_server' or 'transformers'."

#: Options of vLLM that machines of one job may differ in: they change the batches, and so rounding, but not the distribution.
PLACEMENT = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "distributed_executor_backend",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "cpu_offload_gb",
    "swap_space",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enforce_eager",
    "enable_prefix_caching",
    "download_dir",
    "disable_log_stats",
)


class VLLM(Engine):
    """``vllm.LLM``. ``options`` are its arguments: ``tensor_parallel_size``, ``max_model_len``, ``gpu_memory_utilization``, ...

    Every prompt has a seed of its own. vLLM repeats draws only as far as its kernels do: another batch may round another way.
    """

    rows_at_once = 16_384

    takes_adapters = False

    def __init__(self, model: str, **options: Any):
        super().__init__(model)
        if (Path(model) / "adapter_config.json").is_file():
            raise ValueError(
                f"{model} is an adapter, and the engine 'vllm' takes whole models. Merge it first (PeftModel.merge_and_unload), "
                f"or take engine 'transformers'."
            )
        for fixed in ("seed", "logprobs_mode"):
            if fixed in options:
                raise ValueError(f"The engine 'vllm' sets {fixed} itself. Leave it out of the engine's options.")
        self.options = options

    def identity(self):
        """The options, without those that say only where and in how much memory vLLM computes."""
        shaping = {key: value for key, value in self.options.items() if key not in PLACEMENT}
        return json.loads(json.dumps(shaping, sort_keys=True, default=str))

    def check(self, *, top_p):
        """See ``Engine.check``."""
        if "vllm" not in sys.modules and importlib.util.find_spec("vllm") is None:
            raise ValueError(_MISSING.format("there is no module vllm"))

    @cached_property
    def llm(self) -> Any:
        try:
            from vllm import LLM
        except ImportError as error:
            raise ValueError(_MISSING.format(error)) from None
        # processed: the log-probs of what is drawn from, temperature and top_p included; vLLM's default is the raw ones
        return LLM(model=self.model, logprobs_mode="processed_logprobs", seed=0, **self.options)

    def draw(self, prompt_ids, *, num_samples, seed, temperature, top_p, max_new_tokens):
        """See ``Engine.draw``."""
        llm = self.llm
        from vllm import SamplingParams

        params = [
            SamplingParams(
                n=num_samples,
                seed=spread(seed, index),
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_new_tokens,
                logprobs=0,  # that of the drawn token, and no others
                detokenize=False,
            )
            for index in range(len(prompt_ids))
        ]
        outputs = llm.generate([{"prompt_token_ids": list(ids)} for ids in prompt_ids], params, use_tqdm=False)
        return [[_draw(completion) for completion in output.outputs] for output in outputs]


def _draw(completion: Any) -> Draw:
    ids = list(completion.token_ids)
    return Draw(ids, float(sum(at[token].logprob for token, at in zip(ids, completion.logprobs, strict=True))))
