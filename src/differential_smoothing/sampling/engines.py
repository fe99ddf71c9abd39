"""The engines by name. A new engine is a subclass of ``Engine`` with ``draw``, and a line in ``ENGINES``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from .engine import Engine

__all__ = ["ENGINES", "make_engine"]

#: Name -> where its class is.
ENGINES = {
    "shared_prefix": "differential_smoothing.sampling.local:SharedPrefix",
    "transformers": "differential_smoothing.sampling.local:Transformers",
    "vllm": "differential_smoothing.sampling.vllm:VLLM",
    "vllm_server": "differential_smoothing.sampling.server:VLLMServer",
}


def make_engine(name: str, model: str, options: Mapping[str, Any] | None = None) -> Engine:
    """The engine of that name for ``model``. ValueError names an unknown engine or option, and the known ones."""
    if name not in ENGINES:
        raise ValueError(f"There is no engine {name!r}. Known: {', '.join(ENGINES)}.")
    module, _, attribute = ENGINES[name].partition(":")
    maker = getattr(importlib.import_module(module), attribute)
    taken = inspect.signature(maker).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    known = [n for n, p in taken.items() if n != "model" and p.kind is not inspect.Parameter.VAR_KEYWORD]
    for option in options or {}:
        if option == "model" or not (open_ended or option in known):
            raise ValueError(f"The engine {name!r} has no option {option!r}. It knows {', '.join(known) or 'none'}.")
    return maker(model, **(options or {}))
