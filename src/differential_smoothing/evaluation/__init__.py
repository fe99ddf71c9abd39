"""Evaluation: Pass@k, variety of correct answers, and honest intervals, from a rollouts table."""

from .curves import crossing, samples_to_reach, simultaneous_band
from .diagnosis import Diagnosis, diagnose
from .diversity import coverage, distinct_correct, maj_at_k
from .intervals import Interval, bootstrap_curve, bootstrap_mean, paired_difference, paired_ratio
from .pass_at_k import pass_at_k, pass_at_k_curve, pass_hat_k
from .summary import compare, counts, summarise
from .unscored import unscored
from .variety import effective_modes, gini_simpson, rarefaction, vendi_score

__all__ = [
    "Diagnosis",
    "Interval",
    "bootstrap_curve",
    "bootstrap_mean",
    "compare",
    "counts",
    "coverage",
    "crossing",
    "diagnose",
    "distinct_correct",
    "effective_modes",
    "gini_simpson",
    "maj_at_k",
    "paired_difference",
    "paired_ratio",
    "pass_at_k",
    "pass_at_k_curve",
    "pass_hat_k",
    "rarefaction",
    "samples_to_reach",
    "simultaneous_band",
    "summarise",
    "unscored",
    "vendi_score",
]
