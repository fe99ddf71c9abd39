"""The numbers and settings that the documents report are those of the repository: tables, studies, configs. Snippets: test_snippets.py."""

import importlib.util
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from differential_smoothing.files import claim_folder
from differential_smoothing.studies.counts import read_counts
from differential_smoothing.studies.read import QUICKSTART, read_study

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "DECISIONS", "LOG", "CONTRIBUTING")),
    *sorted((ROOT / "docs").glob("*.md")),
]

spec = importlib.util.spec_from_file_location("publish", ROOT / "benchmarks" / "publish.py")
publish = importlib.util.module_from_spec(spec)
spec.loader.exec_module(publish)


def test_the_results_are_those_of_the_committed_tables():
    page = (ROOT / "docs" / "results.md").read_text()
    section = page.partition(publish.START)[2].partition(publish.END)[0]
    assert publish.results_markdown("sharpening") in section


def test_the_readme_s_lines_are_those_of_the_committed_study():
    section = (
        (ROOT / "README.md").read_text().partition(publish.CONVERGENCE)[2].partition(publish.END_OF_CONVERGENCE)[0]
    )
    assert publish.convergence_markdown("convergence") in section


SWEEPS = sorted(p.name.removesuffix("-counts.parquet") for p in publish.RESULTS.glob("*-counts.parquet"))


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_s_report_is_computed_from_its_counts(name, tmp_path, monkeypatch, capsys):
    committed = publish.RESULTS
    for file in committed.glob(f"{name}-*.parquet"):  # counts, and the training logs where they are kept
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    publish.report_sweep(name)
    computed = {file.name.removeprefix(f"{name}-") for file in tmp_path.glob("*.csv")}
    assert {"best.csv", "differences.csv", "dominance.csv", "points.csv"} <= computed
    for part in (*sorted(computed), "report.md"):
        assert (tmp_path / f"{name}-{part}").read_text() == (committed / f"{name}-{part}").read_text(), part
    # and dsmooth compare would go on where the published cells end
    publish.restore(name, tmp_path / "run")
    sweep = read_study(ROOT / "benchmarks" / f"{name}.yaml")
    restored = read_counts(sweep, tmp_path / "run")
    assert len(restored) == len(pd.read_parquet(committed / f"{name}-counts.parquet"))
    with claim_folder(tmp_path / "run", sweep.definition()):
        pass


def test_the_results_can_be_written_again(tmp_path, monkeypatch):
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    shutil.copy(ROOT / "docs" / "results.md", page)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    publish.write_results()
    assert page.read_text() == (ROOT / "docs" / "results.md").read_text()


def test_the_readme_is_short_and_has_a_place_for_the_convergence_study():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 100
    start, end = "<!-- convergence: written by benchmarks/publish.py -->", "<!-- end of convergence -->"
    assert 0 < readme.index(start) < readme.index(end)


#: Figures of studies that are running: the link may lead nowhere until the study's counts are published.
COMING = {"benchmarks/results/convergence-paths.svg": "convergence"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_linked_exist(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if target.startswith("https://") or (page.parent / target).exists():
            continue
        study = COMING.get(target)
        assert study and not (publish.RESULTS / f"{study}-counts.parquet").exists(), target


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
