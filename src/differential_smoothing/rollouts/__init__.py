"""The rollouts table, the only file format that passes between rooms, and the reader of other tools' files."""

from .load import load_rollouts
from .table import COLUMNS, SCHEMA_VERSION, join_rollouts, read_note, read_rollouts, refuse_duplicates, write_rollouts

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "join_rollouts",
    "load_rollouts",
    "read_note",
    "read_rollouts",
    "refuse_duplicates",
    "write_rollouts",
]
