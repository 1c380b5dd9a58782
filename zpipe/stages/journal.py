"""What the journal of a job in stages has besides the last stage's: what is done of the others, and what waits between.

One rule: it is in the same transactions, so that what a commit holds is true together, of all stages: an item that was
done has its outputs there, unless the next stage has done those, too. What comes and goes between two commits is never
written.

    stage       how many items of a stage failed, the number of its next output, and in order the item whose turn it is
    stage_done  the items of a stage whose outcomes count, as disjoint ranges
    stage_item  outputs of a stage's items, by the number that the first of them has at the next stage; those with one
                among them that failed there stay, for whoever has it run again
    stage_wait  outputs whose turn has not come, by the first of the items that they came of
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from zpipe.core.ranges import RangeSet
from zpipe.core.stages import Numbered, Stages
from zpipe.core.wire import Result
from zpipe.output.deadletters import by_stage, numbered
from zpipe.output.journal import Journal
from zpipe.running.packing import join, split

__all__ = ["StageTables"]

_Key = tuple[int, int]
_Run = Callable[..., Any]

TABLES = [
    "stage (stage INTEGER PRIMARY KEY, failed INTEGER NOT NULL, next INTEGER NOT NULL, turn INTEGER NOT NULL)",
    "stage_done (stage INTEGER, start INTEGER, stop INTEGER NOT NULL, PRIMARY KEY (stage, start))",
    "stage_item (stage INTEGER, first INTEGER, count INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (stage, first))",
    "stage_wait (stage INTEGER, start INTEGER, stop INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (stage, start))",
]


class _Delta(msgspec.Struct):
    """What has changed since the last commit was begun."""

    ranges: dict[int, RangeSet] = {}
    items: dict[_Key, tuple[int, bytes]] = {}
    waits: dict[_Key, tuple[int, bytes]] = {}
    gone_items: list[_Key] = []
    gone_waits: list[_Key] = []
    letters: list[tuple[int, bytes]] = []


class _Rows:
    """The rows of outputs that a stage's next one has not done yet: how many items of each are left."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._left: dict[int, list[int]] = {}
        self._staying: set[int] = set()

    def add(self, first: int, count: int) -> None:
        """A row behind all others."""
        self._firsts.append(first)
        self._left[first] = [first + count, count]

    def stay(self, item: int) -> None:
        """An item has failed: its row is not to go."""
        at = bisect_right(self._firsts, item) - 1
        if at >= 0:
            self._staying.add(self._firsts[at])

    def done(self, start: int, stop: int) -> list[int]:
        """These items are done, each told once; return the rows that are done with them, and may go."""
        gone = []
        for at in range(max(0, bisect_right(self._firsts, start) - 1), len(self._firsts)):
            first = self._firsts[at]
            if first >= stop:
                break
            if (row := self._left.get(first)) is not None:
                row[1] -= max(0, min(stop, row[0]) - max(start, first))
                if not row[1]:
                    if first not in self._staying:
                        gone.append(first)
                    self._staying.discard(first)
                    del self._left[first]
        if len(self._firsts) > 64 + 2 * len(self._left):
            self._firsts = sorted(self._left)
        return gone


