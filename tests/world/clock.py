"""A node's clock: it began when it pleased, and goes as fast as it pleases."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """Shows `offset` seconds when the world begins, and `rate` seconds more with each second of the world's."""

    offset: float = 0.0
    rate: float = 1.0

    def read(self, now: float) -> float:
        """What it shows at a time of the world's."""
        return self.offset + self.rate * now

    def when(self, reading: float) -> float:
        """The time of the world's at which it shows at least this."""
        return (reading - self.offset) / self.rate + 1e-6
