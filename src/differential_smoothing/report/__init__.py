"""Report: the numbers of the evaluation as terminal tables, Markdown, figures and one self-contained page."""

from .arena import arena_markdown, frontier_figure
from .embed import Limits
from .html import page, write_page
from .paths import leads_markdown, leads_sentences, paths_figure
from .plots import pass_at_k_drawing
from .sets import sets_markdown
from .tables import comparison_table, diagnosis_table, savings, tax, to_markdown, verdict

__all__ = [
    "Limits",
    "arena_markdown",
    "comparison_table",
    "diagnosis_table",
    "frontier_figure",
    "leads_markdown",
    "leads_sentences",
    "page",
    "pass_at_k_drawing",
    "paths_figure",
    "savings",
    "sets_markdown",
    "tax",
    "to_markdown",
    "verdict",
    "write_page",
]
