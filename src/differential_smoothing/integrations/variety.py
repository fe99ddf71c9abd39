"""A variety target: gamma_p found while training, so that right answers keep a chosen share of the variety they had in the base.

The user sets ``variety_target`` to a share, such as 0.4. Variety is the mean surprisal of the tokens of correct completions,
``-mean log pi_old`` in nats: it is 0 for a policy that is certain of its right answers, costs nothing to measure (the log-probs are those
of the term), and needs no list of the right answers. The base's value is measured over the first ``WARMUP`` steps.

Maximising the success rate at a variety of at least ``target`` has the Lagrangian ``C + gamma_p * (variety - target)``, whose optimum is
DS with gamma_n = 0 (``dsmooth tabular`` proves it for one prompt). So gamma_p is its multiplier, and it is found by dual ascent: up
while there is too little variety, down while there is too much. The ascent is on log gamma_p, in relative units:

    error      = clip((target - variety) / target, -1, 1)
    log gamma += RATE * s * error                            s = learning rate now / its maximum
    gamma_p    = gamma * exp(GAIN * error)                   the proportional part damps the ascent

The factor s counts time in what a step can do: when the learning rate has fallen, a step moves the policy little, and an ascent that
did not slow down would wind up. gamma_p stays within ``BOUNDS``.
"""

from __future__ import annotations

import math

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

__all__ = ["VarietyTarget"]

WARMUP = 5
RATE = 0.1
GAIN = 1.0
SMOOTHING = 0.8
BOUNDS = (0.01, 3.0)
START = 0.1


class VarietyTarget(TrainerCallback, ExportableState):
    """The controller of one training. ``observe`` collects a step's tokens; the step's end moves gamma_p.

    Its state is part of every checkpoint, so a resumed training has the same gamma_p as one that was never interrupted.
    """

    def __init__(self, target: float, start: float = 0.0):
        self.target = target
        self.log_gamma = math.log(start or START)
        self.base, self.variety, self.error, self.steps = 0.0, math.nan, 0.0, 0
        self._count, self._total = 0.0, 0.0

    @property
    def gamma_p(self) -> float:
        """The strength of the next step."""
        low, high = BOUNDS
        return min(max(math.exp(self.log_gamma + GAIN * self.error), low), high)

    def observe(self, tokens: float, logps: float) -> None:
        """Add a batch: the number of tokens of its correct completions, over all processes, and the sum of their log pi_old."""
        if tokens > 0 and math.isfinite(logps):
            self._count += tokens
            self._total -= logps

    def move(self, speed: float) -> None:
        """End a step whose learning rate is ``speed`` of its maximum. Without any correct completion nothing changes."""
        if not self._count:
            return
        now = self._total / self._count
        self._count = self._total = 0.0
        if self.steps < WARMUP:
            self.base += (now - self.base) / (self.steps + 1)
            self.variety = self.base
        else:
            self.variety = SMOOTHING * self.variety + (1 - SMOOTHING) * now
        self.steps += 1
        goal = self.target * self.base
        if self.steps < WARMUP or goal <= 0:
            return
        self.error = min(max((goal - self.variety) / goal, -1.0), 1.0)
        low, high = BOUNDS
        self.log_gamma = min(max(self.log_gamma + RATE * speed * self.error, math.log(low)), math.log(high))

    def on_step_end(self, args, state, control, **kwargs):
        scheduler = kwargs.get("lr_scheduler")
        rate = scheduler.get_last_lr()[0] if scheduler is not None else args.learning_rate
        self.move(min(rate / args.learning_rate, 1.0) if args.learning_rate > 0 else 0.0)

    def on_train_begin(self, args, state, control, **kwargs):
        saved = state.stateful_callbacks.get(type(self).__name__)
        if state.global_step and isinstance(saved, dict):
            for name, value in saved.get("attributes", {}).items():
                setattr(self, name, value)

    def state(self) -> dict:
        """What a checkpoint keeps."""
        names = ("log_gamma", "base", "variety", "error", "steps")
        return {"args": {"target": self.target}, "attributes": {name: getattr(self, name) for name in names}}
