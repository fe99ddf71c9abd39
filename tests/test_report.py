"""The tables say what the frames say, fit a terminal, and the figure draws every model."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from differential_smoothing.report import comparison_table, pass_at_k_drawing, savings, tax, to_markdown, verdict

NAN = float("nan")
COLUMNS = ["model", "metric", "k", "estimate", "low", "high", "problems", "training_seeds", "samples"]


def frame(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(extra: tuple = ()) -> pd.DataFrame:
    rows = []
    for model, seeds, curve in [
        ("base", 1, (0.2, 0.5, 0.9)),
        ("ds_grpo", 5, (0.418, 0.7, 1.0)),
        ("grpo", 5, (0.4, 0.6, 0.8)),
    ]:
        for k, value in zip((1, 8, 64), curve, strict=True):
            rows.append((model, "pass@k", k, value, value - 0.019, min(1, value + 0.0194), 500, seeds, 32_000 * seeds))
        rows.append((model, "distinct", NAN, 3.217, 3.1, 3.334, 500, seeds, 32_000 * seeds))
    return frame(rows + list(extra))


def comparisons() -> pd.DataFrame:
    return frame(
        [
            ("ds_grpo - grpo", "pass@k", 1, 0.018, 0.001, 0.035, 500, 5, 1),
            ("ds_grpo - grpo", "pass@k", 8, 0.1, -0.0001, 0.2, 500, 5, 1),
            ("ds_grpo - grpo", "pass@k", 64, -0.2, -0.301, -0.1, 500, 5, 1),
            ("ds_grpo - grpo", "distinct", NAN, -0.001, -1.25, 1.25, 500, 5, 1),
            ("ds_grpo - base", "pass@k", 1, 0.218, 0.2, 0.236, 500, 5, 1),
            ("ds_grpo - base", "pass@k", 8, 0.2, 0.15, 0.25, 500, 5, 1),
            ("ds_grpo - base", "pass@k", 64, NAN, NAN, NAN, 0, 5, 0),
            ("ds_grpo - base", "distinct", NAN, 0.5, NAN, NAN, 1, 5, 1),
        ]
    )


def printed(*frames: pd.DataFrame, styles: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=styles, color_system="standard" if styles else None)
    console.print(comparison_table(*frames))
    return console.file.getvalue()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"  +|\|", line.strip(" |"))]


def test_both_forms_hold_the_same_numbers():
    terminal, markdown = printed(summary(), comparisons()), to_markdown(summary(), comparisons())
    for row in [
        ["Model", "Pass@1", "Pass@8", "Pass@64", "Distinct"],
        ["base", "20.0 [18.1, 21.9]", "50.0 [48.1, 51.9]", "90.0 [88.1, 91.9]", "3.22 [3.10, 3.33]"],
        ["ds_grpo", "41.8 [39.9, 43.7]", "70.0 [68.1, 71.9]", "100.0 [98.1, 100.0]", "3.22 [3.10, 3.33]"],
        ["Difference", "Pass@1", "Pass@8", "Pass@64", "Distinct"],
        ["ds_grpo - grpo", "+1.8 [0.1, 3.5]", "+10.0 [0.0, 20.0]", "-20.0 [-30.1, -10.0]", "+0.00 [-1.25, 1.25]"],
        ["ds_grpo - base", "+21.8 [20.0, 23.6]", "+20.0 [15.0, 25.0]", "–", "+0.50"],
    ]:
        assert row in [cells(line) for line in terminal.splitlines()]
        assert row in [cells(line.replace("**", "")) for line in markdown.splitlines()]


def test_bold_marks_the_intervals_that_exclude_zero_and_no_others():
    markdown = to_markdown(summary(), comparisons())
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert re.findall(r"\*\*(.*?)\*\*", "\n".join(rows)) == [
        "+1.8 [0.1, 3.5]",
        "-20.0 [-30.1, -10.0]",
        "+21.8 [20.0, 23.6]",
        "+20.0 [15.0, 25.0]",
    ]
    styled = printed(summary(), comparisons(), styles=True)
    body = [line for line in styled.splitlines() if "ds_grpo - " in line]
    assert re.findall(r"\x1b\[1m *(.*?)\x1b\[0m", "\n".join(body)) == re.findall(r"\*\*(.*?)\*\*", "\n".join(rows))


def test_the_verdict_says_a_direction_only_where_the_interval_excludes_zero():
    assert verdict(comparisons()) == [
        "ds_grpo - grpo: Pass@1 up by 1.8 points, Pass@8 no clear difference, Pass@64 down by 20.0 points, "
        "distinct no clear difference.",
        "ds_grpo - base: Pass@1 up by 21.8 points, Pass@8 up by 20.0 points, Pass@64 –, distinct no clear difference.",
    ]


def test_a_terminal_of_100_columns_holds_every_row_on_one_line():
    text = printed(summary(), comparisons())
    assert max(map(len, text.splitlines())) <= 100
    assert (
        text.count("[")
        == text.count("]")
        == sum(line.count("]") for line in text.splitlines() if "grpo" in line or line.strip().startswith("base"))
    )


def test_captions_give_problems_and_training_seeds():
    assert "Problems: 500; training seeds: 1 (base), 5 (ds_grpo), 5 (grpo)." in to_markdown(summary())
    assert "Problems: 0 to 500; training seeds: 5." in to_markdown(summary(), comparisons())


def test_coverage_takes_the_place_of_the_middle_k():
    whole = summary([("base", "coverage", NAN, 0.25, 0.2, 0.3, 500, 1, 32_000)])
    header = "| Model | Pass@1 | Pass@64 | Distinct | Coverage |"
    assert header in to_markdown(whole)
    rows = [cells(line) for line in to_markdown(whole).splitlines()]
    assert ["base", "20.0 [18.1, 21.9]", "90.0 [88.1, 91.9]", "3.22 [3.10, 3.33]", "25.0 [20.0, 30.0]"] in rows
    assert [row[-1] for row in rows if row[0] == "grpo"] == ["–"]


def test_names_with_brackets_and_bars_are_kept():
    named = summary().replace({"model": {"grpo": "grpo[bold]|x"}})
    assert "grpo[bold]|x" in printed(named)
    assert r"| grpo[bold]\|x |" in to_markdown(named)


def test_other_frames_are_refused():
    for call in (comparison_table, to_markdown):
        with pytest.raises(
            ValueError, match=r"summary with 12 rows and without the columns \['low'\].*expected.*summarise"
        ):
            call(summary().drop(columns="low"))
        with pytest.raises(ValueError, match="comparisons with 0 rows.*compare"):
            call(summary(), comparisons().iloc[:0])


def test_the_figure_names_and_colours_every_model(tmp_path):
    pass_at_k_drawing(summary()).save(tmp_path / "new" / "curve.svg")
    text = (tmp_path / "new" / "curve.svg").read_text().lower()
    for name in ("base", "grpo", "ds_grpo", "64"):
        assert f">{name}</text>" in text
    # Base is grey wherever it stands in the frame, and a model keeps its colour.
    for colour in ("#7f7f7f", "#0072b2", "#d55e00"):
        assert colour in text
    assert "#009e73" not in text
    pass_at_k_drawing(summary().iloc[::-1]).save(tmp_path / "reversed.svg")
    assert (tmp_path / "reversed.svg").read_text().lower() == text


def test_the_figure_changes_with_the_numbers_only(tmp_path):
    pass_at_k_drawing(summary()).save(tmp_path / "a.svg")
    pass_at_k_drawing(summary()).save(tmp_path / "b.svg")
    for column in ("estimate", "low", "high"):
        moved = summary()
        moved.loc[1, column] += 0.005
        pass_at_k_drawing(moved).save(tmp_path / f"{column}.svg")
    texts = [(tmp_path / f"{name}.svg").read_text() for name in ("a", "b", "estimate", "low", "high")]
    assert texts[0] == texts[1] and len(set(texts)) == 4


def test_a_png_holds_ink_in_three_colours(tmp_path):
    from matplotlib.image import imread

    pass_at_k_drawing(summary()).save(str(tmp_path / "curve.png"))
    pixels = imread(tmp_path / "curve.png")[:, :, :3]
    for colour in ([0x7F] * 3, [0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]):
        assert (np.abs(pixels * 255 - colour).max(axis=2) < 2).sum() > 200


def test_a_curve_without_intervals_or_with_one_k_is_drawn(tmp_path):
    single = summary()[lambda rows: rows["k"] == 1].assign(low=NAN, high=NAN)
    pass_at_k_drawing(single).save(tmp_path / "single.png")
    assert (tmp_path / "single.png").read_bytes().startswith(b"\x89PNG")


def test_figures_that_cannot_be_drawn_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"curve\.jpg, expected a name that ends in \.svg or \.png"):
        pass_at_k_drawing(summary()).save(tmp_path / "curve.jpg")
    with pytest.raises(ValueError, match="summary of 12 rows without a Pass@k estimate, expected"):
        pass_at_k_drawing(summary().assign(estimate=NAN)).save(tmp_path / "curve.svg")
    assert not list(tmp_path.iterdir())


def test_rich_and_matplotlib_load_only_when_used():
    code = (
        "import sys, differential_smoothing.report as report\nprint([name for name in ('rich', "
        "'matplotlib') if name in sys.modules])\nimport rich\nprint([name for name in ('rich', "
        "'matplotlib') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout.splitlines() == ["[]", "['rich']"]


def test_the_sharpening_tax_in_words():
    found = summary(
        [
            ("rl - base", "spread", 64, -0.3, -0.4, -0.2, 500, 1, 64_000),
            ("rl - base", "area", 64, -0.05, -0.07, -0.03, 500, 1, 64_000),
        ]
    )
    kinds = {"base": (0.0, 0.9, 0.1), "rl": (0.4, 0.2, 0.4)}
    shares = summary(
        [
            (model, kind, NAN, share, 0.0, 1.0, 500, 1, 32_000)
            for model, three in kinds.items()
            for kind, share in zip(("always", "sometimes", "never"), three, strict=True)
        ]
    )
    assert tax(found, shares, "base") == [
        "Sharpening tax of rl against base: +30.0 [20.0, 40.0] points (rise of Pass@1 minus rise of Pass@64); area under the Pass@k "
        "curve -5.0 [-7.0, -3.0] points.",
        "Problems solved by all, some, none of the samples, base -> rl: always 0% -> 40%, sometimes 90% -> 20%, never 10% -> 40%.",
    ]
    assert tax(found[found["metric"] == "area"], shares, "base") == []


def test_savings_say_how_many_samples_do_and_where_curves_cross():
    def rows(name, reach, crossing):
        return [(name, "reach@k", 64.0, *reach), (name, "crossing", np.nan, *crossing)]

    frame = pd.DataFrame(
        rows("ds - grpo", (15.25, 12.0, 19.04), (2.0, 1.0, 3.0))
        + rows("x - grpo", (np.inf, 60.0, np.inf), (np.inf, np.inf, np.inf))
        + rows("y - grpo", (50.0, 40.0, np.inf), (8.0, 4.0, np.inf))
        + rows("z - grpo", (1.0, np.nan, np.nan), (np.nan, np.nan, np.nan)),
        columns=["model", "metric", "k", "estimate", "low", "high"],
    ).assign(problems=10, training_seeds=1)
    assert savings(frame, "grpo") == [
        "ds has grpo's Pass@64 with 15.2 [12.0, 19.0] samples; their curves cross at k = 2 [1, 3].",
        "x does not have grpo's Pass@64 with as many samples.",
        "y has grpo's Pass@64 with 50.0 [40.0, more than there are] samples; their curves cross at k = 8 [4, none].",
    ]
    with pytest.raises(ValueError, match="columns"):
        savings(frame.drop(columns="k"), "grpo")
