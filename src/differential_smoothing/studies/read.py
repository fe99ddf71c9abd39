"""A study or a sweep from its file, by the entries that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .spec import Study, make_study, read_yaml
from .sweep import make_sweep

__all__ = ["QUICKSTART", "read_study"]

#: The study of ``dsmooth quickstart``.
QUICKSTART = Path(__file__).parents[1] / "data" / "quickstart.yaml"


def read_study(path: Path, **changes: Any) -> Study:
    """Read a study file; ``changes`` replace its top-level entries. ValueError names the fault.

    A file with ``rules`` instead of ``models`` is a ``sweep.Sweep``.
    """
    content = read_yaml(path)
    if isinstance(content, dict) and "rules" in content:
        return make_sweep(path, {**content, **changes})
    return make_study(path, content, **changes)
