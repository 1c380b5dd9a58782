"""What a worker sends home of a chunk's outcomes when a script is to have them: the values, and exceptions as they are.

The rule: an outcome that can't be carried fails its own item and no other, and nothing a task returns or raises can
make `decode` raise. A chunk without a failure is one pickled list; with failures it is a pickled pair of the list's
own pickle and what is known of each exception, itself pickled apart, so that one that can't be unpickled where it
arrives is still told by name. This file does not know how values come about, nor who waits for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zpipe import serialize
from zpipe.core.grains import Grains
from zpipe.core.wire import Buffer, Failure
from zpipe.errors import RemoteError, RemoteTraceback
from zpipe.running import keepsakes
from zpipe.running.traces import message_text, trace_text

__all__ = ["Here", "decode", "encode", "join", "pack"]

_LONGEST_CHAIN = 8

_Packed = tuple[bytes, str, str, str, Any]
"""An exception: its pickle (empty if it has none), type, message, traceback as text, and the packed one behind it.

That of an item that failed more than once has the number of attempts behind it.
"""


class Here(list[Buffer]):
    """Frames that don't leave the process, with the exceptions themselves by position."""

    def __init__(self, frames: list[Buffer], errors: dict[int, BaseException]) -> None:
        super().__init__(frames)
        self.errors = errors


def encode(
    values: list[Any], errors: dict[int, BaseException], start: int, limit: int | None = None, attempt: int = 1
) -> tuple[list[Buffer], list[Failure]]:
    """Return the frames for the outcomes of items from index `start` on, and the failed ones in order of index.

    `errors` has the exceptions by position in the chunk; in `values` a failed position has a placeholder. An outcome
    that can't be pickled, or takes more than `limit` bytes, becomes a failure. It was their `attempt`-th
    one. `values` is taken over: it may be emptied, so that what only it held can be sent without a copy.
    """
    if not errors:
        frames = _try_values(values)
        if frames is not None and not _is_over(frames, limit):
            return (frames if len(frames) == 1 else _let_go(values, frames)), []
    errors = dict(errors)
    frames = _weed(values, errors, start, limit)
    if errors:
        count = (attempt,) if attempt > 1 else ()
        packed = {position: (*_pack(error, limit), *count) for position, error in errors.items()}
        # The outer pickle has no buffers of its own: those that follow are the inner one's.
        frames = [serialize.dump_record((bytes(frames[0]), packed)), *frames[1:]]
    return _let_go(values, frames), [_failure(start + position, errors[position]) for position in sorted(errors)]


def _let_go(values: list[Any], frames: list[Buffer]) -> list[Buffer]:
    """Return the frames, with those that nobody else holds now marked to be sent without a copy."""
    if len(frames) > 1:
        values.clear()
        serialize.release(frames)
    return frames


def _failure(index: int, error: BaseException) -> Failure:
    return Failure(index, type(error).__name__, message_text(error))


def _try_values(values: list[Any]) -> list[Buffer] | None:
    """Return the frames of values, or None when they can't be pickled together."""
    try:
        return serialize.dumps(values)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - some item's fault: the slow way finds whose
        return None


def _is_over(frames: list[Buffer], limit: int | None) -> bool:
    if limit is None or (len(frames) == 1 and len(frames[0]) <= limit):
        return False
    return sum(map(len, frames)) > limit


def _weed(values: list[Any], errors: dict[int, BaseException], start: int, limit: int | None) -> list[Buffer]:
    """Turn the values that can't be carried into errors, and return the frames of the others."""
    if errors:
        for position in errors:
            values[position] = None
        frames = _try_values(values)
        if frames is not None and not _is_over(frames, limit):
            return frames
    for position, value in enumerate(values):
        error = _why_not(value, start + position, limit)
        if error is not None:
            values[position], errors[position] = None, error
    frames = _try_values(values)
    if frames is not None:
        return frames
    why = "it could be pickled once, and not again with its chunk's others"
    for position, value in enumerate(values):
        errors.setdefault(position, _named(ValueError(why), value, start + position))
    return serialize.dumps([None] * len(values))


