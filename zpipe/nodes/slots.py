"""Slots: a supervisor forks one worker process per slot, watches them, and leaves nothing behind.

The supervisor is a process of its own that runs no task, holds no socket and has one thread, so forking is safe and a
new slot costs milliseconds. Each slot leads a process group, and holds the reading end of a pipe whose writing end only
the supervisor has; should the supervisor vanish, even by SIGKILL, the kernel itself kills the whole group (Linux), or a
thread in the slot does (elsewhere). The same kind of pipe ties the supervisor to the process that embeds it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import selectors
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from zpipe.net.versions import our_versions
from zpipe.nodes.config import Config
from zpipe.nodes.lifeline import tie
from zpipe.nodes.memory import Memory
from zpipe.nodes.past import Past
from zpipe.nodes.slot import LEFT, LIMITS, READY, REFUSED, SPENT, TERMINATED, be_worker
from zpipe.nodes.warden import Warden

__all__ = ["Supervisor", "ended", "main"]

STEADY = 10.0
"""Seconds after which a process counts as having started well."""

HASTY = 1.0
"""Seconds within which a process that ends has not started well, however it ended."""

PATIENCE = 7
"""A slot whose processes crash before they have loaded a task, so many times in a row, is given up."""

LONGEST = 1_000_000.0
"""Seconds to wait at most at a time: epoll counts milliseconds with 31 bits."""

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}
"""Signals a process brings on itself; any other comes from outside and is nobody's fault here."""

REPEAT = 4.0
"""Seconds in which the same words from several slots are passed on once."""


class _Slot(msgspec.Struct, eq=False):
    """One slot: its process, if any, and what came before. `lifeline` is our end of its pipe."""

    number: int
    pid: int = 0
    lifeline: int = -1
    started: float = 0.0
    due: float | None = 0.0
    vain: int = 0
    crashes: int = 0
    ready: bool = False
    dismissed: bool = False
    again: bool = False
    past: Past = msgspec.field(default_factory=Past)
    follows: bool = False
    """Whether its next process takes the place of one that ended over what it ran, in a job that may be over soon."""
    warden: Warden = msgspec.field(default_factory=Warden)


