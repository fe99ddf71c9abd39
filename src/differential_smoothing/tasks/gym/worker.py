"""The other process of ``reasoning_gym`` tasks: makes entries and scores answers, JSON lines in and out.

It runs as a plain file, so that it imports neither this package nor torch. The process itself touches no model text. Each
batch of answers is scored in a fork of it, under limits of memory and of processor time per answer; a fork that hangs or dies is
replaced in milliseconds, and what killed it is a wrong answer.

    {"settings": ..., "make": [[seed, index], ...]}           -> a line [{"question": ..., "answer": ..., "metadata": ...}, ...]
    {"settings": ..., "score": [[seed, index, answer], ...]}  -> a line [score or null, reason] for each, as soon as it is known
    anything that fails as a whole                            -> a line {"error": "..."}
"""

import ast
import builtins
import contextlib
import ctypes
import functools
import importlib
import json
import math
import os
import resource
import select
import signal
import sys
import time


def main(imports):
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # a scorer that prints must not write into the replies
        os.dup2(silence, stream)

    def reply(value):
        replies.write(json.dumps(value, default=str).encode() + b"\n")
        replies.flush()

    for line in requests:
        try:
            request = json.loads(line)
            settings = request["settings"]
            dataset_of, entry_of = opened(json.dumps([settings["dataset"], settings["options"]]), tuple(imports))
            if "make" in request:
                reply([entry_of(*place) for place in request["make"]])
            else:
                for score in scores(request["score"], dataset_of, entry_of, settings):
                    reply(score)
        except BrokenPipeError:
            return
        except BaseException as error:
            reply({"error": f"{type(error).__name__}: {error}"})


@functools.lru_cache(maxsize=8)
def opened(name_and_options, imports):
    """``dataset_of(seed)`` and ``entry_of(seed, index)`` for a data set with its options, given as JSON."""
    import reasoning_gym

    dataset, options = json.loads(name_and_options)
    for module in imports:
        importlib.import_module(module)

    @functools.lru_cache(maxsize=8)
    def dataset_of(seed):
        return reasoning_gym.create_dataset(dataset, seed=seed, **options)

    @functools.lru_cache(maxsize=65536)
    def entry_of(seed, index):
        return dataset_of(seed)[index]

    return dataset_of, entry_of


def scores(items, dataset_of, entry_of, settings):
    """Yields the score of every item, or None and a reason; whatever an answer does to its scorer, it costs its own score."""
    for seed, index, _ in items:
        entry_of(seed, index)  # made here, outside the limits and once for all forks
    done = slow = 0
    while done < len(items):
        # a batch full of answers that hang must not stall a training: after ten of them patience is a tenth
        patience = settings["time_limit"] / (1 if slow < 10 else 10)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                score_in_fork(items[done:], dataset_of, entry_of, settings["memory_mb"], patience, writing)
            finally:
                os._exit(0)
        os.close(writing)
        lines, silent = b"", False
        while done < len(items):
            deadline = time.monotonic() + 5 + 10 * patience
            while b"\n" not in lines:
                left = deadline - time.monotonic()
                silent = left <= 0 or not select.select([reading], [], [], left)[0]
                chunk = b"" if silent else os.read(reading, 65536)
                if not chunk or len(lines) > 65536:
                    break
                lines += chunk
            if b"\n" not in lines:
                break
            line, _, lines = lines.partition(b"\n")
            done += 1
            yield read_score(line)
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(reading)
        if done < len(items):
            done += 1
            if silent:
                slow, reason = slow + 10, f"no score within {5 + 10 * patience:g} s"
            elif os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
                slow, reason = slow + 1, f"no score within {patience:g} s of processor time"
            else:
                reason = "the scorer's process died"
            yield [None, reason]


def read_score(line):
    try:
        score, reason = json.loads(line)
        return [score if score is None else float(score), str(reason)[:200]]
    except (ValueError, TypeError, RecursionError):
        return [None, "the scorer wrote no score"]


def score_in_fork(items, dataset_of, entry_of, memory_mb, seconds, writing):
    os.setpgid(0, 0)
    os.closerange(3, writing)  # the requests and the replies are not this process's
    os.closerange(writing + 1, 256)
    with contextlib.suppress(OSError, ValueError, AttributeError):  # where the system has such things (Linux has)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the kernel ends an orphan
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + memory_mb * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    trusted = []
    builtins.eval = functools.partial(literal_unless_trusted, builtins.eval, trusted)
    for seed, index, answer in items:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process, whatever it is in the middle of
        entry = entry_of(seed, index)
        trusted[:] = strings(entry)
        try:
            score = float(dataset_of(seed).score_answer(answer, entry))
            result = [score, ""] if math.isfinite(score) else [None, f"the scorer gave {score}"]
        except BaseException as error:
            try:
                reason = f"{type(error).__name__}: {error}"[:200]
            except BaseException:
                reason = "an exception that cannot be written"
            result = [None, reason]
        os.write(writing, json.dumps(result).encode() + b"\n")


def literal_unless_trusted(real, trusted, source, *namespaces):
    """Stands for ``eval`` while answers are scored: some scorers evaluate the answer, which is then read as a literal.

    What the entry itself holds (an expression of the question) is evaluated. So is what sympy has made of an answer, which
    comes with its namespaces: without Python's builtins, and without the names that lead out of a namespace.
    """
    if not isinstance(source, str) or any(source in text for text in trusted):
        return real(source, *namespaces)
    if not namespaces:
        return ast.literal_eval(source)
    if "__" in source or "_frame" in source or "f_back" in source:
        raise ValueError("a name that no answer needs")
    names = {k: v for k, v in namespaces[0].items() if k in HARMLESS or not hasattr(builtins, k)}
    return real(source, {**names, "__builtins__": {}}, *namespaces[1:])


HARMLESS = {
    "abs",
    "max",
    "min",
    "pow",
    "round",
    "sum",
    "int",
    "float",
    "bool",
    "list",
    "tuple",
    "dict",
    "set",
    "complex",
}


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from strings(part)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
