"""A variety target: gamma_p found while training, so that right answers keep a chosen share of the variety they had in the base.

The user sets ``variety_target`` to a share, such as 0.4. Variety is the entropy of the policy among right answers, in nats per token,
estimated from the rollouts alone. A completion that is one of ``c`` correct ones among the ``n`` scored of its group contributes

    h_i = -sum_t log pi_old(y_it) + Hm(c - 1) - Hm(n - 1),        Hm(k) = 1 + 1/2 + ... + 1/k

since ``E[-log pi(y) | y correct] = H(pi given correct) + log(1 / C)`` at success rate C, and ``Hm(c - 1) - Hm(n - 1)``, averaged over
correct completions, estimates log C with a bias of ``sum_{k >= n} (1 - C)^k / k``. Without it a rising success rate would look like a
loss of variety. The base's value is that of the first ``WARMUP`` steps, before which gamma_p is 0. It is the base's on the prompts that
the base solves; prompts that are solved only later join the mean, and no log can tell them apart.

Maximising the success rate at a variety of at least the target has the Lagrangian ``C + gamma_p * (variety - target)``, whose optimum is
DS with gamma_n = 0 (``dsmooth tabular``), so gamma_p is found by ascent on the dual. Variety answers to gamma_p as an integral does: it
falls at a rate of about ``gamma* - gamma_p``. A pure integral would oscillate, and a policy that has lost its variety does not come
back, so most of the work is done by a proportional part:

    reference  = max(target, 1 - (1 - target) * steps / GLIDE)                 the term acts from the first step on
    error      = (reference - variety / base's variety) / reference
    gamma_p    = min(scale * max(0, 1 + GAIN * error), most)                    0 at 5% too much, twice the scale at 5% too little
    log scale += RATE * s * clip(error, -0.2, 0.2)                              unless gamma_p is at a bound: no wind-up

with s the learning rate relative to its maximum: time is counted in what a step can do. The scale starts at the user's gamma_p, else at
the critical strength that the laboratory derives at a success rate of a half, 1.4 / tokens of a correct completion for the levels token and
sum, 1.4 for mean; gamma_p is at most 4 times that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import TrainerCallback

__all__ = ["VarietyTarget", "success_correction"]

WARMUP = 5
GLIDE = 50
GAIN = 20.0
RATE = 0.05
KEPT = 0.9
CRITICAL = 1.4
MOST = 4.0
_KEY = "ds_variety_target"  # of the trainer's state; no name of a class, by which the host would re-create a callback


def success_correction(correct: Tensor, group_size: int) -> Tensor:
    """``Hm(c - 1) - Hm(n - 1)`` of each completion's group: (batch,), 0 where the group has no correct completion.

    Args:
        correct: (batch,) of {0, 1, NaN}, group by group; NaN = unscored, not counted in n.
        group_size: completions per group.
    """
    groups = correct.view(-1, group_size)
    right, scored = (groups == 1).sum(1), (~groups.isnan()).sum(1)
    steps = torch.arange(1, group_size + 1, device=correct.device, dtype=correct.dtype)
    harmonic = torch.cat([steps.new_zeros(1), (1 / steps).cumsum(0)])
    value = harmonic[(right - 1).clamp(min=0)] - harmonic[(scored - 1).clamp(min=0)]
    return torch.where(right > 0, value, 0.0).repeat_interleave(group_size)


class VarietyTarget(TrainerCallback):
    """The controller of one training: ``observe`` collects a step's correct completions, ``move`` ends the step.

    Its state is in every checkpoint, so a resumed training continues with the same gamma_p.

    Args:
        target: share of the base's variety to keep, in (0, 1].
        start: first strength; 0 takes the critical one of ``level``.
        level: of the term; ``"mean"`` does not divide by the tokens.
    """

    def __init__(self, target: float, *, start: float = 0.0, level: str = "token"):
        self.target, self.level = target, level
        self._given = self.start = start
        self.scale = 0.0
        self.base, self.ratio, self.gamma_p = 0.0, 1.0, 0.0
        self.entropy = self.tokens = 0.0  # moving sums; the variety is their ratio
        self.steps = 0
        self._now = [0.0, 0.0, 0.0]

    def observe(self, completions: float, tokens: float, entropy: float) -> None:
        """Add a batch of all processes: its correct completions, their tokens, and the sum of their ``h_i`` in nats."""
        if tokens > 0 and math.isfinite(entropy):
            self._now = [a + b for a, b in zip(self._now, (completions, tokens, entropy))]

    @property
    def reference(self) -> float:
        """The share that is aimed at after so many steps: it glides from 1 to the target."""
        return max(self.target, 1 - (1 - self.target) * max(self.steps - WARMUP, 0) / GLIDE)

    def move(self, speed: float) -> None:
        """End a step whose learning rate is ``speed`` of its maximum. A step without a correct completion changes nothing."""
        completions, tokens, entropy = self._now
        self._now = [0.0, 0.0, 0.0]
        if not tokens:
            return
        kept, weight = (
            (KEPT, 1 - KEPT) if self.steps >= WARMUP else (1.0, 1 / WARMUP)
        )  # the base's is a plain mean over its steps
        self.entropy = kept * self.entropy + weight * entropy
        self.tokens = kept * self.tokens + weight * tokens
        self.steps += 1
        variety = self.entropy / self.tokens
        if self.steps <= WARMUP:
            self.base, self.ratio = variety, 1.0
            if self.steps == WARMUP:
                per_completion = 1.0 if self.level == "mean" else max(tokens / completions, 1.0)
                self.start = self.start or CRITICAL / per_completion
                self.scale = self.gamma_p = self.start
            return
        if self.base <= 0:  # a base without variety has none to keep
            self.gamma_p = 0.0
            return
        self.ratio = variety / self.base
        most = MOST * self.start
        error = (self.reference - self.ratio) / self.reference
        wanted = self.scale * max(0.0, 1 + GAIN * error)
        self.gamma_p = min(wanted, most)
        if 0 < wanted <= most or (wanted > most and error < 0):  # at a bound the ascent would wind up
            self.scale *= math.exp(RATE * speed * min(max(error, -0.2), 0.2))
            self.scale = min(max(self.scale, self.start / 100), most)

    def on_step_end(self, args, state, control, **kwargs):
        scheduler, peak = kwargs.get("lr_scheduler"), args.learning_rate
        rate = scheduler.get_last_lr()[0] if scheduler is not None else peak
        self.move(min(rate / peak, 1.0) if peak > 0 else 0.0)
        state.stateful_callbacks[_KEY] = self.state()  # the host writes it into every checkpoint

    def on_train_begin(self, args, state, control, **kwargs):
        saved = state.stateful_callbacks.get(_KEY)
        if state.global_step and saved is None:
            raise ValueError(
                f"variety_target={self.target} is a share of the base's variety, which is measured in the first steps, and this training is "
                f"resumed at step {state.global_step} from a checkpoint without it. Start a new training, or resume without variety_target."
            )
        if not state.global_step:
            self.__init__(self.target, start=self._given, level=self.level)
        for name, value in (saved or {}).items():
            setattr(self, name, value)

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        names = ("start", "scale", "base", "ratio", "gamma_p", "entropy", "tokens", "steps")
        return {name: getattr(self, name) for name in names}
