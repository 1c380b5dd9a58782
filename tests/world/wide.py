"""A worker of a world that runs many items at a time: begun in order, ended in any, told of in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from zpipe.core import coding, wire
from zpipe.core.member import Close

from .worker import Worker

if TYPE_CHECKING:
    from .engine import World

__all__ = ["WideWorker"]


class _Run:
    """A chunk that has been begun: `rest` has not been, `going` runs, `ended` has not been told of."""

    def __init__(self, chunk: wire.Chunk, welcome: Any) -> None:
        self.chunk, self.welcome = chunk, welcome
        self.rest = list(range(chunk.start, chunk.stop))
        self.going: list[int] = []
        self.ended: list[int] = []


class WideWorker(Worker):
    """A worker process whose control messages are heard at any time; an item may hold up or end all of it, though."""

    def __init__(self, world: World, *given: Any) -> None:
        super().__init__(world, *given)
        self.runs: list[_Run] = []
        self.latest: _Run | None = None
        self.told = 0

    def perform(self, actions: list[Any]) -> None:
        if any(isinstance(action, Close) for action in actions):
            for run in self.runs:
                run.rest.clear()
            self.latest = None
        super().perform(actions)

    def work(self) -> None:
        """Begin as many items as may run, those of the next chunks included."""
        world = self.world
        while self.alive and not self.terminated:
            self.take_in()
            if sum(len(run.rest) + len(run.going) for run in self.runs) >= world.scenario.width:
                return
            if self.is_spent(self.cut):
                return
            entry = self.intake.start()
            if entry is None:
                return
            chunk, payload = entry
            if chunk.grain:  # it came before it was known how many run here
                payload = [b"".join(chunk.grains)]
            self.look_at(chunk, payload)
            run = self.latest = _Run(chunk, self.member.welcome)
            self.runs.append(run)
            self.tasks += chunk.stop - chunk.start
            self.tell_width(run.welcome)
            self.pump()

    def tell_width(self, welcome: Any) -> None:
        if self.told != welcome.lane and self.control is not None:
            self.told = welcome.lane
            busy = any(run.welcome is not welcome for run in self.runs)
            self.control.send(0, coding.encode(wire.Wide(welcome.lane, 0, self.world.scenario.width, busy)))

    def pump(self) -> None:
        """Begin items in order as long as there is room."""
        for run in self.runs:
            while run.rest and sum(len(other.going) for other in self.runs) < self.world.scenario.width:
                self.begin(run, run.rest.pop(0))
        alone = self.runs[0].chunk if len(self.runs) == 1 else None
        self.start, self.stop = (alone.start, alone.stop) if alone is not None else (0, 0)

    def begin(self, run: _Run, item: int) -> None:
        run.going.append(item)
        seconds = self.world.service(item, item + 1) * self.slowness
        scenario = self.world.scenario
        fatal = not run.chunk.doom and item in (*scenario.poison, *scenario.overruns, *scenario.suicides)
        end = (lambda: self.ruin(item)) if fatal else (lambda: self.end(run, item, seconds))
        self.world.at(self.world.now + seconds, end, self)

    def ruin(self, item: int) -> None:
        """An item ends the process, or holds up the loop for so long that it is killed."""
        if not self.alive:
            return
        late, suicide = item in self.world.scenario.overruns, item in self.world.scenario.suicides
        if late:
            self.world.overran[item] = self.world.overran.get(item, 0) + 1
        known = item if late or (self.world.scenario.known and not suicide) else None
        self.world.crash(self, known, late, crashed=not (late or suicide))

    def end(self, run: _Run, item: int, seconds: float) -> None:
        if not self.alive:
            return
        run.going.remove(item)
        run.ended.append(item)
        self.world.ran(msgspec.structs.replace(run.chunk, start=item, stop=item + 1), item + 1)
        self.member.stir(self.now)
        whole = not (run.rest or run.going)
        if whole:
            self.runs.remove(run)
        if whole or self.world.chance(0.3):
            self.tell(run, seconds)
        self.pump()
        self.work()

    def tell(self, run: _Run, seconds: float) -> None:
        """Send what has ended, a part for each row of items next to each other; one ends behind a hit."""
        ended, run.ended = sorted(run.ended), []
        at = 0
        for n, item in enumerate(ended, 1):
            hit = item if item in self.world.scenario.hits else None
            if n == len(ended) or ended[n] != item + 1 or hit is not None:
                part = msgspec.structs.replace(run.chunk, start=ended[at], stop=item + 1)
                self.deliver(part, run.welcome, item + 1, hit, self.measured(seconds / self.world.scenario.width))
                at = n

    def cut(self) -> int:
        """Leave what has not been begun of the latest chunk, but for its first item."""
        run = self.latest
        if run is None:
            return 0
        first = run.rest.index(run.chunk.start) + 1 if run.chunk.start in run.rest else 0
        rest, run.rest = run.rest[first:], run.rest[:first]
        if not rest:
            return 0
        if not (run.rest or run.going):
            self.runs.remove(run)
            self.tell(run, 0.0)
        return rest[0]
