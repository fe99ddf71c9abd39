"""What verl loads, in every process that imports it: the estimator ``dsmooth`` and three trainers that hand it the batch.

    trainer.v1.trainer_mode    dsmooth_sync | dsmooth_colocate_async | dsmooth_separate_async
    algorithm.adv_estimator    dsmooth
    +algorithm.ds.KEY          see ``options.DSOptions``

The trainers are verl's own with one method extended, ``_compute_advantage``, which calls ``super()``: they fetch what verl does not hand
to an estimator, and log ``ds/...``. They are needed until verl passes the batch to estimators (its pull request 7473).

In the asynchronous modes old_log_probs, and so log pi_old of the term, are those of the weights that the step starts from, as in verl's
own ratio; a completion may come from older weights. With algorithm.rollout_correction.bypass_mode=true they are the sampler's.

verl logs a plug-in that fails to load at DEBUG only, so a failure here is also printed. What no plug-in can see is a run that sets
algorithm.ds beside one of verl's own trainers and estimators: that is verl's own run.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import warnings
from contextlib import contextmanager
from typing import Any

import torch
from packaging.version import InvalidVersion, Version

__all__ = ["TESTED", "ColocateAsync", "SeparateAsync", "Sync", "check_config", "check_host", "check_trl"]

#: Releases of verl that our tests have run with, and the range whose interface is taken to be the same.
TESTED = ("0.9.1",)
_OLDEST, _NEWER = "0.9.0", "0.10"


def check_host(version: str) -> None:
    """ImportError if this version of verl is unknown. A development version of the next release is unknown too."""
    try:
        known = Version(_OLDEST) <= Version(version) and Version(version).release < Version(_NEWER).release
    except InvalidVersion:
        known = False
    if not known:
        raise ImportError(
            f"it knows verl >= {_OLDEST}, < {_NEWER} (tested with {', '.join(TESTED)}) and found {version}. Install verl=={TESTED[-1]}, "
            f"or a newer differential_smoothing"
        )


@contextmanager
def _aloud():
    try:
        yield
    except Exception as error:  # whatever it is, verl would swallow it
        print(
            f"differential_smoothing could not be loaded as a plug-in of verl: {type(error).__name__}: {error}. Neither the estimator nor "
            f"the trainers dsmooth were registered. verl's wheel leaves some of its dependencies out, "
            f"pip install 'differential-smoothing[verl]' brings them. If you do not use dsmooth in this run, set "
            f"VERL_USE_EXTERNAL_PLUGINS=none.",
            file=sys.stderr,
            flush=True,
        )
        raise


with _aloud():
    import verl  # which is in the middle of its own import, if it is what loads this

    check_host(verl.__version__)

    import transfer_queue as tq
    from omegaconf import open_dict
    from verl.trainer.ppo.core_algos import register_adv_est
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer, register_trainer
    from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
    from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    from differential_smoothing.integrations.correctness import CorrectnessWatch
    from differential_smoothing.integrations.verl import estimator
    from differential_smoothing.integrations.verl.options import DSOptions, read_options

    if list(inspect.signature(PPOTrainer._compute_advantage).parameters) != ["self", "batch", "metrics"]:
        raise ImportError("PPOTrainer._compute_advantage has another signature")


def check_trl() -> None:
    """RuntimeError if verl's FSDP workers could not start: beside a TRL they patch a class that newer ones do not have."""
    if importlib.util.find_spec("trl") is None:
        return
    try:  # as verl does, in a worker, where the error message is unclear
        from trl.experimental.ppo import AutoModelForCausalLMWithValueHead
    except ImportError:
        try:
            from trl import AutoModelForCausalLMWithValueHead  # noqa: F401
        except ImportError:
            raise RuntimeError(
                f"verl {verl.__version__} cannot start its FSDP workers beside the TRL that is installed here: it patches "
                f"AutoModelForCausalLMWithValueHead, which newer TRLs do not have. Give verl an environment of its own, without trl."
            ) from None


