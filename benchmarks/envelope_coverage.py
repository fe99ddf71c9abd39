"""How often the intervals of leads over an envelope hold the truth: simulated sweeps of paths whose true means are known.

    python benchmarks/envelope_coverage.py --seeds 5       # and 1; writes benchmarks/results/envelope-coverage-5.txt

A study: a baseline with five learning rates, whose paths lie close together as GRPO's do, and a rule with three, six checkpoints each; 250 problems
(and 100 others to choose on) x 64 samples. On the logit scale a problem's success rate is normal; along a path its mean rises and its
spread grows until most problems are decided. Runs differ from seed to seed in both, a run's problems share three quarters of their variance with those of all
runs, and a correct sample has one of six answers, the less evenly the longer the training. Each study chooses the rule's point by the largest lead in Pass@64 on the
100 problems and judges it on the 250. The truth is the lead of that point's true means over the envelope of the baseline's, by quadrature over problems and
runs; with one seed it is that of the runs that were drawn, as such an interval speaks of new problems alone.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import special, stats

from differential_smoothing.evaluation.envelope import corrected, lead_over, margin_over, resample

PROBLEMS, CHOSEN_ON, SAMPLES, ANSWERS = 250, 100, 64, 6
#: Of each run: length, rise of Pass@1 above 0.145, log of the spread at the end. Of the rule, evenness falls half as fast.
BASELINE = [(1.0, 0.43, 2.9), (0.8, 0.428, 2.85), (0.6, 0.425, 2.8), (0.4, 0.42, 2.8), (0.2, 0.41, 2.7)]
RULE = [(1.0, 0.47, 2.1), (0.5, 0.46, 2.1), (0.7, 0.50, 1.9)]
STEPS = 6
OF_MEAN, OF_SPREAD = (
    0.025,
    0.1,
)  # between seeds: sd of the probit of Pass@1 (about one point) and of the log of the spread
NODES = stats.norm.ppf((np.arange(400) + 0.5) / 400)


def points(runs, evenness):
    """(points, 3): probit of Pass@1, log of the spread, ratio of an answer's share to the one before; and the run of each."""
    found = []
    for number, (length, rise, spread) in enumerate(runs):
        for step in range(1, STEPS + 1):
            at = length * step / STEPS
            success = 0.145 + rise * (1 - np.exp(-4 * at)) / (1 - np.exp(-4))
            found.append((special.ndtri(success), at * spread, 0.9 * np.exp(-2.3 * at * evenness), number))
    return np.array(found)[:, :3], np.array(found)[:, 3].astype(int)


def rates(probit, log_spread, z):
    spread = np.exp(log_spread)
    return special.expit(probit * np.sqrt(spread**2 + 2.9) + spread * z)


def shares(ratio):
    powers = ratio[..., None] ** np.arange(ANSWERS)
    return powers / powers.sum(axis=-1, keepdims=True)


def true_means(probit, log_spread, ratio):
    """(points, 3): Pass@1, Pass@64 and distinct answers of 64 samples of points without noise between runs."""
    p = rates(probit[:, None], log_spread[:, None], NODES)
    found = 1 - (1 - p[:, None] * shares(ratio)[:, :, None]) ** SAMPLES
    return np.stack([p.mean(axis=1), (1 - (1 - p) ** SAMPLES).mean(axis=1), found.sum(axis=1).mean(axis=1)], axis=1)


