"""The error tree. Imports nothing, so every layer may raise from it.

    ZpipeError
    ├── UsageError      the user asked for something that can't be; nothing was run (exit status 2)
    ├── TaskError       the task (or predicate, or reducer) can't be loaded (exit status 2)
    ├── SourceError     the source of items failed part way (exit status 1)
    ├── OutputError     results could not be written or folded (exit status 1)
    ├── WireError       a peer sent what the protocol does not allow; never the user's fault
    ├── CommandFailed   a shell command ended with a non-zero status: fails its item alone
    ├── Retry           a task asks for its item to be tried again
    ├── Reject          a task gives its item up: it is not tried again
    ├── ItemTimeout     an item ran longer than it may, and its worker was killed
    ├── Expired         an item was not sent to a worker in the time it had
    └── RemoteError     stands for a task's exception that could not be carried home

`zpipe.broken` adds two that are also concurrent.futures' own. `RemoteTraceback` is no error but the cause of one.

Every message says what happened, to what, and what to do.
"""

from __future__ import annotations

__all__ = [
    "CommandFailed",
    "Expired",
    "ItemTimeout",
    "OutputError",
    "Reject",
    "RemoteError",
    "RemoteTraceback",
    "Retry",
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


class Retry(ZpipeError):
    """Raised by a task to have its item tried again, in `after` seconds (None: as the job's backoff has it).

    It counts as one of the job's retries, or as one of three where the job has none.
    """

    def __init__(self, after: float | None = None, reason: str = "the task asked for another try") -> None:
        super().__init__(after, reason)
        self.after = after
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Reject(ZpipeError):
    """Raised by a task to give its item up for this `reason`, whatever retries the job has."""

    def __init__(self, reason: str = "the task rejected the item") -> None:
        super().__init__(reason)
        self.reason = reason


class ItemTimeout(ZpipeError, TimeoutError):
    """An item ran longer than it may: whatever its code was at, its worker was killed. The others are done."""


class Expired(ZpipeError):
    """An item was not sent to a worker within its `ttl`: it was not run."""


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
