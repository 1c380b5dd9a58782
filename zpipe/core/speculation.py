"""Which slow chunks are also sent to an idle worker, and what becomes of the two runs. Knows lanes, not receipts.

Near the end of a job a few slow machines, or unlucky runs, hold up all of it: what runs long is run a second time where
there is nothing else to do, and the first result wins (backup tasks: Dean and Ghemawat, MapReduce, OSDI 2004). What is
copied is what is likely to end last, if it has run clearly longer than is usual, and never to a slow worker (LATE:
Zaharia et al., Improving MapReduce Performance in Heterogeneous Environments, OSDI 2008). LATE estimates the time left
from a task's progress, which is not known of a chunk; where times have a heavy tail, what has run longest has the
longest still to go, so that is taken for it.

A lane runs at most one thing that is not its own, its `spare`: the copy of another lane's chunk, or a run that has
lost. Until the word of its last item comes the lane gets nothing else, since what it waits for may take long. A copy
that fails or dies is charged to nobody. If it is the first run that does, the copy takes its place.
"""

from __future__ import annotations

from math import inf

from zpipe.core.chunk import Chunk
from zpipe.core.lane import Lane
from zpipe.core.ranges import RangeSet
from zpipe.core.wire import Receipt

__all__ = ["Speculation"]

SLOW = 2.0
"""A chunk is slow once it has run this many times what one of so many items usually takes."""

LEAST = 0.1
"""Seconds a chunk has run at least before it is copied: what is quicker is not worth it."""

ANSWER = 0.5
"""Seconds after which a worker that was asked for its items, and has not answered, is taken not to hear."""

SHARE = 4
"""One copy for so many workers may run at a time, and one in any case. (LATE has one for ten slots, which others' jobs
could use; these have nothing to do.)"""


