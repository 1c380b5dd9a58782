"""Several sequences side by side, as the sequence of tuples that a map of many iterables is over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Zipped"]


class Zipped:
    """The items of several sequences side by side, sliced as they are needed; the shortest one ends them."""

    def __init__(self, sequences: Sequence[Sequence[Any]]) -> None:
        self._sequences = sequences
        self._length = min(map(len, sequences))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> list[tuple[Any, ...]]:
        return list(zip(*(sequence[part] for sequence in self._sequences), strict=False))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return zip(*self._sequences, strict=False)
