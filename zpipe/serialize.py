"""The only door to pickle: everything that is pickled or unpickled passes here.

Payloads are pickle protocol 5 with out-of-band buffers (PEP 574): a list of frames, the pickle first, then one frame
for each large buffer, and for small ones together (`zpipe.core.bundle`). Plain pickle does it wherever it can; what it
can't carry, and what it would carry as a name in `__main__`, which is another module in a worker, goes through
cloudpickle, imported only then.

A frame that is `bytes` or a read-only memoryview is not changed by anybody while it is being sent, so that it may be
sent without a copy. Any other must be copied.
"""

from __future__ import annotations

import io
import pickle
import sys
import weakref
from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, ClassVar

from zpipe.core.bundle import bundled, unbundled
from zpipe.core.wire import MAX_FRAMES, Buffer

__all__ = [
    "MAIN",
    "dump_compared",
    "dump_function",
    "dump_record",
    "dump_whole",
    "dumps",
    "load_function",
    "loads",
    "release",
]

OUT_OF_BAND = 4096
"""Bytes from which a buffer is worth a frame of its own."""

LARGE = 32_768
"""Bytes from which a bytes or bytearray, which pickle itself never hands out, is worth the same."""

WORTH_A_LOOK = 131_072
"""Bytes from which a frame is worth to find out whether it may be sent without a copy."""

MAX_BUFFERS = MAX_FRAMES // 2

_large_seen: set[bool] = set()
"""Not empty once large bytes were found in a value: from then on they are looked for before pickle copies them."""

_PLAIN = frozenset("biufc")
"""Kinds of arrays whose pickle is their shape, dtype and memory."""

_arrays_seen: list[Any] = []
"""What pickles from then on, once an array of NumPy's was found in a value."""

_Callback = Callable[[pickle.PickleBuffer], bool]

_DEPTH = 3
"""How deep large bytes are looked for: a list of (args, kwargs), args, an argument."""

_LIFTED = frozenset({bytes, bytearray})

_NAMED = 0x93
"""The opcode that looks up a name: one byte is found far sooner than the next constant's eleven, and as a number."""

MAIN = frozenset({"__main__", "__mp_main__"})
"""What the script's module is called: the latter in a process that multiprocessing has started afresh."""


def _started_afresh() -> bool:
    return getattr(sys.modules.get("__mp_main__"), "__name__", "") == "__mp_main__"  # elsewhere it is an alias


_OF_MAIN = b"\x8c\x0b__mp_main__\x94" if _started_afresh() else b"\x8c\x08__main__\x94"
"""What a pickle that refers to something of the script's module by its name contains."""


def dumps(value: Any, *, owned: bool = False) -> list[Buffer]:
    """Return `value` as frames: its pickle, then its out-of-band buffers.

    Those are arrays, Arrow buffers and the like wherever they are, and large bytes and bytearrays that are `value`
    itself, or in it as a list or tuple, or in tuples in that. `owned`: nobody changes any of them before the frames
    are let go of. Raises whatever pickle raises for a value that can't be pickled.
    """
    buffers: list[Buffer] = []
    keep_inside: _Callback = partial(_keeps_inside, buffers, owned)
    if _large_seen and _starts_large(value):
        return _dump_lifted(_lift(value, _DEPTH, {}), buffers, keep_inside)
    try:
        head = _dump(value, keep_inside)
    except Exception:  # noqa: BLE001 - cloudpickle then says what is wrong, if anything is
        head = b""
    if not head:
        buffers.clear()
        head = _dump_by_value(_lift(value, _DEPTH, {}), keep_inside)
        return bundled(head, buffers) if len(buffers) > 1 else [head, *buffers]
    if len(head) >= LARGE and _may_hold_large(value, len(head)):
        lifted = _lift(value, _DEPTH, {})
        if lifted is not value:
            _large_seen.add(True)
            buffers.clear()
            return _dump_lifted(lifted, buffers, keep_inside)
    if _NAMED in head and head.find(_OF_MAIN) >= 0:
        buffers.clear()
        head = _dump_by_value(value, keep_inside)
    if buffers and not _arrays_seen:
        _see_arrays(buffers)
    return bundled(head, buffers) if len(buffers) > 1 else [head, *buffers]


def _dump(value: Any, keep_inside: _Callback | None) -> bytes:
    """Return what pickle makes of a value."""
    if not _arrays_seen:
        return pickle.dumps(value, protocol=5, buffer_callback=keep_inside)
    stream = io.BytesIO()
    _arrays_seen[0](stream, protocol=5, buffer_callback=keep_inside).dump(value)
    return stream.getvalue()


