"""A storm: a job of real processes over TCP, and mishaps that a seed draws, when so many items have been run.

Workers are killed, stopped for less and for more than the heartbeat, told to go, and replaced; their cables are
pulled. The sink and the ventilator are stopped; the ventilator is killed and started again, and with a journal so is
the sink, or the one process of `zpipe run` that is both. In the end every item must be in the output once, with its
value.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.hosts import Host
from chaos.tasks import TICKS, worth
from process.tools import Node, Zpipe, free_port, wait_until

__all__ = ["Mishap", "Storm", "compare", "plan"]

HEARTBEAT = 1.5
PATIENCE = 240.0
STALL = 3.0
"""Seconds without progress after which the next mishap comes anyway."""
GIVE_UP = 10.0
"""Seconds after which a worker that finds no ventilator goes home."""
LOST = "for a ventilator at"
"""What it says while it looks for one."""
EVERY = 130
"""Items to a mishap, about."""
SHAPES = ("three", "journal", "run")
"""Three processes; those with a journal at the sink; or `zpipe run` with one, and with a slot of its own."""
LATE = 0.9
"""Share of the items from which on whoever has the job is not killed any more: it may be over before he is back."""
KINDS = {
    "slot": 5,
    "worker": 3,
    "stop slot": 3,
    "stop": 3,
    "term": 3,
    "stop sink": 1,
    "stop ventilator": 1,
    "ventilator": 1,
    "sink": 2,
    "pull": 4,
}
"""What may happen, and how often beside the others."""
LETHAL = ("ventilator", "sink")


@dataclass(frozen=True)
class Mishap:
    """When `ticks` items have been run something happens to worker `who`; `span` seconds later it is over."""

    ticks: int
    kind: str
    who: int
    span: float


def plan(seed: int, items: int, workers: int, *, cables: bool, journal: bool, every: int = EVERY) -> list[Mishap]:
    """Draw the mishaps of a job of so many items, about one for `every` so many."""
    rng = random.Random(f"storm {seed}")
    never = {"pull": not cables, "sink": not journal}
    kinds = {kind: weight for kind, weight in KINDS.items() if not never.get(kind)}
    made = []
    for _ in range(max(2, items // every)):
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        span = HEARTBEAT * rng.choice((0.2, 0.6, 2.0))
        # A ventilator that comes back when all is done would wait for a sink for ever.
        last = items * 4 // 5 if kind in LETHAL else items
        made.append(Mishap(rng.randrange(last), kind, rng.randrange(workers), round(span, 2)))
    return sorted(made, key=lambda mishap: mishap.ticks)


def compare(output: str, items: int, *, ordered: bool) -> None:
    """Go through an output item by item: none may be missing, none there twice, each must have its value."""
    found = [json.loads(line) for line in output.splitlines()]
    times = Counter(record["index"] for record in found)
    twice = [index for index, count in times.items() if count > 1]
    missing = [index for index in range(items) if index not in times]
    assert not twice, f"twice in the output: {twice[:20]}"
    assert not missing, f"missing in the output: {missing[:20]}"
    for record in found:
        assert record["index"] == record["item"], record
        assert record["value"] == worth(record["item"]), record
    assert sum(record["value"] for record in found) == sum(map(worth, range(items))), "too much in the output"
    assert not ordered or [record["index"] for record in found] == list(range(items)), "out of order"


@dataclass
class Report:
    """What a storm did."""

    happened: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    seconds: float = 0.0
    summary: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        happened = ", ".join(f"{count} × {kind}" for kind, count in sorted(self.happened.items()))
        told = {key: self.summary.get(key) for key in ("done", "lost", "requeued", "duplicates")}
        return f"{self.runs} runs of items in {self.seconds:.1f} s; {happened or 'no mishaps'}; {told}"


class Storm:
    """One job from one seed, in a folder of its own. `hosts`: the head, and then one for each worker."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        items: int,
        hosts: Sequence[Host],
        slots: int = 2,
        every: int = EVERY,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.seed, self.items, self.slots, self.say = seed, items, slots, say
        self.head, *self.hosts = hosts
        self.wired = bool(self.head.before)
        self.ordered = bool(seed % 2)
        self.shape = SHAPES[seed % len(SHAPES)]
        journal = self.shape != "three"
        self.plan = plan(seed, items, len(self.hosts), cables=self.wired, journal=journal, every=every)
        self.rng = random.Random(f"victims {seed}")
        self.zpipe = Zpipe(folder)
        self.zpipe.anew = True
        self.report = Report()
        shutil.copy(Path(__file__).with_name("tasks.py"), folder)
        self._ticks = folder / TICKS
        self._ticks.touch()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._stopped: dict[int, int] = {}

    # who takes part

    def _start(self, host: Host, *args: object) -> Node:
        return self.zpipe.start(*args, "--heartbeat", HEARTBEAT, before=host.before)

    def _begin(self) -> None:
        address = self.head.head
        self.url, results = (f"tcp://{address}:{free_port()}" for _ in range(2))
        job = ["tasks:work", "--range", f"0:{self.items}", "--json", "--bind", self.url]
        if self.seed // len(SHAPES) % 2:
            job += ["--chunk", self.rng.choice((1, 7, 40))]
        target = ["--output", "out", *(["--ordered"] if self.ordered else ())]
        if self.shape != "three":
            target += ["--journal", "journal"]
        wide = ["--insecure"] if self.wired else []
        if self.shape == "run":
            self._job = ["run", *job, *target, *wide, "--workers", 1]
        else:
            self._job = ["ventilator", *job, *wide]
            self._target = ["sink", self.url, "--bind", results, *target, *wide]
        self.ventilator = self._start(self.head, *self._job)
        self.sink = self.ventilator if self.shape == "run" else self._start(self.head, *self._target)
        self.workers = [self._work(n) for n in range(len(self.hosts))]

    def _work(self, n: int) -> Node:
        return self._start(self.hosts[n], "worker", self.url, "--slots", self.slots, "--connect-timeout", GIVE_UP)

    def _slots(self, n: int) -> list[int]:
        """The processes that this worker has started."""
        pid = self.workers[n].pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    # mishaps

    def _happen(self, mishap: Mishap) -> None:
        if mishap.kind in LETHAL and self.ticks >= LATE * self.items:
            return
        self.report.happened[mishap.kind] += 1
        self.say(f"  {self.ticks:6d} {mishap}")
        worker = self.workers[mishap.who]
        if mishap.kind in ("slot", "stop slot"):
            slots = self._slots(mishap.who)
            if slots:
                victim = self.rng.choice(slots)
                if mishap.kind == "slot":
                    self._signal(victim, signal.SIGKILL)
                else:
                    self._stop([victim], mishap.span)
        elif mishap.kind == "worker":
            worker.kill()
            self._after(mishap.span, lambda: self._replace(mishap.who, worker))
        elif mishap.kind == "term":
            self._signal(worker.pid, signal.SIGTERM)
            self._after(mishap.span, lambda: self._replace(mishap.who, worker))
        elif mishap.kind in LETHAL:
            self._behead(mishap)
        elif mishap.kind == "pull":
            host = self.hosts[mishap.who]
            host.pull()
            self._after(mishap.span, host.plug)
        else:
            stopped = {"stop sink": self.sink, "stop ventilator": self.ventilator}.get(mishap.kind, worker)
            self._stop([stopped.pid, *(self._slots(mishap.who) if stopped is worker else ())], mishap.span)

    def _signal(self, pid: int, number: int) -> None:
        if pid in self.zpipe.left():  # and no other's that has the number now
            os.kill(pid, number)

    def _stop(self, pids: list[int], span: float) -> None:
        for pid in pids:
            self._stopped[pid] = self._stopped.get(pid, 0) + 1
            self._signal(pid, signal.SIGSTOP)
        self._after(span, lambda: self._go_on(pids))

    def _go_on(self, pids: list[int]) -> None:
        for pid in pids:
            self._stopped[pid] -= 1
            if not self._stopped[pid]:
                self._signal(pid, signal.SIGCONT)

    def _behead(self, mishap: Mishap) -> None:
        """Kill the sink or the ventilator, which may be one and the same; it comes back."""
        if mishap.kind == "sink" and self.shape != "run":
            self.sink.kill()
            self._after(mishap.span, self._sink)
        else:
            self.ventilator.kill()
            self._after(mishap.span, self._ventilate)

    def _sink(self) -> None:
        if self.sink.process.poll() is not None:  # it may have been killed twice before it was back
            self.sink = self._start(self.head, *self._target)

    def _ventilate(self) -> None:
        if self.ventilator.process.poll() is not None:
            self.ventilator = self._start(self.head, *self._job)
            if self.shape == "run":
                self.sink = self.ventilator

    def _replace(self, n: int, gone: Node) -> None:
        if self.workers[n] is gone and self.ventilator.process.poll() != 0:
            self.workers[n] = self._work(n)

    def _after(self, span: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + span, action))
        self._later.sort(key=lambda entry: entry[0])

    # the course

    @property
    def ticks(self) -> int:
        """How many runs of items there have been."""
        return self._ticks.stat().st_size

    def run(self) -> Report:
        """Run the job to its end. Raises AssertionError for whatever is wrong then."""
        began = time.monotonic()
        try:
            self._begin()
            self._weather()
            self._end()
            self._compare()
        finally:
            for host in self.hosts:
                host.plug()
            self.zpipe.close()
        self.report.runs, self.report.seconds = self.ticks, time.monotonic() - began
        return self.report

    def _weather(self) -> None:
        """Let it all happen, and be over."""
        todo = list(self.plan)
        ticks, since = 0, time.monotonic()
        began = since
        while self.ventilator.process.poll() is None or self._later:
            now = time.monotonic()
            assert now < began + PATIENCE + self.items / 20, f"the job does not end: {self._story()}"
            if self.ticks != ticks:
                ticks, since = self.ticks, now
            while self._later and self._later[0][0] <= now:
                self._later.pop(0)[1]()
            going = self.ventilator.process.poll() is None
            if going and todo and (ticks >= todo[0].ticks or (ticks and now > since + STALL)):
                self._happen(todo.pop(0))
                since = now
            pause = time.monotonic() + 0.05
            wait_until(lambda pause=pause: time.monotonic() > pause)

    def _end(self) -> None:
        self.report.summary = json.loads(self.ventilator.ended(0).out)
        self.sink.ended(0)
        for worker in self.workers:
            self._leave(worker)
        wait_until(lambda: not self.zpipe.left(), lambda: f"the end of {self.zpipe.left()}")

    def _leave(self, worker: Node) -> None:
        """Have a worker end in order: by itself, or told to if it has come too late and looks for the ventilator."""
        wait_until(lambda: worker.process.poll() is not None or LOST in worker.err, self._story)
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
        status = worker.end()
        # One that was killed at the last moment has no successor; one told to go at once had not begun.
        young = status == -signal.SIGTERM and not worker.err
        late = "no ventilator answered" in worker.err
        fine = late or young or status in (0, -signal.SIGKILL)
        assert fine, f"a worker ended with {status}: {worker.err[-2000:]}"

    def _compare(self) -> None:
        compare((self.zpipe.folder / "out").read_text(), self.items, ordered=self.ordered)
        assert self.report.summary["done"] == self.items, self.report.summary

    def _story(self) -> str:
        nodes = {"ventilator": self.ventilator, "sink": self.sink}
        nodes.update({f"worker {n}": worker for n, worker in enumerate(self.workers)})
        return "\n".join(f"{name} (status {node.process.poll()}):\n{node.err[-1500:]}" for name, node in nodes.items())
