"""From the folder of a study to what the repository shows of it.

    python benchmarks/publish.py runs/sharpening sharpening

copies summary.csv, differences.csv and the figure to benchmarks/results/ under the study's name. For the study "sharpening" it
adds the differences at the lower learning rate, each to GRPO at that rate, and writes the README's results. Nothing in those
tables is typed by hand.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from differential_smoothing.evaluation import compare
from differential_smoothing.report import to_markdown
from differential_smoothing.rollouts import read_rollouts
from differential_smoothing.tasks import countdown

ROOT = Path(__file__).parents[1]
AT_EQUAL_RATE = ("ds_centred_5e-5", "grpo_5e-5")
START, END = "<!-- results:", "<!-- end of results -->"


def results_markdown(name: str) -> str:
    """The README's results section, from the committed tables."""
    folder = ROOT / "benchmarks" / "results"
    summary, differences = (pd.read_csv(folder / f"{name}-{part}.csv") for part in ("summary", "differences"))
    return f"{to_markdown(summary, differences)}\n![Pass@k curves with 95% bands](benchmarks/results/{name}.svg)\n"


def write_readme() -> None:
    """Put the results between the README's two marks."""
    path = ROOT / "README.md"
    text = path.read_text()
    head, _, rest = text.partition(START)
    mark, _, tail = rest.partition("\n")
    introduction, _, after = tail.partition(END)
    introduction = introduction.partition("**Means over problems")[0].rstrip("\n")
    block = (
        f"{introduction}\n\n{results_markdown('sharpening')}"
        if introduction
        else results_markdown("sharpening")
    )
    path.write_text(f"{head}{START}{mark}\n{block}{END}{after}")


def main(study: Path, name: str) -> None:
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    for part in ("summary", "differences"):
        shutil.copy(study / f"{part}.csv", results / f"{name}-{part}.csv")
    shutil.copy(study / "pass_at_k.svg", results / f"{name}.svg")
    if name == "sharpening":
        path = results / f"{name}-differences.csv"
        pd.concat([pd.read_csv(path), at_equal_rate(study)]).to_csv(path, index=False)
        write_readme()


def at_equal_rate(study: Path) -> pd.DataFrame:
    """The paired difference of the two models of AT_EQUAL_RATE, which the study's own baseline does not give."""
    files = [
        path
        for model in AT_EQUAL_RATE
        for path in sorted((study / "rollouts").glob(f"{model}-seed*.parquet"))
    ]
    frame = pd.concat([read_rollouts(path) for path in files], ignore_index=True)
    solutions = countdown.count_solutions(frame["prompt_id"].unique())
    return compare(frame, *AT_EQUAL_RATE, seed=0, num_solutions=solutions)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
