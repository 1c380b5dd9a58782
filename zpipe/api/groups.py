"""Values by key: brought together where results arrive, and reduced as they come.

The rule: what is reduced takes the memory of one value for each key, however many values there are; what is asked for
as lists takes that of the largest, and room on the disk. Keys come in the order in which they were first seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from zpipe.api.spill import Spill

__all__ = ["Groups"]

K = TypeVar("K")
T = TypeVar("T")

_MISSING: Any = object()


class Groups(Generic[K, T]):
    """Values by what `key` returns for them: iterate over it for (key, list of its values), or `reduce` them.

    A key has to be hashable. Values of a key are in the order in which they come. They are taken once.
    """

    def __init__(self, values: Iterable[T], key: Callable[[T], K]) -> None:
        self._values, self._key = values, key

    def reduce(self, op: Callable[[Any, T], Any], initial: Any = _MISSING) -> dict[K, Any]:
        """Return the values of each key folded by `op(so_far, value)`, as they come: no list of them is made.

        Each key's fold begins with `initial` if given, else with its first value; let `op` not change `initial`.
        """
        found: dict[K, Any] = {}
        key = self._key
        if initial is _MISSING:
            for value in self._values:
                name = key(value)
                found[name] = op(found[name], value) if name in found else value
        else:
            for value in self._values:
                name = key(value)
                found[name] = op(found.get(name, initial), value)
        return found

    def __iter__(self) -> Iterator[tuple[K, list[T]]]:
        groups: Spill[K, T] = Spill()
        for value in self._values:
            groups.add(self._key(value), value)
        return iter(groups)
