"""Runs many `zpipe` commands, each in a process forked off for it, which saves them the interpreter's start.

`forked.py FILE`: FILE is a JSON list of argument lists; for each, [exit status, stdout, stderr] is printed as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from zpipe import cli

LOADED_ONCE = ("cli.run", "jobs.drive", "input.feeder", "input.lines", "output.outputs", "nodes.slots", "running.tasks")


def run(args: list[str]) -> tuple[int, str, str]:
    """Run `zpipe ARGS` in a process of its own."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["zpipe", *args]
            status = 70
            try:
                cli.main()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:  # noqa: BLE001 - a forked child must not go on as its parent
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(), err.read().decode()


if __name__ == "__main__":
    for name in LOADED_ONCE:
        import_module(f"zpipe.{name}")
    print(json.dumps([run(args) for args in json.loads(Path(sys.argv[1]).read_text())]))
