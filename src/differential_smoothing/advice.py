"""Advice before training: what a rule can change for a base model, from the base's own rollouts.

Three numbers of a base decide whether Differential Smoothing can lead GRPO at equal Pass@1 (README, "When it helps"):

variety    the chance that two correct samples of a problem differ. Without it there is nothing to keep.
groups     the shares of groups of G completions that are all correct, mixed, or all wrong. While most groups of a run are mixed, every rule
           mostly learns to be correct (``benchmarks/price.py``); rules differ once most groups are decided.
strength   the critical strength of the term at the base's success rates (``tabular.collapse``). Below it the policy collapses like GRPO's.

A base alone cannot tell whether a training will run until its groups are decided: that depends on its length and learning rate. The log of a
GRPO run of that length can (``evaluation.diagnosis.regime``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from differential_smoothing.advantages import ds_grpo_advantages, group_advantages
from differential_smoothing.evaluation.diagnosis.regime import DECIDED, Regime, regime_of
from differential_smoothing.tabular.collapse import node_balance, pooled
from differential_smoothing.tabular.oracle import expected_gradient
from differential_smoothing.tabular.trajectories import sequences

__all__ = ["VARIED", "Advice", "GroupShares", "advise", "group_shares", "price"]

#: Chance that two correct samples differ below which a base has hardly any variety to keep.
VARIED = 0.1
#: ``relative`` strength to start with, in units of the critical one: graph colouring held at 1.7 times it and collapsed at 0.9 times.
MARGIN = 1.7


class GroupShares(NamedTuple):
    """Expected shares of groups: ``all_correct``, ``mixed``, ``all_wrong``; they sum to 1."""

    all_correct: float
    mixed: float
    all_wrong: float


class Advice(NamedTuple):
    """The result of ``advise``.

    problems, success: number of problems, and their mean success rate.
    shares: of groups, before training.
    differ: chance that two correct samples of a problem differ, mean over problems with two or more; NaN if unknown.
    price: variety that the term (token level, ``gamma_p`` 0.4) loses per gain in success, relative to GRPO, at this mix of problems.
    critical: the term's strength -> its critical value at the base, keys "token" and "relative".
    regime: of the given log; None without one.
    verdict: "nothing to keep", "can lead", "cannot lead yet" (both from the log), or "depends on the training's length".
    sentences: the advice in words.
    """

    problems: int
    success: float
    shares: GroupShares
    differ: float
    price: float
    critical: Mapping[str, float]
    regime: Regime | None
    verdict: str
    sentences: tuple[str, ...]


def group_shares(n: Sequence[int], c: Sequence[int], group: int) -> GroupShares:
    """Unbiased shares of groups of ``group`` completions, from ``c`` (P,) correct ones among ``n`` (P,) samples per problem.

    A group is a draw without replacement from a problem's samples: all correct with the chance ``C(c, G) / C(n, G)``, all wrong with
    ``C(n - c, G) / C(n, G)``. ValueError if a problem has fewer than ``group`` samples.
    """
    if isinstance(group, bool) or not isinstance(group, int) or group < 2:
        raise ValueError(f"group must be a whole number of completions per prompt, at least 2; got {group!r}.")
    if len(n) == 0 or min(n) < group:
        raise ValueError(
            f"Groups of {group} need {group} scored samples or more of every problem; "
            f"{'there are no problems' if len(n) == 0 else f'one has {min(n)}'}. Sample more, or give the group size of your training."
        )
    right = np.mean([math.comb(int(k), group) / math.comb(int(m), group) for m, k in zip(n, c, strict=True)])
    wrong = np.mean([math.comb(int(m - k), group) / math.comb(int(m), group) for m, k in zip(n, c, strict=True)])
    return GroupShares(float(right), float(1 - right - wrong), float(wrong))


def price(success: Sequence[float] | NDArray[np.float64], *, gamma_p: float = 0.4, group: int = 8) -> float:
    """Variety lost per gain in success under the term, relative to GRPO: below 1 is cheaper, below 0 both rise.

    Exact expected steps of one-token answers, three correct and two wrong, summed over the success rates ``success`` (P,) of the problems; rates
    outside [0.02, 0.98] count as these. The same computation as ``benchmarks/price.py``, for a mix of problems.
    """
    rates = np.clip(np.asarray(success, dtype=np.float64), 0.02, 0.98)
    known = np.array([_step(float(rate), gamma_p, group) for rate in _GRID])  # (grid, 4)
    ds_gain, ds_loss, gain, loss = (np.interp(rates, _GRID, column).sum() for column in known.T)
    return float((ds_loss / ds_gain) / (loss / gain))


_GRID = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.98])
_CORRECT = np.array([True, True, True, False, False])


@cache
def _step(success: float, gamma_p: float, group: int) -> tuple[float, float, float, float]:
    """Gain in success and loss of entropy among correct answers, of DS and of GRPO, for one success rate; a mean over ten prompts."""
    rng = np.random.default_rng(0)
    answers = sequences([[i] for i in range(len(_CORRECT))])
    rules: tuple[Callable[..., Any], ...] = (partial(ds_grpo_advantages, gamma_p=gamma_p, gamma_n=0.0), _grpo)
    total = np.zeros(4)
    for _ in range(10):
        pi = np.concatenate([success * rng.dirichlet([3, 3, 3]), (1 - success) * rng.dirichlet([3, 3])])
        q = np.where(_CORRECT, pi / success, 1.0)
        entropy = -(q * np.log(q)).sum()
        for place, rule in enumerate(rules):
            step = expected_gradient(np.log(pi)[None], answers, _CORRECT, rule, group)[0]
            total[2 * place] += step @ (pi * (_CORRECT - success))
            total[2 * place + 1] += step @ np.where(_CORRECT, q * (np.log(q) + entropy), 0.0)
    return tuple(total)  # type: ignore[return-value]  # four numbers


def _grpo(rewards, logps, mask, *, correct, group):
    return group_advantages(rewards, group)[:, None].expand(mask.shape)


def advise(
    problems: pd.DataFrame, *, group: int = 8, tokens: int = 10, log: Sequence[Mapping[str, Any]] | None = None
) -> Advice:
    """What a rule can change in a GRPO training that starts from this base.

    Args:
        problems: one row per problem, with ``n`` scored samples, ``c`` correct ones, and ``differ``, the chance that two correct samples
            differ (NaN where unknown): the table of ``evaluation.counts``.
        group: completions per prompt in the training, G.
        tokens: tokens of a completion that decide about the answer, T.
        log: entries of a GRPO run's log, for its regime.

    ValueError if the table is empty, or has fewer than ``group`` samples of a problem.
    """
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise ValueError(f"tokens must be a whole number of tokens per answer, at least 1; got {tokens!r}.")
    problems = problems[problems["n"] > 0]
    n, c = problems["n"].to_numpy(), problems["c"].to_numpy()
    shares = group_shares(n, c, group)
    rates: NDArray[np.float64] = c / n
    two = problems.loc[problems["c"] >= 2, "differ"].dropna()
    differ = float(two.mean()) if len(two) else math.nan
    solved = rates[rates > 0]
    answers = 1 / (1 - min(differ, 0.99)) if not math.isnan(differ) else 2.0
    critical = {
        rule: pooled(
            solved,
            node_balance(
                np.minimum(solved, 1 - 1e-9) ** (1 / tokens),
                answers ** (1 / tokens),
                solved,
                rule,
                group,
                floor=0.2 * (rule == "relative"),
            ),
        )
        if len(solved)
        else math.inf
        for rule in ("token", "relative")
    }
    regime = None if log is None else regime_of(log)
    verdict = _verdict(differ, regime)
    found = Advice(
        len(problems), float(rates.mean()), shares, differ, price(rates, group=group), critical, regime, verdict, ()
    )
    return found._replace(sentences=tuple(_sentences(found, group, tokens)))


def _verdict(differ: float, regime: Regime | None) -> str:
    if differ < VARIED:
        return "nothing to keep"
    if regime is None or regime.verdict == "unknown":
        return "depends on the training's length"
    return "can lead" if regime.verdict == "decided" else "cannot lead yet"


def _sentences(advice: Advice, group: int, tokens: int) -> list[str]:
    shares = advice.shares
    lines = [
        f"{advice.problems} problems, success rate {advice.success:.1%}. Of groups of {group}, {shares.all_correct:.0%} are all correct, "
        f"{shares.mixed:.0%} mixed, {shares.all_wrong:.0%} all wrong (no gradient for GRPO in the first and the last)."
    ]
    if math.isnan(advice.differ):
        lines.append(
            "The variety of correct answers is unknown: the rollouts have no canonical answers (see --canonical)."
        )
    else:
        lines.append(f"Two correct samples of a problem differ with a chance of {advice.differ:.0%}.")
    if advice.verdict == "nothing to keep":
        return [
            *lines,
            f"Verdict: nothing to keep. Below {VARIED:.0%} a problem has in effect one correct answer. The term has no variety to protect: "
            "train with plain GRPO.",
        ]
    lines.append(
        f"At this mix a step of the term loses {advice.price:.2f} times as much variety as GRPO's for the same gain in success (1: no difference)."
    )
    lines.append(_reason(advice))
    if math.isinf(advice.critical["relative"]):
        return [
            *lines,
            "The base solves none of the problems, so no strength can be computed. Start from an easier task or a better base.",
        ]
    lines.append(
        f"Start with relative=True, gamma_p={MARGIN * advice.critical['relative']:.2g} ({MARGIN} times the critical strength for {tokens} deciding "
        f"tokens), or with variety_target=0.4, which finds gamma_p. A constant gamma_p at the level token is critical at "
        f"{advice.critical['token']:.2g} here; long runs at a high learning rate need more (docs/theory.md)."
    )
    lines.append(
        "Watch the log: ds/logp_correct on its way to 0 early in training means too weak; ds/correct that hardly rises while "
        "frac_reward_zero_std stays low means too strong."
    )
    return lines


def _reason(advice: Advice) -> str:
    """The verdict of a base with variety, and its reason."""
    if advice.regime is None or advice.regime.verdict == "unknown":
        return (
            "Verdict: depends on the training's length, which a base alone cannot tell. Rules differ once most groups are decided: train GRPO "
            f"until frac_reward_zero_std is above {DECIDED:.1f}, and give its folder as --log."
        )
    end = f"The given run ends with {advice.regime.end['decided']:.0%} of its groups decided"
    if advice.verdict == "can lead":
        return f"Verdict: can lead. {end}, at least {DECIDED:.0%}: rules differ there."
    return (
        f"Verdict: cannot lead yet. {end}, fewer than {DECIDED:.0%}: rules can hardly differ. Train longer or at a higher learning rate; or keep "
        "this length, where GRPO at a lower learning rate does as well."
    )
