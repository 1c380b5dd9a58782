"""Under which numbers a journal has the dead letters of a job in stages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["by_stage", "numbered"]

_BITS = 48
"""Letters of other stages than the last are kept behind its own: above so many bits is how far before it."""


def numbered(index: int, stage: int, stages: int) -> int:
    """Return the number for an item of a stage, for a job of so many `stages`."""
    return ((stages - stage) << _BITS) + index


def by_stage(numbers: Iterable[int], stages: int) -> dict[int, list[int]]:
    """Return the items behind such numbers by their stage, in the order of the numbers."""
    found: dict[int, list[int]] = {}
    for number in numbers:
        found.setdefault(stages - (number >> _BITS), []).append(number & ((1 << _BITS) - 1))
    return found
