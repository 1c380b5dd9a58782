"""Who does the pipeline's work: its own thread, or a caller's that is there anyway.

Waking a thread takes as long as the work on a single item. So whoever submits to a pipeline with an idle worker sends
the chunk itself, and whoever waits for a result, and is the only one to, takes what comes itself; the pipeline's own
thread sleeps meanwhile, and sees to everything else.

The rule: what nodes, chunks and results are is touched only by who holds `lock`. The pipeline's thread holds it but
while it waits. A caller's is spared its signals for as long as it helps, since it could be left in the middle of
something; callbacks of futures, which may take any time, are never its to call.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from zpipe.api.futures import PipelineFuture
from zpipe.api.held import Held
from zpipe.api.work import Work
from zpipe.net.lookout import Lookout
from zpipe.net.loop import Loop
from zpipe.nodes.sink import Sink
from zpipe.nodes.ventilator import Ventilator

__all__ = ["Helm"]

WATCH = 0.005
"""Seconds that the pipeline's thread sleeps at most while it is not the one to hear of results."""

PATIENCE = 0.005
"""Seconds that whoever would help waits for others to be through; they could be at something that takes its time."""

LONGEST = 1_000_000_000
"""Milliseconds to wait at most at a time: poll counts them with 31 bits."""

MANY = 16
"""Results whose receipts are left for later at most, by whoever waits for one result after the other."""


