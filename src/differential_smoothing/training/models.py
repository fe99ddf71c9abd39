"""The model behind a name, and the form in which it is trained: its folder, its number format, its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from differential_smoothing.sampling.number_format import quick_dtype
from differential_smoothing.training.base_model import SHIPPED_BASES
from differential_smoothing.training.packaged import checkpoint_of_gguf, find_gguf

if TYPE_CHECKING:
    from differential_smoothing.integrations.trl import DSGRPOConfig
from .options import RunArguments

__all__ = ["frozen_dtype", "lora", "resolve_model"]


def resolve_model(model: str) -> str:
    """The folder or Hub name behind ``model``: ``base`` and ``base:graph_color`` are the shipped ones, a GGUF file becomes a folder.

    ValueError if a folder has no model.
    """
    if model in SHIPPED_BASES:
        return str(SHIPPED_BASES[model])
    if (gguf := find_gguf(model)) is not None:
        return str(checkpoint_of_gguf(gguf))
    folder = Path(model)
    if folder.is_dir() and not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{model!r} is a folder without config.json, so it holds no model. A run's trained model is in its "
            f"'model' folder, its checkpoints in 'checkpoint-N'."
        )
    if not folder.exists() and (model.startswith((".", "/", "~")) or model.count("/") > 1):
        raise ValueError(f"There is no model folder {model!r}. Give a folder, 'base', or a Hub name 'owner/model'.")
    return model


def frozen_dtype(run: RunArguments, config: DSGRPOConfig, model: str) -> str | None:
    """``"bfloat16"`` where an adapter is trained on a CPU over weights that are quicker so: see ``number_format``. None: the host's, float32.

    Weights that are trained themselves stay in float32: bfloat16 has 8 bits, and a step smaller than 1/256 of a weight would be lost.
    """
    import torch

    on_cpu = config.use_cpu or not config.n_gpu
    chosen = "dtype" in (config.model_init_kwargs or {}) or config.bf16
    return "bfloat16" if run.lora_r and on_cpu and not chosen and quick_dtype(model) == torch.bfloat16 else None


def lora(model: str, rank: int, last: int):
    """PEFT's config of an adapter on the linear layers of the ``last`` layers, 0: of all; None for rank 0. ValueError for more layers than there are."""
    if not rank:
        return None
    from peft import LoraConfig

    options = {"r": rank, "lora_alpha": 2 * rank, "task_type": "CAUSAL_LM"}
    if not last:
        return LoraConfig(target_modules="all-linear", **options)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    layers = config.get_text_config().num_hidden_layers
    if last > layers:
        raise ValueError(f"lora_last={last} is more than the {layers} layers of {model}.")
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    linear = {name for name, module in network.base_model.named_modules() if isinstance(module, torch.nn.Linear)}
    names = sorted({name.rpartition(".")[2] for name in linear})
    return LoraConfig(target_modules=names, layers_to_transform=list(range(layers - last, layers)), **options)
