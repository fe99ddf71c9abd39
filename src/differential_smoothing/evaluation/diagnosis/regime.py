"""Which regime a run was in: whether rules could differ at all, read from its own log.

A group whose completions all have one reward is *decided*: its advantages are 0, and GRPO learns nothing from it. While few groups are decided and
Pass@1 still rises, every rule mostly learns to be right, and rules can hardly differ. benchmarks/price.py computes this exactly for groups of 8: what DS (0.4)
pays in variety for a gain in success, relative to GRPO, is 0.87 where a fifth of the completions are right, 0.75 at one half, and falls steeply above. At a success rate of 0.9 a
group of 8 is all right with a chance of 0.43; a policy in which half of the groups are decided spends half of its prompts where rules differ. So the verdict is

    "decided"      at least half of the groups are decided at the end
    "undecided"    fewer: rules can hardly differ; train longer, and at a higher rate or on easier problems where the reward no longer rises

The log is that of TRL: ``reward`` and ``frac_reward_zero_std`` of every logging step, and, from our trainer, ``ds/groups_all_correct`` and
``ds/groups_all_wrong``. Start and end are means over the first and the last tenth of the entries, at least one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DECIDED", "RISING", "Regime", "read_log", "regime_of", "regime_sentences"]

#: Share of decided groups at the end from which rules differ.
DECIDED = 0.5
#: Points of reward per 100 steps, over the last fifth of training, above which a run still learns.
RISING = 1.0

_SHARES = {"decided": "frac_reward_zero_std", "all_right": "ds/groups_all_correct", "all_wrong": "ds/groups_all_wrong"}


class Regime(NamedTuple):
    """Shares of groups at the ``start`` and at the ``end`` (keys "decided", "all_right", "all_wrong"; NaN where not logged), the steps trained, and
    by how many points the reward rose per 100 steps at the end (NaN with fewer than four entries there)."""

    start: Mapping[str, float]
    end: Mapping[str, float]
    steps: int
    rise: float

    @property
    def verdict(self) -> str:
        """ "decided", or "undecided"; "unknown" where the log has no shares."""
        decided = self.end["decided"]
        return "unknown" if math.isnan(decided) else "decided" if decided >= DECIDED else "undecided"


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a log: a run's folder, its metrics.jsonl, TRL's trainer_state.json, or a JSON list. ValueError if it is none of them."""
    path = Path(path)
    file = path
    if path.is_dir():
        file = path / "metrics.jsonl"
        if not file.is_file():
            states = [*path.glob("trainer_state.json"), *path.glob("checkpoint-*/trainer_state.json")]
            file = max(states, key=lambda state: state.stat().st_mtime, default=file)
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            content = json.loads(text)
            entries = content.get("log_history") if isinstance(content, dict) else content
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no training log that can be read ({type(error).__name__}). Expected a run's folder, its metrics.jsonl, or a trainer_state.json."
        ) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            f"{path} is not a training log: expected a list of entries, each with its step, as TRL's log_history is."
        )
    return entries


def regime_of(log: Sequence[Mapping[str, Any]]) -> Regime:
    """The regime of one run from its log's entries. ValueError if none of them has a step and a reward or a share of groups."""
    entries = [
        entry
        for entry in log
        if _number(entry.get("step")) and any(_number(entry.get(name)) for name in ("reward", *_SHARES.values()))
    ]
    if not entries:
        raise ValueError(
            f"The log of {len(log)} entries has none with a step and one of reward, {', '.join(_SHARES.values())}. It is not the log of a GRPO run."
        )
    entries = sorted(entries, key=lambda entry: entry["step"])
    part = max(1, len(entries) // 10)
    start, end = (
        {name: _mean(some, key) for name, key in _SHARES.items()} for some in (entries[:part], entries[-part:])
    )
    return Regime(start, end, int(entries[-1]["step"]), _rise(entries[-max(4, len(entries) // 5) :]))


def regime_sentences(logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[str]:
    """One sentence or two per name (a rule, a run) from the logs of its runs: shares at start and end, the rise, the verdict and what to change."""
    lines = []
    for name, runs in logs.items():
        regimes = [regime_of(log) for log in runs]
        start, end = (
            {key: _average([getattr(r, when)[key] for r in regimes]) for key in _SHARES} for when in ("start", "end")
        )
        together = Regime(start, end, max(r.steps for r in regimes), _average([r.rise for r in regimes]))
        lines.append(f"{name}: {_say(together)}")
    return lines


def _say(regime: Regime) -> str:
    if regime.verdict == "unknown":
        return (
            "the log has no share of groups without reward variance (frac_reward_zero_std), so the regime is not known."
        )
    text = f"{_percent(regime.start['decided'])} of the groups were decided at the start, {_percent(regime.end['decided'])} at the end"
    if not math.isnan(regime.end["all_right"]):
        text += f" ({_percent(regime.end['all_right'])} all right, {_percent(regime.end['all_wrong'])} all wrong)"
    rising = regime.rise > RISING
    if not math.isnan(regime.rise):
        text += f"; the mean reward changed by {regime.rise:+.1f} points per 100 steps at the end"
    if regime.verdict == "decided":
        return f"decided: {text}. Rules differ here" + (", and it still learns." if rising else ".")
    advice = (
        "Train longer or at a higher learning rate"
        if rising
        else "Train longer, at a higher learning rate, or on easier problems"
    )
    return f"undecided: {text}. Rules can hardly differ here. {advice} before comparing them."


def _rise(entries: Sequence[Mapping[str, Any]]) -> float:
    """Slope of the reward by least squares, in points (hundredths) per 100 steps."""
    known = [(entry["step"], entry["reward"]) for entry in entries if _number(entry.get("reward"))]
    if len(known) < 4:
        return math.nan
    steps, rewards = zip(*known, strict=True)
    middle = sum(steps) / len(steps)
    spread = sum((step - middle) ** 2 for step in steps)
    return 1e4 * sum((step - middle) * reward for step, reward in known) / spread if spread > 0 else math.nan


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mean(entries: Sequence[Mapping[str, Any]], key: str) -> float:
    return _average([entry.get(key) for entry in entries])


def _average(values: Sequence[Any]) -> float:
    known = [value for value in values if _number(value)]
    return sum(known) / len(known) if known else math.nan


def _percent(value: float) -> str:
    return "an unknown share" if math.isnan(value) else f"{100 * value:.0f}%"
