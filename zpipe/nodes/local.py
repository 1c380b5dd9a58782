"""Workers of this very process: the supervisor it starts for them, and the private folder their sockets are in.

The folder is also how a job is found by its process: its name has the pid.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator

import msgspec

from zpipe.net import endpoints
from zpipe.net.loop import Loop
from zpipe.nodes.config import Config
from zpipe.nodes.started import Started

__all__ = ["LocalSlots", "announce", "jobs_here", "private_folder"]

ADDRESS = "address"
"""A file in the private folder that says where the control socket is bound."""

SHORT = "/tmp"  # noqa: S108 - private folders are made in it, as in any
"""Where sockets are if the path of the temporary folder is too long for them."""


class LocalSlots:
    """The supervisor of this process's own workers. `say(text, error)` tells the person what it says.

    `started`: its process, if that is there already; it was given what the config says of open files.
    """

    def __init__(
        self, loop: Loop, config: Config, say: Callable[[str, bool], None], started: Started | None = None
    ) -> None:
        self._loop, self._say, self._rest = loop, say, b""
        self.ended = False
        """Whether the supervisor is no more."""
        self._started = started = started or Started(config.stdout)
        self._process = started.process
        orders, stdout = started.fds
        started.tell(msgspec.json.encode(msgspec.structs.replace(config, orders=orders, stdout=stdout)))
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        os.set_blocking(self._fd, False)
        loop.add_fd(self._fd, self._hear)

    def _hear(self) -> bool:
        try:
            data = os.read(self._fd, 65_536)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove(self._fd)
            if self._process.wait() == -signal.SIGKILL:
                self._say("the supervisor of the local workers was killed by SIGKILL, and they with it", True)
            self.ended = True
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(line.decode(errors="replace"), False)
        return False

    def resize(self, slots: int) -> None:
        """Have this many workers: new ones start, those too many leave after the item they are at."""
        with contextlib.suppress(OSError):
            os.write(self._started.orders, b"%d\n" % slots)

    def stop(self, grace: float) -> None:
        """Give the workers `grace` seconds to leave by themselves, then have them killed."""
        assert self._process.stdout is not None
        self._loop.remove(self._fd)
        self._process.terminate()  # those that had no lane yet were told nothing
        self._started.ended(grace)
        self.let_go()
        self._process.wait()
        self._process.stdout.close()

    def let_go(self) -> None:
        """Close the lifeline: whatever is still there is killed by the kernel, once nobody else holds it."""
        self._started.let_go()


@contextlib.contextmanager
def private_folder() -> Iterator[str]:
    """A folder only this user can enter, for sockets. Those that killed processes of this user left are removed."""
    _clear()
    folder, lock = _held_folder()
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            _remove(folder)
        os.close(lock)


def _held_folder() -> tuple[str, int]:
    """Make a folder; return it with the descriptor of its lock, which shows that it is in use."""
    while True:
        folder = _new_folder()
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as undo:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            undo.callback(os.close, fd)
            with contextlib.suppress(OSError):  # where there are no locks, nobody removes it either
                fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.exists(folder):  # or somebody took it for a dead one's before it was locked
                undo.pop_all()
                return folder, fd


def _new_folder() -> str:
    while True:
        folder = f"{_place()}/zpipe-{os.getpid()}-{os.urandom(4).hex()}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            return folder


def _remove(folder: str) -> None:
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    os.rmdir(folder)


def _clear() -> None:
    """Remove the private folders of this user's processes that nobody holds any more: those were killed."""
    for folder in _folders():
        if _alive(_pid_of(folder)):
            continue  # or another process that has the number now: the next job sees to it
        with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            undo.callback(os.close, fd)
            status = os.fstat(fd)
            if status.st_uid != os.getuid() or status.st_mode & 0o777 != 0o700:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            inside = list(os.scandir(folder))
            if all(stat.S_ISSOCK(entry.stat().st_mode) or entry.name == ADDRESS for entry in inside):
                _remove(folder)  # else it is somebody's own


def _folders() -> list[str]:
    where = _place()
    parts = [name.split("-", 2) for name in os.listdir(where) if name.startswith("zpipe-")]
    return sorted(f"{where}/{'-'.join(part)}" for part in parts if len(part) == 3 and part[1].isdecimal())


def announce(folder: str, bound: str) -> None:
    """Leave word in this process's private folder where its job's control socket is bound."""
    with open(f"{folder}/{ADDRESS}", "w") as file:
        file.write(endpoints.reachable(bound, "127.0.0.1"))


def jobs_here() -> dict[int, str]:
    """Return the control addresses of the jobs that this user's processes on this machine run, by pid."""
    found = {}
    for folder in _folders():
        pid = _pid_of(folder)
        with contextlib.suppress(OSError):  # it has gone meanwhile, or is another user's
            if os.stat(folder).st_uid != os.getuid() or not _alive(pid):
                continue
            if os.path.exists(f"{folder}/{ADDRESS}"):
                with open(f"{folder}/{ADDRESS}") as file:
                    found[pid] = file.read()
            elif os.path.exists(f"{folder}/control"):
                found[pid] = f"ipc://{folder}/control"
    return found


def _pid_of(folder: str) -> int:
    return int(folder.rpartition("/")[2].split("-")[1])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _place() -> str:
    """Return the folder for temporary ones, or a shorter one: a socket's path may have about 100 bytes."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    if "tempfile" not in sys.modules and not named and os.access(SHORT, os.R_OK | os.W_OK | os.X_OK):
        return SHORT  # which tempfile, slow to load, would say as well
    import tempfile

    place = tempfile.gettempdir()
    return SHORT if len(place) > 40 else place
