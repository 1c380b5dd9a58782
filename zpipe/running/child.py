"""One program run: started, its output read, waited for.

The rule: nothing runs on unseen. Whatever ends the reading early ends the program too, and the output is whole only
when the program and all that hold its pipes have ended. This file does not know templates or items.

Starting is what a short command costs, so it is `posix_spawn` with as little as can be: the pages of this process are
not copied, and no descriptors are closed one by one, since `seal` has had them close themselves. The outputs are pipes,
though files in memory would save a wake-up: a program may open /dev/stderr again, which empties a file, and may leave
children behind that still write. What writes little is let end first: to wake up for its words, for the end of each
output and then for its own is a good part of what a short program takes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Mapping

__all__ = ["Child", "seal"]

_READ = 65_536

_STDIN = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)

_DEFAULTS = [number for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ") if (number := getattr(signal, name, None)) is not None]
"""Signals that Python ignores and programs expect to end them."""


class Child:
    """A program that runs, with an empty stdin and in this process's group.

    `pid` is its process until that has been waited for, then 0. As a context manager it kills the program if the block
    ends by an exception, and always leaves no process and no descriptor behind. Raises OSError if it can't be started.

    argv: its arguments, the name it is called by first. program: the path of its file; without one, the PATH is
    searched for the name. environment: all of it.
    """

    __slots__ = ("_ends", "pid")

    def __init__(self, argv: list[bytes], program: str | None, environment: Mapping[bytes, bytes]) -> None:
        self.pid = 0
        self._ends: list[int] = []
        try:
            self._ends += os.pipe()
            self._ends += os.pipe()
            stdout, out, stderr, err = self._ends
            # No setpgroup: what a worker starts is to die with its group, should the worker be killed.
            self.pid = (os.posix_spawnp if program is None else os.posix_spawn)(
                argv[0] if program is None else program,
                argv,
                environment,
                file_actions=[_STDIN, (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)],
                setsigdef=_DEFAULTS,
            )
        except BaseException:
            self._close()
            raise
        os.close(out)
        os.close(err)
        self._ends = [stdout, stderr]

    def __enter__(self) -> Child:  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.pid and kind is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._close()
        if self.pid:
            self.wait()

    def read(self, patience: float = 0.0) -> tuple[bytes, bytes]:
        """Return all that goes to stdout and to stderr, once both have ended.

        Nothing is read for the first `patience` seconds, unless the program ends within them: right for one that has
        little to say, while another would wait for room in its pipe.
        """
        if patience:
            self._await_end(patience)
        poll = select.poll()
        for end in self._ends:
            poll.register(end, select.POLLIN)
        parts: dict[int, list[bytes]] = {end: [] for end in self._ends}
        waiting = len(parts)
        while waiting:
            for end, event in poll.poll():
                data = os.read(end, _READ) if event & select.POLLIN else b""
                if data:
                    parts[end].append(data)
                if not data or (event & select.POLLHUP and len(data) < _READ):  # nobody writes any more: that was all
                    poll.unregister(end)
                    waiting -= 1
        stdout, stderr = parts.values()
        return b"".join(stdout), b"".join(stderr)

    def _await_end(self, patience: float) -> None:
        try:
            fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # no such thing here
            return
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(1000 * patience)
        finally:
            os.close(fd)

    def wait(self) -> int:
        """Return its exit status, negative if a signal ended it: the signal's number."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _close(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            os.close(end)


def seal() -> None:
    """Have programs inherit none of this process's descriptors but the standard ones.

    Those are opened if they are closed: a pipe must not take their place.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - pathlib is a tenth of a worker's start
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            if int(name) > 2:
                os.set_inheritable(int(name), False)
