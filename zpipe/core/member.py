"""How a node belongs to a ventilator: joins, gets its links, and joins again whenever one of them is cut.

Shared by worker and sink. There is one way back from every kind of cut: close the links, join with the next turn, get
a new lane. What was under way on the old lane is then requeued by the ventilator and deduplicated by the sink.

    AWAY ──control up──▶ ASKED ──Welcome──▶ LINKING ──all links up──▶ READY ──leave──▶ LEAVING ──▶ GONE
      ▲                    ▲                   │                        │
      └───control down─────┴──────link down────┴────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from zpipe.core import wire

__all__ = ["DENIALS", "Action", "Close", "Gone", "Member", "Open", "Say", "Send", "State"]

RESEND = 5.0
"""Seconds between two sayings of what is waited for, and two sendings of an unanswered join."""

HUSH = 1.0
"""Seconds of waiting that need no words."""

RETRY = 1.0
"""Seconds before another join after one whose links could not be connected."""

DENIALS = 3
"""Times a ventilator's key does not fit, RETRY seconds apart, before a node ends over it: one may be on its way."""

_LINKS = {"lane": "our lane from the ventilator", "results": "the sink"}


class State(Enum):
    """Where a member is in belonging."""

    AWAY = "away"
    ASKED = "asked"
    LINKING = "linking"
    READY = "ready"
    LEAVING = "leaving"
    GONE = "gone"


class Send(msgspec.Struct, frozen=True):
    """Send this down the control connection."""

    message: wire.Control


class Open(msgspec.Struct, frozen=True):
    """Connect the links this welcome names."""

    welcome: wire.Welcome


class Close(msgspec.Struct, frozen=True):
    """Close the links; what is queued in them is void."""


class Say(msgspec.Struct, frozen=True):
    """Tell the person."""

    text: str


class Gone(msgspec.Struct, frozen=True):
    """The member is done: end with this error, or well if it is empty. `refused`: a fresh start would not help."""

    error: str = ""
    refused: bool = False


Action = Send | Open | Close | Say | Gone


