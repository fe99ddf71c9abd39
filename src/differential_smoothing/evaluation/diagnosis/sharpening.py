"""The diagnosis: did training sharpen the model, how, and what should change? From samples before and after it.

Two biases make sharpening (arXiv 2511.19942): *selection*, a correct answer that the base model finds likely is more
often reinforced at all, and *reinforcement*, when it is, it gains more. Both are statements about the base's
probabilities, which samples know with noise only, and a rare answer that happened to be sampled looks likelier than it
is: compared naively, it "fades" even if nothing changed. So the samples before training are split at random: one half
says which answers there are and how likely each is, the other half stands for "no change" beside the samples after
training. Then the halves change places, and both results count.

* **Survival** of an answer found by one half: the chance that m samples find it again, after training minus in the
  other half, where m is the smaller of the two sample sizes (by ``pass_at_k``, without bias).
* **Reinforcement slope** s: among the correct answers of a problem, log pi_after = (1 + s) log pi_before + constant.
  s = 0 changes nothing or raises all correct answers alike; s > 0 sharpens; s = -1 makes them equally likely. For the
  counts a after training and b in the other half, and z the log-probability from the first half,

      sum over problems x, pairs (i, j) of a_i b_j (z_i - z_j) exp(-s (z_i - z_j) / 2) = 0

  has expectation zero at the true s whatever the probabilities are, since E[a_i b_j] exp(-s d/2) = E[a_j b_i] exp(s d/2)
  for d = z_i - z_j: no probability is estimated from the counts that are compared.
  z is the sampled log-probability where the tables have one, and the unit is then the completion. From samples alone the
  unit is the canonical solution, its probability has a gamma posterior given how often the first half had it (its shape
  taken from the other half, over all problems), and exp(s z) becomes E[p^(1 + s)] / E[p] under that posterior.
* **Variety**: the probability that two random correct answers of one problem differ (a U-statistic).
* **Given up**: problems that one half solves, and m samples after training never do, minus the other half's share.
* **Truncation**: where clearly more completions are cut at the token limit than before, Pass@k falls without any
  sharpening. The verdict then takes Pass@k of the completions that ended.

Intervals resample problems, and training seeds where there are several. The verdict "sharpened" asks
for 99.9% intervals of three signals (slope, variety, Pass@k), so that an unchanged model is called so about once in
500; "not sharpened" asks that the 95% intervals of all three exclude what would be worth acting on (`MARGIN`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..pass_at_k import pass_at_k
from ..unscored import unscored
from .before_after import Pair
from .findings import Bootstrap, Finding
from .verdict import FEWEST_PROBLEMS, judge

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    `verdict` is "sharpened", "not sharpened" or "cannot tell". `sentences` say it with its evidence, the last one what
    to do. The frames: `findings`, one row per quantity (finding, estimate, low, high, unit, problems, meaning);
    `survival`, by how often one half of the samples before had an answer (seen, share, before, after, change, low,
    high, answers); `modes`, the counts of each correct answer (prompt_id, canonical, before, after, n_before,
    n_after), and `problems` (prompt_id, n_before, c_before, distinct_before, n_after, c_after, distinct_after,
    given_up), both over all training seeds. Intervals are 95%.
    """

    before: str
    after: str
    verdict: str
    sentences: tuple[str, ...]
    findings: pd.DataFrame
    survival: pd.DataFrame
    modes: pd.DataFrame
    problems: pd.DataFrame


