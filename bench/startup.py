"""How long from `zpipe run` to the first result?

The interpreter's bytecode cache is warm (one run before, in a cache folder of its own) and so are the disk's caches.
The clock runs from just before the process is started until its first line of output is read; the process then ends by
itself. Beside it: the bare interpreter, pyzmq's own import, and a ProcessPoolExecutor that does the same. With
--imports, what the time to import goes to, module by module, in the process itself and in that of its workers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import harness
from harness import HERE, Checked

ITEMS = 100
LIMIT = 0.7

POOL = f"""
import concurrent.futures, multiprocessing, sys
sys.path.insert(0, {str(HERE)!r})
from tasks import noop
context = multiprocessing.get_context("fork")
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
    for value in pool.map(noop, range({ITEMS})):
        print(value, flush=True)
"""

_TIMED = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( +)(\S+)")


def first_line(command: list[str], environ: dict[str, str], lines: int) -> Checked:
    """Run a command; return how long its first line took, and its end. It must print the numbers below `lines`."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True, bufsize=1) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.monotonic() - began
        rest = process.stdout.readlines()
        process.wait()
        ended = time.monotonic() - began
    said = sorted(map(int, filter(None, [first.strip(), *map(str.strip, rest)])))
    if process.returncode or said != list(range(lines)):
        raise SystemExit(f"wrong result: exit status {process.returncode}, {len(said)} lines: {' '.join(command)}")
    return Checked(1, seconds, {"ended": ended})


def zpipe(*arguments: str) -> list[str]:
    """Return a command line of zpipe, on two workers."""
    return [sys.executable, "-m", "zpipe", "run", *arguments, "--range", f"0:{ITEMS}", "-w", "2", "--raw", "--quiet"]


def imports(command: list[str], environ: dict[str, str], least: float = 1.0) -> list[tuple[str, float, float]]:
    """Return (module, ms alone, ms with what it imports) of what takes `least` ms, in order of import."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environ,
        text=True,
        timeout=60,
        check=False,
    )
    found = [(m[4], int(m[1]) / 1000, int(m[2]) / 1000, len(m[3])) for m in _TIMED.finditer(done.stderr)]
    return [(f"{' ' * (depth - 1)}{name}", own, whole) for name, own, whole, depth in found if whole >= least]


def show_imports(environ: dict[str, str]) -> str:
    """Return the tables of what importing costs."""
    parts = []
    for title, command in (
        ("zpipe run", zpipe("operator:pos")),
        (
            "workers' process of a script",
            [sys.executable, "-c", "from zpipe import light; light.load(); import zpipe.nodes.slots"],
        ),
    ):
        rows = [["module (what imports it follows it)", "ms alone", "ms in all"]]
        rows += [[name, f"{own:.1f}", f"{whole:.1f}"] for name, own, whole in imports(command, environ)]
        parts.append(f"{title}\n{harness.table(rows)}")
    return "\n\n".join(parts)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=10, imports=False)
    where = harness.environment()
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as cache:
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {
            "python -c 'print(0)'": ([sys.executable, "-c", "print(0)"], 1),
            "python -c 'import zmq'": ([sys.executable, "-c", "import zmq; print(0)"], 1),
            "ProcessPoolExecutor": ([sys.executable, "-c", POOL], ITEMS),
            "zpipe run module:function": (zpipe("operator:pos"), ITEMS),
            "zpipe run path/file.py:function": (zpipe(f"{HERE / 'tasks.py'}:noop"), ITEMS),
            "zpipe run --command 'echo {}'": (zpipe("--command", "echo {}"), ITEMS),
        }
        systems: dict[str, Callable[[], Any]] = {
            name: partial(first_line, command, environ, lines) for name, (command, lines) in commands.items()
        }
        for warm in systems.values():
            warm()
        rounds = harness.interleave(systems, options)
        shown = show_imports(environ) if options.imports else ""
    rows = [["seconds", "to the first line (median)", "least", "greatest", "to the end", f"below {LIMIT:g} s"]]
    figures: dict[str, Any] = {}
    for name, runs in rounds.results.items():
        first, end = harness.spread(run.seconds for run in runs), harness.spread(run.more["ended"] for run in runs)
        figures[name] = {"first": first, "end": end}
        verdict = ("yes" if first["median"] < LIMIT else "NO") if name.startswith("zpipe") else ""
        row = [*(f"{first[key]:.3f}" for key in ("median", "min", "max")), f"{end['median']:.3f}"]
        rows.append([name, *row, verdict])
    text = "\n\n".join(filter(None, [harness.table(rows), rounds.noise(), shown]))
    harness.report(options, where, {"commands": figures, "noise": [rounds.noise()], "imports": shown}, text)


if __name__ == "__main__":
    main()
