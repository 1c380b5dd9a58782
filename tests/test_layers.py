"""Imports go to a lower level only, and the core knows no socket, thread, clock or log: read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import zpipe

ROOT = Path(zpipe.__file__).parent
LEVELS = [
    {"errors", "core.ranges", "core.spec", "deadletters", "echo", "groups", "listed", "zipped"},
    {"core.wire", "core.chunking", "core.ahead", "core.handshake", "core.complaints", "core.turnstile", "core.claim"},
    {"core.chunk", "core.horizon", "core.bucket", "core.coding", "fingerprint", "grouping", "core.foresight"},
    {"core.lane", "core.suspects", "core.budget"},
    {"core.budgets", "core.turns"},
    {"core.agenda"},
    {"core.again", "core.pending", "core.recall", "core.speculation", "core.wide"},
    {"core.account", "core.plan"},
    {"core.returns"},
    {"core.ledger", "core.collector", "core.stages", "core.member", "core.roster", "core.rejoin"},
    {"core.actions", "core.policy"},
    {"core.gate", "core.seat", "core.sieve"},
    {"core.lifecycle"},
    {"core.awaited"},
    {"core.director", "core.intake"},
    {"serialize", "context", "endpoints", "versions", "traces", "child", "figures", "journal", "keys", "data", "cache"},
    {"borrowed"},
    {"awaitables", "exits", "held", "attendant", "lifeline", "loop", "keepsakes", "identity", "redis_cache"},
    {"stock"},
    {"condition", "digests"},
    {"futures"},
    {"link", "commands", "progress", "outcomes", "broken", "access", "stopwatch", "memory", "partials", "callers"},
    {"security"},
    {
        "dialog",
        "warden",
        "tasks",
        "records",
        "retries",
        "sources",
        "walk",
        "outputs",
        "summary",
        "functions",
        "notices",
        "terms",
    },
    {"packing", "claims", "parked", "folds"},
    {"claimed"},
    {
        "allowed",
        "failures",
        "flow",
        "handover",
        "joblog",
        "outlet",
        "reading",
        "recorder",
        "reopening",
        "resumption",
        "stagejournal",
    },
    {"landing", "settling"},
    {"runner", "planned", "lines", "feeder", "maps", "submits"},
    {"lanes", "supply", "courier", "chains", "stagerunner", "answers", "parties", "control", "crowd", "outbox"},
    {"sifting", "coroutines", "rota", "sharing", "ticks", "docket"},
    {"repertoire", "stagesifting"},
    {"ventilator", "worker", "sink", "results", "work"},
    {"sink_node", "slot", "plans", "inline"},
    {"slots", "stageoutlet", "calls"},
    {"async_calls"},
    {"local", "helm", "staging"},
    {"foreground", "steering", "crew"},
    {"drive", "drive_sink", "engine"},
    {"drive_inline", "inline_engine", "options"},
    {"pipeline"},
    {"oneliners", "async_pipeline", "joblib", "pool", "benchmark"},
    {"coded"},
    {"cli"},
]
FORBIDDEN = {
    "asyncio", "datetime", "logging", "multiprocessing", "os", "pickle", "random", "select", "selectors", "signal",
    "socket", "subprocess", "sys", "threading", "time", "zmq",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module below zpipe, by its dotted name without `zpipe.`."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and name != "__main__":
            found[name] = path
    return found


def level(name: str) -> int | None:
    """The level of a module; a folder's modules are on its level unless named themselves."""
    for n, names in enumerate(LEVELS):
        if name in names or name.partition(".")[0] in names:
            return n
    return None


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


def test_every_module_has_a_level() -> None:
    """A new file must be given its place in the architecture."""
    assert [name for name in modules() if name != "core" and level(name) is None] == []


def test_imports_go_down() -> None:
    """No module imports one of its own level or above, but for commands their shared options."""
    known = modules()
    wrong = []
    for name, path in known.items():
        if name == "core":
            continue
        for target in imports(path):
            other = target.removeprefix("zpipe.")
            if not target.startswith("zpipe.") or other not in known or other == "core":
                continue
            if name.startswith("cli") and other.startswith("cli"):
                continue
            if level(other) >= level(name):
                wrong.append(f"{name} imports {other}")
    assert wrong == []


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