class Speculation:
    """The copies of a ledger's `outstanding` chunks on its `lanes`; none is made unless `wanted`."""

    def __init__(self, outstanding: dict[int, Chunk], lanes: dict[int, Lane], *, wanted: bool = False) -> None:
        self.wanted = wanted
        self.copies = 0
        """How many were sent."""
        self.won = 0
        """How many of them were done before the first run."""
        self.look = inf
        """When `plan` is next worth asking."""
        self._outstanding = outstanding
        self._lanes = lanes
        self.planned: dict[int, Chunk] = {}
        """The lanes that are to be given a copy now, and of what."""
        self._losers: list[int] = []

    # which

    def plan(self, now: float) -> dict[int, Chunk]:
        """Nothing is pending: return idle lanes, and the chunk each is to have a copy of; `take` gives it to them."""
        self.look = inf
        idle = self._idle(now)
        slow = self._slow(now) if idle else []
        room = max(1, len(self._lanes) // SHARE) - len(self.doubles()) - len(self.planned)
        planned = dict(zip(idle, slow[: max(0, room)], strict=False))
        self.planned.update(planned)
        return planned

    def _idle(self, now: float) -> list[int]:
        """The lanes without anything to do, the quickest first, those left out that are slow themselves."""
        known = [lane.typical for lane in self._lanes.values() if lane.typical]
        most = SLOW * _median(known) if known else inf
        idle = [
            lane
            for lane in self._lanes.values()
            if not lane.busy and not lane.leaving and lane.typical <= most and lane.number not in self.planned
        ]
        numbers = [lane.number for lane in sorted(idle, key=lambda lane: lane.typical)]
        # As many are about to get what others have been asked for.
        return numbers[sum(lane.recalled and now < lane.asked + ANSWER for lane in self._lanes.values()) :]

    def _slow(self, now: float) -> list[Chunk]:
        """The chunks worth a copy, those that are likely to end last first. Notes when there may be more."""
        planned = {chunk.start for chunk in self.planned.values()}
        slow = []
        for lane in self._lanes.values():
            chunk = lane.running
            if chunk is None or chunk.copied or chunk.crashes or chunk.doom or lane.solo or chunk.start in planned:
                continue
            if not chunk.chunker.known or not (len(chunk) == 1 or lane.shared or lane.recalled):
                continue  # its items are to be had for the asking
            due = lane.since + max(LEAST, SLOW * chunk.chunker.cost(len(chunk)))
            if lane.recalled:
                due = max(due, lane.asked + ANSWER)
            if due <= now:
                slow.append((lane.since, chunk.start, chunk))
            else:
                self.look = min(self.look, due)
        return [chunk for _, _, chunk in sorted(slow)]

    def take(self, lane: Lane, now: float) -> Chunk | None:
        """Return the copy that is to go down this lane now, if any: it has it."""
        chunk = self.planned.pop(lane.number, None)
        if chunk is None or lane.busy or chunk.copied or self._outstanding.get(chunk.start) is not chunk:
            return None
        if chunk.lane in (0, lane.number):
            return None
        copy = chunk.part(chunk.start, chunk.stop)
        copy.lane, copy.copied = lane.number, True
        chunk.twin, chunk.copied = lane.number, True
        lane.spare, lane.since = copy, now
        lane.sent += 1
        copy.order = lane.sent
        self.copies += 1
        return copy

    # what becomes of them

    def original(self, lane: Lane) -> Chunk | None:
        """Return the chunk a lane runs a copy of, unless that is done."""
        chunk = self._outstanding.get(lane.spare.start) if lane.spare is not None else None
        return chunk if chunk is not None and chunk.twin == lane.number else None

    def doubles(self) -> list[Chunk]:
        """The chunks of which a copy runs."""
        return [chunk for lane in self._lanes.values() if (chunk := self.original(lane)) is not None]

    def end(self, lane: Lane, *, begun: bool = True) -> None:
        """What this lane runs beside its own is over, or was never begun: then there may be another copy."""
        chunk = self.original(lane)
        lane.spare = None
        if chunk is not None:
            chunk.twin, chunk.copied = 0, begun
            self.copies -= not begun

    def on_lost(self, lane: Lane) -> None:
        """The worker of a lane is gone."""
        self.planned.pop(lane.number, None)
        self.end(lane)

    def promote(self, chunk: Chunk) -> list[tuple[Receipt, float]]:
        """The first run of a chunk came to nothing: its copy takes its place.

        Return what was said of items that failed in the copy, and when: nobody else runs them now.
        """
        lane = self._lanes[chunk.twin]
        copy, lane.spare, chunk.twin = lane.spare, None, 0
        assert copy is not None
        chunk.attempt = copy.attempt
        lane.adopt(chunk, copy.order)
        return copy.words or []

    def on_settled(self, chunk: Chunk, sender: int) -> Lane | None:
        """A chunk that has a copy is done, by the word of `sender`; return its lane if it is free now.

        The run that has lost is the spare of its lane. What it has not begun of it, it may leave.
        """
        own, twin = self._lanes.get(chunk.lane), self._lanes[chunk.twin]
        chunk.twin = 0
        if sender == twin.number:
            self.won += 1
            twin.spare = None
        if own is not None and sender != own.number:
            own.spare = chunk
        for lane in (own, twin):
            if lane is not None and lane.spare is not None and (len(lane.spare) > 1 or lane.held):
                self._losers.append(lane.number)
        return self._lanes.get(sender)

    def on_again(self, receipt: Receipt, now: float) -> Lane | None:
        """Items failed on a lane's spare. If that is a copy the first run may still do them, and it is noted if not."""
        lane = self._lanes[receipt.lane]
        copy = lane.spare
        if copy is not None and copy.attempt == receipt.attempt and self.original(lane) is not None:
            copy.words = [*(copy.words or ()), (receipt, now)]
        return self.on_word(receipt)

    def on_word(self, receipt: Receipt) -> Lane | None:
        """A lane was heard of: return it if it had something to run that was not its own, and this is the end of it."""
        lane = self._lanes.get(receipt.lane)
        if lane is None or lane.spare is None or not lane.spare.start <= receipt.start < lane.spare.stop:
            return None
        if receipt.stop < lane.spare.stop and not receipt.void:
            return None
        self.end(lane)
        return lane

    def on_known(self, done: RangeSet) -> None:
        """The words of what is done were lost."""
        for lane in self._lanes.values():
            if lane.spare is not None and done.covers(lane.spare.start, lane.spare.stop):
                self.end(lane)

    def on_limit(self, limit: int) -> None:
        """Nothing from this index on is wanted: of what lies across it, or behind, no word may come."""
        for lane in self._lanes.values():
            if lane.spare is not None and lane.spare.stop > limit:
                self.end(lane)

    def take_losers(self, now: float) -> list[int]:
        """Return the lanes to be asked to leave what they have not begun, since another has done it."""
        if not self._losers:
            return []
        losers, self._losers = self._losers, []
        asked = []
        for number in losers:
            lane = self._lanes.get(number)
            if lane is not None and lane.spare is not None and not lane.recalled and not lane.leaving:
                lane.recall(now)
                asked.append(number)
        return asked

    def check(self) -> None:
        """Assert that a copy is of a chunk that another lane has, and that it is the only thing its lane has."""
        for lane in self._lanes.values():
            if lane.spare is not None and (chunk := self.original(lane)) is not None:
                assert chunk.lane in self._lanes
                assert chunk.lane != lane.number
                assert not lane.held, "a copy and more on one lane"
        for chunk in self._outstanding.values():
            if chunk.twin:
                assert self._lanes[chunk.twin].spare is not None
                assert chunk.lane


def _median(values: list[float]) -> float:
    """The middle one: `statistics` takes longer to load than all that it would be asked for."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
