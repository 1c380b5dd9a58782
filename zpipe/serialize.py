"""The only door to pickle: everything that is pickled or unpickled passes here.

Payloads are pickle protocol 5 with out-of-band buffers: a list of frames, the pickle first, then one frame for
each buffer (PEP 574). Functions go through cloudpickle, imported only when one has to travel by value.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from zpipe.core.wire import Buffer

__all__ = ["dump_function", "dump_record", "dumps", "load_function", "loads"]

OUT_OF_BAND = 4096
"""Bytes from which a buffer is worth a frame of its own."""


def dumps(value: Any) -> list[Buffer]:
    """Return `value` as frames: its pickle, then its out-of-band buffers.

    Raises whatever pickle raises for a value that can't be pickled.
    """
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: there is no one piece of memory to send
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    head = pickle.dumps(value, protocol=5, buffer_callback=keep_inside)
    return [head, *buffers]


def loads(frames: Sequence[Buffer]) -> Any:
    """Return the value that `dumps` made the frames of."""
    return pickle.loads(frames[0], buffers=frames[1:])  # noqa: S301 - the one door


def dump_record(value: Any) -> bytes:
    """Return `value` as one pickle that is complete in itself, to be read with pickle.load.

    Raises whatever pickle raises for a value that can't be pickled.
    """
    return pickle.dumps(value, protocol=5)


def dump_function(function: Callable[..., Any]) -> bytes:
    """Return any callable, lambdas and closures included, as bytes for `load_function`."""
    import cloudpickle

    data: bytes = cloudpickle.dumps(function, protocol=5)
    return data


def load_function(data: Buffer) -> Any:
    """Return the callable that `dump_function` made the bytes of."""
    return pickle.loads(data)  # noqa: S301 - the one door