class Helm:
    """Keeps apart those who touch the ventilator and the sink of one loop. Used by any thread, but where it says so.

    Whoever waits for a result takes the results socket out of the loop, and leaves it out when the result is there:
    the next one is likely to be waited for as well. Meanwhile the pipeline's thread is on the watch, and has it back
    as soon as nobody is at it and somebody could be waiting in another way.
    """

    def __init__(self, loop: Loop, ventilator: Ventilator, sink: Sink, work: Work) -> None:
        self._loop, self._ventilator, self._sink, self._work = loop, ventilator, sink, work
        self.lock = threading.Lock()
        self.due: float | None = None
        """Until when the pipeline's thread sleeps at most; set by it, holding the lock."""
        self.out = False
        """Whether the results socket is out of the loop."""
        self.fault: BaseException | None = None
        """What ended somebody's help midway: nothing is certain any more."""
        self._over = not hasattr(select, "epoll")
        self._leading = threading.Lock()
        self.leader = 0
        """The thread that takes results in place of the pipeline's; 0 if none does."""
        self.leads = self._seen = 0
        """How often one has; and when the pipeline's last looked."""
        self._wanted = False
        self._unread = False
        """Whether there may be results that no descriptor tells of any more."""
        self._unsettled = 0
        """How many were taken whose receipts are due."""
        self._lookout = Lookout()
        self._bell: int | None = None
        self._poll: Any = None

    # the pipeline's thread

    def desist(self) -> None:
        """Have nobody begin to help any more. The lock is held: all calls are about to fail, what comes is nobody's."""
        self._over = True

    def close(self) -> None:
        """Have nobody help any more; return when nobody does."""
        self._over = True
        self._ring()
        with self._leading, self.lock:
            if self._bell is not None:
                os.close(self._bell)
                self._bell = None

    def settle(self) -> None:
        """Do what helpers have left to be done; the lock is held. Raises what ended somebody's help."""
        if self.fault is not None:
            raise self.fault
        aside = self._work.submits.aside
        while aside:
            aside.popleft()()
        if self._unsettled:  # ahead of all else: when a worker has gone, what it had done is not what it ran
            self._clear()
        if self.out and not self.leader and (self._wanted or self.leads == self._seen or not self._is_quiet()):
            self.out = self._wanted = False
            self._loop.take_back(self._sink.socket)
            self._loop.again(self._sink.socket)
        self._seen = self.leads

    # whoever submits

    def dispatch(self) -> bool:
        """Send what was submitted, if a worker is idle and nobody else is at it; return whether it was sent."""
        work = self._work
        if len(work.submits.queue) != 1 or self._over or self.lock.locked():
            return False
        if not (work.tickets or work.maps):
            call = self._offer
        elif self.leader and self._ventilator.ledger.in_flight < self._ventilator.director.workers:
            call = self._feed
        else:
            return False
        with Held():
            if not self.lock.acquire(blocking=False):
                return False
            try:
                if not self._over:
                    self._help(call)
            finally:
                self.lock.release()
        return not work.submits.queue

    def _offer(self) -> None:
        if not self._ventilator.offer(self._sink.collector.done.count):
            if self._unsettled:
                self._clear()
            self._feed()

    def _feed(self) -> None:
        self._ventilator.on_wake()
        self._wake()

    # whoever waits

    def lend(self, future: PipelineFuture[Any], timeout: float | None) -> None:
        """Take results until the future is done, `timeout` seconds at most, if that is all there is to do."""
        if not self._work.tickets or self._leading.locked() or self._over or not self._is_quiet():
            self.look()
            return
        with Held(self._ring) as held:
            if not future.is_over() and self._leading.acquire(blocking=False):
                try:
                    self.leader = threading.get_ident()
                    future.tell()
                    self._lead(future, None if timeout is None else time.monotonic() + timeout, held)
                finally:
                    self.leader = 0
                    self._leading.release()
                    work = self._work
                    if work.tickets or work.maps or work.submits.queue:
                        self.look()

    def look(self) -> None:
        """Somebody waits who does not help."""
        if self.out and not self.leader:
            self._wanted = True
            self._loop.wake()

    def _is_quiet(self) -> bool:
        """Whether there is no more under way than one thread can see to beside what it waits for."""
        work = self._work
        if work.maps or work.submits.queue:
            return False
        return len(work.tickets) <= 1 or len(work.tickets) <= self._ventilator.director.workers

    def _lead(self, future: PipelineFuture[Any], end: float | None, held: Held) -> None:
        if not self.lock.acquire(timeout=PATIENCE):
            return
        try:
            if self._over or not (self.out or self._take_out()):
                return
            self.leads += 1
            if self._unsettled and not self._may_wait():
                self._help(self._clear)
            elif self._unread:
                self._look(future, expected=False)
        finally:
            self.lock.release()
        while not (future.is_over() or held.came or self._over) and self._is_quiet():
            if not self._unread:
                left = None if end is None else min(math.ceil((end - time.monotonic()) * 1000), LONGEST)
                if left is not None and left <= 0:
                    return
                if not self._await(left):
                    continue
            with self.lock:
                if not self._over:
                    self._look(future, expected=not self._unread)

    def _look(self, future: PipelineFuture[Any], *, expected: bool) -> None:
        """Take the first result there is, and if it is not the one, see to all there are. `expected`: there is one."""
        self._help(self._take_expected if expected else self._take)
        if self._unread and not future.is_over():
            self._help(self._clear)

    def _may_wait(self) -> bool:
        """Whether receipts can be left for later: there are few, and nothing is under way but what is waited for."""
        return self._unsettled < MANY and self._ventilator.ledger.next - self._sink.collector.done.count <= 1

    def _take_out(self) -> bool:
        results = self._sink.socket
        if not self._loop.lend(results):
            return False
        if self._bell is None:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._poll = select.poll()
            self._poll.register(self._bell, select.POLLIN)
            self._poll.register(results.get(zmq.FD), select.POLLIN)
        self.out = True
        self._loop.wake()
        return True

    def _await(self, milliseconds: int | None) -> bool:
        """Wait for results; return whether there may be some."""
        found = False
        for fd, _ in self._lookout.wait(self._poll.poll, milliseconds):
            if fd == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(fd)
            else:
                found = True
        return found

    def _take(self) -> None:
        """Take the first result there is. What else is to be done about it can wait until somebody waits again."""
        self._unread = self._sink.read_first(expected=False)
        self._unsettled += self._unread

    def _take_expected(self) -> None:
        self._unread = self._sink.read_first(expected=True)
        self._unsettled += self._unread

    def _clear(self) -> None:
        """Take what results there are, and see to those that were taken."""
        self._unread = self._sink.read(expected=False)
        self._unsettled = int(self._unread)
        self._wake()

    def _help(self, call: Callable[[], object]) -> None:
        """Do a part of the work; the lock is held."""
        submits = self._work.submits
        submits.helped = True
        try:
            call()
        except BaseException as error:
            self.fault = error
            self._loop.wake()
            if not isinstance(error, Exception):
                raise
        finally:
            submits.helped = False
        if submits.aside:
            self._loop.wake()

    def _wake(self) -> None:
        """Wake the pipeline's thread if what was done has left it something to do, or to be in time for."""
        ventilator = self._ventilator
        date = ventilator.deadline()
        if (
            ventilator.ended is not None
            or self._loop.pressing
            or (date is not None and (self.due is None or date < self.due))
        ):
            self._loop.wake()

    def on_done(self, _: object) -> None:
        """A future is done that somebody leads for, or has led."""
        if self.leader not in (0, threading.get_ident()):
            self._ring()

    def _ring(self) -> None:
        """Have whoever leads look up. From any thread, and from a signal handler."""
        bell = self._bell
        if bell is not None:
            with contextlib.suppress(OSError):
                os.eventfd_write(bell, 1)

    # a forked child

    def orphan(self) -> None:
        """Have nobody help, in a forked child, where whoever held a lock is no more."""
        self._over, self.out, self.leader = True, False, 0
        self.lock, self._leading = threading.Lock(), threading.Lock()
