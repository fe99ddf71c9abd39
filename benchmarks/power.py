"""Planned power against simulated power, in five settings.

    python benchmarks/power.py        # a minute; writes benchmarks/results/power.csv

A setting draws for every problem a success rate of the baseline, Beta(a, b); a training seed of either model shifts its logit by a normal of its own, a
training seed and problem by another, and the model's logit by ``lift``. Counts are binomial. The plan knows the components of one large pilot (400 seeds, 1,500
problems) and the true difference, the mean over the studies; ``simulated`` is the share of 4,000 studies whose bootstrap interval (``standard_errors``, exact, normal) excludes 0.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from differential_smoothing.evaluation.pass_at_k import pass_at_k
from differential_smoothing.evaluation.power import components, power_of
from differential_smoothing.evaluation.resampling import standard_errors

RESULTS = Path(__file__).parent / "results"
#: a, b; sd of a seed's and of a seed and problem's logit; lift; problems, seeds, samples; k of Pass@k
SETTINGS = {
    "Pass@1, five seeds": (0.6, 1.8, 0.10, 0.5, 0.20, 200, 5, 16, 1),
    "Pass@1, one seed": (0.6, 1.8, 0.00, 0.5, 0.15, 300, 1, 16, 1),
    "Pass@1, few samples": (0.6, 1.8, 0.05, 0.3, 0.20, 500, 3, 2, 1),
    "Pass@8, five seeds": (0.5, 3.0, 0.10, 0.8, 0.30, 200, 5, 16, 8),
    "Pass@1, noisy training": (1.0, 1.0, 0.30, 0.3, 0.50, 400, 8, 8, 1),
}
STUDIES = 4000


def study(rng, a, b, seed_sd, both_sd, lift, problems, seeds, samples, k):
    """Differences (seeds, problems) of a study, and the variance of their sampling noise."""
    logit = np.log(rng.beta(a, b, problems).clip(1e-9, 1 - 1e-9))
    logit -= np.log1p(-np.exp(logit))
    values, noise = [], 0.0
    for shift in (lift, 0.0):
        own = rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, both_sd, (seeds, problems))
        c = rng.binomial(samples, 1 / (1 + np.exp(-(logit + shift + own))))
        values.append(pass_at_k(np.full(c.shape, samples), c, k))
        noise = noise + (c * (samples - c) / (samples**2 * (samples - 1)) if k == 1 and samples > 1 else np.nan)
    return values[0] - values[1], noise


def main() -> pd.DataFrame:
    rows = []
    for name, (a, b, seed_sd, both_sd, lift, problems, seeds, samples, k) in SETTINGS.items():
        rng = np.random.default_rng(0)
        pilot = components(*study(rng, a, b, seed_sd, both_sd, lift, 1500, 400, samples, k), samples)
        means, found = [], 0
        for _ in range(STUDIES):
            values, _ = study(rng, a, b, seed_sd, both_sd, lift, problems, seeds, samples, k)
            means.append(values.mean())
            found += abs(values.mean()) > 1.959964 * standard_errors(values[:, :, None])[0]
        difference = float(np.mean(means))
        known = {} if seeds > 1 else {"seed_variance": 0.0}  # the setting with one seed has no variance between seeds
        planned = power_of(pilot, difference, problems=problems, seeds=seeds, **known)
        rows.append((name, difference, problems, seeds, samples, planned, found / STUDIES))
    return pd.DataFrame(rows, columns=["setting", "difference", "problems", "seeds", "samples", "planned", "simulated"])


if __name__ == "__main__":
    table = main()
    table.to_csv(RESULTS / "power.csv", index=False, float_format="%.4f")
    print(table.round(3).to_string(index=False))
