"""Addresses: what a person may type, what may be bound, and what to tell the other side. Opens no socket for traffic.

A node that joins is told endpoints with the host `*`, which it replaces by the host it reached the ventilator at: the
one name that is known to work from where it stands, through several networks, NAT and tunnels alike.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from zpipe.core.wire import Welcome
from zpipe.errors import UsageError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = [
    "RESULTS_PORT",
    "address_towards",
    "announce",
    "bindable",
    "bracket",
    "connectable",
    "is_loopback",
    "parse_ports",
    "reachable",
    "resolve",
    "resolved",
    "sibling",
]

CONTROL_PORT = 5557
RESULTS_PORT = 5558

IPC_LENGTH = 107 - 20
"""Bytes a Unix socket's path may have on Linux, less those of its siblings' names; macOS allows a few less."""


def _split(url: str, port: int) -> tuple[str, str, int]:
    """Return (scheme, host or path, port) of what a person typed. Raises UsageError."""
    text = url if "://" in url else f"tcp://{url}"
    if text.startswith("ipc://"):
        path = text[len("ipc://") :]
        if not path:
            raise UsageError(f"{url!r} has no path: write ipc:///some/folder/name")
        if len(path.encode()) > IPC_LENGTH:
            raise UsageError(f"{url!r}: a socket's path may have {IPC_LENGTH} bytes; use a shorter folder")
        return "ipc", path, 0
    parts = _parts(text)
    if parts.scheme != "tcp":
        raise UsageError(f"{url!r}: the scheme {parts.scheme!r} is not known; write tcp://HOST:PORT or ipc:///PATH")
    try:
        number = parts.port
    except ValueError:
        raise UsageError(f"{url!r}: the port must be a number from 0 to 65535") from None
    host = parts.hostname or ""
    if not host or parts.path not in ("", "/"):
        raise UsageError(f"{url!r} is no address: write tcp://HOST:PORT, for example tcp://127.0.0.1:{port}")
    return "tcp", host, port if number is None else number


def _parts(url: str) -> SplitResult:
    from urllib.parse import urlsplit  # slow to load, and jobs on one machine need none

    return urlsplit(url)


def bracket(host: str) -> str:
    """Return a host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def connectable(url: str, port: int = CONTROL_PORT) -> str:
    """Return `url` in full, for connecting. Raises UsageError for what can't be connected to."""
    scheme, host, number = _split(url, port)
    if scheme == "ipc":
        return f"ipc://{host}"
    if host in ("*", "0.0.0.0", "::"):  # noqa: S104 - to refuse them
        raise UsageError(f"{url!r} names every interface, which can be bound but not connected to; name a host")
    if number == 0:
        raise UsageError(f"{url!r}: port 0 can be bound but not connected to; name the ventilator's port")
    return f"tcp://{bracket(host)}:{number}"


def bindable(url: str, port: int = CONTROL_PORT, *, guarded: bool = False, insecure: bool = False) -> str:
    """Return `url` in full, for binding. Raises UsageError for a non-loopback address unless `guarded` by a key, or
    `insecure` by name.
    """
    scheme, host, number = _split(url, port)
    if scheme == "ipc":
        folder = os.path.dirname(host) or "."  # noqa: PTH120 - pathlib is a tenth of a worker's start
        if not os.path.isdir(folder):  # noqa: PTH112
            raise UsageError(f"{url!r}: there is no folder {folder!r}; make it, or bind elsewhere")
        return f"ipc://{host}"
    if not (guarded or insecure or _loopback(host)):
        raise UsageError(
            f"binding {url!r} without a key would let anybody on the network send this job pickles, which is running "
            f"their code; make a key with `zpipe keygen`, bind tcp://127.0.0.1:{number or port}, or add --insecure if "
            "everybody who can reach the port is trusted"
        )
    return f"tcp://{bracket('0.0.0.0' if host == '*' else host)}:{number}"  # noqa: S104 - it was asked for


def is_loopback(url: str) -> bool:
    """Whether only this host can reach the endpoint `url`, ipc included."""
    return url.startswith("ipc://") or _loopback(_parts(url).hostname or "")


def _loopback(host: str) -> bool:
    import ipaddress  # slow to load, and jobs on one machine need none

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def announce(endpoint: str) -> str:
    """Return a bound tcp endpoint with `*` for its host; an ipc one as it is."""
    if not endpoint.startswith("tcp://"):
        return endpoint
    return f"tcp://*:{endpoint.rpartition(':')[2]}"


def resolve(endpoint: str, via: str) -> str:
    """Return an announced endpoint with the host of `via`, the control address the node connected to."""
    if not endpoint.startswith("tcp://*:"):
        return endpoint
    host = _parts(via).hostname if via.startswith("tcp://") else "127.0.0.1"
    return f"tcp://{bracket(host or '127.0.0.1')}:{endpoint.rpartition(':')[2]}"


def resolved(welcome: Welcome, via: str) -> Welcome:
    """Return a welcome whose endpoints can be connected to, by a node that reached the ventilator at `via`."""
    lane, sink = resolve(welcome.endpoint, via), resolve(welcome.sink, via)
    return msgspec.structs.replace(welcome, endpoint=lane, sink=sink)


def reachable(bound: str, host: str) -> str:
    """Return a bound endpoint as it may be connected to: `host` in place of the wildcard."""
    for wildcard in ("0.0.0.0", "[::]"):  # noqa: S104 - to replace it
        bound = bound.replace(f"tcp://{wildcard}:", f"tcp://{bracket(host)}:")
    return bound


def sibling(control: str, name: str, port: int = 0) -> str:
    """Return where to bind another socket of the node whose control socket is bound at `control`."""
    if control.startswith("ipc://"):
        return f"{control}.{name}"
    return f"{control.rpartition(':')[0]}:{port or '*'}"


def address_towards(url: str) -> str:
    """Return this host's own address on the way to `url`, for a node that must be reached by others."""
    import socket

    parts = _parts(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or CONTROL_PORT
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def parse_ports(text: str) -> range:
    """Return the ports of `5600-5699` (both included). Raises UsageError."""
    low, _, high = text.partition("-")
    try:
        ports = range(int(low), int(high or low) + 1)
    except ValueError:
        ports = range(0)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise UsageError(f"{text!r} is no range of ports; write for example 5600-5699")
    return ports
