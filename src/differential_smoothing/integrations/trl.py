"""DS-GRPO as a drop-in for TRL's GRPOTrainer.

    from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer

    DSGRPOTrainer(
        model=..., args=DSGRPOConfig(gamma_p=0.2), reward_funcs=..., train_dataset=..., processing_class=...
    ).train()

Everything that is not the advantage is the host's: generation, losses, clipping, KL, PEFT, vLLM, distribution, resume.
Four methods of the host are extended: ``_calculate_rewards`` to learn which completions are correct,
``_generate_and_score_completions`` to replace the advantages, and ``_compute_loss`` with
``_get_per_token_logps_and_entropies`` where log pi_old is known only there. All call ``super()`` and copy nothing. They
are private to TRL, so ``tests/test_trl.py`` holds the contract we rely on.

**Where log pi_old comes from, at no extra forward pass.** In this order: the old log-probs that TRL has computed for
its own ratio; the sampler's (vLLM, or a ``rollout_func`` that returns ``logprobs``); else those of the loss's own
forward pass. In that last case TRL computes no old log-probs *because* the policy has not moved since it sampled, so
the current log-probs are the old ones, and the term is added on the way into the loss. Only ``stage="reward"``, ``center`` of whole
completions and a ``rule`` that reads log-probs may need a forward pass of their own: they need a group's statistics before the loss
sees its completions. ``center`` of tokens takes their entropies from the loss's forward pass.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from math import gcd
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.tensor import DTensor
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation

from differential_smoothing.advantages import (
    centred_logps,
    completion_logps,
    density_logps,
    ds_grpo_advantages,
    relative_term,
    smoothing_coefficient,
    smoothing_term,
)
from differential_smoothing.integrations import card
from differential_smoothing.integrations.launch import lone_process
from differential_smoothing.integrations.shared_prompts import check_shareable, shared_prompt_logps
from differential_smoothing.integrations.variety import VarietyTarget, success_correction
from differential_smoothing.rules import PRESETS, RULES, make_rule
from differential_smoothing.rules.discrepancy import entropy_discrepancy
from differential_smoothing.sampling import sample
from differential_smoothing.tasks.task import text_of

__all__ = ["DSGRPOConfig", "DSGRPOTrainer", "shared_prefix_rollout"]

_log = logging.getLogger(__name__)

#: A weight of the KL term whose effect is below rounding: with it the host keeps the frozen base and hands over its log-probs.
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
    correct_reward: str | None = field(
        default=None,
        metadata={
            "help": "Name of the reward function that says which completions are correct. Required with several."
        },
    )
    correct_threshold: float = field(
        default=0.5,
        metadata={
            "help": "A completion is correct if that reward is above this; None from the function = unknown."
        },
    )

    relative: bool = field(
        default=False,
        metadata={
            "help": "Multiply the gammas by the completion's own advantage, at least relative_floor, and take log pi_old relative to its mean "
            "over the group's completions of the same correctness. 0.3 to 0.5 for gamma_p."
        },
    )
    relative_floor: float = field(
        default=0.2, metadata={"help": "Least size of the advantage that relative multiplies by; acts in groups that are all correct."}
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
            "entropy among right answers in nats per token; see integrations/variety.py."
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
        if self.density in ("base", "ratio") and self.beta == 0:
            self.beta = HELD_REFERENCE  # the host keeps a frozen base for beta > 0 only
        super().__post_init__()
        self._check_rule()
        self._check_term()
        smoothing_coefficient(
            torch.zeros(1), gamma_p=self.gamma_p, gamma_n=self.gamma_n
        )  # its checks and messages
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

    def _check_term(self) -> None:
        """The options of the term among themselves: one without effect is an error."""
        if self.density not in ("old", "base", "ratio"):
            raise ValueError(f"density must be one of old, base, ratio; got {self.density!r}.")
        target = self.variety_target
        if target is not None and not (isinstance(target, (int, float)) and 0 < target <= 1):
            raise ValueError(f"variety_target is the share of the base's variety to keep, above 0 and at most 1; got {target!r}.")
        if target is not None and self.schedule != "constant":
            raise ValueError(f"variety_target and schedule={self.schedule!r} both set gamma_p while training. Choose one.")
        if target is not None and self.rule.startswith("ds_"):
            raise ValueError(f"rule={self.rule!r} has gammas of its own, which variety_target cannot move. Take rule='grpo'.")
        smooths = self.gamma_p > 0 or self.gamma_n > 0 or target is not None
        for name, default in (("relative", False), ("density", "old")):
            if getattr(self, name) != default and not smooths:
                raise ValueError(f"{name}={getattr(self, name)!r} has no effect while gamma_p and gamma_n are 0. Set gamma_p, such as 0.3.")
        if self.relative_floor != 0.2 and not self.relative:
            raise ValueError(f"relative_floor={self.relative_floor} has no effect without relative=True.")
        if self.base_weight != 1.0 and self.density != "ratio":
            raise ValueError(f"base_weight={self.base_weight} has no effect without density='ratio'.")
        if self.density != "old" and self.sync_ref_model:
            raise ValueError(f"density={self.density!r} needs a frozen base, which sync_ref_model=True moves. Set it to false.")
        if self.relative and (self.center or self.stage == "reward"):
            raise ValueError("relative=True is centred by itself, at the advantage stage. Leave center out and set stage='advantage'.")
        if self.density != "old" and self.center and self.level == "token":
            raise ValueError(f"center=True at level='token' needs density='old'; got {self.density!r}. Use relative=True or another level.")
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


class DSGRPOTrainer(GRPOTrainer):
    """GRPOTrainer whose advantages are those of DS-GRPO. Same arguments; ``args`` is a ``DSGRPOConfig``.

    ``canonical(completion_text, **columns) -> str | None`` says which correct completions are the same answer; only a rule that asks
    for ``answer`` needs it.

    Logged with the host's metrics, over all processes: ``ds/correct`` (share of completions), ``ds/logp_correct`` and
    ``ds/logp_incorrect`` (mean log pi_old per token, nats), ``ds/term_correct`` and ``ds/term_incorrect`` (mean of what
    was added to the stock advantage per token); ``ds/groups_all_correct`` and ``ds/groups_all_wrong`` (shares of the groups, in which
    GRPO has no gradient). The completions table and the logged advantages hold the shaped values,
    averaged over a completion's tokens.
    """

    _tag_names = ["trl", "grpo", "ds-grpo"]
    _name = "DS-GRPO"
    _paper = {
        "title": "Differential Smoothing Mitigates Sharpening and Improves LLM Reasoning",
        "id": "2511.19942",
        # docstyle-ignore
        "citation": """\
