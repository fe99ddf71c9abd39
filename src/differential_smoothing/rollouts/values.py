"""One value of a row: it is what its column should hold, or the row is a ``BadRow`` that names the column."""

import hashlib
import math

from differential_smoothing.tasks.task import text_of

from .sources import BadRow

__all__ = [
    "NAN",
    "conversation",
    "gold_of",
    "hashed",
    "if_text",
    "name_of",
    "number",
    "optional_text",
    "score_of",
    "shown",
    "sound",
    "text",
    "whole",
]

NAN = math.nan
# inspect_ai's letters (correct, incorrect, partial, no answer), and how verl's `default=str` spells a numpy bool
WORDS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "True": 1.0, "False": 0.0, "true": 1.0, "false": 0.0}


def text(row: dict, name: str) -> str:
    """The text in a column."""
    value = row.get(name)
    if not isinstance(value, str):
        raise BadRow(f"{name} is {shown(value)}, expected text")
    return sound(value, name)


def sound(value: str, name: str) -> str:
    """Text that UTF-8 can hold; ``name`` is for the error."""
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} holds half a surrogate pair, which is not text") from None
    return value


def optional_text(row: dict, name: str) -> str | None:
    """As `text`; None where there is none."""
    return None if row.get(name) is None else text(row, name)


def if_text(value: object, name: str) -> str | None:
    """The value where it is text, None for anything else."""
    return sound(value, name) if isinstance(value, str) else None


def gold_of(value: object) -> str | None:
    """A right answer as text: of a list the only one; None where it is neither text nor a number."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return if_text(value, "the right answer")


def name_of(row: dict, name: str) -> str:
    """An id may be a whole number as well."""
    value = row.get(name)
    return str(whole(row, name)) if isinstance(value, int | float) else text(row, name)


def whole(row: dict, name: str, least: int = 0) -> int:
    """A whole number from ``least`` to the largest of 64 bits; 3.0 is one."""
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise BadRow(f"{name} is {shown(value)}, expected a whole number, at least {least}")
    return value


def number(row: dict, name: str) -> float:
    """A finite number, true or false, or a word for one; NaN where there is nothing."""
    value = row.get(name)
    if value is None:
        return NAN
    if isinstance(value, str) and value in WORDS:
        return WORDS[value]
    if not isinstance(value, bool | int | float) or (isinstance(value, float) and math.isinf(value)):
        raise BadRow(f"{name} is {shown(value)}, expected a finite number, true, false, or nothing for unscored")
    try:
        return float(value)
    except OverflowError:
        raise BadRow(f"{name} is a number of {len(str(value))} digits, expected one that a float can hold") from None


def score_of(row: dict, column: str | None) -> float:
    """As `number`, but the column must be there: a value that is missing by mistake is not unscored. No column: unscored."""
    if column is None:
        return NAN
    if column not in row:
        raise BadRow(f"no {column}, expected it in every row")
    return number(row, column)


def shown(value: object) -> str:
    """A value for an error message, at most 60 characters of it."""
    words = f"{value!r:.60}" if isinstance(value, str | int | float | None) else type(value).__name__
    return f"{type(value).__name__} {words}" if isinstance(value, str | bool) else words


def conversation(row: dict, name: str) -> tuple[str, str]:
    """Text or a list of messages: as one text, and the last message alone, where the answer is."""
    value = row.get(name)
    if not isinstance(value, list):
        return (text(row, name),) * 2
    contents = []
    for message in value:
        content = message.get("content") if isinstance(message, dict) else 0
        if isinstance(content, list):  # blocks; those without text are images
            content = text_of([message])
        if not isinstance(content, str | None):
            raise BadRow(f"{name} is a list with {shown(message)}, expected messages with role and content")
        contents.append((str(message.get("role")), sound(content or "", name)))
    if len(contents) == 1:
        return (contents[0][1],) * 2
    return "\n\n".join(f"{role}:\n{content}" for role, content in contents), (contents or [("", "")])[-1][1]


def hashed(prompt: str) -> str:
    """The id of a problem that has none but its prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]