class StageTables:
    """A journal's tables of stages. `resume` is called first. All but what `snapshot` returns is of one thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._delta = _Delta()
        self._committed: dict[int, RangeSet] = {}
        self._rows: dict[int, _Rows] = {}
        self._stages: Stages | None = None
        self.dirty = False
        """Whether there is something to commit."""
        self.size = 0
        """Bytes of outputs that wait for a commit."""

    def resume(self, stages: Stages, last: RangeSet) -> None:
        """Bring the stages to where the last commit has them; `last` is what is done of the last one."""
        journal, self._stages = self._journal, stages
        journal.extend(TABLES)
        done: dict[int, RangeSet] = {stage.number: RangeSet() for stage in stages.stages}
        for number, start, stop in journal.read("SELECT stage, start, stop FROM stage_done ORDER BY stage, start"):
            done[number].add(start, stop)
        states = {row[0]: row[1:] for row in journal.read("SELECT stage, failed, next, turn FROM stage")}
        for stage, belt in zip(stages.stages, stages.belts, strict=False):
            count, belt.next, belt.turn = states.get(stage.number, (0, 0, 0))
            self._committed[stage.number] = RangeSet(done[stage.number])
            stage.resume(done[stage.number], count)
        stages.stages[-1].resume(RangeSet(last), 0)
        done[len(stages.stages)] = last
        failed = by_stage((number for number, _ in journal.letters), len(stages.stages))
        for number, belt in enumerate(stages.belts, 1):
            rows = self._rows[number] = _Rows()
            query = "SELECT first, count, data FROM stage_item WHERE stage = ? ORDER BY first"
            for first, count, data in journal.read(query, (number,)):
                belt.restore(first, split(data))
                rows.add(first, count)
                for item in failed.get(number + 1, ()):
                    if first <= item < first + count:
                        rows.stay(item)
                for start, stop in done[number + 1].within(first, first + count) or ():
                    rows.done(start, stop)
            query = "SELECT start, stop, data FROM stage_wait WHERE stage = ? ORDER BY start"
            for start, stop, data in journal.read(query, (number,)):
                belt.put(start, stop, split(data))

    # what the outlet tells

    def done(self, number: int, result: Result, frame: bytes, ready: list[Numbered]) -> None:
        """A stage's items are done, with these outputs; of those that are `ready` the numbers are known now."""
        delta, start, stop = self._delta, result.start, result.stop
        delta.ranges.setdefault(number, RangeSet()).add(start, stop)
        assert self._stages is not None
        stages = len(self._stages.stages)
        delta.letters += [(numbered(failure.index, number, stages), failure.letter) for failure in result.failures]
        if all(begin != start for begin, _, _, _ in ready):
            delta.waits[number, start] = (stop, frame)
            self.size += len(frame)
        for begin, _, first, outputs in ready:
            if begin != start and delta.waits.pop((number, begin), None) is None:
                delta.gone_waits.append((number, begin))
            if outputs:
                data = frame if begin == start else join(outputs)
                delta.items[number, first] = (len(outputs), data)
                self._rows[number].add(first, len(outputs))
                self.size += len(data)
        self.consumed(number, result)

    def begin_with(self, number: int, first: int, outputs: Sequence[bytes]) -> None:
        """A stage has these items from the beginning."""
        self.dirty = True
        self._delta.items[number - 1, first] = (len(outputs), join(outputs))
        self._rows[number - 1].add(first, len(outputs))

    def consumed(self, number: int, result: Result) -> None:
        """A stage's items are done: their row goes with the last of them."""
        self.dirty = True
        if number > 1:
            for failure in result.failures:
                self._rows[number - 1].stay(failure.index)
            for first in self._rows[number - 1].done(result.start, result.stop):
                if self._delta.items.pop((number - 1, first), None) is None:
                    self._delta.gone_items.append((number - 1, first))

    # commits

    def snapshot(self) -> Callable[[_Run, _Run], None]:
        """Return what commits all that has changed, called with what runs a statement once, and for many rows."""
        delta, self._delta = self._delta, _Delta()
        self.dirty, self.size = False, 0
        assert self._stages is not None
        pairs = zip(self._stages.stages, self._stages.belts, strict=False)
        states = [(stage.number, stage.failed, belt.next, belt.turn) for stage, belt in pairs]

        def commit(run: _Run, many: _Run) -> None:
            many("INSERT OR REPLACE INTO stage VALUES (?, ?, ?, ?)", states)
            for number, ranges in delta.ranges.items():
                done = self._committed[number]
                for start, stop in ranges:
                    done.add(start, stop)
                    low, high = done.after(start) or (start, stop)
                    run("DELETE FROM stage_done WHERE stage = ? AND start > ? AND start < ?", (number, low, high))
                    run("INSERT OR REPLACE INTO stage_done VALUES (?, ?, ?)", (number, low, high))
            many("DELETE FROM stage_item WHERE stage = ? AND first = ?", delta.gone_items)
            many("DELETE FROM stage_wait WHERE stage = ? AND start = ?", delta.gone_waits)
            many("INSERT OR REPLACE INTO stage_item VALUES (?, ?, ?, ?)", _flat(delta.items))
            many("INSERT OR REPLACE INTO stage_wait VALUES (?, ?, ?, ?)", _flat(delta.waits))
            many("INSERT OR REPLACE INTO letters VALUES (?, ?)", delta.letters)

        return commit


def _flat(rows: dict[_Key, tuple[int, bytes]]) -> Sequence[tuple[int, int, int, bytes]]:
    return [(*key, *row) for key, row in rows.items()]
