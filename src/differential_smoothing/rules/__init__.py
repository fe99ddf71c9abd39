"""Every rule that turns rewards into advantages, one file each, all with one signature.

    rule(rewards, logps, mask, *, correct, group, **options) -> (batch,) or (batch, tokens) advantages

``rewards`` (batch,) floats, NaN = unscored; ``logps``, ``mask`` (batch, tokens) of the sampling policy; ``correct`` (batch,)
in {0, 1, NaN}; ``group`` (batch,) ids: as in ``ds_grpo_advantages``. An unscored completion gets 0 and counts nowhere. A rule of your
own is a function of this signature; the trainer takes it as ``rule="package.module:function"`` or
``"path/to/file.py:function"``. It may also ask for ``progress``, the share of the training that is done, and ``answer``, (batch,)
ids of the correct completions' canonical answers, -1 for the others.

``make_rule`` finds a rule by name or import path and guards it; ``PRESETS`` are the host's own options that count as rules.
"""

from differential_smoothing.rules.presets import PRESETS
from differential_smoothing.rules.registry import RULES, BoundRule, make_rule

__all__ = ["PRESETS", "RULES", "BoundRule", "make_rule"]
