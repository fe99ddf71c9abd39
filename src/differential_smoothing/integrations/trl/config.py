"""``DSGRPOConfig``: GRPOConfig and the options of this package, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import GRPOConfig

from differential_smoothing.advantages import smoothing_coefficient
from differential_smoothing.integrations.correctness import plain_number
from differential_smoothing.rules import PRESETS, RULES, make_rule

__all__ = ["DSGRPOConfig", "check_even"]

#: Losses whose gradient comes through the ratio alone: one ratio per completion gives each of its tokens the same push.
_THROUGH_THE_RATIO = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo")


@dataclass
class DSGRPOConfig(GRPOConfig):
    """GRPOConfig and the parameters of Differential Smoothing (arXiv 2511.19942). With both gammas 0 it is GRPO.

    ``rule`` replaces GRPO's advantages by those of another rule, to which the term of the gammas is still added: a gamma_p above 0
    with ``rule="maxrl"`` is Differential Smoothing on top of MaxRL.
    """

    _VALID_DICT_FIELDS = [*GRPOConfig._VALID_DICT_FIELDS, "rule_options"]

    gamma_p: float = field(
        default=0.0,
        metadata={
            "help": "Strength on correct completions, >= 0: flattens their distribution. 0.1 to 1 for token."
        },
    )
    gamma_n: float = field(
        default=0.0,
        metadata={
            "help": "Strength on incorrect completions, >= 0: sharpens their distribution. Costs variety."
        },
    )
    level: str = field(
        default="token",
        metadata={
            "help": "What log pi_old is: each 'token's own, or the completion's 'mean' or 'sum' over tokens."
        },
    )
    stage: str = field(
        default="advantage",
        metadata={
            "help": "Add the term to the 'advantage' (paper's practice) or to the 'reward' before centring."
        },
    )
    center: bool = field(
        default=False,
        metadata={
            "help": "Take log pi_old relative to its average: of the token's distribution (token), or of the group's "
            "completions of the same correctness (mean, sum)."
        },
    )
    rule: str = field(
        default="grpo",
        metadata={
            "help": "What turns rewards into advantages: a name of differential_smoothing.rules, a preset of the host's "
            "options, 'package.module:function' or 'file.py:function'. 'grpo' is the host's own."
        },
    )
    rule_options: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Options of the rule, a mapping such as {"k": 4}.'}
    )
    schedule: str = field(
        default="constant",
        metadata={
            "help": "'entropy_discrepancy' multiplies the gammas and entropy_coef by the batch's entropy discrepancy, the gammas by 0 "
            "where it is negative."
        },
    )
    correct_reward: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Name of the reward function that says which completions are correct, or its position from 0. Required with several. "
            "A list, or names with commas between, where each scores rows of its own: the first that is not None counts."
        },
    )
    correct_threshold: float = field(
        default=0.5,
        metadata={
            "help": "A completion is correct if that reward is above this; None from the function = unknown."
        },
    )

    def __post_init__(self):
        if not isinstance(self.rule, str):
            raise ValueError(
                f"rule must be the name or import path of a rule, such as 'maxrl'; got {self.rule!r}."
            )
        if self.rule in PRESETS:
            default = {f.name: f.default for f in fields(self)}
            for name, value in PRESETS[self.rule].items():
                if getattr(self, name) == default[name]:  # what the user set otherwise stays
                    setattr(self, name, value)
        if str(self.fsdp).lower() == "true":  # from a flag it is text, which the host takes for a list of options
            self.fsdp = True
        super().__post_init__()
        for name in ("gamma_p", "gamma_n"):
            if isinstance(getattr(self, name), np.number):
                setattr(self, name, getattr(self, name).item())
        self._check_rule()
        smoothing_coefficient(
            torch.zeros(1), gamma_p=self.gamma_p, gamma_n=self.gamma_n
        )  # its checks and messages
        self.correct_threshold = plain_number("correct_threshold", self.correct_threshold)
        choices = {
            "level": ("token", "mean", "sum"),
            "stage": ("advantage", "reward"),
            "schedule": ("constant", "entropy_discrepancy"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}.")
        if self.schedule != "constant" and self.gamma_p == self.gamma_n == self.entropy_coef == 0:
            raise ValueError(
                f"schedule={self.schedule!r} multiplies gamma_p, gamma_n and entropy_coef, and all of them are 0. Set one, to 1.0 for "
                f"the published entropy coefficient."
            )
        if self.schedule != "constant" and self.use_adaptive_entropy:
            raise ValueError("schedule and use_adaptive_entropy both set the entropy coefficient. Choose one.")
        if self.stage == "reward" and self.level == "token":
            raise ValueError(
                "stage='reward' shapes one number per completion, so level='token' has no meaning there. "
                "Set level to 'mean' or 'sum', or stage to 'advantage'."
            )
        if self.level == "token" and self.averages_over_tokens and (self.gamma_p > 0 or self.gamma_n > 0):
            undone = self.rule == "gspo"  # the preset would set it to 'sequence' again
            raise ValueError(
                f"level='token' gives each token a term of its own, and importance_sampling_level='sequence' (which rule='gspo' sets) with "
                f"loss_type={self.loss_type!r} takes one ratio per completion, so its gradient sees only the mean over the tokens. Set "
                f"level='mean', which is that, or 'sum'"
                + ("." if undone else ", or importance_sampling_level='token'.")
            )
        if self.center and self.stage == "reward":
            raise ValueError(
                "center shifts the term at the advantage stage; the reward stage is centred by itself. Set stage to 'advantage', or "
                "leave center out."
            )
        if self.stage == "reward" and self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"stage='reward' adds its term to the summed reward, which multi_objective_aggregation="
                f"{self.multi_objective_aggregation!r} does not have. Use 'sum_then_normalize' or stage='advantage'."
            )

    @property
    def averages_over_tokens(self) -> bool:
        """Whether the loss's gradient sees only the mean of a completion's advantages over its tokens."""
        return self.importance_sampling_level == "sequence" and self.loss_type in _THROUGH_THE_RATIO

    def _check_rule(self) -> None:
        if self.rule in ("grpo", *PRESETS):
            if self.rule_options:
                raise ValueError(
                    f"rule={self.rule!r} leaves the advantages to the host and has no rule_options, got {self.rule_options}. The "
                    f"host's own options, such as scale_rewards and entropy_coef, are options of the config itself."
                )
            return
        if not (self.rule_options is None or isinstance(self.rule_options, dict)):
            raise ValueError(f"rule_options must be a mapping of option to value, got {self.rule_options!r}.")
        if ":" not in self.rule and self.rule not in RULES:
            known = ", ".join([*RULES, *PRESETS])
            raise ValueError(
                f"There is no rule {self.rule!r}. Known are {known}; one of your own is 'package.module:function'."
            )
        make_rule(self.rule, self.rule_options)  # its own messages
        smooths = self.gamma_p > 0 or self.gamma_n > 0
        if self.rule in RULES and self.rule.startswith("ds_") and smooths:
            raise ValueError(
                f"rule={self.rule!r} has gammas of its own: put gamma_p and gamma_n into rule_options, or take another rule."
            )
        if self.stage == "reward" and smooths:
            raise ValueError(
                f"stage='reward' shapes the reward of the host's own advantages; with rule={self.rule!r} use stage='advantage'."
            )
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"rule={self.rule!r} reads the summed reward, which multi_objective_aggregation="
                f"{self.multi_objective_aggregation!r} does not have. Use 'sum_then_normalize'."
            )


def check_even(advantages: Tensor, mask: Tensor, *, rule: str) -> None:
    """ValueError if advantages (batch, tokens) differ between the tokens of a completion, for a loss that ``averages_over_tokens``."""
    counts = mask != 0
    high = torch.where(counts, advantages, -torch.inf).amax(1)
    low = torch.where(counts, advantages, torch.inf).amin(1)
    if (high > low).any():
        raise ValueError(
            f"The rule {rule} gives each token its own advantage, and importance_sampling_level='sequence' takes one ratio per completion, "
            f"so the gradient would see only their mean over the tokens. Set importance_sampling_level='token', or take a rule of one "
            f"advantage per completion."
        )
