"""Imports go down, from folder to folder and within each, and the core knows no socket, thread, clock or log."""

from __future__ import annotations

import ast
import functools
import graphlib
from pathlib import Path

import zpipe

ROOT = Path(zpipe.__file__).parent
LEVELS = [
    {"errors", "context", "light", "report"},
    {"broken", "core"},
    {"data", "serialize", "net"},
    {"running"},
    {"caching", "input", "output"},
    {"schedule"},
    {"nodes"},
    {"stages"},
    {"jobs"},
    {"api"},
    {"joblib", "pool", "measuring"},
    {"cli"},
]
"""Folders of zpipe, and the modules that are in none, from those that import nothing upwards."""

FORBIDDEN = {
    "asyncio", "datetime", "logging", "multiprocessing", "os", "pickle", "random", "select", "selectors", "signal",
    "socket", "subprocess", "sys", "threading", "time", "zmq",
}  # fmt: skip


@functools.cache
def modules() -> dict[str, Path]:
    """Every module below zpipe, by its dotted name without `zpipe.`."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and name != "__main__" and (path.name != "__init__.py" or name == "cli"):
            found[name] = path
    return found


def level(name: str) -> int | None:
    """The level of a module, which is its folder's if it is in one."""
    return next((n for n, names in enumerate(LEVELS) if name.partition(".")[0] in names), None)


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module a file imports anywhere, those for type checking alone excepted."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: Path) -> set[str]:
    """The modules of zpipe that a file imports."""
    found = {target.removeprefix("zpipe.") for target in imports(path) if target.startswith("zpipe.")}
    return found & set(modules()) - {"cli"}


def test_every_module_has_a_level() -> None:
    """A new folder must be given its place in the architecture."""
    assert [name for name in modules() if level(name) is None] == []


def test_imports_go_down() -> None:
    """No module imports one of another folder that is not below its own."""
    wrong = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in own(path)
        if level(other) >= level(name) and name.partition(".")[0] != other.partition(".")[0]
    ]
    assert wrong == []


def test_there_is_no_circle() -> None:
    """Nor does one import, in however many steps, what imports it."""
    order = graphlib.TopologicalSorter({name: own(path) for name, path in modules().items() if name != "cli"})
    order.prepare()


def test_the_core_touches_nothing_outside() -> None:
    """No socket, thread, sleep, log, clock or chance in the decisions."""
    for name, path in modules().items():
        if name.startswith("core."):
            assert {target.partition(".")[0] for target in imports(path)} & FORBIDDEN == set(), name


def test_there_is_one_door_to_pickle() -> None:
    """Only serialize.py imports pickle or cloudpickle."""
    doors = {
        name
        for name, path in modules().items()
        if imports(path) & {"pickle", "cloudpickle", "marshal", "shelve", "dill"}
    }
    assert doors == {"serialize"}
