"""A process that has loaded zpipe already, and forks off those that tests want: each is spared a start of its own.

What is forked runs `python -m zpipe ARGS` from then on, to its end, with the folder, the environment and the files that
it was given; or it is the supervisor of the workers of a pipeline. `Offspring` is to such a process what Popen is to
others. What the system tells of it, its command line above all, is the forking process's; tests of that, or of how a
process starts, start theirs anew.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NoReturn

MARK = "MARK_OF_A_TEST"
"""Environment variable by which a test knows the processes it is to blame for: 32 characters."""

MATTERS = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "TZ")
"""How variables begin that matter to an interpreter when it starts."""

LOADED = (
    *("cli.run", "cli.ventilator", "cli.worker", "cli.sink", "cli.resume", "cli.journal", "cli.cache", "cli.steering"),
    *("jobs.drive", "jobs.inline", "input.feeder", "input.lines", "output.outputs", "output.recorder"),
    *("nodes.slots", "running.tasks", "running.runner"),
)


class Offspring:
    """One process that was forked off. `status` is where its number and later its exit status are told."""

    def __init__(self, status: socket.socket, stdin: IO[bytes] | None, stdout: IO[bytes] | None = None) -> None:
        self._status, self.stdin, self.stdout = status, stdin, stdout
        self.pid = self._told(b"begun")
        self.returncode: int | None = None

    def _told(self, what: bytes) -> int:
        told, _, number = self._status.recv(64).partition(b" ")
        assert told == what, "it could not be forked off"
        return int(number)

    def poll(self) -> int | None:
        """Return its exit status, as Popen has it, or None as long as it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit status. Raises TimeoutExpired after so many seconds."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("zpipe", timeout or 0.0)
            self.returncode = self._told(b"ended")
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Zygote:
    """Starts the process that forks others, once there is need of one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._environ: dict[str, str] = {}

    def fit(self, env: dict[str, str], how: dict[str, Any]) -> bool:
        """Tell whether a process with this environment, and what else Popen is given, can be forked off."""
        if sys.platform != "linux" or not set(how) <= {"stdin", "stdout", "stderr", "start_new_session"}:
            return False
        if self._process is None:
            self._start()
        differ = {key for key, _ in {*env.items()} ^ {*self._environ.items()}}
        return len(env[MARK]) == 32 and not any(key.startswith(MATTERS) for key in differ)

    def _start(self) -> None:
        self._environ = {**os.environ, MARK: 32 * "-"}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                cwd="/",
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._stop)

    def _stop(self) -> None:
        assert self._process is not None
        self._control.close()
        self._process.wait()

    def start(self, args: list[str], folder: Path, env: dict[str, str], how: dict[str, Any]) -> Offspring:
        """Fork off a process that runs `zpipe ARGS` there."""
        order = {"args": args, "folder": str(folder), "env": env, "session": how.get("start_new_session", False)}
        with contextlib.ExitStack() as stack:
            stdin, ours = how["stdin"], None
            if stdin == subprocess.PIPE:
                reading, writing = os.pipe()
                stdin, ours = stack.enter_context(os.fdopen(reading, "rb")), os.fdopen(writing, "wb")
            elif stdin == subprocess.DEVNULL:
                stdin = stack.enter_context(Path(os.devnull).open("rb"))
            files = [each if isinstance(each, int) else each.fileno() for each in (stdin, how["stdout"], how["stderr"])]
            status = self._order(order, files)
        return Offspring(status, ours)

    def supervisor(self, env: dict[str, str], shared: list[int]) -> Offspring:
        """Fork off a supervisor of workers with pipes for stdin and stdout, which has the `shared` files, too."""
        order = {"shared": shared, "folder": os.getcwd(), "env": env, "session": False}
        with contextlib.ExitStack() as stack:
            (hears, stdin), (stdout, says) = os.pipe(), os.pipe()
            for fd in (hears, says):
                stack.callback(os.close, fd)
            ours = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")
            status = self._order(order, [hears, says, 2], shared)
        return Offspring(status, *ours)

    def _order(self, order: dict[str, Any], files: list[int], shared: Sequence[int] = ()) -> socket.socket:
        status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [json.dumps(order).encode()], [*files, theirs.fileno(), *shared])
        return status


# what the process that forks others does


def fork_others(control: socket.socket) -> dict[str, Any] | None:
    """Fork off what is ordered until nobody is there to order any more; in what is forked return what it is to be."""
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for fd, _ in waiting.poll():
            if fd in children:
                waiting.unregister(fd)
                pid, status = children.pop(fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.close(fd)
                with contextlib.suppress(OSError):  # the test is over
                    status.send(b"ended %d" % code)
                status.close()
                continue
            data, files, _, _ = socket.recv_fds(control, 1 << 20, 8)
            if not data:
                return None
            pid = os.fork()
            if not pid:
                for _, status in children.values():
                    status.detach()  # its number may be another file's from here on
                for number, file in enumerate(files):
                    os.dup2(file, number)
                os.closerange(len(files), 1 << 16)
                order: dict[str, Any] = json.loads(data)
                return order
            for file in (*files[:3], *files[4:]):
                os.close(file)
            status = socket.socket(fileno=files[3])
            pidfd = os.pidfd_open(pid)
            children[pidfd] = (pid, status)
            waiting.register(pidfd, select.POLLIN)


def become(order: dict[str, Any]) -> None:
    """Be the process that was ordered, whose files are in place; say so at the fourth of them."""
    # Its mark is looked for where the system shows the environment a process was begun with.
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    ctypes.memmove(getenv(MARK.encode()), order["env"][MARK].encode(), 32)
    os.environ.clear()
    os.environ.update(order["env"])
    if order["session"]:
        os.setsid()
    os.chdir(order["folder"])
    with socket.socket(fileno=3) as status:
        status.send(b"begun %d" % os.getpid())
    if "shared" in order:
        supervise(order["shared"])
    sys.path[0] = order["folder"]
    sys.argv = ["zpipe", *order["args"]]
    runpy.run_module("zpipe", run_name="__main__", alter_sys=True)


def supervise(shared: list[int]) -> NoReturn:
    """Be a supervisor of workers; the files from the fourth on are to have these numbers."""
    here = [fcntl.fcntl(4 + n, fcntl.F_DUPFD, 1 + max(shared)) for n in range(len(shared))]
    os.closerange(3, min(here))
    for fd, number in zip(here, shared, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    sys.argv = ["-c"]
    sys.modules["__main__"] = ModuleType("__main__")
    from zpipe.nodes.slots import main

    main()
    raise SystemExit


if __name__ == "__main__":
    for name in LOADED:
        import_module(f"zpipe.{name}")
    gc.freeze()  # what is looked through for garbage is copied
    found = None
    with contextlib.suppress(KeyboardInterrupt):
        control = socket.socket(fileno=int(sys.argv[1]))
        found = fork_others(control)
    if found is not None:
        control.detach()
        become(found)
