"""From the folder of a study to what the repository shows of it.

    python benchmarks/publish.py runs/sharpening sharpening

copies summary.csv, differences.csv and the figure to benchmarks/results/ under the study's name. The study "sharpening" also
becomes a section of docs/results.md. Nothing in those tables is typed by hand.

    python benchmarks/publish.py runs/arena arena                   # of a sweep, finished or not
    python benchmarks/publish.py --restore arena runs/arena         # its cells back, to go on or to report again

A sweep is published as the counts of its finished cells (``NAME-counts.parquet``, and of their training logs ``NAME-logs.parquet``), from which its report, tables and figures are computed
again, here and by ``dsmooth compare`` in a restored folder, which trains only what is missing.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

from differential_smoothing.files import claim_folder
from differential_smoothing.report import results, to_markdown
from differential_smoothing.studies.counts import COUNTS, LOGGED, read_costs, read_counts, read_logs, write_table
from differential_smoothing.studies.read import read_study
from differential_smoothing.studies.sweep import Sweep

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- results:", "<!-- end of results -->"


def results_markdown(name: str) -> str:
    """The section of docs/results.md between the marks, from the committed tables."""
    folder = ROOT / "benchmarks" / "results"
    summary, differences = (pd.read_csv(folder / f"{name}-{part}.csv") for part in ("summary", "differences"))
    return f"{to_markdown(summary, differences)}\n![Pass@k curves with 95% bands](../benchmarks/results/{name}.svg)\n"


def write_results() -> None:
    """Put the results between the two marks of docs/results.md."""
    path = ROOT / "docs" / "results.md"
    text = path.read_text()
    head, _, rest = text.partition(START)
    mark, _, tail = rest.partition("\n")
    introduction, _, after = tail.partition(END)
    introduction = introduction.partition("**Means over problems")[0].rstrip("\n")
    block = f"{introduction}\n\n{results_markdown('sharpening')}" if introduction else results_markdown("sharpening")
    path.write_text(f"{head}{START}{mark}\n{block}{END}{after}")


CONVERGENCE, END_OF_CONVERGENCE = "<!-- convergence:", "<!-- end of convergence -->"


#: The rules of the README's lines, and the options that they are.
SHOWN = {
    "ds_relative": "DS-GRPO, `relative=True, gamma_p={}`",
    "ds_token": "DS-GRPO, `gamma_p={}`",
    "entropy_bonus": "Entropy bonus, `entropy_coef={}`",
}


def convergence_markdown(name: str) -> str:
    """A study's leads over GRPO's envelope in a few lines, from its committed table: each rule at the point with its largest lead in Pass@k."""
    leads = pd.read_csv(RESULTS / f"{name}-leads.csv", keep_default_na=False, na_values=[""])
    lines = []
    for rule, label in SHOWN.items():
        found = leads[(leads["rule"] == rule) & (leads["baseline"] == "grpo")]
        chosen = found[found["criterion"].str.contains("pass@k")]
        if not len(chosen):
            continue
        of = chosen.set_index("measure")
        one, many, distinct = (of.loc[measure] for measure in ("pass@1", "pass@k", "distinct"))
        at_one = f"Pass@1 {100 * one['value']:.1f} (GRPO's best anywhere: {100 * one['reference']:.1f})"
        lines.append(
            f"* **{label.format(one['strength'])}**: {at_one}, Pass@{many['k']:.0f} {100 * many['value']:.1f} where GRPO's envelope has "
            f"{100 * many['reference']:.1f}: a lead of {_ends(many, 100)} points, and of {_ends(distinct, 1)} distinct correct answers."
        )
    rival = leads[
        (leads["rule"] == "ds_relative")
        & (leads["baseline"] == "entropy_bonus")
        & leads["criterion"].str.contains("pass@k")
    ]
    mine = leads[
        (leads["rule"] == "ds_relative") & (leads["baseline"] == "grpo") & leads["criterion"].str.contains("pass@k")
    ]
    if len(rival) and len(mine):
        of, grpo = rival.set_index("measure"), mine.set_index("measure")
        reached = f"GRPO has that Pass@64 only up to Pass@1 {100 * grpo.loc['pass@k', 'reached_at']:.1f}, the bonus up to {100 * of.loc['pass@k', 'reached_at']:.1f}"
        margins = grpo.loc["pass@1"], of.loc["pass@1"]
        clear = "are clear of 0" if all(row["low_all"] > 0 for row in margins) else "are not both clear of 0"
        lines.append(
            f"* **The first against the others**: {reached}. Its lead over the *bonus's* envelope is {_ends(of.loc['pass@k'], 100)} points of Pass@64 and "
            f"{_ends(of.loc['distinct'], 1)} distinct answers. Its margins in Pass@1 over the best of GRPO, {_ends(margins[0], 100)}, and of the bonus, "
            f"{_ends(margins[1], 100)}, {clear}."
        )
    lines += long_lines("convergence-long")
    most = leads["training_seeds"].max()
    about = (
        f"Graph colouring, `benchmarks/{name}.yaml`, {most} training seeds, {leads['problems'].max()} held-out problems x 64 samples. Brackets: 95% for all comparisons "
        f"at once. Each rule's point is chosen on other problems; the envelope is the best of all GRPO checkpoints, learning rates and mixtures at that Pass@1 or above. "
        f"[Report](benchmarks/results/{name}-report.md)."
    )
    return "\n".join([*lines, f"\n{about}"])


def long_lines(name: str) -> list[str]:
    """One line on the same training, longer: the point of the most Pass@1 against the most that GRPO and the bonus reach anywhere."""
    leads = pd.read_csv(RESULTS / f"{name}-leads.csv", keep_default_na=False, na_values=[""])
    chosen = leads[(leads["rule"] == "ds_relative") & leads["criterion"].str.contains("pass@1")].set_index(
        ["baseline", "measure"]
    )
    grpo, bonus = (chosen.loc[baseline] for baseline in ("grpo", "entropy_bonus"))
    one, many, distinct = (grpo.loc[measure] for measure in ("pass@1", "pass@k", "distinct"))
    return [
        f"* **Trained 2.5 times as long** (`benchmarks/{name}.yaml`, {one['training_seeds']:.0f} seeds, the bonus {bonus.loc['pass@1', 'training_seeds']:.0f}): `relative=True, "
        f"gamma_p={one['strength']}` has Pass@1 {100 * one['value']:.1f} and Pass@{many['k']:.0f} {100 * many['value']:.1f}. Its margins over GRPO's best Pass@1 anywhere and over GRPO's "
        f"Pass@{many['k']:.0f} and distinct answers there are {_ends(one, 100)}, {_ends(many, 100)} points and {_ends(distinct, 1)}; over the bonus {_ends(bonus.loc['pass@1'], 100)}, "
        f"{_ends(bonus.loc['pass@k'], 100)} and {_ends(bonus.loc['distinct'], 1)}. [Report](benchmarks/results/{name}-report.md)."
    ]


def _ends(row: pd.Series, unit: float) -> str:
    digits = 1 if unit > 1 else 2
    return f"{row['estimate'] * unit:+.{digits}f} [{row['low_all'] * unit:.{digits}f}, {row['high_all'] * unit:.{digits}f}]"


def write_convergence() -> None:
    """Put the leads between the README's two marks."""
    path = ROOT / "README.md"
    head, _, rest = path.read_text().partition(CONVERGENCE)
    mark, _, tail = rest.partition("\n")
    path.write_text(
        f"{head}{CONVERGENCE}{mark}\n{convergence_markdown('convergence')}\n{END_OF_CONVERGENCE}{tail.partition(END_OF_CONVERGENCE)[2]}"
    )


