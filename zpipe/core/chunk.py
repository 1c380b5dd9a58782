"""A chunk of items on its way: what the ledger knows of it. Must not know of lanes, sockets or clocks."""

from __future__ import annotations

from collections.abc import Sequence

from zpipe.core import wire
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Claim
from zpipe.core.ranges import RangeSet
from zpipe.core.spec import ItemKind
from zpipe.core.wire import Buffer, Fate, Receipt

__all__ = ["ASIDE", "Chunk"]

_NONE: list[bytes] = []

ASIDE = -1
"""In place of a lane's number: no lane is to have it."""


class Chunk:
    """Items `[start, stop)`: their payload until receipted, and what befell them.

    The payload holds `skip` items ahead of them. `losses` counts workers lost with it for reasons outside (a signal, a
    host, a cut), `crashes` those that ended by their own fault while running it: only the second can be the items'
    doing. `kills` are those losses of which no more is known than that the process was killed, and nothing else on its
    host was. `proven` are those crashes of which it is known that this one item ran, and `fate` is of the last one.
    With a `doom` it is not run: its item fails, for this reason; if it is `late`, because it ran too long, which may be
    tried again; if it is `expired`, because its time had passed before it was sent. `claim` is what it claims of the
    schedule, if its job has one. `got` is what has its receipts already, if that is a part. After `tries` tries that
    failed it avoids the lane of the last one `until` a time. `twin` is the lane that runs a copy of it, if one does,
    and `copied` whether one ever did, or none may. `words` are of what failed in a copy and may be tried again, each
    with when it came: they count if this becomes the only run.
    """

    __slots__ = (
        "attempt", "avoid", "chunker", "claim", "copied", "cost", "crashes", "doom", "expired", "fate", "got", "grain",
        "items", "kills", "lane", "late", "losses", "order", "payload", "places", "proven", "since", "size", "skip",
        "start", "stop", "task", "tries", "twin", "until", "words",
    )  # fmt: skip

    def __init__(
        self,
        start: int,
        stop: int,
        items: ItemKind,
        payload: Sequence[Buffer],
        task: int,
        chunker: Chunker,
        grain: int = 0,
    ) -> None:
        self.start = start
        self.stop = stop
        self.items = items
        self.payload = payload
        self.task = task
        self.chunker = chunker
        self.grain = grain
        self.places = 1
        """How many chunks it counts for on a lane."""
        self.size = sum(map(len, payload))
        self.cost = 0.0
        """Seconds it is likely to take."""
        self.attempt = 0
        self.losses = 0
        self.kills = 0
        self.fate: Fate | None = None
        self.crashes = 0
        self.proven = 0
        self.skip = 0
        self.doom = ""
        self.late = False
        self.expired = False
        self.claim: Claim | None = None
        self.since = 0.0
        """When it was first parked, in a job with a schedule."""
        self.got: RangeSet | None = None
        self.tries = 0
        self.avoid = 0
        self.until = 0.0
        self.lane = 0
        self.order = 0
        self.twin = 0
        self.copied = False
        self.words: list[tuple[Receipt, float]] | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def told(self, body: memoryview | None = None) -> wire.Chunk:
        """Return it as a worker is told of it, its payload inside if that is a `body`."""
        return wire.Chunk(
            self.start,
            self.stop,
            self.attempt,
            self.items,
            self.task,
            self.skip,
            self.doom,
            self.tries,
            body,
            self.late,
            self.expired,
            self.fate if self.doom else None,
            self.grain,
            self.payload if self.grain else _NONE,  # type: ignore[arg-type]
        )

    def part(self, start: int, stop: int) -> Chunk:
        """Return a pending chunk of the items `[start, stop)` of this one."""
        part = Chunk(start, stop, self.items, self.payload, self.task, self.chunker, self.grain)
        part.skip = self.skip + start - self.start
        if self.grain:
            part.narrow()
        part.attempt, part.crashes, part.losses, part.tries = self.attempt, self.crashes, self.losses, self.tries
        part.kills, part.fate = self.kills, self.fate
        if self.claim is not None:
            part.claim, part.since, part.copied = self.claim, self.since, self.copied
        return part

    def cut(self, at: int) -> Chunk:
        """End this chunk before the item `at`; return the rest as a chunk."""
        rest = self.part(at, self.stop)
        if self.got is not None:
            rest.got = self.got.within(at, self.stop)
            self.got = self.got.within(self.start, at)
        self.stop = at
        if self.grain:
            self.narrow()
        return rest

    def narrow(self) -> None:
        """Have no more grains than it has items of; one alone is a chunk as any other."""
        first, grain = self.skip // self.grain, self.grain
        self.payload = self.payload[first : -(-(self.skip + len(self)) // grain)]
        self.skip -= first * grain
        self.size = sum(map(len, self.payload))
        if len(self.payload) == 1:
            self.grain = 0

    def edge(self, at: int) -> int:
        """Return where the grain that the item `at` is of ends, or what there is of it."""
        grain = self.grain
        return min(self.stop, at + grain - (self.skip + at - self.start) % grain) if grain else self.stop

    @property
    def left(self) -> int:
        """How many chunks it counts for, with what it has its receipts of left out."""
        if not self.grain:
            return 1
        done = self.got.count if self.got is not None else 0
        return max(1, -(-(self.stop - self.start - done) // self.grain))

    def gaps(self) -> list[Chunk]:
        """Return what of this chunk has no receipts, as chunks."""
        gaps, at = [], self.start
        for start, stop in [*(self.got or ()), (self.stop, self.stop)]:
            if start > at:
                gaps.append(self.part(at, start))
            at = stop
        return gaps
