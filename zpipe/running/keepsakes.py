"""A single item's outcome as bytes, by which others of its kind get theirs, now or in another job.

The rule: what can't be kept is left out, and whoever would have needed it is run. The first byte tells what follows:

    v   a value, as the job's codec has it: a pickle that is complete in itself, or data
    f   the same of a list, where a task has any number of results for an item
    e   an item's error where records are made of outcomes, in MessagePack
    x   an exception where a script is to have it, in MessagePack, its own pickle inside

This file does not know where outcomes are kept, nor for how long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from zpipe import data, serialize
from zpipe.core.spec import Codec

__all__ = ["ERROR", "EXCEPTION", "FLAT", "VALUE", "failed", "keep", "load"]

VALUE, FLAT, ERROR, EXCEPTION = b"v", b"f", b"e", b"x"

_errors = msgspec.msgpack.Decoder(dict[str, str | int])


def keep(
    values: Sequence[Any],
    errors: Mapping[int, Any],
    most: int,
    codec: Codec,
    pack: Callable[[Any], Any] | None = None,
    *,
    flat: bool = False,
) -> list[bytes]:
    """Return the outcomes, one by one; of a failed one `errors` has the error, by its place.

    Empty is what can't be carried by itself, or would make more than `most` bytes of them all. `pack` makes data of an
    exception, where errors are exceptions. `flat`: each value is a list of the item's results.
    """
    kept, left = [], most
    head, good = ERROR if pack is None else EXCEPTION, FLAT if flat else VALUE
    for place, value in enumerate(values):
        try:
            if place in errors:
                error = errors[place]
                made = head + msgspec.msgpack.encode(error if pack is None else pack(error))
            else:
                made = good + (serialize.dump_whole(value) if codec == "pickle" else data.dump(value, codec))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - pickling runs the user's own code; its chunk's frames tell what is wrong
            made = b""
        if len(made) > left:
            made = b""
        left -= len(made)
        kept.append(made)
    return kept


def failed(kept: bytes) -> bool:
    """Whether the outcome is an error, which is true for this job and not for others."""
    return kept[:1] not in (VALUE, FLAT)


def load(kept: bytes, codec: Codec) -> tuple[Any, dict[str, Any] | None]:
    """Return a value and None, or None and an item's error. Raises whatever is wrong with it."""
    body = memoryview(kept)[1:]
    if not failed(kept):
        return (serialize.loads([body]) if codec == "pickle" else data.load(body, codec)), None
    error = _errors.decode(body)
    for name in ("type", "message", "traceback"):
        if not isinstance(error.get(name), str):
            raise ValueError(f"an error without its {name}")
    return None, error
