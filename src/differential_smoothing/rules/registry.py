"""Rules by name or import path, and the guard around them: a rule that misbehaves is named, with the batch where it did."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

__all__ = ["RULES", "BoundRule", "make_rule"]

#: name -> (module of this package, whether it reads log-probabilities)
RULES: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "grpo": ("grpo", False),
        "dr_grpo": ("dr_grpo", False),
        "ds_grpo": ("ds_grpo", True),
        **{f"ds_{letter}": ("ds_grpo", True) for letter in "abcdefg"},
        "unlikeliness": ("unlikeliness", True),
        "pass_at_k_training": ("pass_at_k_training", False),
        "pkpo": ("pkpo", False),
        "best_of": ("best_of", False),
        "maxrl": ("maxrl", False),
        "f_grpo": ("f_grpo", False),
        "ucpo": ("ucpo", True),
        "psr": ("w_reinforce", False),
        "nsr": ("w_reinforce", False),
        "w_reinforce": ("w_reinforce", False),
        "a_grae": ("a_grae", False),
        "rs_grpo": ("rs_grpo", False),
        "qae": ("qae", False),
        "uniqueness": ("uniqueness", False),
        "batch_exploration": ("batch_exploration", False),
        "flow": ("flow", True),
    }
)

_BATCH = ("rewards", "logps", "mask", "correct", "group")
_CONTEXT = ("progress", "answer")


class BoundRule:
    """A rule with its options, guarded. Call it as the rule itself; the result is (batch,) or (batch, tokens), detached.

    ``needs_logps``: whether the rule reads log-probabilities; if not, ``logps`` may be None. Every call checks that the rule
    returned finite advantages of one of the two shapes and left its inputs alone; ValueError names the rule, the ``where`` of the
    call (such as "step 12") and what was wrong. The result has the dtype of the rewards.
    """

    def __init__(self, name: str, function: Callable[..., Tensor], options: Mapping[str, Any], needs_logps: bool):
        self.name, self.function, self.options = name, function, dict(options)
        self.needs_logps = needs_logps
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            raise ValueError(
                f"The rule {name!r} has no signature that can be read: make it a Python function."
            ) from None
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        missing = [] if self._takes_all else [n for n in _BATCH if n not in parameters]
        if missing:
            raise ValueError(
                f"The rule {name!r} must be a function (rewards, logps, mask, *, correct, group, **options); it lacks "
                f"{', '.join(missing)}."
            )
        reserved = sorted(set(options) & {*_BATCH, *_CONTEXT})
        known = [
            n
            for n in parameters
            if n not in (*_BATCH, *_CONTEXT) and parameters[n].kind is not inspect.Parameter.VAR_KEYWORD
        ]
        unknown = reserved or ([] if self._takes_all else sorted(set(options) - set(known)))
        if unknown:
            raise ValueError(
                f"The rule {name!r} has no option {unknown[0]!r}. Its options are: {', '.join(known) or 'none'}."
            )
        self.context = [n for n in _CONTEXT if n in parameters]
        self._required = [n for n in self.context if parameters[n].default is inspect.Parameter.empty]

    def requires(self, name: str) -> bool:
        """Whether the rule cannot be called without ``name``, one of ``progress`` and ``answer``."""
        return name in self._required

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.options.items())})"

    @torch.no_grad()
    def __call__(
        self,
        rewards: Tensor,
        logps: Tensor | None,
        mask: Tensor,
        *,
        correct: Tensor,
        group: Tensor,
        where: str = "this batch",
        **context: Any,
    ) -> Tensor:
        given = {"rewards": rewards, "logps": logps, "mask": mask, "correct": correct, "group": group}
        before = {name: value.clone() for name, value in given.items() if value is not None}
        context = {name: context[name] for name in self.context if name in context}
        try:
            result = self.function(rewards, logps, mask, correct=correct, group=group, **context, **self.options)
        except Exception as error:
            raise ValueError(
                f"The rule {self!r} failed at {where}: {type(error).__name__}: {str(error).rstrip('.')}. If this is not an option with a "
                f"wrong value, call the rule by itself on rewards like these to find the line."
            ) from error
        # by value, not by version: an array that shares the memory (rewards.numpy()) changes it without a trace
        changed = [name for name, value in before.items() if not torch.equal(_bits(value), _bits(given[name]))]
        if changed:
            raise ValueError(
                f"The rule {self!r} changed its input {changed[0]} in place at {where}. Work on a copy "
                f"({changed[0]}.clone()): the trainer and its log still need the original."
            )
        if not isinstance(result, Tensor) or not result.is_floating_point():
            got = result.dtype if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"The rule {self!r} must return a tensor of floats, got {got} at {where}. Return one advantage per completion, (batch,), "
                f"or per token, (batch, tokens)."
            )
        if result.shape not in (rewards.shape, mask.shape):
            raise ValueError(
                f"The rule {self!r} must return advantages of shape {tuple(rewards.shape)} or {tuple(mask.shape)}, got "
                f"{tuple(result.shape)} at {where}. Return one advantage per completion or one per token."
            )
        if result.device != rewards.device:
            raise ValueError(
                f"The rule {self!r} must return its advantages on the device of the rewards, {rewards.device}, got {result.device} at "
                f"{where}. Make new tensors with rewards.new_zeros(...) and its kin."
            )
        counts = torch.ones_like(rewards, dtype=torch.bool) if result.dim() == 1 else mask != 0
        broken = counts & ~result.isfinite()
        if broken.any():
            row = int(broken.nonzero()[0, 0])
            raise ValueError(
                f"The rule {self!r} returned {result[broken][0].item()} at {where}: {int(broken.sum())} of "
                f"{broken.numel()} advantages are not finite, the first for completion {row} (reward {rewards[row].item():g}, "
                f"correct {correct[row].item():g}, group {group[row].item()}). A division by a group's spread of 0 is the "
                f"usual cause; a completion with reward NaN must get 0."
            )
        # a float64 result would drag the loss of a float32 model along
        result = result.detach().to(rewards.dtype)
        return result if result.dim() == 1 else torch.where(mask != 0, result, 0.0)


def make_rule(name: str, options: Mapping[str, Any] | None = None) -> BoundRule:
    """The rule ``name`` with ``options``.

    ``name`` is one of ``RULES``, ``"package.module:function"``, or ``"path/to/file.py:function"``. A function of your own reads
    log-probabilities unless it has an attribute ``needs_logps = False``. ValueError names the module or attribute that cannot be imported.
    """
    if not isinstance(options, Mapping | None):
        raise ValueError(f"The options of the rule {name!r} must be a mapping of option to value, got {options!r}.")
    options = dict(options or {})
    if name in RULES:
        module, needs_logps = RULES[name]
        function = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        rule = BoundRule(name, function, options, needs_logps)
        # shows a wrong option now, not after the first generation
        right, token, group = torch.tensor([1.0, 0.0]), torch.ones(2, 1), torch.zeros(2, dtype=torch.long)
        context = {"answer": torch.tensor([0, -1])} if rule.requires("answer") else {}
        rule(right, -token, token, correct=right, group=group, where="a trial of its options", **context)
        return rule
    if not isinstance(name, str) or ":" not in name:
        close = difflib.get_close_matches(str(name), RULES, n=1)
        raise ValueError(
            f"There is no rule {name!r}.{f' Did you mean {close[0]!r}?' if close else ''} Known are {', '.join(RULES)}. A rule of "
            f"your own is 'package.module:function' or 'path/to/file.py:function'."
        )
    place, _, attribute = name.rpartition(":")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"The rule {name!r} cannot be imported: {type(error).__name__}: {error}. Check the path, and that the file runs by itself."
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"{place} has no function {attribute!r}, so there is no rule {name!r}.")
    return BoundRule(name, function, options, getattr(function, "needs_logps", True))


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    name = f"dsmooth_rule_{path.stem}"  # hides no module of that name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    spec.loader.exec_module(module)
    return module


def _bits(values: Tensor) -> Tensor:
    """The same numbers with NaN equal to NaN."""
    return values.detach().nan_to_num(nan=-12345.678)
