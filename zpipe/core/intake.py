"""The worker's decisions: what it holds, what it runs, what it hands back. Knows nothing of tasks or sockets.

A worker counts the chunks that arrive on its lane. Since a lane keeps its order, the number of the last one started
tells the ventilator exactly which of the chunks sent down were not.

What was under way when a link was cut is run to its end, and its results are kept: they are still good for the sink of
that job, whichever lane, ventilator or process of the sink there is by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from zpipe.core import wire
from zpipe.core.member import Action, Close, Member, Open, Send, State

__all__ = ["LATE_BYTES", "Intake"]


LATE_BYTES = 64 << 20
"""Results that are kept while there is nowhere to bring them, at most; what is more is another worker's to make."""


class Intake:
    """One worker. Its `member` carries the connection events; this holds chunks until they run, and leaves in order."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.arrived = 0
        self.taken = 0
        """How many chunks had arrived when the last one that was started did."""
        self._queue: deque[tuple[int, Any]] = deque()
        self._late: list[tuple[str, Any]] = []
        self._late_bytes = 0

    def on_chunks(self, chunks: Sequence[Any]) -> None:
        """Chunks came down the lane, in a shape of the caller's. Before Ready and after Leave they are another's."""
        if self.member.state is State.READY:
            self._queue.extend(enumerate(chunks, self.arrived + 1))
            self.arrived += len(chunks)

    def start(self) -> Any:
        """Return the next chunk, which is to be run now, or None."""
        if not self._queue:
            return None
        self.taken, chunk = self._queue.popleft()
        return chunk

    @property
    def waiting(self) -> int:
        """How many chunks have not been started."""
        return len(self._queue)

    def keep(self, job: str, result: Any, size: int) -> None:
        """A result of a job, in a shape of the caller's and of `size` bytes, can't be delivered now."""
        if self._late_bytes + size <= LATE_BYTES:
            self._late.append((job, result))
            self._late_bytes += size

    def late(self) -> list[tuple[str, Any]]:
        """Return what was kept and can be delivered now, each with its job: at once, or it will be run again."""
        welcome = self.member.welcome
        if not self._late or self.member.state is not State.READY or welcome is None:
            return []
        late, self._late, self._late_bytes = self._late, [], 0
        return [(job, result) for job, result in late if job == welcome.job]

    def on_message(self, message: Any, now: float) -> list[Action]:
        """The ventilator said something on the control connection; a recall is for `on_recall`."""
        return self.after(self.member.on_message(message, now))

    def on_recall(
        self, message: wire.Recall, cut: Callable[[], int], rest: Callable[[], int] = lambda: 0
    ) -> list[Action]:
        """Give back what has not been started, with what `cut` leaves of the running chunk if its items are wanted too.

        It returns the index of the first item that won't be run, 0 if all will be; so does `rest`, which leaves of a
        running row the chunks that have not been started.
        """
        welcome = self.member.welcome
        if self.member.state is not State.READY or welcome is None or message.lane != welcome.lane:
            return []
        self._queue.clear()
        at = cut() if message.items else rest()
        return [Send(wire.Returned(message.lane, self.taken, self.arrived, at))]

    def after(self, actions: list[Action]) -> list[Action]:
        """Note what the member's actions mean for the count: a new lane starts from nothing."""
        if any(isinstance(action, Open | Close) for action in actions):
            self.taken = self.arrived = 0
            self._queue.clear()
        return actions

    def on_terminate(self, now: float, cut: Callable[[], int], *, replaced: bool = False) -> list[Action]:
        """Asked to go (SIGTERM): hand back what was not started, and wait for the receipts of the rest.

        What `cut` leaves of the running chunk is handed back too, as for `on_recall`. `replaced`: a fresh process
        takes its place.
        """
        welcome, leave = self.member.welcome, None
        if welcome is not None and self.member.state is State.READY:
            leave = wire.Leave(welcome.lane, self.taken, cut(), replaced)
        self._queue.clear()
        return self.after(self.member.on_leave(leave, now))

    def on_unfit(self, reason: str, now: float) -> list[Action]:
        """The task can't be loaded here: say so; the ventilator answers with a refusal."""
        welcome = self.member.welcome
        if welcome is None:
            return []
        self._queue.clear()
        return self.after(self.member.on_leave(wire.Unfit(welcome.lane, reason[: wire.REASON]), now))

    def check(self) -> None:
        """Assert that the count belongs to a lane."""
        self.member.check()
        assert self.taken + len(self._queue) <= self.arrived
        assert self.arrived == 0 or self.member.welcome is not None or self.member.state is State.GONE
