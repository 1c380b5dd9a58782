"""Whether the kernel has killed for want of memory: it does so by SIGKILL, as anybody may, but it counts."""

from __future__ import annotations

import os

__all__ = ["Memory"]

COUNTERS = "/proc/vmstat"


class Memory:
    """Knows how often the kernel has killed a process of this machine for want of memory, container limits included.

    Linux only (`oom_kill` in /proc/vmstat, see proc_vmstat(5)); elsewhere it never does.
    """

    def __init__(self, counters: str | os.PathLike[str] = COUNTERS) -> None:
        self._counters = counters
        self._known = self._count()

    def _count(self) -> int:
        try:
            with open(self._counters, "rb") as file:
                return next((int(line[9:]) for line in file if line.startswith(b"oom_kill ")), 0)
        except OSError:
            return 0

    def ran_out(self) -> bool:
        """Whether it did so once more than this has said so far, for somebody who has just been killed."""
        more = self._count() > self._known
        self._known += more
        return more
