"""How it is told that an item failed: in the shape of an error, and why outcomes can't be sent.

This file does not know what runs the task, nor what becomes of the item.
"""

from __future__ import annotations

from collections.abc import Sequence

from zpipe.core import wire
from zpipe.core.wire import Buffer
from zpipe.errors import CommandFailed, Expired, ItemTimeout
from zpipe.running import records
from zpipe.running.traces import message_text, trace_text

__all__ = ["NO_TRACE", "STOPPED", "explain", "spelled", "too_long"]

STOPPED = "the task raised StopIteration: next() on an iterator that has ended, perhaps; give next() a default"
NO_TRACE: records.Error = {"message": STOPPED, "traceback": ""}


def too_long(frames: Sequence[Buffer], part: records.Batch) -> str:
    """Return why outcomes can't be sent in one message, empty if they can."""
    longest = max(map(len, frames))
    if longest <= wire.MAX_BYTES:
        return ""
    return (
        f"the results of the chunk from item {part.start} on take {longest:,} bytes, over the {wire.MAX_BYTES:,} that "
        "fit into a message: send fewer items together (--chunk, chunksize), or write to files and return their paths"
    )


def explain(error: BaseException) -> records.Error:
    """Return an exception as an item's error."""
    said = {"type": type(error).__name__, "message": message_text(error), "traceback": ""}
    if isinstance(error, ItemTimeout | Expired):
        return said
    if isinstance(error, CommandFailed):
        return {**said, "exit": error.status, "stdout": error.stdout, "stderr": error.stderr}
    return {**said, "traceback": trace_text(error)}


def spelled(error: records.Error) -> str:
    """Return an item's traceback; empty if it has no line but that of the type and the message."""
    trace: str = error["traceback"]
    said = f"{error['type']}: {error['message']}\n" if error["message"] else f"{error['type']}\n"
    return "" if trace.endswith(said) and "\n" not in trace.removesuffix(said) else trace
