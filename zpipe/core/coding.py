"""Messages as frames: typed headers in MessagePack, payloads as opaque bytes. Never unpickles.

A message is one or more frames. The first is a header: a tagged array, decoded into exactly one of the Structs of
`zpipe.core.wire` or refused with `WireError`. A small single-frame payload rides inside the header (`body`), and many
such chunks or results in one message; a large one, or one with out-of-band buffers, follows as frames of its own,
without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zpipe.core.grains import Grains
from zpipe.core.ranges import RangeSet
from zpipe.core.wire import (
    LONGEST,
    MAX_FRAMES,
    Buffer,
    Chunk,
    Chunks,
    Held,
    Message,
    Receipts,
    Result,
    Results,
    SinkJoin,
)
from zpipe.errors import WireError

__all__ = ["INLINE_BYTES", "decode", "encode", "inline"]

INLINE_BYTES = 16_384
"""A single-frame payload up to this many bytes is copied into the header frame."""

SAID = 300
"""Characters that are told of what is wrong with a message: some of them are the peer's own words."""

_WITH_PAYLOAD = (Chunk, Result)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def inline(payload: Sequence[Buffer]) -> Any:
    """Return the payload, any Buffer, if it rides inside the header as its `body`; else None."""
    return payload[0] if len(payload) == 1 and len(payload[0]) <= INLINE_BYTES else None


def encode(header: Message, payload: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the frames of a message. `payload` is of a Chunk or a Result that does not have it inside."""
    return [_encoder.encode(header), *payload]


def decode(frames: Sequence[Buffer]) -> tuple[Any, Sequence[Buffer]]:
    """Return a message's header and its payload frames. Raises WireError for anything the protocol does not know."""
    if not 0 < len(frames) <= MAX_FRAMES:
        raise WireError(f"a message of {len(frames)} frames (1 to {MAX_FRAMES} are allowed)")
    try:
        header = _decoder.decode(frames[0])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        said = str(error)
        raise WireError(f"a header that is no zpipe message: {said[:SAID]}{'…' * (len(said) > SAID)}") from None
    if isinstance(header, _WITH_PAYLOAD):
        _check_part(header)
        if header.body is None and not header.grains:
            return header, frames[1:]
        if len(frames) > 1:
            raise WireError(f"{type(header).__name__} with a payload both inside and behind its header")
        return header, [header.body] if header.body is not None else Grains(header.grains)
    if len(frames) > 1:
        raise WireError(f"{type(header).__name__} with a payload")
    if isinstance(header, SinkJoin):
        _check_held(header.held)
    if isinstance(header, Receipts):
        _check_receipts(header)
    if isinstance(header, Chunks | Results):
        for part in header.chunks if isinstance(header, Chunks) else header.results:
            _check_part(part)
            if part.body is None and not part.grains:
                raise WireError(f"{type(header).__name__} with a part that has no payload")
    return header, ()


def _check_held(held: Held) -> None:
    if not RangeSet.are_runs(held.done):
        raise WireError("a sink's join with runs that no set has")


def _check_receipts(header: Receipts) -> None:
    if not 0.0 <= header.lag <= LONGEST:
        raise WireError(f"Receipts with a lag of {header.lag} s")
    for receipt in header.receipts:
        if not receipt.start < receipt.stop or (receipt.again is not None and not 0.0 <= receipt.again <= LONGEST):
            raise WireError(f"a Receipt of the range [{receipt.start}, {receipt.stop}), again in {receipt.again} s")
        if receipt.kept and len(receipt.kept) != receipt.stop - receipt.start:
            raise WireError(f"a Receipt of [{receipt.start}, {receipt.stop}) with {len(receipt.kept)} outcomes")


def _check_part(header: Chunk | Result) -> None:
    start, stop = header.start, header.stop
    if not 0 <= start < stop or (isinstance(header, Chunk) and header.skip < 0):
        raise WireError(f"{type(header).__name__} with the range [{start}, {stop})")
    if header.grains or (isinstance(header, Chunk) and header.grain):
        _check_row(header)
    if isinstance(header, Chunk):
        return
    if header.kept and len(header.kept) != stop - start:
        raise WireError(f"Result of [{start}, {stop}) with {len(header.kept)} outcomes kept")
    if header.failures and not all(start <= failure.index < stop for failure in header.failures):
        raise WireError(f"Result of [{start}, {stop}) with failures of other items")
    if header.hit is not None and not start <= header.hit < stop:
        raise WireError(f"Result of [{start}, {stop}) with the hit {header.hit}")
    if header.again is not None and not 0.0 <= header.again <= LONGEST:
        raise WireError(f"Result that is to be tried again in {header.again} s")


def _check_row(header: Chunk | Result) -> None:
    count, grains = header.stop - header.start, len(header.grains)
    if isinstance(header, Chunk):
        whole = header.skip < header.grain and grains == -(-(header.skip + count) // header.grain)
    else:
        plain = not (header.failures or header.kept or header.log) and header.hit is None and header.again is None
        whole = plain and count % grains == 0
    if not whole or header.body is not None:
        raise WireError(f"{type(header).__name__} of [{header.start}, {header.stop}) as a row of {grains}")
