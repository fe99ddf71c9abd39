"""The wheel and the source distribution, built and looked into: what the documentation names is there, and works outside the tree."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import differential_smoothing

ROOT = Path(__file__).parents[1]
BUILD = "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]) if sys.argv[2] == 'sdist' else b.build_wheel(sys.argv[1]))"


def build(tree: Path, out: Path, kind: str) -> Path:
    """A distribution of ``tree``, with the setuptools that is installed: no network, no environment."""
    out.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", BUILD, str(out), kind], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """Built in a copy, so that nothing is left in the tree; unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    left_out = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "tree", ignore=left_out)
    with tarfile.open(build(folder / "tree", folder / "out", "sdist")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """Built from the source distribution, as an installer would; unpacked, which is what installing does."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build(sdist, folder / "out", "wheel")) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def dsmooth(wheel: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "differential_smoothing", *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | {"PYTHONPATH": str(wheel)}, capture_output=True, text=True)


def test_the_source_distribution_holds_what_the_tests_need(sdist):
    for name in ("tests", "configs", "docs", "examples", "benchmarks"):
        ours = {p.relative_to(ROOT) for p in (ROOT / name).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        theirs = {p.relative_to(sdist) for p in (sdist / name).rglob("*") if p.is_file()}
        assert theirs == ours, name
    alone = ("Makefile", "constraints.txt", "setup.py", "README.md", "LOG.md", "mkdocs.yml")
    for name in ("tests/conftest.py", "tests/data/reports/lm_cat.jsonl", *alone):
        assert (sdist / name).is_file()


def test_the_wheel_holds_the_package_and_what_the_pages_name(wheel):
    package = wheel / "differential_smoothing"
    assert (package / "py.typed").is_file() and not (wheel / "tests").exists()
    source = ROOT / "src" / "differential_smoothing"
    modules = {p.relative_to(source) for p in source.rglob("*.py")}
    assert {p.relative_to(package) for p in package.rglob("*.py")} == modules
    pages = "".join(page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    named = set(re.findall(r"\b(?:configs|benchmarks)/[\w./-]+\.yaml", pages))
    assert {"configs/countdown_ds_grpo.yaml", "benchmarks/sharpening.yaml", "benchmarks/arena.yaml"} <= named
    for name in named | {"configs/verl/countdown_qwen2.5_3b.yaml"}:
        assert (package / "data" / "shipped" / name).read_text() == (ROOT / name).read_text()
    for study in (package / "data" / "shipped" / "benchmarks").glob("a*.yaml"):  # the base that it starts from
        model = yaml.safe_load(study.read_text())["common"]["model"]
        assert (package / "data" / "shipped" / model / "config.json").is_file()


def test_the_metadata_name_the_hosts_and_the_paper(wheel):
    (info,) = wheel.glob("*.dist-info")
    metadata = email.message_from_string((info / "METADATA").read_text())
    assert "TRL" in metadata["Summary"] and "verl" in metadata["Summary"]
    assert metadata["Version"] == differential_smoothing.__version__
    assert metadata.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2511.19942"]
    assert "Typing :: Typed" in metadata.get_all("Classifier")


@pytest.fixture(scope="module")
def written(wheel, tmp_path_factory) -> Path:
    """A folder into which the wheel's own command has written the configs."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "configs").mkdir()
    (folder / "configs" / "README.md").write_text("mine")
    done = dsmooth(wheel, folder, "configs")
    assert done.returncode == 0 and "1 were there and stay as they are" in done.stdout, done.stderr
    return folder


def test_the_configs_are_written_and_nothing_is_overwritten(wheel, written):
    assert (written / "configs" / "README.md").read_text() == "mine"
    for name in ("configs/accelerate/fsdp2.yaml", "configs/verl/shared", "benchmarks/sharpening.yaml"):
        assert (written / name).exists()
    done = dsmooth(wheel, written, "--version")
    assert done.stdout == f"dsmooth {differential_smoothing.__version__}\n" and done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_command_of_the_readme_works_from_the_wheel(wheel, written):
    done = dsmooth(wheel, written, "train", "--config", "configs/countdown_ds_grpo.yaml", "--dry-run")
    assert done.returncode == 0 and "No mistake was found" in done.stdout, done.stderr
