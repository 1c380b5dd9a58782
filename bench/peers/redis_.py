"""A redis-server of its own on a Unix socket, as the queue for those that need one. It keeps nothing on disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PLACE", "server"]

PLACE = "BENCH_REDIS"
"""The variable that names the server's socket to the processes of a run."""


@contextmanager
def server() -> Iterator[None]:
    """Run one, unless there is one. Raises FileNotFoundError without redis-server."""
    if PLACE in os.environ:
        yield
        return
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        socket = Path(folder) / "redis.sock"
        quiet = ["--save", "", "--appendonly", "no", "--dir", folder, "--logfile", f"{folder}/log"]
        process = subprocess.Popen([program, "--port", "0", "--unixsocket", str(socket), *quiet])
        try:
            deadline = time.monotonic() + 20
            while not socket.exists():
                if time.monotonic() > deadline:
                    raise TimeoutError("redis-server did not come up in 20 s")
                time.sleep(0.01)
            os.environ[PLACE] = str(socket)
            yield
        finally:
            os.environ.pop(PLACE, None)
            process.terminate()
            process.wait()
