"""The task of `zpipe bench`: it gives back what it was given. In a file of its own, so that workers import no more."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["echo"]

T = TypeVar("T")


def echo(item: T) -> T:
    """Return the item."""
    return item
