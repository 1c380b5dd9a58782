"""Sockets that only nodes with the pipeline's key can talk to: ZeroMQ's CURVE, both ways, and the list of who may in.

CURVE is elliptic-curve encryption with keys that live as long as a connection. Here it does three things: whoever
connects makes sure that the other side has the key; whoever binds asks the same of who connects, through ZeroMQ's
authentication protocol (ZAP, rfc.zeromq.org/spec/27), which this answers; nobody in between can read, change or replay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils import z85

from zpipe.core.complaints import Complaints
from zpipe.core.handshake import Fault
from zpipe.net import link
from zpipe.net.keys import Keys
from zpipe.net.loop import Loop

__all__ = ["Guard", "approach"]

DOMAIN = b"zpipe"

STRAY = "it is not the node that this lane is for"

HOLDER = b"holder"
"""Whoever shows a ticket."""


def _pair(secret: bytes, role: bytes) -> tuple[bytes, bytes]:
    """Return the public and secret key, as ZeroMQ has them, that a pipeline's key gives for a role."""
    import hashlib  # slow to load, and jobs on one machine have no keys

    seed = hashlib.blake2b(role, key=secret, digest_size=32, person=b"zpipe curve").digest()
    made = z85.encode(seed)
    return zmq.curve_public(made), made


def approach(made: Any, url: str, keys: Keys | None, number: int = 0, expected: str = "", ticket: str = "") -> None:
    """Have the socket's next connections, to `url`, made with the key of this number. On ipc there are none.

    expected: the public key of who binds there, if that is known from whoever it is who told us of it. ticket: what is
    shown there if there is no key.
    """
    if not url.startswith("tcp://"):
        return
    if keys is None:
        if ticket:
            made.set(zmq.PLAIN_USERNAME, HOLDER)
            made.set(zmq.PLAIN_PASSWORD, ticket.encode())
        return
    secret = keys.secrets[number]
    public, private = _pair(secret, b"connects")
    made.set(zmq.CURVE_PUBLICKEY, public)
    made.set(zmq.CURVE_SECRETKEY, private)
    made.set(zmq.CURVE_SERVERKEY, expected.encode() or _pair(secret, b"binds")[0])


class Guard:
    """Lets in who has the key, and tells of those who have not: at all sockets of a context that were given to it.

    Without a key it lets in all who speak the protocol of today: ZeroMQ tells nothing of peers that speak one of before
    2013, and would give them a worker's chunks. `say(text, error)` tells the person, of each peer once.
    """

    def __init__(self, loop: Loop, context: Any, keys: Keys | None, say: Callable[[str, bool], None]) -> None:
        self._loop, self._keys, self._say = loop, keys, say
        self._complaints = Complaints()
        self._public, self._private = _pair(keys.secrets[-1], b"binds") if keys is not None else (b"", b"")
        secrets = keys.secrets if keys is not None else ()
        self._accepted = [[b"CURVE", z85.decode(_pair(secret, b"connects")[0])] for secret in secrets] or [[b"NULL"]]
        """What peers may show: the mechanism, and its credentials."""
        self._porter: Any = context.socket(zmq.REP)
        self._porter.set(zmq.LINGER, 0)
        self._porter.bind("inproc://zeromq.zap.01")
        loop.add(self._porter, self._on_request)

    @property
    def keys(self) -> Keys | None:
        """The keys there are."""
        return self._keys

    def serve(self, made: Any, url: str) -> str:
        """Have a socket that is about to be bound at `url` let in nobody else; return its public key.

        At ipc the folder says who may connect, and there is no key.
        """
        if not url.startswith("tcp://"):
            return ""
        made.set(zmq.ZAP_DOMAIN, DOMAIN)
        made.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # no answer from us is a no
        if self._keys is None:
            return ""
        made.set(zmq.CURVE_SERVER, 1)
        made.set(zmq.CURVE_SECRETKEY, self._private)
        return self._public.decode()

    def reserve(self, made: Any, url: str) -> str:
        """As `serve`, for a socket that is for one peer alone; return the ticket by which that is known.

        That is empty where there is a key, which says more, and at ipc.
        """
        self.serve(made, url)
        if self._keys is not None or not url.startswith("tcp://"):
            return ""
        ticket = os.urandom(16).hex()
        made.set(zmq.PLAIN_SERVER, 1)
        made.set(zmq.ZAP_DOMAIN, DOMAIN + ticket.encode())  # it comes with each request about this socket
        return ticket

    def _on_request(self) -> bool:
        while True:
            request = link.receive(self._porter)
            if request is None:
                return False
            link.send(self._porter, self._answer([bytes(frame) for frame in request]))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        # version, request, domain, address, identity, mechanism, credentials
        known = len(request) > 5 and request[0] == b"1.0" and self._is_known(request[2], request[5:])
        number = request[1] if len(request) > 1 else b""
        if known:
            return [b"1.0", number, b"200", b"OK", b"zpipe", b""]
        host = request[3].decode("ascii", "replace") if len(request) > 3 else ""
        stray = len(request) > 5 and request[5] == b"PLAIN"
        self.complain(host, "denied", STRAY if stray else "it has a key of its own")
        return [b"1.0", number, b"400", b"no key of this pipeline", b"", b""]

    def _is_known(self, domain: bytes, shown: list[bytes]) -> bool:
        """Whether a peer that shows this, a mechanism and its credentials, may connect to a socket of this domain."""
        if domain == DOMAIN:
            return shown in self._accepted
        import hmac

        return shown[:2] == [b"PLAIN", HOLDER] and len(shown) == 3 and hmac.compare_digest(domain, DOMAIN + shown[2])

    def fault(self, port: str) -> Callable[[str, Fault], None]:
        """Return what a socket's Watch is to call: it tells of handshakes that fail at the port of this name."""

        def tell(host: str, fault: Fault) -> None:
            text = self._words(fault, port)
            if text:
                # To whom of the two a mismatch is told is chance, so one who left may be just that, or a port scanner.
                self.complain(host, fault.value, text, port, after=3 if fault is Fault.LEFT else 1)

        return tell

    def _words(self, fault: Fault, port: str) -> str:
        mend = f"if it is a node of yours, copy {self._keys.origin} there" if self._keys is not None else ""
        if fault is Fault.MECHANISM and self._keys is None:
            if port == "lane":
                return STRAY
            return "it has a key, and there is none here; start both with the same key, or both with --insecure"
        if fault is Fault.MECHANISM:
            return f"it has no key; {mend}"
        if fault is Fault.CRYPTO:
            return f"it has another key; {mend}"
        if fault is Fault.LEFT:
            return "again and again it left before the handshake's end, as a node does whose key does not fit"
        return "it does not speak zpipe's protocol" if fault is Fault.GARBLED else ""

    def complain(self, host: str, kind: str, text: str, port: str = "", after: int = 1) -> None:
        """Tell of what the peer at `host` (empty: not known) did `after` times, unless that was told of it before."""
        where = f" at the {port} port" if port else ""
        said = f"turned away {host or 'somebody'}{where}: {text}"
        told = self._complaints.on_fault(host, kind, said, time.monotonic(), after=after)
        if told:
            self._say(told, True)

    def close(self) -> None:
        """Let nobody in any more."""
        if not self._porter.closed:
            self._loop.remove(self._porter)
            self._porter.close()
