"""From the findings of a diagnosis to plain words that claim no more than the intervals allow."""

from __future__ import annotations

import numpy as np

from .findings import Finding

__all__ = ["FEWEST_PROBLEMS", "MARGIN", "judge"]

#: What counts as no change worth acting on: in slope, in probability, in Pass@k.
MARGIN = {"slope": 0.15, "variety": 0.03, "pass@k": 0.04}
#: With fewer problems that have two different correct answers, resampling them says too little about others.
FEWEST_PROBLEMS = 30


def judge(num_problems: int, findings: dict[str, Finding], k: int) -> tuple[str, tuple[str, ...]]:
    """The verdict, and the sentences that say no more than the intervals allow."""
    slope, variety, last = findings["reinforcement slope"], findings["variety"], findings[f"pass@{k}"]
    cut = findings.get("truncation", Finding.undefined("share", ""))
    truncated = cut.low > 0
    if truncated:  # more answers are cut than before, which lowers Pass@k by itself
        last = findings[f"pass@{k} of ended"]
    first = findings["pass@1"]
    # sign: in which direction the quantity moves when a model sharpens
    signals = [
        (slope, 1, MARGIN["slope"], f"reinforcement slope {_say(slope)}"),
        (variety, -1, MARGIN["variety"], f"two correct answers differ less often, by {_say(variety, -100)} points"),
        (
            last,
            -1,
            MARGIN["pass@k"],
            f"Pass@{k}{' of completions that ended' * truncated} down by {_say(last, -100)} points",
        ),
    ]
    enough = num_problems >= FEWEST_PROBLEMS
    clear: dict[str, str] = {}
    harmless = []
    for finding, sign, margin, words in signals:
        low = min(sign * end for end in finding.clear_bounds())
        measured = enough and finding.problems >= FEWEST_PROBLEMS and np.isfinite(low)
        # A model that got worse everywhere loses Pass@k too, and that is not sharpening.
        worse = finding is last and first.high < 0
        if measured and low > 0 and not worse:
            clear[finding.meaning] = words
        harmless.append(bool(measured and max(sign * finding.low, sign * finding.high) < margin))
    # What is clear and yet below every margin is nothing to act on.
    verdict = "not sharpened" if all(harmless) else "sharpened" if clear else "cannot tell"
    sentences = {
        "sharpened": [f"Sharpened: yes, {'; '.join(clear.values())}."],
        "not sharpened": [
            f"Sharpened: no. Reinforcement slope {_say(slope)}, variety {_say(variety, 100)} points, Pass@{k} "
            f"{_say(last, 100)} points: none moved enough to act on."
        ],
        "cannot tell": [f"Sharpened: cannot tell. {_why_not(num_problems, signals, enough)}"],
    }[verdict]
    moved = "up" if first.low > 0 else "down" if first.high < 0 else ""
    sentences.append(
        f"Pass@1 {moved} by {_say(first, 100 if moved == 'up' else -100)} points."
        if moved
        else f"Pass@1 shows no clear change, {_say(first, 100)} points."
    )
    if truncated:
        sentences.append(
            f"Truncation: completions are cut at the token limit more often, by {_say(cut, 100)} points. Of all completions Pass@{k} "
            f"changed by {_say(findings[f'pass@{k}'], 100)} points, of those that ended by {_say(last, 100)}. Sample both models with a "
            f"larger limit."
        )
    given_up, multiplicity = findings["given up"], findings["solution multiplicity"]
    if not enough:  # with so few problems the intervals are too narrow for more than a warning
        return verdict, (sentences[0], "What to do: sample more problems before changing the training.")
    rare, common = findings["survival of rare answers"], findings["survival of common answers"]
    if np.isfinite([rare.low, common.low]).all():
        if rare.high < 0 and rare.high < common.low:
            sentences.append(
                f"Selection: correct answers that were rarest before are found again {_say(rare, -100)} points less often "
                f"than without any change; for the most common ones the difference is {_say(common, 100)} points."
            )
        elif rare.high < 0:
            sentences.append(
                f"Selection: correct answers are found again less often than without any change, rare ones by {_say(rare, -100)} "
                f"and common ones by {_say(common, -100)} points; no clear difference between the two."
            )
        else:
            sentences.append(f"Selection: no sign that rare correct answers are dropped, {_say(rare, 100)} points.")
    if np.isfinite(given_up.low):
        share = f"{_say(given_up, 100)}% of the problems solved before beyond what chance gives"
        sentences.append(f"Given up: {share}." if given_up.low > 0 else f"Given up: no clear sign, {share}.")
    wrong, right = findings["surprisal of incorrect"], findings["surprisal of correct"]
    if np.isfinite([wrong.low, right.low]).all():
        sentences.append(
            f"Entropy: surprisal changed by {_say(right)} nats among correct and by {_say(wrong)} nats among incorrect "
            "completions."
        )
    if np.isfinite(multiplicity.estimate):
        sentences.append(
            f"A problem has {multiplicity.estimate:.1f} effective correct answers before"
            + (": little variety to lose." if multiplicity.estimate < 1.3 else ".")
        )
    causes = [
        cause
        for finding, cause in (
            (slope, "likely correct answers were reinforced more than unlikely ones"),
            (variety, "correct answers became more alike"),
            (last, f"fewer problems are solved at k = {k}"),
        )
        if finding.meaning in clear
    ]
    if given_up.low > 0:
        causes.append("problems were given up")
    sentences.append(_advice(verdict, moved, causes, given_up, multiplicity, slope.problems >= FEWEST_PROBLEMS))
    return verdict, tuple(sentences)


