"""What a person sees on stderr while a job runs: a bar on a terminal, now and then a line elsewhere, or nothing.

One rule: showing progress never fails the job; a stderr that is closed or broken is no longer written to. Every
line begins with "zpipe: ". Time comes in as `now`, in seconds of a monotonic clock; no thread and no clock in
here. This file must not know where the counts come from.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, Protocol, TextIO, cast

import msgspec

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

__all__ = [
    "BarProgress",
    "LineProgress",
    "Progress",
    "QuietProgress",
    "Rate",
    "Snapshot",
    "in_words",
    "make_progress",
    "rate_text",
]

PREFIX = "zpipe: "
REDRAW = 0.1
LOOK = 1.0
LONGEST_WAIT = 100 * 24 * 3600.0

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Snapshot(msgspec.Struct, frozen=True):
    """Where a job is: `done` items have an outcome, `failed` of them an error.

    `total` items are expected (None: not known), which is an estimate unless `exact`. `workers` have joined and are
    ready (None: not this node's to know), `elapsed` seconds have gone, `started` tells whether work has, and `note`
    what is being waited for. `cached` of those done were not run, as their outcome was known.
    `stages` tells where each stage is, if there are several.
    """

    done: int = 0
    failed: int = 0
    total: int | None = None
    exact: bool = False
    workers: int | None = None
    elapsed: float = 0.0
    started: bool = False
    note: str = ""
    cached: int = 0
    stages: str = ""


class Progress(Protocol):
    """Shows a job's progress. Nothing here raises on account of the stream."""

    def update(self, snapshot: Snapshot, now: float, /) -> None:
        """Show where the job is, if it is time to."""

    def say(self, text: str, *, error: bool = False) -> None:
        """Tell the person something, on a line of its own; a quiet progress tells errors only."""

    def close(self, snapshot: Snapshot, /) -> None:
        """Show no more, and leave the terminal as it was. `say` still works."""

    def deadline(self, now: float, /) -> float:
        """Return when the next `update` is wanted (infinity: never)."""


class Rate:
    """Items a second over the last `window` seconds, or the last few arrivals when those are further apart."""

    STEPS = 50
    ARRIVALS = 8

    def __init__(self, window: float = 5.0) -> None:
        self._window = window
        self._points: deque[tuple[float, int]] = deque()
        self._done = 0

    def update(self, done: int, now: float) -> None:
        """Learn that `done` items were done at `now`."""
        points = self._points
        if not points or (done > points[-1][1] and now - points[-1][0] >= self._window / self.STEPS):
            points.append((now, done))
        self._done = done
        while len(points) > self.ARRIVALS and now - points[1][0] >= self._window:
            points.popleft()

    def per_second(self, now: float) -> float:
        """Return the rate at `now`; it falls while nothing arrives."""
        if not self._points:
            return 0.0
        start, done = self._points[0]
        return (self._done - done) / (now - start) if now > start else 0.0


class QuietProgress:
    """No progress; only errors are told."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = _Stream(stream)

    def update(self, snapshot: Snapshot, now: float, /) -> None:
        """Show nothing."""

    def say(self, text: str, *, error: bool = False) -> None:
        """Tell an error; anything else goes unsaid."""
        if error:
            self._stream.tell(text)

    def close(self, snapshot: Snapshot, /) -> None:
        """Do nothing."""

    def deadline(self, _now: float, /) -> float:
        """Never."""
        return math.inf


class LineProgress:
    """A plain line every `every` seconds; a note at once when it changes, and again as often while it stays."""

    def __init__(self, stream: TextIO | None, every: float = 5.0) -> None:
        self._stream = _Stream(stream)
        self._every = every
        self._rate = Rate()
        self._note = ""
        self._looked = -math.inf
        self._next = -math.inf
        self._next_note = math.inf
        self._shown: int | None = None

    def update(self, snapshot: Snapshot, now: float, /) -> None:
        """Print what is due."""
        self._looked = now
        if self._next == -math.inf:
            self._next = now + self._every
        if snapshot.started:
            self._rate.update(snapshot.done, now)
        if now >= self._next:
            self._next = now + self._every
            if snapshot.started:
                self._shown = snapshot.done
                self.say(in_words(snapshot, self._rate.per_second(now)))
        if snapshot.note != self._note or now >= self._next_note:
            self._note = snapshot.note
            self._next_note = now + self._every if snapshot.note else math.inf
            if snapshot.note:
                self.say(snapshot.note)

    def say(self, text: str, *, error: bool = False) -> None:  # noqa: ARG002 - errors are told as the rest is
        """Print a line."""
        self._stream.tell(text)

    def close(self, snapshot: Snapshot, /) -> None:
        """Print the last line, if there were any before it and it says something new."""
        if self._shown not in (None, snapshot.done):
            self._shown = None
            mean = snapshot.done / snapshot.elapsed if snapshot.elapsed > 0 else 0.0
            self.say(in_words(snapshot, mean))

    def deadline(self, now: float, /) -> float:
        """Return when the next line is due, or the next look: a note is told soon, and the start marks the rate's."""
        if self._stream.broken:
            return math.inf
        return max(now, min(self._next, self._next_note, self._looked + LOOK))


class BarProgress:
    """A bar on a terminal, drawn by `update` at most ten times a second and gone after `close`."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = _Stream(stream)
        self._rate = Rate()
        self._note = ""
        self._next = -math.inf
        self._live: Live | None = None
        self._closed = False

    def update(self, snapshot: Snapshot, now: float, /) -> None:
        """Draw the bar anew, if the last time is long enough ago."""
        if now < self._next or self._closed or self._stream.broken:
            return
        self._next = now + REDRAW
        if snapshot.started:
            self._rate.update(snapshot.done, now)
        if self._live is None:
            self._live = _start_live(self._stream)
        self._live.update(_drawing(snapshot, self._rate.per_second(now), now), refresh=True)

    def say(self, text: str, *, error: bool = False) -> None:
        """Print a line above the bar; an error is red while there is one."""
        if self._live is None:
            self._stream.tell(text)
        else:
            from rich.text import Text

            line = Text(_lines(text).rstrip("\n"), style="red" if error else "")
            self._live.console.print(line, soft_wrap=True)

    def close(self, _snapshot: Snapshot, /) -> None:
        """Take the bar away and show the cursor again."""
        self._closed = True
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def deadline(self, now: float, /) -> float:
        """Return when the next drawing is due."""
        return math.inf if self._closed or self._stream.broken else max(now, self._next)


def make_progress(quiet: bool, stream: TextIO | None, *, shared: bool = False) -> Progress:
    """Return what fits `stream`, which is stderr (None when it is closed).

    `shared`: results go to the same terminal, where a bar would be in their way.
    """
    if quiet or stream is None:
        return QuietProgress(stream)
    try:
        terminal = stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    except ValueError:
        return QuietProgress(None)
    return BarProgress(stream) if terminal and not shared else LineProgress(stream)


def in_words(snapshot: Snapshot, rate: float) -> str:
    """Return a snapshot in words, at `rate` items a second."""
    return ", ".join([_count(snapshot, " of ") + _percent(snapshot, " ({})"), *_facts(snapshot, rate)])


def _count(snapshot: Snapshot, of: str) -> str:
    if snapshot.total is None or snapshot.done > snapshot.total:
        return f"{snapshot.done:,} item{'' if snapshot.done == 1 else 's'}"
    about = "" if snapshot.exact else "~"
    return f"{snapshot.done:,}{of}{about}{snapshot.total:,} item{'' if snapshot.total == 1 else 's'}"


def _percent(snapshot: Snapshot, form: str) -> str:
    """Return the percentage done in `form`, rounded down so that only all is 100, or "" when it is not known."""
    if snapshot.total is None or snapshot.done > snapshot.total:
        return ""
    percent = 100 * snapshot.done // snapshot.total if snapshot.total else 100
    return form.format(f"{percent}%" if snapshot.exact else f"~{percent}%")


def _facts(snapshot: Snapshot, rate: float) -> list[str]:
    """Return the parts that follow the count: rate, failures, workers, time left."""
    facts = [f"{rate_text(rate)} items/s"]
    if snapshot.cached:
        facts.append(f"{snapshot.cached:,} not run")
    if snapshot.failed:
        facts.append(f"{snapshot.failed:,} failed")
    if snapshot.stages:
        facts.append(snapshot.stages)
    if snapshot.workers is not None:
        facts.append(f"{snapshot.workers:,} worker{'' if snapshot.workers == 1 else 's'}")
    left = _left(snapshot, rate)
    return [*facts, f"{left} left"] if left else facts


def rate_text(rate: float) -> str:
    """Return items a second as text, with two digits at least."""
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.2g}"


def _left(snapshot: Snapshot, rate: float) -> str:
    """Return the time left as h:mm:ss, or "" when it can't be told."""
    if snapshot.total is None or not 0 < snapshot.total - snapshot.done < rate * LONGEST_WAIT:
        return ""
    about = "" if snapshot.exact else "~"
    return about + str(timedelta(seconds=math.ceil((snapshot.total - snapshot.done) / rate)))


def _lines(text: str) -> str:
    """Return `text` as lines for a person: each with the prefix, none able to drive the terminal."""
    lines = _CONTROLS.sub("?", text).splitlines() or [""]
    return "".join(f"{'' if line.startswith(PREFIX) else PREFIX}{line}\n" for line in lines)


def _start_live(stream: _Stream) -> Live:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=cast("IO[str]", stream), force_terminal=True)
    # sys.stdout and sys.stderr belong to the program; a thread of ours must not draw beside its own.
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


