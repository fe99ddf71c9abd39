"""The house: importing stays light, rooms import only what they may, what is public is what is listed."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rooms import between_rooms, cycle, edges, imports, modules

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "differential_smoothing"
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
    "files": set(),
    "terms": set(),
    "advantages": {"terms"},
    "rules": {"advantages"},
    "options": {"advantages", "rules"},
    "tabular": {"advantages"},
    "tasks": {"files"},
    "rollouts": {"files", "tasks"},
    "sampling": {"files", "rollouts", "tasks"},
    "evaluation": {"rollouts"},
    "advice": {"advantages", "evaluation", "tabular"},
    "integrations": {"advantages", "evaluation", "options", "rules", "sampling", "tasks"},
    "report": {"_version", "evaluation", "files", "rollouts", "tasks"},
    "training": {"files", "integrations", "sampling", "tasks"},
    "studies": {"evaluation", "files", "integrations", "rollouts", "sampling", "tasks", "training"},
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


FOUND = modules(SOURCE)
GRAPH = edges(SOURCE)
LONGEST = 400  # lines of a file


def test_rooms_import_only_what_they_may():
    rooms = between_rooms(GRAPH, SOURCE.name)
    rooms["__init__"] = {target.split(".")[1] for target in GRAPH[SOURCE.name]}
    assert rooms.keys() == MAY_IMPORT.keys()
    assert {room: others - MAY_IMPORT[room] for room, others in rooms.items()} == {room: set() for room in rooms}
    assert {room: allowed - rooms[room] for room, allowed in MAY_IMPORT.items()} == {room: set() for room in rooms}


def test_no_modules_and_no_rooms_import_each_other():
    assert not cycle(GRAPH)
    for package in {name.rpartition(".")[0] for name in FOUND} - {""}:
        assert not cycle(between_rooms(GRAPH, package)), package


def reach_ins(code, module, *, is_package=False):
    """Private names of other modules that the text of ``module`` imports or reaches for."""
    for found in imports(code, module, set(FOUND), is_package=is_package):
        if re.match("_[^_]", found.name) and found.target != module:
            yield found


def test_private_names_stay_in_their_modules():
    files = dict(FOUND)
    files |= {
        f"{path.parent.name}.{path.stem}": path
        for top in ("tests", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
    }
    assert not [
        found
        for name, path in files.items()
        for found in reach_ins(path.read_text(), name, is_package=path.stem == "__init__")
    ]


def test_no_file_is_long():
    assert not {name: n for name, path in FOUND.items() if (n := len(path.read_text().splitlines())) > LONGEST}


@pytest.mark.parametrize(
    "line",
    [
        "import differential_smoothing.training.run",
        "import differential_smoothing.training.run as module",
        "from differential_smoothing.training.run import train",
        "from differential_smoothing.training import run",
        "from ..training.run import train",
        "from ..training import run",
        "def later():\n    from differential_smoothing.training.run import train",
        "def later():\n    from ..training import run",
        "if TYPE_CHECKING:\n    from differential_smoothing.training.run import train",
        "importlib.import_module('differential_smoothing.training.run')",
        "KNOWN = {'run': 'differential_smoothing.training.run:train'}",
    ],
)
def test_every_spelling_of_an_import_is_seen(line):
    found = imports(line, "differential_smoothing.rules.grpo", set(FOUND))
    assert "differential_smoothing.training.run" in {one.target for one in found}


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("from . import grpo", "rules.grpo"),
        ("from .. import advantages", "advantages"),
        ("from .grpo import Rule", "rules.grpo"),
        ("from differential_smoothing import Nothing", ""),
    ],
)
def test_relative_imports_of_a_package_start_at_itself(line, target):
    found = imports(line, "differential_smoothing.rules", set(FOUND), is_package=True)
    assert [one.target for one in found] == [".".join(filter(None, ["differential_smoothing", target]))]


@pytest.mark.parametrize(
    "line",
    [
        "from differential_smoothing.training.run import _lora",
        "from .run import _lora",
        "from . import run\nrun._lora()",
        "from differential_smoothing.training import run as module\nmodule._lora()",
        "import differential_smoothing.training.run as module\nmodule._lora()",
        "from . import run\nmonkeypatch.setattr(run, '_lora', None)",
        "KNOWN = 'differential_smoothing.training.run:_lora'",
    ],
)
def test_every_spelling_of_a_reach_in_is_seen(line):
    assert [one.name for one in reach_ins(line, "differential_smoothing.training.models")] == ["_lora"]


def test_a_cycle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not cycle({"a": {"b", "c"}, "b": {"c"}})
    assert between_rooms({"p.a.x": {"p.b", "p.a.y"}, "p.b.z": {"q"}}, "p") == {"a": {"b"}, "b": set()}


def undocumented(code):
    """What ``__all__`` of a module lists, or the module itself, without a docstring of its own; a dataclass gets one from Python."""
    tree = ast.parse(code)
    listed = {
        constant.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for constant in node.value.elts
    }
    definitions = (
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in listed
    )
    return [getattr(node, "name", "the module") for node in (tree, *definitions) if not ast.get_docstring(node)]


def test_everything_listed_is_documented():
    assert not {name: missing for name, path in FOUND.items() if (missing := undocumented(path.read_text()))}
    assert undocumented("__all__ = ['A', 'f']\n@dataclass\nclass A:\n    x: int\n\ndef f(): ...\n") == [
        "the module",
        "A",
        "f",
    ]


def test_everything_listed_exists():
    for name in FOUND:
        if name.endswith("integrations.verl.plugin"):  # needs verl, which has an environment of its own: make test-verl
            continue
        module = importlib.import_module(name)
        assert not [public for public in getattr(module, "__all__", []) if not hasattr(module, public)], name


def test_no_eval_or_exec_in_the_package():
    for path in SOURCE.rglob("*.py"):
        calls = [
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert not {"eval", "exec", "compile"} & set(calls), path