def _advice(
    verdict: str, moved: str, causes: list[str], given_up: Finding, multiplicity: Finding, variety_known: bool
) -> str:
    if verdict == "cannot tell":
        if moved == "down":
            return "What to do: Pass@1 fell, so look at the reward and the learning rate before variety."
        return "What to do: before changing the training, " + (
            "sample more problems, or more completions of each."
            if variety_known
            else "give correct answers a form to be told apart by (a column canonical, or --canonical solution)."
        )
    if verdict == "not sharpened":
        return "What to do: " + (
            "no change for the sake of variety, but look at the problems that were given up."
            if given_up.low > 0
            else "no change for the sake of variety; training may go on."
            if moved == "up"
            else "no change for the sake of variety. If Pass@1 should rise, look at the learning rate and the number of steps."
            if not moved
            else "Pass@1 fell without sharpening: look at the reward and the learning rate first."
        )
    because = "; ".join(causes)
    first = (
        f"raise gamma_p or lower the learning rate, because {because}"
        if moved == "up"
        else f"lower the learning rate or stop earlier, because Pass@1 shows no clear gain, and {because}"
    )
    if multiplicity.estimate < 1.3:
        first += "; with so few different correct answers per problem expect more from the learning rate"
    return f"What to do: {first}. Compare both at several seeds."


def _why_not(num_problems: int, signals: list, enough: bool) -> str:
    if not enough:
        return f"{num_problems} problems are too few to speak about others (at least {FEWEST_PROBLEMS})."
    for finding, name in zip([s[0] for s in signals], ("slope", "variety", "Pass@k"), strict=True):
        if finding.problems < FEWEST_PROBLEMS:
            needs = {
                "slope": "problems with two different correct answers before, told apart by a canonical form",
                "variety": "problems with two correct answers on both sides, told apart by a canonical form",
                "Pass@k": "scored completions",
            }[name]
            return f"The {name} rests on {finding.problems} problems (at least {FEWEST_PROBLEMS}): it needs {needs}."
    return (
        f"No signal is clear and not all are small: reinforcement slope {_say(signals[0][0])}, change of variety "
        f"{_say(signals[1][0], 100)} points, change of Pass@k {_say(signals[2][0], 100)} points."
    )


def _say(finding: Finding, scale: float = 1) -> str:
    """ "0.41 [0.33, 0.49]"; a negative scale turns the ends round."""
    ends = sorted((scale * finding.low, scale * finding.high))
    digits = 1 if abs(scale) == 100 else 2
    if not np.isfinite(finding.estimate):
        return "undefined"
    if not np.isfinite(ends).all():
        return f"{scale * finding.estimate:z.{digits}f} (no interval)"
    return f"{scale * finding.estimate:z.{digits}f} [{ends[0]:z.{digits}f}, {ends[1]:z.{digits}f}]"
