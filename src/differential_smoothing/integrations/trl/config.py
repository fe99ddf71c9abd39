"""``DSGRPOConfig``: GRPOConfig and the options of this package, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import GRPOConfig

from differential_smoothing.integrations.correctness import threshold_number
from differential_smoothing.integrations.trl.shared_prompts import check_shareable
from differential_smoothing.options import check_options, has_own_gammas, plain_number
from differential_smoothing.rules import PRESETS, RULES, make_rule

__all__ = ["DSGRPOConfig", "check_even"]

#: Losses whose gradient comes through the ratio alone: one ratio per completion gives each of its tokens the same push.
_THROUGH_THE_RATIO = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo")

#: The host keeps a frozen base, and hands over its log-probs, for beta > 0 only. This weight of the KL term is below rounding.
HELD_REFERENCE = 1e-12


@dataclass
class DSGRPOConfig(GRPOConfig):
    """GRPOConfig and the parameters of Differential Smoothing (arXiv 2511.19942). With both gammas 0 it is GRPO.

    ``rule`` replaces GRPO's advantages by those of another rule, to which the term of the gammas is still added: a gamma_p above 0
    with ``rule="maxrl"`` is Differential Smoothing on top of MaxRL.
    """

    _VALID_DICT_FIELDS = [*GRPOConfig._VALID_DICT_FIELDS, "rule_options"]

    gamma_p: float = field(
        default=0.0,
        metadata={"help": "Strength on correct completions, >= 0: flattens their distribution. 0.1 to 1 for token."},
    )
    gamma_n: float = field(
        default=0.0,
        metadata={"help": "Strength on incorrect completions, >= 0: sharpens their distribution. Costs variety."},
    )
    level: str = field(
        default="token",
        metadata={"help": "What log pi_old is: each 'token's own, or the completion's 'mean' or 'sum' over tokens."},
    )
    stage: str = field(
        default="advantage",
        metadata={"help": "Add the term to the 'advantage' (paper's practice) or to the 'reward' before centring."},
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
            "help": "Name of the reward function that decides which completions are correct, or its position from 0. Required with several. "
            "A list, or names with commas between, where each scores rows of its own: the first that is not None counts."
        },
    )
    correct_threshold: float = field(
        default=0.5,
        metadata={"help": "A completion is correct if that reward is above this; None from the function = unknown."},
    )

    relative: bool = field(
        default=False,
        metadata={
            "help": "Multiply the gammas by the completion's own advantage, at least relative_floor, and take log pi_old relative to its mean "
            "over the group's completions of the same correctness. 0.3 to 0.5 for gamma_p."
        },
    )
    relative_floor: float = field(
        default=0.2,
        metadata={
            "help": "Least size of the advantage that relative multiplies by; acts in groups that are all correct."
        },
    )
    density: str = field(
        default="old",
        metadata={
            "help": "Whose log-probability the term takes: 'old' log pi_old, 'base' that of the frozen base (the paper's Eq. 4), 'ratio' "
            "log pi_old - base_weight * log pi_base."
        },
    )
    base_weight: float = field(default=1.0, metadata={"help": "Weight of log pi_base in density='ratio'."})
    variety_target: float | None = field(
        default=None,
        metadata={
            "help": "Share of the base's variety among right answers to keep, in (0, 1]: gamma_p is found while training. Variety is the "
            "entropy among right answers in nats per token; see integrations/trl/variety.py."
        },
    )
    share_prompts: bool = field(
        default=False,
        metadata={
            "help": "Read every prompt once for all its completions in the loss's forward pass. The same loss but for rounding; saves the "
            "prompts' share of the tokens. One process, no gradient checkpointing, text only."
        },
    )

    def __post_init__(self):
        if not isinstance(self.rule, str):
            raise ValueError(f"rule must be the name or import path of a rule, such as 'maxrl'; got {self.rule!r}.")
        if self.rule in PRESETS:
            default = {f.name: f.default for f in fields(self)}
            for name, value in PRESETS[self.rule].items():
                if getattr(self, name) == default[name]:  # what the user set otherwise stays
                    setattr(self, name, value)
        if str(self.fsdp).lower() == "true":  # from a flag it is text, which the host takes for a list of options
            self.fsdp = True
        if self.density in ("base", "ratio") and self.beta == 0:
            self.beta = HELD_REFERENCE
        super().__post_init__()
        for name in ("gamma_p", "gamma_n"):
            if isinstance(getattr(self, name), np.number):
                setattr(self, name, getattr(self, name).item())
        self._check_rule()
        check_options(self, _written, scheduled=("gamma_p", "gamma_n", "entropy_coef"))
        self.correct_threshold = threshold_number("correct_threshold", self.correct_threshold)
        if self.schedule != "constant" and self.use_adaptive_entropy:
            raise ValueError("schedule and use_adaptive_entropy both set the entropy coefficient. Choose one.")
        if self.level == "token" and self.averages_over_tokens and self.smooths:
            undone = self.rule == "gspo"  # the preset would set it to 'sequence' again
            raise ValueError(
                f"level='token' gives each token a term of its own, and importance_sampling_level='sequence' (which rule='gspo' sets) with "
                f"loss_type={self.loss_type!r} takes one ratio per completion, so its gradient sees only the mean over the tokens. Set "
                f"level='mean', which is that, or 'sum'"
                + ("." if undone else ", or importance_sampling_level='token'.")
            )
        if self.stage == "reward" and self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"stage='reward' adds its term to the summed reward, which multi_objective_aggregation="
                f"{self.multi_objective_aggregation!r} does not have. Use 'sum_then_normalize' or stage='advantage'."
            )
        self._check_term()

    @property
    def smooths(self) -> bool:
        """Whether a term is added at all."""
        return self.gamma_p > 0 or self.gamma_n > 0 or self.variety_target is not None

    @property
    def averages_over_tokens(self) -> bool:
        """Whether the loss's gradient sees only the mean of a completion's advantages over its tokens."""
        return self.importance_sampling_level == "sequence" and self.loss_type in _THROUGH_THE_RATIO

    def _check_term(self) -> None:
        """The options of the term among themselves: one without effect is an error."""
        target = self.variety_target
        if target is not None and not (isinstance(target, (int, float)) and 0 < target <= 1):
            raise ValueError(
                f"variety_target is the share of the base's variety to keep, above 0 and at most 1; got {target!r}."
            )
        if target is not None and self.schedule != "constant":
            raise ValueError(
                f"variety_target and schedule={self.schedule!r} both set gamma_p while training. Choose one."
            )
        if target is not None and has_own_gammas(self.rule):
            raise ValueError(
                f"rule={self.rule!r} has gammas of its own, which variety_target cannot move. Take rule='grpo'."
            )
        self.relative_floor = plain_number("relative_floor", self.relative_floor)  # without numpy
        self.base_weight = plain_number("base_weight", self.base_weight)
        if self.share_prompts:
            check_shareable(
                num_processes=1,
                gradient_checkpointing=self.gradient_checkpointing,
                padding_free=getattr(self, "padding_free", False),
            )
        if self.base_weight != 1.0 and self.density != "ratio":
            raise ValueError(f"base_weight={self.base_weight} has no effect without density='ratio'.")
        if self.density != "old" and self.sync_ref_model:
            raise ValueError(
                f"density={self.density!r} needs a frozen base, which sync_ref_model=True moves. Set it to false."
            )
        if self.density == "ratio" and self.base_weight < 0:
            raise ValueError(f"base_weight must be >= 0, got {self.base_weight}.")

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
        if self.stage == "reward" and self.smooths:
            raise ValueError(
                f"stage='reward' shapes the reward of the host's own advantages; with rule={self.rule!r} use stage='advantage'."
            )
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"rule={self.rule!r} reads the summed reward, which multi_objective_aggregation="
                f"{self.multi_objective_aggregation!r} does not have. Use 'sum_then_normalize'."
            )


def _written(name: str, value: Any = None) -> str:
    return name if value is None else f"{name}={value!r}"


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
