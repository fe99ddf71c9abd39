"""The files of trainers, and plain rows: TRL, verl, verifiers.

Read from what these releases write: TRL 1.16.0 (``GRPOTrainer.log``), verl 0.9.1 (``RayPPOTrainer._write_generations``
and the same of ``trainer/ppo/v1``), verifiers of August 2026 (``state_to_output``).
"""

from collections.abc import Iterator
from typing import Any

from .format import Completion, Format, numeric_but
from .sources import BadRow
from .values import NAN, conversation, gold_of, hashed, if_text, name_of, number, optional_text, score_of, text, whole

__all__ = ["PLAIN", "PLAIN_CHAT", "TRL", "VERIFIERS", "VERL"]

WHOLE = {"sample": 0, "seed": -(2**63), "step": -1, "num_tokens": 0}
CHAT = frozenset({"prompt", "completion"})
FAILED = "unscored, because their rollout ended in an error"


def _trl(row: dict, column: str | None) -> Iterator[Completion]:
    prompt, _ = conversation(row, "prompt")
    completion, answer = conversation(row, "completion")
    score = score_of(row, column)
    yield Completion(
        hashed(prompt),
        prompt,
        answer,
        score,
        completion,
        reward=score,
        step=whole(row, "step", -1),
        advantage=number(row, "advantage"),
    )


def _verl(row: dict, column: str | None) -> Iterator[Completion]:
    prompt, completion = text(row, "input"), text(row, "output")
    # uid is drawn anew in every run, so the prompt is what two runs share; newer trainers write uid_session_output
    *_, session, output = ["", "", *str(row.get("uid") or "").rsplit("_", 2)[1:]][-2:]
    if session.isdecimal() and output.isdecimal() and output.strip("0"):
        raise BadRow(f"output {output:.9} of a session, expected sessions of one completion each")
    yield Completion(
        hashed(prompt),
        prompt,
        completion,
        score_of(row, column),
        completion,
        reward=number(row, "score"),
        step=whole(row, "step", -1),
        solution=if_text(row.get("pred"), "pred"),
        gold=gold_of(row.get("gts")),
    )


def _verifiers(row: dict, column: str | None) -> Iterator[Completion]:
    prompt, _ = conversation(row, "prompt")
    completion, answer = conversation(row, "completion") if row.get("completion") is not None else ("", "")
    score, failed = score_of(row, column), bool(row.get("error"))
    mixed = column == "reward" and score not in (0.0, 1.0) and score == score and not failed
    yield Completion(
        hashed(prompt),
        prompt,
        answer,
        NAN if failed else score,
        completion,
        reward=NAN if failed else number(row, "reward"),
        gold=gold_of(row.get("answer")),
        unscored=FAILED if failed else None,
        note="judged by a reward between or beyond 0 and 1, which may be a sum of several: check --threshold, or name "
        "the reward of the answer with --correct"
        if mixed
        else None,
    )


def _plain(row: dict, column: str | None) -> Iterator[Completion]:
    prompt = conversation(row, "prompt")[0] if row.get("prompt") is not None else ""
    completion, answer = conversation(row, "completion")
    prompt_id = hashed(conversation(row, "prompt")[0]) if row.get("prompt_id") is None else name_of(row, "prompt_id")
    there = {name: least for name, least in WHOLE.items() if row.get(name) is not None}
    reward = "reward" if row.get("reward") is not None else column
    named: dict[str, Any] = {name: optional_text(row, name) for name in ("task", "model", "solution", "canonical")}
    named |= {name: number(row, name) for name in ("advantage", "logp")}
    named |= {name: whole(row, name, least) for name, least in there.items()}
    yield Completion(
        prompt_id,
        prompt,
        answer,
        score_of(row, column),
        completion,
        reward=NAN if reward is None else number(row, reward),
        gold=gold_of(row.get("gold")),
        **named,
    )


TRL = Format("TRL", CHAT | {"step", "advantage"}, frozenset(), numeric_but("step", "advantage", *CHAT), (), _trl)
VERL = Format(
    "verl",
    frozenset({"input", "output", "score"}),
    frozenset({"step", "pred", "uid", "gts"}),
    numeric_but("step"),
    ("acc", "score"),
    _verl,
    gold="gts",
)
VERIFIERS = Format(
    "verifiers",
    CHAT | {"example_id", "reward"},
    frozenset({"error", "answer"}),
    numeric_but("example_id", "error", "answer", *CHAT),
    ("reward",),
    _verifiers,
    gold="answer",
)
PLAIN = Format(
    "plain rows",
    frozenset({"prompt_id", "completion"}),
    CHAT
    | WHOLE.keys()
    | {"prompt_id", "task", "model", "solution", "canonical", "reward", "advantage", "logp", "gold"},
    numeric_but(*WHOLE, "advantage", "logp", "prompt_id", "gold"),
    ("correct", "reward"),
    _plain,
    gold="gold",
)
PLAIN_CHAT = PLAIN._replace(known_by=CHAT)
