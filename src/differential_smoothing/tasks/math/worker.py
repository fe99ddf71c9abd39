"""The process in which sympy runs: started by ``pool``, a program of its own, never imported by a trainer.

One process loads math-verify once and then does nothing but fork: its child answers requests, one line of JSON each, and is
killed by its own alarm when a request takes longer than ``SECONDS``, or refuses when it would take more than ``MEMORY``. The
parent sees that, answers in its place and forks the next child, which costs milliseconds because everything is loaded. No
Python handler is involved, so a single big-integer power cannot delay it. At the end of its input it exits.

The alarm counts processor time: on a machine busy with training the clock would call slow what is not, and a right answer wrong
by chance. Where a core is free the two are the same. ``PATIENCE`` on the clock is for a machine that stands still.

Requests: ``["read", text]`` is this readable; ``["same", gold, answer]``; ``["form", text]`` a normal form. Replies:
``[value, reason]``.

math-verify decides what is equal. It is asked for too much here and there, and ``_agree`` takes back what is not: it rounds to six
decimals whatever the size of the numbers, and compares equations by solving them for something.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import sys

SECONDS = 0.8  # of processor time, for one request; with the hand-over it stays under one second
PATIENCE = 20.0  # seconds of the clock
MEMORY = 1 << 30  # bytes of address space
REQUESTS = 5000  # then a fresh child takes over: sympy's caches grow
EXACT, ROUNDED = (
    1e-10,
    1e-4,
)  # relative tolerance without and with a decimal fraction; the latter beside six decimals
ENDED = {signal.SIGPROF: "took longer than 1 s", signal.SIGALRM: "not compared: the machine is too busy"}

_WARM = [("\\frac{\\sqrt{3}}{2}", "0.8660254"), ("(-\\infty,2)\\cup[3,\\infty)", "x<2"), ("x^2-1", "(x-1)(x+1)"),
         ("5", "x>5"), ("1<x<2", "(1,2)"), ("\\{1,2\\}", "1,2"), ("y=2x+3", "2x-y+3=0"), ("2\\pi", "6.3"),
         ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\3\\end{pmatrix}"), ("\\sin x", "\\cos x")]  # fmt: skip


def _read(text):
    """The sympy object that math-verify reads in ``text``, or None. Units and boxes have been taken off before."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # its units include single letters: "3t" would be 3
    normal = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    config = [LatexExtractionConfig(normalization_config=normal)]
    found = parse(f"${text}$", config, fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def _ends(x):
    """A number written with finitely many decimals: 0.25 and 1/4, not 1/3 and not pi."""
    import sympy

    if isinstance(x, sympy.Rational):
        q = x.q
        for prime in (2, 5):
            while q % prime == 0:
                q //= prime
        return q == 1
    return isinstance(x, sympy.Float)


def _numbers_agree(a, b):
    import sympy

    a, b = a.doit(), b.doit()
    rounded = (a.has(sympy.Float) or b.has(sympy.Float)) and not (_ends(a) and _ends(b))
    names = sorted(a.free_symbols | b.free_symbols, key=str)
    # a point of no special meaning; the answers were called equal, so one point where they differ refutes it
    point = {name: sympy.Rational(7393 + 977 * i, 5000) for i, name in enumerate(names)}
    a, b = sympy.N(a.subs(point), 30), sympy.N(b.subs(point), 30)
    if not (a.is_number and b.is_number) or a == b or a.has(sympy.nan) or b.has(sympy.nan):
        return True
    size = max(abs(a), abs(b))
    return bool(abs(a - b) <= (ROUNDED if rounded else EXACT) * size)


def _equations_agree(a, b):
    """The same equation up to a factor: x = 5 and 2x = 10, but not y = x^2 and x = sqrt(y)."""
    import sympy

    left, right = a.lhs - a.rhs, b.lhs - b.rhs
    ratio = sympy.simplify(left / right)
    return not ratio.free_symbols and ratio.is_nonzero is True


def _agree(a, b):
    """False where two answers that math-verify called equal plainly are not. Recurses into sets, tuples, matrices."""
    import sympy
    from sympy.core.relational import Equality

    if isinstance(a, Equality) and isinstance(b, Equality):
        try:
            return (a.lhs == b.lhs and _agree(a.rhs, b.rhs)) or _equations_agree(a, b)
        except Exception:
            return False
    a, b = (x.rhs if isinstance(x, Equality) else x for x in (a, b))
    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
        return _numbers_agree(a, b)
    if isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase):
        return a.shape == b.shape and all(map(_agree, a.flat(), b.flat()))
    if any(isinstance(x, sympy.FiniteSet) and _inequality(y) for x, y in ((a, b), (b, a))):
        return False  # -2 < x < 2 is not {-2, 2}
    if isinstance(a, sympy.FiniteSet) and isinstance(b, sympy.FiniteSet):
        return all(any(_agree(x, y) for y in b.args) for x in a.args) and all(
            any(_agree(x, y) for x in a.args) for y in b.args
        )
    if isinstance(a, sympy.Tuple) and isinstance(b, sympy.Tuple):
        return len(a) == len(b) and all(map(_agree, a.args, b.args))
    if isinstance(a, sympy.Interval) and isinstance(b, sympy.Interval):
        return _agree(a.start, b.start) and _agree(a.end, b.end)
    return True


