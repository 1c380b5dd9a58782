"""A supervisor's process forked off this one, which is spared starting an interpreter and loading what both need.

That is right only in a process that has one thread and holds nothing of its own yet: a command line that has just read
its options. The child keeps what was loaded and the standard error. Its other files are closed, its stdin and stdout
are pipes, as of a process that is started; and it never comes back to what its parent was about to do.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import IO, NoReturn

from zpipe.nodes.started import Process, Started

__all__ = ["Forked", "may_fork"]


def may_fork() -> bool:
    """Whether a fork is safe: this process has but one thread, none of C's either, and its standard files."""
    if sys.stdout is None or sys.stdout is not sys.__stdout__ or sys.stderr is None or sys.stderr is not sys.__stderr__:
        return False
    try:
        for fd in range(3):
            os.fstat(fd)
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - pathlib is slow to load
    except OSError:  # it is not Linux, or one of the files is closed
        return False


class _Child:
    """A process that was forked off, and the pipes to its stdin and from its stdout."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb")
        self._status: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        status = self._wait(0)
        assert status is not None
        return status

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _wait(self, how: int) -> int | None:
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, how)
            except ChildProcessError:  # this process ignores its children's ends: nobody knows how it went
                pid, status = self.pid, 0
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def _send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Forked(Started):
    """A process that awaits a supervisor's config. To be made only if `may_fork`."""

    def _begin(self, shared: list[int]) -> Process:
        _load()
        hears, stdin = os.pipe()
        stdout, says = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            _be_supervisor(hears, says, shared)
        os.close(hears)
        os.close(says)
        return _Child(pid, stdin, stdout)


def _load() -> None:
    """Load what both need; the rest each loads at the same time as the other."""
    import zpipe.core.coding
    import zpipe.net.security
    import zpipe.net.versions
    import zpipe.nodes.config
    import zpipe.running.commands  # noqa: F401


def _be_supervisor(stdin: int, stdout: int, shared: list[int]) -> NoReturn:
    code = 1
    try:
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            if int(name) > 2 and int(name) not in shared:
                _close(int(name))
        del sys.argv[1:]  # they are no task's
        gc.disable()
        from zpipe.nodes.slots import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, a forked child must not run its parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # it was the listing's own
        return
