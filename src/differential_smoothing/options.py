"""The options of Differential Smoothing, checked alike for every host: which values there are, and which of them go together.

A host's own class has them as attributes, under the same names: ``gamma_p``, ``gamma_n``, ``level``, ``stage``, ``center``, ``relative``,
``relative_floor``, ``schedule``, ``rule`` and, where the host has it, ``density``. An option without effect is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from differential_smoothing.advantages import smoothing_coefficient
from differential_smoothing.rules import RULES

__all__ = ["CHOICES", "check_options", "has_own_gammas", "plain_number"]

CHOICES = {
    "level": ("token", "mean", "sum"),
    "stage": ("advantage", "reward"),
    "schedule": ("constant", "entropy_discrepancy"),
    "density": ("old", "base", "ratio"),
}
FLOOR = 0.2  # the default of relative_floor


def plain_number(name: str, value: object, *, advice: str = "") -> float:
    """``value`` as Python's own number, also of numpy's; ValueError, with ``advice``, unless it is one and finite."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.{advice and ' ' + advice}")
    return value.item() if isinstance(value, np.generic) else value  # type: ignore[return-value]  # an int stays one, as in a config


def strengths(
    gamma_p: object, gamma_n: object, *, prefix: str = "", needed: bool = True, advice: str
) -> dict[str, float]:
    """Both strengths by name, as numbers >= 0, for a host without a config of ours.

    ValueError with ``advice`` for another value and, where they are ``needed``, if none is above 0. ``prefix``: of their names in the host.
    """
    given = {"gamma_p": gamma_p, "gamma_n": gamma_n}
    gammas = {name: plain_number(prefix + name, value, advice=advice) for name, value in given.items()}
    if min(gammas.values()) < 0 or (needed and not any(gammas.values())):
        raise ValueError(
            f"{prefix}gamma_p and {prefix}gamma_n must be numbers >= 0{', one above 0' * needed}; got {gamma_p!r} and {gamma_n!r}. {advice}"
        )
    return gammas


def has_own_gammas(rule: str) -> bool:
    """Whether a rule's own options hold the strengths of Differential Smoothing."""
    return rule in RULES and rule.startswith("ds_")


def check_options(
    options: Any, written: Callable[..., str], *, scheduled: Sequence[str] = ("gamma_p", "gamma_n")
) -> None:
    """ValueError if an option has an impossible value, does not go with another, or has no effect.

    Args:
        options: with the attributes of the module's docstring, and ``smooths``: whether a term is added at all.
        written: ``written(name)`` is the option as the host's user writes it, ``written(name, value)`` with a value.
        scheduled: the options that a schedule multiplies.
    """
    smoothing_coefficient(torch.zeros(1), gamma_p=options.gamma_p, gamma_n=options.gamma_n)  # its checks and messages
    given = {name: getattr(options, name, allowed[0]) for name, allowed in CHOICES.items()}
    for name, allowed in CHOICES.items():
        if given[name] not in allowed:
            raise ValueError(f"{written(name)} must be one of {', '.join(allowed)}; got {given[name]!r}.")
    floor = plain_number(written("relative_floor"), options.relative_floor)
    if floor < 0:
        raise ValueError(f"{written('relative_floor')} must be >= 0, got {floor}.")
    if floor != FLOOR and not options.relative:
        raise ValueError(f"{written('relative_floor', floor)} has no effect without {written('relative', True)}.")
    for name, default in (("relative", False), ("center", False), ("density", "old")):
        value = getattr(options, name, default)
        if value != default and not options.smooths:
            raise ValueError(
                f"{written(name, value)} has no effect while gamma_p and gamma_n are 0. Set gamma_p, such as 0.3."
            )
    if given["schedule"] != "constant" and all(getattr(options, name) == 0 for name in scheduled):
        raise ValueError(
            f"{written('schedule', given['schedule'])} multiplies {', '.join(scheduled)}, and all of them are 0. Set one."
        )
    at_reward = given["stage"] == "reward"
    if options.relative and (options.center or at_reward):
        raise ValueError(
            f"{written('relative', True)} is centred by itself, at the advantage stage. Leave center out and set "
            f"{written('stage', 'advantage')}."
        )
    if at_reward and given["level"] == "token":
        raise ValueError(
            f"{written('stage', 'reward')} shapes one number per completion, so {written('level', 'token')} has no meaning there. Set level to "
            f"'mean' or 'sum', or stage to 'advantage'."
        )
    if at_reward and options.center:
        raise ValueError(
            f"{written('center')} shifts the term at the advantage stage; the reward stage is centred by itself. Set stage to 'advantage', or "
            f"leave center out."
        )
    if options.center and given["level"] == "token" and given["density"] != "old":
        raise ValueError(
            f"{written('center', True)} at {written('level', 'token')} needs {written('density', 'old')}; got {given['density']!r}. Use "
            f"{written('relative', True)} or another level."
        )
    if options.smooths and has_own_gammas(options.rule):
        raise ValueError(
            f"{written('rule', options.rule)} has gammas of its own: put gamma_p and gamma_n into rule_options, or take another rule."
        )
