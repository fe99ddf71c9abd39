"""The host's own options that rules are compared with, by name: what they set in TRL's ``GRPOConfig``.

``rule: clip_higher`` in a config is ``epsilon_high: 0.28``. An option that the config sets to something else than the host's default
wins, so a study sweeps a preset by setting the option beside it. The values are the usual ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["PRESETS"]

#: name -> option of GRPOConfig -> value.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "entropy_bonus": {"entropy_coef": 0.01},  # loss -= coef * mean token entropy
        "entropy_penalty": {"entropy_coef": -0.01},
        "adaptive_entropy": {"use_adaptive_entropy": True, "entropy_target": 0.2},  # arXiv 2505.22312
        "clip_higher": {"epsilon": 0.2, "epsilon_high": 0.28},  # DAPO, arXiv 2503.14476
        "kl": {"beta": 0.01},  # to the reference policy, the base
        "gspo": {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},  # arXiv 2507.18071
        "top_entropy_tokens": {"top_entropy_quantile": 0.2},  # arXiv 2506.01939
        "lower_learning_rate": {
            "learning_rate": 3e-7
        },  # a third of TRL's default: the control that every comparison needs
        "dr_grpo_loss": {"loss_type": "dr_grpo", "scale_rewards": "none"},  # with the loss over a constant length
    }
)
