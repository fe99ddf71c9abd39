"""Every command that averages says how many completions have no verdict, on its screen and in the files that it writes."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from differential_smoothing import cli, report
from differential_smoothing.evaluation import diagnose, summarise, unscored
from differential_smoothing.report import results
from differential_smoothing.rollouts import write_rollouts

ALL_SCORED = "enter no average"


def table(model: str, *, missing: int, problems: int = 8, samples: int = 8, empty: int = 0) -> pd.DataFrame:
    """`missing` unscored rows of the problems in turn, and `empty` problems without any scored row."""
    random = np.random.default_rng(len(model))
    frame = pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i}" for i in range(problems)], samples),
            "sample": list(range(samples)) * problems,
            "model": model,
            "seed": 0,
            "step": -1,
            "prompt": "",
            "task": "toy",
            "canonical": None,
            "completion": [f"{model} {i}" for i in range(problems * samples)],
            "correct": random.random(problems * samples) < 0.5,
        }
    )
    frame["correct"] = frame["correct"].astype("boolean")
    frame.loc[frame.index[-samples * empty :] if empty else [], "correct"] = pd.NA
    frame.loc[[i * samples for i in range(missing)], "correct"] = pd.NA
    return frame


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / "base.parquet", tmp_path / "rl.parquet"]
    write_rollouts(table("base", missing=0), paths[0])
    write_rollouts(table("rl", missing=3), paths[1])
    return paths


@pytest.fixture
def dsmooth(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dsmooth", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


SENTENCE = "rl: 3 of 64 completions are unscored and enter no average."


def test_the_sentences():
    assert unscored(table("a", missing=0)) == []
    assert unscored(pd.concat([table("a", missing=0), table("rl", missing=3)])) == [SENTENCE]
    (said,) = unscored(table("a", missing=1, empty=2))
    assert said == (
        "a: 17 of 64 completions are unscored and enter no average; 2 of 8 problems have no scored completion and are left out."
    )


def test_the_count_is_of_what_the_average_leaves_out():
    """Rows less unscored ones are the samples on which Pass@1 rests."""
    frame = table("a", missing=2, empty=1)
    (said,) = unscored(frame)
    left_out = int(said.split()[1])
    rows = summarise(frame, seed=0, ks=[1])
    assert rows.loc[rows["metric"] == "pass@k", "samples"].tolist() == [len(frame) - left_out]


def test_evaluate(dsmooth, files, tmp_path):
    status, out, err = dsmooth("evaluate", *files, "--baseline", "base", "--output", tmp_path / "r")
    assert status == 0, err
    assert SENTENCE in out and SENTENCE in (tmp_path / "r" / "report.md").read_text()
    assert "3 of 64 rows are unscored, because correct is null. They enter no average." in err
    status, out, err = dsmooth("evaluate", files[0])
    assert ALL_SCORED not in out + err


def test_diagnose(dsmooth, files, tmp_path):
    status, out, err = dsmooth("diagnose", "--before", files[0], "--after", files[1], "--output", tmp_path / "d")
    assert status == 0, err
    said = (tmp_path / "d" / "verdict.txt").read_text().splitlines()
    assert f"After, {SENTENCE}" in said and said[-1].startswith("What to do")
    assert "After, rl: 3 of 64" in out


def test_report_page(dsmooth, files, tmp_path):
    status, _, err = dsmooth("report", *files, "--baseline", "base", "--output", tmp_path / "r.html")
    assert status == 0, err
    page = (tmp_path / "r.html").read_text()
    assert page.count(SENTENCE) == 2  # beside the curves, and in the diagnosis
    frame = table("a", missing=0)
    assert ALL_SCORED not in report.page(frame, summarise(frame, seed=0))


def test_convert(dsmooth, files, tmp_path):
    status, out, _ = dsmooth("convert", files[1], "--output", tmp_path / "x.parquet")
    assert status == 0 and "64 completions, 3 of them unscored, in" in out


def test_card(dsmooth, files, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    status, _, err = dsmooth("card", tmp_path / "m", files[1], "--name", "rl")
    assert status == 0, err
    assert SENTENCE in (tmp_path / "m" / "README.md").read_text()


def test_a_study(files, tmp_path, capsys):
    """What `dsmooth compare` does with the table of its cells."""
    frame = pd.concat([table("base", missing=0), table("rl", missing=3)], ignore_index=True)
    (tmp_path / "s").mkdir()
    results.report(frame, "base", tmp_path / "s", seed=0)
    assert SENTENCE in capsys.readouterr().out and SENTENCE in (tmp_path / "s" / "report.md").read_text()


def test_a_model_without_any_verdict_has_no_numbers(dsmooth, tmp_path):
    write_rollouts(table("rl", missing=0, empty=8), tmp_path / "rl.parquet")
    status, out, err = dsmooth("evaluate", tmp_path / "rl.parquet")
    assert status == 0 and "rl: 64 of 64 completions are unscored" in out and "64 of 64 rows are unscored" in err
    assert "[" not in out and "–" in out
    status, _, err = dsmooth("diagnose", "--before", tmp_path / "rl.parquet", "--after", tmp_path / "rl.parquet")
    assert status == 2 and "no scored completion" in err


def test_the_mean_of_a_diagnosis_counts_scored_rows_only():
    found = diagnose(table("base", missing=0), table("rl", missing=3), seed=0)
    assert found.problems["n_after"].sum() == 64 - 3
