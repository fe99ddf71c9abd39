"""The files of evaluation harnesses: inspect_ai, evalscope, lighteval, OpenCompass, NeMo-Skills, Qwen's evaluation.

Read from what these write: inspect_ai 0.3.285 (``samples_df``), evalscope of August 2026 (``ReviewResult``; reviews of earlier
releases have ``input`` for ``messages``), lighteval of May 2026 (``DetailsLogger.Detail``), OpenCompass of August 2026
(``GenInferencerOutputHandler``), NeMo-Skills of November 2025, Qwen2.5-Math's ``math_eval.py``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .format import Completion, Format
from .lm_eval import per_response
from .sources import BadRow, Refused, Source
from .values import conversation, gold_of, hashed, if_text, name_of, number, optional_text, score_of, shown, text, whole

__all__ = ["EVALSCOPE", "INSPECT", "LIGHTEVAL", "NEMO_SKILLS", "OPENCOMPASS", "QWEN"]

ENDED = "unscored, because their sample ended in an error"
MAIN = "main score"
WHOLE = ""  # where a row with metrics as columns has everything else


def _inspect(row: dict, column: str | None) -> Iterator[Completion]:
    # a lone user message is written "user:\n<text>\n"
    prompt = (optional_text(row, "input") or "").removeprefix("user:\n").removesuffix("\n")
    completion = optional_text(row, "completion")
    score = score_of(row, column)
    yield Completion(
        name_of(row, "id"),
        prompt,
        completion,
        score,
        completion or "",
        whole(row, "epoch", 1) - 1,
        reward=score,
        model=optional_text(row, "model"),
        gold=gold_of(row.get("target")),
        unscored=ENDED if score != score and row.get("error") else None,
    )


def _several(
    row: dict,
    column: str | None,
    responses: object,
    name: str,
    *,
    prompt_id: str,
    prompt: str,
    solutions: object = None,
    gold: object = None,
) -> Iterator[Completion]:
    """A row with one response, or a list of them: each with its own value of ``column``, if there is one for each."""
    texts = responses if isinstance(responses, list) else [responses]
    if column is not None and column not in row:
        raise BadRow(f"no {column}, expected it in every row")
    values, unscored = per_response(None if column is None else row[column], len(texts), str(column))
    found = solutions if isinstance(solutions, list) else [solutions]
    for sample, response in enumerate(texts):
        completion = text({name: response}, name)
        score = number({str(column): values[sample]}, str(column))
        yield Completion(
            prompt_id,
            prompt,
            completion,
            score,
            completion,
            sample if len(texts) > 1 else -1,
            reward=score,
            solution=if_text(found[sample], "solution") if len(found) == len(texts) else None,
            gold=gold_of(gold),
            unscored=unscored,
        )


def _flat(source: Source, columns: Sequence[str], flatten: Callable[[dict], tuple[dict, dict]]) -> Source:
    """A source of ``{WHOLE: values, metric: value, ...}``, from what ``flatten`` says of a row: its values and its metrics.

    A metric that a row does not have is None there: the tools leave out what could not be scored.
    """

    def rows(_: Iterable[str] = ()) -> Iterator[tuple[str, "dict | BadRow | Refused"]]:
        for place, row in source.rows(columns):
            try:
                if isinstance(row, dict):
                    values, metrics = flatten(row)
                    row = dict.fromkeys(names) | metrics | {WHOLE: values}
            except (KeyError, TypeError, AttributeError, IndexError):
                row = BadRow("a value is not of the shape that this tool writes")
            yield place, row

    names: dict[str, None] = {}
    for _, row in rows():
        if isinstance(row, dict):
            names.update(dict.fromkeys(name for name in row if name != WHOLE))
    return Source(list(names), list(names), rows)


# --- evalscope --------------------------------------------------------------------------------------------------------

_REVIEW = ("index", "input", "messages", "target", "sample_score")


def _review(row: dict) -> tuple[dict, dict]:
    scored = row["sample_score"]
    score, group = scored["score"], scored.get("group_id")
    metrics = {f"{name}": value for name, value in (score.get("value") or {}).items()}
    main = score.get("main_score_name")
    # the tool's own rule: without a name the first is the main score
    metrics[MAIN] = metrics.get(next(iter(metrics), "") if main is None else main)
    prompt = row.get("input")
    if prompt is None and isinstance(row.get("messages"), list):
        asked = [m for m in row["messages"] if m.get("role") != "assistant"]
        prompt = conversation({"messages": asked}, "messages")[0]
    values = {
        "group": row["index"] if group is None else group,
        "generation": scored.get("generation_index"),
        "prompt": (prompt or "").removeprefix("**User**:").strip(),
        "target": row.get("target"),
        "prediction": score.get("prediction") or "",
        "solution": score.get("extracted_prediction"),
    }
    return values, metrics


def _evalscope(row: dict, column: str | None) -> Iterator[Completion]:
    values = row[WHOLE]
    for completion in _several(
        row,
        column,
        text(values, "prediction"),
        "prediction",
        prompt_id=name_of(values, "group"),
        prompt=text(values, "prompt"),
        solutions=values["solution"],
        gold=values["target"],
    ):
        if values["generation"] is not None:
            completion.sample = whole(values, "generation")
        yield completion


EVALSCOPE = Format(
    "evalscope",
    frozenset({"index", "sample_score"}),
    frozenset(_REVIEW),
    lambda s: dict.fromkeys(s.numeric, ""),
    (MAIN,),
    _evalscope,
    prepare=lambda source: _flat(source, _REVIEW, _review),
    own_id=True,
    free=False,
    unit=True,
    gold="target",
    add="",
)


# --- lighteval --------------------------------------------------------------------------------------------------------

_DETAIL = ("doc", "metric", "model_response")


def _detail(row: dict) -> tuple[dict, dict]:
    doc = row["doc"]
    gold = doc.get("gold_index")
    gold = gold[0] if isinstance(gold, list) and len(gold) == 1 else gold
    choices = doc.get("choices")
    right = choices[gold] if isinstance(choices, list) and isinstance(gold, int) else None
    response = row["model_response"]
    values = {
        "id": doc.get("id"),
        "query": doc.get("query"),
        "gold": right,
        "text": response.get("text"),
        "solution": response.get("text_post_processed"),
    }
    return values, dict(row["metric"])


def _lighteval(row: dict, column: str | None) -> Iterator[Completion]:
    values = row[WHOLE]
    yield from _several(
        row,
        column,
        values["text"],
        "text",
        prompt_id=name_of(values, "id"),
        prompt=optional_text(values, "query") or "",
        solutions=values["solution"],
        gold=values["gold"],
    )


LIGHTEVAL = Format(
    "lighteval",
    frozenset(_DETAIL),
    frozenset(),
    lambda s: dict.fromkeys(s.numeric, ""),
    (),
    _lighteval,
    prepare=lambda source: _flat(source, _DETAIL, _detail),
    own_id=True,
    free=False,
    unit=True,
    gold="doc.choices",
    add="",
)


# --- files that hold plain columns ------------------------------------------------------------------------------------


def _nemo_skills(row: dict, column: str | None) -> Iterator[Completion]:
    prompt = text(row, "problem" if row.get("problem") is not None else "question")
    yield from _several(
        row,
        column,
        row.get("generation"),
        "generation",
        prompt_id=hashed(prompt),
        prompt=prompt,
        solutions=row.get("predicted_answer"),
        gold=row.get("expected_answer"),
    )


NEMO_SKILLS = Format(
    "NeMo-Skills",
    frozenset({"expected_answer", "generation"}),
    frozenset({"problem", "question", "predicted_answer"}),
    lambda s: dict.fromkeys((n for n in s.numeric if "correct" in n), ""),
    ("symbolic_correct", "is_correct"),
    _nemo_skills,
    gold="expected_answer",
    add="is_correct",
)


def _qwen(row: dict, column: str | None) -> Iterator[Completion]:
    yield from _several(
        row,
        column,
        row.get("code"),
        "code",
        prompt_id=name_of(row, "idx"),
        prompt=text(row, "question"),
        solutions=row.get("pred"),
        gold=row.get("gt"),
    )


QWEN = Format(
    "Qwen's evaluation",
    frozenset({"idx", "question", "code", "pred", "gt"}),
    frozenset(),
    lambda s: dict.fromkeys((n for n in s.names if n == "score"), ""),
    (),
    _qwen,
    own_id=True,
    unit=True,
    gold="gt",
    add="score",
)


def _opencompass(row: dict, column: str | None) -> Iterator[Completion]:
    prompt = row.get("origin_prompt")
    if isinstance(prompt, list):
        parts: list[Any] = [m.get("prompt") if isinstance(m, dict) else m for m in prompt]
        if not all(isinstance(part, str) for part in parts):
            raise BadRow(f"origin_prompt is a list with {shown(prompt[0])}, expected messages with role and prompt")
        prompt = "\n\n".join(parts)
    yield from _several(
        row,
        column,
        row.get("prediction"),
        "prediction",
        prompt_id=name_of(row, "idx"),
        prompt=text({"origin_prompt": prompt}, "origin_prompt"),
        gold=row.get("gold"),
    )


OPENCOMPASS = Format(
    "OpenCompass predictions",
    frozenset({"origin_prompt", "prediction"}),
    frozenset({"gold", "idx"}),
    lambda s: dict.fromkeys((n for n in s.numeric if n not in ("idx", "gold")), ""),
    (),
    _opencompass,
    own_id=True,
    gold="gold",
)

INSPECT = Format(
    "inspect_ai",
    frozenset({"id", "epoch", "input"}),
    frozenset({"completion", "model", "error", "target"}),
    lambda s: dict.fromkeys((n for n in s.names if n.startswith("score_")), ""),
    (),
    _inspect,
    own_id=True,
    unit=True,
    gold="target",
    add="score_correct",
    runs="Where eval_id differs, write one file per eval: frame[frame.eval_id == ...].to_parquet(...), and name each: name@0=FILE.",
)
