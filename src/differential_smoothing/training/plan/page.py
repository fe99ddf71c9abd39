"""The plan as a page: rows of text, and what was found: mistakes, things unchecked, notes."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


__all__ = ["Plan"]


@dataclass
class Plan:
    """``rows`` of (heading, text), and what was found. ``str`` is the page that ``--dry-run`` prints."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = [("Note", self.notes), ("Unchecked", self.unchecked), ("MISTAKE", self.mistakes)]
        rows = [*self.rows, *((heading, text) for heading, texts in found for text in texts)]
        return "\n".join(
            textwrap.fill(
                text,
                118,
                initial_indent=f"{heading:<12}",
                subsequent_indent=" " * 12,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for heading, text in rows
        )