@article{gai2025differential,
    title  = {{Differential Smoothing Mitigates Sharpening and Improves LLM Reasoning}},
    author = {Gai and Zeng and Zhang and Raghunathan},
    year   = 2025,
    eprint = {arXiv:2511.19942},
}""",
    }

    def __init__(self, *args: Any, canonical: Callable[..., str | None] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not isinstance(self.args, DSGRPOConfig):
            raise ValueError(
                f"DSGRPOTrainer needs args=DSGRPOConfig(...), which has gamma_p and gamma_n; got "
                f"{type(self.args).__name__}. DSGRPOConfig takes every option of GRPOConfig."
            )
        self._correct_column = correct_column(self.reward_func_names, self.args.correct_reward)
        hosts = self.args.rule in ("grpo", *PRESETS)
        self._rule = None if hosts else make_rule(self.args.rule, self.args.rule_options)
        self._canonical = canonical
        self._answer: Tensor | None = None
        if self._rule is not None and "answer" in self._rule.context and canonical is None:
            raise ValueError(
                f"The rule {self._rule!r} asks which completions give the same answer. Say it: DSGRPOTrainer(canonical=f), with "
                f"f(completion_text, **columns) -> str, or None for no answer."
            )
        self._factor = 1.0  # of the schedule
        self._target: VarietyTarget | None = None
        if self.args.variety_target is not None:
            self._target = VarietyTarget(self.args.variety_target, start=self.args.gamma_p, level=self.args.level)
            self.add_callback(self._target)
        if self.args.share_prompts:
            check_shareable(
                num_processes=self.accelerator.num_processes, gradient_checkpointing=self.args.gradient_checkpointing,
                padding_free=getattr(self.args, "padding_free", False),
            )  # fmt: skip
        self._rewards_per_func: Tensor | None = None
        self._in_loss: dict[str, Tensor] | None = None
        self._say_if_alone(args[0] if args else kwargs.get("model"))

    def _say_if_alone(self, model: Any) -> None:
        told = not isinstance(model, str) or "device_map" in (self.args.model_init_kwargs or {})
        placed = told and self.is_model_parallel  # its layers lie on several GPUs because the user put them there
        seen = torch.cuda.device_count() if self.accelerator.device.type == "cuda" and not placed else 0
        notice = lone_process(os.environ, processes=self.accelerator.num_processes, gpus=seen)
        if notice is not None:
            _log.warning(notice)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The host's card with the rule, its strengths and settings.

        An evaluation that ``card.add_evaluation`` has put into the old card is kept, unless this is a checkpoint within a training, of
        which it does not speak. So ``push_to_hub`` uploads it.
        """
        path = Path(self.args.output_dir) / "README.md"
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        super().create_model_card(*args, **kwargs)
        if self.is_world_process_zero():
            card.add_training(path, self.args)
            if not self.is_in_train:
                card.keep_evaluation(old, path)

    def _calculate_rewards(self, inputs, prompts, completions, *args: Any, **kwargs: Any) -> Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, *args, **kwargs)  # of all processes
        self._rewards_per_func = rewards
        if self._rule is not None and "answer" in self._rule.context:
            mine = rewards[self.accelerator.process_index * len(prompts) :][: len(prompts), self._correct_column]
            texts = [text_of(completion) for completion in completions]
            answers = [
                self._canonical(text, **row) if right else None
                for text, row, right in zip(texts, inputs, mine > self.args.correct_threshold, strict=True)
            ]
            number: dict[str, int] = {}
            everybodys = gather_object(answers)
            known = [-1 if a is None else number.setdefault(a, len(number)) for a in everybodys]
            self._answer = torch.tensor(known, device=rewards.device)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        process, batch = self.accelerator.process_index, len(inputs)
        mine = slice(process * batch, (process + 1) * batch)
        reward = self._rewards_per_func[:, self._correct_column]
        correct = torch.where(reward.isnan(), reward, (reward > self.args.correct_threshold).to(reward.dtype))
        # The host shuffles and splits what it buffers, so what the loss needs travels with its row; ds_row is the
        # completion's place in the host's log of this generation.
        output["ds_correct"] = correct[mine]
        output["ds_row"] = torch.arange(mine.start, mine.stop, device=correct.device)
        if self._target is not None:
            size = self.num_generations if self.model.training else self.num_generations_eval
            output["ds_success"] = success_correction(correct, size)[mine]

        self._log_decided_groups(correct)
        if self._rule is not None:
            self._apply_rule(output, correct, mine)
        if self.args.schedule != "constant" and self.model.training:
            self._follow_schedule(output)
        logps = _old_logps(output)
        if self._smooths and not self._centres_tokens and (self.args.stage == "reward" or self.args.center or self.args.relative):
            logps = self._needed_logps(output)
            stock, shaped = output["advantages"], self._shaped_by_group(output, logps, correct, mine)
            output["advantages"] = shaped
            mean = shaped if shaped.dim() == 1 else _mean_over_tokens(shaped, _loss_mask(output))
            self._relog_advantages(output["ds_row"], mean)
            term = shaped - (stock if stock.dim() == shaped.dim() else stock[:, None])
            self._log_metrics(output, logps, term if term.dim() == 2 else term[:, None].expand_as(logps))
        elif logps is not None and not self._centres_tokens:
            self._shape(output, logps)
        return output

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Tensor:
        # A copy, since the host's buffer keeps the batch and may hand it out again for another iteration.
        shapes = self._centres_tokens or _old_logps(inputs) is None
        self._in_loss = dict(inputs) if shapes else None
        try:
            return super()._compute_loss(model, inputs if self._in_loss is None else self._in_loss)
        finally:
            self._in_loss = None

    def _get_per_token_logps_and_entropies(
        self, model: torch.nn.Module, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, ...]:
        batch = (model, input_ids, attention_mask, logits_to_keep)
        if self.args.share_prompts:
            entropies = kwargs.get("compute_entropy", False)
            with self.accelerator.autocast():
                result = (*shared_prompt_logps(*batch, compute_entropy=entropies), None)
        else:
            result = super()._get_per_token_logps_and_entropies(*batch, *args, **kwargs)
        if self._in_loss is not None:  # the host reads the advantages only after this, its loss's first step
            old = _old_logps(self._in_loss)
            entropies = result[1].detach() if self._centres_tokens else None
            self._shape(self._in_loss, result[0].detach() if old is None else old, entropies)
        return result

    @property
    def _smooths(self) -> bool:
        return self.args.gamma_p > 0 or self.args.gamma_n > 0 or self._target is not None

    def _density(self, inputs: dict[str, Any], logps: Tensor) -> Tensor:
        """(batch, tokens): the log-probs that the term is made of."""
        base = inputs.get("ref_per_token_logps")
        return density_logps(logps, base, density=self.args.density, base_weight=self.args.base_weight)

    @property
    def _centres_tokens(self) -> bool:
        """Whether the term needs the entropies of single tokens, which only the loss's own forward pass has."""
        return self._smooths and self.args.center and self.args.level == "token"

    def _shape(self, inputs: dict[str, Any], logps: Tensor, entropies: Tensor | None = None) -> None:
        """Add the term to ``inputs["advantages"]``, (batch,) -> (batch, tokens), and log it. Gammas 0: only log."""
        term = torch.zeros_like(logps)
        if self._smooths:
            mask = _loss_mask(inputs)
            coefficient = smoothing_coefficient(inputs["ds_correct"], **self._gammas)
            values = self._density(inputs, logps)
            if self.args.level != "token":
                values = self._completion_logps(values, mask)[:, None].expand_as(logps)
            term = smoothing_term(values, mask, coefficient=coefficient, entropies=entropies)
            stock = inputs["advantages"]
            inputs["advantages"] = (stock if stock.dim() == 2 else stock[:, None]) + term
            self._relog_advantages(inputs["ds_row"], _mean_over_tokens(inputs["advantages"], mask))
        self._log_metrics(inputs, logps, term)

    def _shaped_by_group(self, output: dict[str, Any], logps: Tensor, correct: Tensor, mine: slice) -> Tensor:
        """This process's advantages under the shapings that need the whole group, wherever its completions are."""
        mask, logps = _loss_mask(output), self._density(output, logps)
        group = self._groups(correct)
        if self.args.center or self.args.relative:
            # exclude unscored completions and those without tokens that count (truncated ones) from the group's mean
            has_tokens = self.accelerator.gather((mask != 0).any(1))
            kind = torch.where(has_tokens & ~self._rewards().isnan(), correct, torch.nan)
        if self.args.relative:
            stock = output["advantages"]
            size = stock if stock.dim() == 1 else _mean_over_tokens(stock, mask)
            term = relative_term(
                self._gather_tokens(logps), self._gather_tokens(mask), advantages=self.accelerator.gather(size), correct=kind,
                group=group, coefficient=smoothing_coefficient(kind, **self._gammas), level=self.args.level,
                floor=self.args.relative_floor,
            )[mine, : mask.size(1)]  # fmt: skip
            return (stock if stock.dim() == 2 else stock[:, None]) + term
        logps = self.accelerator.gather(self._completion_logps(logps, mask))
        if self.args.center:
            term = smoothing_coefficient(correct, **self._gammas) * centred_logps(logps, correct=kind, group=group)
            stock = output["advantages"]
            return stock + (term[mine] if stock.dim() == 1 else term[mine, None])
        # the reward is shaped before the host's normalisation, so that is done again
        logps = logps[:, None]
        return ds_grpo_advantages(
            self._rewards(), logps, torch.ones_like(logps), correct=correct, group=group, level="sum", stage="reward",
            scale=self.scale_rewards, **self._gammas,
        )[mine, 0]  # fmt: skip

    def _completion_logps(self, logps: Tensor, mask: Tensor) -> Tensor:
        """(batch,) of this process, padded as wide as any process's batch: the last bit of a sum depends on the padding."""
        wide = [self.accelerator.pad_across_processes(values, dim=1) for values in (logps, mask)]
        return completion_logps(*wide, level=self.args.level)

    @property
    def _gammas(self) -> dict[str, float]:
        gamma_p = self.args.gamma_p if self._target is None else self._target.gamma_p
        return {"gamma_p": gamma_p * self._factor, "gamma_n": self.args.gamma_n * self._factor}

    def _follow_schedule(self, output: dict[str, Any]) -> None:
        """Set the factor of the gammas, and the host's entropy coefficient, from the batch of all processes."""
        tokens = [self._gather_tokens(t) for t in (self._needed_logps(output).float(), _loss_mask(output))]
        discrepancy = entropy_discrepancy(*tokens, self.accelerator.gather(output["ds_correct"]))
        self._factor = max(discrepancy, 0.0)
        self.entropy_coef = self.args.entropy_coef * discrepancy
        self._metrics["train"]["ds/entropy_discrepancy"].append(discrepancy)

    def _rewards(self) -> Tensor:
        """(batch of all processes,): the weighted sum over the reward functions, NaN where none of them said anything."""
        per_func = self._rewards_per_func
        rewards = (per_func * self.reward_weights.to(per_func.device)).nansum(1)
        return rewards.masked_fill(per_func.isnan().all(1), torch.nan)

    def _apply_rule(self, output: dict[str, Any], correct: Tensor, mine: slice) -> None:
        """Replace the host's advantages by the rule's, which sees the completions of all processes."""
        mask = _loss_mask(output)
        logps = self._gather_tokens(self._needed_logps(output)) if self._rule.needs_logps else None
        advantages = self._rule(
            self._rewards(), logps, self._gather_tokens(mask), correct=correct, group=self._groups(correct),
            progress=self.state.global_step / max(self.state.max_steps, 1), answer=self._answer, where=f"step {self.state.global_step}",
        )[mine]  # fmt: skip
        output["advantages"] = advantages if advantages.dim() == 1 else advantages[:, : mask.size(1)]
        mean = advantages if advantages.dim() == 1 else _mean_over_tokens(output["advantages"], mask)
        self._relog_advantages(output["ds_row"], mean)

    def _groups(self, everybodys: Tensor) -> Tensor:
        """Ids of the groups of all processes' completions, which the host gathers group by group."""
        size = self.num_generations if self.model.training else self.num_generations_eval
        return torch.arange(len(everybodys), device=everybodys.device) // size

    def _gather_tokens(self, values: Tensor) -> Tensor:
        """(batch, tokens) -> (batch of all processes, most tokens of any), padded with 0."""
        return self.accelerator.gather(self.accelerator.pad_across_processes(values, dim=1))

    def _log_metrics(self, inputs: dict[str, Any], logps: Tensor, term: Tensor) -> None:
        mask, correct = _loss_mask(inputs), inputs["ds_correct"]
        sums = [correct.nansum(), (~correct.isnan()).sum()]
        for value in (1, 0):
            part = (mask != 0) & (correct == value)[:, None]
            sums += [part.sum(), torch.where(part, logps, 0.0).nansum(), torch.where(part, term, 0.0).sum()]
        if self._target is not None:
            right = (correct == 1) & (mask != 0).any(1)
            sums += [right.sum(), torch.where(right, inputs["ds_success"], 0.0).sum()]
        total = self.accelerator.reduce(torch.stack([value.float() for value in sums])).tolist()
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["ds/correct"].append(_ratio(total[0], total[1]))
        for name, (count, logp, added) in {"correct": total[2:5], "incorrect": total[5:8]}.items():
            metrics[f"ds/logp_{name}"].append(_ratio(logp, count))
            metrics[f"ds/term_{name}"].append(_ratio(added, count))
        if self._target is not None and self.model.training:
            metrics["ds/gamma_p"].append(self._target.gamma_p)
            metrics["ds/variety"].append(self._target.ratio)
            self._target.observe(total[8], total[2], total[9] - total[3])

    def _log_decided_groups(self, correct: Tensor) -> None:
        """Shares of the groups that are all correct and all wrong: there GRPO has no gradient."""
        size = self.num_generations if self.model.training else self.num_generations_eval
        groups = correct.view(-1, size)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in (("all_correct", 1), ("all_wrong", 0)):
            metrics[f"ds/groups_{name}"].append((groups == value).all(1).float().mean().item())

    def _relog_advantages(self, row: Tensor, advantages: Tensor) -> None:
        """Put the shaped advantages, (batch,), where the host's log of completions has the stock ones."""
        log, generated = self._logs["advantages"], len(self._rewards_per_func)
        rows, values = self.accelerator.gather(row).tolist(), self.accelerator.gather(advantages).tolist()
        for place, value in zip(rows, values, strict=True):
            place += len(log) - generated  # the log is a deque: this generation is at its end
            if place >= 0:
                log[place] = value

    def _needed_logps(self, output: dict[str, Any]) -> Tensor:
        """log pi_old per token, by a forward pass of its own if nobody has it; the host's ratio then uses the same."""
        logps = _old_logps(output)
        if logps is None:
            logps = output["old_per_token_logps"] = self._current_logps(output)
        return logps

    @torch.no_grad()
    def _current_logps(self, output: dict[str, Any]) -> Tensor:
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        attention = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        size = (
            self.args.per_device_train_batch_size
            if self.model.training
            else self.args.per_device_eval_batch_size
        )
        logps, _, _ = self._get_per_token_logps_and_entropies(
            self.model, ids, attention, output["completion_ids"].size(1), batch_size=size,
            **{key: output[key] for key in _VISION_INPUTS if key in output},
        )  # fmt: skip
        return logps


