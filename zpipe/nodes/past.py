"""What is known of the process that had a worker's slot before."""

from __future__ import annotations

import msgspec

from zpipe.core import wire

__all__ = ["Past"]


class Past(msgspec.Struct, frozen=True):
    """How this slot's last process ended: its pid (0: there was none), in words, and whether by its own fault.

    `item` is what it ran then, if that is known; with `late` it was killed for running too long.
    """

    pid: int = 0
    ended: str = ""
    crashed: bool = False
    item: int | None = None
    late: bool = False
    fate: wire.Fate = wire.Fate()
