"""Real `zpipe` processes for tests: started, watched, waited for with a deadline, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from process.zygote import MARK, Offspring, Zygote

PATIENCE = 120.0
"""Seconds until a test gives up waiting; only a failing test ever waits that long."""

LOCAL = "tcp://127.0.0.1"

LINUX = sys.platform == "linux"

ZYGOTE = Zygote()


def wait_until(condition: Callable[[], Any], what: Callable[[], str] | str = "", patience: float = PATIENCE) -> Any:
    """Return the first true value of `condition()`. Raises AssertionError saying `what` was waited for."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what() if callable(what) else what}")
        time.sleep(0.01)
    return value


def alive(pid: int) -> bool:
    """Tell whether there is a process `pid` that has not ended; a zombie has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if LINUX:
            return False
    except ProcessLookupError:
        return False
    else:
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def marked(mark: str) -> list[int]:
    """Return the processes that carry `mark`, whoever their parent is. Knows Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*") if LINUX else ():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if f"{MARK}={mark}\0".encode() in (entry / "environ").read_bytes() and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def _ports() -> Iterator[int]:
    """Give ports for ever, from below those the system hands out by itself.

    Each process of pytest-xdist has a share of its own, and comes to the same port again as late as can be: what takes
    one does so some time after it was seen to be free.
    """
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % shares
    size = 12_000 // shares
    first = 20_000 + mine * size
    at = random.randrange(size)
    while True:
        yield first + at
        at = (at + 1) % size


_next_ports = _ports()


def free_port(count: int = 1) -> int:
    """Return a port that was free just now, or the first of `count` such in a row."""
    found: list[int] = []
    while len(found) < count:
        port = next(_next_ports)
        if not _is_free(port):
            found.clear()
        elif found and port != found[-1] + 1:
            found = [port]
        else:
            found.append(port)
    return found[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Node:
    """One process, with its stdout and stderr in files. `stdin` is a pipe if it was asked for.

    `forked`: what it does is `zpipe` with these arguments, and it need not be started anew for that.
    """

    def __init__(
        self,
        name: str,
        argv: list[str],
        folder: Path,
        env: dict[str, str],
        how: dict[str, Any],
        forked: list[str] | None = None,
    ) -> None:
        self._name = name
        self._files = [folder / f"{name}.out", folder / f"{name}.err"]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            how = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **how}
            self.process: subprocess.Popen[bytes] | Offspring
            if forked is not None and ZYGOTE.fit(env, how):
                self.process = ZYGOTE.start(forked, folder, env, how)
            else:
                self.process = subprocess.Popen(argv, cwd=folder, env=env, **how)
        self.pid = self.process.pid

    @property
    def raw(self) -> bytes:
        """What it wrote to stdout so far."""
        return self._files[0].read_bytes()

    @property
    def out(self) -> str:
        """What it wrote to stdout so far, as text."""
        return self.raw.decode()

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        return self._files[1].read_text(errors="replace")

    def said(self, *texts: str) -> str:
        """Wait until all of `texts` are on its stderr; return all of that."""
        wait_until(lambda: all(t in self.err for t in texts), lambda: f"{texts} from {self._story()}")
        return self.err

    def url(self) -> str:
        """Wait until this ventilator listens; return its address."""
        return self.said("listening").partition("zpipe sink ")[2].split()[0]

    def printed(self, text: str) -> None:
        """Wait until `text` is on its stdout."""
        wait_until(lambda: text in self.out, lambda: f"{text!r} on stdout of {self._story()}")

    def write(self, text: str) -> None:
        """Write to its stdin, at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to its process group, which must be its own."""
        assert os.getpgid(self.pid) == self.pid
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill it and wait for its end."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def eof(self) -> Node:
        """Close its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for its end; return its exit status."""
        wait_until(lambda: self.process.poll() is not None, lambda: f"the end of {self._story()}", patience)
        return self.process.returncode

    def ended(self, status: int) -> Node:
        """Wait for its end, which must be with this exit status and without a traceback of zpipe's own."""
        found = self.end()
        assert found == status, f"exit status {found}, not {status}, of {self._story()}"
        assert "zpipe/cli/" not in self.err, self._story()
        return self

    def _story(self) -> str:
        return f"{self._name}, which printed {self.out[-1500:]!r} and said\n{self.err[-5000:]}"


