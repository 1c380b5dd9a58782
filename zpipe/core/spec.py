"""What a job has its workers run, and how its items and values are carried. Must not know who tells them, or when."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["PICKLED", "Call", "Codec", "Encoding", "ItemKind", "JobSpec", "TaskSpec"]

Codec = Literal["pickle", "json", "msgpack"]
"""How items and values travel: as whatever can be pickled, or as data, and then nothing is unpickled anywhere."""

ItemKind = Literal["pickle", "lines", "json", "msgpack", "packed"]
"""How a chunk's items are carried: a pickled list, raw lines of text or of JSON, or a list in MessagePack; packed: a
list of what each item is as bytes, in the job's codec."""

Encoding = Literal["values", "values-json", "values-msgpack", "json", "raw", "pickle", "outcomes", "packed"]
"""What a worker makes of its values: a list for folding, pickled or as data; records to be written; values and
exceptions; or the items of a next stage."""

PICKLED: frozenset[Encoding] = frozenset({"values", "pickle", "outcomes"})
"""The encodings that are pickles."""

Call = Literal["one", "star", "full"]
"""What an item is to the function: its argument, a tuple of its arguments, or (arguments, keyword arguments)."""


class TaskSpec(msgspec.Struct, frozen=True, gc=False):
    """A function a worker has to run, by one of four ways to carry it.

    import: `name` is `module:function`. file: `name` is `path/file.py:function` and `data` the file's text.
    command: `name` is a command template. pickle: `data` is a pickled function, `name` what to call it in messages.
    """

    kind: Literal["import", "file", "command", "pickle"]
    name: str
    data: bytes = b""
    shell: bool = False
    call: Call = "one"


class JobSpec(msgspec.Struct, frozen=True, gc=False):
    """What a worker has to know of a job: sent once to each worker."""

    task: TaskSpec
    encoding: Encoding = "values"
    until: TaskSpec | None = None
    first: bool = False
    text_encoding: str = "utf-8"
    separator: bytes = b"\n"
    max_result: int = 256 * 1024 * 1024
    retries: int = 0
    retry_delay: float = 1.0
    retry_max_delay: float = 60.0
    retry_on: list[str] = []
    """Names of exceptions, `ValueError` or `module.Name`, whose items are tried again (none: all but a few)."""
    letters: bool = False
    """Failures come with a line for the dead letters."""
    joblog: bool = False
    """Results come with a line for the job log for each item."""
    unwrap: bool = False
    """Items are those that dead letters hold."""
    setup: bool = False
    """The task is called once, with nothing, ahead of all others, and its globals are theirs."""
    timeout: float = 0.0
    """Seconds an item may run before its worker is killed (0: as long as it likes)."""
    max_memory: int = 0
    """Bytes that a worker and what it has started may hold before they are killed (0: any number)."""
    max_tasks: int = 0
    """Items after which a worker's process is replaced by a fresh one (0: never)."""
    codec: Codec = "pickle"
    """With another one no worker unpickles anything for the job."""
    keep: int = 0
    """Results come with each item's outcome once more, where a chunk's take so many bytes at most (0: without)."""
    stage: int = 0
    """Which stage of the job this is, from 1 (0: it has none)."""
    concurrency: int = 0
    """Items of a coroutine function that a slot runs at a time (0: as many as it finds right)."""

    @property
    def limited(self) -> bool:
        """Whether workers are killed over it, so that what they say of their predecessor's end is worth waiting for."""
        return bool(self.timeout or self.max_memory)
