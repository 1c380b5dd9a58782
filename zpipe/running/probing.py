"""What `first` has workers run: the task, and what is asked of its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zpipe.running.awaitables import is_awaitable

__all__ = ["probe"]


def probe(fn: Callable[[Any], Any], predicate: Callable[[Any], object], item: Any) -> Any:
    """Return the result in a tuple if it satisfies, an empty one if not; if it is to be awaited, what makes that so."""
    value = fn(item)
    if is_awaitable(value):
        return _probe_later(value, predicate)
    return (value,) if predicate(value) else ()


async def _probe_later(value: Any, predicate: Callable[[Any], object]) -> tuple[Any, ...]:
    found = await value
    return (found,) if predicate(found) else ()
