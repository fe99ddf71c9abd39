"""The claims about one expected training step of one-token answers: the biases of GRPO, and what each part of DS-GRPO does about them."""

from __future__ import annotations

import numpy as np

from differential_smoothing.tabular import biases as bias
from differential_smoothing.tabular.claims.verdict import NOT, PASS, Case, Claim, case, claim, written
from differential_smoothing.tabular.closed_form import measure, prompt
from differential_smoothing.tabular.divergences import Floats

__all__ = ["RATES", "every_answer", "rate", "reinforcement", "selection"]


def selection(cases: list[Case]) -> Claim:
    """Does the chance of being in a group that teaches rise with the probability?"""
    margins, share = _all_rises(cases, 8, "selected")
    return claim(
        "Selection bias",
        "The likelier of two correct answers is likelier to be in a group of 8 that teaches",
        margins,
        f"1-(1-pi)^G - C^G + (C-pi)^G rises with pi; {share}",
        tolerance=1e-12,
    )


def reinforcement(cases: list[Case], size: int, expected: str) -> Claim:
    """Does the logit gain rise with the probability, in groups of ``size``? Strictly, where ``expected`` is not PASS."""
    margins, share = _all_rises(cases, size, "gain", strict=expected != PASS)
    if expected == PASS:
        note = f"up pi / selected, and selected is concave in pi; strictly for G >= 3; {share}"
    else:
        given = prompt([1 / 4, 2 / 4, 1 / 4], 2)
        gain = bias.biases(given.log_p, given.correct, size).gain[0]
        note = (
            f"a mixed pair holds one correct answer, so every one gains the same in logit; the bias needs G >= 3. Counterexample: "
            f"{written(given)}: {gain[0]:.4f} and {gain[1]:.4f}; {share}"
        )
    return claim(
        f"Reinforcement bias, G = {size}",
        "When such a group holds it, the likelier of two correct answers gains more logit",
        margins,
        note,
        expected=expected,
        tolerance=1e-9 if expected == PASS else 0.0,
    )


def _all_rises(cases: list[Case], size: int, what: str, strict: bool = False) -> tuple[Floats, str]:
    """The least rise of every prompt that has one, the smallest example included, and how many prompts have none."""
    cases = [*cases, case([1 / 4, 2 / 4, 1 / 4], 2)]
    margins = np.concatenate([_rises(case, size, what, strict) for case in cases])
    dropped = sum(len(case.beta) for case in cases) - len(margins)
    return (margins, f"{dropped} prompts left out: one correct answer, near ties, or too rare to tell from rounding")


def _rises(case: Case, size: int, what: str, strict: bool = False) -> Floats:
    """Least relative rise of a bias from one correct answer to the next likelier, per prompt with two that differ and are seen."""
    p = np.where(case.prompts.correct, case.prompts.log_p, np.nan)
    value = getattr(bias.biases(case.prompts.log_p, case.prompts.correct, size), what)
    order = np.argsort(p, axis=1)  # NaN last
    p, value = np.take_along_axis(p, order, 1), np.take_along_axis(value, order, 1)
    wrong = measure(case.prompts, case.prompts.log_p).log_wrong
    # where an answer is rarer than 1e-12, or nothing is wrong but 1e-6, the differences are rounding
    seen = (np.diff(p, axis=1) > 1e-6) & (p[:, :-1] > -27) & (wrong > -14)[:, None]
    value = np.nan_to_num(value, posinf=0.0)
    rise = np.where(seen, np.diff(value, axis=1) / np.where(seen & (value[:, 1:] > 0), value[:, 1:], 1.0), np.inf)
    if strict:
        rise = rise - 1e-9
    least = rise.min(1)
    return least[np.isfinite(least)]


def every_answer(cases: list[Case]) -> Claim:
    """Does one expected step raise every correct answer?"""
    margins = []
    for prompts, _, _ in [*cases, case([1 / 10, 7 / 10, 2 / 10], 2)]:
        gain = bias.biases(prompts.log_p, prompts.correct, 8).probability_gain
        margins.append(np.nanmin(np.where(prompts.correct, gain, np.nan), 1))
    return claim(
        "GRPO raises every correct answer",
        "One expected GRPO step raises the probability of every correct answer",
        np.concatenate(margins),
        f"it lowers those with pi up < sum pi g, the policy's mean logit gain. Counterexample: {written(prompts)}, G = 8: "
        f"{gain[0, 0]:+.4f} and {gain[0, 1]:+.4f} per unit step",
        expected=NOT,
        tolerance=1e-15,
    )


_WHERE = "One-token answers (one softmax), first order: "
RATES = {
    "GRPO collapses": (
        -1,
        "grpo",
        PASS,
        "one expected GRPO step never raises the entropy among correct answers",
        "-up C V1",
    ),
    "centred gamma_p restores": (
        1,
        "gamma_p_centred",
        PASS,
        "the centred term (center=True) never lowers the entropy among correct answers",
        "+kept C V2",
    ),
    "gamma_p restores": (
        1,
        "gamma_p",
        NOT,
        "the term as published, -gamma_p log pi at the advantage, never lowers the entropy among correct answers",
        "C (V2 - (1-C) |mu| V1): it pushes all correct answers up, the likely ones more. Holds if (1-C) |mu| V1 <= V2, so near C = 1",
    ),
    "gamma_n restores": (
        1,
        "gamma_n",
        NOT,
        "the term on wrong answers, +gamma_n log pi, does not lower the entropy among correct answers",
        "it always does: -C |sum_wrong pi log pi| V1. What leaves the wrong answers goes to correct ones in proportion to pi",
    ),
}


def rate(cases: list[Case], name: str) -> Claim:
    """The sign of one row of the table in ``biases``: ``name`` is a key of ``RATES``."""
    sign, which, expected, statement, note = RATES[name]
    given = case([1 / 4, 2 / 4, 1 / 4] if which == "gamma_n" else [2 / 10, 1 / 10, 7 / 10], 2)
    rates = [
        sign * getattr(bias.diversity_rates(c.prompts.log_p, c.prompts.correct, 8), which) for c in [*cases, given]
    ]
    if expected != PASS:
        note = f"{note}. Counterexample: {written(given.prompts)}: {rates[-1][0]:+.4f} nats per unit step and gamma"
    return claim(name, _WHERE + statement, np.concatenate(rates), note, expected=expected, tolerance=1e-14)
