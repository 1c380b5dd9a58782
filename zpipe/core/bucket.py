"""A token bucket (Turner, 1986): so many a second on the average, no more than its burst at once. Knows no clock."""

from __future__ import annotations

from zpipe.core.claim import Rate

__all__ = ["Bucket"]

SLACK = 1e-6
"""By so much a bucket may be short of a token: else, by rounding, it would be asked a moment too early, many times."""


class Bucket:
    """Full at first."""

    __slots__ = ("_at", "_level", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._level = rate.burst
        self._at = now

    def level(self, now: float) -> int:
        """Return how many items may go now."""
        if now > self._at:
            self._level = min(self.rate.burst, self._level + (now - self._at) * self.rate.per_second)
            self._at = now
        return int(self._level + SLACK)

    def take(self, count: int) -> None:
        """So many go, as `level` has just allowed."""
        self._level -= count

    def give_back(self, count: int) -> None:
        """So many did not go after all."""
        self._level = min(self.rate.burst, self._level + count)

    def full(self, now: float) -> bool:
        """Whether it is as if it had never been used."""
        self.level(now)
        return self._level + SLACK >= self.rate.burst

    def when(self) -> float:
        """Return when the next item may go, as of the last `level`."""
        return self._at + max(0.0, 1.0 - self._level) / self.rate.per_second
