"""The advice before training against every committed study: did it predict where DS could lead GRPO's envelope?

    python benchmarks/advice.py        # seconds; writes benchmarks/results/advice.csv

For each study with paths: the advice from the base's counts and from the log of GRPO at the study's highest learning rate with several seeds, and
the outcome: whether a DS rule's lead over GRPO's envelope at equal Pass@1, in Pass@64 or in distinct answers, is clear of 0 (``*-leads.csv``).
"""

from pathlib import Path

import pandas as pd

from differential_smoothing.advice import advise

RESULTS = Path(__file__).parent / "results"
#: Task of a study -> completions per prompt and tokens of an answer that decide.
TASKS = {
    ("convergence", "graph_color"): (8, 8),
    ("convergence-long", "graph_color"): (8, 8),
    ("convergence-rivals", "graph_color"): (8, 8),
    ("convergence-countdown", ""): (8, 8),
    ("convergence-many", ""): (8, 10),
    ("convergence-route", "route"): (8, 5),
    ("convergence-single", ""): (8, 9),
    ("llm", ""): (8, 10),
}


def outcome(leads: pd.DataFrame) -> str:
    """ "led", "tied" or "behind", of the DS rules with the most training seeds, against GRPO."""
    here = leads[
        (leads["baseline"] == "grpo")
        & leads["rule"].str.startswith("ds")
        & leads["measure"].isin(["pass@k", "distinct"])
    ]
    here = here[here["training_seeds"] == here["training_seeds"].max()]
    if (here["low_all"] > 0).any():
        return "led"
    return "behind" if (here["high_all"] < 0).any() else "tied"


def main() -> pd.DataFrame:
    rows = []
    for (study, task), (group, tokens) in TASKS.items():
        if not (RESULTS / f"{study}-counts.parquet").is_file():
            continue
        prefix = f"{task}-" * bool(task)
        counts = pd.read_parquet(RESULTS / f"{study}-counts.parquet")
        logs = pd.read_parquet(RESULTS / f"{study}-logs.parquet")
        base = counts[(counts["model"] == f"{prefix}base") & (counts["evaluation"] == "evaluation")]
        runs = logs[logs["model"].str.startswith(f"{prefix}grpo-lr") & (logs["seed"] == 0)]
        fastest = runs.loc[runs["learning_rate"].idxmax(), "model"]
        entries = runs[runs["model"] == fastest].to_dict("records")
        advice = advise(base, group=group, tokens=tokens, log=entries)
        leads = pd.read_csv(RESULTS / f"{study}-leads.csv")
        leads = leads[leads["task"] == task] if task else leads
        predicted, measured = advice.verdict, outcome(leads)
        rows.append(
            {
                "study": study,
                "task": task,
                "success": advice.success,
                "differ": advice.differ,
                "decided_at_end": advice.regime.end["decided"],
                "critical_relative": advice.critical["relative"],
                "critical_token": advice.critical["token"],
                "advice": predicted,
                "outcome": measured,
                "right": (predicted == "can lead") == (measured == "led"),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = main()
    table.to_csv(RESULTS / "advice.csv", index=False, float_format="%.3f")
    print(table.round(3).to_string(index=False))
