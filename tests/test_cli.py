"""``dsmooth`` in this process: what it prints, what it refuses, and that nothing a user can do shows a traceback."""

import json
import shutil
import sys

import pandas as pd
import pytest

from differential_smoothing import cli
from differential_smoothing.rollouts import read_rollouts, write_rollouts


@pytest.fixture
def dsmooth(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dsmooth", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status or 0, captured.out, captured.err

    return run


def rollouts(path, model, right):
    rows = [
        {
            "prompt_id": f"1,2={p}",
            "sample": s,
            "completion": "1+2",
            "correct": s < right,
            "model": model,
            "task": "toy",
            "canonical": "1+2" if s < right else None,
        }
        for p in range(6)
        for s in range(4)
    ]
    write_rollouts(pd.DataFrame(rows), path)
    return path


def test_help_names_every_command(dsmooth):
    status, out, _ = dsmooth("--help")
    assert status == 0
    for command in (
        "quickstart",
        "compare",
        "reproduce",
        "train",
        "sample",
        "evaluate",
        "convert",
        "diagnose",
        "regime",
        "report",
        "base",
        "tabular",
        "card",
        "configs",
    ):
        assert command in out


def test_sample_then_evaluate(dsmooth, tmp_path):
    data = tmp_path / "problems.jsonl"
    data.write_text("\n".join(json.dumps({"nums": [2, 3, 7, n], "target": 24}) for n in (8, 9, 10)))
    path = tmp_path / "base.parquet"
    status, out, err = dsmooth("sample", "--model", "base", "--data-file", data, "--samples", 4, "--output", path)
    assert status == 0, err
    assert "12 completions" in out
    frame = read_rollouts(path)
    assert set(frame["model"]) == {"base"} and set(frame["prompt_id"]) == {"2,3,7,8=24", "2,3,7,9=24", "2,3,7,10=24"}
    status, out, err = dsmooth("evaluate", path, "--output", tmp_path / "report")
    assert status == 0, err
    assert "Pass@1" in out and "Coverage" in out
    assert "base" in (tmp_path / "report" / "report.md").read_text()


def test_evaluate_compares_to_the_baseline(dsmooth, tmp_path):
    files = [rollouts(tmp_path / f"{m}.parquet", m, right) for m, right in (("grpo", 1), ("ds_grpo", 3))]
    status, out, err = dsmooth("evaluate", *files, "--baseline", "grpo", "--output", tmp_path / "r")
    assert status == 0, err
    differences = pd.read_csv(tmp_path / "r" / "differences.csv")
    first = differences[(differences["metric"] == "pass@k") & (differences["k"] == 1)].iloc[0]
    assert first["estimate"] == pytest.approx(0.5)
    status, _, err = dsmooth("evaluate", *files, "--baseline", "ppo")
    assert status == 2 and "--baseline 'ppo' is not a model of these tables: ds_grpo, grpo" in err


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        ("1,1,1,1=97", "'1,1,1,1=97' has no solution"),
        ("p0", "'p0' is not the id of a Countdown problem"),
        ("1,2,3,4,5,6=21", "six numbers"),
    ],
)
def test_coverage_that_is_not_known_is_left_out_and_said(problem, why, dsmooth, tmp_path):
    path = rollouts(tmp_path / "a.parquet", "a", 2)
    frame = read_rollouts(path).assign(task="countdown")
    write_rollouts(frame.assign(prompt_id=frame["prompt_id"].replace(frame["prompt_id"].iloc[0], problem)), path)
    status, out, err = dsmooth("evaluate", path)
    assert status == 0 and "Pass@1" in out and "Coverage" not in out
    assert "coverage, the share of all solutions, is left out" in err and why in err


