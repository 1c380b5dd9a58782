"""Items that wait for their turn, as a payload that is made when it is known which of them go together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zpipe.core.chunk import Chunk
from zpipe.core.wire import Buffer

__all__ = ["Parked", "load"]


class Parked(Sequence[Buffer]):
    """In place of frames: items, and what makes frames of some of them, None if nobody wants them any more."""

    __slots__ = ("items", "pack")

    def __init__(self, items: Sequence[Any], pack: Callable[[Sequence[Any]], list[Buffer] | None]) -> None:
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

    def frames(self, skip: int, count: int) -> list[Buffer] | None:
        """Return the payload of `count` items, `skip` being ahead of them."""
        return self.pack(self.items[skip : skip + count])


def load(chunk: Chunk) -> bool:
    """Give a chunk that was parked its payload; return whether there is anything to run in it."""
    if type(chunk.payload) is not Parked:
        return True
    frames = chunk.payload.frames(chunk.skip, len(chunk))
    if frames is None:
        return False
    chunk.payload, chunk.skip, chunk.size = frames, 0, sum(map(len, frames))
    return True
