"""How often the intervals hold the truth: simulated studies whose true values are known.

    python benchmarks/coverage.py

A study is 100 problems x 64 samples of two models. A problem's success rate is Beta(0.5, 1.5) for model A, and for model B a
power of A's with a random exponent, so that the two are correlated; a correct sample has one of 8 forms, whose chances are
Dirichlet per problem, the more even the easier the problem. True values are integrals over the problems, by quadrature. Each
number is the share of studies whose nominal 95% interval holds the true value, with the shares that miss it on either side.
Written to benchmarks/results/coverage.txt.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from differential_smoothing.evaluation import (
    bootstrap_curve,
    paired_ratio,
    pass_at_k,
    pass_at_k_curve,
    samples_to_reach,
    simultaneous_band,
)

PROBLEMS, SAMPLES, FORMS = 100, 64, 8
BETA = (0.5, 1.5)
EXPONENT, SPREAD = 0.8, 0.4  # B's rate is A's to the power 0.8 exp(0.4 z), z standard normal


def evenness(rate, model):
    """Of the Dirichlet of a problem's forms: all 8 parameters have this value."""
    return (0.1 + rate) * (1.0 if model == "A" else 2.0)


def truth():
    """The true value of every estimate, by quadrature over success rates and B's exponents."""
    points = 4000
    a = stats.beta.ppf((np.arange(points) + 0.5) / points, *BETA)[:, None]
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    weights = np.broadcast_to(weights / weights.sum(), (points, 30)) / points
    rates = {"A": np.broadcast_to(a, (points, 30)), "B": a ** (EXPONENT * np.exp(SPREAD * nodes))}
    curves = {
        model: np.array([(weights * (1 - (1 - p) ** k)).sum() for k in range(1, SAMPLES + 1)])
        for model, p in rates.items()
    }
    # The chance of two correct samples, and then that two correct ones differ: 1 - E sum q^2 of the Dirichlet.
    solved = {m: 1 - (1 - p) ** SAMPLES - SAMPLES * p * (1 - p) ** (SAMPLES - 1) for m, p in rates.items()}
    even = {m: evenness(p, m) for m, p in rates.items()}
    differ = {m: 1 - (e + 1) / (FORMS * e + 1) for m, e in even.items()}
    both = weights * solved["A"] * solved["B"]
    values = {
        "Pass@1": curves["A"][0],
        "Pass@16": curves["A"][15],
        "Pass@64": curves["A"][63],
        "two correct answers differ": (weights * solved["A"] * differ["A"]).sum() / (weights * solved["A"]).sum(),
        "Pass@1, B - A": curves["B"][0] - curves["A"][0],
        "Pass@16, B - A": curves["B"][15] - curves["A"][15],
        "two correct answers differ, B - A": (both * (differ["B"] - differ["A"])).sum() / both.sum(),
    }
    return values, curves


def simulate(replications, seed):
    """Counts of `replications` studies: per model, correct samples (problems, studies) and the chance to differ."""
    rng = np.random.default_rng(seed)
    a = rng.beta(*BETA, (PROBLEMS, replications))
    rates = {"A": a, "B": a ** (EXPONENT * np.exp(SPREAD * rng.standard_normal(a.shape)))}
    correct, differ = {}, {}
    for model, rate in rates.items():
        correct[model] = c = rng.binomial(SAMPLES, rate)
        forms = rng.standard_gamma(evenness(rate, model)[..., None], (*rate.shape, FORMS)) + 1e-300
        repeats = rng.multinomial(c, forms / forms.sum(axis=-1, keepdims=True))
        agree = (repeats * (repeats - 1)).sum(axis=-1)
        differ[model] = np.where(c > 1, 1 - agree / np.maximum(c * (c - 1), 1), np.nan)
    return correct, differ


def estimates(correct, differ):
    values = {f"Pass@{k}": pass_at_k(SAMPLES, correct["A"], k) for k in (1, 16, 64)}
    values["two correct answers differ"] = differ["A"]
    for k in (1, 16):
        values[f"Pass@{k}, B - A"] = pass_at_k(SAMPLES, correct["B"], k) - pass_at_k(SAMPLES, correct["A"], k)
    values["two correct answers differ, B - A"] = differ["B"] - differ["A"]
    return values


def coverage(replications, *, seed, resamples=4000, methods=("percentile", "bca")):
    """Per estimate and method: the shares of studies whose interval holds the truth, lies above it, and below it."""
    true, _ = truth()
    table = {}
    for name, values in estimates(*simulate(replications, seed)).items():
        for method in methods:
            found = np.array(bootstrap_curve(values[None], seed=seed, replications=resamples, method=method))
            above, below = (found[:, 1] > true[name]).mean(), (found[:, 2] < true[name]).mean()
            table[name, method] = (1 - above - below, above, below)
    return table


def coverage_of_curves(replications, *, seed, resamples=1000):
    """The same for what is worked out study by study: a whole curve's band, a ratio, samples to reach."""
    _, curves = truth()
    k, up_to = 8, 32
    reach = np.interp(curves["A"][k - 1], curves["B"], np.arange(1, SAMPLES + 1))
    ratio = curves["B"][0] / curves["A"][0]
    correct, _ = simulate(replications, seed)
    hits = {"band over Pass@1, ..., Pass@32": [], "Pass@1, B / A": [], "samples of B for A's Pass@8": []}
    for study in range(replications):
        a, b = (pass_at_k_curve(SAMPLES, correct[model][:, study], up_to) for model in "AB")
        options = dict(seed=study, replications=resamples)
        band = np.array(simultaneous_band(a[None], **options))
        above, below = (band[:, 1] > curves["A"][:up_to]).any(), (band[:, 2] < curves["A"][:up_to]).any()
        hits["band over Pass@1, ..., Pass@32"].append((not above and not below, above, below))
        for name, true, found in (
            ("Pass@1, B / A", ratio, paired_ratio(b[:, 0], a[:, 0], **options)),
            ("samples of B for A's Pass@8", reach, samples_to_reach(b, a, [k], **options)[0]),
        ):
            hits[name].append((found.low <= true <= found.high, found.low > true, found.high < true))
    return {
        (name, "sup-t" if "band" in name else "percentile"): np.mean(of_name, axis=0) for name, of_name in hits.items()
    }


def main(replications, seed):
    lines = [
        f"{PROBLEMS} problems x {SAMPLES} samples, nominal level 95%, in %; each share is of {replications} simulated studies",
        f"({replications // 4} for the last three rows), so a coverage of 95 has a standard error of "
        f"{100 * (0.95 * 0.05 / replications) ** 0.5:.2f} ({100 * (0.95 * 0.05 / (replications // 4)) ** 0.5:.2f}).",
        "",
        f"{'estimate':36}{'method':12}{'coverage':>9}{'low end above':>15}{'high end below':>16}",
    ]
    table = coverage(replications, seed=seed) | coverage_of_curves(replications // 4, seed=seed)
    for (name, method), (held, above, below) in table.items():
        lines.append(f"{name:36}{method:12}{100 * held:9.1f}{100 * above:15.1f}{100 * below:16.1f}")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    (Path(__file__).parent / "results" / "coverage.txt").write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
