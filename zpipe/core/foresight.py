"""How far ahead of the results that were taken items are pulled. Knows how many, not what they are nor from where."""

from __future__ import annotations

from collections.abc import Callable

from zpipe.core.chunking import Chunker, Heft

__all__ = ["Foresight"]

AHEAD = 64
"""Items pulled from a lazy iterable before anything is known of how long they take."""

AHEAD_SECONDS, AHEAD_ITEMS, AHEAD_BYTES = 0.01, 4096, 1 << 20
"""Later at least as many as the workers do in such a time, but no more items and bytes than these."""

TURN, DEEP = 0.005, 5
"""And more by what they do in such a time, so many chunks for each at most: it is a thread's turn at the interpreter,
and whoever takes results may keep the thread that hands chunks out from it for so long."""

TOGETHER, SHARE = 64, 8
"""Results that may be taken at once, at most: so many, and such a part of what is pulled ahead."""


class Foresight:
    """Of one map. `bound`: items beyond those whose results are taken, at most (None: as many as keep workers busy).

    Each worker runs `width` items at a time.
    """

    __slots__ = ("_ahead", "_bound", "_step", "_width", "_worth", "few")

    def __init__(self, bound: int | None, width: int = 1) -> None:
        self._bound, self._width = bound, width
        self._ahead = self._worth = self._step = 1
        self.few = TOGETHER if bound is None else 0
        """How many results may be taken at once."""

    def look(
        self, size: int, slots: Callable[[], int], chunker: Chunker, reach: int = 0, heft: Heft | None = None
    ) -> None:
        """See anew how far ahead is right, for chunks of `size` items on so many workers.

        `reach`: so many items at least, if nobody has set a bound. `heft`: what is known of their own weight.
        """
        ahead, least = self._bound, size
        if ahead is None:
            workers = max(slots(), 1)
            within = chunker.within(AHEAD_SECONDS, AHEAD_BYTES)
            many = min(workers * (within if heft is None else min(within, heft.most)), AHEAD_ITEMS)
            spare = workers * min(chunker.within(TURN, AHEAD_BYTES) // size, DEEP)
            ahead = least = max(AHEAD, size * (4 * workers + 4 + spare), many, 2 * workers * self._width, reach)
            self.few = min(TOGETHER, ahead // SHARE)
            self._step = size
        self._ahead, self._worth = ahead, min(least, max(ahead // 4, 1))

    def room(self, returned: int, pulled: int, *, begun: bool = False) -> int:
        """Return how many items may be pulled: once begun, all there is room for; whole chunks, if nobody set a bound.

        Pulling begins when there is room worth it. Else blocks, and with them chunks, would become as small as what is
        taken at a time, and the pipeline's thread be woken for each. A part of a chunk would have to be copied to what
        comes behind it.
        """
        room = returned + self._ahead - pulled
        return max(room - room % self._step, 0) if begun or room >= self._worth else 0
