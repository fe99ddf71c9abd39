"""Which number format a model is quickest in on a CPU: a rule, so that the same model on the same kind of processor is always read alike.

Processors with bfloat16 instructions (AVX512-BF16, AMX) multiply matrices two to five times as fast in bfloat16 as in float32. For models of a
width of a few hundred and more that decides; for narrower ones the conversions cost more than the products gain (measured: 3 times slower at
width 128). A checkpoint in float32 stays so: its weights would be rounded.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

__all__ = ["LEAST_WIDTH", "has_bfloat16", "quick_dtype"]

#: Narrower models stay in float32.
LEAST_WIDTH = 256


def has_bfloat16() -> bool:
    """Whether this processor has instructions for products in bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def quick_dtype(model: str) -> torch.dtype:
    """bfloat16 for a folder with weights in bfloat16 of width ``LEAST_WIDTH`` or more, where the processor has it; else float32.

    The folder of an adapter goes by its base model. A name on the Hub stays in float32.
    """
    config = _read(Path(model) / "config.json")
    if not config and (base := _read(Path(model) / "adapter_config.json").get("base_model_name_or_path")):
        config = _read(Path(base) / "config.json")
    text = config.get("text_config") or config
    stored = config.get("dtype") or config.get("torch_dtype")
    wide = (text.get("hidden_size") or 0) >= LEAST_WIDTH
    return torch.bfloat16 if stored == "bfloat16" and wide and has_bfloat16() else torch.float32


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
