"""Mathematics: is the answer in a completion the gold answer? See ``compare`` for how answers are compared, ``working`` for what makes
two right solutions different."""

from differential_smoothing.tasks.math.compare import canonical, check_golds, verify, verify_many
from differential_smoothing.tasks.math.working import solution_signature
from differential_smoothing.tasks.task import Verdict

__all__ = ["Verdict", "canonical", "check_golds", "solution_signature", "verify", "verify_many"]
