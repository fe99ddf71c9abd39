"""From the folder of a study to what the repository shows of it.

    python benchmarks/publish.py runs/sharpening sharpening

copies summary.csv, differences.csv and the figure to benchmarks/results/ under the study's name. The study "sharpening" also
becomes the README's results. Nothing in those tables is typed by hand.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from differential_smoothing.report import to_markdown

ROOT = Path(__file__).parents[1]
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
        write_readme()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