def over_runs(at):
    """The same, over all runs there could be: Gauss-Hermite in both differences between seeds."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    return sum(
        w * v * true_means(at[:, 0] + OF_MEAN * a, at[:, 1] + OF_SPREAD * b, at[:, 2])
        for a, w in zip(nodes, weights, strict=True)
        for b, v in zip(nodes, weights, strict=True)
    )


def study(random, at, runs, seeds):
    """Values (points, seeds, problems, 3) of one study, and the true means of its own runs, (points, 3), of its first seed."""
    drawn = [
        sd
        * (
            np.sqrt(0.75) * random.normal(size=(runs.max() + 1, seeds))[runs]
            + 0.5 * random.normal(size=(len(at), seeds))
        )
        for sd in (OF_MEAN, OF_SPREAD)
    ]  # a run's difference, and that of a checkpoint from its run
    probit, log_spread = (at[:, i, None] + drawn[i] for i in (0, 1))
    number = PROBLEMS + CHOSEN_ON
    z = np.sqrt(0.75) * random.normal(size=number) + 0.5 * random.normal(size=(runs.max() + 1, seeds, number))[runs]
    p = rates(probit[..., None], log_spread[..., None], z)[..., None]
    counts = random.multinomial(SAMPLES, np.concatenate([p * shares(at[:, 2])[:, None, None], 1 - p], axis=-1))[
        ..., :-1
    ]
    right = counts.sum(axis=-1)
    values = np.stack([right / SAMPLES, right > 0, (counts > 0).sum(axis=-1)], axis=-1)
    return values, true_means(probit[:, 0], log_spread[:, 0], at[:, 2])


def main(studies, seeds, seed):
    random = np.random.default_rng([seed, seeds])
    mine, my_runs = points(RULE, 0.5)
    theirs, their_runs = points(BASELINE, 1.0)
    at, runs = np.concatenate([mine, theirs]), np.concatenate([my_runs, my_runs.max() + 1 + their_runs])
    everywhere = over_runs(at)
    statistics = {"lead in Pass@64": lead_over(1), "lead in distinct": lead_over(2), "margin in Pass@1": margin_over(0)}
    # the rule's point is the one that is chosen, and one in the middle of the baseline's range
    found: dict[tuple, list] = {}
    for number in range(studies):
        values, own = study(random, at, runs, seeds)
        truth = own if seeds == 1 else everywhere
        means = values[:, :, PROBLEMS:].mean(axis=(1, 2))
        compared = [np.concatenate([means[[i]], means[len(mine) :]])[None] for i in range(len(mine))]
        best = int(np.argmax([lead_over(1)(table)[0] for table in compared]))
        for name, i in (("chosen", best), ("interior", STEPS + 2)):
            both = [i, *range(len(mine), len(at))]
            drawn = resample(values[both][:, :, :PROBLEMS], seed=number, replications=400)
            for measure, statistic in statistics.items():
                if name == "interior" and measure.startswith("margin"):
                    continue
                true = statistic(truth[both][None])[0]
                result = corrected(statistic, drawn, seed=number)
                low, high = result.interval()
                found.setdefault((name, measure), []).append(
                    (
                        low <= true <= high,
                        low > true,
                        high < true,
                        result.plain - true,
                        result.estimate - true,
                        true,
                        high - low,
                    )
                )
        if (number + 1) % 100 == 0 or number + 1 == studies:
            write(found, number + 1, seeds, len(theirs))


def write(found, studies, seeds, size):
    lines = [
        f"{studies} simulated studies, {seeds} training seed(s), {PROBLEMS} problems x {SAMPLES} samples, {size} baseline points; nominal 95%.",
        f"A coverage of 95 has a standard error of {100 * (0.95 * 0.05 / studies) ** 0.5:.1f}. In %, errors and widths in units of the measure.",
        "",
        f"{'point':10}{'measure':20}{'coverage':>9}{'low above':>11}{'high below':>12}{'true':>8}{'plain error':>13}{'error':>9}{'width':>8}",
    ]
    for (name, measure), rows in found.items():
        held, above, below, plain, error, true, width = np.mean(rows, axis=0)
        lines.append(
            f"{name:10}{measure:20}{100 * held:9.1f}{100 * above:11.1f}{100 * below:12.1f}{true:8.3f}{plain:+13.4f}{error:+9.4f}{width:8.3f}"
        )
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / f"envelope-coverage-{seeds}.txt").write_text(text)
    print(text, end="", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
