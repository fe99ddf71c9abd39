"""DS-GRPO as a drop-in for TRL's GRPOTrainer.

    from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer

    DSGRPOTrainer(
        model=..., args=DSGRPOConfig(gamma_p=0.2), reward_funcs=..., train_dataset=..., processing_class=...
    ).train()

Everything that is not the advantage is the host's: generation, losses, clipping, KL, PEFT, vLLM, distribution, resume.
Four methods of the host are extended: ``_calculate_rewards`` to learn which completions are correct,
``_generate_and_score_completions`` to replace the advantages, and ``_compute_loss`` with
``_get_per_token_logps_and_entropies`` where log pi_old is known only there. All call ``super()`` and copy nothing. They
are private to TRL, so ``tests/test_trl.py`` holds the contract we rely on, and ``guard`` ends a training in which something else has
taken their place.
"""

try:
    import trl  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "trl":  # TRL is there and lacks something itself
        raise
    raise ModuleNotFoundError(
        "differential_smoothing.integrations.trl needs TRL, which is not installed. Install it: "
        "pip install 'differential-smoothing[trl]'.",
        name="trl",
    ) from None

from differential_smoothing.integrations.trl.config import DSGRPOConfig
from differential_smoothing.integrations.trl.rollout import shared_prefix_rollout
from differential_smoothing.integrations.trl.trainer import DSGRPOTrainer

__all__ = ["DSGRPOConfig", "DSGRPOTrainer", "shared_prefix_rollout"]