def diagnose(before: pd.DataFrame, after: pd.DataFrame, *, seed: int, replications: int = 2_000) -> Diagnosis:
    """Compare samples of one model `before` and `after` training: see the module for what is measured.

    Both are rollouts tables of one model and one step, on the same problems. If `after` has several training seeds,
    `before` has the same ones, or one. `seed` decides the halves and the resamples; the same seed gives the same
    digits. Unscored completions are left out, and a sentence counts them. Without canonical forms of the correct answers, and without
    log-probabilities and texts, what rests on them is NaN.

    Raises ValueError for tables that `counts` refuses, more than one model in a table, different problems, training
    seeds that cannot be paired, fewer than 4 scored completions of a problem on either side, the same samples
    on both sides, and a seed that is not
    a whole number >= 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"diagnose got seed = {seed!r}, expected a whole number >= 0. Choose one and report it.")
    if replications < 200:
        raise ValueError(f"diagnose got replications = {replications}, expected at least 200.")
    rng = np.random.default_rng(seed)
    pair = Pair(before, after, rng)
    boot = Bootstrap(pair.seeds, pair.num_problems, replications, rng)
    findings: dict[str, Finding] = {}
    # The verdict rests on half the samples: Pass@n of n samples is 0 or 1 per problem, several times as noisy.
    k = pair.common_n // 2
    for name, at in {f"pass@{at}": at for at in (1, k, pair.common_n)}.items():
        change = pass_at_k(pair.n_after, pair.c_after, at) - pass_at_k(pair.n_before, pair.c_before, at)
        findings[name] = boot.mean(change, "points", f"Change of Pass@{at}, after minus before.")
    differ_before, differ_after = pair.differ("before"), pair.differ("after")
    findings["variety"] = boot.mean(
        differ_after - differ_before,
        "share",
        "Change of the chance that two random correct answers to a problem differ.",
    )
    findings["reinforcement slope"] = boot.slope(
        pair.slope_terms(),
        "",
        "How fast the gain in log-probability among correct answers grows with log-probability before (ends at -1 and 10 stand for anything beyond).",
    )
    survival = pair.survival(boot)
    plenty = survival[survival["problems"] >= FEWEST_PROBLEMS]
    rare, common = (plenty.iloc[at] if len(plenty) > 1 else None for at in (0, -1))
    for name, row, meaning in (
        (
            "survival of rare answers",
            rare,
            "Change of the chance to find again a correct answer that was rarest before.",
        ),
        ("survival of common answers", common, "The same for correct answers that were most common before."),
    ):
        findings[name] = (
            Finding.undefined("share", meaning)
            if row is None
            else Finding(row["change"], row["low"], row["high"], "share", int(row["problems"]), meaning, None)
        )
    top, bottom, by_chance = pair.given_up_terms()
    given_up = boot.ratio(
        top,
        bottom,
        "share",
        "Problems solved before and never after, out of those solved before, minus what chance alone gives.",
    )
    if by_chance < 5 and given_up.problems:
        # So few losses by chance were seen that resampling them shows no spread: the rule of three bounds their share.
        given_up = replace(given_up, low=given_up.low - 3 / given_up.problems)
    findings["given up"] = given_up
    for kind, name in ((True, "correct"), (False, "incorrect")):
        findings[f"surprisal of {name}"] = boot.mean(
            pair.surprisal("after", kind) - pair.surprisal("before", kind),
            "nats",
            f"Change of the mean negative log-probability of {name} completions, each under its own model.",
        )
    findings["entropy discrepancy"] = boot.mean(
        (pair.surprisal("after", True) - pair.surprisal("after", False))
        - (pair.surprisal("before", True) - pair.surprisal("before", False)),
        "nats",
        "Change of surprisal of correct minus surprisal of incorrect completions.",
    )
    findings["variety of incorrect"] = boot.mean(
        pair.differ("after", correct=False) - pair.differ("before", correct=False),
        "share",
        "Change of the chance that two random incorrect completions of a problem differ.",
    )
    # Turned from the mean, since one problem whose answers all differ would have infinitely many.
    findings["solution multiplicity"] = boot.mean(
        differ_before,
        "answers",
        ("Effective number of correct answers to a problem before, 1 / (1 - mean chance that two differ)."),
    ).turned(lambda differ: 1 / (1 - np.minimum(differ, 1 - 1e-12)))
    if (cut := pair.cut("after") - pair.cut("before")).any():
        findings["truncation"] = boot.mean(cut, "share", "Change of the share of completions cut at the token limit.")
        findings[f"pass@{k} of ended"] = boot.mean(
            pair.change_among_ended(k), "points", f"Change of Pass@{k} of completions that were not cut."
        )
    verdict, sentences = judge(pair.num_problems, findings, k)
    sides = zip(("Before", "After"), (before, after), strict=True)
    missing = [f"{side}, {sentence}" for side, frame in sides for sentence in unscored(frame)]
    sentences = (*sentences[:-1], *missing, sentences[-1])
    return Diagnosis(
        pair.names[0],
        pair.names[1],
        verdict,
        sentences,
        _frame(findings),
        survival.drop(columns="problems"),
        pair.modes_frame(),
        pair.problems_frame(),
    )


def _frame(findings: dict[str, Finding]) -> pd.DataFrame:
    rows = [(name, f.estimate, f.low, f.high, f.unit, f.problems, f.meaning) for name, f in findings.items()]
    return pd.DataFrame(rows, columns=["finding", "estimate", "low", "high", "unit", "problems", "meaning"])
