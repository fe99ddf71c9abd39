"""Mathematics: is the answer in a completion the gold answer? See ``compare`` for how answers are compared, ``working`` for what makes
two right solutions different, ``task`` for the task that trainers see and ``sources`` for its data sets."""

from differential_smoothing.tasks.math.compare import canonical, check_golds, verify, verify_many
from differential_smoothing.tasks.math.contamination import Contamination, contaminated
from differential_smoothing.tasks.math.sources import SOURCES, MathProblem
from differential_smoothing.tasks.math.task import STYLES, Math
from differential_smoothing.tasks.math.working import solution_signature
from differential_smoothing.tasks.task import Verdict

__all__ = [
    "SOURCES",
    "STYLES",
    "Contamination",
    "Math",
    "MathProblem",
    "Verdict",
    "canonical",
    "check_golds",
    "contaminated",
    "solution_signature",
    "verify",
    "verify_many",
]
