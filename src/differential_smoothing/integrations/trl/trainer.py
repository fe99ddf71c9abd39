"""``DSGRPOTrainer``: where TRL's GRPOTrainer meets the rules and the term of Differential Smoothing.

**Where log pi_old comes from, at no extra forward pass.** In this order: the old log-probs that TRL has computed for
its own ratio; the sampler's (vLLM, or a ``rollout_func`` that returns ``logprobs``); else those of the loss's own
forward pass. In that last case TRL computes no old log-probs *because* the policy has not moved since it sampled, so
the current log-probs are the old ones, and the term is added on the way into the loss. Only ``stage="reward"``, ``center`` of whole
completions, ``relative`` and a ``rule`` that reads log-probs may need a forward pass of their own: they need a group's statistics before the loss
sees its completions. ``center`` of tokens takes their entropies from the loss's forward pass.

**Where the term is added:** in ``_shape`` alone, once per completion.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from differential_smoothing.advantages import (
    density_logps,
    ds_grpo_advantages,
    shaping_term,
    smoothing_coefficient,
    smoothing_term,
)
from differential_smoothing.integrations import card
from differential_smoothing.integrations.answers import Answers
from differential_smoothing.integrations.correctness import CorrectnessWatch, correct_columns, correctness
from differential_smoothing.integrations.launch import lone_process
from differential_smoothing.integrations.trl.batch import loss_mask, mean_over_tokens, old_logps, triple
from differential_smoothing.integrations.trl.config import DSGRPOConfig, check_even
from differential_smoothing.integrations.trl.guard import StepGuard
from differential_smoothing.integrations.trl.metrics import decided_groups, term_metrics, term_sums, variety_sums
from differential_smoothing.integrations.trl.shared_prompts import check_shareable, refuse_images, shared_prompt_logps
from differential_smoothing.integrations.trl.variety import VarietyTarget, success_correction
from differential_smoothing.integrations.trl.whole_batch import WholeBatch
from differential_smoothing.rules import PRESETS, make_rule
from differential_smoothing.rules.discrepancy import entropy_discrepancy

__all__ = ["DSGRPOTrainer"]

_log = logging.getLogger(__name__)


class DSGRPOTrainer(WholeBatch):
    """GRPOTrainer whose advantages are those of DS-GRPO. Same arguments; ``args`` is a ``DSGRPOConfig``.

    ``canonical(completion_text, **columns) -> str | None`` tells which correct completions are the same answer; only a rule that asks
    for ``answer`` needs it. See ``Answers``.

    Logged with the host's metrics, over all processes: ``ds/correct`` (share of the completions whose correctness is known) and
    ``ds/unknown`` (share of those where it is not), ``ds/logp_correct`` and ``ds/logp_incorrect`` (mean log pi_old per token that has
    one, nats), ``ds/term_correct`` and ``ds/term_incorrect`` (mean of what was added to the stock advantage per token),
    ``ds/groups_all_correct`` and ``ds/groups_all_wrong`` (shares of the groups: there GRPO has no gradient), and with a ``variety_target``
    ``ds/variety`` (relative to the base's) and ``ds/gamma_p``. The completions table and the logged advantages hold the shaped values,
    averaged over a completion's tokens.

    ValueError at the end of a backward pass that lacks what the config asks for: a subclass or a patch has replaced a method that adds
    it. See ``StepGuard``.
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
        self._correct_columns = correct_columns(self.reward_func_names, self.args.correct_reward)
        hosts = self.args.rule in ("grpo", *PRESETS)
        self._rule: Any = None if hosts else make_rule(self.args.rule, self.args.rule_options)  # type: ignore[arg-type]
        self._answers: Any = None if canonical is None else Answers(canonical)
        self._answer: Tensor | None = None
        if self._asks_answers and canonical is None:
            raise ValueError(
                f"The rule {self._rule!r} asks which completions give the same answer. Say it: DSGRPOTrainer(canonical=f), with "
                f"f(completion_text, **columns) -> str, or None for no answer."
            )
        self._factor = 1.0  # of the schedule
        self._target: VarietyTarget | None = None
        if self.args.variety_target is not None:
            self._target = VarietyTarget(self.args.variety_target, start=self.args.gamma_p, level=self.args.level)
            self.add_callback(self._target)
        self._generated = (True, 0)  # of the last generation: in training, completions of all processes
        if self.args.share_prompts:
            if self.aux_loss_enabled:
                raise ValueError(
                    "share_prompts=True computes no auxiliary loss of a mixture of experts. Set share_prompts or the model's output_router_logits to false."
                )
            check_shareable(
                num_processes=self.accelerator.num_processes,
                gradient_checkpointing=self.args.gradient_checkpointing,
                padding_free=getattr(self.args, "padding_free", False),
            )
        self._rewards_per_func: Any = None  # of all processes, as is _correct
        self._correct: Any = None
        self._in_loss: dict[str, Tensor] | None = None
        # Not by overriding: the rewards are those that the host is given in the end, whatever a subclass makes of them.
        method = self._calculate_rewards  # type: ignore[has-type]  # the host's
        self._calculate_rewards = functools.wraps(method)(functools.partial(self._see_rewards, method))
        self.watch = CorrectnessWatch(self.reward_func_names, self._correct_columns, self.args.correct_threshold)
        self._guard = StepGuard(self)
        self.add_callback(self._guard)
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

    def _see_rewards(
        self, method: Callable[..., Tensor], inputs, prompts, completions, *args: Any, **kwargs: Any
    ) -> Tensor:
        rewards = method(inputs, prompts, completions, *args, **kwargs)
        shape = (len(prompts) * self.accelerator.num_processes, len(self.reward_funcs))
        if not isinstance(rewards, Tensor) or rewards.shape != shape:
            got = f"shape {tuple(rewards.shape)}" if isinstance(rewards, Tensor) else type(rewards).__name__
            raise ValueError(
                f"{type(self).__name__}._calculate_rewards must return one tensor (completions of all processes, reward functions), here "
                f"{shape}, NaN for None; got {got}. Call super()._calculate_rewards(...) and change its result, or gather your own "
                f"(accelerate.utils.gather)."
            )
        self._rewards_per_func = rewards
        value, correct = correctness(rewards, self._correct_columns, self.args.correct_threshold)
        self._correct = correct
        if self._asks_answers:
            mine = correct[self.accelerator.process_index * len(prompts) :][: len(prompts)].tolist()
            answers = [
                self._answers(completion, row) if right == 1 else None
                for completion, row, right in zip(completions, inputs, mine, strict=True)
            ]
            number: dict[str, int] = {}
            gathered = gather_object(answers)
            known = [-1 if a is None else number.setdefault(a, len(number)) for a in gathered]
            self._answer = torch.tensor(known, device=rewards.device)
        if self.model.training:
            self.say(self.watch.update(rewards, self.num_generations))
        return rewards

    def say(self, notices: list[str]) -> None:
        """Warn of each, on one process."""
        for notice in notices if self.accelerator.is_main_process else []:
            _log.warning(notice)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._rewards_per_func = None
        if self.model.training:
            self._guard.begin_batch()
        output = super()._generate_and_score_completions(inputs)
        if self._rewards_per_func is None:
            raise ValueError(
                "No rewards were seen: self._calculate_rewards was set anew after DSGRPOTrainer was made, or a replaced "
                "_generate_and_score_completions does not call it. Override it in a subclass, which returns a tensor (completions of all "
                "processes, reward functions)."
            )
        process, batch, correct = self.accelerator.process_index, len(inputs), self._correct
        mine = slice(process * batch, (process + 1) * batch)
        # The host shuffles and splits what it buffers, so what the loss needs travels with its row; ds_row is the
        # completion's place in the host's log of this generation.
        output["ds_correct"] = correct[mine]
        output["ds_row"] = torch.arange(mine.start, mine.stop, device=correct.device)
        size = self.num_generations if self.model.training else self.num_generations_eval
        self._generated = (self.model.training, len(correct))
        if self._target is not None:
            has_tokens = self.accelerator.gather((loss_mask(output) != 0).any(1))
            output["ds_success"] = success_correction(torch.where(has_tokens, correct, torch.nan), size)[mine]
        for name, share in decided_groups(correct, size).items():
            self._metrics["train" if self.model.training else "eval"][name].append(share)

        if self._rule is not None:
            self._apply_rule(output, correct, mine)
            self._guard.note("rule")
        if self.args.schedule != "constant" and self.model.training:
            self._follow_schedule(output)
            self._guard.note("schedule")
        logps = self._needed_logps(output) if self._needs_group else old_logps(output)
        if logps is not None and not self._centres_tokens:
            self._shape(output, logps)
        if self.model.training:
            self._guard.keep(output)
        return output

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Tensor:
        # A copy, since the host's buffer keeps the batch and may hand it out again for another iteration.
        shapes = self._centres_tokens or old_logps(inputs) is None
        self._in_loss = dict(inputs) if shapes and "ds_row" in inputs else None
        if self.model.training and "ds_row" in inputs:
            self._guard.compare(inputs)
        try:
            return super()._compute_loss(model, inputs if self._in_loss is None else self._in_loss)
        finally:
            self._in_loss = None

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        batch = (model, input_ids, attention_mask, logits_to_keep)
        if self.args.share_prompts:
            refuse_images(kwargs)
            entropies, rows = kwargs.get("compute_entropy", False), kwargs.get("batch_size") or len(input_ids)
            with self.accelerator.autocast():
                result = (*shared_prompt_logps(*batch, compute_entropy=entropies, batch_size=rows), None)
        else:
            result = triple(super()._get_per_token_logps_and_entropies(*batch, *args, **kwargs))
        if self._in_loss is not None:  # the host reads the advantages only after this, its loss's first step
            old = old_logps(self._in_loss)
            entropies = result[1].detach() if self._centres_tokens else None  # type: ignore[union-attr]
            self._shape(self._in_loss, result[0].detach() if old is None else old, entropies)
        return result

    @property
    def applies_a_rule(self) -> bool:
        """Whether the advantages are a rule's, not the host's."""
        return self._rule is not None

    @property
    def _asks_answers(self) -> bool:
        return self._rule is not None and "answer" in self._rule.context

    @property
    def _smooths(self) -> bool:
        return self.args.smooths

    @property
    def _centres_tokens(self) -> bool:
        """Whether the term needs the entropies of single tokens, which only the loss's own forward pass has."""
        return self._smooths and self.args.center and self.args.level == "token"

    @property
    def _needs_group(self) -> bool:
        """Whether the term needs the log-probs of the whole group, which the loss does not have: it sees a shuffled part of the batch."""
        by_group = self.args.stage == "reward" or self.args.center or self.args.relative
        return self._smooths and not self._centres_tokens and by_group

    def _shape(self, inputs: dict[str, Any], logps: Tensor, entropies: Tensor | None = None) -> None:
        """Add the term to ``inputs["advantages"]`` and log it; with gammas 0 only log. The one place where the term is added.

        Args:
            inputs: of this process: the whole generated batch in its order where ``_needs_group``, else any part of it.
            logps: (batch, tokens) log pi_old, nats.
            entropies: (batch, tokens), nats, where ``_centres_tokens``.
        """
        term = torch.zeros_like(logps)
        if self._smooths:
            mask = loss_mask(inputs)
            args: Any = self.args  # whose choices were checked
            base = inputs.get("ref_per_token_logps")
            values = density_logps(logps, base, density=args.density, base_weight=args.base_weight)
            shaped, term = (
                self._shaped_by_group(inputs, values)
                if self._needs_group
                else self._shaped_by_row(inputs, values, entropies)
            )
            inputs["advantages"] = shaped
            self._relog_advantages(inputs["ds_row"], shaped if shaped.dim() == 1 else mean_over_tokens(shaped, mask))
        if self.model.training:
            self._guard.note("term", in_loss=inputs is self._in_loss)
        self._log_metrics(inputs, logps, term)

    def _shaped_by_row(self, inputs: dict[str, Any], logps: Tensor, entropies: Tensor | None) -> tuple[Tensor, Tensor]:
        """The advantages plus the term that a completion's own log-probs give, and the term. Both (batch, tokens)."""
        mask, stock = loss_mask(inputs), inputs["advantages"]
        coefficient = smoothing_coefficient(inputs["ds_correct"], **self._gammas)
        values = logps
        if self.args.level != "token":
            values = self._completion_logps(logps, mask)[:, None].expand_as(logps)
        term = smoothing_term(values, mask, coefficient=coefficient, entropies=entropies)
        return (stock if stock.dim() == 2 else stock[:, None]) + term, term

    def _shaped_by_group(self, inputs: dict[str, Any], logps: Tensor) -> tuple[Tensor, Tensor]:
        """The advantages, (batch,) or (batch, tokens), under the shapings that need the whole group, wherever its completions are;
        and what they differ by from the stock ones, (batch, tokens)."""
        mask, correct, stock, mine = loss_mask(inputs), self._correct, inputs["advantages"], inputs["ds_row"]
        group = self._groups(correct)
        of_group = {
            "correct": torch.where(self._rewards().isnan(), torch.nan, correct),
            "group": group,
            "coefficient": smoothing_coefficient(correct, **self._gammas),
        }
        if self.args.relative:
            size = stock if stock.dim() == 1 else mean_over_tokens(stock, mask)
            term = shaping_term(
                self._gather_tokens(logps),
                self._gather_tokens(mask),
                advantages=self.accelerator.gather(size),
                level=self.args.level,  # type: ignore[arg-type]  # the config was checked
                relative=True,
                floor=self.args.relative_floor,
                **of_group,
            )[mine, : mask.size(1)]
            return (stock if stock.dim() == 2 else stock[:, None]) + term, term
        whole = self.accelerator.gather(self._completion_logps(logps, mask))[:, None]
        if self.args.center:
            # a completion is one token here; one without tokens that count, such as a truncated one, stays without
            has_tokens = self.accelerator.gather((mask != 0).any(1))[:, None]
            term = shaping_term(whole, has_tokens, advantages=stock, level="sum", center=True, **of_group)[mine]
            shaped = stock + (term[:, 0] if stock.dim() == 1 else term)
        else:  # the reward is shaped before the host's normalisation, so that is done again
            shaped = ds_grpo_advantages(
                self._rewards(),
                whole,
                torch.ones_like(whole),
                correct=correct,
                group=group,
                level="sum",
                stage="reward",
                scale=self.scale_rewards,
                **self._gammas,
            )[mine, 0]
        term = shaped - stock
        return shaped, term if term.dim() == 2 else term[:, None].expand_as(logps)

    @property
    def _gammas(self) -> dict[str, Any]:
        gamma_p = self.args.gamma_p if self._target is None else self._target.gamma_p
        return {"gamma_p": gamma_p * self._factor, "gamma_n": self.args.gamma_n * self._factor}

    def _follow_schedule(self, output: dict[str, Any]) -> None:
        """Set the factor of the gammas, and the host's entropy coefficient, from the batch of all processes."""
        tokens = [self._gather_tokens(t) for t in (self._needed_logps(output).float(), loss_mask(output))]
        discrepancy = entropy_discrepancy(tokens[0], tokens[1], self.accelerator.gather(output["ds_correct"]))
        self._factor = max(discrepancy, 0.0)
        self.entropy_coef = self.args.entropy_coef * discrepancy
        self._metrics["train"]["ds/entropy_discrepancy"].append(discrepancy)

    def _apply_rule(self, output: dict[str, Any], correct: Tensor, mine: slice) -> None:
        """Replace the host's advantages by the rule's, which sees the completions of all processes."""
        mask = loss_mask(output)
        logps = self._gather_tokens(self._needed_logps(output)) if self._rule.needs_logps else None
        advantages = self._rule(
            self._rewards(),
            logps,
            self._gather_tokens(mask),
            correct=correct,
            group=self._groups(correct),
            progress=self.state.global_step / max(self.state.max_steps, 1),
            answer=self._answer,
            where=f"step {self.state.global_step}",
        )[mine]
        if advantages.dim() == 2 and self.args.averages_over_tokens:
            check_even(advantages[:, : mask.size(1)], mask, rule=repr(self._rule))
        output["advantages"] = advantages if advantages.dim() == 1 else advantages[:, : mask.size(1)]
        mean = advantages if advantages.dim() == 1 else mean_over_tokens(output["advantages"], mask)
        self._relog_advantages(output["ds_row"], mean)

    def _log_metrics(self, inputs: dict[str, Any], logps: Tensor, term: Tensor) -> None:
        sums = term_sums(inputs["ds_correct"], loss_mask(inputs), logps, term)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in term_metrics(self.accelerator.reduce(sums).tolist()).items():
            metrics[name].append(value)
        if self._target is not None and self.model.training:
            metrics["ds/gamma_p"].append(self._target.gamma_p)
            metrics["ds/variety"].append(self._target.ratio)
            sums = variety_sums(inputs["ds_correct"], loss_mask(inputs), logps, inputs["ds_success"])
            self._target.observe(*self.accelerator.reduce(sums).tolist())
