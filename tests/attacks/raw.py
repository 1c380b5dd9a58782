"""What strangers say below ZeroMQ's sockets: the bytes of greetings, handshakes and frames (rfc.zeromq.org/spec/23)."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Sequence

__all__ = ["NULL", "OLD", "RAW", "babble", "connect", "greeting", "ready"]


def greeting(mechanism: bytes = b"NULL") -> bytes:
    """Return what a peer says first."""
    return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)


def ready(kind: bytes) -> bytes:
    """Return what a peer with a socket of this kind, and no key, says next."""
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return b"\x04" + bytes([len(body)]) + body


NULL = greeting()
OLD = b"\xff" + bytes(7) + b"\x01\x7f\x01"
"""How peers of the protocol's version 2 began, with the number of their kind of socket, and then an empty name."""

HUGE = struct.pack(">Q", 2 << 30)

RAW: dict[str, Sequence[bytes]] = {
    "nothing": [],
    "half a greeting": [b"\xff\0\0"],
    "another protocol": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
    "version 1": [b"\x01\x00", b"\x05\x00abcd"],
    "a PULL of version 2": [OLD + b"\x07", b"\0\0", b"\0\x03abc"],
    "a DEALER of version 2": [OLD + b"\x05", b"\0\0", b"\0\x03abc"],
    "an unknown mechanism": [greeting(b"WHATEVER")],
    "silence behind the greeting": [NULL],
    "garbage behind the greeting": [NULL, b"\x55" * 100],
    "garbage behind a greeting with a key": [greeting(b"CURVE"), b"\x55" * 100],
    "a frame of 2 GB without a handshake": [NULL, b"\x06" + HUGE],
    "a frame of 2 GB without a handshake with a key": [greeting(b"CURVE"), b"\x06" + HUGE],
    "a handshake that is short": [greeting(b"CURVE"), b"\x04\x06\x05HELLO"],
    "the wrong socket": [NULL, ready(b"PUB")],
    "no socket there is": [NULL, ready(b"X" * 200)],
    "a frame of 2 GB": [NULL, ready(b"DEALER"), b"\x02" + HUGE],
    "a frame of 2 GB of results": [NULL, ready(b"PUSH"), b"\x02" + HUGE],
    "flags that nobody knows": [NULL, ready(b"DEALER"), b"\xf0\x05abcde"],
    "a command that nobody knows": [NULL, ready(b"PUSH"), b"\x04\x05\x04abcd"],
    "many empty frames": [NULL, ready(b"DEALER"), b"\x01\x00" * 3000 + b"\x00\x00"],
    "a message without an end": [NULL, ready(b"PUSH"), b"\x01\x64" + b"x" * 100],
}


def babble(rng: random.Random) -> list[bytes]:
    """Return what a stranger says: one of those, as it is or spoilt somewhere."""
    said = [*RAW[rng.choice(sorted(RAW))]]
    if said and rng.random() < 0.6:
        at = rng.randrange(len(said))
        part = bytearray(said[at])
        for _ in range(rng.randint(1, 4)):
            part[rng.randrange(len(part))] = rng.randrange(256)
        said[at] = bytes(part[: rng.randint(1, len(part))] if rng.random() < 0.3 else part)
    return said


def connect(url: str, timeout: float = 30.0) -> socket.socket:
    """Return a bare connection to a tcp endpoint."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout)
