"""Reads the imports of a tree of Python files as text, in every spelling, so that a test can say which are allowed.

A *module* is a file, a *room* a child of a package: a folder or a file. What counts as an import: ``import a.b``, ``from a import b``,
``from . import b``, each wherever it stands, and a text that is the name of a module of the package, with or without ``:attribute``, as
``importlib.import_module`` and the registries take it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """``module`` imports ``target``, from it ``name`` if that is not a module itself, or reaches for its ``name``."""

    module: str
    target: str
    name: str = ""


def modules(source: Path) -> dict[str, Path]:
    """The files below the folder of a package by their dotted names; a package by its ``__init__``."""
    names = {path: ".".join(path.relative_to(source.parent).with_suffix("").parts) for path in source.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in sorted(names.items())}


def imports(code: str, module: str, known: set[str], *, is_package: bool = False) -> Iterator[Import]:
    """What the text of ``module`` imports of the ``known`` modules, and what it reaches for in them."""
    tree = ast.parse(code)
    bound: dict[str, str] = {}  # a name of this file -> the module, or the thing of a module, that it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _module_of(alias.name, known):
                    bound[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else ""
                    yield Import(module, _module_of(alias.name, known))
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            for alias in node.names if _module_of(base, known) else ():
                whole = f"{base}.{alias.name}"
                bound[alias.asname or alias.name] = whole
                yield Import(module, whole) if whole in known else Import(module, base, alias.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name, _, attribute = node.value.partition(":")
            if name in known and "." in name:
                yield Import(module, name, attribute)
    for node in ast.walk(tree):
        for owner, name in _reached(node):
            if whole := bound.get(owner):
                yield Import(module, _module_of(whole, known), name)


def _reached(node: ast.AST) -> Iterator[tuple[str, str]]:
    """``owner.name``, and what ``setattr(owner, "name", ...)``, ``getattr`` and pytest's ``monkeypatch.setattr`` take."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            yield owner, name
        case ast.Call(args=[ast.Name(id=owner), ast.Constant(value=str(name)), *_]):
            yield owner, name


def _module_of(name: str, known: set[str]) -> str:
    """The longest known module that ``name`` begins with: ``a.b.c`` may be a thing of ``a.b``."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    here = module.split(".")
    base = here[: len(here) - node.level + is_package]
    return ".".join([*base, *(node.module or "").split(".")]).rstrip(".")


def edges(source: Path) -> dict[str, set[str]]:
    """Module -> the modules that it imports, itself left out."""
    found = modules(source)
    return {
        name: {i.target for i in imports(path.read_text(), name, set(found), is_package=path.stem == "__init__")}
        - {name}
        for name, path in found.items()
    }


def between_rooms(graph: dict[str, set[str]], package: str) -> dict[str, set[str]]:
    """The imports between the children of ``package``; what its own ``__init__`` imports is left out."""
    rooms: dict[str, set[str]] = {}
    for module, targets in graph.items():
        if (room := _child(module, package)) is not None:
            rooms.setdefault(room, set()).update(
                other for target in targets if (other := _child(target, package)) not in (None, room)
            )
    return rooms


def _child(module: str, package: str) -> str | None:
    return module[len(package) + 1 :].partition(".")[0] if module.startswith(package + ".") else None


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some cycle of ``graph``, first node repeated at the end; empty if there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for target in sorted(graph.get(node, ())):
                if found := walk(target, [*path, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])