def _why_not(value: Any, index: int, limit: int | None) -> BaseException | None:
    """Return why a value can't be carried, as an exception, or None if it can."""
    try:
        size = sum(map(len, serialize.dumps(value)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever fails, fails its item
        return _named(error, value, index)
    if limit is None or size <= limit:
        return None
    return ValueError(
        f"the result of item {index} is {size:,} bytes, over the limit of {limit:,}: write it to a file and return "
        "its path"
    )


def _named(error: BaseException, value: Any, index: int) -> BaseException:
    """Add to an exception from pickling what it was that was being pickled."""
    note = f"the value of item {index}, a {type(value).__name__}, can't be pickled: return plain data"
    # What BaseException.add_note, of Python 3.11, does; an exception may be frozen, or have no dictionary.
    known = getattr(error, "__dict__", {})
    known["__notes__"] = [*known.get("__notes__", ()), note]
    return error


def _pack(error: BaseException, limit: int | None, depth: int = 0) -> _Packed:
    """Return what is known of an exception, and of those it came from."""
    kind, message = type(error).__name__, message_text(error)
    behind = error.__context__ if error.__cause__ is None and not error.__suppress_context__ else error.__cause__
    packed = None if behind is None or depth == _LONGEST_CHAIN else _pack(behind, limit, depth + 1)
    return _try_exception(error, limit), kind, message, "" if depth else trace_text(error), packed


def _try_exception(error: BaseException, limit: int | None) -> bytes:
    """Return an exception's pickle, complete in itself, or nothing if it has none or a too large one."""
    try:
        data = serialize.dump_whole(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a stand-in tells of it
        return b""
    return data if limit is None or len(data) <= limit else b""


def pack(error: BaseException) -> _Packed:
    """Return what is known of an exception as plain data."""
    return _pack(error, None)


def join(kept: Sequence[bytes], start: int) -> tuple[list[Buffer], list[Failure]]:
    """Return the frames for outcomes that are there one by one, as `keepsakes` has them, and the failed ones.

    They are of the items from index `start` on. Raises ValueError for what can't be one.
    """
    failures = []
    for index, outcome in enumerate(kept, start):
        if keepsakes.failed(outcome):
            known = _unpacked(outcome)
            failures.append(Failure(index, known[1], known[2]))
    return [serialize.dump_record({"kept": list(kept)})], failures


def _unpacked(outcome: Buffer) -> list[Any]:
    """Return what is known of an exception. Raises ValueError."""
    if outcome[:1] != keepsakes.EXCEPTION:
        raise ValueError("this is no script's outcome")
    known: list[Any] = msgspec.msgpack.decode(memoryview(outcome)[1:], type=list)
    kinds = [bytes, str, str, str]
    if len(known) < 5 or [type(part) for part in known[:4]] != kinds:
        raise ValueError("this is no exception's outcome")
    return known


def _apart(kept: Sequence[bytes]) -> tuple[list[Any], dict[int, BaseException]]:
    """Return the values and exceptions that `join` made a frame of: one that can't be unpickled fails alone."""
    values: list[Any] = []
    errors: dict[int, BaseException] = {}
    for position, outcome in enumerate(kept):
        value = None
        try:
            if keepsakes.failed(outcome):
                errors[position] = _unpack(tuple(_unpacked(outcome)[:5]))
            else:
                value = keepsakes.load(outcome, "pickle")[0]
        except BaseException as error:  # noqa: BLE001 - a class that this process lacks, say
            errors[position] = error
        values.append(value)
    return values, errors


def decode(frames: Sequence[Buffer], count: int) -> tuple[list[Any], dict[int, BaseException]]:
    """Return the values that `encode` made the frames of, and the exceptions by position. There are `count` items.

    A failed position's value is None. Each exception's cause is a `RemoteTraceback`; behind that, as its context, is
    what the exception came from in the worker. One that can't be unpickled here arrives as a `RemoteError`. When it is
    the values that can't be, every item that did not fail by itself fails with what unpickling raised: as it is where
    there is one item, else as the cause of a `RemoteError`. Never raises.
    """
    if type(frames) is Grains:
        return _decode_row(frames, count)
    packed: dict[int, Any] = {}
    errors: dict[int, BaseException] = {}
    try:
        loaded = serialize.loads(frames)
        if type(loaded) is dict:
            loaded, errors = _apart(loaded["kept"])
        if type(loaded) is tuple:
            head, packed = loaded
            loaded = serialize.loads([head, *frames[1:]])
        if len(loaded) != count:
            raise ValueError(f"{len(loaded)} results came for {count} items")
        values: list[Any] = loaded
    except BaseException as error:  # noqa: BLE001 - a class that this process lacks, say: the items fail
        values = [None] * count
        errors = {position: _not_here(error, count) if count > 1 else error for position in range(count)}
    own = frames.errors if type(frames) is Here else {}
    for position, known in packed.items():
        errors[position] = own[position] if position in own else _unpack(known[:5])
        if len(known) > 5:
            _count(errors[position], known[5])
    return values, errors


def _decode_row(bodies: Grains, count: int) -> tuple[list[Any], dict[int, BaseException]]:
    """Return the values of a row, of whose chunks each is read by itself."""
    grain = count // len(bodies)
    values: list[Any] = []
    try:
        for body in bodies:
            values += serialize.loads((body,))
    except BaseException:  # noqa: BLE001 - it is told below, of those it is true of
        values.clear()
    if len(values) == count:
        return values, {}
    errors: dict[int, BaseException] = {}
    values = []
    for body in bodies:
        more, faults = decode([body], grain)
        errors.update((len(values) + position, error) for position, error in faults.items())
        values += more
    return values, errors


def _not_here(error: BaseException, count: int) -> BaseException:
    """Return the exception of results that can't be unpickled where they are wanted."""
    why = "can't be unpickled here: make what defines them importable here, or return plain data"
    made = RemoteError(type(error).__name__, message_text(error), f"the results of a chunk of {count} {why}")
    made.__cause__ = error
    return made


def _unpack(known: _Packed) -> BaseException:
    """Return an exception as it was raised in the worker, or what stands for it."""
    data, kind, message, text, behind = known
    error = _unpickle(data, kind, message)
    # Past the exception's own __setattr__, which may well refuse.
    if text:
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(text))
    if behind is not None:
        BaseException.__setattr__(error, "__context__", _unpack(behind))
    return error


def _count(error: BaseException, attempts: int) -> None:
    """Have an exception tell how often its item was tried: in what is printed of it, and as an attribute."""
    known = getattr(error, "__dict__", None)
    if known is not None:
        known["attempts"] = known.get("attempts", attempts)
        known["__notes__"] = [*known.get("__notes__", ()), f"zpipe: the item failed after {attempts} attempts"]


def _unpickle(data: bytes, kind: str, message: str) -> BaseException:
    if not data:
        return RemoteError(kind, message, "the exception itself can't be pickled")
    try:
        error = serialize.loads([data])
    except BaseException as why:  # noqa: BLE001 - a constructor that takes other arguments, say
        said = f"the exception itself can't be unpickled: {type(why).__name__}: {message_text(why)}"
        return RemoteError(kind, message, said)
    if isinstance(error, BaseException):
        return error
    return RemoteError(kind, message, f"the exception itself is unpickled as a {type(error).__name__}")
