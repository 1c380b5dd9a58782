"""Items that wait for their turn, as a payload that is made when it is known which of them go together.

Whoever parked them may find then that some are not to be run: nobody wants them any more, or they can't be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zpipe.core.chunk import Chunk
from zpipe.core.wire import Buffer

__all__ = ["Parked", "load"]


class Parked(Sequence[Buffer]):
    """In place of frames: items, and what makes frames of some of them."""

    __slots__ = ("items", "pack")

    def __init__(self, items: Sequence[Any], pack: Callable[[Sequence[Any]], list[Buffer]]) -> None:
        self.items, self.pack = items, pack

    def __len__(self) -> int:
        """There are no frames yet."""
        return 0

    def __getitem__(self, _: Any) -> Any:
        """There are no frames yet."""
        raise IndexError

    def __iter__(self) -> Iterator[Buffer]:
        """There are no frames yet."""
        return iter(())

    def frames(self, skip: int, count: int) -> tuple[int, list[Buffer] | None]:
        """Return how many of these `count` items, `skip` being ahead of them, go together, and their payload.

        Each is asked for once. Without a payload they are not to be run, and whoever waits for them knows.
        """
        return count, self.pack(self.items[skip : skip + count])

    def waive(self, skip: int, count: int) -> tuple[int, Parked | None]:
        """As `frames`, of items that need not be sent, as it seems: return what to have of them, else."""
        return count, Parked(self.items[skip : skip + count], self.pack)


def load(chunk: Chunk, split: Callable[[Chunk, int], None]) -> bool:
    """Give a chunk that was parked its payload; return whether there is anything to run in it.

    `split(chunk, at)` has it end before the item `at`.
    """
    if not isinstance(chunk.payload, Parked):
        return True
    count, frames = chunk.payload.frames(chunk.skip, len(chunk))
    if count < len(chunk):
        split(chunk, chunk.start + count)
    if frames is None:
        return False
    chunk.payload, chunk.skip, chunk.size = frames, 0, sum(map(len, frames))
    return True
