"""A sampling job in files: finished parts one by one, by one process or several machines, and joined at the end.

Beside ``x.parquet`` stands ``x.parquet.parts/`` with ``00000.parquet``, ``00001.parquet``, ... Each is a rollouts table that appears whole
or not at all, and names its job in its metadata, so that a part of another job is never joined. Whoever finds all parts
there joins them. Any process draws the same part, so at worst one is drawn twice.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from differential_smoothing.files import alone
from differential_smoothing.rollouts import join_rollouts, read_note, write_rollouts

from .jobs import Job

__all__ = ["read_shard", "sample_to_file"]


def sample_to_file(
    job: Job, output: Path, *, shard: tuple[int, int] = (1, 1), on_problems: Callable[[int], None] = lambda done: None
) -> bool:
    """Draw what is missing of ``job`` into parts beside ``output``, and join them into it once all are there.

    Args:
        output: the rollouts table. Its note says what the job was.
        shard: (i, n) draws every n-th part, from the i-th on; (1, 1) all. Machines that share a folder take one each.
        on_problems: called with the number of problems done, in this shard.

    Returns whether ``output`` is there: not as long as other shards are at work. Without shards the parts are then deleted, if
    no other process is at work on them; with them they stay, because another machine may be reading them.

    ValueError if there are more shards than parts, if ``output`` or a part is there and belongs to another job, naming what differs, or if another process is at
    work on the same shard. Parts that are done are kept whatever happens.
    """
    at, of = shard
    if of > job.num_parts:
        raise ValueError(
            f"--shard {at}/{of}: the job has {job.num_parts} part(s), of {job.step} problems with {job.num_samples} completions each, so "
            f"{of - job.num_parts} of the {of} shards would have nothing to do. Take at most {job.num_parts}."
        )
    folder = parts_of(output)
    identity = job.identity()
    if output.exists():
        if read_job(output) != identity or (of == 1 and not folder.is_dir()):
            raise ValueError(f"{output} exists and was not touched. Choose another --output, or delete it.")
        on_problems(len(job.problems))
        if of == 1:
            with _at_work(folder) as held:
                _delete(folder, held)
        return True
    files = [folder / f"{index:05d}.parquet" for index in range(job.num_parts)]
    _check_parts(folder, files, identity)
    busy = (
        f"Another process is at work on shard-{at}-of-{of} in {folder}. Wait until it is done or stop it, then run this again; several "
        f"machines take a --shard each."
    )
    with _at_work(folder) as held, alone(folder / f"shard-{at}-of-{of}.lock", busy):
        try:
            done = 0
            for index in range(at - 1, job.num_parts, of):
                if not files[index].is_file():
                    write_rollouts(job.part(index), files[index], note={"job": identity, "part": index})
                done += len(job.problems[index * job.step : (index + 1) * job.step])
                on_problems(done)
            if not all(file.is_file() for file in files):
                return False
            _check_parts(folder, files, identity)
            whole = folder / f"joined-{at}-of-{of}"  # a kill in between leaves nothing outside the folder
            join_rollouts(files, whole, note={"job": identity})
            whole.replace(output)
        finally:
            if of == 1 and (output.exists() or not any(file.is_file() for file in files)):
                _delete(folder, held)
    return True


def read_shard(text: str) -> tuple[int, int]:
    """``"3/8"`` -> (3, 8). ValueError unless it is 1 <= i <= n."""
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and len(i) < 7 and len(n) < 7 and 1 <= int(i) <= int(n)):
        raise ValueError(f"--shard is 'i/n' with 1 <= i <= n, as in 3/8: part 3 of 8; got {text!r}.")
    return int(i), int(n)


def parts_of(output: Path) -> Path:
    """The folder of the parts of the table ``output``."""
    return output.with_name(output.name + ".parts")


def read_job(path: Path) -> dict[str, Any] | None:
    """What the job behind a rollouts table was; None if it does not say."""
    note = read_note(path)
    return None if note is None else note.get("job")


def _check_parts(folder: Path, files: list[Path], identity: dict[str, Any]) -> None:
    """ValueError if there is a part of another job, or one that cannot be read."""
    known = {file.name for file in files}
    for file in sorted(folder.glob("*.parquet")):
        note = read_note(file) or {}
        found = note.get("job") or {}
        differing = [key for key in {**identity, **found} if found.get(key) != identity.get(key)]
        if not differing and file.name not in known:
            raise ValueError(f"{file} does not belong to this job, which has {len(files)}. Move it away.")
        if differing or note.get("part") != int(file.stem):
            differences = ", ".join(
                f"{key} is {found.get(key)!r} there and {identity.get(key)!r} here" for key in differing[:3]
            )
            raise ValueError(
                f"{file} belongs to another job: {differences or 'it says it is another part'}. Nothing was changed. Choose another "
                f"--output, or delete {folder} to start over."
            )


@contextmanager
def _at_work(folder: Path) -> Iterator[IO[str]]:
    """Make ``folder`` if need be and share its lock with all who draw parts into it, so that no other process deletes it meanwhile."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / "folder.lock"
        try:
            held = lock.open("w")
        except FileNotFoundError:  # deleted in between
            continue
        with held:
            fcntl.flock(held, fcntl.LOCK_SH)
            try:
                there = os.path.samestat(lock.stat(), os.fstat(held.fileno()))
            except FileNotFoundError:
                there = False
            if there:  # and not deleted by another process meanwhile
                yield held
                return


def _delete(folder: Path, held: IO[str]) -> None:
    """Delete ``folder`` if no other process works in it; otherwise the last one deletes it."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    shutil.rmtree(folder)