def _see_arrays(buffers: list[Buffer]) -> None:
    """From now on NumPy's arrays are pickled in fewer steps, if one of these is of such an array."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and any(type(b) is memoryview and type(b.obj) is numpy.ndarray for b in buffers):
        _arrays_seen.append(_arrays_pickler(numpy))


def _arrays_pickler(numpy: Any) -> Any:
    """Return a pickler with a rule for plain arrays, whose own way imports two modules for each of them."""
    ndarray, frombuffer = numpy.ndarray, numpy.frombuffer
    rebuild = numpy.zeros((2, 2)).__reduce_ex__(5)[0]

    class Arrays(pickle.Pickler):
        def reducer_override(self, thing: Any) -> Any:
            if type(thing) is not ndarray or thing.nbytes < OUT_OF_BAND:
                return NotImplemented
            kind = thing.dtype
            if kind.kind not in _PLAIN or not thing.flags.c_contiguous:
                return NotImplemented
            if thing.ndim == 1:
                return frombuffer, (pickle.PickleBuffer(thing), kind)
            return rebuild, (pickle.PickleBuffer(thing), kind, thing.shape, "C")

    return Arrays


def _dump_lifted(value: Any, buffers: list[Buffer], keep_inside: _Callback) -> list[Buffer]:
    """Return the frames of a value that may hold stand-ins for large bytes."""
    head = _try_plain(value, keep_inside)
    if head is None:
        buffers.clear()
        head = _dump_by_value(value, keep_inside)
    return bundled(head, buffers) if len(buffers) > 1 else [head, *buffers]


def _try_plain(value: Any, keep_inside: _Callback | None) -> bytes | None:
    """Return what pickle makes of a value, or None when it takes cloudpickle."""
    try:
        head = _dump(value, keep_inside)
    except Exception:  # noqa: BLE001 - cloudpickle then says what is wrong, if anything is
        return None
    return None if _NAMED in head and head.find(_OF_MAIN) >= 0 else head


def _keeps_inside(buffers: list[Buffer], owned: bool, buffer: pickle.PickleBuffer) -> bool:
    """Tell pickle whether to take a buffer's content into its stream; if not, it is added to `buffers`."""
    raw = buffer.raw()
    if raw.nbytes < OUT_OF_BAND or len(buffers) >= MAX_BUFFERS:
        return True
    if owned:
        buffers.append(raw.toreadonly())
    elif raw.readonly and type(raw.obj) is not bytes:  # of what somebody else may well be able to change
        buffers.append(bytes(raw))
    else:
        buffers.append(raw)
    return False


class _Lifted:
    """Stands for a bytes or bytearray in a pickle, and is loaded as one from a buffer."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type, tuple[pickle.PickleBuffer]]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def _starts_large(value: Any) -> bool:
    """Tell whether the first item holds large bytes: where one does, others are likely to."""
    first = value[0] if type(value) is list and value else value
    if type(first) is not tuple:
        return type(first) in _LIFTED and len(first) >= LARGE
    for part in first:
        if type(part) in _LIFTED:
            if len(part) >= LARGE:
                return True
        elif type(part) is tuple:
            for inner in part:
                if type(inner) in _LIFTED and len(inner) >= LARGE:
                    return True
    return False


def _may_hold_large(value: Any, size: int) -> bool:
    """Tell whether a look at every item costs little beside what pickling `size` bytes took."""
    return not isinstance(value, list | tuple) or size > 512 * len(value)


def _lift(value: Any, depth: int, known: dict[int, _Lifted]) -> Any:
    """Return `value` with stand-ins for its large bytes, one for each object, or itself if it has none."""
    kind = type(value)
    if kind in _LIFTED:
        return known.setdefault(id(value), _Lifted(value)) if len(value) >= LARGE else value
    if not (kind is tuple and depth) and not (kind is list and depth == _DEPTH):
        return value
    parts = [_lift(part, depth - 1, known) for part in value]
    if all(new is old for new, old in zip(parts, value, strict=True)):
        return value
    return parts if kind is list else tuple(parts)


def _dump_by_value(value: Any, keep_inside: _Callback | None = None) -> bytes:
    """Return what cloudpickle makes of a value."""
    stream = io.BytesIO()
    _by_value()(stream, protocol=5, buffer_callback=keep_inside).dump(value)
    return stream.getvalue()


@cache
def _by_value() -> Any:
    """Return cloudpickle's pickler, with a rule for classes that come home."""
    import cloudpickle

    if _started_afresh():
        cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap({memoryview: _reduce_view}, cloudpickle.Pickler.dispatch_table)

        def reducer_override(self, thing: Any) -> Any:
            reduced = super().reducer_override(thing)
            if isinstance(thing, type) and type(reduced) is tuple and len(reduced) == 6:
                if thing not in _foreign:
                    _own.add(thing)
                return (*reduced[:5], partial(_fill_class, reduced[5]))
            return reduced

    return ByValue


