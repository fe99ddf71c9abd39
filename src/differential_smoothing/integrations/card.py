"""A trained model's card: its training and evaluation, in words and in the Hub's metadata.

The host writes README.md (its ``create_model_card``); ``add_training`` and ``add_evaluation`` each put one section into it, between
markers, so that doing it again replaces it and nothing that a person wrote is touched. Files only: nothing is sent anywhere.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from huggingface_hub import EvalResult, ModelCard

__all__ = ["add_evaluation", "add_training", "in_words", "keep_evaluation"]

_log = logging.getLogger(__name__)

_VERSIONS = "\n### Framework versions"  # of the host's card: what stands above it is about the training

_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)  # what the Hub's library raises of metadata, besides YAML's own

_BY = "dsmooth"  # in the metadata of a result: put in by us, and replaced by the next evaluation

_LEVELS = {
    "token": "each token's own log pi_old",
    "mean": "the completion's mean log pi_old",
    "sum": "the completion's summed log pi_old",
}
_DENSITIES = {"old": "log pi_old", "base": "log pi_base", "ratio": "(log pi_old - {weight} log pi_base)"}
_SETTINGS = (
    "rule",
    "rule_options",
    "gamma_p",
    "gamma_n",
    "level",
    "stage",
    "center",
    "relative",
    "relative_floor",
    "density",
    "base_weight",
    "variety_target",
    "schedule",
    "learning_rate",
    "num_generations",
    "generation_batch_size",
    "max_completion_length",
    "temperature",
    "beta",
    "epsilon",
    "epsilon_high",
    "loss_type",
    "seed",
)


def in_words(config: Any) -> str:
    """What the configured training does to the advantages, in one or two plain sentences."""
    from differential_smoothing.rules import PRESETS

    if config.rule == "grpo":
        base = "GRPO's advantages"
    elif config.rule in PRESETS:
        base = f"GRPO's advantages with the host's options of the preset {config.rule}"
    else:
        base = f"The advantages of the rule {config.rule}"
    if not config.smooths:
        return f"{base}; both gammas are 0, so nothing is added to them."
    term = _LEVELS[config.level].replace(
        "log pi_old", _DENSITIES[config.density].format(weight=f"{config.base_weight:g}")
    )
    term += ", relative to its average," if config.center else ""
    term += (
        ", relative to the group's completions of the same correctness and times the advantage's size,"
        if config.relative
        else ""
    )
    where = " to the reward, before the group's mean is taken off" if config.stage == "reward" else ""
    target = config.variety_target
    strength = (
        config.gamma_p and f"{config.gamma_p:g}"
        if target is None
        else f"a strength that keeps {target:.0%} of the base's variety"
    )
    parts = [
        f"{sign}{gamma} x {term} added{where} for {kind} completions ({effect})"
        if gamma
        else f"{kind} completions as they are"
        for gamma, sign, kind, effect in (
            (strength, "-", "correct", "flattens them, keeps variety"),
            (config.gamma_n and f"{config.gamma_n:g}", "+", "incorrect", "sharpens them"),
        )
    ]
    words = f"{base}; {'; '.join(parts)}."
    if config.schedule != "constant":
        words += f" The gammas follow the batch: {config.schedule}."
    return words


def add_training(card: Path, config: Any) -> None:
    """Put the rule, its strengths and the settings that belong to them into the model card ``card``, a README.md."""
    rows = [(name, getattr(config, name)) for name in _SETTINGS]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows if value is not None)
    _put(
        card,
        "training",
        f"### The rule and its settings\n\n{in_words(config)}\n\n| option | value |\n|---|---|\n{table}\n",
    )


def add_evaluation(card: Path, markdown: str, summary: pd.DataFrame, *, model: str, task: str) -> None:
    """Put an evaluation into a model card: the tables for people, and the Hub's ``model-index`` for its search.

    Args:
        card: the README.md of a model's folder.
        markdown: the tables, with their intervals.
        summary: what ``evaluation.summarise`` returns. Of ``model``, the first and last Pass@k and the distinct answers go into
            the metadata, with their 95% intervals.
        model: which of the models in ``summary`` the card is of. ValueError if it is not there.
        task: what the metadata calls the problems.
    """
    from huggingface_hub import EvalResult

    mine = summary[(summary["model"] == model) & summary["estimate"].notna()]
    if mine.empty:
        raise ValueError(
            f"The card is of the model {model!r}, and the evaluation has {', '.join(map(repr, summary['model'].unique()))}. Say which of "
            f"them the card is of."
        )
    whole = _load(card)
    curve = mine[mine["metric"] == "pass@k"].sort_values("k")
    chosen = [*curve.iloc[[0, -1]].drop_duplicates().itertuples()] if len(curve) else []
    chosen += mine[mine["metric"] == "distinct"].itertuples()
    results = []
    for row in chosen:
        name = f"pass@{row.k:.0f}" if row.metric == "pass@k" else row.metric
        known = math.isfinite(row.low) and math.isfinite(row.high)  # one problem, or one seed, has no interval
        interval = {"interval_95": [round(float(row.low), 6), round(float(row.high), 6)]} if known else {}
        results.append(
            EvalResult(
                task_type="text-generation",
                dataset_type=task,
                dataset_name=task,
                metric_type=name,
                metric_name=name,
                metric_value=round(float(row.estimate), 6),
                metric_args={"by": _BY, **interval},
            )
        )
    kept = [result for result in whole.data.eval_results or [] if not _ours(result)]
    whole.text = _placed(whole.text, "evaluation", f"## Evaluation\n\n{markdown.strip()}\n")
    whole.data.model_name, whole.data.eval_results = whole.data.model_name or model, kept + results
    whole.save(card)


def keep_evaluation(old: str, card: Path) -> None:
    """Put the evaluation that the text ``old`` of a card has, if any, into the card that was written in its place.

    Metadata of ``old`` that cannot be read stay behind, with a warning: a model that is trained is not held up by its card.
    """
    import yaml
    from huggingface_hub import ModelCard

    if found := re.search(_section("evaluation"), old, re.DOTALL):
        _put(card, "evaluation", found[0])
        try:
            before, whole = ModelCard(old, ignore_metadata_errors=True), ModelCard.load(card)
        except (yaml.YAMLError, *_UNREADABLE) as error:
            _log.warning(
                "The evaluation's tables were kept in %s. Its results for the Hub's search were not: the metadata at the head of the "
                "old card cannot be read (%.300s). dsmooth card puts them in again.",
                card,
                " ".join(str(error).split()),
            )
            return
        whole.data.model_name, whole.data.eval_results = before.data.model_name, before.data.eval_results
        whole.save(card)


def _ours(result: EvalResult) -> bool:
    """Whether an earlier evaluation of ours put the result into the metadata. Those of before the mark have the interval alone."""
    arguments = result.metric_args
    return isinstance(arguments, dict) and (arguments.get("by") == _BY or list(arguments) == ["interval_95"])


def _load(card: Path) -> ModelCard:
    """The card, an empty one where there is none. ValueError if its metadata cannot be read."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(card) if card.is_file() else ModelCard("")
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise ValueError(
            f"The metadata at the head of {card} cannot be read ({' '.join(str(error).split())[:300]}). Nothing was changed. Correct "
            f"what stands between its two lines of ---."
        ) from None


def _section(name: str) -> str:
    return rf"<!-- dsmooth {name} -->.*?<!-- end of dsmooth {name} -->"


def _put(card: Path, name: str, text: str) -> None:
    """Write the section ``name``: in the place of an older one, else before the host's last sections, else at the end."""
    whole = card.read_text(encoding="utf-8") if card.is_file() else ""
    card.write_text(_placed(whole, name, text), encoding="utf-8")


def _placed(whole: str, name: str, text: str) -> str:
    if not text.startswith("<!--"):
        text = f"<!-- dsmooth {name} -->\n{text}<!-- end of dsmooth {name} -->"
    if re.search(_section(name), whole, re.DOTALL):
        return re.sub(_section(name), lambda _: text, whole, count=1, flags=re.DOTALL)
    if _VERSIONS in whole:
        return whole.replace(_VERSIONS, f"\n{text}\n{_VERSIONS}", 1)
    return f"{whole.rstrip()}\n\n{text}\n".lstrip()
