"""A job's source as the ventilator reads it: taken from, passed over, waited for, and at its end. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from zpipe.core.coding import INLINE_BYTES
from zpipe.core.grains import ROW_BYTES, Grains
from zpipe.core.ledger import Ledger
from zpipe.core.spec import ItemKind
from zpipe.errors import SourceError
from zpipe.input.sources import Batch, Source
from zpipe.net.loop import Loop

__all__ = ["Rows", "Supply"]


@runtime_checkable
class Rows(Protocol):
    """A source that has a way of its own to give several chunks of one size at a time."""

    def take_row(self, size: int, most: int) -> Batch | None:
        """Return up to `most` chunks of `size` items, a payload for each; None if they are not to be had so."""


class Supply:
    """Hands out what `source` has to the ventilator of `ledger`.

    `more()` is called when there may be items again after `take` gave None; `failed(error)` when the source has failed,
    ahead of its being closed; `ended()` once it has no more items.
    """

    def __init__(
        self,
        loop: Loop,
        source: Source,
        ledger: Ledger,
        *,
        more: Callable[[], None],
        failed: Callable[[SourceError], None],
        ended: Callable[[], None],
    ) -> None:
        self.source = source
        self._rows = source if isinstance(source, Rows) else None  # a look at a protocol takes as long as many chunks
        self._loop, self._ledger = loop, ledger
        self._more, self._failed, self._ended = more, failed, ended
        self._awaited: int | None = None
        self._dry = False

    def start(self) -> None:
        """Have the source begin."""
        self.source.start(self._loop.wake)

    def take(self, wanted: int) -> Batch | None:
        """Return 1 to `wanted` items; None when there is none now, which is then waited for."""
        try:
            batch = self.source.take(wanted)
        except SourceError as error:
            self._fail(error)
            return None
        if batch is None:
            if self.source.exhausted:
                self.end()
            else:
                self.wait()
        return batch

    def take_row(self, size: int, most: int) -> tuple[Batch | None, Batch | None]:
        """Return up to `most` chunks of `size` items as one batch with a payload for each, if they are small.

        And the next chunk, if it had to be taken to see that it isn't. There may be neither, and still be items.
        """
        source = self.source
        if self._rows is not None:
            return self._rows.take_row(size, most), None
        bodies, count, room, kind = Grains(), 0, ROW_BYTES, None
        while len(bodies) < most and room > 0 and count == len(bodies) * size:
            try:
                batch = source.take(size)
            except SourceError:  # it fails anew when it is asked again
                break
            if batch is None:
                break
            if (
                len(batch.frames) > 1
                or len(batch.frames[0]) > INLINE_BYTES
                or batch.skip
                or kind not in (None, batch.kind)
            ):
                return self._row(count, kind, bodies), batch
            kind = batch.kind
            count += batch.count
            room -= len(batch.frames[0])
            bodies.append(batch.frames[0])
        return self._row(count, kind, bodies), None

    def _row(self, count: int, kind: ItemKind | None, bodies: Grains) -> Batch | None:
        return Batch(count, kind, bodies) if kind is not None else None

    def skip(self) -> bool:
        """Pass over the next items as far as they are done; return whether that is all of them."""
        while count := self._ledger.skippable:
            try:
                skipped = self.source.skip(count)
            except SourceError as error:
                self._fail(error)
                return False
            if not skipped:
                if self.source.exhausted:
                    self.end()
                else:
                    self.wait()
                return False
            self._ledger.on_skipped(skipped)
        if self.source.exhausted:
            self.end()
        return True

    def wait(self) -> None:
        """There is nothing now: call `more` when there is."""
        fd = self.source.fileno()
        self._dry = fd is None
        if fd is not None and self._awaited is None:
            self._awaited = fd
            self._loop.add_fd(fd, self._on_readable)

    def on_wake(self) -> None:
        """The loop was woken: there may be more, or this may be the end."""
        if self.source.exhausted:
            self.end()
        if self._dry:
            self._dry = False
            self._on_more()

    def end(self) -> None:
        """The source is exhausted; one that was closed early has no total, and is not told of."""
        if not (self._ledger.exhausted or self._ledger.closed):
            self._ended()

    @property
    def waiting(self) -> bool:
        """Whether items are waited for."""
        return self._dry or self._awaited is not None

    def remaining(self) -> int | None:
        """Return how many items are to come, as far as known."""
        return self.source.remaining()

    def total(self) -> tuple[int | None, bool]:
        """The number of items, or an estimate of it, and whether it is exact."""
        if self._ledger.exhausted:
            return self._ledger.next, True
        remaining = self.source.remaining()
        return (None, False) if remaining is None else (self._ledger.next + remaining, self.source.exact)

    def close(self) -> None:
        """Wait no more, and let go of the source."""
        self._forget()
        self.source.close()

    def _fail(self, error: SourceError) -> None:
        self._forget()
        self._failed(error)
        self.source.close()

    def _on_readable(self) -> bool:
        self._forget()
        self._on_more()
        return False

    def _on_more(self) -> None:
        if self._ledger.account.ahead.count:
            self.skip()  # even if there is no worker: all may be done
        self._more()

    def _forget(self) -> None:
        if self._awaited is not None:
            self._loop.remove(self._awaited)
            self._awaited = None
