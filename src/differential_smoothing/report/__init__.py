"""Report: the numbers of the evaluation as terminal tables, Markdown and figures."""

from .figures import pass_at_k_figure
from .tables import comparison_table, to_markdown, verdict

__all__ = ["comparison_table", "pass_at_k_figure", "to_markdown", "verdict"]
