"""What the director wants done: its shell turns these into messages, sockets and words."""

from __future__ import annotations

import msgspec

from zpipe.core import wire

__all__ = ["Action", "Admit", "End", "Fill", "Inform", "Lost", "Reply", "Report", "Retire", "Skip", "Tell"]


class Reply(msgspec.Struct, frozen=True):
    """Send this to a control connection."""

    identity: bytes
    message: wire.Control


class Report(msgspec.Struct, frozen=True):
    """Send this control connection the job's state: some of it only the shell knows."""

    identity: bytes


class Inform(msgspec.Struct, frozen=True):
    """Tell this to the sink of this very process."""

    message: wire.Copied


class Admit(msgspec.Struct, frozen=True):
    """Bind a lane and welcome the node with it: `Director.welcome` makes the message."""

    identity: bytes
    lane: int


class Retire(msgspec.Struct, frozen=True):
    """Close a lane; what is queued in it is void."""

    lane: int


class Fill(msgspec.Struct, frozen=True):
    """These workers' lanes may have credit: share out what there is among them."""

    lanes: list[int]


class Skip(msgspec.Struct, frozen=True):
    """The source's next items are done already, as many as the ledger says: pass over them."""


class Lost(msgspec.Struct, frozen=True):
    """A worker is gone without leave; `requeued` of its chunks go to others. `how` it ended, as far as known."""

    name: str
    how: str
    requeued: int


class Tell(msgspec.Struct, frozen=True):
    """Tell the person."""

    text: str
    error: bool = False


class End(msgspec.Struct, frozen=True):
    """The job is over: `error` is why it failed (empty: it did not); `status` is that error's exit status."""

    error: str = ""
    status: int = 1


Action = Reply | Report | Inform | Admit | Retire | Fill | Skip | Lost | Tell | End
