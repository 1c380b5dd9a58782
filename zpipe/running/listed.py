"""What a worker calls where an item has any number of outputs: the same function, with its outputs as a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Chosen", "Listed"]


class Listed:
    """A function, all of whose outputs for an item are listed: what it returns or yields, one by one."""

    __slots__ = ("__qualname__", "_fn")

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn
        self.__qualname__ = getattr(fn, "__qualname__", type(fn).__qualname__)

    def __call__(self, item: Any) -> list[Any]:
        """Return the outputs."""
        return list(self._fn(item))


class Chosen(Listed):
    """A predicate: its output is the item itself if it is true of it, else there is none."""

    __slots__ = ()

    def __call__(self, item: Any) -> list[Any]:
        """Return the item alone, or nothing."""
        return [item] if self._fn(item) else []
