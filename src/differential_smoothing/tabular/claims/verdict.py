"""What a claim is, how margins become its verdict, and the instances that it is tried on.

PASS: holds on every instance, up to rounding. FAIL: refuted. "does not extend": a claim of the paper, or one that its reader
may expect, that is refuted as it stands; the note has the condition under which it holds and a small counterexample.
``expected`` is the verdict that this project states; anything else is news, and ``dsmooth tabular`` then exits with 1.
A margin is the least over instances of (better side - worse side), so that >= 0 is what the claim needs.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from differential_smoothing.tabular.closed_form import Prompts, prompt
from differential_smoothing.tabular.divergences import Floats
from differential_smoothing.tabular.theorem import TOLERANCE

__all__ = ["FAIL", "NOT", "PASS", "Case", "Claim", "case", "claim", "written"]

PASS, FAIL, NOT = "PASS", "FAIL", "does not extend"


class Claim(NamedTuple):
    """``margin`` is the worst over ``instances``, ``held`` the share of them on which the statement is true."""

    name: str
    statement: str
    verdict: str
    expected: str
    margin: float
    held: float
    instances: int
    note: str


class Case(NamedTuple):
    """A block with a random rule for each prompt: ``beta``, and ``strength`` = gamma / beta, each (B,)."""

    prompts: Prompts
    beta: Floats
    strength: Floats


def case(p: list[float], correct: int, strength: float = 0.5) -> Case:
    """One prompt at beta = 1: a counterexample, which joins the random instances so that no seed can miss it."""
    return Case(prompt(p, correct), np.ones(1), np.full(1, strength))


def written(given: Prompts) -> str:
    """``p = (1/6, 1/3 | 1/2)``: correct answers first."""
    parts = [
        ", ".join(str(Fraction(float(x)).limit_denominator(100)) for x in np.exp(given.log_p[0][part]))
        for part in (given.correct[0], ~given.correct[0])
    ]
    return f"p = ({' | '.join(parts)})"


def claim(name, statement, margins, note, *, expected=PASS, tolerance=TOLERANCE) -> Claim:
    """A verdict from margins: an instance holds if its margin is >= -tolerance; NaN (nothing to offer) does not hold.

    ``tolerance`` is one number, or one per margin: how far rounding may have moved it. NaN allows nothing.

    Where the claim is expected not to hold, an instance must refute it: NaN alone is not as expected.
    """
    margins = np.asarray(margins, dtype=np.float64)
    allowed = np.broadcast_to(np.nan_to_num(np.asarray(tolerance, dtype=np.float64)), margins.shape)
    held = margins >= -allowed
    refuted = bool((margins < -allowed).any())
    otherwise = expected if refuted and expected != PASS else NOT if expected == FAIL else FAIL
    verdict = PASS if held.all() else otherwise
    if expected == PASS and (undefined := int(np.isnan(margins).sum())):
        note = f"no margin on {undefined} of {len(margins)}, where nothing was found to compare; {note}"
    worst = np.nanmin(margins) if not np.isnan(margins).all() else np.nan
    return Claim(name, statement, verdict, expected, float(worst), float(held.mean()), len(margins), note)
