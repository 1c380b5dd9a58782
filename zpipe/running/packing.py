"""Items with any number of outputs, and outputs on their way to a next stage, whose items they are.

The rule: an item's outputs count all together or, where one of them can't be carried, not at all: then the item has
failed. On their way outputs are bytes each, in the job's codec, so that where they pass nothing is unpickled; a payload
is one frame, a MessagePack list of them. Ahead of each payload of a job in stages stands the number that its first item
has in its stage, since in the job items are numbered as they are sent, whichever stage they are of.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar

import msgspec

from zpipe import data, serialize
from zpipe.core.spec import Codec, Encoding
from zpipe.core.wire import Buffer
from zpipe.errors import WireError
from zpipe.running import records
from zpipe.running.traces import message_text

__all__ = ["encode", "join", "numbered", "split", "take_number", "unpack"]

_NUMBER = struct.Struct("<q")

_decoder = msgspec.msgpack.Decoder(list[bytes])


def join(outputs: Sequence[bytes]) -> bytes:
    """Return outputs as a payload's frame."""
    return msgspec.msgpack.encode(outputs)


def split(frame: Buffer) -> list[bytes]:
    """Return a frame's outputs. Raises WireError when it holds none that anybody has packed."""
    try:
        return _decoder.decode(frame) if len(frame) else []
    except (ValueError, RecursionError) as error:
        raise WireError(f"outputs of a stage that were not packed: {error}") from None


def numbered(first: int, frames: Sequence[Buffer]) -> list[Buffer]:
    """Return a payload with the number of its first item ahead."""
    return [b"".join((_NUMBER.pack(first), frames[0])), *frames[1:]]


def take_number(frames: Sequence[Buffer]) -> tuple[int, list[Buffer]]:
    """Return the number that is ahead of a payload, and the payload. Raises WireError if there is none."""
    if not frames or len(frames[0]) < _NUMBER.size:
        raise WireError("a chunk of a stage without the number of its first item")
    head = memoryview(frames[0]).cast("B")
    return _NUMBER.unpack(head[: _NUMBER.size])[0], [head[_NUMBER.size :], *frames[1:]]


def unpack(
    frame: Buffer, codec: Codec, start: int
) -> tuple[list[Any], deque[tuple[int, records.Error | BaseException]]]:
    """Return the items of a payload, the first of them item `start`, and why those that can't be read can't be.

    Raises WireError for a frame that is no payload.
    """
    packed = split(frame)
    items: list[Any] = []
    unread: deque[tuple[int, records.Error | BaseException]] = deque()
    pending = iter(packed)
    while len(items) < len(packed):
        try:
            items.extend(map(_load if codec == "pickle" else data.loader(codec), pending))
        except Exception as error:  # noqa: BLE001, PERF203 - a class that this worker lacks, say: the item fails
            said = f"item {start + len(items)} can't be read on this worker: {message_text(error)}"
            unread.append((len(items), {"type": type(error).__name__, "message": said, "traceback": ""}))
            items.append(None)
    return items, unread


def _load(packed: bytes) -> Any:
    return serialize.loads([packed])


class _Spread(records.Batch):
    """A batch each of whose values is a list of outputs: they are its rows."""

    several: ClassVar[bool] = True

    def rows(self) -> Iterator[tuple[int, Any, Any]]:
        for index, item, outputs in super().rows():
            if index in self.errors:
                yield index, item, None
                continue
            for output in outputs:
                yield index, item, output

    def done(self) -> list[tuple[int, Any]]:
        return [(index, output) for index, outputs in super().done() for output in outputs]


def encode(
    batch: records.Batch, encoding: Encoding, limit: int, command: bool, codec: Codec, *, flat: bool
) -> list[Buffer]:
    """As `records.encode`, where each value is a list of outputs (`flat`), or they go to a next stage."""
    made = _Spread(batch.start, batch.items, batch.values, batch.errors, batch.attempt) if flat else batch
    while True:
        known = len(batch.errors)
        packs = encoding == "packed"
        frames = _pack(batch, limit, codec, flat) if packs else records.encode(made, encoding, limit, command, codec)
        if len(batch.errors) == known:
            return frames  # else an item may have some of its outputs in them, and have failed


def _pack(batch: records.Batch, limit: int, codec: Codec, flat: bool) -> list[Buffer]:
    values = [value for _, value in batch.done()] if batch.errors else batch.values
    try:
        packed = [_dump(output, codec) for output in (chain.from_iterable(values) if flat else values)]
        if sum(map(len, packed)) <= limit:
            return [join(packed)]
    except Exception:  # noqa: BLE001, S110 - some item's fault: the slow way finds whose
        pass
    packed = []
    for index, value in batch.done():
        try:
            mine = [_dump(output, codec) for output in (value if flat else (value,))]
        except Exception as error:  # noqa: BLE001 - whatever fails, fails its item
            records.refuse(batch, index, value, "be carried to the next stage", error)
            continue
        if sum(map(len, mine)) > limit:
            records.refuse_size(batch, index, sum(map(len, mine)), limit)
            continue
        packed += mine
    return [join(packed)]


def _dump(value: Any, codec: Codec) -> bytes:
    return serialize.dump_whole(value) if codec == "pickle" else data.dump(value, codec)