_VISION_INPUTS = (
    "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes", "num_tiles",
    "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
)  # fmt: skip


def correct_column(names: Sequence[str], named: str | None) -> int:
    """Which of the reward functions says what is correct. ValueError if that is not plain."""
    if named is None and len(names) > 1:
        raise ValueError(
            f"With several reward functions say which one decides what is correct: set correct_reward to one of "
            f"{', '.join(names)}. A sum of rewards cannot tell a format reward from a right answer."
        )
    if named is not None and list(names).count(named) != 1:
        raise ValueError(
            f"correct_reward={named!r} must name one of the reward functions: {', '.join(names)}."
        )
    return 0 if named is None else list(names).index(named)


def _old_logps(inputs: dict[str, Any]) -> Tensor | None:
    """log pi_old per token if anybody has computed it: the host for its ratio, or the sampler."""
    old = inputs.get("old_per_token_logps")
    return inputs.get("sampling_per_token_logps") if old is None else old


def _loss_mask(inputs: dict[str, Any]) -> Tensor:
    mask = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask


def _mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")  # the host leaves NaN out of its averages


def shared_prefix_rollout(prompts: list, trainer: GRPOTrainer) -> dict[str, list]:
    """A ``rollout_func`` for small models: every prompt is read once for all its completions, log-probs come along.

    Pass it as ``DSGRPOTrainer(..., rollout_func=shared_prefix_rollout)`` (or to the stock trainer). It replaces
    ``generate``, whose bookkeeping costs more than the forward passes of a model below some 10M parameters. It samples
    at ``temperature`` and knows no other sampling option: ValueError if one is set.
    """
    args = trainer.args
    options = {"top_p": (1.0,), "top_k": (0, None), "min_p": (None, 0.0), "repetition_penalty": (1.0,)}
    wrong = [
        f"{name}={getattr(args, name)}"
        for name, neutral in options.items()
        if getattr(args, name) not in neutral
    ]
    if wrong or args.generation_kwargs:
        raise ValueError(
            f"shared_prefix_rollout samples from the whole distribution at the given temperature; it cannot do "
            f"{', '.join(wrong) or 'generation_kwargs'}. Remove the option, or leave the rollout to the host "
            f"(rollout: host in a config, no rollout_func in Python)."
        )
    # The host repeats each prompt for its completions, but where a process's share begins is up to its sampler: the
    # greatest common divisor of the runs of equal prompts is a number of completions that fits them all.
    copies = gcd(*(len(list(run)) for _, run in groupby(prompts)))
    prompt_ids, images, _ = trainer._tokenize_prompts(prompts[::copies])
    if images is not None:
        raise ValueError(
            "shared_prefix_rollout reads text only; got prompts with images. Leave the rollout to the host."
        )
    with unwrap_model_for_generation(
        trainer.model_wrapped,
        trainer.accelerator,
        gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
    ) as model:
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        groups = sample(
            model, prompt_ids, num_samples=copies, max_new_tokens=args.max_completion_length,
            temperature=args.temperature, eos_token_ids=trainer.eos_token_ids,
            pad_token_id=trainer._tokenizer.pad_token_id,
            in_step=sharded or any(isinstance(p, DTensor) for p in model.parameters()),
        )  # fmt: skip
    samples = [drawn for group in groups for drawn in group]
    return {
        "prompt_ids": [ids for ids in prompt_ids for _ in range(copies)],
        "completion_ids": [drawn.completion_ids for drawn in samples],
        "logprobs": [drawn.logps for drawn in samples],
    }
