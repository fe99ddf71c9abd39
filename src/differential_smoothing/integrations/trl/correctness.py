"""Which completions are correct: the reward functions that decide it."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["correct_column"]


def correct_column(names: Sequence[str], named: str | None) -> int:
    """Which of the reward functions says what is correct. ValueError if that is not plain."""
    if named is None and len(names) > 1:
        raise ValueError(
            f"With several reward functions say which one decides what is correct: set correct_reward to one of "
            f"{', '.join(names)}. A sum of rewards cannot tell a format reward from a right answer."
        )
    if named is not None and list(names).count(named) != 1:
        raise ValueError(
            f"correct_reward={named!r} must name one of the reward functions: {', '.join(names)}."
        )
    return 0 if named is None else list(names).index(named)
