"""The error tree. Imports nothing, so every layer may raise from it.

    ZpipeError
    ├── UsageError      the user asked for something that can't be; nothing was run (exit status 2)
    ├── TaskError       the task (or predicate, or reducer) can't be loaded (exit status 2)
    ├── SourceError     the source of items failed part way (exit status 1)
    ├── OutputError     results could not be written or folded (exit status 1)
    ├── WireError       a peer sent what the protocol does not allow; never the user's fault
    └── CommandFailed   a shell command ended with a non-zero status: fails its item alone

Every message says what happened, to what, and what to do.
"""

from __future__ import annotations

__all__ = [
    "CommandFailed",
    "OutputError",
    "SourceError",
    "TaskError",
    "UsageError",
    "WireError",
    "ZpipeError",
]


class ZpipeError(Exception):
    """The root of every error zpipe raises on purpose."""

    exit_status = 1


class UsageError(ZpipeError):
    """The request can't be met as it was put; nothing was run."""

    exit_status = 2


class TaskError(ZpipeError):
    """A task, predicate or reducer can't be loaded where it has to run."""

    exit_status = 2


class SourceError(ZpipeError):
    """The source of items failed part way; what was read before it is still done."""


class OutputError(ZpipeError):
    """A result could not be written or folded at the sink."""


class WireError(ZpipeError):
    """A peer sent a message that the protocol does not allow."""


class CommandFailed(ZpipeError):
    """A shell command ended with a non-zero exit status.

    `status` is the exit status (negative: the number of the signal that killed it), `stdout` and `stderr`
    are what it printed, as text.
    """

    def __init__(self, message: str, status: int, stdout: str, stderr: str) -> None:
        super().__init__(message)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str, int, str, str]]:
        return (CommandFailed, (str(self), self.status, self.stdout, self.stderr))
