"""A callback that ends a training whose steps lack what the config asks for, and tells a resumed one that its settings have changed.

A subclass or a patched host that replaces one of the methods that ``DSGRPOTrainer`` extends would train without the term. The trainer
notes here what it has put where, and after each backward pass, before the optimiser moves, the notes are compared with the config.
"""

from __future__ import annotations

import inspect
import json
import logging
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig

__all__ = ["StepGuard"]

_log = logging.getLogger(__name__)

_KEY = "ds_grpo_settings"  # of the trainer's state; no name of a class, by which the host would re-create a callback

#: What stands between a generated batch and the optimiser.
_METHODS = (
    "_prepare_inputs",
    "_generate_and_score_completions",
    "compute_loss",
    "_compute_loss",
    "_get_per_token_logps_and_entropies",
)


class StepGuard(TrainerCallback):
    """ValueError at the end of a backward pass without the term, the rule or the schedule that ``trainer``'s config asks for."""

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self._in_batch: set[str] = set()  # of the generated batch, which serves several steps
        self._in_loss: set[str] = set()  # of the backward pass at hand
        self._left: tuple[Tensor, Tensor] | None = None  # the first row, and the advantages from it on
        self._compared = False

    # --- notes of the trainer ---------------------------------------------------------------------------------------

    def begin_batch(self) -> None:
        """A new batch is generated: nothing is in it yet."""
        self._in_batch = set()

    def note(self, what: str, *, in_loss: bool = False) -> None:
        """``"term"``, ``"rule"`` or ``"schedule"`` is in the generated batch, or in the loss's copy of its part."""
        (self._in_loss if in_loss else self._in_batch).add(what)

    def keep(self, output: dict[str, Any]) -> None:
        """The first generated batch as the trainer hands it back."""
        if not self._compared and self._in_batch & {"term", "rule"}:
            self._left = output["ds_row"][0], output["advantages"].clone()

    def compare(self, inputs: dict[str, Any]) -> None:
        """The first loss's advantages with those that were left for its rows. Once: it costs a look at the values."""
        if self._left is None:
            return
        (first, left), self._left, self._compared = self._left, None, True
        left, advantages = left[inputs["ds_row"] - first], inputs["advantages"]
        if left.shape == advantages.shape and torch.equal(left, advantages):
            return
        what = " and ".join(sorted(self._in_batch & {"term", "rule"}))
        text = (
            f"The advantages were changed after DSGRPOTrainer had set them ({what}), in {_culprits(self._trainer, after=True)}. "
            f"If they were replaced, the {what} had no effect. Change them before super() is called, or add to those that are there."
        )
        if advantages.dim() < left.dim():
            raise ValueError(f"{text} Here they were: the term of each token is gone.")
        _log.warning(text)

    # --- the callback -----------------------------------------------------------------------------------------------

    def _check(self, args, state, control, **kwargs):
        done, self._in_loss = self._in_batch | self._in_loss, set()
        missing = {what: text for what, text in self._asked().items() if what not in done}
        if not missing:
            return
        reward_stage = (
            " A loss of your own that reads inputs['advantages'] finds the term there with stage='reward' and level='mean' or 'sum'."
            if missing.keys() == {"term"}
            else ""
        )
        raise ValueError(
            f"Step {state.global_step + 1} was about to train without {' and '.join(missing.values())}: nothing of it has reached the "
            f"loss, so the training would be the one without. The cause is {_culprits(self._trainer)}: call super() there and continue from "
            f"its result.{reward_stage} To train without it on purpose, leave the option out."
        )

    on_substep_end = _check  # after the backward pass of a part of a step
    on_pre_optimizer_step = _check  # and of its last part

    def _asked(self) -> dict[str, str]:
        args, asked = self._trainer.args, {}
        gammas = ", ".join(
            f"{name}={getattr(args, name):g}" for name in ("gamma_p", "gamma_n") if getattr(args, name) > 0
        )
        if args.variety_target is not None:
            gammas = f"variety_target={args.variety_target:g}"
        if gammas:
            asked["term"] = f"the term of {gammas}{' with center' if args.center else ''}"
        if self._trainer.applies_a_rule:
            asked["rule"] = f"the advantages of rule={args.rule!r}"
        if args.schedule != "constant":
            asked["schedule"] = f"schedule={args.schedule!r}"
        return asked

    def on_train_begin(self, args, state, control, **kwargs):
        """Warn of each option of ours that differs from the checkpoint's. The state goes into every checkpoint."""
        now, saved = _settings(args), state.stateful_callbacks.get(_KEY)
        changed = [
            f"{name} was {saved[name]!r} and is {value!r}"
            for name, value in now.items()
            if name in (saved or {}) and saved[name] != value
        ]
        if changed and state.is_world_process_zero:
            _log.warning(
                "The checkpoint at step %d was trained with other settings: %s. From here on this is another training; give the "
                "old values to continue the old one.",
                state.global_step,
                "; ".join(changed),
            )
        state.stateful_callbacks[_KEY] = now

    def on_train_end(self, args, state, control, **kwargs):
        """What a short training could not be sure of earlier."""
        self._trainer.say(self._trainer.watch.close())


def _settings(args: Any) -> dict[str, Any]:
    """The options that this package adds to the host's, as JSON gives them back."""
    hosts = {f.name for f in fields(GRPOConfig)}
    ours = {f.name: getattr(args, f.name) for f in fields(args) if f.name not in hosts}
    return json.loads(json.dumps(ours, default=repr))


def _culprits(trainer: Any, *, after: bool = False) -> str:
    """Methods between batch and optimiser that are neither ours nor the host's, those without ``super()`` if there are any."""
    names = _METHODS[:2] if after else _METHODS
    found: dict[str, bool] = {}  # how it is called -> whether it calls super
    for name in names:
        own = vars(trainer).get(name)
        if (
            own is not None and not hasattr(own, "__wrapped__") and not _known(own)
        ):  # a wrapper, such as the monitor's, goes on
            found[f"{name}, set on the trainer object"] = False
        for cls in type(trainer).__mro__:  # a library that patches TRL has put classes of its own below ours
            function = vars(cls).get(name)
            if function is not None and not _known(function):
                code = getattr(inspect.unwrap(function), "__code__", None)
                found[f"{cls.__name__}.{name}"] = code is not None and "super" in code.co_names
    replaced = [text for text, calls_super in found.items() if not calls_super]
    return " or ".join(replaced or found) or "a method of the trainer that was replaced"


def _known(function: Any) -> bool:
    module = getattr(function, "__module__", None) or ""
    return module.split(".")[0] in ("trl", "transformers", "differential_smoothing")
