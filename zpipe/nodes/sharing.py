"""How a ventilator shares what its source has among lanes, as it comes. Decides nothing itself: the ledger does.

`zpipe.nodes.rota` does it where a job goes by a schedule.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from zpipe.core import coding, wire
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.grains import Grains
from zpipe.core.ledger import Ledger
from zpipe.core.lifecycle import Lifecycle
from zpipe.input.sources import Batch
from zpipe.nodes.lanes import Lanes
from zpipe.nodes.parties import Tasks
from zpipe.nodes.supply import Rows, Supply

if TYPE_CHECKING:
    from zpipe.nodes.sifting import SiftedSupply

__all__ = ["Sharing"]


class Sharing:
    """Fills the lanes of a ledger from a supply, which is the `sifted` one if there is one, while `lifecycle` says so.

    `tasks` is for a job of many functions. `announce` is called when chunks have been issued and are about to be sent.
    """

    def __init__(
        self,
        ledger: Ledger,
        lifecycle: Lifecycle,
        lanes: Lanes,
        supply: Supply,
        sifted: SiftedSupply | None,
        tasks: Tasks | None,
        announce: Callable[[], None],
    ) -> None:
        self._ledger, self._lifecycle, self._lanes = ledger, lifecycle, lanes
        self._supply, self._sifted, self._tasks, self._announce = supply, sifted, tasks, announce
        self._rows = sifted is None and (tasks is None or isinstance(supply.source, Rows))
        """Whether chunks of a fixed size may travel as rows."""

    def share(self, numbers: list[int]) -> bool:
        """Share chunks among these lanes as far as they have credit, one chunk at a time, idle ones first.

        Return whether there was not enough for all.
        """
        if self._is_idle():
            self._supply.wait()
            return True
        ledger, lanes = self._ledger, self._lanes.open
        pairs = [(lanes[n], ledger.lanes[n]) for n in numbers if n in lanes and n in ledger.lanes]
        if self._tasks is None or self._tasks.setup is not None:
            pairs = [pair for pair in pairs if pair[0].introduce(0)]
        if len(pairs) > 1:
            pairs.sort(key=lambda pair: len(pair[1].held))
        hungry, now = False, time.monotonic()
        while pairs and self._lifecycle.may_issue:
            pairs = [pair for pair in pairs if pair[1].credit > 0 and not pair[0].cut]
            for lane, _ in pairs:
                chunk = ledger.again(lane.number, now) or self._issue(lane.number, now)
                if chunk is None:
                    hungry, pairs = True, []
                    break
                lane.put(chunk)
        self._announce()
        for number in numbers:
            if (lane_of := lanes.get(number)) is not None:
                lane_of.flush()
        return hungry

    def offer(self, done: int) -> bool:
        """Send a single item to a worker that has none, without looking further; False if that takes more thought.

        For when nothing else is under way, so that nothing is to be shared or recalled: `share` in fewer steps. `done`:
        how many items the sink has. If those are all, what lanes hold only waits for its receipts.
        """
        ledger, tasks = self._ledger, self._tasks
        if (
            tasks is None
            or tasks.setup is not None
            or self._sifted is not None
            or ledger.waiting
            or not (ledger.open and self._lifecycle.may_issue)
        ):
            return False
        idle = done == ledger.next
        for number, lane in ledger.lanes.items():
            if (idle or not lane.held) and lane.credit > 0 and not self._lanes.open[number].cut:
                break
        else:
            return False
        single = tasks.single()
        if single is None:
            return False
        task, chunker, batch = single
        mine, body, start = self._lanes.open[number], coding.inline(batch.frames), ledger.next
        part = None if body is None else wire.Chunk(start, start + 1, 1, batch.kind, task, body=body)
        sent = part is not None and mine.send_first(part)  # what is known of it is noted while it is on its way
        chunk = ledger.issue(number, 1, batch.kind, batch.frames, time.monotonic(), task, chunker)
        if not sent:
            mine.put(chunk)
            mine.flush()
        return True

    def _is_idle(self) -> bool:
        """Whether a pipeline has nothing to send, not even what sets workers up: a quick no, which is often asked."""
        tasks = self._tasks
        return tasks is not None and tasks.setup is None and not self._ledger.waiting and not self._current()

    def _current(self) -> tuple[int, Chunker] | None:
        """The task of the next items, and what sizes their chunks; None if there are none."""
        if self._tasks is None:
            return 0, self._ledger.chunker
        return (self._sifted.waiting_for if self._sifted is not None else None) or self._tasks.current()

    def _issue(self, number: int, now: float) -> Chunk | None:
        """Make a chunk of what the source has for this lane."""
        while True:
            current = self._current()
            if current is None:
                self._supply.wait()
                return None
            task, chunker = current
            if self._ledger.account.ahead.count and not self._supply.skip():
                return None
            if chunker.fixed is not None and (chunk := self._issue_row(number, now, task, chunker)) is not None:
                return chunk
            remaining = self._supply.remaining() if chunker.fixed is None else None
            wanted = self._ledger.wanted(remaining, chunker)
            batch = self._supply.take(wanted) if wanted else None
            if batch is not None:
                if self._sifted is not None:
                    task, chunker = self._sifted.taken
                chunk = self._ledger.issue(number, batch.count, batch.kind, batch.frames, now, task, chunker)
                chunk.skip = batch.skip
                return chunk
            if self._tasks is None or not wanted or (self._sifted is not None and self._sifted.held_up):
                return None

    def _issue_row(self, number: int, now: float, task: int, chunker: Chunker) -> Chunk | None:
        """Make a row of what the source has for this lane, if chunks of a fixed size are quick; else None."""
        ledger, supply, size = self._ledger, self._supply, chunker.fixed
        if not size or not self._rows:
            return None
        most = ledger.row(number, chunker, supply.remaining())
        if most < 2 or not ledger.wanted(None, chunker):
            return None
        row, odd = supply.take_row(size, most)
        if row is not None and odd is not None:
            self._lanes.open[number].put(self._made(row, number, now, task, chunker))
            row = None
        if row is None:
            row = odd
        return self._made(row, number, now, task, chunker) if row is not None else None

    def _made(self, batch: Batch, number: int, now: float, task: int, chunker: Chunker) -> Chunk:
        several = isinstance(batch.frames, Grains) and len(batch.frames) > 1
        grain = chunker.fixed or 0 if several else 0
        frames = batch.frames if several or not isinstance(batch.frames, Grains) else list(batch.frames)
        chunk = self._ledger.issue(number, batch.count, batch.kind, frames, now, task, chunker, grain)
        chunk.skip = batch.skip
        return chunk
