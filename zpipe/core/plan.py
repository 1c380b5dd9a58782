"""A ledger with a schedule: how far it reads ahead, what it has parked, what of that is not wanted any more.

What the source gives is issued when it is parked, and has its index from then on; what goes next is the agenda's to
say. Must not know of sockets, hosts, clocks or what items are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from zpipe.core.agenda import AHEAD, Agenda
from zpipe.core.chunk import ASIDE, Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Claim, Schedule
from zpipe.core.pending import Pending
from zpipe.core.spec import ItemKind
from zpipe.core.suspects import Suspects
from zpipe.core.wire import Buffer

if TYPE_CHECKING:
    from zpipe.core.ledger import Ledger

__all__ = ["Plan"]

AHEAD_BYTES = 64 << 20
"""Bytes that parked items take at most, by what items have weighed so far; one is always read."""

TRICKLE = 8
"""Reading goes on once there is room for such a part of what may be parked."""


class Plan:
    """The schedule of a ledger, and its agenda."""

    def __init__(
        self, schedule: Schedule, ledger: Ledger, outstanding: dict[int, Chunk], pending: Pending, suspects: Suspects
    ) -> None:
        self.schedule = schedule
        self.dropped = 0
        """Items that were parked when the job was drained, and are not run."""
        self._ledger, self._outstanding, self._suspects = ledger, outstanding, suspects
        self._items = self._bytes = 0
        self.agenda = Agenda(schedule, outstanding, ledger.lanes, pending.add)
        pending.follow(self.agenda)
        suspects.may_go = self._may_go

    # what is read

    def room(self, most: int = AHEAD) -> int:
        """Return how many new items may be parked now, for no more than `most` to be there."""
        ledger = self._ledger
        if ledger.closed or ledger.exhausted:
            return 0
        room = max(0, self._spare(self._most(most)))
        beyond = ledger.account.ahead.room(ledger.next)
        if beyond is not None:
            room = min(room, beyond)
        limit = ledger.account.limit
        return room if limit is None else max(0, min(room, limit - ledger.next))

    @property
    def trickles(self) -> bool:
        """Whether it is too early to read on: a little later more items come together."""
        most = self._most(AHEAD)
        return bool(self.agenda.parked) and TRICKLE * self._spare(most) < most

    def _most(self, most: int) -> int:
        return min(most, max(1, AHEAD_BYTES * self._items // self._bytes)) if self._bytes else most

    def _spare(self, most: int) -> int:
        """Return how many of `most` items are not there, those aside that lanes hold."""
        ledger = self._ledger
        undone = self._undone()
        if TRICKLE * (most - undone) < most:
            undone -= sum(len(chunk) for lane in ledger.lanes.values() for chunk in lane.held.values())
        return most - undone

    def _undone(self) -> int:
        """Return how many items have been read that are not done."""
        account = self._ledger.account
        return self._ledger.next + account.ahead.count - account.done

    def admit(
        self,
        count: int,
        items: ItemKind,
        payload: Sequence[Buffer],
        now: float,
        claim: Claim,
        size: int,
        task: int = 0,
        chunker: Chunker | None = None,
    ) -> Chunk:
        """Park the next `count` items, of `size` bytes, which have one claim."""
        ledger = self._ledger
        chunk = Chunk(ledger.next, ledger.next + count, items, payload, task, chunker or ledger.chunker)
        self.endow(chunk, claim, now)
        ledger.next = chunk.stop
        self._items, self._bytes = self._items + count, self._bytes + size
        self._outstanding[chunk.start] = chunk
        self.agenda.put(chunk)
        return chunk

    def endow(self, chunk: Chunk, claim: Claim, now: float) -> None:
        """Have a chunk that was read `now` claim this."""
        chunk.claim, chunk.since = claim, now
        # A second run would overdraw, be beside the first of its key, or on a worker that lacks what it takes.
        chunk.copied = self.schedule.limits or claim.key is not None or bool(claim.requires)

    # what is given out

    def survey(self, left: int | None) -> None:
        """Have the agenda know what is under way, and that the source has so many items `left`, if that is known.

        To be called before lanes are filled: what happened since the last time may have made room.
        """
        agenda, ledger = self.agenda, self._ledger
        agenda.left = None if left is None else left + self._undone()
        if ledger.full or agenda.wants_to_know:
            held = chain.from_iterable(lane.held.values() for lane in ledger.lanes.values())
            agenda.on_flight(held, [*ledger.retries.chunks.values(), *self._suspects.resting()])

    def _may_go(self, suspect: Chunk) -> bool:
        """Whether it is a suspect's turn among the items of its key: there are few of these, so all are looked at."""
        key = suspect.claim.key if suspect.claim is not None else None
        return key is None or not any(
            chunk.claim is not None
            and chunk.claim.key == key
            and (chunk.late or not chunk.doom)
            and (chunk.lane or chunk.start < suspect.start)
            for chunk in chain(self._outstanding.values(), self._ledger.retries.chunks.values())
            if chunk is not suspect
        )

    def on_void(self, chunk: Chunk) -> None:
        """There is nothing to run in a chunk that was just given to a lane: nobody wants it any more."""
        self._take_back(chunk)
        del self._outstanding[chunk.start]
        self._ledger.account.done += len(chunk)

    def set_aside(self, chunk: Chunk, payload: Sequence[Buffer]) -> None:
        """A chunk that was just given to a lane need not be run, as it seems; else it has this payload."""
        self._take_back(chunk)
        chunk.attempt -= 1
        chunk.lane, chunk.payload, chunk.skip = ASIDE, payload, 0

    def _take_back(self, chunk: Chunk) -> None:
        lane = self._ledger.lanes[chunk.lane]
        lane.sent -= 1
        lane.release(chunk)
        lane.solo = False
        self.agenda.on_unsent(chunk)

    def split(self, chunk: Chunk, at: int) -> None:
        """Of a chunk that was just given to a lane only what is before the item `at` goes; the rest is parked again."""
        rest = chunk.cut(at)
        rest.attempt -= 1
        self.agenda.on_unsent(rest)
        self._ledger.lanes[chunk.lane].weigh(chunk)
        self._outstanding[rest.start] = rest
        self.agenda.put(rest)

    def lapse(self, chunk: Chunk, start: int, stop: int) -> bool:
        """Nobody wants these items of a parked chunk any more; return whether they are gone.

        They are not if they were sent before, or are about to be told of.
        """
        if not self.agenda.is_parked(chunk) or chunk.attempt or chunk.tries or chunk.doom:
            return False
        gone = chunk
        if start > chunk.start:
            gone = chunk.cut(start)
        else:
            del self._outstanding[chunk.start]
        rest = gone.cut(stop) if stop < gone.stop else None
        self._ledger.account.done += len(gone)
        if rest is not None:
            self._outstanding[rest.start] = rest
            self.agenda.put(rest)
        if gone is chunk:
            self.agenda.pass_over(chunk)
        return True

    def overtaken(self, now: float) -> list[int]:
        """Return the lanes to be recalled now, for what is ready to go ahead of what waits there."""
        lane = self.agenda.overtaken(now)
        if lane is None:
            return []
        lane.recall(now)
        return [lane.number]

    # the end

    def close(self) -> None:
        """Let go of what was parked and never sent."""
        for chunk in list(self.agenda.parked.values()):
            if self._outstanding.get(chunk.start) is chunk and not chunk.attempt and not chunk.tries:
                del self._outstanding[chunk.start]
                self.dropped += len(chunk) - (chunk.got.count if chunk.got is not None else 0)