def _inequality(x):
    from sympy.core.relational import Equality, Relational

    if isinstance(x, Relational):
        return not isinstance(x, Equality)
    return any(map(_inequality, getattr(x, "_unsorted_args", ()) or getattr(x, "args", ())))


def _joined(text, parsed):
    """``x < 2 or x > 3`` as a set: math-verify reads a set of two relations."""
    import sympy

    args = getattr(parsed, "args", ())
    join = sympy.Union if " or " in text else sympy.Intersection if " and " in text else None
    if join is None or not isinstance(parsed, sympy.FiniteSet) or not all(map(_inequality, args)):
        return parsed
    return join(*(x.as_set() for x in args)) if len(parsed.free_symbols) == 1 else parsed


def _vector(x):
    """The entries of a row or column, of a tuple, or of an open interval, which is how math-verify reads (1, 2)."""
    import sympy

    if isinstance(x, sympy.MatrixBase) and 1 in x.shape:
        return list(x)
    if isinstance(x, sympy.Tuple):
        return list(x)
    return [x.start, x.end] if isinstance(x, sympy.Interval) and x.is_open else None


def same(gold, answer):
    from math_verify import verify

    a, b = _read(gold), _read(answer)
    if a is None:
        return None, "the gold answer cannot be read"
    if b is None:
        return False, "cannot be read as mathematics"
    import sympy

    a, b = _joined(gold, a), _joined(answer, b)
    if isinstance(a, sympy.MatrixBase) != isinstance(b, sympy.MatrixBase) and None not in (
        _vector(a),
        _vector(b),
    ):
        a, b = (sympy.Matrix(_vector(x)) for x in (a, b))
    # gold first: math-verify's verify is not symmetric
    equal = verify(a, b, timeout_seconds=None, allow_set_relation_comp=True)
    if not equal and isinstance(a, sympy.Equality) and isinstance(b, sympy.Equality):
        equal = True  # x = 5 and 2x = 10: for _agree to say
    equal = equal and _agree(a, b)
    return bool(equal), "" if equal else "differs from the gold answer"


def read(text):
    return _read(text) is not None, ""


def form(text):
    """A normal form as text, for counting equal answers; None if unreadable."""
    import sympy

    def normal(x):
        if isinstance(x, sympy.FiniteSet):
            return "{" + ", ".join(sorted(map(normal, x.args))) + "}"
        if isinstance(x, sympy.Tuple):
            return "(" + ", ".join(map(normal, x.args)) + ")"
        if isinstance(x, sympy.MatrixBase):
            return str([[normal(y) for y in row] for row in x.tolist()])
        x = x.doit() if hasattr(x, "doit") else x
        return str(sympy.simplify(sympy.nsimplify(x, rational=True))) if isinstance(x, sympy.Expr) else str(x)

    parsed = _read(text)
    return (None if parsed is None else normal(parsed)[:2000]), ""


OPERATIONS = {"same": same, "read": read, "form": form}


def _reply(value, reason):
    os.write(1, (json.dumps([value, reason]) + "\n").encode())


def _serve():
    """Answer requests until the input ends (True) or it is time for a fresh child (False)."""
    with contextlib.suppress(ValueError, OSError):  # macOS does not know this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for _ in range(REQUESTS):
        line = b""
        while not line.endswith(
            b"\n"
        ):  # one request is in flight at most, so no byte of the next one is taken
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
    for gold, answer in _WARM:  # so that every child starts with the parser's tables filled
        same(gold, answer)
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