def publish_sweep(folder: Path, name: str) -> None:
    """The counts of all finished cells in one file of small columns, and the report computed from that file."""
    sweep = read_study(ROOT / "benchmarks" / f"{name}.yaml")
    counts = read_counts(sweep, folder)
    small = counts[["model", "seed", "step", "evaluation", "prompt_id", *COUNTS]].copy()
    for column in ("model", "evaluation", "prompt_id"):
        small[column] = small[column].astype("category")
    for column in ("seed", "step", "n", "c"):
        small[column] = small[column].astype("int16")
    small.to_parquet(RESULTS / f"{name}-counts.parquet", index=False, compression="zstd")
    rows = []
    for cell in sweep.cells():
        log = sweep.result(folder, cell).with_suffix(".log.json")
        if log.is_file():
            rows += [
                {"model": cell.model, "seed": cell.seed} | {k: e.get(k) for k in LOGGED}
                for e in json.loads(log.read_text())
            ]
    if rows:
        pd.DataFrame(rows).to_parquet(RESULTS / f"{name}-logs.parquet", index=False, compression="zstd")
    costs = read_costs(sweep, folder)
    if len(costs):  # a restored folder has none
        costs.to_csv(RESULTS / f"{name}-costs.csv", index=False, float_format="%.3g")
    report_sweep(name)