def _drawing(snapshot: Snapshot, rate: float, now: float) -> RenderableType:
    """Return the bar's line, below it the note; a note that says why nothing has started stands alone."""
    from rich.console import Group
    from rich.text import Text

    note = Text(_lines(snapshot.note).rstrip("\n"), style="yellow", overflow="fold")
    if not snapshot.note:
        return _bar(snapshot, rate, now)
    return Group(_bar(snapshot, rate, now), note) if snapshot.started else note


def _bar(snapshot: Snapshot, rate: float, now: float) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    known = snapshot.total is not None and snapshot.done <= snapshot.total
    bar = ProgressBar(snapshot.total if known else None, snapshot.done, animation_time=now)
    facts = Text(", ").join(
        Text(fact, style="bold red" if fact.endswith(" failed") else "") for fact in _facts(snapshot, rate)
    )
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    for _ in range(3):
        row.add_column(no_wrap=True)
    row.add_row(PREFIX.strip(), bar, _count(snapshot, "/"), _percent(snapshot, "{}"), facts)
    return row


class _Stream:
    """A text stream that swallows everything once a write has failed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.broken = stream is None

    def write(self, text: str) -> int:
        """Write, or quietly don't."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, or quietly don't."""
        self._try("flush")

    def tell(self, text: str) -> None:
        """Write `text` as lines of their own, at once."""
        self.write(_lines(text))
        self.flush()

    def _try(self, method: str, *args: str) -> None:
        if self.broken:
            return
        try:
            getattr(self._stream, method)(*args)
        except BlockingIOError:
            pass  # a terminal that can't keep up may recover
        except (OSError, ValueError):
            self.broken = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