class Zpipe:
    """Starts `zpipe` processes in a folder of the test's own."""

    anew = False
    """Whether each is to be an interpreter of its own from the start, not forked off one that has loaded zpipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.nodes: list[Node] = []

    def start(self, *args: object, **how: Any) -> Node:
        """Start `zpipe ARGS`; `how` is as for `python`."""
        return self.python("-m", "zpipe", *args, **how)

    def python(
        self,
        *args: object,
        folder: Path | None = None,
        popen: dict[str, Any] | None = None,
        before: Sequence[str] = (),
        **env: str,
    ) -> Node:
        """Start `python ARGS` with these environment variables besides the usual ones; `popen` as Popen takes it.

        What is `before` goes ahead of that command.
        """
        usual = {key: value for key, value in os.environ.items() if not key.startswith(("ZPIPE_", "_ZPIPE_"))}
        words = [str(arg) for arg in args]
        forked = words[2:] if words[:2] == ["-m", "zpipe"] and not before and not self.anew else None
        argv = [*before, sys.executable, *words]
        name = f"node{len(self.nodes)}"
        node = Node(name, argv, folder or self.folder, {**usual, MARK: self.mark, **env}, popen or {}, forked)
        self.nodes.append(node)
        return node

    def piped(self, *args: object) -> Node:
        """Start `zpipe ARGS` with a pipe for stdin."""
        return self.start(*args, popen={"stdin": subprocess.PIPE})

    def run(self, *args: object, status: int = 0, text: str | bytes | None = None, **env: str) -> Node:
        """Run `zpipe ARGS` to its end, which must be with `status`; `text` is its stdin."""
        if text is None:
            return self.start(*args, **env).ended(status)
        source = self.folder / "stdin"
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        with source.open("rb") as stdin:
            return self.start(*args, popen={"stdin": stdin}, **env).ended(status)

    def forked(self, *commands: tuple[str, ...]) -> list[tuple[int, str, str]]:
        """Run `zpipe` with each of these arguments, forked off one process; return status, stdout, stderr of each."""
        (self.folder / "commands").write_text(json.dumps(commands))
        found = json.loads(self.python("forked.py", "commands").ended(0).out)
        return [(status, out, err) for status, out, err in found]

    def allow(self, most: int) -> None:
        """Have tasks that ask for it wait at items from `most` on, until more is allowed."""
        self.write("most", most)

    def write(self, name: str, text: object) -> None:
        """Write a file that tasks read, so that nobody ever sees half of it."""
        path = self.folder / f"{name}.new"
        path.write_text(str(text))
        path.replace(self.folder / name)

    def task_pids(self, seen: str = "pids") -> list[int]:
        """Return the processes that tasks have noted in the file `seen`."""
        path = self.folder / seen
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def working(self) -> list[int]:
        """Return those of `task_pids` that are still there, and are no other's that has the number now."""
        there = set(self.task_pids())
        return sorted(there & set(self.left()) if LINUX else filter(alive, there))

    def noted(self) -> list[int]:
        """Return the items that tasks have noted in the file `noted`, in the order in which they were begun."""
        return self.task_pids("noted")

    def left(self) -> list[int]:
        """Return the processes that are still there."""
        return marked(self.mark)

    def close(self) -> None:
        """Kill what is left and wait for it."""
        for node in self.nodes:
            if node.process.stdin is not None:
                node.process.stdin.close()
            if node.process.poll() is None:
                node.kill()
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def records(text: str) -> list[dict[str, Any]]:
    """Return JSON lines as objects, in the order of their indices."""
    return sorted((json.loads(line) for line in text.splitlines()), key=lambda record: record["index"])


def values(text: str) -> list[Any]:
    """Return the values of JSON lines in the order of their indices, which must be 0, 1, 2 and so on."""
    found = records(text)
    assert [record["index"] for record in found] == list(range(len(found)))
    return [record["value"] for record in found]
