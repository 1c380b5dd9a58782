"""Small buffers of a payload in few frames: to send and take a frame costs more than to copy some kilobytes.

A payload is a pickle and its buffers. Those below `BUNDLED` bytes would be copied on their way out anyway: they are
copied into frames that they share, up to `BUNDLE` bytes in each. Where they arrive each is copied out, so that one
that is kept keeps nothing of the others, unless that is no matter (a worker's items) or what loads it copies it anyway.

A pickle ends with a full stop. Behind that of a payload with bundles, where no unpickler looks, is a word for each
buffer, the number of words, and a zero: `0` for a buffer with a frame of its own, else its bytes, with `FIRST` if it
begins the next frame, and with `VIEWED` if it need not be copied out. In its frame each begins at a
multiple of `ALIGNED`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from zpipe.core.wire import Buffer

__all__ = ["BUNDLE", "BUNDLED", "bundled", "unbundled"]

BUNDLED = 131_072
"""Bytes from which a buffer has a frame of its own, which ZeroMQ sends from where it is."""

BUNDLE = 1 << 20
"""Bytes that a frame has at most that buffers share."""

ALIGNED = 16
"""Bytes: a multiple of these is where each begins, as some code takes no array whose numbers begin anywhere."""

FIRST, VIEWED = 1 << 31, 1 << 30

_SIZE = VIEWED - 1
_STOP = ord(".")
_COUNT = struct.Struct("<IB")
_GAPS = [bytes(gap) for gap in range(ALIGNED)]
_COPIED = frozenset({bytes, bytearray})


def bundled(head: Buffer, buffers: list[Buffer]) -> list[Buffer]:
    """Return a pickle and its buffers, bytes or flat memoryviews of bytes, as frames."""
    frames: list[Buffer] = [head]
    words: list[int] = []
    bundles: list[tuple[int, list[Buffer]]] = []
    bundle: list[Buffer] = []
    room = -1
    for buffer in buffers:
        size = len(buffer)
        if size >= BUNDLED:
            words.append(0)
            frames.append(buffer)
            continue
        word = size | VIEWED if type(buffer) is memoryview and type(buffer.obj) in _COPIED else size
        gap = -size % ALIGNED
        room -= size + gap
        if room < 0:
            word |= FIRST
            bundle, room = [], BUNDLE - size - gap
            bundles.append((len(frames), bundle))
            frames.append(b"")
        words.append(word)
        bundle.append(buffer)
        if gap:
            bundle.append(_GAPS[gap])
    if len(frames) > len(buffers):
        return [head, *buffers]  # nothing to share
    for place, bundle in bundles:
        frames[place] = b"".join(bundle)
    frames[0] = b"".join((head, struct.pack(f"<{len(words)}I", *words), _COUNT.pack(len(words), 0)))
    return frames


def unbundled(frames: Sequence[Buffer], *, sharing: bool = False) -> Sequence[Buffer]:
    """Return the buffers of the frames that `bundled` has made, for whoever loads them to write to.

    `sharing`: they may share a frame. Raises ValueError for what `bundled` has not made.
    """
    head = frames[0]
    if head[-1] == _STOP:
        return [_writable(frame) for frame in frames[1:]]
    try:
        return _apart(head, frames, sharing)
    except (struct.error, IndexError):
        raise ValueError("a payload whose buffers are not where it says") from None


def _apart(head: Buffer, frames: Sequence[Buffer], sharing: bool) -> list[Buffer]:
    end = len(head) - _COUNT.size
    count, _ = _COUNT.unpack_from(head, end)
    at, place, bundle, viewed = 0, 0, memoryview(b""), 0
    buffers: list[Buffer] = []
    for word in struct.unpack_from(f"<{count}I", head, end - 4 * count):
        if not word or word & FIRST:
            place += 1
            if not word:
                buffers.append(_writable(frames[place]))
                continue
            at, bundle = 0, memoryview(frames[place])
            viewed = VIEWED if bundle.readonly or not sharing else FIRST | VIEWED | _SIZE
        size = word & _SIZE
        part = bundle[at : at + size]
        if len(part) < size:
            raise IndexError
        at += size + -size % ALIGNED
        buffers.append(part if word & viewed else bytearray(part))
    return buffers


def _writable(frame: Buffer) -> Buffer:
    """Return a frame that has come, or a copy of one that has not left the process or lay in a file."""
    return bytearray(frame) if type(frame) is bytes or (type(frame) is memoryview and frame.readonly) else frame