class Member:
    """The belonging of one node. `join(turn)` makes its join message; `links` are the names of its links.

    `patience` is how many seconds it looks for a ventilator before it gives up (None: for ever). `stay`: after a job
    it waits for the next one instead of leaving. A leave that is not answered ends after `grace` seconds, and a wait is
    first told of after `hush` seconds.
    """

    def __init__(
        self,
        join: Callable[[int], wire.Control],
        links: tuple[str, ...],
        *,
        url: str,
        now: float,
        patience: float | None = None,
        stay: bool = False,
        grace: float = 10.0,
        hush: float = HUSH,
    ) -> None:
        self._join = join
        self._names = links
        self._url = url
        self.patience = patience
        self._stay = stay
        self._grace = grace
        self.state = State.AWAY
        self.turn = 0
        self.welcome: wire.Welcome | None = None
        self._up: set[str] = set()
        self._held = ""
        self._denials = 0
        self._denied_at = 0.0
        self._hush = hush
        self._since = now
        self._ask_at = now
        self._say_at = now + hush
        self._said_at = now - RESEND

    # connections

    def on_denied(self, why: str, now: float) -> list[Action]:
        """What answers at the ventilator's address and this node have no key in common."""
        if self.state is not State.AWAY:
            return []
        self._denials += 1
        if self._denials >= DENIALS:
            self.state = State.GONE
            return [Close(), Gone(why, refused=True)]
        self._denied_at, self._say_at = now, now + RETRY
        news, self._held = why != self._held, why
        return [Say(f"{why}; trying again")] if news else []

    def on_control_up(self, now: float) -> list[Action]:
        """The control connection stands."""
        self._denials = 0
        if self.state is not State.AWAY:
            return []
        return self._ask(now)

    def on_control_down(self, now: float) -> list[Action]:
        """The control connection is cut; the transport goes on trying to restore it."""
        if self.state in (State.AWAY, State.GONE):
            return []
        if self.state is State.LEAVING:
            return self._go()
        linked = self.state in (State.LINKING, State.READY)
        self._enter(State.AWAY, now)
        return [Close()] if linked else []

    def on_link_up(self, name: str, now: float) -> list[Action]:
        """A link stands."""
        if self.state is not State.LINKING or self.welcome is None:
            return []
        self._up.add(name)
        if len(self._up) < len(self._names):
            return []
        self._enter(State.READY, now)
        return [Send(wire.Ready(self.welcome.lane))]

    def on_link_down(self, name: str, now: float, why: str = "") -> list[Action]:
        """A link is cut, or was refused for the reason `why`: all of them are given up and the member joins afresh."""
        if self.state is State.LEAVING:
            return self._go()
        if self.state not in (State.LINKING, State.READY):
            return []
        if self.state is State.READY:
            return [Close(), *self._ask(now)]
        assert self.welcome is not None
        where = self.welcome.endpoint if name == "lane" else self.welcome.sink
        how = f" ({why})" if why else ""
        return self._ask_later(f"{_LINKS[name]} can't be reached at {where}{how}; trying again every {RETRY:g} s", now)

    def on_unreadable(self, error: str, now: float) -> list[Action]:
        """What came on a link can't be read: with the lane, all that is on it goes to another node."""
        if self.state is not State.READY:
            return self.on_link_down("lane", now)
        return self._ask_later(f"what came on our lane can't be read ({error}); trying again every {RETRY:g} s", now)

    def expects(self, welcome: wire.Welcome) -> bool:
        """Whether this is the answer to the last join, which is waited for."""
        return self.state is State.ASKED and welcome.turn == self.turn

    def on_misfit(self, now: float) -> list[Action]:
        """The welcome expected is for what this node is no more: join again as what it is."""
        return self._ask_later("results of an earlier start of the job came meanwhile; joining again with them", now)

    def _ask_later(self, why: str, now: float) -> list[Action]:
        """Join afresh, but not at once, which would only spin."""
        self.turn += 1
        self._enter(State.ASKED, now)
        self._ask_at = now + RETRY
        self._held = why
        return [Close()]

    def _ask(self, now: float) -> list[Action]:
        self.turn += 1
        self._enter(State.ASKED, now)
        return [Send(self._join(self.turn))]

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self._up.clear()
        self._held = ""
        self._since = now
        self._ask_at = now + RESEND
        self._say_at = max(now + self._hush, self._said_at + RESEND)
        if state is not State.READY and state is not State.LINKING:
            self.welcome = None

    # messages

    def on_message(self, message: Any, now: float) -> list[Action]:
        """The ventilator said something that concerns belonging; anything else is ignored."""
        if isinstance(message, wire.Welcome):
            if not self.expects(message):
                return []
            self._enter(State.LINKING, now)
            self.welcome = message
            return [Open(message)]
        if isinstance(message, wire.Hold):
            if self.state is not State.ASKED:
                return []
            news, self._held = message.reason != self._held, message.reason
            return self._say(self.waiting(now), now) if news else []
        if isinstance(message, wire.Refuse):
            self.state = State.GONE
            return [Close(), Gone(f"{self._url} refused us: {message.reason}", refused=True)]
        if isinstance(message, wire.Bye):
            return self._bye(message, now)
        return []

    def _bye(self, message: wire.Bye, now: float) -> list[Action]:
        if self.state is State.GONE:
            return []
        if self._stay and self.state is not State.LEAVING:
            # The ventilator closes behind its Bye; its connection's end, or the next one's join, goes on from here.
            self._enter(State.AWAY, now)
            return [Close()]
        error = f"the job at {self._url} failed: {message.failed}" if message.failed else ""
        self.state = State.GONE
        return [Close(), Gone(error, refused=True)]

    # leaving

    def on_leave(self, message: wire.Control | None, now: float) -> list[Action]:
        """The node wants to go; `message` asks the ventilator for its leave, when there is something to settle."""
        if self.state in (State.LEAVING, State.GONE):
            return []
        if self.state is State.READY and message is not None:
            self.state = State.LEAVING
            self._since = now
            return [Send(message)]
        return self._go()

    def stir(self, now: float) -> None:
        """There was something to do until now: if the node is leaving, its time to settle that begins here."""
        if self.state is State.LEAVING:
            self._since = now

    def _go(self) -> list[Action]:
        self.state = State.GONE
        return [Close(), Gone()]

    # time

    def deadline(self) -> float | None:
        """When `on_tick` is next due."""
        if self.state in (State.READY, State.GONE):
            return None
        if self.state is State.LEAVING:
            return self._since + self._grace
        if self.state is State.AWAY and self.patience is not None:
            return min(self._say_at, self._since + self.patience)
        return min(self._say_at, self._ask_at) if self.state is State.ASKED else self._say_at

    def on_tick(self, now: float) -> list[Action]:
        """Time passed."""
        if self.state is State.LEAVING and now >= self._since + self._grace:
            return self._go()
        if self.state is State.AWAY and self.patience is not None and now >= self._since + self.patience:
            self.state = State.GONE
            why = f"no ventilator answered at {self._url} for {self.patience:g} s; is it running, is the port open?"
            return [Close(), Gone(why, refused=True)]
        if self.state in (State.READY, State.LEAVING, State.GONE):
            return []
        actions: list[Action] = []
        if now >= self._denied_at + RESEND:
            self._denials = 0  # whoever it was does not answer any more
        if now >= self._say_at and self._denials:
            self._say_at = now + RETRY  # why is said already
        elif now >= self._say_at:
            actions += self._say(self.waiting(now), now)
        if self.state is State.ASKED and now >= self._ask_at:
            self._ask_at = now + RESEND
            actions.append(Send(self._join(self.turn)))
        return actions

    def waiting(self, now: float) -> str:
        """What the member waits for, and since when, as a sentence."""
        seconds = f"for {now - self._since:.0f} s"
        if self.state is State.AWAY:
            return f"waiting {seconds} for a ventilator at {self._url}; it connects as soon as there is one"
        if self.state is State.LINKING:
            assert self.welcome is not None
            missing = [name for name in self._names if name not in self._up]
            where = {"lane": self.welcome.endpoint, "results": self.welcome.sink}
            return "; ".join(f"{_LINKS[n]} is unreachable at {where[n]}: trying {seconds}" for n in missing)
        return f"waiting {seconds} at {self._url}: {self._held or 'connected, but no answer to our join yet'}"

    def _say(self, text: str, now: float) -> list[Action]:
        self._said_at = now
        self._say_at = now + RESEND
        return [Say(text)]

    def check(self) -> None:
        """Assert that the state and what goes with it agree."""
        assert (self.welcome is not None) == (self.state in (State.LINKING, State.READY, State.LEAVING)) or (
            self.state is State.GONE
        )
        assert self._up <= set(self._names)