def check_config(config: Any) -> DSOptions:
    """The options of a whole verl config, or a ValueError that names the conflicting options."""
    algorithm = config.algorithm
    if algorithm.adv_estimator != "dsmooth":
        raise ValueError(
            f"The trainers dsmooth_... take algorithm.adv_estimator=dsmooth; got {algorithm.adv_estimator}, which would ignore "
            f"algorithm.ds. Set it, or take verl's own trainer.v1.trainer_mode."
        )
    options = read_options(algorithm.get("ds", None))
    rollout_correction = algorithm.get("rollout_correction", None) or {}
    if options.needs_entropies and rollout_correction.get("bypass_mode", False):
        raise ValueError(
            "algorithm.ds.center=true at level=token needs the entropies of verl's pass for old log-probabilities, which "
            "algorithm.rollout_correction.bypass_mode=true leaves out. Set one of them to false."
        )
    loss = (config.actor_rollout_ref.actor.get("policy_loss", None) or {}).get("loss_mode", "vanilla")
    if options.smooths and options.level == "token" and loss == "geo_mean":
        raise ValueError(
            "algorithm.ds.level=token gives each token a term of its own, and actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean averages "
            "the advantages over a completion's tokens. Set algorithm.ds.level=mean, which is that, or sum."
        )
    filters = algorithm.get("filter_groups", None) or {}
    if options.smooths and filters.get("enable", False):
        warnings.warn(
            "algorithm.filter_groups drops groups whose completions are all correct or all wrong. Differential Smoothing has a gradient "
            "there, so this is another method.",
            stacklevel=2,
        )
    return options


class _Hands:
    """Mixin: leaves for the estimator what verl does not pass on, for the time of verl's own advantage step."""

    _mode: str
    # verl's trainer has them
    global_steps: int
    total_training_steps: int

    def __init__(self, config: Any):
        self._ds = check_config(config)
        if str(config.actor_rollout_ref.actor.strategy).startswith("fsdp"):
            check_trl()
        # verl compares the mode with its own names, and takes an asynchronous buffer for any other
        with open_dict(config):
            config.trainer.v1.trainer_mode = self._mode
        self._ds_watch = CorrectnessWatch(
            [",".join(self._ds.correct_keys) or "the score"], [0], self._ds.correct_threshold
        )
        super().__init__(config)  # type: ignore[call-arg]  # of verl's trainer, the next class

    def _compute_advantage(self, batch: Any, metrics: dict) -> Any:
        extra = self._hand(batch)
        token = estimator.handed.set(extra)
        try:
            batch = super()._compute_advantage(batch, metrics)  # type: ignore[misc]  # of verl's trainer
        finally:
            estimator.handed.reset(token)
        metrics.update(extra.metrics)  # type: ignore[arg-type]  # the estimator has filled them
        return batch

    def _hand(self, batch: Any) -> estimator.Handed:
        fields = ["old_log_probs", "rm_scores"]
        fields += ["entropy"] * self._ds.needs_entropies + ["extra_fields"] * (self._ds.correct_key is not None)
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        infos = None
        if self._ds.correct_key is not None:
            rows = data.pop("extra_fields").tolist()
            infos = [row.get("reward_extra_info") if isinstance(row, dict) else None for row in rows]
        data = data.to_padded_tensor()
        counts = torch.tensor([not tag.get("is_padding", False) for tag in batch.tags])
        values = estimator.deciding_values(data["rm_scores"].sum(-1), infos, self._ds)
        for notice in self._ds_watch.update(values[counts][:, None], 1):
            warnings.warn(notice, stacklevel=2)
        return estimator.Handed(
            logps=data["old_log_probs"],
            correct=estimator.correct_of(data["rm_scores"].sum(-1), infos, self._ds),
            counts=counts,
            final=estimator.final_rows(batch.keys),
            entropies=data["entropy"] if self._ds.needs_entropies else None,
            progress=min(1.0, (self.global_steps - 1) / max(self.total_training_steps, 1)),
            where=f"step {self.global_steps}",
            options=self._ds,
        )


class Sync(_Hands, PPOTrainerSync):
    """verl's ``sync`` trainer with the estimator ``dsmooth``."""

    _mode = "sync"


class ColocateAsync(_Hands, PPOTrainerColocateAsync):
    """verl's ``colocate_async`` trainer with the estimator ``dsmooth``."""

    _mode = "colocate_async"


class SeparateAsync(_Hands, PPOTrainerSeparateAsync):
    """verl's ``separate_async`` trainer with the estimator ``dsmooth``."""

    _mode = "separate_async"


with _aloud():
    register_adv_est("dsmooth")(estimator.estimate)
    for _trainer in (Sync, ColocateAsync, SeparateAsync):
        register_trainer(f"dsmooth_{_trainer._mode}")(_trainer)
