"""A worker of a world: the real intake, and tasks that only take time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from zpipe.core import coding, wire
from zpipe.core.grains import grains_of
from zpipe.core.intake import Intake
from zpipe.core.member import Close

from .network import Connection
from .node import VERSIONS, Node
from .planning import labels_of

if TYPE_CHECKING:
    from .engine import World

__all__ = ["Worker"]


class Worker(Node):
    """A worker process. Control messages are heard while a chunk runs, unless its code holds the interpreter."""

    links = ("lane", "results")

    def __init__(
        self,
        world: World,
        slot: int,
        previous: int = 0,
        crashed: bool = False,
        item: int | None = None,
        late: bool = False,
    ) -> None:
        fate = wire.Fate(code=-6 if crashed else wire.KILLED)
        self.slot, self.past = slot, (previous, "killed", crashed, item, late, fate)
        self.pid = world.serial()
        self.who, self.label = slot, f"worker {self.pid} in slot {slot}"
        super().__init__(world)
        self.intake = Intake(self.member)
        self.inbox: list[tuple[Connection, list[bytes]]] = []
        self.later: list[Callable[[], None]] = []
        self.busy = False
        self.tasks = 0
        self.deaf = False
        self.start = self.stop = 0
        self.row: list[tuple[wire.Chunk, Any]] = []
        """What has not been begun of the row that runs."""
        self.row_of: Any = None
        """By which lane that came, or the chunk that runs."""
        self.gathered: list[wire.Result] = []
        """What is to go home in one piece, of what has been run of it."""
        self.terminated = False
        self.slowness = world.random.choice((0.1, 1.0, 8.0)) if world.scenario.slow else 1.0
        self.slowness *= 20.0 if slot in world.scenario.laggards else 1.0

    def join(self, turn: int) -> wire.Control:
        return wire.Join(
            VERSIONS, self.session, turn, "host", self.pid, self.slot, *self.past, labels=labels_of(self.slot)
        )

    def connect(self, welcome: wire.Welcome) -> None:
        super().connect(welcome)
        if self.world.sink.alive:
            self.attach("results", self.world.sink)
        else:
            self.world.soon(lambda: self.perform(self.member.on_link_down("results", self.now)), self)

    def perform(self, actions: list[Any]) -> None:
        if any(isinstance(action, Close) for action in actions):
            self.rest()  # it is another's now
        super().perform(self.intake.after(actions))
        for _, message in self.intake.late():
            self.world.late += 1
            self.open["results"].send(0, coding.encode(message))

    def receive(self, connection: Connection, frames: list[bytes]) -> None:
        if not self.alive or (connection.kind == "lane" and connection is not self.open.get("lane")):
            return
        if connection.kind == "lane":
            self.inbox.append((connection, frames))
        elif self.busy and self.deaf:
            self.later.append(lambda: self.hear(frames))
        else:
            self.hear(frames)
        self.work()

    def broken(self, connection: Connection) -> None:
        """Monitors are looked at between chunks."""
        if self.busy:
            self.later.append(lambda: Node.broken(self, connection))
        else:
            Node.broken(self, connection)

    def hear(self, frames: list[bytes]) -> None:
        message, _ = coding.decode(frames)
        if isinstance(message, wire.Recall):
            self.take_in()
            self.perform(self.intake.on_recall(message, self.cut, self.rest))
            return
        self.perform(self.intake.on_message(message, self.now))

    def rest(self) -> int:
        """Leave what has not been begun of the row under way."""
        row, self.row = self.row, []
        return row[0][0].start if row else 0

    def cut(self) -> int:
        """Leave what has not been started of the chunk under way."""
        rest = self.rest()
        if not self.busy or self.stop - self.start < 2 or self.world.chance(0.2):
            return rest
        self.stop = self.world.random.randint(self.start + 1, self.stop - 1)
        return self.stop

    def take_in(self) -> None:
        """Take what has come down the lane, without running it."""
        inbox, self.inbox = self.inbox, []
        for connection, frames in inbox:
            message, payload = coding.decode(frames)
            if connection is not self.open.get("lane"):
                continue
            if isinstance(message, wire.Chunk):
                self.intake.on_chunks([(message, payload)])
            elif isinstance(message, wire.Chunks):
                self.intake.on_chunks([(chunk, [chunk.body]) for chunk in message.chunks])  # a row has its own

    def is_spent(self, cut: Callable[[], int]) -> bool:
        """Leave to be replaced by a fresh process, if it has run enough and there is more to do."""
        if not 0 < self.world.scenario.recycle <= self.tasks or not self.intake.waiting:
            return False
        self.terminated = True
        self.perform(self.intake.on_terminate(self.now, cut, replaced=True))
        self.world.soon(lambda: self.world.restart(self))
        return True

    def work(self) -> None:
        """Start the next chunk, if there is one and none is running."""
        if not self.alive or self.busy or self.terminated:
            return
        self.take_in()
        if self.gathered and not self.row:
            self.bring(self.together(), self.row_of)
        if self.is_spent(self.rest):
            return
        if not self.row:
            self.row_of = self.member.welcome
        entry = self.row.pop(0) if self.row else self.intake.start()
        if entry is None:
            return
        chunk, payload = entry
        if chunk.grain:
            self.row = [
                (msgspec.structs.replace(chunk, start=start, stop=stop, skip=skip, grain=0, grains=[]), [body])
                for start, stop, skip, body in grains_of(chunk)
            ]
            chunk, payload = self.row.pop(0)
        self.look_at(chunk, payload)
        self.busy, self.deaf = True, self.world.chance(self.world.scenario.deaf)
        self.start, self.stop = chunk.start, chunk.stop
        welcome = self.row_of
        seconds = self.world.service(chunk.start, chunk.stop) * self.slowness
        scenario = self.world.scenario
        if not chunk.doom:
            deadly = (*scenario.poison, *scenario.overruns, *scenario.suicides)
            fatal = [i for i in deadly if chunk.start <= i < chunk.stop]
            if fatal:
                self.fate(min(fatal), chunk, welcome, seconds)
                return
        self.world.at(self.world.now + seconds, lambda: self.ran(chunk, welcome, self.measured(seconds)), self)

    def look_at(self, chunk: wire.Chunk, payload: Any) -> None:
        """Assert that a chunk about to be run is one, and note what it says of its past."""
        size = chunk.stop - chunk.start
        inside = bytes(payload[0])[2 * chunk.skip : 2 * (chunk.skip + size)]
        assert inside == self.world.payload(chunk.start, size), "the items are not those of the range"
        if chunk.tries:
            failed = min(self.world.failed.get(index, 0) for index in range(chunk.start, chunk.stop))
            assert chunk.tries <= failed, f"[{chunk.start}, {chunk.stop}) is charged {chunk.tries} tries, not {failed}"
        if chunk.doom:
            assert size == 1 or chunk.expired, "only an item that is alone may be given up"
            if chunk.expired:
                self.world.expired += 1
                assert chunk.start not in self.world.failed
            elif not chunk.late:
                self.world.doomed.append(chunk.start)
            elif chunk.tries == 2:
                self.world.timed_out.append(chunk.start)

    def fate(self, item: int, chunk: wire.Chunk, welcome: Any, seconds: float) -> None:
        """What is run ends this process, unless it is given back: it crashes, overruns, or kills itself."""
        world = self.world
        late, suicide = item in world.scenario.overruns, item in world.scenario.suicides

        def end() -> None:
            if item >= self.stop:
                self.ran(chunk, welcome, self.measured(seconds))
                return
            if self.alive and late:
                world.overran[item] = world.overran.get(item, 0) + 1
            known = item if late or (world.scenario.known and not suicide) else None
            world.crash(self, known, late, crashed=not (late or suicide))

        world.at(world.now + seconds, end)

    def ran(self, chunk: wire.Chunk, welcome: Any, seconds: float) -> None:
        if not self.alive:
            return
        self.busy = False
        self.world.ran(chunk, self.stop)
        self.tasks += self.stop - chunk.start
        hit = next((h for h in self.world.scenario.hits if chunk.start <= h < self.stop), None)
        stop = self.stop if hit is None else hit + 1
        self.deliver(chunk, welcome, stop, hit, seconds)
        self.member.stir(self.now)
        if self.terminated:
            self.perform(self.intake.on_terminate(self.now, self.rest))
        later, self.later = self.later, []
        for action in later:
            if self.alive:
                action()
        self.work()

    def deliver(self, chunk: wire.Chunk, welcome: Any, stop: int, hit: int | None, seconds: float) -> None:
        """Send what became of a chunk's items, or keep it: flaky ones fail twice and are to be tried again."""
        job, lane = welcome.job, welcome.lane
        failing = self.world.scenario.flaky if not chunk.late else (chunk.start,)
        flaky = [i for i in failing if chunk.start <= i < stop and i != hit and chunk.tries < 2]
        for index in flaky:
            self.world.failed[index] = self.world.failed.get(index, 0) + 1
        sent, at = [], chunk.start
        for index in [*flaky, stop]:
            if index > at:
                body = b"v" * (index - at)
                mine = hit if hit is not None and at <= hit < index else None
                lost = self.world.misfortunes(at, index)
                kept = self.world.kept(at, index, lost)
                made = wire.Result(job, lane, at, index, chunk.attempt, seconds, lost, hit=mine, body=body, kept=kept)
                sent.append(made)
            if index < stop:
                after = self.world.random.random() * 3
                sent.append(wire.Result(job, lane, index, index + 1, chunk.attempt, 0.0, again=after, body=b""))
            at = index + 1
        if self.world.scenario.rows:
            sent = self.gather(sent, last=not self.row)
            if not sent:
                return
        messages: list[Any] = [wire.Results(sent)] if self.world.chance(0.3) else sent
        if self.world.chance(self.world.scenario.forged):
            messages.append(self.world.forgery(job, lane))
        self.bring(messages, welcome)

    def bring(self, messages: list[Any], welcome: Any) -> None:
        """Send results that came by the lane of this welcome, or keep them."""
        job, results = welcome.job, self.open.get("results")
        for message in messages:
            refused = results is None or (not results.alive and self.world.chance(0.7))
            if refused or self.member.welcome is not welcome:
                self.intake.keep(job, message, 1)
                continue
            for _ in range(2 if self.world.chance(self.world.scenario.doubled) else 1):
                results.send(0, coding.encode(message))

    def gather(self, made: list[wire.Result], *, last: bool) -> list[wire.Result]:
        """Return what is to be sent now of a row's results: those of whole chunks side by side are one."""
        size, found = self.world.scenario.chunk, []
        for result in made:
            plain = not (result.failures or result.kept) and result.hit is None and result.again is None
            if plain and size and result.stop - result.start == size:
                before = self.gathered[-1] if self.gathered else result
                if before is not result and (before.stop, before.lane, before.attempt, before.job) != (
                    (result.start, result.lane, result.attempt, result.job)
                ):
                    found += self.together()
                self.gathered.append(result)
            else:
                found += [*self.together(), result]
        return [*found, *self.together()] if last or self.world.chance(0.4) else found

    def together(self) -> list[wire.Result]:
        """What has been gathered, as one."""
        made, self.gathered = self.gathered, []
        if len(made) < 2:
            return made
        first, bodies = made[0], [bytes(result.body) for result in made if result.body is not None]
        seconds = sum(result.seconds for result in made)
        return [msgspec.structs.replace(first, stop=made[-1].stop, seconds=seconds, body=None, grains=bodies)]

    def terminate(self) -> None:
        self.terminated = True
        if self.alive and not (self.busy and self.deaf):
            self.perform(self.intake.on_terminate(self.now, self.cut))

    def measured(self, seconds: float) -> float:
        """How long that was by its clock, which may be set meanwhile."""
        if self.world.scenario.clocks and self.world.chance(0.1):
            return self.world.random.choice((0.0, -seconds, 1e9, float("nan"), float("inf"), 1e308, 5e-324))
        return seconds * self.clock.rate

    def check(self) -> None:
        self.intake.check()
