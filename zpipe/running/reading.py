"""Reads a chunk's payload into items, and says why of those that can't be read.

The rule: an item that can't be read fails alone, and a payload that does not hold the chunk's items is the peer's fault
(WireError). This file does not know what is done with items.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from zpipe import data, serialize
from zpipe.core.grains import grains_of
from zpipe.core.spec import JobSpec
from zpipe.core.wire import Buffer, Chunk
from zpipe.errors import WireError
from zpipe.running import records
from zpipe.running.packing import unpack
from zpipe.running.traces import message_text

__all__ = ["Unread", "read"]

LISTED = 1024
"""A range of up to this many items is spelled out, so that some may be handed back; more of them take no time each."""

Unread = deque[tuple[int, records.Error | BaseException]]
"""The items that can't be read, as (position in the chunk, error), in order."""


def read(spec: JobSpec, chunk: Chunk, frames: Sequence[Buffer]) -> tuple[Any, Unread]:
    """Return a chunk's items, with stand-ins for those that can't be read, and why they can't.

    Raises WireError when the frames don't hold that many items.
    """
    if chunk.grain:
        return _read_row(spec, chunk)
    kind, skip, count = chunk.items, chunk.skip, chunk.stop - chunk.start
    first = chunk.start - skip
    if not frames or (kind != "pickle" and len(frames) > 1):
        raise WireError(f"a chunk of {kind} items in {len(frames)} frames")
    if kind == "pickle":
        if spec.codec != "pickle":
            raise WireError(f"a chunk of pickled items in a job of --codec {spec.codec}")
        items, unread = _read_pickle(spec, first, skip + count, frames)
    elif kind == "msgpack":
        items, unread = _read_msgpack(frames[0])
    elif kind == "packed":
        items, unread = unpack(frames[0], spec.codec, first)
    elif kind == "lines":
        items, unread = _read_lines(spec, first, frames[0])
    else:
        items, unread = _read_json(spec, first, frames[0])
    if len(items) < skip + count:
        raise WireError(f"a chunk for the range [{chunk.start}, {chunk.stop}) with {len(items) - skip} items")
    if skip or len(items) > count:
        items = items[skip : skip + count]
        unread = deque((position - skip, why) for position, why in unread if skip <= position < skip + count)
    return items, unread


def _read_row(spec: JobSpec, chunk: Chunk) -> tuple[list[Any], Unread]:
    """Return the items of a row that is to be run as one chunk after all."""
    items: list[Any] = []
    unread: Unread = deque()
    for start, stop, skip, body in grains_of(chunk):
        more, faults = read(spec, Chunk(start, stop, chunk.attempt, chunk.items, chunk.task, skip), (body,))
        unread.extend((len(items) + position, why) for position, why in faults)
        items += more
    return items, unread


def _read_pickle(spec: JobSpec, start: int, count: int, frames: Sequence[Buffer]) -> tuple[Any, Unread]:
    try:
        items = serialize.loads(frames, sharing=True)
    except BaseException as error:  # noqa: BLE001 - a class this worker lacks, say: the items fail
        why: records.Error | BaseException = error
        if spec.encoding != "outcomes":
            said = f"items {start} to {start + count - 1} can't be unpickled on this worker: {message_text(error)}"
            why = {"type": type(error).__name__, "message": said, "traceback": ""}
        return [None] * count, deque((position, why) for position in range(count))
    if type(items) is range and len(items) <= LISTED:
        items = list(items)
    if not isinstance(items, list | tuple | range):
        raise WireError(f"a chunk whose items are a {type(items).__name__}")
    return items, deque()


def _read_msgpack(frame: Buffer) -> tuple[list[Any], Unread]:
    try:
        items = data.load(frame, "msgpack")
    except (ValueError, RecursionError) as error:
        raise WireError(f"a chunk of items that are no MessagePack: {error}") from None
    if not isinstance(items, list):
        raise WireError(f"a chunk whose items are a {type(items).__name__}")
    return items, deque()


def _read_lines(spec: JobSpec, start: int, frame: Buffer) -> tuple[list[str], Unread]:
    try:
        text, separator = str(frame, spec.text_encoding), spec.separator.decode("ascii")
    except UnicodeDecodeError:
        return _read_odd_lines(spec, start, frame)
    if separator == "\n" and "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    items = text.split(separator)
    # Lines are counted in bytes; in some encodings a character has a byte that looks like a separator.
    odd = len(items) != bytes(frame).count(spec.separator) + 1
    return _read_odd_lines(spec, start, frame) if odd else (items, deque())


def _read_odd_lines(spec: JobSpec, start: int, frame: Buffer) -> tuple[list[str], Unread]:
    """Return the lines, cut as bytes and decoded one by one, of a chunk that can't be decoded as a whole."""
    items: list[str] = []
    unread: Unread = deque()
    for position, whole in enumerate(bytes(frame).split(spec.separator)):
        line = whole.removesuffix(b"\r") if spec.separator == b"\n" else whole
        try:
            items.append(line.decode(spec.text_encoding))
        except UnicodeDecodeError as error:
            items.append(line.decode(spec.text_encoding, "backslashreplace"))
            said = (
                f"item {start + position} isn't {spec.text_encoding}: byte 0x{line[error.start]:02x} at position "
                f"{error.start}; give the file's encoding with --encoding, e.g. latin-1"
            )
            unread.append((position, {"type": "UnicodeDecodeError", "message": said, "traceback": ""}))
    return items, unread


def _read_json(spec: JobSpec, start: int, frame: Buffer) -> tuple[list[Any], Unread]:
    lines = bytes(frame).split(spec.separator)
    decode = msgspec.json.Decoder().decode
    items: list[Any] = []
    unread: Unread = deque()
    pending = iter(lines)
    while len(items) < len(lines):
        try:
            items.extend(map(decode, pending))
        except (ValueError, RecursionError) as error:  # noqa: PERF203 - once for each odd line
            item, failure = _read_odd_json(start + len(items), lines[len(items)], error)
            if failure:
                unread.append((len(items), failure))
            items.append(item)
    if spec.unwrap:
        failed = {position for position, _ in unread}
        unread = deque(sorted([*unread, *_unwrap(start, items, failed)], key=operator.itemgetter(0)))
    return items, unread


def _unwrap(start: int, items: list[Any], failed: set[int]) -> Iterator[tuple[int, records.Error]]:
    """Put in place of dead letters the items they hold; yield the errors of those that hold none."""
    for position, letter in enumerate(items):
        if position in failed:
            continue
        line = f"line {start + position + 1}"
        if isinstance(letter, dict) and "item" in letter and "repr" not in letter:
            if letter.get("stage", 1) == 1:
                items[position] = letter["item"]
                continue
            said = f"{line} is of stage {letter['stage']}: give the stages of the job that wrote it, with --then"
        else:
            said = f"{line} is no dead letter that holds an item; give its item in another way"
        yield position, {"type": "ValueError", "message": said, "traceback": ""}


def _read_odd_json(index: int, line: bytes, error: Exception) -> tuple[Any, records.Error | None]:
    """Return the item of a line that msgspec refused: the standard library takes NaN, infinities, lone surrogates."""
    import json

    try:
        return json.loads(line), None
    except (ValueError, RecursionError):
        said = f"item {index} isn't JSON: {error}; mend the line, or read the input as lines of text"
        failure = {"type": type(error).__name__, "message": said, "traceback": ""}
        return line.decode("utf-8", "backslashreplace"), failure
