"""Does memory stay flat, however many items go through?

10,000,000 items from a range through a no-op, folded to their sum. Each process notes its own resident memory when it
has seen a tenth of them and when it has seen them all: the ventilator what it has issued, the sink what it has written.
Once with automatic chunks, which are few, and once with chunks of 100, so that whatever grew by the chunk would show.
Workers are looked at from outside, at the end of each tenth of a second: their least and most after the first tenth.
"""

from __future__ import annotations

import contextlib
import operator
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from typing import Any

import harness
from harness import HERE

WORKERS = 2
LIMIT = 20.0
"""MB that a process may grow by between a tenth of the items and all of them."""


class Noted:
    """A source that notes this process's memory at the first and the last tenth's end."""

    def __init__(self, source: Any, items: int) -> None:
        self._source, self._marks, self._taken = source, [items // 10, items], 0
        self.noted: list[float] = []

    def __getattr__(self, name: str) -> Any:
        """All else is the source's."""
        return getattr(self._source, name)

    def take(self, most: int) -> Any:
        """Take from the source."""
        batch = self._source.take(most)
        self._taken += batch.count if batch is not None else 0
        if self._marks and self._taken >= self._marks[0]:
            del self._marks[0]
            self.noted.append(harness.rss())
        return batch


class Sum:
    """A fold that notes this process's memory at the first and the last tenth's end."""

    def __init__(self, items: int) -> None:
        from zpipe.output.folds import FoldOutput

        self.fold = FoldOutput(operator.add)
        self.encoding = self.fold.encoding
        self._marks, self._wanted = [items // 10, items], items
        self.noted: list[float] = []
        self.seen = 0

    def __getattr__(self, name: str) -> Any:
        """All else is the fold's."""
        return getattr(self.fold, name)

    def write(self, frames: Any) -> None:
        """Count and fold."""
        from zpipe.serialize import loads

        self.seen += len(loads(frames))
        self.fold.write(frames)
        if self._marks and self.seen >= self._marks[0]:
            del self._marks[0]
            self.noted.append(harness.rss())

    def check(self) -> None:
        """Raise SystemExit unless every item was folded once."""
        if (self.seen, self.fold.value) != (self._wanted, self._wanted * (self._wanted - 1) // 2):
            raise SystemExit(f"wrong result: {self.seen} items, sum {self.fold.value}")


def _job(items: int) -> tuple[Noted, Any, Any]:
    from zpipe.core.policy import Policy
    from zpipe.core.spec import JobSpec
    from zpipe.input.sources import IterSource
    from zpipe.net.versions import our_versions
    from zpipe.running.tasks import describe

    spec = JobSpec(describe(f"{HERE / 'tasks.py'}:noop"))
    return Noted(IterSource(range(items), "range"), items), spec, Policy(our_versions(), expect=WORKERS)


def be(role: str, items: int, chunk: int | None, url: str) -> None:
    """Be one of the processes; print what was noted."""
    from zpipe.jobs.drive import run_job, run_ventilator
    from zpipe.jobs.sink import run_sink
    from zpipe.output.landing import Landing
    from zpipe.report.progress import QuietProgress

    quiet = QuietProgress(sys.stderr)
    output = Sum(items)
    source, spec, policy = _job(items)
    if role == "embedded":
        run_job(source, spec, Landing(output), policy, quiet, workers=WORKERS, chunk=chunk)
    elif role == "ventilator":
        run_ventilator(source, spec, policy, quiet, bind=url, chunk=chunk)
    else:
        run_sink(Landing(output), quiet, url=url, bind=f"{url}.results")
    if role != "ventilator":
        output.check()
    print(*(output if role == "sink" else source).noted, *(output.noted if role == "embedded" else ()))


class _Watcher(threading.Thread):
    """Looks at the memory of worker processes while they last."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.seen: dict[int, list[float]] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            for pid in harness.descendants(self._pid):
                with contextlib.suppress(OSError):  # it has just ended
                    self.seen.setdefault(pid, []).append(harness.rss(pid))

    def growth(self) -> float:
        """Return the most that any process grew after its first tenth."""
        self.over.set()
        self.join()
        return max((max(seen) - seen[len(seen) // 10] for seen in self.seen.values() if seen), default=0.0)


def run(items: int, chunk: int | None, apart: bool) -> dict[str, list[float]]:
    """Run a job; return what each role noted: MB at a tenth, MB at all."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        url = f"ipc://{folder}/control"
        me = [sys.executable, __file__]
        start = partial(subprocess.Popen, stdout=subprocess.PIPE, text=True)
        roles = ["ventilator", "sink"] if apart else ["embedded"]
        children = {role: start([*me, role, str(items), str(chunk or 0), url]) for role in roles}
        if apart:
            command = [sys.executable, "-m", "zpipe", "worker", url, "--slots", str(WORKERS), "--quiet"]
            children["workers"] = start(command)
        watcher = _Watcher(children[roles[-1] if not apart else "workers"].pid)
        watcher.start()
        try:
            said = {role: child.communicate(timeout=900)[0].split() for role, child in children.items()}
        finally:
            for child in children.values():
                child.kill()
                child.wait()
    noted = {role: [float(mb) for mb in said[role][:2]] for role in roles}
    if not apart:
        noted["embedded, as its sink"] = [float(mb) for mb in said["embedded"][2:]]
    if any(len(pair) != 2 for pair in noted.values()):
        raise SystemExit(f"a process did not come to its end: {said}")
    noted["workers (growth)"] = [0.0, watcher.growth()]
    return noted


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=1, items=10_000_000, chunk=100)
    where = harness.environment()
    rows = [["", "MB at a tenth", "MB at all", "growth", f"below {LIMIT:g} MB", "seconds"]]
    figures: dict[str, Any] = {}
    for apart in (False, True):
        for chunk in (None, options.chunk):
            name = f"{'three processes' if apart else 'embedded'}, chunks of {chunk or 'automatic size'}"
            began = time.monotonic()
            noted = run(options.items, chunk, apart)
            seconds = time.monotonic() - began
            figures[name] = {"seconds": seconds, **noted}
            for role, (tenth, all_) in noted.items():
                grown = all_ - tenth
                ok = "yes" if grown < LIMIT else "NO"
                row = [f"{name}: {role}", f"{tenth:.1f}", f"{all_:.1f}", f"{grown:+.1f}", ok, f"{seconds:.1f}"]
                rows.append(row)
    harness.report(options, where, {"runs": figures}, harness.table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        be(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) or None, sys.argv[4])
    else:
        main()
