"""Countdown: combine the given numbers, each exactly once, with + - * / and parentheses to reach a target.

The task of the paper with the highest *solution multiplicity*: most problems have several correct answers that differ
in more than spelling, so one can see a policy keep or lose its variety. This package holds the whole task:

* ``generate``     seeded problems; train, dev and test never share a problem, whatever the seed
* ``solve``        every canonical solution of a problem, in exact arithmetic
* ``verify``       is this text a solution? Model output is hostile input: nothing is evaluated, nothing raises
* ``canonical``    what makes two correct answers *the same* answer
* ``prompt``       the compact form for tiny models, the chat form for language models; ``read_prompt`` reads it back

**The language.** ``sum := product (('+'|'-') product)*``, ``product := atom (('*'|'/') atom)*``,
``atom := integer | '(' sum ')'``. An integer is ASCII digits without a leading zero. There are no unary signs and no
implied multiplication. Accepted on purpose, because they are right answers that a strict reader would refuse: white
space and new lines between tokens, redundant parentheses, the signs × ∗ · ⋅ ÷ − for * / -, and one trailing
``= target``. Everything else is wrong, with a reason. Division is exact, on rationals.

**The same answer.** ``canonical`` reads a sum as a multiset of signed terms and a product as a multiset of factors and
divisors, so commutation, association (``a-(b-c)`` is ``a-b+c``, ``a/(b/c)`` is ``a*c/b``) and redundant parentheses do
not make a new solution. Nothing is computed away: ``2*2`` and ``2+2``, ``a*1`` and ``a/1``, ``(a-b)*(c-d)`` and
``(b-a)*(d-c)`` are different solutions.
"""

from differential_smoothing.tasks.task import Verdict

from .expressions import MAX_CHARACTERS, Problem, canonical, shuffled, verify, verify_completion
from .problems import generate, prompt, read_problems, read_prompt, split_of
from .solver import count_solutions, solutions_by_target, solve
from .task import Countdown, countdown_canonical, countdown_correct, countdown_format

__all__ = [
    "MAX_CHARACTERS",
    "Countdown",
    "Problem",
    "Verdict",
    "canonical",
    "count_solutions",
    "countdown_canonical",
    "countdown_correct",
    "countdown_format",
    "generate",
    "prompt",
    "read_problems",
    "read_prompt",
    "shuffled",
    "solutions_by_target",
    "solve",
    "split_of",
    "verify",
    "verify_completion",
]
