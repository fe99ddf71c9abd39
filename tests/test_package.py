"""The house: importing stays light, rooms import only what they may, what is public is what is listed."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "differential_smoothing"
HEAVY = ("trl", "transformers", "pandas", "matplotlib", "datasets", "pyarrow", "rich", "scipy", "typer")


def loaded_after(statement):
    code = f"import sys\n{statement}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_package_is_light():
    assert loaded_after("import differential_smoothing") == []


def test_the_test_above_can_fail():
    assert "pandas" in loaded_after("import differential_smoothing.rollouts")


# room -> what else of the package it may import; data flows from the tasks down to the report, never back
MAY_IMPORT = {
    "_version": set(),
    "advantages": set(),
    "tasks": set(),
    "rules": {"advantages"},
    "tabular": {"advantages"},
    "rollouts": {"tasks"},
    "sampling": {"rollouts", "tasks"},
    "evaluation": {"rollouts"},
    "advice": {"advantages", "evaluation", "tabular"},
    "integrations": {"advantages", "evaluation", "rules", "sampling", "tasks"},
    "report": {"_version", "evaluation", "rollouts", "tasks"},
    "training": {"integrations", "sampling", "tasks"},
    "studies": {"evaluation", "integrations", "rollouts", "sampling", "tasks", "training"},
    "cli": {
        "_version",
        "advice",
        "evaluation",
        "integrations",
        "report",
        "rollouts",
        "sampling",
        "studies",
        "tabular",
        "tasks",
        "training",
    },
    "__main__": {"cli"},
    "__init__": {"_version", "advantages"},
}


def imports(path):
    """The rooms that a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith(SOURCE.name):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_rooms_import_only_what_they_may(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert set(imports(path)) - {room} <= MAY_IMPORT[room]


MODULES = [
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("*.py"))
]


@pytest.mark.parametrize("name", MODULES)
def test_everything_listed_exists_and_is_documented(name):
    if name.endswith("integrations.verl.plugin"):
        pytest.importorskip("verl")  # which has an environment of its own: make test-verl
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        assert not callable(value) or value.__doc__, public


def test_no_eval_or_exec_in_the_package():
    for path in SOURCE.rglob("*.py"):
        calls = [
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert not {"eval", "exec", "compile"} & set(calls), path
