"""How workers' processes begin: forked off a command, started by a script, and what they may not find or keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from process.tools import LINUX, Node, Zpipe, values

SCRIPT = """
import zpipe

def double(number):
    return 2 * number

if __name__ == "__main__":
    with zpipe.Pipeline(1) as pipe:
        print(list(pipe.map(double, range(3))))
"""

COMMAND = "from zpipe.__main__ import main\n\nmain()\n"

TASKS = """
import gc
import os
import signal
import sys
import threading

def where(item):
    listed = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            listed.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return {
        "argv": sys.argv[1:],
        "folder": os.getcwd(),
        "found": sys.path[0],
        "collects": gc.isenabled(),
        "stdin": os.read(0, 1).decode(),
        "handlers": [signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": threading.active_count(),
        "stdout": os.fstat(1) == os.fstat(2),
        "held": sorted(name for name in listed if name.endswith(("held", "stdin"))),
        "leader": os.getpgid(0) == os.getpid(),
    }
"""

ANEW = ("sh", "-c", 'exec "$@" <&-', "sh")
"""Goes ahead of a command: without a stdin it does not fork its workers' process off itself."""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder in which nobody should look for what zpipe is made of."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in ("zpipe", "zmq", "msgspec", "typing", "importlib", "contextlib", "subprocess", "random", "json"):
        (folder / f"{name}.py").write_text(f"raise RuntimeError('{name} of the current folder')\n")
    (folder / "own.py").write_text("def double(number):\n    return 2 * number\n")
    return folder


def test_a_script_does_not_find_zpipe_in_the_current_folder(zpipe: Zpipe, trap: Path) -> None:
    """Its workers are of the same zpipe as the script itself, whose folder is another."""
    (zpipe.folder / "script.py").write_text(SCRIPT)
    node = zpipe.python(zpipe.folder / "script.py", folder=trap).ended(0)
    assert (node.out, node.err) == ("[0, 2, 4]\n", "")


@pytest.mark.parametrize("before", [(), ANEW])
def test_a_command_does_not_find_zpipe_in_the_current_folder(zpipe: Zpipe, trap: Path, before: tuple[str, ...]) -> None:
    """Nor do its workers, forked or not, which do find the task there."""
    (zpipe.folder / "command.py").write_text(COMMAND)
    words = ("run", "own:double", "--range", "0:3", "--workers", "1", "--raw", "--ordered", "--quiet")
    node = zpipe.python(zpipe.folder / "command.py", *words, folder=trap, before=before).ended(0)
    assert (node.out, node.err) == ("0\n2\n4\n", "")


@pytest.mark.skipif(not LINUX, reason="looks at descriptors in /proc")
def test_a_worker_is_the_same_forked_or_not(zpipe: Zpipe) -> None:
    """A task finds nothing of the command's: no files, arguments, blocked signals or stdin."""
    (zpipe.folder / "tasks.py").write_text(TASKS)
    (zpipe.folder / "stdin").write_text("first\nsecond\n")
    words = ("-m", "zpipe", "run", "tasks:where", "--workers", "1", "--chunk", "1", "--quiet")

    def found(script: str, *more: str) -> dict[str, object]:
        node: Node = zpipe.python(*words, *more, before=("sh", "-c", script, "sh")).ended(0)
        assert node.err == ""
        first: dict[str, object] = values(node.out)[0]
        return first

    forked = found('exec "$@" 7>held <stdin')
    assert forked == found('exec "$@" 7>held <&-', "--range", "0:2")
    assert forked == {
        **forked,
        "argv": [],
        "folder": str(zpipe.folder.resolve()),
        "collects": True,
        "stdin": "",
        "blocked": [],
        "stdout": True,
        "held": [],
        "leader": True,
    }


@pytest.mark.skipif(not LINUX, reason="only there is it forked")
def test_a_command_with_threads_does_not_fork(zpipe: Zpipe) -> None:
    """A lock that one of them holds would never be let go of: the workers' process is started anew."""
    (zpipe.folder / "command.py").write_text(
        "import threading, time\n\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        f"import sys\nsys.__dict__['told'] = 'by the command'\n{COMMAND}"
    )
    (zpipe.folder / "tasks.py").write_text(
        "import sys\n\ndef told(item):\n    return getattr(sys, 'told', 'nothing')\n"
    )
    words = ("run", "tasks:told", "--range", "0:1", "--workers", "1", "--raw", "--quiet")
    node = zpipe.python("command.py", *words).ended(0)
    assert (node.out, node.err) == ("nothing\n", "")


def test_a_workers_process_that_can_not_begin_is_told(zpipe: Zpipe) -> None:
    """It shows why, does not go on as the command if it was forked, and the job ends."""
    (zpipe.folder / "command.py").write_text(f"import sys\n\nsys.modules['zpipe.nodes.warden'] = None\n{COMMAND}")
    node = zpipe.python("command.py", "run", "jobs:same", "--range", "0:9", "--workers", "1").ended(1)
    assert "ModuleNotFoundError: import of zpipe.nodes.warden halted" in node.err
    assert "all local workers have ended" in node.err
    assert node.out == ""