def report_sweep(name: str) -> None:
    """The tables, the report and the figures of a published sweep, in benchmarks/results/."""
    sweep = read_study(ROOT / "benchmarks" / f"{name}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        restore(name, Path(folder))
        logs = read_logs(sweep, Path(folder))
        results.arena(
            read_counts(sweep, Path(folder)),
            sweep.baseline,
            Path(folder),
            seed=0,
            leads_over=sweep.leads_over,
            logs=logs,
        )
        for file in Path(folder).glob("*.*"):
            if file.suffix in (".csv", ".svg", ".md") and file.name != "points.csv":
                text = file.read_text()
                if file.suffix == ".md":  # the figures get the study's name too
                    text = re.sub(r"\]\(([\w-]+\.svg)\)", rf"]({name}-\1)", text)
                (RESULTS / f"{name}-{file.name}").write_text(text)
        points = pd.read_csv(Path(folder) / "points.csv")
        points[points["evaluation"] == "evaluation"].to_csv(RESULTS / f"{name}-points.csv", index=False)


def restore(name: str, folder: Path) -> None:
    """The published cells as files of ``folder``, as if they had just been run there; cells that are there stay."""
    sweep = read_study(ROOT / "benchmarks" / f"{name}.yaml")
    counts = pd.read_parquet(RESULTS / f"{name}-counts.parquet")
    known = {(cell.model, cell.seed): cell for cell in sweep.cells()}
    for key, rows in counts.groupby(["model", "seed"], observed=True):
        if key not in known:  # of a task or a rule that the study no longer has
            continue
        file = sweep.result(folder, known[key])
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_table(
                rows.astype({"model": str, "evaluation": str, "prompt_id": str, "seed": int, "n": int, "c": int}), file
            )
            sweep.note_cell(folder, known[key])
    saved = RESULTS / f"{name}-logs.parquet"
    for key, rows in pd.read_parquet(saved).groupby(["model", "seed"]) if saved.is_file() else ():
        if key in known:
            file = sweep.result(folder, known[key]).with_suffix(".log.json")
            entries = [
                {k: v for k, v in row.items() if v == v} for row in rows.reindex(columns=LOGGED).to_dict("records")
            ]
            if not file.exists():
                file.write_text(json.dumps(entries))
    with claim_folder(folder, sweep.definition(), adopt=True):
        pass


def main(study: Path, name: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    if isinstance(read_study(ROOT / "benchmarks" / f"{name}.yaml"), Sweep):
        publish_sweep(study, name)
        if name in ("convergence", "convergence-long"):
            write_convergence()
        return
    for part in ("summary", "differences"):
        shutil.copy(study / f"{part}.csv", RESULTS / f"{name}-{part}.csv")
    shutil.copy(study / "pass_at_k.svg", RESULTS / f"{name}.svg")
    if name == "sharpening":
        write_results()


if __name__ == "__main__":
    if sys.argv[1] == "--restore":
        restore(sys.argv[2], Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), sys.argv[2])
