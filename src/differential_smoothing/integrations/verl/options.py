"""What ``+algorithm.ds.KEY=VALUE`` can say, checked before a worker starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

from differential_smoothing.integrations.correctness import threshold_number
from differential_smoothing.options import check_options
from differential_smoothing.rules import PRESETS, RULES, BoundRule, make_rule

__all__ = ["DSOptions", "read_options"]


@dataclass(frozen=True)
class DSOptions:
    """The keys of ``algorithm.ds``. Names and meaning are those of ``DSGRPOConfig`` of the TRL trainer.

    Args:
        rule: a name of ``differential_smoothing.rules``, ``"package.module:function"`` or ``"file.py:function"``. ``"grpo"`` is
            verl's own estimator, with verl's ``algorithm.norm_adv_by_std_in_grpo``.
        rule_options: of the rule, as in ``+algorithm.ds.rule_options.k=4``.
        gamma_p, gamma_n: strength on correct and on incorrect completions, >= 0 in the paper's direction; added to any rule.
        level, stage, center: see ``ds_grpo_advantages``.
        relative, relative_floor: strengths relative to the completion's own advantage, see ``relative_term``.
        schedule: ``"entropy_discrepancy"`` multiplies both gammas by the batch's entropy discrepancy, by 0 where it is negative.
        correct_key: the key of what ``compute_score`` returns with the correctness, such as ``acc``; or a list of keys where data
            sources have different ones: the first that a completion has, and that is not None, counts. Without one it is the score
            itself, before any KL penalty.
        correct_threshold: correct means that value is above this; a missing or NaN value is unknown.
    """

    rule: str = "grpo"
    rule_options: Mapping[str, Any] | None = None
    gamma_p: float = 0.0
    gamma_n: float = 0.0
    level: Literal["token", "mean", "sum"] = "token"
    stage: str = "advantage"
    center: bool = False
    relative: bool = False
    relative_floor: float = 0.2
    schedule: str = "constant"
    correct_key: str | Sequence[str] | None = None
    correct_threshold: float = 0.5

    def __post_init__(self):
        wrong = {
            "center": not isinstance(self.center, bool),
            "relative": not isinstance(self.relative, bool),
            "correct_key": not (
                self.correct_key is None
                or isinstance(self.correct_key, str)
                or (
                    isinstance(self.correct_key, Sequence)
                    and self.correct_key
                    and all(isinstance(key, str) for key in self.correct_key)
                )
            ),
            "rule": not isinstance(self.rule, str),
            "rule_options": not (self.rule_options is None or isinstance(self.rule_options, Mapping)),
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(f"algorithm.ds.{name} cannot be {getattr(self, name)!r}.")
        threshold_number("algorithm.ds.correct_threshold", self.correct_threshold)
        check_options(self, _written)
        self._check_rule()

    def _check_rule(self) -> None:
        if self.rule == "grpo":
            if self.rule_options:
                raise ValueError(
                    f"algorithm.ds.rule=grpo is verl's own and has no rule_options, got {dict(self.rule_options)}. Its one option is "
                    f"algorithm.norm_adv_by_std_in_grpo."
                )
            return
        if self.rule in PRESETS:
            raise ValueError(
                f"algorithm.ds.rule={self.rule} is a preset of TRL's options. In verl set the option itself, under "
                f"actor_rollout_ref.actor. Rules are {', '.join(RULES)}."
            )
        if self.bound.requires("answer"):
            raise ValueError(
                f"algorithm.ds.rule={self.rule} asks for answer, the ids of the canonical answers, which verl does not hand over. Give the "
                f"parameter a default, or train with DSGRPOTrainer."
            )
        if self.smooths and self.stage == "reward":
            raise ValueError(
                f"algorithm.ds.stage=reward shapes the reward of verl's own GRPO; with rule={self.rule} use stage=advantage."
            )

    @cached_property
    def bound(self) -> BoundRule:
        """The rule with its options. Made once: a file of the user's is run once and keeps its state."""
        return make_rule(self.rule, self.rule_options)

    @property
    def correct_keys(self) -> list[str]:
        """``correct_key`` as a list, empty where the score itself decides."""
        if self.correct_key is None:
            return []
        return [self.correct_key] if isinstance(self.correct_key, str) else list(self.correct_key)

    @property
    def smooths(self) -> bool:
        """Whether a term is added at all."""
        return self.gamma_p > 0 or self.gamma_n > 0

    @property
    def needs_entropies(self) -> bool:
        """Whether the term is centred token by token."""
        return self.smooths and self.center and self.level == "token"


def _written(name: str, value: Any = None) -> str:
    return (
        f"algorithm.ds.{name}"
        if value is None
        else f"algorithm.ds.{name}={str(value).lower() if isinstance(value, bool) else value}"
    )


def read_options(given: Mapping[str, Any] | None) -> DSOptions:
    """``algorithm.ds`` as options, from the OmegaConf object or a mapping. ValueError names an unknown key and the nearest known one."""
    if given is not None and not isinstance(given, Mapping):
        from omegaconf import DictConfig, OmegaConf

        if isinstance(given, DictConfig):
            given = OmegaConf.to_container(given, resolve=True)
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(
            f"algorithm.ds must hold keys and values, as in +algorithm.ds.gamma_p=0.2; got {given!r:.200}."
        )
    known = [field.name for field in fields(DSOptions)]
    for key in given or {}:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            raise ValueError(
                f"There is no key algorithm.ds.{key}.{f' Did you mean {close[0]}?' if close else ''} Known are {', '.join(known)}."
            )
    return DSOptions(**(given or {}))
