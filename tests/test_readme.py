"""What the README says is what the repository holds: its tables are the committed results, its commands exist."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from differential_smoothing import cli
from differential_smoothing.study import QUICKSTART, read_study
from differential_smoothing.sweep import read_counts
from differential_smoothing.training import claim_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

spec = importlib.util.spec_from_file_location("publish", ROOT / "benchmarks" / "publish.py")
publish = importlib.util.module_from_spec(spec)
spec.loader.exec_module(publish)


def test_the_results_are_those_of_the_committed_tables():
    section = README.partition(publish.START)[2].partition(publish.END)[0]
    assert publish.results_markdown("sharpening") in section


SWEEPS = sorted(p.name.removesuffix("-counts.parquet") for p in publish.RESULTS.glob("*-counts.parquet"))


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_s_report_is_computed_from_its_counts(name, tmp_path, monkeypatch, capsys):
    committed = publish.RESULTS
    shutil.copy(committed / f"{name}-counts.parquet", tmp_path)
    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    publish.report_sweep(name)
    for part in ("best.csv", "differences.csv", "dominance.csv", "points.csv", "report.md"):
        assert (tmp_path / f"{name}-{part}").read_text() == (committed / f"{name}-{part}").read_text(), part
    # and dsmooth compare would go on where the published cells end
    publish.restore(name, tmp_path / "run")
    sweep = read_study(ROOT / "benchmarks" / f"{name}.yaml")
    restored = read_counts(sweep, tmp_path / "run")
    assert len(restored) == len(pd.read_parquet(committed / f"{name}-counts.parquet"))
    with claim_folder(tmp_path / "run", sweep.definition()):
        pass


def test_files_that_are_linked_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_commands_that_are_shown_exist(monkeypatch, capsys):
    commands = set(re.findall(r"`dsmooth (\w+)", README))
    assert {"quickstart", "train", "sample", "evaluate", "compare"} <= commands
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["dsmooth", command, "--help"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0, command
    capsys.readouterr()


@pytest.mark.parametrize("model", ["grpo", "ds_grpo"])
def test_the_configs_are_arms_of_the_study_of_sharpening(model):
    study = read_study(ROOT / "benchmarks" / "sharpening.yaml")
    config = yaml.safe_load((ROOT / "configs" / f"countdown_{model}.yaml").read_text())
    assert config.pop("output_dir") == f"runs/countdown_{model}"
    assert config == {**study.common, **study.models[model], "disable_tqdm": False}


def test_the_quickstart_is_the_study_of_convergence_with_one_seed_and_fewer_steps():
    quick, full = read_study(QUICKSTART), read_study(ROOT / "benchmarks" / "convergence.yaml")
    of_task = full.cells()[-1].options
    different = {"max_steps", "save_steps", "seed", "learning_rate"}
    assert {k: v for k, v in quick.common.items() if k not in different} == {
        k: of_task[k] for k in quick.common if k not in different
    }
    assert {p.rule for p in quick.points.values()} == {"base", "grpo", "ds_grpo"} and quick.evaluation.split == "test"
    assert quick.evaluation == full.evaluation
