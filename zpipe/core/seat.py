"""The sink's seat in a job: whether there is one, in this process or elsewhere, and how it wants results."""

from __future__ import annotations

import msgspec

from zpipe.core import wire
from zpipe.core.actions import Action, Reply
from zpipe.core.roster import Node
from zpipe.core.spec import PICKLED, Codec, Encoding

__all__ = ["Seat", "Wants"]


class Wants(msgspec.Struct, frozen=True):
    """Where a sink takes results, in which encoding, and whether it wants dead letters and lines for a job log.

    `key` is the public key of that endpoint, if it is in a process of its own and has one.
    """

    endpoint: str
    encoding: Encoding
    letters: bool = False
    joblog: bool = False
    key: str = ""


class Seat:
    """Who sits here: a `local` sink of this very process, or a `node` of that `session`, which outlasts the node."""

    def __init__(self, job: str, local: Wants | None = None) -> None:
        self.job = job
        """What the job is called, as its sink has it once there is one that has a part of it."""
        self.local = local
        self.node: Node | None = None
        self.session = ""
        self._told = 0
        self.line = "zpipe sink URL --output FILE"
        """The command line that starts this job's sink, once the address is known."""

    @property
    def wants(self) -> Wants | None:
        """How the sink wants results, once there is one."""
        join = self.node.sink if self.node is not None else None
        if self.local is not None or join is None:
            return self.local
        return Wants(join.endpoint, join.encoding, join.letters, join.joblog, join.key)

    @property
    def taken(self) -> bool:
        """Whether results can be brought to a sink now."""
        return self.local is not None or (self.node is not None and self.node.ready)

    def is_of(self, identity: bytes) -> bool:
        """Whether this control connection is the sink's."""
        return self.node is not None and self.node.identity == identity

    def tell(self, message: wire.Control) -> list[Action]:
        """Send this to the sink, if it is a node."""
        return [Reply(self.node.identity, message)] if self.node is not None else []

    def issued(self, items: int, *, doubt: int = 0, anew: bool = False) -> list[Action]:
        """Tell a sink that is a node how many items were issued, if it is not told yet; `anew`: it may not know it."""
        if anew:
            self._told = 0
        if self.node is None or not self.node.ready or (items == self._told and not doubt):
            return []
        self._told = items
        return self.tell(wire.Issued(self.job, items, doubt))

    def objection(self, join: wire.SinkJoin, codec: Codec) -> str:
        """Return why this one can't be the sink of a job with this codec; empty if it can."""
        if self.local is not None:
            return "this ventilator has its own sink; `zpipe ventilator` is the one that waits for another"
        if codec != "pickle" and join.encoding in PICKLED:
            return f"it wants results as pickles, in a job of --codec {codec}; give the sink --codec {codec}"
        return ""

    def rival(self, join: wire.SinkJoin) -> str:
        """Return why this one has to wait, which may be the sink's successor; empty if the seat is its own or free."""
        if self.node is None or join.session == self.session:
            return ""
        return f"there is a sink already, {self.node.name}; a job has one"

    def missing(self) -> str:
        """Return what to tell a person while there is none."""
        if self.session:
            return "the sink is gone; work goes on when it is back"
        return f"no sink has joined yet; start one with: {self.line}"