def test_rollouts_without_a_verdict_have_no_figure(dsmooth, tmp_path):
    rows = [{"prompt_id": f"p{p}", "completion": str(s), "correct": None} for p in range(3) for s in range(4)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    status, out, err = dsmooth("evaluate", tmp_path / "x.jsonl", "--output", tmp_path / "r")
    assert status == 0, err
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["report.md", "summary.csv"]
    assert "report.md, summary.csv." in out


def test_report_writes_one_page_and_its_figures(dsmooth, tmp_path):
    files = [rollouts(tmp_path / f"{m}.parquet", m, right) for m, right in (("grpo", 1), ("ds_grpo", 3))]
    path = tmp_path / "r" / "page.html"
    status, out, err = dsmooth("report", *files, "--baseline", "grpo", "--output", path, "--title", "A < B")
    assert status == 0, err
    text = path.read_text(encoding="utf-8")
    assert "A &lt; B" in text and "ds_grpo - grpo" in text
    figures = [f"page-{name}.{kind}" for name in ("pass-at-k", "differences", "modes") for kind in ("svg", "png")]
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(["page.html", *figures])
    assert all(name in out for name in figures)


def test_evaluate_and_convert_take_files_of_other_tools(dsmooth, tmp_path):
    def plain(name, right, seed):
        rows = [
            {"prompt": f"p{p}", "completion": f"{seed}{s}", "reward": float(s < right)}
            for p in range(6)
            for s in range(4)
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    grpo = [f"grpo@{seed}={plain(f'{seed}=.jsonl', 1, seed)}" for seed in (0, 1)]
    base = plain("base.jsonl", 3, 0)
    status, out, err = dsmooth(
        "evaluate", *grpo, base, "--baseline", "grpo", "--canonical", "completion", "--output", tmp_path / "r"
    )
    assert status == 0, err
    summary = pd.read_csv(tmp_path / "r" / "summary.csv").set_index(["model", "metric", "k"])
    assert (
        summary.loc[("grpo", "pass@k", 1), "estimate"] == 0.25
        and summary.loc[("base", "pass@k", 1), "estimate"] == 0.75
    )
    assert summary["training_seeds"].groupby("model").max().to_dict() == {"base": 1, "grpo": 2}
    status, out, err = dsmooth(
        "convert", *grpo, base, "--output", tmp_path / "all.parquet", "--threshold", 2, "--no-text"
    )
    assert status == 0 and "72 completions" in out, err
    frame = read_rollouts(tmp_path / "all.parquet")
    assert frame.groupby("model")["seed"].nunique().to_dict() == {"base": 1, "grpo": 2}
    assert not frame["correct"].any() and (frame["completion"] == "").all()
    status, _, err = dsmooth("convert", base, "--output", tmp_path / "all.parquet")
    assert status == 2 and "exists and was not touched" in err

    with base.open("a") as file:
        file.write("broken")
    status, _, err = dsmooth("evaluate", base)
    assert status == 2 and "base.jsonl, line 25: not JSON" in err and "--skip-bad-rows" in err
    status, _, err = dsmooth("evaluate", base, "--skip-bad-rows")
    assert status == 0 and "1 rows are left out" in err and "line 25" in err
    status, _, err = dsmooth("evaluate", base, "--skip-bad-rows", "--correct", "score")
    assert status == 2 and "expected one of them, got 'score'" in err
    status, _, err = dsmooth("evaluate", f"={base}")
    assert status == 2 and "names no model. Expected name=PATH or name@seed=PATH" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "none.parquet", "--output", "x.html"], "none.parquet"),
        (["report", "none.parquet", "--output", "x.pdf"], "ends in .html, got 'x.pdf'"),
        (["report", "none.parquet", "--output", "x.html", "--each", "0"], "--each must be at least 1"),
        (["evaluate", "none.parquet"], "none.parquet"),
        (["evaluate", "m=none.parquet"], "none.parquet: found no such file"),
        (["convert", "none.parquet", "--output", "x.csv"], "must end in .parquet"),
        (["sample", "--model", "base", "--output", "x.csv"], "must end in .parquet"),
        (["sample", "--model", "base", "--output", "x.parquet", "--samples", "0"], "--samples must be at least 1"),
        (["sample", "--model", "base", "--output", "x.parquet", "--split", "val"], "split is train, dev or test"),
        (["sample", "--model", "base", "--output", "x.parquet", "--temperature", "0"], "temperature must be > 0"),
        (["sample", "--model", "./no", "--output", "x.parquet"], "There is no model folder './no'"),
        (["sample", "--model", "base"], "--output"),
        (["train", "--gama_p", "1"], "Did you mean 'gamma_p'?"),
        (["compare", "none.yaml", "--output", "x"], "There is no study file 'none.yaml'"),
        (["nonsense"], "No such command"),
        (["train"], "Say where the run should live"),
        (["train", "configs/x.yaml"], "Did you mean --config configs/x.yaml?"),
        (["base", "--output", "b", "--steps", "0"], "--steps must be at least 1"),
        (["sample", "--model", "base", "--output", "x.parquet", "--max-new-tokens", "0"], "must be at least 1"),
        (["sample", "--model", "base", "--output", "x.parquet", "--seed", "-1"], "--seed must be from 0"),
    ],
)
def test_mistakes_get_one_paragraph_and_status_2(arguments, message, dsmooth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = dsmooth(*arguments)
    assert status == 2 and message in err and "Traceback" not in err
    assert len(err.strip().split("\n\n")) == 1
    assert list(tmp_path.iterdir()) == []  # nothing was written


def test_a_model_that_cannot_be_reached_is_said_at_once(dsmooth, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, _, err = dsmooth("sample", "--model", "nobody/nothing", "--output", tmp_path / "x.parquet")
    assert status == 2 and "'nobody/nothing' is not in this machine's cache" in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_s_model_is_called_after_the_run(dsmooth, tmp_path, tiny_model):
    shutil.copytree(tiny_model, tmp_path / "mine" / "model")
    arguments = ["sample", "--model", tmp_path / "mine" / "model", "--problems", 2, "--samples", 2]
    assert dsmooth(*arguments, "--output", tmp_path / "x.parquet")[0] == 0
    assert set(read_rollouts(tmp_path / "x.parquet")["model"]) == {"mine"}
    status, _, err = dsmooth(*arguments, "--output", tmp_path / "x.parquet")
    assert status == 2 and "exists and was not touched" in err


def test_base_does_not_overwrite(dsmooth, tmp_path):
    (tmp_path / "x").write_text("mine")
    status, _, err = dsmooth("base", "--output", tmp_path)
    assert status == 2 and "is not empty. Nothing was changed" in err


def test_base_makes_a_model_that_can_be_sampled(dsmooth, tmp_path):
    status, out, err = dsmooth(
        "base",
        "--output",
        tmp_path / "b",
        "--steps",
        2,
        "--task-options",
        '{"numbers": 2, "max_number": 40}',
        "--problems",
        100,
    )
    assert status == 0, err
    status, out, err = dsmooth(
        "sample",
        "--model",
        tmp_path / "b",
        "--task-options",
        '{"numbers": 2, "max_number": 40}',
        "--problems",
        5,
        "--samples",
        2,
        "--output",
        tmp_path / "r.parquet",
    )
    assert status == 0 and "10 completions" in out, err
