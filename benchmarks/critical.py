"""The predicted critical gamma_p of a task, and the measured one of a sweep beside it.

    python benchmarks/critical.py                                         # graph colouring; writes benchmarks/results/critical.csv
    python benchmarks/critical.py --success 0.3 --tokens 1000 --branches 2  # another task
    python benchmarks/critical.py --study convergence --rules ds_token ds_token_low ds_token_slow ds_token_high    # and critical-grid.csv

**Predicted** (``tabular.collapse``), token level, gamma_n = 0: an answer has T tokens that decide, at each b right branches that share the
mass R = C^(1/T). ``alone`` is the critical strength of a prompt with success C, ``pooled`` that of prompts with this mean which share
their parameters, by the share of groups that are decided. A run is between the two.

A budget of training can be too short to collapse, and early on, where success is low, differences grow faster. At the success rates C(t) of
GRPO's own path, time t being the learning rate summed over steps, they grow by the integral of ``C (drift - gamma_p hold)``. If GRPO has lost
half of the base's variety at the time ``half``, a run of time B is predicted to lose it below

    gamma_c(B) = (integral over [half, B] of C drift) / (integral over [0, B] of C hold),  0 where B < half.

**Measured**: for each learning rate and checkpoint the strength at which the chance that two right samples differ (``differ``) crosses half of
the base's, on a straight line between the strengths tried. The file has the columns rule, strength, learning_rate, step, seed,
evaluation, prompt_id, n, c, distinct, differ; the rule ``grpo`` is strength 0.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from differential_smoothing.tabular.collapse import crowd, node_balance, pooled

ROOT = Path(__file__).parents[1]
COLUMNS = [
    "rule",
    "strength",
    "learning_rate",
    "step",
    "seed",
    "evaluation",
    "prompt_id",
    "n",
    "c",
    "distinct",
    "differ",
]


def balance(success, tokens: float, branches: float, group: int):
    """Drift and hold of the token level at success rates (P,)."""
    success = np.asarray(success, dtype=np.float64)
    return node_balance(success ** (1 / tokens), branches, success, "token", group)


def predicted(success, decided, *, tokens: float, branches: float, group: int) -> pd.DataFrame:
    """One row for each success rate: the critical strength alone, and pooled for each share of ``decided`` groups (NaN where impossible)."""
    rows = []
    for rate in success:
        row = {"success": rate, "alone": float(balance(rate, tokens, branches, group).critical)}
        for share in decided:
            try:
                rates = crowd(rate, share, group)
                row[f"pooled, {share:g} decided"] = pooled(rates, balance(rates, tokens, branches, group))
            except ValueError:  # prompts that are all alike already decide more groups
                row[f"pooled, {share:g} decided"] = np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def spent(rate: float, step: int, last: int) -> float:
    """Learning rate summed over ``step`` steps of a linear decay over ``last``."""
    return rate * (step - step * (step - 1) / (2 * last))


def crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """The first x, going up, at which y crosses ``level`` from the side it starts on, on straight lines; NaN if it does not."""
    side = y[0] < level
    for i in range(1, len(x)):
        if (y[i] < level) != side:
            return float(x[i - 1] + (x[i] - x[i - 1]) * (level - y[i - 1]) / (y[i] - y[i - 1]))
    return float("nan")


def along(time: np.ndarray, success: np.ndarray, half: float, until: float, **task) -> float:
    """gamma_c(``until``) on a path of success rates (P,) at times (P,), straight in between; 0 where ``half`` is not before it."""
    if not half < until:
        return 0.0
    t = np.linspace(0.0, until, 2001)
    rates = np.interp(t, time, success)
    drift, hold = balance(rates, **task)
    return float(np.trapezoid(np.where(t >= half, rates * drift, 0.0), t) / np.trapezoid(rates * hold, t))


def grid(counts: pd.DataFrame, rules: list[str], base_differ: float, base_success: float, **task) -> pd.DataFrame:
    """One row for each learning rate and checkpoint: measured and predicted critical strength, and their quotient.

    Raises ValueError for a table without the columns, the rule or GRPO.
    """
    missing = [name for name in COLUMNS if name not in counts]
    if missing:
        raise ValueError(f"The counts need the columns {', '.join(COLUMNS)}; missing are {', '.join(missing)}.")
    counts = counts[counts["evaluation"] == "evaluation"] if (counts["evaluation"] == "evaluation").any() else counts
    counts = counts.assign(strength=np.where(counts["rule"] == "grpo", 0.0, counts["strength"]))
    here = counts[counts["rule"].isin(["grpo", *rules])]
    if set(here["rule"]) != {"grpo", *rules}:
        raise ValueError(
            f"The counts need rows of 'grpo' and of {', '.join(rules)}; their rules are {', '.join(sorted(set(counts['rule'])))}."
        )
    level, rows = base_differ / 2, []
    for rate, cell in here.groupby("learning_rate"):
        last = int(cell["step"].max())
        kept = cell.groupby(["step", "strength"])["differ"].mean().unstack()
        stock = cell[cell["strength"] == 0]
        path = np.array([(spent(rate, int(step), last), value) for step, value in kept[0.0].dropna().items()])
        rise = stock.groupby("step")[["c", "n"]].sum()
        rise = np.insert((rise["c"] / rise["n"]).to_numpy(), 0, base_success)
        half = crossing(np.insert(path[:, 0], 0, 0.0), np.insert(path[:, 1], 0, base_differ), level)
        for step, line in kept.iterrows():
            line = line.dropna()
            rates = stock[stock["step"] == step].groupby("prompt_id")[["c", "n"]].sum()
            budget = spent(rate, int(step), last)
            success = (rates["c"] + 0.5) / (rates["n"] + 1)
            given = balance(success, **task)
            alone = float(balance(success.mean(), **task).critical)
            soon = along(np.insert(path[:, 0], 0, 0.0), rise, half, budget, **task)
            group = task["group"]
            decided = float((success**group + (1 - success) ** group).mean())
            rows.append(
                {
                    "learning_rate": rate,
                    "step": int(step),
                    "budget": budget,
                    "half": half,
                    "success": float(success.mean()),
                    "decided": decided,
                    "alone": alone,
                    "pooled": pooled(success.to_numpy(), given),
                    "predicted": soon,
                    "measured": crossing(line.index.to_numpy(), line.to_numpy(), level)
                    if line.iloc[0] < level
                    else 0.0,
                    "strongest": float(line.index.max()),
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(quotient=table["measured"] / table["predicted"].where(table["predicted"] > 0))


def published(name: str) -> pd.DataFrame:
    """The committed counts of a sweep, with its points; strengths as numbers, 0 where a rule has none."""
    import tempfile

    import publish

    sweep = publish.read_study(ROOT / "benchmarks" / f"{name}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        publish.restore(name, Path(folder))
        counts = publish.read_counts(sweep, Path(folder))
    return counts.assign(strength=pd.to_numeric(counts["strength"], errors="coerce").fillna(0.0))


def judged(table: pd.DataFrame) -> pd.Series:
    """Whether prediction and measurement are within a factor of 2; NA where neither needs any strength, or where what was tried ends too early.

    A cell that collapsed at every strength tried is a miss as soon as the strongest of them is more than twice the prediction.
    """
    within = table["quotient"].between(0.5, 2).astype("boolean")
    beyond = table["measured"].isna()
    missed = beyond & (table["strongest"] > 2 * table["predicted"])
    return within.mask((beyond & ~missed) | ((table["predicted"] == 0) & (table["measured"] == 0)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    # graph colouring: the tree of the shipped base, all colourings of 60 test problems enumerated
    parser.add_argument("--success", type=float, default=0.136, help="C of the base")
    parser.add_argument("--tokens", type=float, default=7, help="tokens of an answer that decide")
    parser.add_argument("--branches", type=float, default=2.0, help="right branches at a token")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--study", help="a published sweep of benchmarks/ whose measured strengths are put beside")
    parser.add_argument("--rules", nargs="+", default=["ds_token"], help="names of the token rule in the counts")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args(arguments)
    task = {"tokens": given.tokens, "branches": given.branches, "group": given.group}
    if not (0 < given.success < 1 and given.tokens >= 1 and given.branches >= 1 and given.group >= 2):
        parser.error("success must be in (0, 1), tokens and branches at least 1, group at least 2")
    rates = sorted({given.success, *(c for c in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) if c > given.success)})
    table = predicted(rates, (0.5, 0.7, 0.9), **task)
    table.to_csv(given.output / "critical.csv", index=False, float_format="%.4f")
    print(table.round(3).to_string(index=False))
    if given.study is not None:
        counts = published(given.study)
        base = counts[(counts["rule"] == "base") & (counts["evaluation"] == "evaluation")]
        table = grid(counts, given.rules, base["differ"].mean(), base["c"].sum() / base["n"].sum(), **task)
        table.to_csv(given.output / "critical-grid.csv", index=False, float_format="%.4g")
        print(table.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
        verdicts = judged(table).dropna()
        print(
            f"Predicted and measured within a factor of 2 in {verdicts.sum()} of {len(verdicts)} cells that can be judged."
        )


if __name__ == "__main__":
    main()
