"""A worker that the kernel killed for want of memory has crashed; one that somebody killed has not."""

from __future__ import annotations

import signal
from pathlib import Path

from zpipe.nodes.memory import Memory
from zpipe.nodes.slots import ended


def test_each_kill_by_the_kernel_explains_one_death(tmp_path: Path) -> None:
    """What was counted before does not, nor does what was explained; other signals and systems are not concerned."""
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 5\noom_kill 7\nballoon_inflate 0\n")
    memory = Memory(counters)
    killed = int(signal.SIGKILL)
    assert ended(killed, memory) == ("killed by SIGKILL", False)
    counters.write_text("oom_kill 9\n")
    assert ended(int(signal.SIGSEGV), memory) == ("killed by SIGSEGV", True)
    for _ in range(2):
        assert ended(killed, memory) == ("killed by the kernel, which had no memory left", True)
    assert ended(killed, memory) == ("killed by SIGKILL", False)
    assert ended(killed, Memory(tmp_path / "missing")) == ("killed by SIGKILL", False)
