"""What a call gives to the pipeline's thread, and what it gets back: items there, outcomes here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zpipe.api.functions import Function
from zpipe.core.chunking import Chunker
from zpipe.core.wire import Buffer

__all__ = ["Call", "Receiver"]


class Receiver(Protocol):
    """Who gets the outcomes of items that were taken together."""

    def deliver(self, offset: int, count: int, frames: Sequence[Buffer]) -> None:
        """The outcomes of `count` of them, from the `offset`-th on, as `outcomes.decode` reads them."""

    def fail(self, error: BaseException) -> None:
        """No more outcomes will come, for this reason."""


class Call(Protocol):
    """Gives items to the pipeline's thread, which alone calls these."""

    @property
    def function(self) -> Function:
        """What the next items are for."""

    @property
    def chunker(self) -> Chunker:
        """What sizes their chunks."""

    def ready(self) -> int:
        """How many items could be taken now; at least that there are some."""

    def take(self, most: int) -> tuple[int, list[Buffer], Receiver] | None:
        """Return the next items, 1 to `most`, pickled, and who gets their outcomes; None if there are none."""

    @property
    def left(self) -> int | None:
        """How many items have not been taken, if that is known."""
