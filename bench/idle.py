"""How much of a core does a node use while it has nothing to do?

Ventilator, worker (with two slots) and sink are started by their commands, given two seconds to settle, and watched
for ten. Their whole process trees count, all threads, by the scheduler's own account in nanoseconds (Linux). Two waits:
each node alone, with nobody to talk to; and all three joined, waiting for a first line on the ventilator's standard
input. At the end of the second the line is given, and must come out at the sink.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness

LIMIT = 0.01
"""Share of a core."""

SETTLE, WATCH = 2.0, 10.0


def used(pid: int) -> tuple[float, int]:
    """Return seconds on a core, and how often given one: of a process and all below it, all threads."""
    nanoseconds = turns = 0
    for one in [pid, *harness.descendants(pid)]:
        for account in Path(f"/proc/{one}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                ran, _, times = map(int, account.read_text().split())
                nanoseconds, turns = nanoseconds + ran, turns + times
    return nanoseconds / 1e9, turns


def watch(children: dict[str, subprocess.Popen[bytes]], seconds: float) -> dict[str, dict[str, float]]:
    """Return the share of a core, and the times it was put on one a second, for each tree."""
    time.sleep(SETTLE)
    before = {name: used(child.pid) for name, child in children.items()}
    began = time.monotonic()
    time.sleep(seconds)
    found = {}
    for name, child in children.items():
        passed = time.monotonic() - began
        if child.poll() is not None:
            raise SystemExit(f"{name} ended while it should have waited")
        cores, wakes = (after - first for after, first in zip(used(child.pid), before[name], strict=True))
        processes = 1 + len(harness.descendants(child.pid))
        found[name] = {"cores": cores / passed, "wakes": wakes / passed, "processes": processes}
    return found


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a zpipe command."""
    command = [sys.executable, "-m", "zpipe", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def nodes(folder: str, names: Iterable[str]) -> dict[str, subprocess.Popen[bytes]]:
    """Start the nodes of one job, those named."""
    url = f"ipc://{folder}/control"
    commands = {
        "ventilator": ("ventilator", "builtins:str", "--bind", url),
        "sink": ("sink", url, "--raw"),
        "worker": ("worker", url, "--slots", "2"),
    }
    return {name: start(*commands[name]) for name in names}


def end(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Stop what is left, in good order if it will."""
    for child in children.values():
        child.terminate()
    for child in children.values():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=20)
        child.kill()
        child.communicate()


def alone(seconds: float) -> dict[str, dict[str, float]]:
    """Watch each node with nobody to talk to."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        try:
            for name in ("ventilator", "sink", "worker"):
                place = Path(folder) / name
                place.mkdir()
                children |= nodes(str(place), [name])
            return watch(children, seconds)
        finally:
            end(children)


def joined(seconds: float) -> dict[str, dict[str, float]]:
    """Watch all three, joined and waiting for input; then see that they still work."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        children = nodes(folder, ["ventilator", "sink", "worker"])
        try:
            found = watch(children, seconds)
            children["ventilator"].communicate(b"still here\n", timeout=30)
            said = children["sink"].communicate(timeout=30)[0]
            if said != b"still here\n":
                raise SystemExit(f"wrong result: {said!r}")
            return found
        finally:
            end(children)


def main() -> None:
    """Watch, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=1, seconds=WATCH)
    where = harness.environment()
    rows = [["", "% of a core", "wake-ups a second", "processes", f"below {LIMIT:.0%}"]]
    figures: dict[str, Any] = {"alone": alone(options.seconds), "joined, no input yet": joined(options.seconds)}
    for wait, found in figures.items():
        for name, figure in found.items():
            ok = "yes" if figure["cores"] < LIMIT else "NO"
            share, wakes = f"{figure['cores'] * 100:.3f}", f"{figure['wakes']:.1f}"
            rows.append([f"{name}, {wait}", share, wakes, f"{figure['processes']}", ok])
    harness.report(options, where, figures, harness.table(rows))


if __name__ == "__main__":
    main()
