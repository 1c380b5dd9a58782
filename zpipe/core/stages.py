"""The stages of a job: whose items go next, and which numbers a stage's outputs have as the next one's items.

All stages have the same workers. What is nearest to the end goes first, so that what waits in between drains; a stage
whose outputs pile up at the next one waits. Outputs get their numbers as they come or, in a job with an order, in the
order of the items they came of. A number is given once: who goes on with a job finds an item under the one it had.

Must not know of workers, chunks' numbers in the job, messages or clocks, nor what items are: they are bytes here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from itertools import islice

from zpipe.core.ahead import Ahead
from zpipe.core.ranges import RangeSet

__all__ = ["Belt", "Numbered", "Stage", "Stages"]

BELT_BYTES = 64 << 20
"""Bytes that wait between two stages, from which on the first one waits; for their turn, too, in an order."""

BELT_ITEMS = 1000
"""Items that can be taken between two stages or are on their way there, from which on the first one waits, unless
workers take far more at a time."""

WEIGHT = 64
"""Bytes that an item takes here besides its own."""

Numbered = tuple[int, int, int, Sequence[bytes]]
"""Items `[start, stop)` of a stage, the number that their first output has at the next one, and the outputs."""


class Belt:
    """What is between two stages: outputs of the first that the second has not taken."""

    def __init__(self, *, ordered: bool = False) -> None:
        self.ordered = ordered
        self.next = 0
        """Number of the next output, if there is one."""
        self.turn = 0
        """In order: the item whose outputs are numbered next."""
        self.at = 0
        """Number of the item that is taken next."""
        self.items = self.bytes = 0
        """What waits, to be taken or numbered."""
        self._runs: deque[tuple[int, deque[bytes]]] = deque()
        self._waiting: dict[int, tuple[int, Sequence[bytes]]] = {}

    def put(self, start: int, stop: int, outputs: Sequence[bytes]) -> list[Numbered]:
        """Take what came of items `[start, stop)`; return what has its numbers now, itself or what waited for it."""
        self.items += len(outputs)
        self.bytes += _weight(outputs)
        if not self.ordered:
            return [self._number(start, stop, outputs)]
        self._waiting[start] = (stop, outputs)
        found = []
        while (entry := self._waiting.pop(self.turn, None)) is not None:
            found.append(self._number(self.turn, *entry))
            self.turn = entry[0]
        return found

    def restore(self, first: int, outputs: Sequence[bytes]) -> None:
        """Have items that were numbered in an earlier run of the job, in the order of their numbers."""
        self.items += len(outputs)
        self.bytes += _weight(outputs)
        self._runs.append((first, deque(outputs)))

    def _number(self, start: int, stop: int, outputs: Sequence[bytes]) -> Numbered:
        first = self.next
        if outputs:
            self.next += len(outputs)
            self._runs.append((first, deque(outputs)))
        return start, stop, first, outputs

    def peek(self, most: int) -> list[bytes]:
        """Return up to `most` items from number `at` on, which stay."""
        found: list[bytes] = []
        for first, outputs in self._runs:
            if first != self.at + len(found) or len(found) >= most:
                break
            found += islice(outputs, most - len(found))
        return found

    def take(self, most: int) -> list[bytes]:
        """Return 1 to `most` items from number `at` on, which is there."""
        found: list[bytes] = []
        while len(found) < most and self._runs and self._runs[0][0] == self.at:
            outputs = self._runs.popleft()[1]
            room = most - len(found)
            if len(outputs) <= room:
                found += outputs
                self.at += len(outputs)
                continue
            found += [outputs.popleft() for _ in range(room)]
            self.at += room
            self._runs.appendleft((self.at, outputs))
        self.items -= len(found)
        self.bytes -= _weight(found)
        return found

    def skip(self, count: int) -> int:
        """Pass over 1 to `count` items; return how many, 0 if there are none yet."""
        stop = min(self.at + count, self.next)
        passed, self.at = stop - self.at, stop
        while self._runs and self._runs[0][0] < stop:
            first, outputs = self._runs.popleft()
            gone = [outputs.popleft() for _ in range(min(stop - first, len(outputs)))]
            self.items -= len(gone)
            self.bytes -= _weight(gone)
            if outputs:
                self._runs.appendleft((stop, outputs))
        return passed

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self.at == self.next and not self._waiting

    def check(self) -> None:
        """Assert that what waits is what is counted, and comes in the order of its numbers."""
        waiting = [output for _, outputs in self._waiting.values() for output in outputs]
        held = [output for _, outputs in self._runs for output in outputs]
        assert self.items == len(waiting) + len(held)
        assert self.bytes == _weight(waiting) + _weight(held)
        at = self.at
        for first, outputs in self._runs:
            assert outputs
            assert first >= at, "a run out of order"
            at = first + len(outputs)
        assert at <= self.next
        assert all(start > self.turn for start in self._waiting)


class Stage:
    """One stage: what is done of it, and what is out. `most` chunks of it are out at a time (0: any number).

    `wanted()` tells how many items its next chunk would have.
    """

    def __init__(self, number: int, most: int, wanted: Callable[[], int]) -> None:
        self.number, self.most, self.wanted = number, most, wanted
        self.done = 0
        self.failed = 0
        self.out = 0
        """Items that are with workers, or wait for another try."""
        self.chunks = 0
        """Chunks that have such items."""
        self.taken = 0
        """Number of the item that is taken next."""
        self.ahead = Ahead()
        """What is done of the items from there on."""

    def resume(self, done: RangeSet, failed: int) -> None:
        """These are done, since an earlier run of the job."""
        self.done, self.failed = done.count, failed
        self.ahead.add(done)


class Stages:
    """The stages of a job, one behind the other, with a belt in front of each but the first."""

    def __init__(self, stages: Sequence[Stage], *, ordered: bool = False, slots: Callable[[], int] = lambda: 1) -> None:
        self.stages = list(stages)
        self.belts = [Belt(ordered=ordered) for _ in self.stages[1:]]
        self.slots = slots
        """Tells how many workers there are."""
        self.dry = False
        """The first stage's source has nothing now."""
        self.over = False
        """The first stage's source has no more items, nor will it."""
        self.held = 0
        """Items that were read of that source, and have not gone out."""

    def choose(self, but: Container[int] = ()) -> Stage | None:
        """Return the stage whose items go next, `but` those of these numbers; None if none has any that may."""
        for stage in reversed(self.stages):
            if stage.number not in but and self._may_go(stage):
                return stage
        return None

    def _may_go(self, stage: Stage) -> bool:
        n = stage.number - 1
        if stage.most and stage.chunks >= stage.most:
            return False
        if n == 0:
            if (self.dry or self.over) and not self.held:
                return False
        elif self.belts[n - 1].at == self.belts[n - 1].next:
            return False
        return n == len(self.belts) or bool(stage.ahead.count) or not self.is_full(n)

    def is_full(self, n: int) -> bool:
        """Whether what waits behind the `n`-th stage (from 0), or is on its way there, is as much as may be."""
        return self.belts[n].bytes >= BELT_BYTES or self._space(n) <= 0

    def brimming(self) -> list[int]:
        """Return the numbers of the stages behind which as much waits to be taken as may, whatever is on its way.

        Not if what waits is to be taken after something that is not there: that may be on its way.
        """
        return [
            n + 1
            for n, belt in enumerate(self.belts)
            if belt.at < belt.next and (belt.bytes >= BELT_BYTES or self._space(n) + self.stages[n].out <= 0)
        ]

    def _space(self, n: int) -> int:
        """Return how many more items of the `n`-th stage may be on their way to the next one, or there to be taken."""
        belt, behind = self.belts[n], self.stages[n + 1]
        many = max(BELT_ITEMS, 4 * self.slots() * behind.wanted())
        return many - (belt.next - belt.at) - self.stages[n].out

    def room(self, stage: Stage, most: int) -> int:
        """Return how many of the `most` items that a chunk of the stage would have may go now; at least 1."""
        n = stage.number - 1
        room = stage.ahead.room(stage.taken)
        if n < len(self.belts) and not stage.ahead.count:
            room = self._space(n)
        return max(1, most if room is None else min(most, room))

    def on_taken(self, stage: Stage, count: int) -> int:
        """So many of its items go out; return the first one's number."""
        first = stage.taken
        stage.taken += count
        stage.out += count
        stage.chunks += 1
        return first

    def on_outcome(self, stage: Stage, count: int, failed: int) -> None:
        """So many of the items that are out have their outcome."""
        stage.out -= count
        stage.done += count
        stage.failed += failed

    @property
    def finished(self) -> bool:
        """Whether no stage has an item left, or will have."""
        return (
            self.over
            and not self.held
            and not self.stages[0].ahead.row(self.stages[0].taken)
            and all(belt.empty for belt in self.belts)
            and not any(stage.out for stage in self.stages)
        )

    def left(self, stage: Stage) -> int | None:
        """Return how many items a stage but the first has left to be sent, if no more will come."""
        n = stage.number - 1
        if not self.over or any(before.out for before in self.stages[:n]) or any(b.items for b in self.belts[: n - 1]):
            return None
        return self.belts[n - 1].items

    def check(self) -> None:
        """Assert what holds at any time."""
        for stage in self.stages:
            assert 0 <= stage.failed <= stage.done
            assert stage.out >= 0
            assert (stage.chunks > 0) == (stage.out > 0), (stage.number, stage.chunks, stage.out)
            assert not stage.most or stage.chunks <= stage.most
        for belt, stage in zip(self.belts, self.stages[1:], strict=True):
            belt.check()
            assert belt.at == stage.taken


def _weight(outputs: Sequence[bytes]) -> int:
    return sum(map(len, outputs)) + WEIGHT * len(outputs)
