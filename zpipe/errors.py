"""The error tree. Imports nothing, so every layer may raise from it.

    ZpipeError
    ├── UsageError      the user asked for something that can't be; nothing was run (exit status 2)
    ├── TaskError       the task (or predicate, or reducer) can't be loaded (exit status 2)
    ├── SourceError     the source of items failed part way (exit status 1)
    ├── OutputError     results could not be written or folded (exit status 1)
    ├── WireError       a peer sent what the protocol does not allow; never the user's fault
    ├── CommandFailed   a shell command ended with a non-zero status: fails its item alone
    └── RemoteError     stands for a task's exception that could not be carried home

`zpipe.broken` adds two that are also concurrent.futures' own. `RemoteTraceback` is no error but the cause of one.

Every message says what happened, to what, and what to do.
"""

from __future__ import annotations

__all__ = [
    "CommandFailed",
    "OutputError",
    "RemoteError",
    "RemoteTraceback",
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


class RemoteTraceback(Exception):
    """The cause of an exception that a task raised in a worker. Its str() is the traceback there, quoted."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tb = text

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


class RemoteError(ZpipeError):
    """Stands for a task's exception that could not be carried: `type` and `message` are the exception's, `why` why."""

    def __init__(self, type: str, message: str, why: str) -> None:  # noqa: A002 - the attribute's name
        super().__init__(type, message, why)
        self.type, self.message, self.why = type, message, why

    def __str__(self) -> str:
        said = f"{self.type}: {self.message}" if self.message else self.type
        return f"{said} ({self.why})"
