"""The process in which answers are compared in many digits and brought to a normal form: started by ``pool``, a program of its own.

One process loads mpmath and sympy once and then does nothing but fork: its child answers requests, one line of JSON each, and is
killed by its own alarm when a request takes longer than ``SECONDS``, or refuses when it would take more than ``MEMORY``. The
parent sees that, answers in its place and forks the next child, which costs milliseconds because everything is loaded. No
Python handler is involved, so a single big-integer power cannot delay it. At the end of its input it exits.

The alarm counts processor time: on a machine busy with training the clock would call slow what is not, and a right answer wrong
by chance. Where a core is free the two are the same. ``PATIENCE`` on the clock is for a machine that stands still.

Requests: ``["same", gold, answer]``; ``["form", text]`` a normal form. Replies: ``[value, reason]``. What is compared and how is in ``terms``, which
is loaded without the package that it belongs to: that would load PyTorch.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # behind everything else

from terms.forms import form as form_of
from terms.judge import GoldUnreadable, judged
from terms.values import read as value_of

SECONDS = 0.8  # of processor time, for one request; with the hand-over it stays under one second
PATIENCE = 20.0  # seconds of the clock
MEMORY = 1 << 30  # bytes of address space
REQUESTS = 5000  # then a fresh child takes over: sympy's caches grow
ENDED = {signal.SIGPROF: "took longer than 1 s", signal.SIGALRM: "not compared: the machine is too busy"}

_WARM = [
    ("\\frac{\\sqrt{3}}{2}", "\\cos 30^\\circ"),
    ("\\frac{x+1}{x-1}", "1+\\frac{2}{x-1}"),
    ("2\\pi", "6.283185"),
    ("e^{2}", "\\exp(2)"),
]


def same(gold, answer):
    try:
        return judged(gold, answer, thorough=True)
    except GoldUnreadable:
        return None, "the gold answer cannot be read"


def form(text):
    """A normal form as text, for counting equal answers."""
    return form_of(value_of(text))[:2000], ""


OPERATIONS = {"same": same, "form": form}


def _reply(value, reason):
    os.write(1, (json.dumps([value, reason]) + "\n").encode())


def _serve():
    """Answer requests until the input ends (True) or it is time for a fresh child (False)."""
    with contextlib.suppress(ValueError, OSError):  # macOS does not know this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for _ in range(REQUESTS):
        line = b""
        while not line.endswith(b"\n"):  # one request is in flight at most, so no byte of the next one is taken
            part = os.read(0, 65536)
            if not part:
                return True
            line += part
        name, *texts = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            answer = OPERATIONS[name](*texts)
        except MemoryError:
            answer = None, "needs too much memory"
        except RecursionError:
            answer = None, "nested too deeply"
        except Exception as error:
            answer = None, f"cannot be compared ({type(error).__name__})"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(*answer)
    return False


def main():
    logging.disable(logging.CRITICAL)
    for alarm in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(alarm, signal.SIG_DFL)  # ends the process: no handler waits for sympy to return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.set_int_max_str_digits(4300)
    for gold, answer in _WARM:  # so that every child starts with the tables filled
        same(gold, answer)
        form(answer)
    _reply(True, "ready")
    while True:
        child = os.fork()
        if not child:
            ended = False
            try:
                ended = _serve()
            finally:
                os._exit(0 if ended else 3)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            _reply(None, ENDED.get(os.WTERMSIG(status), "stopped by its limits"))
        elif os.WEXITSTATUS(status) == 0:
            return


if __name__ == "__main__":
    main()
