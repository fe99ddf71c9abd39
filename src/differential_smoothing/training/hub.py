"""What a model's name stands for: its config and tokenizer, from a folder, the cache or the Hub, without its weights.

Every failure on the way is reported in one paragraph: its cause and what to do. ``Unreachable`` means that nothing is
known to be wrong: the Hub could not be asked. Everything else is a mistake and a ValueError. Run against a local server that answers
with the Hub's status codes and headers, not against the Hub itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = ["Unreachable", "explain", "load_config", "load_tokenizer"]

SECONDS = 10  # for the first question; transformers itself would try for almost a minute


class Unreachable(Exception):
    """The Hub could not be asked, and the cache does not have it; the message is for the user."""


def load_config(name: str, *, known: Sequence[str] = ()) -> PretrainedConfig:
    """The config of a model folder or Hub name. ``known``: names to suggest for a misspelt one.

    ValueError for a wrong name; Unreachable if the Hub cannot be asked.
    """
    from transformers import AutoConfig

    folder = Path(name)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{name!r} holds a LoRA adapter and no model. Merge it into its base (PeftModel.from_pretrained(...).merge_and_unload()) "
            f"and save that, or name the base itself."
        )
    return _load(AutoConfig, name, known)


def load_tokenizer(name: str, *, known: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or Hub name; errors as in ``load_config``."""
    from transformers import AutoTokenizer

    return _load(AutoTokenizer, name, known)


def _load(auto: Any, name: str, known: Sequence[str]) -> Any:
    try:
        if not Path(name).is_dir():
            try:  # what is in the cache needs no network
                return auto.from_pretrained(name, local_files_only=True)
            except (OSError, ValueError):
                _ask(name)
        return auto.from_pretrained(name)
    except Exception as error:
        raise explain(error, name, known=known) from error


def _ask(name: str) -> None:
    """One quick question, so that a wrong name or no network is reported at once and not after all of transformers' retries."""
    from huggingface_hub import HfApi, constants

    if not constants.HF_HUB_OFFLINE:
        HfApi().model_info(name, timeout=SECONDS)


def explain(error: BaseException, name: str, *, known: Sequence[str] = ()) -> ValueError | Unreachable:
    """What went wrong while ``name`` was loaded, as an exception with one paragraph for a person.

    Reads the exceptions of huggingface_hub behind those of transformers and datasets, whose own texts are the same for several causes.
    """
    from huggingface_hub import constants, errors

    chain = list(_chain(error))

    def among(*kinds: type) -> Any:
        return next((e for e in chain if isinstance(e, kinds)), None)

    if already := among(Unreachable):
        return already
    status = next((response.status_code for e in chain if (response := getattr(e, "response", None)) is not None), None)
    if among(errors.GatedRepoError):  # a RepositoryNotFoundError to the library, so it comes first
        return ValueError(
            f"{name!r} is gated: its owners give it to those who have accepted their conditions. Log in on the Hub's page of "
            f"{name}, accept them there, then log in on this machine too: hf auth login, or set HF_TOKEN."
        )
    if among(errors.RepositoryNotFoundError):
        close = difflib.get_close_matches(name, known, n=1)
        return ValueError(
            f"There is no {name!r} on the Hub, or it is private and this machine is not logged in, and there is no such folder."
            + (f" Did you mean {close[0]!r}?" if close else " Check the spelling, 'owner/name'.")
            + " For a private one: hf auth login, or set HF_TOKEN."
        )
    if among(errors.HFValidationError):
        return ValueError(f"{name!r} is neither a folder nor a name on the Hub, which has the form 'owner/name'.")
    if status in (401, 403):
        return ValueError(
            f"The Hub refuses this machine's token for {name!r} (status {status}): it is wrong, expired or may not read this. Make a "
            f"new one on the Hub, then hf auth login or HF_TOKEN; without a token public models can be read too."
        )
    if status is not None and (status >= 500 or status == 429):
        return Unreachable(
            f"The Hub did not answer for {name!r}: "
            + ("too many requests (429)" if status == 429 else f"it has a fault of its own ({status})")
            + ". Nothing is known to be wrong with the name. Try again in some minutes."
        )
    if constants.HF_HUB_OFFLINE and among(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError):
        return Unreachable(
            f"{name!r} is not in this machine's cache, and HF_HUB_OFFLINE forbids to ask the Hub. Unset it, or fetch it where there is "
            f"a network: hf download {name}."
        )
    if among(errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) or any(_of_transport(e) for e in chain):
        return Unreachable(
            f"The Hub cannot be reached from here, and {name!r} is not in this machine's cache. Check the network (and HF_ENDPOINT, "
            f"HTTPS_PROXY if you set them), or fetch it elsewhere with hf download {name} and name the folder."
        )
    if among(errors.EntryNotFoundError):
        return ValueError(
            f"{name!r} is on the Hub but lacks a file that is needed (config.json or a tokenizer's). Only models in transformers' "
            f"format can be trained: a GGUF or an adapter cannot."
        )
    words = " ".join(str(error).split())
    if "instantiate the backend tokenizer" in words:
        return ValueError(
            f"{name!r} has no tokenizer in transformers' format (tokenizer.json or the like). Save one beside the model, or name a "
            f"model that has one."
        )
    if "model_type" in words or "does not recognize this architecture" in words:
        from transformers import __version__

        return ValueError(
            f"{name!r} has no config.json that transformers {__version__} can read: it is not in transformers' format, or of a "
            f"kind newer than that. Upgrade transformers, or name another model. (Its words: {words:.200})"
        )
    return ValueError(f"{name!r} cannot be loaded: {words:.400}")


def _of_transport(error: BaseException) -> bool:
    """Whether an HTTP library could not reach anybody. Which library it is depends on the version of huggingface_hub."""
    return any(
        kind.__name__ in ("TransportError", "RequestException")
        and kind.__module__.split(".")[0] in ("httpx", "httpx2", "requests")
        for kind in type(error).__mro__
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 20:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