_own: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes of this process that went out by value."""

_foreign: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes that came in by value."""


def _fill_class(fill: Callable[[type, Any], object], made: type, state: Any) -> None:
    """Give a class that came by value its content, but not one that comes home: its own methods would be replaced."""
    if made not in _own:
        _foreign.add(made)
        fill(made, state)


def _reduce_view(view: memoryview) -> tuple[type, tuple[Any]]:
    if view.c_contiguous and view.ndim == 1 and view.format == "B":
        return memoryview, (pickle.PickleBuffer(view),)
    return bytes, (view.tobytes(),)


def release(frames: list[Buffer]) -> None:
    """Mark those of the frames from `dumps` as read-only that nobody else can change any more.

    To be called once the value and all that holds it has been let go of. Memory counts as changeable while anything
    but the frame refers to it, or to what it is a view of; so does all that is neither a bytearray, nor an array's own,
    nor a received message's.
    """
    for n, frame in enumerate(frames):
        if (
            type(frame) is memoryview
            and not frame.readonly
            and frame.nbytes >= WORTH_A_LOOK
            and _is_unshared(frame, _ALONE)
        ):
            frames[n] = frame.toreadonly()


def _is_unshared(view: memoryview, alone: int) -> bool:
    """Tell whether each object from the view down to the owner of the memory has no reference but the one before's."""
    owner: Any = view.obj
    while True:
        if sys.getrefcount(owner) != alone or weakref.getweakrefcount(owner):
            return False
        kind = type(owner)
        if kind is memoryview:
            owner = owner.obj
        elif (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
            if owner.base is None:
                return bool(owner.flags.owndata)
            owner = owner.base
        else:
            # A Frame is a message received: whoever waits for its answer does not write into it.
            return kind is bytearray or (kind.__name__ == "Frame" and kind.__module__.startswith("zmq."))


def _count_alone() -> int:
    """Return what sys.getrefcount says in `_is_unshared` of what nobody else refers to, or 0 where it can't be told."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0
    counts = range(1, 8) if hasattr(sys, "getrefcount") else range(0)
    return next((count for count in counts if _is_unshared(memoryview(bytearray(1)), count)), 0)


_ALONE = _count_alone()


def loads(frames: Sequence[Buffer], *, sharing: bool = False) -> Any:
    """Return the value that `dumps` made the frames of.

    Large arrays are views of the frames, writable if those are; small ones have memory of their own, unless they may
    be `sharing` a frame with others.
    """
    buffers = unbundled(frames, sharing=sharing) if len(frames) > 1 else ()
    return pickle.loads(frames[0], buffers=buffers)  # noqa: S301 - the one door


def dump_record(value: Any) -> bytes:
    """Return `value` as one pickle that is complete in itself, to be read with pickle.load.

    Raises whatever pickle raises for a value that can't be pickled.
    """
    return pickle.dumps(value, protocol=5)


def dump_whole(value: Any) -> bytes:
    """Return `value` as one pickle that is complete in itself and can be loaded in a process with another `__main__`.

    Raises whatever pickle raises for a value that can't be pickled.
    """
    head = _try_plain(value, None)
    return head if head is not None else _dump_by_value(value)


def dump_compared(value: Any, stand_in: Callable[[Any], Any], reduce: Callable[[Any], Any]) -> bytes:
    """Return a pickle of `value` that is only good for being compared with others.

    `stand_in` is called with each part of it and returns what stands for that, None for the part itself; `reduce`
    with those that are no plain data, and returns what a `__reduce__` would, or NotImplemented. Raises whatever pickle
    raises for a value that can't be pickled.
    """
    stream = io.BytesIO()
    _Compared(stream, stand_in, reduce).dump(value)
    return stream.getvalue()


class _Compared(pickle.Pickler):
    def __init__(self, stream: Any, stand_in: Callable[[Any], Any], reduce: Callable[[Any], Any]) -> None:
        super().__init__(stream, protocol=5)
        self._stand_in, self._reduce = stand_in, reduce

    def persistent_id(self, thing: Any) -> Any:
        return self._stand_in(thing)

    def reducer_override(self, thing: Any) -> Any:
        return self._reduce(thing)


def dump_function(function: Callable[..., Any]) -> bytes:
    """Return any callable, lambdas and closures included, as bytes for `load_function`."""
    return _dump_by_value(function)


def load_function(data: Buffer) -> Any:
    """Return the callable that `dump_function` made the bytes of."""
    return pickle.loads(data)  # noqa: S301 - the one door
