"""Files that are whole or not there, and folders that belong to one run."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["alone", "claim_folder", "whole", "write_text"]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write a file to, which takes the place of ``path`` when the block ends.

    An interruption leaves the old content or the new, never half of it; an exception also removes what was written. Missing folders are
    made. Several processes may write the same ``path``: the last one to end wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a sibling, because a file system replaces files atomically only within itself
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file so that an interruption leaves the old content or the new, never half of it."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def alone(lock: Path, refusal: str) -> Iterator[IO[str]]:
    """Hold the file ``lock``, which stays behind, empty; ValueError with the text ``refusal`` if another process does."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(refusal) from None
        yield held


@contextmanager
def claim_folder(
    folder: Path,
    definition: dict[str, Any],
    *,
    adopt: bool = False,
    open_to_change: tuple[str, ...] = (),
    may_grow: tuple[str, ...] = (),
) -> Iterator[None]:
    """Hold ``folder`` as the home of what ``definition`` defines, alone, while the block runs.

    ``adopt`` takes a folder over that has no config.json although it is not empty. Keys that begin with one of ``open_to_change`` may
    differ from what the folder was, and are changed. Keys that begin with one of ``may_grow`` may be
    added or taken out; one that stays must keep its value. ValueError if it is another's, if something else is in it, or if another process is at
    work in it.
    """
    path, lock = folder / "config.json", folder / "lock"
    own = {path.name, lock.name}  # a folder with no more than these holds no work yet
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Choose another output folder.")
    others = (
        sorted(p.name for p in folder.iterdir() if p.name not in own and not p.name.endswith(".partial"))
        if folder.is_dir()
        else []
    )
    if others and not path.is_file() and not adopt:
        raise ValueError(
            f"{folder} holds {others[0]!r} and was not made by dsmooth (it has no config.json). Nothing was changed. "
            f"Choose another output folder."
        )
    definition = _flat(json.loads(json.dumps(definition, default=str)))
    existing = definition
    if path.is_file() and others:
        try:
            existing = dict(json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise ValueError(
                f"{path} cannot be read as a run's config. Nothing was changed. Choose another folder."
            ) from None
    keys = (k for k in {*existing, *definition} if not k.startswith(open_to_change))
    grown = {k for k in {*existing} ^ {*definition} if k.startswith(may_grow)}
    kept = {k: existing[k] for k in grown if k in existing}  # what was taken out comes back as it was, or not at all
    differing = sorted(k for k in keys if existing.get(k) != definition.get(k) and k not in grown)
    if differing:
        name = differing[0]
        raise ValueError(
            f"{folder} belongs to another run: it differs in {', '.join(differing[:5])} ({name} is "
            f"{existing.get(name)!r:.80} there and {definition.get(name)!r:.80} here). Nothing was changed. Choose "
            f"another output folder, or delete this one to start over."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with alone(lock, f"Another process is at work in {folder}. Wait until it is done or stop it, then run this again."):
        write_text(path, json.dumps({**kept, **definition}, indent=1, sort_keys=True) + "\n")
        yield


def _flat(definition: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"models": {"grpo": {"level": "sum"}}}`` -> ``{"models.grpo.level": "sum"}``: a difference has a short name."""
    flat: dict[str, Any] = {}
    for key, value in definition.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
