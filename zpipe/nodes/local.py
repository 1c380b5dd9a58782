"""Workers of this very process: the supervisor it starts for them, and the private folder their sockets are in.

The folder is also how a job is found by its process: its name has the pid.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from zpipe.net import endpoints
from zpipe.net.loop import Loop
from zpipe.nodes.config import Config
from zpipe.nodes.started import Started

__all__ = ["LocalSlots", "announce", "jobs_here", "private_folder"]

ADDRESS = "address"
"""A file in the private folder that says where the control socket is bound."""


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
def private_folder() -> Iterator[Path]:
    """A folder only this user can enter, for sockets. Those that killed processes of this user left are removed."""
    _clear()
    folder, lock = _held_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _held_folder() -> tuple[Path, int]:
    """Make a folder; return it with the descriptor of its lock, which shows that it is in use."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"zpipe-{os.getpid()}-", dir=_short_folder()))
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as undo:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            undo.callback(os.close, fd)
            with contextlib.suppress(OSError):  # where there are no locks, nobody removes it either
                fcntl.flock(fd, fcntl.LOCK_EX)
            if folder.exists():  # or somebody took it for a dead one's before it was locked
                undo.pop_all()
                return folder, fd


def _clear() -> None:
    """Remove the private folders of this user's processes that nobody holds any more: those were killed."""
    for folder in _folders():
        if _alive(_pid_of(folder)):
            continue  # or another process that has the number now: the next job sees to it
        with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            undo.callback(os.close, fd)
            stat = os.fstat(fd)
            if stat.st_uid != os.getuid() or stat.st_mode & 0o777 != 0o700:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            inside = list(folder.iterdir())
            if all(path.is_socket() or path.name == ADDRESS for path in inside):  # else it is somebody's own
                for path in inside:
                    path.unlink()
                folder.rmdir()


def _folders() -> list[Path]:
    where = Path(_short_folder() or tempfile.gettempdir())
    return sorted(folder for folder in where.glob("zpipe-*-*") if folder.name.split("-")[1].isdecimal())


def announce(folder: Path, bound: str) -> None:
    """Leave word in this process's private folder where its job's control socket is bound."""
    (folder / ADDRESS).write_text(endpoints.reachable(bound, "127.0.0.1"))


def jobs_here() -> dict[int, str]:
    """Return the control addresses of the jobs that this user's processes on this machine run, by pid."""
    found = {}
    for folder in _folders():
        pid = _pid_of(folder)
        with contextlib.suppress(OSError):  # it has gone meanwhile, or is another user's
            if folder.stat().st_uid != os.getuid() or not _alive(pid):
                continue
            if (folder / ADDRESS).exists():
                found[pid] = (folder / ADDRESS).read_text()
            elif (folder / "control").exists():
                found[pid] = f"ipc://{folder}/control"
    return found


def _pid_of(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _short_folder() -> str | None:
    """A socket's path may have about 100 bytes; some temporary folders alone are longer."""
    return "/tmp" if len(tempfile.gettempdir()) > 40 else None  # noqa: S108 - mkdtemp makes the private one in it
