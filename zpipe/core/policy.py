"""What a job asks of its nodes, and when failed items end it."""

from __future__ import annotations

import msgspec

from zpipe.core import wire
from zpipe.core.claim import Schedule
from zpipe.core.spec import Codec

__all__ = ["Halt", "Policy"]


class Halt(msgspec.Struct, frozen=True):
    """End the job once `count` items have failed, or a `share` of those done: `now`, or after what is in flight."""

    now: bool = False
    count: int = 0
    share: float = 0.0

    def reached(self, failed: int, done: int) -> bool:
        """Whether so many have failed. A share counts from three failures on, as GNU parallel has it."""
        if self.count:
            return failed >= self.count
        return failed >= 3 and failed >= self.share * done


class Policy(msgspec.Struct, frozen=True):
    """What is asked of nodes.

    `expect` workers must be ready before work starts; `mixed` lets versions differ; `most` nodes may be here at once.
    `halt` is when failed items end the job. `speculate`: slow chunks are also sent to workers with nothing to do. An
    item that `max_crashes` workers ended over is given up. With a `codec` other than pickle no results may be pickles.
    `schedule` is what the job is held to, if what goes next is to be chosen.
    """

    versions: wire.Versions
    expect: int = 1
    mixed: bool = False
    most: int = 10_000
    halt: Halt | None = None
    speculate: bool = False
    max_crashes: int = 3
    codec: Codec = "pickle"
    schedule: Schedule | None = None
