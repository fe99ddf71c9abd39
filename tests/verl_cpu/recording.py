"""Our trainers, and what reached its actor written down: the batch as the workers fetch it, step by step."""

import os
from pathlib import Path

import torch
import transfer_queue as tq
from verl.trainer.ppo.v1.trainer_base import register_trainer

from differential_smoothing.integrations.verl.plugin import ColocateAsync, Sync

FIELDS = [
    "uid",
    "prompts",
    "responses",
    "response_mask",
    "rm_scores",
    "old_log_probs",
    "rollout_log_probs",
    "entropy",
    "advantages",
]


class Writes:
    def __init__(self, config):
        super().__init__(config)
        self.replay_buffer.poll_interval = 0.05  # 2 seconds otherwise: idle time for a tiny model

    def _update_actor(self, batch, metrics):
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=[*FIELDS, "extra_fields"]
        )
        uid, infos = (data.pop(name).tolist() for name in ("uid", "extra_fields"))
        rows = {name: [row.clone() for row in data[name].unbind()] for name in FIELDS if name != "uid"}
        rows |= {
            "uid": uid,
            "keys": list(batch.keys),
            "acc": [float(info["reward_extra_info"]["acc"]) for info in infos],
        }
        rows["versions"] = [(tag["min_global_steps"], tag["max_global_steps"]) for tag in batch.tags]
        rows["padding"] = [bool(tag.get("is_padding", False)) for tag in batch.tags]
        batch = super()._update_actor(batch, metrics)
        rows["metrics"] = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
        torch.save(rows, Path(os.environ["RECORD"]) / f"{self.global_steps}.pt")
        return batch


@register_trainer("recording_dsmooth")
class RecordingDS(Writes, Sync): ...


@register_trainer("recording_dsmooth_colocate_async")
class RecordingColocateAsync(Writes, ColocateAsync): ...
