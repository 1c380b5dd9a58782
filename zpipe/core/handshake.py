"""What failed handshakes with a ventilator mean to the node that connects, and which of its keys it tries next.

ZeroMQ tells the two sides of a failed handshake different things, and who is told the more precise one is chance. So
a peer that just closes the connection is given a second try before anything is made of it.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Fault", "Handshakes", "Verdict", "explain"]


class Fault(Enum):
    """How a handshake failed, as far as a socket's monitor knows."""

    MECHANISM = "mechanism"
    """One side has a key, the other has none."""
    CRYPTO = "crypto"
    """What the peer sent was not made with our key."""
    DENIED = "denied"
    """The peer's list of whom it lets in lacks us, or ours lacks the peer."""
    LEFT = "left"
    """The peer closed the connection, or was silent."""
    GARBLED = "garbled"
    """The peer speaks, but not this protocol, or not from such a socket."""


def explain(fault: Fault, *, keyed: bool) -> str:
    """Return why a link's handshake failed, empty if that is not known; `keyed`: this side has a key."""
    if fault is Fault.MECHANISM:
        return "it has no key" if keyed else "it wants a key"
    if fault is Fault.LEFT and keyed:
        return "it closed the connection, as one does that has another key"
    return ""


TRIES, PLAIN_TRIES = 2, 4
"""Connections a peer may close without a word before it is taken for one that we don't fit, with a key and without."""


class Verdict(Enum):
    """What to do about a handshake that failed."""

    WAIT = "wait"
    """Nothing: the transport tries again."""
    ANEW = "anew"
    """Connect anew at once, with the next key."""
    STRANGE = "strange"
    """The peer is no ventilator; another may take its place."""
    DENIED = "denied"
    """The peer and this node have no key in common, and `why` says so."""


class Handshakes:
    """Follows the handshakes with `url` of a node with so many `keys`, from `origin`. `key` is the number of the next.

    `why` is why this node is not wanted, once it is not.
    """

    def __init__(self, url: str, keys: int, origin: str) -> None:
        self._url, self._keys, self._origin = url, keys, origin
        self.key = 0
        self.why = ""
        self._left = 0
        self._tried = 0

    def on_up(self) -> None:
        """One succeeded."""
        self._left = self._tried = 0

    def on_failed(self, fault: Fault) -> Verdict:
        """One failed."""
        if fault is Fault.MECHANISM:
            self._left, self.why = 0, self._mechanism()
            return Verdict.DENIED
        if fault is Fault.GARBLED:
            return Verdict.STRANGE
        if fault is Fault.LEFT:
            self._left += 1
            if self._left < (TRIES if self._keys else PLAIN_TRIES):
                return Verdict.WAIT
        self._left = 0
        if not self._keys:
            return Verdict.STRANGE
        self._tried += 1
        self.key = (self.key + 1) % self._keys
        if self._tried % self._keys:
            return Verdict.ANEW
        self.why = (
            f"what answers at {self._url} has another key than {self._origin}, or is no zpipe ventilator; copy the "
            "ventilator's key file to that place"
        )
        return Verdict.DENIED

    def _mechanism(self) -> str:
        if self._keys:
            return (
                f"the ventilator at {self._url} has no key: it was started with --insecure, or before there was one; "
                "start it with a key, or add --insecure here too"
            )
        return (
            f"the ventilator at {self._url} wants a key, and there is none here; copy its key file to this host "
            "(`zpipe keygen --paste` takes it as text), or name it with --key-file"
        )
