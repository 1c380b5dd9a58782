"""What comes back from lanes undone: handed back by a worker, or left behind by one that is gone, and to whose charge.

A chunk that a lane has no more waits to be sent down another, unless a copy of it runs. Must not know what is sent
when, nor of receipts.
"""

from __future__ import annotations

from zpipe.core.account import Account
from zpipe.core.chunk import Chunk
from zpipe.core.lane import Lane
from zpipe.core.pending import Pending
from zpipe.core.recall import Recalls
from zpipe.core.speculation import Speculation
from zpipe.core.suspects import Suspects, Verdict

__all__ = ["Returns"]


class Returns:
    """Has what comes back of a ledger's `outstanding` chunks from its `lanes` wait for others."""

    def __init__(
        self,
        outstanding: dict[int, Chunk],
        lanes: dict[int, Lane],
        account: Account,
        pending: Pending,
        suspects: Suspects,
        recalls: Recalls,
        speculation: Speculation,
    ) -> None:
        self.requeued = 0
        """Chunks that were sent again, or will be, since their worker is gone."""
        self.limited = False
        """Workers may be killed over what they run: whose fault a loss is, the slot's next process can tell."""
        self._outstanding, self._lanes, self._account, self._pending = outstanding, lanes, account, pending
        self._suspects, self._recalls, self._speculation = suspects, recalls, speculation

    # left behind

    def on_lost(self, number: int, *, verdict: bool = False) -> int:
        """The worker of a lane is gone; return how many of its chunks go to others.

        In a job with limits, and where many items ran at a time, these wait for the `verdict`, if there will be one.
        """
        lane = self._lanes.pop(number, None)
        if lane is None:
            return 0
        self._part_row(lane)
        ran = lane.suspects
        if ran:
            alone = lane.solo and len(ran[0]) == 1 and not lane.mixed
            self._suspects.on_lost(number, ran, alone=alone, many=lane.wide > 0)
        self._speculation.on_lost(lane)
        requeued, unheard, begun = 0, [], {chunk.start for chunk in ran}  # of a wide lane there may be many
        for start, chunk in lane.held.items():
            chunk.attempt -= bool(chunk.doom)  # telling of what is known is none
            waits = verdict and not chunk.twin and (self.limited or lane.wide > 0)
            chunk.attempt -= start not in begun and not chunk.doom and (lane.wide > 0 or not waits)
            if not waits:
                requeued += chunk.left * self._pass_on(chunk)
            else:
                chunk.lane = 0
                unheard.append(chunk)
        if unheard:
            self._suspects.hear(number, unheard)
        requeued += sum(chunk.left for chunk in unheard)
        self.requeued += requeued
        return requeued

    def _part_row(self, lane: Lane) -> None:
        """Of a row that a lost worker ran, take what it was at for the first chunk that has no receipt."""
        row = lane.running
        if row is None or not row.grain:
            return
        del lane.held[row.start], self._outstanding[row.start]
        parts = row.gaps()
        if (edge := parts[0].edge(parts[0].start)) < parts[0].stop:
            parts.insert(1, parts[0].cut(edge))
        for part in parts:
            part.lane = lane.number
            self._outstanding[part.start] = part
        lane.held = {part.start: part for part in parts} | lane.held

    def on_verdict(self, number: int, verdict: Verdict) -> Chunk | None:
        """How the worker of a lost lane ended is known; return the chunk that is charged with it, if any is.

        That is the item it ran, if it is known which, or if the worker ended by its own fault the running chunk; of
        several that ran, all are charged, and the first is returned.
        """
        held = self._suspects.release(number)
        known = verdict.item if verdict.crashed or verdict.late else None
        if not self._suspects.ran_many(number):
            _discount(held, known)
        charged: list[Chunk] = []
        if known is None:
            charged = self._suspects.on_verdict(number, verdict)
        else:
            self._suspects.acquit(number)
        if known is not None and (alone := self._single_out(known, held)) is not None:
            charged = [alone]
            alone.fate = verdict.fate
            if verdict.late:
                alone.doom, alone.late = verdict.how, True
                alone.attempt -= 1
            else:
                alone.crashes += 1
                alone.proven += 1
        for chunk in charged:
            if chunk.lane or self._outstanding.get(chunk.start) is not chunk:
                continue
            held = [other for other in held if other is not chunk]
            if chunk.late or chunk.got is not None:
                self._pending.add(chunk)
            else:
                self._suspects.add(chunk, verdict.how)
        for chunk in held:
            self._pending.add(chunk)
        return charged[0] if charged else None

    def _single_out(self, item: int, held: list[Chunk]) -> Chunk | None:
        chunk = next(iter(self._account.overlapping(item, item + 1)), None)
        return self._pending.single_out(chunk, item, held) if chunk is not None else None

    def waits(self, number: int) -> bool:
        """Whether chunks of a lost lane wait for the verdict on it."""
        return self._suspects.waits(number)

    def due(self, now: float) -> bool:
        """Have what has waited long enough for a verdict wait for another lane; return whether there is any."""
        unheard = self._suspects.late(now)
        for number in unheard:
            held = self._suspects.release(number)
            if not self._suspects.ran_many(number):
                _discount(held)
            for chunk in held:
                self._pending.add(chunk)
        return bool(unheard)

    # handed back

    def on_leave(self, number: int, taken: int, cut: int = 0) -> int:
        """The worker takes no more and started no chunk after the `taken`-th; return how many it hands back.

        With a `cut` it hands back that chunk's items from there on too.
        """
        lane = self._lanes.get(number)
        if lane is None:
            return 0
        lane.leaving = True
        return self._hand_back(lane, taken, lane.sent) + self._cut(lane, taken, cut)

    def on_returned(self, number: int, after: int, upto: int, cut: int = 0) -> int:
        """A recalled worker hands back the chunks after the `after`-th up to the `upto`-th; return how many.

        With a `cut` it hands back that chunk's items from there on too, to be shared by all who are idle.
        """
        lane = self._lanes.get(number)
        if lane is None or not lane.recalled:
            return 0
        lane.recalled = False
        lane.shallow = True
        back = self._hand_back(lane, after, upto)
        shared = self._cut(lane, after, cut)
        lane.shared = lane.deep and not shared  # then nothing more is to be had of it
        self._recalls.on_answered(lane)
        return back + shared

    def _hand_back(self, lane: Lane, after: int, upto: int) -> int:
        if lane.spare is not None and after < lane.spare.order <= upto:
            self._speculation.end(lane, begun=False)
        back = [chunk for chunk in lane.held.values() if after < chunk.order <= upto]
        for chunk in back:
            lane.release(chunk)
            chunk.attempt -= 1
            self._pending.on_unsent(chunk)
        return sum([chunk.left * self._pass_on(chunk) for chunk in back])

    def _pass_on(self, chunk: Chunk) -> bool:
        """The lane of a chunk has it no more: another is to run it, unless one runs a copy. True: it waits for one."""
        if chunk.twin:
            self._account.promote(chunk)
            return False
        self._pending.add(chunk)
        return True

    def _cut(self, lane: Lane, order: int, cut: int) -> bool:
        """The worker of a lane leaves the items from `cut` on of the chunk it runs; return whether it is so."""
        if lane.spare is not None and lane.spare.order == order and lane.spare.start < cut < lane.spare.stop:
            lane.spare.stop = cut
        running = next((chunk for chunk in lane.held.values() if chunk.order == order), None)
        if running is None or not running.start < cut < running.stop:
            return False
        rest = running.cut(cut)
        rest.attempt -= 1
        self._pending.on_unsent(rest)
        lane.weigh(running)
        if running.got is not None and running.got.covers(running.start, running.stop):
            self._account.settle(running)
        self._share_out(rest)
        return True

    def _share_out(self, rest: Chunk) -> None:
        """Make a pending chunk of what one worker hands back, or several, one for each that is idle and one for it."""
        pieces = min(len(rest), self._recalls.idle() + 1)
        for n in range(pieces - 1, 0, -1):
            at = rest.start + len(rest) * n // (n + 1)
            if rest.grain and (at := rest.edge(at - 1)) >= rest.stop:  # chunks of a row stay whole
                continue
            self._pending.add_new(rest.cut(at))
        self._pending.add_new(rest)


def _discount(held: list[Chunk], item: int | None = None) -> None:
    """Of what a lost worker held, in the order sent, count no attempt of chunks that it can't have come to.

    They are run in turn, and each is told of at once: so it came no further than the first, or than the `item` that it
    is known to have run.
    """
    last = next((n for n, chunk in enumerate(held) if item is not None and chunk.start <= item < chunk.stop), 0)
    for chunk in held[last + 1 :]:
        chunk.attempt -= not chunk.doom
