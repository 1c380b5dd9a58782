"""One worker's lane as the ledger sees it: what it holds, how quick it is, how much more it may have."""

from __future__ import annotations

from math import inf

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import LANE_SECONDS, WAITING, window

__all__ = ["PATIENCE", "QUICK", "Lane"]

QUICK = 0.001
"""Seconds a chunk takes, below which those that wait are not recalled for another worker that is idle."""

PATIENCE = 0.005
"""Seconds a chunk may run at least before those that wait behind it are recalled."""

OVERDUE = 6.0
"""They are recalled when it has run this many times what the middle one of the lane's chunks takes, or ..."""

LONG = 2.0
"""... this many times, if that is so long already that the round trip to come, once it is done, is nothing beside.

They are not before it has run this many times what so many of its own task's items take, or for that long.
"""

HEAVY, CARRIED = 1 << 18, 100 << 20
"""Bytes from which a chunk is not late while it is on its way, and those a second that go there and back at least."""

STEP = 1.15
"""By how much the guess at that middle one goes up or down with each chunk."""


class Lane:
    """One worker's incarnation as the ledger sees it. `held` is in the order sent.

    `since` is when the first of them began, as far as known. `recalled`: it was asked for what waits, and has not
    answered, since `asked`, if `deep` for items of what it runs, too. `shallow`: it was recalled behind a straggler, so
    nothing more waits here until that is done; `shared`: nor has that any items to give back. `solo`: it holds a chunk
    that workers have ended over, and nothing else, so that it is known what ran. `spare`: what it runs that is not its
    own, and before what it holds.
    """

    __slots__ = (
        "_suspects", "asked", "count", "deep", "held", "labels", "lag", "leaving", "load", "mixed", "number",
        "recalled", "receipts", "sent", "shallow", "shared", "since", "size", "solo", "spare", "typical", "wide",
        "window",
    )  # fmt: skip

    def __init__(self, number: int, suspects: list[int], labels: frozenset[str] = frozenset()) -> None:
        self._suspects = suspects
        self.number = number
        self.labels = labels
        """What its worker can be asked for."""
        self.solo = False
        self.held: dict[int, Chunk] = {}
        self.count = 0
        """How many chunks that are, each of a row by itself."""
        self.window = 1
        self.sent = 0
        self.load = 0.0
        """Seconds that what it holds is likely to take."""
        self.receipts = 0
        self.lag = 0.0
        self.leaving = False
        self.recalled = self.deep = False
        self.asked = 0.0
        self.spare: Chunk | None = None
        self.shallow = False
        self.shared = False
        self.since = 0.0
        self.typical = 0.0
        self.size = 0.0
        self.wide = 0
        """Items that run at a time, if those are many: then it is a WideLane."""
        self.mixed = False
        """Its worker may run what another lane had brought, beside what this one holds."""

    @property
    def credit(self) -> int:
        """How many more chunks may go down this lane now."""
        if self.leaving or self.recalled or self.solo or self.spare is not None:
            return 0
        held = self.count
        if held > 1 and self.load >= LANE_SECONDS + self.lag:
            return 0
        return (1 if self.shallow or self._suspects else self.window) - held

    def hold(self, chunk: Chunk) -> None:
        """Have this chunk too."""
        self.sent += 1
        chunk.lane, chunk.order, chunk.cost = self.number, self.sent, chunk.chunker.cost(len(chunk))
        self.load += chunk.cost
        chunk.places = chunk.left if chunk.grain else 1
        self.count += chunk.places
        self.held[chunk.start] = chunk

    def adopt(self, chunk: Chunk, order: int) -> None:
        """Have this chunk too, which was sent as the `order`-th when it was not yet this lane's own."""
        sent, self.sent = self.sent, order - 1
        self.hold(chunk)
        self.sent = sent

    @property
    def busy(self) -> bool:
        """Whether there is anything for its worker to do."""
        return bool(self.held) or self.spare is not None

    @property
    def idle(self) -> bool:
        """Whether its worker could do more at this moment."""
        return not self.held and self.spare is None

    @property
    def suspects(self) -> list[Chunk]:
        """The chunks that are likely to run: they are in the order sent, and the first without a receipt is."""
        running = self.running
        return [running] if running is not None else []

    def weigh(self, chunk: Chunk) -> None:
        """Some of what this chunk has is done, or another's: of a row less waits here."""
        left = chunk.left
        self.count += left - chunk.places
        chunk.places = left

    @property
    def running(self) -> Chunk | None:
        """The chunk of its own that its worker is likely to run."""
        return next(iter(self.held.values()), None) if self.spare is None else None

    @property
    def backlog(self) -> int:
        """How many chunks wait behind what its worker runs."""
        return self.count - (self.spare is None)

    def recall(self, now: float, *, items: bool = True) -> None:
        """Note that it is asked for what has not been started; `items`: of the chunk that it runs, too."""
        self.recalled, self.asked, self.deep = True, now, items

    def release(self, chunk: Chunk) -> None:
        """Have it no more."""
        del self.held[chunk.start]
        self.count -= chunk.places
        self.load = self.load - chunk.cost if self.held else 0.0

    @property
    def carried(self) -> float:
        """Seconds that a chunk is on its way, there and back, at most."""
        return self.size / CARRIED if self.size > HEAVY else 0.0

    @property
    def due(self) -> float:
        """When what waits here has waited too long: what takes as long as its like usually does is no straggler.

        Tasks that take long and such that don't may go by turns, and the lane's middle chunk be of another one.
        """
        running, usual = self.running, OVERDUE * self.typical
        if running is not None and running.chunker.known:
            usual = max(usual, LONG * running.chunker.cost(len(running)))
        return self.since + self.carried + max(PATIENCE, min(usual, max(WAITING, LONG * self.typical)))

    def check(self) -> None:
        """Assert that what is counted is what there is."""
        assert self.count == sum(chunk.places for chunk in self.held.values()), "a wrong count"

    @property
    def shareable(self) -> float:
        """When the running chunk has run for so long that its items are worth giving to others; never: infinity."""
        running = self.running
        if running is None or running.stop - running.start == 1:
            return inf
        return self.since + self.carried + PATIENCE

    def observe(self, seconds: float, size: int, lag: float = 0.0, count: int = 1) -> None:
        """Smooth the chunk service time and weight, and set the window by them and the sink's `lag`.

        So many chunks, `count`, took that together.

        Of the time it is the median, followed by small steps (Robbins and Monro, 1951): stragglers hardly move it.
        """
        if count > 1:
            seconds, size = seconds / count, size // count
        if self.typical:
            self.typical = self.typical * STEP if seconds > self.typical else max(seconds, self.typical / STEP)
        else:
            self.typical = seconds
        self.size = 0.8 * self.size + 0.2 * size if self.size else float(size)
        self.receipts += count
        self.lag = lag
        # As deep as the lane has proved to be quick: a few light chunks say little of what comes behind them, and
        # a task that holds the interpreter gives nothing back.
        self.window = min(window(self.typical, self.size, lag), 1 + self.receipts)
