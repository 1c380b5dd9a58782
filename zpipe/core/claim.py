"""What an item claims of the schedule, and what the whole job is held to. Decides nothing.

Times are the ventilator's clock, in seconds; whoever makes a claim has turned a delay or a date into them.
"""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec

__all__ = ["PLAIN", "Claim", "Limits", "Rate", "Schedule", "provided"]


class Claim(msgspec.Struct, frozen=True):
    """When, where and after what an item may run. Items that follow each other with equal claims travel together.

    Higher `priority` goes first. Not before `begin`; given up if not sent to a worker by `end`. Of items with one `key`
    one at a time is under way, in their order. `rate_key` names the budget it draws on, if each key has its own.
    `requires` are labels that its worker must have. `ahead`: it goes before all of a lower one, whatever the priority.
    """

    priority: float = 0.0
    begin: float = -inf
    end: float = inf
    key: Any = None
    rate_key: Any = None
    requires: frozenset[str] = frozenset()
    ahead: int = 0


PLAIN = Claim()
"""The claim of an item that claims nothing."""


class Rate(msgspec.Struct, frozen=True):
    """So many items `per_second`, and `burst` (1 or more) of them at once after a rest."""

    per_second: float
    burst: float = 1.0


class Limits(msgspec.Struct, frozen=True):
    """What the items of one task are held to: a rate, items in flight, and chunks in flight; None: to nothing."""

    rate: Rate | None = None
    max_in_flight: int | None = None
    chunks: int | None = None


class Schedule(msgspec.Struct, frozen=True):
    """What a job, each rate key of it and each of its `tasks`, by number, is held to; None: to nothing.

    `ageing`: an item that has waited so many seconds counts as one of a priority higher by one.
    """

    rate: Rate | None = None
    max_in_flight: int | None = None
    key_rate: Rate | None = None
    key_max_in_flight: int | None = None
    ageing: float | None = None
    tasks: tuple[tuple[int, Limits], ...] = ()

    @property
    def limits(self) -> bool:
        """Whether there is anything that a second run of an item would overdraw."""
        own = (self.rate, self.max_in_flight, self.key_rate, self.key_max_in_flight)
        return bool(self.tasks) or any(limit is not None for limit in own)


def provided(labels: list[str]) -> frozenset[str]:
    """Return what a worker with these labels can be asked for: of `gpu=1`, that and `gpu`."""
    return frozenset([*labels, *(label.partition("=")[0] for label in labels)])
