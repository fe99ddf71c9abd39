"""What the trainer reads of a generated batch over all processes: rewards, groups, log-probs, and the host's log of completions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from differential_smoothing.advantages import completion_logps
from differential_smoothing.integrations.trl.batch import VISION_INPUTS, old_logps, triple
from differential_smoothing.integrations.trl.config import DSGRPOConfig

__all__ = ["WholeBatch"]


class WholeBatch(GRPOTrainer):
    """GRPOTrainer with the rewards, groups and log-probs of the completions of all processes."""

    args: DSGRPOConfig
    _rewards_per_func: Any  # a tensor of all processes, None until the host calls the reward functions
    _generated: tuple[bool, int]  # of the last generation: in training, completions of all processes

    def _completion_logps(self, logps: Tensor, mask: Tensor) -> Tensor:
        """(batch,) of this process, padded as wide as any process's batch: the last bit of a sum depends on the padding."""
        wide = [self.accelerator.pad_across_processes(values, dim=1) for values in (logps, mask)]
        level: Any = self.args.level  # "mean" or "sum": the config was checked
        return completion_logps(wide[0], wide[1], level=level)

    def _rewards(self) -> Tensor:
        """(batch of all processes,): the weighted sum over the reward functions, NaN where every function returned None."""
        per_func = self._rewards_per_func
        rewards = (per_func * self.reward_weights.to(per_func.device)).nansum(1)
        return rewards.masked_fill(per_func.isnan().all(1), torch.nan)

    def _groups(self, gathered: Tensor) -> Tensor:
        """Ids of the groups of all processes' completions, which the host gathers group by group."""
        size = self.num_generations if self.model.training else self.num_generations_eval
        return torch.arange(len(gathered), device=gathered.device) // size

    def _gather_tokens(self, values: Tensor) -> Tensor:
        """(batch, tokens) -> (batch of all processes, most tokens of any), padded with 0."""
        return self.accelerator.gather(self.accelerator.pad_across_processes(values, dim=1))

    def _relog_advantages(self, row: Tensor, advantages: Tensor) -> None:
        """Put the shaped advantages, (batch,), where the host's log of completions has the stock ones."""
        training, generated = self._generated
        if training != self.model.training:  # the log's last rows are an evaluation's between two steps of one buffer
            return
        log = self._logs["advantages"]
        rows, values = self.accelerator.gather(row).tolist(), self.accelerator.gather(advantages).tolist()
        for place, value in zip(rows, values, strict=True):
            place += len(log) - generated  # the log is a deque: this generation is at its end
            if place >= 0:
                log[place] = value

    def _needed_logps(self, output: dict[str, Any]) -> Tensor:
        """log pi_old per token, by a forward pass of its own where neither host nor sampler has it; the host's ratio then uses the same."""
        logps = old_logps(output)
        if logps is None:
            logps = output["old_per_token_logps"] = self._current_logps(output)
        return logps

    @torch.no_grad()
    def _current_logps(self, output: dict[str, Any]) -> Tensor:
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        attention = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        size = self.args.per_device_train_batch_size if self.model.training else self.args.per_device_eval_batch_size
        result = self._get_per_token_logps_and_entropies(
            self.model,
            ids,
            attention,
            output["completion_ids"].size(1),
            batch_size=size,
            **{key: output[key] for key in VISION_INPUTS if key in output},
        )
        return triple(result)[0]
