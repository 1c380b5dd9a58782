"""The ventilator's shell: shares what the source has among lanes, hears control messages. Decides nothing itself.

What to do is the director's and the ledger's to say; this turns messages and monitor events into their events, and
their actions into messages. One thread, inside a `Loop` that it may share with a sink of the same process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from zpipe.core import coding, wire
from zpipe.core.actions import Action, Admit, End, Fill, Inform, Lost, Reply, Report, Retire, Skip, Tell
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Schedule
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.lifecycle import Phase
from zpipe.core.policy import Policy
from zpipe.core.seat import Wants
from zpipe.core.spec import JobSpec
from zpipe.errors import SourceError, UsageError, WireError
from zpipe.input.sources import Source
from zpipe.net import endpoints
from zpipe.net.loop import Loop
from zpipe.net.security import Guard
from zpipe.net.versions import host_name
from zpipe.nodes.control import Control
from zpipe.nodes.courier import Courier
from zpipe.nodes.lanes import LANE_BITS, Change, Lanes
from zpipe.nodes.parties import LocalSink, Reader, Script, Tasks
from zpipe.nodes.sharing import Sharing
from zpipe.nodes.supply import Supply
from zpipe.running.allowed import implied

if TYPE_CHECKING:
    from zpipe.nodes.rota import Rota
    from zpipe.nodes.sifting import Plan, SiftedSupply

__all__ = ["Ventilator"]

BATCH = 256
"""Control messages handled before others get their turn."""


class Ventilator:
    """Runs one job. `spec.encoding` is the sink's to say and set before the first worker gets it.

    `say(text, error)` tells the person. `ended` holds how the job ended once it did. `guard` says who may connect; a
    `hint` is what the command lines of other nodes need besides the address. `reader` makes what reads by a schedule.
    """

    def __init__(
        self,
        loop: Loop,
        context: Any,
        source: Source,
        spec: JobSpec,
        policy: Policy,
        *,
        say: Callable[[str, bool], None],
        chunk: int | None = None,
        heartbeat: float = 10.0,
        lane_ports: Sequence[int] = (),
        tasks: Tasks | None = None,
        fingerprint: dict[str, str] | None = None,
        guard: Guard | None = None,
        hint: str = "",
        plan: Plan | None = None,
        reader: Callable[..., Reader] | None = None,
    ) -> None:
        self._loop, self._context, self._spec, self._tasks = loop, context, spec, tasks
        self._say, self._reader, self._heartbeat, self._guard, self._hint = say, reader, heartbeat, guard, hint
        allowed = implied(spec)
        self.allow = allowed.options() if allowed is not None else ""
        """What the command lines of workers need to allow."""
        chunker = Chunker(chunk, most=spec.max_tasks or None)
        self.ledger = Ledger(chunker, policy.max_crashes, speculate=policy.speculate)
        self.ledger.returns.limited = spec.limited
        base = int.from_bytes(os.urandom(4), "big") << LANE_BITS
        self.director = Director(os.urandom(8).hex(), policy, self.ledger, fingerprint=fingerprint, base=base)
        self.ended: End | None = None
        self.url = ""
        self._control = Control(loop, context, guard, self._on_control, heartbeat=heartbeat)
        self._sink: LocalSink | None = None
        self._lanes = self._make_lanes(lane_ports)
        self._sifted: SiftedSupply | None = None
        self._courier: Courier | None = None
        self._supply = self._make_supply(source, plan)
        life, lanes, supply = self.director.lifecycle, self._lanes, self._supply
        self._sharing = Sharing(self.ledger, life, lanes, supply, self._sifted, tasks, self._announce)
        self._began = time.monotonic()
        self._rota: Rota | None = None
        self._voided = False
        self.script: Script | None = None
        """What may want a schedule later on, to be set."""
        if policy.schedule is not None:
            self.follow(policy.schedule)

    # setting up

    def _make_lanes(self, ports: Sequence[int]) -> Lanes:
        return Lanes(
            self._loop,
            self._context,
            self._on_lane,
            self._task,
            self.ledger.on_refused,
            heartbeat=self._heartbeat,
            ports=ports,
            guard=self._guard,
        )

    def follow(self, schedule: Schedule) -> None:
        """From now on what goes next is chosen, by what items claim."""
        from zpipe.nodes.rota import Rota, SourceReader

        plan, tasks, supply = self.ledger.follow(schedule), self._tasks, self._supply
        sifted = self._sifted if self.script is not None else None
        if self.script is not None:
            reader = self.script.read_by(plan, self.ledger, supply.wait, self._loop.wake, self._on_void)
        else:
            reader = (self._reader or SourceReader)(plan, self.ledger, supply)
        setup = tasks is None or tasks.setup is not None
        self._rota = Rota(plan, self.ledger, self.director, self._lanes, reader, setup=setup, sifted=sifted)

    def _make_supply(self, source: Source, plan: Plan | None) -> Supply:
        kind: type[Supply] = Supply
        if plan is not None:
            kind = plan.kind
        made = kind(
            self._loop, source, self.ledger, more=self._on_more, failed=self._on_source_error, ended=self._exhausted
        )
        if plan is None:
            return made
        if TYPE_CHECKING:
            assert isinstance(made, SiftedSupply)
        self._sifted = made
        made.plan_with(plan, tasks=self._tasks, spec=self._job_spec, job=lambda: self.director.job, say=self._say)
        self.director.sieve = made.sieve
        return made

    def bind(self, url: str) -> str:
        """Bind the control socket; return the address workers may be given. Raises UsageError."""
        self._control.bind(url)
        self.url = endpoints.reachable(self.bound, host_name())
        wide = "" if endpoints.is_loopback(self.bound) else f" --bind tcp://0.0.0.0:{endpoints.RESULTS_PORT}"
        codec = f" --codec {self._spec.codec}" if self._spec.codec != "pickle" else ""
        self.director.sink.line = f"zpipe sink {self.url}{wide}{self._hint}{codec} --output FILE"
        return self.url

    def issued(self) -> int:
        """Return the number of items sent so far: nobody can have results of others."""
        return self.ledger.next

    @property
    def worker_line(self) -> str:
        """The command line that starts workers elsewhere."""
        return f"zpipe worker {self.url}{self._hint}{self.allow}"

    @property
    def bound(self) -> str:
        """The endpoint the control socket is bound at."""
        return self._control.endpoint

    def start(self, sink: LocalSink | None = None) -> None:
        """Begin, with a sink of this process if given."""
        self._sink = sink
        self._supply.start()
        if sink is not None:
            director = self.director
            wants = Wants(sink.endpoint, sink.encoding, sink.letters, sink.joblog)
            self._perform(director.on_local_sink(wants, sink.held()))
            sink.on_job(director.job, director.fingerprint)
        if self._supply.source.exhausted:
            self._supply.end()

    # events in

    def _on_control(self) -> bool:
        callers = self._control.callers
        for _ in range(BATCH):
            frames = callers.receive()
            if frames is None:
                return False
            identity = bytes(frames[0])
            if not self.director.gate.hears(identity):
                if not callers.parting:  # it may be the one that is about to be, and has not heard why
                    callers.cut_off()
                continue
            try:
                message, _ = coding.decode(frames[1:])
            except WireError as error:
                now = time.monotonic()
                callers.part(now)
                self._perform(self.director.gate.on_malformed(identity, str(error), now))
                continue
            self._perform(self.director.on_message(identity, message, time.monotonic()))
        return True

    def _on_lane(self, number: int, event: int) -> None:
        lane = self._lanes.open.get(number)
        change = lane.on_event(event) if lane is not None else None
        if change is Change.LINKED:
            self.director.on_linked(number)
            self._share([number])  # its Ready may have come first, and found nobody to send to
        elif change is Change.DOUBLED:
            self._perform(self.director.on_link_lost(number, "a second peer connected to its lane"))
        elif change is Change.LOST:
            self._perform(self.director.on_link_lost(number))

    def on_receipts(self, message: wire.Receipts) -> None:
        """The local sink has these."""
        self._perform(self.director.on_receipts(message, time.monotonic()))

    def on_finished(self, message: wire.Finished) -> None:
        """The local sink is done, or can't be."""
        self._perform(self.director.lifecycle.on_finished(message))

    def drain(self, reason: str, status: int) -> None:
        """Issue nothing more; end when what is in flight is done."""
        self._perform(self.director.lifecycle.on_drain(reason, status))

    def abort(self, reason: str, status: int) -> None:
        """End the job here."""
        self._perform(self.director.lifecycle.on_failed(reason, status))

    def desert(self) -> None:
        """End the job, whose only workers have ended."""
        self._perform(self.director.on_deserted())

    # time

    def deadline(self) -> float | None:
        """When `on_tick` is next due."""
        due = self.director.deadline()
        return self._control.callers.deadline(due if self._sifted is None else self._sifted.due(due))

    def on_tick(self, now: float) -> None:
        """Time passed."""
        self._control.callers.on_tick(now)
        self._perform(self.director.on_tick(now))
        self._sift()

    def on_wake(self) -> None:
        """The loop was woken: the source may have more, or have come to its end."""
        self._supply.on_wake()
        self._sift()

    def offer(self, done: int) -> bool:
        """Send a single item to a worker that has none, without looking further; False if that takes more thought.

        For when nothing else is under way: `on_wake` in fewer steps. The sink has the outcomes of `done` items.
        """
        chosen = self._rota is not None or (self.script is not None and self.script.schedule is not None)
        return not chosen and self._sharing.offer(done)

    # actions out

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Fill):
                self._share(action.lanes)
            elif isinstance(action, Reply):
                self._reply(action.identity, action.message)
            elif isinstance(action, Report):
                self._reply(action.identity, self.state())
            elif isinstance(action, Inform):
                assert self._sink is not None
                self._sink.on_copied(action.message.start, action.message.stop)
            elif isinstance(action, Admit):
                self._admit(action)
            elif isinstance(action, Retire):
                self._lanes.close(action.lane)
            elif isinstance(action, Skip):
                self._supply.skip()
            elif isinstance(action, Lost):
                again = f"; {action.requeued} of its chunks go to others" if action.requeued else ""
                self._say(f"lost {action.name}: {action.how}{again}", False)
            elif isinstance(action, Tell):
                self._say(action.text, action.error)
            elif isinstance(action, End):
                self._end(action)

    def _reply(self, identity: bytes, message: wire.Control) -> None:
        self._control.send(identity, message)

    def _admit(self, action: Admit) -> None:
        try:
            lane = self._lanes.bind(action.lane, self.bound)
        except UsageError as error:
            self._perform(self.director.on_unbound(action.lane, str(error)))
            return
        welcome = self.director.welcome(lane.number, endpoints.announce(lane.endpoint))
        self._reply(action.identity, msgspec.structs.replace(welcome, ticket=lane.ticket))

    def _end(self, end: End) -> None:
        self.ended = end
        self._lanes.close_all()

    # chunks

    def _on_more(self) -> None:
        self._sift()
        self._feed()

    def _sift(self) -> None:
        """Have set aside what need not be run, and told what is known; whoever has credit may have what is next."""
        supply, director = self._sifted, self.director
        if supply is None or self.ended is not None or director.lifecycle.paused or not director.sink.taken:
            return
        open_ = director.lifecycle.phase in (Phase.GATHERING, Phase.RUNNING)
        open_ = open_ and (self.script is None or self.script.schedule is None)  # else each is looked up in its turn
        room = self.ledger.wanted(supply.remaining(), supply.any) if open_ else 0
        if supply.sift(room, self._tell):
            self._feed()
        self._perform(director.on_released())
        if supply.source.exhausted:
            supply.end()

    def _tell(self, results: list[tuple[wire.Result, Sequence[wire.Buffer]]]) -> bool:
        """Send results that nobody ran for to the sink."""
        if self._sink is not None:
            self._sink.tell(results)
            return True
        self._announce()
        wants = self.director.sink.wants
        assert wants is not None
        if self._courier is None:
            keys = self._guard.keys if self._guard is not None else None
            self._courier = Courier(self._loop, self._context, keys, self._on_courier, heartbeat=self._heartbeat)
        return self._courier.bring(wants, results)

    def _on_courier(self) -> None:
        """There is a new connection to the sink: what went over the last one may be lost."""
        if self.director.sieve is not None:
            self.director.sieve.tell_again()
        self._sift()

    def _feed(self) -> None:
        """Share what the source has now among all lanes."""
        self._share(list(self.ledger.lanes))

    def _share(self, numbers: list[int]) -> None:
        """Share chunks among these lanes, or in a job with a schedule among all."""
        if self._rota is None and self.script is not None and self.script.schedule is not None:
            self.follow(self.script.schedule)
        if self._rota is not None:
            hungry = self._rota.share(time.monotonic())
            self._announce()
        else:
            hungry = self._sharing.share(numbers)
        if hungry and len(self.ledger.lanes) > 1:
            self._perform(self.director.on_hungry(time.monotonic()))
        if self._rota is not None:
            self._perform(self.director.on_pressed(time.monotonic()))
        # Last: a sink in this process may have all results already, and end the job, these lanes included.
        if self._voided and self._sink is not None:
            self._voided = False
            self._sink.settle()
        if self._supply.source.exhausted:
            self._supply.end()

    def _announce(self) -> None:
        """Tell a sink elsewhere how far has been issued; it takes no results of what lies behind."""
        if self._sink is None:
            self._perform(self.director.on_issuing())

    def forget(self, number: int) -> None:
        """No item is for this task any more: workers may let go of it."""
        self._lanes.forget(number)

    def _on_void(self, start: int, stop: int) -> None:
        """Nobody wants these any more: they count as done."""
        assert self._sink is not None
        self._voided = True
        self._sink.on_void(start, stop)
        if self.director.sieve is not None:
            self.director.sieve.on_done(start, stop)

    def _on_source_error(self, error: SourceError) -> None:
        self.drain(f"the source failed: {error}", error.exit_status)

    def _exhausted(self) -> None:
        self._perform(self.director.lifecycle.on_exhausted())
        if self._sink is not None and self.ended is None:  # else the source is not the job's: nor is its end
            self._sink.on_total(self.ledger.next)

    def _task(self, number: int) -> wire.Task:
        """The message that introduces a task to a worker."""
        return wire.Task(self.director.job, self._job_spec(number), number)

    def _job_spec(self, number: int) -> JobSpec:
        if self._tasks is not None:
            return self._tasks.spec(number)
        wants = self.director.sink.wants
        if wants is not None:
            self._spec = msgspec.structs.replace(
                self._spec, encoding=wants.encoding, letters=wants.letters, joblog=wants.joblog, keep=self._keep()
            )
        return self._spec

    def _keep(self) -> int:
        if self._sifted is None:
            return 0
        return self._sifted.keep(self._spec, local=self._sink is not None)

    # what a person may want to know

    def state(self) -> wire.State:
        """Where the job is, for whoever asks for it from outside."""
        director, ledger = self.director, self.ledger
        total, exact = self.total()
        return wire.State(
            director.job,
            director.lifecycle.phase.value,
            ledger.account.done,
            ledger.account.failed,
            total,
            exact,
            director.workers,
            ledger.chunks,
            time.monotonic() - self._began,
            director.lifecycle.paused,
            director.lifecycle.draining,
            self.waiting(),
            *self.spared,
        )

    @property
    def spared(self) -> tuple[int, int]:
        """How many items had their outcome from the cache, and how many from another item."""
        sieve = self.director.sieve
        return (sieve.hits, sieve.repeats) if sieve is not None else (0, 0)

    def waiting(self) -> str:
        """What the job waits for, as a sentence, empty when it is at work."""
        if self.director.lifecycle.paused:
            return self.director.waiting(str(os.getpid()) if self.url.startswith("ipc://") else self.url)
        if self._supply.waiting and not self.ledger.in_flight and self.director.lifecycle.phase is Phase.RUNNING:
            return (
                "waiting for the source: no items have come yet" if not self.ledger.next else "waiting for more items"
            )
        return self.director.waiting(self.url + self._hint + self.allow)

    def total(self) -> tuple[int | None, bool]:
        """The number of items, or an estimate of it, and whether it is exact."""
        return self._supply.total()

    def close(self) -> None:
        """Let the last messages out and close every socket."""
        self._supply.close()
        self._lanes.close_all()
        if self._courier is not None:
            self._courier.close()
        self._control.close()
