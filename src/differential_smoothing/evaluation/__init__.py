"""Evaluation: Pass@k, distinct solutions, and honest intervals, from a rollouts table."""

from .diversity import coverage, distinct_correct, maj_at_k
from .intervals import Interval, bootstrap_curve, bootstrap_mean, paired_difference
from .pass_at_k import pass_at_k
from .sharpening import Diagnosis, diagnose
from .summary import compare, counts, summarise

__all__ = [
    "Diagnosis",
    "Interval",
    "bootstrap_curve",
    "bootstrap_mean",
    "compare",
    "counts",
    "coverage",
    "diagnose",
    "distinct_correct",
    "maj_at_k",
    "paired_difference",
    "pass_at_k",
    "summarise",
]
