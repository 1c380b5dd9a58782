"""Items and values as data: JSON or MessagePack, in jobs where nothing is pickled.

One rule: what comes out is what went in, or it does not go in. Two things change, and only in their type: a tuple
becomes a list, and what is a kind of text, number, list or dict (an enumeration's member, a Counter, NumPy's scalars
and arrays, a path) becomes the plain one. Everything else is refused rather than turned into something that it is not:
bytes, NaN and keys that are no text in JSON, integers of more than 64 bits in MessagePack, sets and objects in both.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from zpipe.core.spec import Codec
from zpipe.core.wire import Buffer

__all__ = ["TITLES", "dump", "dump_lines", "is_plain", "load", "loader"]

TITLES = {"pickle": "a pickle", "json": "JSON", "msgpack": "MessagePack"}
"""What to call a codec in a sentence."""

_MENDS = {"json": "--codec msgpack carries it", "msgpack": "--codec json carries it"}

_PLAIN = frozenset({type(None), bool, int, float, str})


def dump(value: Any, codec: Codec) -> bytes:
    """Return `value` as bytes for `load`. Raises TypeError, ValueError or RecursionError for what is no data."""
    encode = _encode_json if codec == "json" else msgspec.msgpack.encode
    try:
        found = encode(value)
        if load(found, codec) == value:
            return found
    except Exception:  # noqa: BLE001, S110 - `_plainly` says what is wrong, if anything is
        pass
    plain = _plainly(value, codec)
    try:
        return encode(plain)
    except OverflowError:
        raise ValueError(f"MessagePack has no integers of more than 64 bits ({_MENDS[codec]})") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"{TITLES[codec]} has no text that is not valid Unicode ({_MENDS[codec]}): {error}") from None


def dump_lines(values: Sequence[Any]) -> bytes:
    """Return values, 1 or more, as lines of JSON, without a newline behind the last. Raises as `dump` does."""
    values = list(values)
    try:
        lines = msgspec.json.Encoder().encode_lines(values)
        if msgspec.json.Decoder().decode_lines(lines) == values:
            return lines[:-1]
    except Exception:  # noqa: BLE001, S110 - the slower way says what is wrong, if anything is
        pass
    return b"\n".join([dump(value, "json") for value in values])


def load(frame: Buffer, codec: Codec) -> Any:
    """Return the value that `dump` made a frame of. Raises ValueError or RecursionError for anything else."""
    if codec == "msgpack":
        return msgspec.msgpack.decode(frame)
    try:
        return msgspec.json.decode(frame)
    except msgspec.DecodeError:  # lone surrogates, perhaps: parts of the names of files
        import json

        return json.loads(bytes(frame))


def loader(codec: Codec) -> Callable[[Buffer], Any]:
    """Return what loads one value after another."""
    return msgspec.msgpack.decode if codec == "msgpack" else partial(load, codec=codec)


def is_plain(value: Any, codec: Codec) -> bool:
    """Tell whether a value comes back as it is, in its types as well."""
    kind = type(value)
    if kind in _PLAIN:
        return kind is not float or codec == "msgpack" or math.isfinite(value)
    if kind is list:
        return all(is_plain(part, codec) for part in value)
    if kind is dict:
        keys = all(type(key) is str for key in value)
        return keys and all(is_plain(part, codec) for part in value.values())
    return kind is bytes and codec == "msgpack"


def _encode_json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        import json

        return json.dumps(value, allow_nan=False).encode()


def _plainly(value: Any, codec: Codec) -> Any:
    """Return a value with all that is a kind of data as plain data. Raises TypeError or ValueError for what is none."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if codec == "json" and not math.isfinite(value):
            raise ValueError(f"JSON has no {float(value)} ({_MENDS[codec]})")
        return float(value)
    if isinstance(value, list | tuple):
        return [_plainly(part, codec) for part in value]
    if isinstance(value, dict):
        return {_key(key, codec): _plainly(part, codec) for key, part in value.items()}
    if isinstance(value, bytes | bytearray | memoryview) and codec == "msgpack":
        return bytes(value)
    return _plainly(_converted(value, codec), codec)


def _key(key: Any, codec: Codec) -> Any:
    plain = _plainly(key, codec)
    if isinstance(plain, str) or codec == "msgpack":
        return tuple(plain) if isinstance(key, tuple) else plain
    mend = f" ({_MENDS[codec]})"
    raise TypeError(f"{TITLES[codec]} has no {type(key).__name__} as the key of a dict{mend}")


def _converted(value: Any, codec: Codec) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    listed = getattr(value, "tolist", None)
    if listed is not None and not isinstance(value, memoryview):
        return listed()
    mend = f" ({_MENDS[codec]})" if isinstance(value, bytes | bytearray | memoryview) else ""
    raise TypeError(f"{TITLES[codec]} has nothing for a {type(value).__name__}{mend}")
