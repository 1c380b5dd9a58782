"""What every benchmark here shares: interleaved rounds, medians with their spread, the environment, and the printing.

A figure is worth no more than what it was measured beside. So systems are run in turn, A B C A B C, never one after the
other is through, and compared within a round; each run is checked (count and sum) before its time is believed; and how
busy others kept the machine meanwhile is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zmq

__all__ = [
    "HERE",
    "Checked",
    "Rounds",
    "Tally",
    "WrongResult",
    "arguments",
    "busy_here",
    "descendants",
    "environment",
    "interleave",
    "per_round",
    "report",
    "rss",
    "spread",
    "table",
]

HERE = Path(__file__).resolve().parent
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where programs are installed they find their bytecode
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Checked:
    """A run whose result was right: `items` in `seconds`; `more` is whatever else it measured."""

    items: int
    seconds: float
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


class WrongResult(SystemExit):
    """What came back is not what should have: a wrong run has no speed."""


class Tally:
    """Count and sum of the integers from 0, as they come back in lists: what a run is checked by."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.count = self.total = self.lists = 0
        self.last = 0.0

    def add(self, values: list[int]) -> None:
        """Take one message's values."""
        self.count += len(values)
        self.total += sum(values)
        self.lists += 1
        if self.count >= self.items:
            self.last = time.monotonic()

    def check(self, seconds: float, **more: float) -> Checked:
        """Return the run, if every item came back once. Raises WrongResult if not."""
        wanted = self.items * (self.items - 1) // 2
        if (self.count, self.total) != (self.items, wanted):
            raise WrongResult(f"wrong result: {self.count} items, sum {self.total}; wanted {self.items}, sum {wanted}")
        return Checked(self.items, seconds, {"chunk": self.items / self.lists, **more})


def arguments(doc: str, *, rounds: int = 5, **more: Any) -> argparse.Namespace:
    """Parse the options all benchmarks have, and `more`: a name and its default each, of arguments what they are."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of tables")
    parser.add_argument("--rounds", type=_rounds, default=rounds, help="how often each is run, in turn (%(default)s)")
    parser.add_argument(
        "--calm", type=float, default=0.3, help="cores others may use during a round that counts (%(default)s)"
    )
    for name, default in more.items():
        if isinstance(default, tuple):
            parser.add_argument(name, nargs="+", metavar=default[0])  # a tuple would break --help
        elif isinstance(default, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default, help="(%(default)s)")
    return parser.parse_args()


def _rounds(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} are too few: give 1 at least")
    return number


@dataclass
class Rounds:
    """What `interleave` found: each system's results, round by round, and how many cores others used meanwhile."""

    results: dict[str, list[Any]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    thrown: int = 0

    def noise(self) -> str:
        """Return the noise as a line for a person."""
        said = f"cores used by others, round by round: {self.others}"
        return f"{said}; {self.thrown} noisier rounds thrown away" if self.thrown else said


def interleave(systems: Mapping[str, Callable[[], Any]], options: argparse.Namespace) -> Rounds:
    """Run all systems in turn, `options.rounds` times, every second round backwards.

    Running backwards too keeps whoever follows a heavy one from paying for it each time. A round during which others
    kept more than `options.calm` cores busy is thrown away unseen and run again, up to as many times as were asked for;
    then the calmest ones are kept.
    """
    done: list[tuple[float, dict[str, Any]]] = []
    for number in range(2 * options.rounds):
        if sum(noise <= options.calm for noise, _ in done) == options.rounds:
            break
        _await_calm(options.calm)
        names = list(systems)[:: 1 if number % 2 == 0 else -1]
        began, busy, own = time.monotonic(), _busy(), busy_here()
        row: dict[str, Any] = {}
        for name in names:
            _say(f"round {number + 1}: {name}")
            row[name] = systems[name]()
        others = (_busy() - busy) - (busy_here() - own)
        done.append((round(max(0.0, others) / (time.monotonic() - began), 2), row))
    _say("")
    kept = sorted(done, key=lambda one: one[0])[: options.rounds]
    results = {name: [row[name] for _, row in kept] for name in systems}
    return Rounds(results, [noise for noise, _ in kept], len(done) - len(kept))


def _await_calm(limit: float) -> None:
    """Wait until others leave the machine alone for a second, ten at most."""
    for _ in range(10):
        busy, own = _busy(), busy_here()
        time.sleep(1.0)
        others = (_busy() - busy) - (busy_here() - own)
        if others <= limit:
            return
        _say(f"others use {others:.1f} cores: waiting for a calmer moment")


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _busy() -> float:
    """Seconds all cores together have been busy since the machine's start, or with other machines on the same host."""
    try:
        user, nice, system, _idle, _wait, irq, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + soft + stolen) / TICKS


def busy_here() -> float:
    """Seconds of a core that this process and its children that have ended took."""
    return sum(os.times()[:4])


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, least and greatest."""
    known = sorted(values)
    return {"median": statistics.median(known), "min": known[0], "max": known[-1], "n": len(known)}


def per_round(above: list[Any], below: list[Any], what: Callable[[Any], float] = lambda run: run.rate) -> list[float]:
    """Return the ratio of two systems in each round: what disturbs a round disturbs both."""
    return [what(a) / what(b) for a, b in zip(above, below, strict=True)]


def environment() -> dict[str, Any]:
    """Return what a figure depends on, as far as it can be told."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "zpipe": version("zpipe"),
        "commit": _commit(),
        "python": platform.python_version(),
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "msgspec": version("msgspec"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": cores,
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _commit() -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def table(rows: list[list[str]]) -> str:
    """Return rows, the first of them the head, as aligned text: names to the left, figures to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def report(options: argparse.Namespace, where: Mapping[str, Any], figures: Mapping[str, Any], text: str) -> None:
    """Print the figures, for a program or a person. `where` is the environment as it was before."""
    if options.json:
        print(json.dumps({"environment": where, **figures}))
        return
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    print()
    print(text)


def rss(pid: int | str = "self") -> float:
    """Return a process's resident memory in MB (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, nearest first (Linux)."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents.setdefault(int(parent), []).append(int(stat.parent.name))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found