def ended(status: int, memory: Memory) -> tuple[str, bool]:
    """Return how a process with this wait status ended, in words, and whether by its own fault."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}", True
    if code == -signal.SIGKILL and memory.ran_out():
        return "killed by the kernel, which had no memory left", True
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}", -code in FAULTS


class Supervisor:
    """Keeps `config.slots` worker processes at work. `say(text)` tells the person; `run` returns an exit status."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self._config, self._say = config, say
        self._slots = [_Slot(number) for number in range(config.slots)]
        self._words, self._voice = os.pipe()
        self._ear, self._mouth = os.pipe()
        self._memory = Memory()
        self._signals = 0
        self._interrupted = False
        self._refused = False
        self._said: dict[str, float] = {}
        self._rest = b""
        self._wanted = b""

    def run(self) -> int:
        """Work until every slot has left; 0 if all did in order, 1 if not, 130 if interrupted."""
        before = self._listen()
        gc.freeze()
        gc.enable()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._ear, selectors.EVENT_READ)
                selector.register(self._words, selectors.EVENT_READ)
                if self._config.orders >= 0:
                    os.set_blocking(self._config.orders, False)
                    selector.register(self._config.orders, selectors.EVENT_READ)
                while self._step(time.monotonic()):
                    due = self._due()
                    ready = selector.select(None if due is None else min(max(0.0, due - time.monotonic()), LONGEST))
                    self._hear()
                    if any(key.fd == self._config.orders for key, _ in ready) and not self._obey():
                        selector.unregister(self._config.orders)
        finally:
            self._kill()
            self._hear()
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
        return 130 if self._interrupted else int(self._refused)

    def _due(self) -> float | None:
        dates = [date for slot in self._slots for date in (slot.due, slot.warden.due) if date is not None]
        return min(dates, default=None)

    # signals

    def _listen(self) -> dict[int, Any]:
        for fd in (self._ear, self._mouth, self._words):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        handlers: dict[int, Any] = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._on_signal)
        handlers[signal.SIGCHLD] = lambda *_: None
        if self._config.steady:
            handlers[signal.SIGINT] = signal.SIG_IGN
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # whoever starts a supervisor blocks it till here
        return before

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals += 1
        self._interrupted = self._interrupted or number == signal.SIGINT

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._ear, 4096):
                pass
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._words, 65_536):
                data += more
        *lines, self._rest = (self._rest + data).split(b"\n")
        now = time.monotonic()
        for line in lines:
            if line.startswith(READY):
                self._slots[int(line[len(READY) :])].ready = True
                continue
            if line.startswith(LIMITS):
                number, seconds, memory = line[len(LIMITS) :].split()
                self._slots[int(number)].warden.on_limits(float(seconds), int(memory), now)
                continue
            text = line.decode(errors="replace")
            if now - self._said.get(text, -REPEAT) >= REPEAT:
                self._said[text] = now
                self._say(text)
        if len(self._said) > 1000:
            self._said = {text: at for text, at in self._said.items() if now - at < REPEAT}

    def _obey(self) -> bool:
        """Take orders; return False when none will come any more."""
        try:
            data = os.read(self._config.orders, 4096)
        except BlockingIOError:
            return True
        *orders, self._wanted = (self._wanted + data).split(b"\n")
        if orders:
            self._resize(int(orders[-1]))
        return bool(data)

    def _resize(self, wanted: int) -> None:
        for slot in self._slots:
            back, slot.dismissed = slot.dismissed, slot.number >= wanted
            if slot.dismissed:
                slot.due = None
                if slot.pid and not back:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(slot.pid, signal.SIGTERM)
            elif back:
                slot.again = bool(slot.pid)
                slot.due = None if slot.pid else 0.0
        self._slots += [_Slot(number) for number in range(len(self._slots), wanted)]

    # slots

    def _step(self, now: float) -> bool:
        """Reap, start and stop what is due; return whether there is anything left to wait for."""
        for slot in self._slots:
            if slot.pid:
                self._reap(slot, now)
            if slot.pid and slot.warden.due is not None and slot.warden.due <= now and slot.warden.look(slot.pid, now):
                # With it whatever it has started; it is reaped when it has ended.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(slot.pid, signal.SIGKILL)
        if self._signals > 1:
            return False
        for slot in self._slots:
            if self._signals:
                slot.due = None
                if slot.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(slot.pid, signal.SIGTERM)
            elif not slot.pid and slot.due is not None and slot.due <= now:
                self._start(slot, now)
        waits = self._config.orders >= 0 and not self._signals and not self._refused
        return waits or any(slot.pid or slot.due is not None for slot in self._slots)

    def _start(self, slot: _Slot, now: float) -> None:
        reading, slot.lifeline = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        slot.warden.begin()
        # Until the child has its own handler, a SIGTERM must end it rather than be taken by our handler's copy.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._become(slot, reading)  # does not come back
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        slot.pid, slot.started, slot.due, slot.ready = pid, now, None, False

    def _reap(self, slot: _Slot, now: float) -> None:
        pid, status = os.waitpid(slot.pid, os.WNOHANG)
        if not pid:
            return
        self._end_group(slot)
        how, crashed, item, late = slot.warden.explain(*ended(status, self._memory))
        slot.warden.due = None
        code = os.waitstatus_to_exitcode(status)
        slot.pid = 0
        if code in (LEFT, REFUSED):
            self._refused = self._refused or code == REFUSED
            # The job is over, or this host is not wanted: so it is for slots that have not been told in time.
            self._signals = max(self._signals, 1)
            return
        if code == SPENT and not self._signals:
            slot.again, slot.past, slot.follows = True, Past(), True
        if code in (TERMINATED, SPENT) and (slot.dismissed or slot.again):
            slot.due, slot.again = None if slot.dismissed else now, False
            return
        if code in (TERMINATED, SPENT):
            if not self._signals:
                self._say(f"worker {pid} of slot {slot.number} was told to leave, and left")
            return
        slot.past = Past(pid, how, crashed, item, late, slot.warden.fate(code, now))
        slot.follows = slot.warden.killed
        lived = now - slot.started
        if slot.warden.killed:  # over what it ran, which says nothing of the slot
            slot.vain = slot.crashes = 0
        else:
            slot.vain = slot.vain + 1 if crashed and not slot.ready else 0
            slot.crashes = slot.crashes + 1 if (crashed or lived < HASTY) and lived < STEADY else 0
        text = f"worker {pid} of slot {slot.number} ended: {how}"
        if self._signals or slot.dismissed:
            self._say(text)
        elif slot.vain >= PATIENCE:
            self._refused = True
            self._say(f"{text}, {slot.vain} times before it had loaded a task: slot {slot.number} is given up")
        else:
            # One that is killed from outside, again and again, is not to blame: its slot is needed.
            most = 30.0 if crashed and not slot.ready else 0.5
            wait = min(most, 0.05 * 2.0**slot.crashes) if slot.crashes else 0.0
            slot.due = now + wait
            if slot.vain > 1 or not self._config.terse:
                self._say(f"{text}; a new one starts {f'in {wait:.1f} s' if wait >= 0.1 else 'at once'}")

    def _end_group(self, slot: _Slot) -> None:
        """What a worker has started (commands, mostly) ends with it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(slot.pid, signal.SIGKILL)
        os.close(slot.lifeline)
        slot.lifeline = -1

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.pid:
                pid = slot.pid
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._end_group(slot)
                os.waitpid(pid, 0)
                slot.pid = 0

    # in the child

    def _become(self, slot: _Slot, reading: int) -> NoReturn:
        code = 70
        try:
            os.setpgid(0, 0)
            for other in self._slots:
                if other.lifeline >= 0:
                    os.close(other.lifeline)
            tie(reading, group=True)
            for fd in (self._ear, self._mouth, self._words):
                os.close(fd)
            if self._config.orders >= 0:
                os.close(self._config.orders)
            code = be_worker(
                self._config, slot.number, slot.past, slot.warden.stopwatch, self._voice, follows=slot.follows
            )
        except BaseException:  # noqa: BLE001 - whatever it is, a forked child must not run its parent's code
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def main(ahead: str = "") -> None:
    """Be a supervisor for the process at the other end of stdin, which writes the config there as one line of JSON.

    `ahead`: a module that each worker would have to load, for which there is time until then.
    """
    our_versions()  # which every worker tells
    if ahead and not select.select([0], [], [], 0.0)[0]:
        with contextlib.suppress(ImportError):
            importlib.import_module(ahead)
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(1)
        line += byte
    config = msgspec.json.decode(line, type=Config)
    if config.path:
        sys.path[:] = config.path
    else:
        _search_here()
    if config.authkey:
        import multiprocessing

        multiprocessing.current_process().authkey = config.authkey
    lifeline = os.dup(0)
    os.set_inheritable(lifeline, False)
    tie(lifeline, group=False)
    voice = os.dup(1)
    os.dup2(2, 1)

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(voice, text.encode(errors="replace")[:4000] + b"\n")

    status = Supervisor(config, say).run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # to take this interpreter apart would have whoever waits for it wait longer


def _search_here() -> None:
    """Let tasks find the modules of the current folder, as with `python -m`, unless Python was told otherwise."""
    if getattr(sys.flags, "safe_path", False):
        return
    with contextlib.suppress(OSError):
        here = os.getcwd()  # noqa: PTH109 - slow to load
        if here not in sys.path:
            sys.path.insert(0, here)
