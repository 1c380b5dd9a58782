"""Where a job is between its first node and its end, and what brings it there. Must not know how nodes join or go.

It gathers its nodes, runs, waits for the sink to finish, and is over: when all has its receipt, when what was in flight
has been drained, when it has failed, or when another ventilator is to do it.
"""

from __future__ import annotations

from enum import Enum

from zpipe.core import wire
from zpipe.core.actions import Action, End, Fill, Reply
from zpipe.core.ledger import Ledger
from zpipe.core.policy import Halt
from zpipe.core.roster import Roster
from zpipe.core.seat import Seat

__all__ = ["INTERRUPTED", "Lifecycle", "Phase"]

INTERRUPTED = 130
"""Exit status of a job that a person has ended."""


class Phase(Enum):
    """Where the job is: gathering its nodes, running, waiting for the sink to finish, over."""

    GATHERING = "gathering"
    RUNNING = "running"
    CLOSING = "closing"
    OVER = "over"


class Lifecycle:
    """The phases of the job of a `ledger`, with its `sink` and its nodes, which failed items may `halt`."""

    def __init__(self, ledger: Ledger, sink: Seat, roster: Roster, halt: Halt | None = None) -> None:
        self.phase = Phase.GATHERING
        self.paused = False
        """Nothing is sent; what workers have they finish."""
        self.finished: wire.Finished | None = None
        """What the sink said at its end."""
        self.bye: wire.Bye | None = wire.Bye()
        """What nodes are told once the job is over; None: they wait for the next ventilator."""
        self._ledger, self._sink, self._roster, self._halt = ledger, sink, roster, halt
        self._drain: tuple[str, int] | None = None
        self._before = 0, 0

    @property
    def may_issue(self) -> bool:
        """Whether chunks may go out."""
        return self.phase is Phase.RUNNING and not self.paused

    @property
    def begun(self) -> bool:
        """Whether chunks went out."""
        return self.phase is not Phase.GATHERING

    @property
    def over(self) -> bool:
        """Whether nothing more is to be done."""
        return self.phase is Phase.OVER

    @property
    def draining(self) -> bool:
        """Whether the job ends once what is in flight is done."""
        return self._drain is not None

    # on its way

    def on_held(self, failed: int, done: int) -> None:
        """So many had failed, and were done, before this process came: none of them is a reason to halt."""
        self._before = failed, done

    def begin(self) -> list[Action]:
        """Enough workers are here."""
        self.phase = Phase.RUNNING
        return self.refill()

    def unpause(self) -> list[Action]:
        """Go on with what was paused."""
        self.paused = False
        return self.refill()

    def refill(self) -> list[Action]:
        """Chunks wait to be sent again: whoever has credit may have them."""
        lanes = [number for number, lane in self._ledger.lanes.items() if lane.credit > 0]
        return [Fill(lanes)] if lanes else []

    def on_receipts(self) -> list[Action]:
        """The ledger has had receipts: too many items may have failed, or all may be done."""
        return self._halted() + self.closing()

    def _halted(self) -> list[Action]:
        halt, account = self._halt, self._ledger.account
        failed, done = account.failed - self._before[0], account.done - self._before[1]
        if halt is None or self._drain is not None or not halt.reached(failed, done):
            return []
        why = f"halted: {failed:,} of {done:,} items have failed"
        return self.on_failed(why) if halt.now else self.on_drain(why, 1)

    def on_exhausted(self) -> list[Action]:
        """The source has ended: the total is known."""
        self._ledger.on_exhausted()
        return self.shrunk() or self.total() + self.closing()

    def shrunk(self) -> list[Action]:
        """Give way if the source has ended ahead of items that are done."""
        items, beyond = self._ledger.next, self._ledger.account.ahead.count
        if not self._ledger.exhausted or not beyond:
            return []
        return self.give_way(
            f"the source has {items:,} items now, and {beyond:,} behind them are done already: it is not the one the "
            "job began with. Give it the same items in the same order, or start the job anew",
            2,
        )

    def total(self) -> list[Action]:
        """Tell the sink how many items there are, if that is known."""
        return self._sink.tell(wire.Total(self._sink.job, self._ledger.next)) if self._ledger.exhausted else []

    # to its end

    def on_drain(self, error: str, status: int) -> list[Action]:
        """End the job once what is in flight is done, with this error; nothing new is issued."""
        if self.over or self._drain is not None:
            return []
        self._drain = (error, status)
        self._ledger.close()
        # What is in flight may wait for another worker.
        return (self.unpause() if self.paused else []) + self.closing()

    def closing(self) -> list[Action]:
        """See whether there is nothing more to send."""
        if self.phase not in (Phase.GATHERING, Phase.RUNNING):
            return []
        if self._ledger.finished:
            self.phase = Phase.CLOSING
        elif self._drain is not None and (not self._ledger.in_flight or not self._ledger.lanes):
            return self.on_failed(*self._drain)
        return []

    def on_finished(self, message: wire.Finished) -> list[Action]:
        """The sink has written everything, or can't."""
        if self.over:
            return []
        self.finished = message
        if message.error:
            return self.on_failed(message.error)
        return self._end("")

    def on_failed(self, error: str, status: int = 1) -> list[Action]:
        """The job can't go on: end it here, with what is done kept."""
        if self.over:
            return []
        stop = self._sink.tell(wire.Stop(self._sink.job, error)) if self.finished is None else []
        return [*stop, *self._end(error, status)]

    def give_way(self, error: str, status: int) -> list[Action]:
        """End here, and leave the nodes to wait for the next ventilator."""
        self.bye = None
        self.phase = Phase.OVER
        return [End(error, status)]

    def _end(self, error: str, status: int = 1) -> list[Action]:
        self.phase = Phase.OVER
        self.bye = bye = wire.Bye(error)
        actions: list[Action] = [Reply(node.identity, bye) for node in self._roster]
        actions += [Reply(identity, bye) for identity in self._roster.release()]
        return [*actions, End(error, status if error else 0)]
