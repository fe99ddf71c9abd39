"""What the rows of each tool mean: one function per format, from a row to completions.

Read from what these releases write: TRL 1.16.0 (``GRPOTrainer.log``), verl 0.9.1 (``RayPPOTrainer._write_generations``
and the same of ``trainer/ppo/v1``), lm-evaluation-harness 0.4.13 (``EvaluationTracker.save_results_samples``), and
inspect_ai 0.3.285 (``samples_df``).
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from differential_smoothing.tasks.task import text_of

from .sources import BadRow, Source

__all__ = ["FORMATS", "Completion", "Format", "detect"]

NAN = math.nan
# inspect_ai's letters (correct, incorrect, partial, no answer), and how verl's `default=str` spells a numpy bool
WORDS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "True": 1.0, "False": 0.0, "true": 1.0, "false": 0.0}
# Giving it to the response that the filter took would not do: which one that was is not written down.
REPEATED = (
    "unscored, because their metric is one value for several responses to a problem and so no response's verdict. "
    "Evaluate with repeats: 1 and one file per seed, or let the metric give a list with one value per response"
)


@dataclass(slots=True)
class Completion:
    """One completion. ``score`` is compared with the threshold, NaN = unscored. ``answer`` is the last message of the
    completion; None where the file keeps no completions. ``sample`` -1: numbered by the reader.
    """

    prompt_id: str
    prompt: str
    answer: str | None
    score: float
    completion: str = ""
    sample: int = -1
    task: str | None = None
    model: str | None = None
    seed: int = 0
    step: int = -1
    solution: str | None = None
    reward: float = NAN
    canonical: str | None = None
    advantage: float = NAN
    logp: float = NAN
    num_tokens: int | None = None
    note: str | None = None


class Format(NamedTuple):
    """``known_by`` are the columns that tell the format, ``used`` all that ``read(row, column)`` looks at, ``columns``
    those that may say "correct"; unasked, the first of the ``preferred`` that is there is taken, or the only one.
    """

    name: str
    known_by: frozenset[str]
    used: frozenset[str]
    columns: Callable[[Source], list[str]]
    preferred: tuple[str, ...]
    read: Callable[[dict, str], Iterator[Completion]]


# --- values: each is what it should be, or the row is bad -------------------------------------------------------------


def _text(row: dict, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BadRow(f"{name} is {_said(value)}, expected text")
    return _sound(value, name)


def _sound(value: str, name: str) -> str:
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} holds half a surrogate pair, which is no text") from None
    return value


def _optional_text(row: dict, name: str) -> str | None:
    return None if row.get(name) is None else _text(row, name)


def _if_text(value: object, name: str) -> str | None:
    return _sound(value, name) if isinstance(value, str) else None


def _name(row: dict, name: str) -> str:
    """An id may be a whole number as well."""
    value = row.get(name)
    return str(_whole(row, name)) if isinstance(value, int | float) else _text(row, name)


def _whole(row: dict, name: str, least: int = 0) -> int:
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise BadRow(f"{name} is {_said(value)}, expected a whole number, at least {least}")
    return value


def _number(row: dict, name: str) -> float:
    value = row.get(name)
    if value is None:
        return NAN
    if isinstance(value, str) and value in WORDS:
        return WORDS[value]
    if not isinstance(value, bool | int | float) or (isinstance(value, float) and math.isinf(value)):
        raise BadRow(
            f"{name} is {_said(value)}, expected a finite number, true, false, or nothing for unscored"
        )
    try:
        return float(value)
    except OverflowError:
        raise BadRow(
            f"{name} is a number of {len(str(value))} digits, expected one that a float can hold"
        ) from None


def _score(row: dict, column: str) -> float:
    """As `_number`, but the column must be there: what is missing by mistake is not unscored."""
    if column not in row:
        raise BadRow(f"no {column}, expected it in every row")
    return _number(row, column)


def _said(value: object) -> str:
    shown = f"{value!r:.60}" if isinstance(value, str | int | float | None) else type(value).__name__
    return f"{type(value).__name__} {shown}" if isinstance(value, str | bool) else shown


def _conversation(row: dict, name: str) -> tuple[str, str]:
    """Text or a list of messages: as one text, and the last message alone, where the answer is."""
    value = row.get(name)
    if not isinstance(value, list):
        return (_text(row, name),) * 2
    contents = []
    for message in value:
        content = message.get("content") if isinstance(message, dict) else 0
        if isinstance(content, list):  # blocks; those without text are images
            content = text_of([message])
        if not isinstance(content, str | None):
            raise BadRow(f"{name} is a list with {_said(message)}, expected messages with role and content")
        contents.append((str(message.get("role")), _sound(content or "", name)))
    if len(contents) == 1:
        return (contents[0][1],) * 2
    return "\n\n".join(f"{role}:\n{content}" for role, content in contents), (contents or [("", "")])[-1][1]


def _hashed(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


# --- the formats ------------------------------------------------------------------------------------------------------


def _trl(row: dict, column: str) -> Iterator[Completion]:
    prompt, _ = _conversation(row, "prompt")
    completion, answer = _conversation(row, "completion")
    score = _score(row, column)
    yield Completion(
        _hashed(prompt), prompt, answer, score, completion, reward=score, step=_whole(row, "step", -1),
        advantage=_number(row, "advantage"),
    )  # fmt: skip


def _verl(row: dict, column: str) -> Iterator[Completion]:
    prompt, completion = _text(row, "input"), _text(row, "output")
    # uid is drawn anew in every run, so the prompt is what two runs share; newer trainers write uid_session_output
    *_, session, output = ["", "", *str(row.get("uid") or "").rsplit("_", 2)[1:]][-2:]
    if session.isdecimal() and output.isdecimal() and output.strip("0"):
        raise BadRow(f"output {output:.9} of a session, expected sessions of one completion each")
    yield Completion(
        _hashed(prompt), prompt, completion, _score(row, column), completion, reward=_number(row, "score"),
        step=_whole(row, "step", -1), solution=_if_text(row.get("pred"), "pred"),
    )  # fmt: skip


def _lm_eval(row: dict, column: str) -> Iterator[Completion]:
    """``column`` is "metric,filter"; rows of other filters repeat the same responses and give nothing."""
    metric, _, kept = column.rpartition(",")
    if row.get("filter", "none") != kept:
        return
    responses, filtered = (row.get(name) for name in ("resps", "filtered_resps"))
    if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], list):
        raise BadRow("resps is not [[text, ...]]: a completion task has one request per document")
    responses = responses[0]
    if metric not in row:
        raise BadRow(f"no {metric}, expected the metric in every row")
    values = row[metric]
    if isinstance(values, list) and len(values) != len(responses):
        raise BadRow(f"{metric} has {len(values)} values for {len(responses)} responses")
    found = filtered[0] if isinstance(filtered, list) and len(filtered) == 1 else None
    if not isinstance(found, list):
        found = [found] if len(responses) == 1 else []
    prompt = row.get("arguments")
    for key in ("gen_args_0", "arg_0") if isinstance(prompt, dict) else (0, 0):
        try:
            prompt = prompt[key]
        except (KeyError, IndexError, TypeError):
            prompt = ""
    prompt = _sound(prompt, "arguments") if isinstance(prompt, str) else ""
    for sample, text in enumerate(responses):
        completion = _text({"resps": text}, "resps")
        alone = len(responses) == 1 or isinstance(values, list)
        value = {metric: values[sample] if isinstance(values, list) else values if alone else None}
        solution = found[sample] if len(found) == len(responses) else None
        score = _number(value, metric)
        yield Completion(
            _name(row, "doc_id"), prompt, completion, score, completion, sample, reward=score,
            solution=_if_text(solution, "filtered_resps"), note=None if alone else REPEATED,
        )  # fmt: skip


def _metrics_and_filters(source: Source) -> list[str]:
    found: dict[str, None] = {}
    for _, row in source.rows(()):
        if isinstance(row, dict) and isinstance(row.get("metrics"), list):
            found.update((f"{metric},{row.get('filter', 'none')}", None) for metric in row["metrics"])
    return list(found)


def _inspect(row: dict, column: str) -> Iterator[Completion]:
    # a lone user message is written "user:\n<text>\n"
    prompt = (_optional_text(row, "input") or "").removeprefix("user:\n").removesuffix("\n")
    completion = _optional_text(row, "completion")
    score = _score(row, column)
    yield Completion(
        _name(row, "id"), prompt, completion, score, completion or "", _whole(row, "epoch", 1) - 1, reward=score,
        model=_optional_text(row, "model"),
    )  # fmt: skip


def _plain(row: dict, column: str) -> Iterator[Completion]:
    prompt = _conversation(row, "prompt")[0] if row.get("prompt") is not None else ""
    completion, answer = _conversation(row, "completion")
    prompt_id = (
        _hashed(_conversation(row, "prompt")[0]) if row.get("prompt_id") is None else _name(row, "prompt_id")
    )
    whole = {name: least for name, least in WHOLE.items() if row.get(name) is not None}
    yield Completion(
        prompt_id, prompt, answer, _score(row, column), completion,
        reward=_number(row, "reward" if row.get("reward") is not None else column),
        **{name: _optional_text(row, name) for name in ("task", "model", "solution", "canonical")},
        **{name: _number(row, name) for name in ("advantage", "logp")},
        **{name: _whole(row, name, least) for name, least in whole.items()},
    )  # fmt: skip


WHOLE = {"sample": 0, "seed": -(2**63), "step": -1, "num_tokens": 0}
_CHAT = frozenset({"prompt", "completion"})
_PLAIN = Format(
    "plain rows", frozenset({"prompt_id", "completion"}),
    _CHAT | WHOLE.keys() | {"prompt_id", "task", "model", "solution", "canonical", "reward", "advantage", "logp"},
    lambda s: [n for n in s.numeric if n not in WHOLE.keys() | {"advantage", "logp", "prompt_id"}],
    ("correct", "reward"), _plain,
)  # fmt: skip
FORMATS = (
    _PLAIN,  # no other tool writes a prompt_id
    Format(
        "TRL", _CHAT | {"step", "advantage"}, frozenset(),
        lambda s: [n for n in s.numeric if n not in {"step", "advantage"} | _CHAT], (), _trl,
    ),
    Format(
        "verl", frozenset({"input", "output", "score"}), frozenset({"step", "pred", "uid"}),
        lambda s: [n for n in s.numeric if n != "step"], ("acc", "score"), _verl,
    ),
    Format(
        "lm-evaluation-harness", frozenset({"doc_id", "resps"}),
        frozenset({"filter", "filtered_resps", "arguments"}), _metrics_and_filters, (), _lm_eval,
    ),
    Format(
        "inspect_ai", frozenset({"id", "epoch", "input"}), frozenset({"completion", "model"}),
        lambda s: [n for n in s.names if n.startswith("score_")], (), _inspect,
    ),
    _PLAIN._replace(known_by=_CHAT),
)  # fmt: skip


def detect(source: Source, where: str) -> Format:
    """The format whose columns the file has. ValueError if it is none."""
    for form in FORMATS:
        if form.known_by <= set(source.names):
            return form
    raise ValueError(
        f"{where}: found the columns {source.names[:20]}, expected those of a rollouts table, of "
        + ", ".join(f"{form.name} ({', '.join(sorted(form.known_by))})" for form in FORMATS)
        + ". Rename the columns to match."
    )
