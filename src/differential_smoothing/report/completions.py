"""The same prompts under several models, completions next to each other: which right answers a model still gives, and which of the first model's it lost.

One HTML file without a script: everything a model wrote is escaped text. The first model is the one before the training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

__all__ = ["completions_page", "write_completions"]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2129; background: #fff; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 2rem 0 .3rem; border-top: 1px solid #d8dce3; padding-top: 1rem; }
.prompt { white-space: pre-wrap; color: #555c68; font-size: .85rem; max-width: 60rem; margin: 0 0 .8rem; }
.models { display: flex; flex-wrap: wrap; gap: 1.2rem; } .model { flex: 1 1 17rem; min-width: 0; } h3 { font-size: .9rem; margin: 0 0 .3rem; }
li { list-style: none; margin: 2px 0; padding: 1px 6px; position: relative; overflow-wrap: anywhere; } ul { margin: 0; padding: 0; }
.bar { position: absolute; inset: 0 auto 0 0; background: #cfe3d4; z-index: -1; } .wrong .bar { background: #f0d9d6; }
.lost { color: #8a8f99; text-decoration: line-through; } .share { float: right; color: #555c68; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; } td, th { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #d8dce3; } th:first-child, td:first-child { text-align: left; }
@media (prefers-color-scheme: dark) { body { background: #16181d; color: #e4e6eb; } .bar { background: #29483a; } .wrong .bar { background: #52302e; }
  .prompt, .share { color: #a2a8b4; } .lost { color: #7a808c; } h2, td, th { border-color: #353a44; } }
"""


def completions_page(
    frame: pd.DataFrame, models: Sequence[str] = (), *, prompts: int = 12, wrong: int = 3, title: str = "Completions"
) -> str:
    """The page as text.

    Args:
        frame: a rollouts table of several models on the same prompts.
        models: their order; the first is the one that the others are compared to. None given: the table's order.
        prompts: how many prompts are shown in full: those on which the models differ most in what they lost.
        wrong: how many of the commonest wrong completions are shown for each.

    A right answer that the first model gave and another never does in all its samples is *lost*. ValueError for a table without such models.
    """
    known = list(dict.fromkeys(frame["model"]))
    models = list(models) or known
    if missing := [name for name in models if name not in known]:
        raise ValueError(f"The rollouts have no model {missing[0]!r}. They have {', '.join(known)}.")
    if len(models) < 2:
        raise ValueError(f"The page puts models next to each other and needs at least two; got {', '.join(models)}.")
    tables = {name: _answers(frame[frame["model"] == name]) for name in models}
    shared = [p for p in tables[models[0]] if all(p in tables[name] for name in models)]
    if not shared:
        raise ValueError(
            f"The models {', '.join(models)} share no prompt. Sample them on the same problems with the same seed."
        )
    first = tables[models[0]]
    lost = {
        name: {p: [a for a in first[p].right if a not in tables[name][p].right] for p in shared} for name in models[1:]
    }
    spread = {p: max(len(lost[name][p]) for name in lost) - min(len(lost[name][p]) for name in lost) for p in shared}
    most = {p: max(len(lost[name][p]) for name in lost) for p in shared}
    chosen = sorted(shared, key=lambda p: (-spread[p], -most[p], p))[:prompts]
    texts = frame.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        _summary(tables, models, shared, lost),
        f"<p>Below, {len(chosen)} of {len(shared)} prompts: those on which the models differ most in the answers they lost. Bars are shares of the samples of a "
        f"prompt. <span class='lost'>Struck out</span>: a right answer of {escape(models[0])} that the model gave in none of its samples.</p>",
    ]
    for prompt in chosen:
        parts.append(
            f"<h2>{escape(str(prompt))}</h2><p class='prompt'>{escape(_shown(str(texts[prompt])))}</p><div class='models'>"
        )
        for name in models:
            parts.append(_column(name, tables[name][prompt], lost.get(name, {}).get(prompt, []), first[prompt], wrong))
        parts.append("</div>")
    return "".join([*parts, "</body></html>\n"])


def write_completions(path: Path, frame: pd.DataFrame, models: Sequence[str] = (), **options) -> None:
    """Write ``completions_page`` to ``path``. ValueError as there, and for a path that does not end in .html."""
    if path.suffix != ".html":
        raise ValueError(f"The page's path must end in .html, got {str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(completions_page(frame, models, **options), encoding="utf-8")


class _Answers:
    """What a model wrote for one prompt: its samples, right answers by canonical form, wrong completions; each with its count."""

    def __init__(self, rows: pd.DataFrame):
        right = rows[rows["correct"].fillna(False).astype(bool)]
        self.samples = len(rows)
        self.right = Counter(right["canonical"].fillna("").astype(str))
        self.wrong = Counter(rows.drop(right.index)["completion"].astype(str))
        self.example = dict(zip(right["canonical"].fillna("").astype(str), right["completion"].astype(str)))


def _answers(rows: pd.DataFrame) -> dict[str, _Answers]:
    return {prompt: _Answers(group) for prompt, group in rows.reset_index(drop=True).groupby("prompt_id", sort=False)}


def _summary(tables, models, shared, lost) -> str:
    rows = []
    for name in models:
        of = [tables[name][prompt] for prompt in shared]
        right = sum(sum(a.right.values()) for a in of) / sum(a.samples for a in of)
        solved, distinct = (sum(bool(a.right) for a in of), sum(len(a.right) for a in of) / len(of))
        gone = sum(len(each) for each in lost[name].values()) if name in lost else 0
        cells = (f"{right:.1%}", f"{solved} of {len(of)}", f"{distinct:.2f}", str(gone) if name in lost else "")
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = (
        "model",
        "right",
        "prompts with a right answer",
        "distinct right answers a prompt",
        f"right answers of {escape(models[0])} lost",
    )
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{''.join(rows)}</table>"


def _column(name: str, answers: _Answers, lost: Sequence[str], first: _Answers, wrong: int) -> str:
    def line(text: str, count: int, kind: str = "") -> str:
        share = count / max(1, answers.samples)
        return (
            f"<li class='{kind}'><span class='bar' style='width:{share:.1%}'></span><span class='share'>{share:.0%}</span>"
            f"{escape(text[:200])}</li>"
        )

    lines = [line(answers.example[a], n) for a, n in answers.right.most_common()]
    lines += [f"<li class='lost'>{escape(first.example[a][:200])}</li>" for a in lost]
    shown = answers.wrong.most_common(wrong)
    lines += [line(text, n, "wrong") for text, n in shown]
    rest = sum(answers.wrong.values()) - sum(n for _, n in shown)
    lines += [line(f"{len(answers.wrong) - len(shown)} other wrong completions", rest, "wrong")] if rest else []
    right = sum(answers.right.values()) / max(1, answers.samples)
    return f"<div class='model'><h3>{escape(name)}: {right:.0%} right, {len(answers.right)} distinct</h3><ul>{''.join(lines)}</ul></div>"


def _shown(prompt: str) -> str:
    """The user's message of a rendered chat prompt, where it can be told apart; else the whole."""
    _, begins, rest = prompt.rpartition("<|im_start|>user\n")
    return rest.partition("<|im_end|>")[0] if begins else prompt
