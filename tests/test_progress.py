"""Progress on made-up streams and made-up time, and the summary of a job."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.report.progress import (
    BarProgress,
    LineProgress,
    Progress,
    QuietProgress,
    Rate,
    Snapshot,
    make_progress,
    rate_text,
)
from zpipe.report.summary import Summary

RUNNING = Snapshot(done=12_345, failed=2, total=50_000, exact=True, workers=4, elapsed=10.0, started=True)
WAITING = Snapshot(note="waiting for workers: none has joined; start one with: zpipe worker tcp://head:5557")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class Broken(Terminal):
    """A stream whose other end went away after `good` writes."""

    def __init__(self, error: Exception, good: int = 0) -> None:
        super().__init__()
        self.error = error
        self.good = good

    def write(self, text: str) -> int:
        """Fail, once it has gone away."""
        if self.good <= 0:
            raise self.error
        self.good -= 1
        return super().write(text)


def screen(output: str) -> list[str]:
    """Return what a terminal shows after `output`, without blank lines at the end."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[^\x1b]", output):
        if token == "\n":
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            rows[row] = ""
        elif token.endswith("A") and token.startswith("\x1b"):
            row -= int(token[2:-1])
        elif not token.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + token + rows[row][column + 1 :]
            column += 1
    while rows and not rows[-1].strip():
        rows.pop()
    return [text.rstrip() for text in rows]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test have the same terminal, 100 columns wide."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


class TestRate:
    """Items a second, smoothed."""

    def test_before_anything(self) -> None:
        """Nothing known is nothing a second."""
        assert Rate().per_second(1.0) == 0.0

    def test_steady(self) -> None:
        """A steady stream shows its rate."""
        rate = Rate()
        for step in range(200):
            rate.update(step * 10, step * 0.1)
        assert rate.per_second(19.9) == pytest.approx(100)

    def test_follows_a_change_within_its_window(self) -> None:
        """The past is forgotten after the window."""
        rate = Rate(window=5.0)
        for step in range(100):
            rate.update(step * 1000, step * 0.1)
        for step in range(60):
            rate.update(99_000 + step, 9.9 + step * 0.1)
        assert rate.per_second(15.8) == pytest.approx(10, rel=0.05)

    def test_slow_items(self) -> None:
        """Items further apart than the window still show a rate."""
        rate = Rate(window=5.0)
        for step in range(20):
            rate.update(step, step * 60.0)
        assert rate.per_second(19 * 60.0) == pytest.approx(1 / 60)

    def test_falls_in_a_stall(self) -> None:
        """While nothing arrives the rate falls towards nothing."""
        rate = Rate()
        for step in range(100):
            rate.update(step * 10, step * 0.1)
        assert rate.per_second(20.0) < 50
        assert rate.per_second(1000.0) < 1

    def test_resumed_job(self) -> None:
        """What was done before the first look does not count as speed."""
        rate = Rate()
        rate.update(1_000_000, 0.0)
        rate.update(1_000_010, 1.0)
        assert rate.per_second(1.0) == 10

    @given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0.001, 30.0)), min_size=1, max_size=300))
    def test_bounds(self, steps: list[tuple[int, float]]) -> None:
        """The rate is never below zero or above the fastest step, and memory is bounded."""
        rate, done, now, fastest = Rate(), 0, 0.0, 0.0
        rate.update(done, now)
        for more, seconds in steps:
            done, now, fastest = done + more, now + seconds, max(fastest, more / seconds)
            rate.update(done, now)
            assert 0 <= rate.per_second(now) <= fastest * 1.001
        assert len(rate._points) <= Rate.STEPS + Rate.ARRIVALS

    @pytest.mark.parametrize(
        ("rate", "text"), [(0, "0"), (0.0123, "0.012"), (1.234, "1.2"), (12.3, "12"), (4065.2, "4,065")]
    )
    def test_text(self, rate: float, text: str) -> None:
        """Small rates keep two digits, large ones are whole."""
        assert rate_text(rate) == text


class TestLines:
    """Plain lines where there is no terminal."""

    def lines(self, *updates: tuple[Snapshot, float]) -> list[str]:
        """Return what is printed for some updates."""
        stream = io.StringIO()
        progress = LineProgress(stream)
        for snapshot, now in updates:
            progress.update(snapshot, now)
        return stream.getvalue().splitlines()

    def test_the_line(self) -> None:
        """A line has count, percentage, rate, failures, workers and time left."""
        start = Snapshot(done=6175, total=50_000, exact=True, started=True)
        assert self.lines((start, 0.0), (RUNNING, 5.0)) == [
            "zpipe: 12,345 of 50,000 items (24%), 1,234 items/s, 2 failed, 4 workers, 0:00:31 left"
        ]

    @pytest.mark.parametrize(
        ("snapshot", "text"),
        [
            (Snapshot(10, 0, 100, False, 1), "10 of ~100 items (~10%), 2 items/s, 1 worker, ~0:00:45 left"),
            (Snapshot(10, 0, None, False, 0), "10 items, 2 items/s, 0 workers"),
            (Snapshot(1, 0, 1, True, 2), "1 of 1 item (100%), 0.2 items/s, 2 workers"),
            (Snapshot(10, 0, 9, False, 2), "10 items, 2 items/s, 2 workers"),
            (Snapshot(0, 0, 9, True, 2), "0 of 9 items (0%), 0 items/s, 2 workers"),
            (Snapshot(0, 0, 0, True, 2), "0 of 0 items (100%), 0 items/s, 2 workers"),
            (Snapshot(999, 0, 1000, True, 2), "999 of 1,000 items (99%), 200 items/s, 2 workers, 0:00:01 left"),
            (Snapshot(1, 0, 10**12, True, 2), "1 of 1,000,000,000,000 items (0%), 0.2 items/s, 2 workers"),
        ],
    )  # fmt: skip
    def test_what_is_not_known_is_not_told(self, snapshot: Snapshot, text: str) -> None:
        """Estimates are marked, unknown totals and times are left out, and 100% is all."""
        values = {name: getattr(snapshot, name) for name in ("done", "failed", "total", "exact", "workers")}
        assert self.lines((Snapshot(started=True), 0.0), (Snapshot(**values, started=True), 5.0)) == [f"zpipe: {text}"]

    def test_every_few_seconds(self) -> None:
        """However often it is asked, a line comes every five seconds, and says when it wants to be asked.

        It looks every second: a note must not wait for the next line, and the start is where the rate begins.
        """
        stream = io.StringIO()
        progress = LineProgress(stream)
        progress.update(RUNNING, 100.0)
        assert progress.deadline(100.0) == 101.0
        progress.update(RUNNING, 104.5)
        assert progress.deadline(104.5) == 105.0
        for tenth in range(1, 201):
            progress.update(RUNNING, 100.0 + tenth / 10)
        assert len(stream.getvalue().splitlines()) == 4
        assert progress.deadline(120.0) == 121.0
        assert progress.deadline(130.0) == 130.0

    def test_note(self) -> None:
        """A note is said at once when it changes, again while it stays, and not once it is gone."""
        other = Snapshot(note="other")
        said = self.lines(
            (WAITING, 0.0), (WAITING, 4.9), (WAITING, 5.0), (other, 5.1), (other, 10.0), (other, 10.1),
            (Snapshot(), 11.0), (Snapshot(), 30.0),
        )  # fmt: skip
        assert said == [f"zpipe: {note}" for note in (WAITING.note, WAITING.note, "other", "other")]

    def test_note_deadline(self) -> None:
        """The note's next time counts for the deadline."""
        progress = LineProgress(io.StringIO())
        progress.update(Snapshot(started=True), 0.0)
        progress.update(WAITING, 1.0)
        progress.update(WAITING, 5.5)
        assert progress.deadline(5.5) == 6.0

    def test_waiting_is_no_speed(self) -> None:
        """Time before the first worker does not slow the rate."""
        begun = Snapshot(done=0, started=True)
        lines = self.lines((WAITING, 0.0), (begun, 1000.0), (Snapshot(done=50, started=True, workers=0), 1005.0))
        assert lines[-1] == "zpipe: 50 items, 10 items/s, 0 workers"

    def test_a_sink_tells_of_no_workers(self) -> None:
        """A node that can't know how many workers there are says nothing of them."""
        lines = self.lines((Snapshot(started=True), 0.0), (Snapshot(done=50, started=True), 5.0))
        assert lines[-1] == "zpipe: 50 items, 10 items/s"

    def test_close(self) -> None:
        """The last line shows the end, once, and only where lines were shown before."""
        stream = io.StringIO()
        progress = LineProgress(stream)
        progress.close(RUNNING)
        progress.update(Snapshot(started=True), 0.0)
        progress.update(Snapshot(done=10, started=True), 5.0)
        progress.close(Snapshot(done=20, total=20, exact=True, workers=1, elapsed=4.0, started=True))
        progress.close(Snapshot(done=30, started=True))
        assert stream.getvalue().splitlines()[1:] == ["zpipe: 20 of 20 items (100%), 5 items/s, 1 worker"]

    def test_say(self) -> None:
        """Every line said has the prefix once, and can't drive a terminal."""
        stream = io.StringIO()
        progress = LineProgress(stream)
        progress.say("one\ntwo \x1b[2J\r")
        progress.say("zpipe: three", error=True)
        assert stream.getvalue() == "zpipe: one\nzpipe: two ?[2J?\nzpipe: three\n"


class TestBar:
    """A bar on a terminal."""

    def test_the_bar(self) -> None:
        """The line has count, percentage, rate, failures in red, workers and time left."""
        stream = Terminal()
        progress = BarProgress(stream)
        progress.update(Snapshot(done=6175, total=50_000, exact=True, started=True), 0.0)
        progress.update(RUNNING, 5.0)
        (line,) = screen(stream.getvalue())
        assert re.fullmatch(
            r"zpipe: ━+[╸╺]?━+ 12,345/50,000 items 24% 1,234 items/s, 2 failed, 4 workers, 0:00:31 left", line
        )
        assert len(line) == 100
        assert "\x1b[1;31m2 failed" in stream.getvalue()
        progress.close(RUNNING)

    def test_no_failures_no_red(self) -> None:
        """Nothing failed, nothing red."""
        stream = Terminal()
        progress = BarProgress(stream)
        progress.update(Snapshot(done=1, total=2, exact=True, started=True), 0.0)
        assert "\x1b[1;31m" not in stream.getvalue()
        assert "failed" not in stream.getvalue()
        progress.close(Snapshot())

    def test_pulse(self) -> None:
        """With no total known the bar moves by itself, by the time it is given."""
        frames = []
        for now in (0.0, 0.5, 0.5):
            stream = Terminal()
            progress = BarProgress(stream)
            progress.update(Snapshot(done=5, workers=1, started=True), now)
            frames.append(stream.getvalue())
            progress.close(Snapshot())
        assert frames[0] != frames[1] == frames[2]
        assert "5 items" in screen(frames[0])[0]
        assert "%" not in screen(frames[0])[0]

    def test_ten_times_a_second(self) -> None:
        """However often it is asked, it draws ten times a second, and says when it wants to be asked."""
        stream = Terminal()
        progress = BarProgress(stream)
        assert progress.deadline(0.0) == 0.0
        sizes = set()
        for step in range(1000):
            progress.update(RUNNING, step / 1000)
            sizes.add(len(stream.getvalue()))
        assert len(sizes) <= 11
        assert 0.999 < progress.deadline(0.999) < 1.1
        progress.close(RUNNING)
        assert progress.deadline(2.0) == math.inf

    def test_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is waited for before the start is shown whole, folded where the terminal is narrow."""
        stream = Terminal()
        monkeypatch.setenv("COLUMNS", "40")
        progress = BarProgress(stream)
        progress.update(WAITING, 0.0)
        shown = screen(stream.getvalue())
        assert len(shown) == 3
        assert " ".join(shown) == f"zpipe: {WAITING.note}"
        progress.close(WAITING)
        assert screen(stream.getvalue()) == []

    def test_note_while_running(self) -> None:
        """A note on the way stands below the bar."""
        stream = Terminal()
        progress = BarProgress(stream)
        progress.update(Snapshot(done=1, started=True, note="no worker is left"), 0.0)
        shown = screen(stream.getvalue())
        assert "1 item" in shown[0]
        assert shown[1] == "zpipe: no worker is left"
        progress.close(Snapshot())

    def test_say(self) -> None:
        """What is said stands above the bar as it is, an error in red, and the bar stays whole below."""
        stream = Terminal()
        progress = BarProgress(stream)
        progress.say("early")
        progress.update(RUNNING, 0.0)
        progress.say("[bold]x[/] :smile: \x1b[2J" + "y" * 120)
        progress.say("lost", error=True)
        text = f"zpipe: [bold]x[/] :smile: ?[2J{'y' * 120}"
        shown = screen(stream.getvalue())
        assert shown[:3] == ["zpipe: early", text, "zpipe: lost"]
        assert len(shown) == 4
        assert "12,345/50,000" in shown[3]
        assert "\x1b[31mzpipe: lost" in stream.getvalue()
        progress.close(RUNNING)
        progress.say("late")
        assert screen(stream.getvalue()) == ["zpipe: early", text, "zpipe: lost", "zpipe: late"]

    def test_close_leaves_the_terminal_clean(self) -> None:
        """After close there is no bar, the cursor shows, and nothing is drawn again."""
        stream = Terminal()
        progress = BarProgress(stream)
        progress.update(RUNNING, 0.0)
        assert stream.getvalue().startswith("\x1b[?25l")
        progress.close(RUNNING)
        progress.close(RUNNING)
        progress.update(RUNNING, 10.0)
        assert screen(stream.getvalue()) == []
        assert stream.getvalue().count("\x1b[?25h") == 1

    def test_no_thread_and_no_redirection(self) -> None:
        """Drawing starts no thread and leaves sys.stdout and sys.stderr alone."""
        before = threading.active_count(), sys.stdout, sys.stderr
        progress = BarProgress(Terminal())
        progress.update(RUNNING, 0.0)
        assert (threading.active_count(), sys.stdout, sys.stderr) == before
        progress.close(RUNNING)

    @pytest.mark.parametrize("columns", ["1", "10", "30", "60"])
    def test_narrow(self, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a narrow terminal the bar stays on one line."""
        monkeypatch.setenv("COLUMNS", columns)
        stream = Terminal()
        progress = BarProgress(stream)
        progress.update(RUNNING, 0.0)
        assert max(map(len, screen(stream.getvalue())), default=0) <= int(columns)
        assert "\n" not in stream.getvalue()
        progress.close(RUNNING)


class TestQuiet:
    """Nothing but errors."""

    def test_errors_only(self) -> None:
        """Errors are told; progress, notes and news are not."""
        stream = io.StringIO()
        progress = QuietProgress(stream)
        progress.update(WAITING, 0.0)
        progress.say("news")
        progress.say("trouble", error=True)
        progress.close(RUNNING)
        assert progress.deadline(0.0) == math.inf
        assert stream.getvalue() == "zpipe: trouble\n"


@pytest.mark.parametrize("kind", [LineProgress, BarProgress, QuietProgress])
class TestBroken:
    """A stderr that can't be written to never fails a job."""

    def run(self, progress: Progress) -> None:
        """Do everything a job does."""
        for now in range(0, 30, 5):
            progress.update(RUNNING, float(now))
            progress.update(WAITING, now + 1.0)
            progress.say("text", error=True)
        progress.close(RUNNING)
        progress.say("text", error=True)

    @pytest.mark.parametrize("good", [0, 1, 2, 5])
    def test_reader_gone(self, kind: Any, good: int) -> None:
        """Nothing is raised when the other end goes away, and nothing more is wanted."""
        stream = Broken(BrokenPipeError(32, "Broken pipe"), good)
        progress = kind(stream)
        self.run(progress)
        assert progress.deadline(1000.0) == math.inf

    def test_closed(self, kind: Any) -> None:
        """Nothing is raised when the stream is closed, or there is none."""
        stream = Terminal()
        stream.close()
        self.run(kind(stream))
        self.run(kind(None))

    def test_terminal_that_can_not_keep_up(self, kind: Any) -> None:
        """A write that would block loses its text, not the ones after it."""
        stream = Broken(BlockingIOError(11, "Resource temporarily unavailable"))
        progress = kind(stream)
        progress.say("lost", error=True)
        stream.good = 1000
        progress.say("told", error=True)
        assert stream.getvalue() == "zpipe: told\n"


class TestChoice:
    """What is shown depends on where it goes."""

    @pytest.mark.parametrize(
        ("quiet", "stream", "shared", "kind"),
        [
            (False, Terminal(), False, BarProgress),
            (False, Terminal(), True, LineProgress),
            (False, io.StringIO(), False, LineProgress),
            (True, Terminal(), False, QuietProgress),
            (False, None, False, QuietProgress),
        ],
    )
    def test_choice(self, quiet: bool, stream: Any, shared: bool, kind: type) -> None:
        """A bar is for a terminal of its own, lines for anything else."""
        assert type(make_progress(quiet, stream, shared=shared)) is kind

    @pytest.mark.parametrize("term", ["dumb", None])
    def test_dumb_terminal(self, term: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """A terminal that can't move its cursor gets lines."""
        monkeypatch.delenv("TERM") if term is None else monkeypatch.setenv("TERM", term)
        assert type(make_progress(False, Terminal())) is LineProgress

    def test_closed_stream(self) -> None:
        """A closed stream gets nothing."""
        stream = io.StringIO()
        stream.close()
        assert type(make_progress(False, stream)) is QuietProgress

    def test_rich_is_not_imported_for_lines(self) -> None:
        """Only a bar pays for rich."""
        script = (
            "import io, sys\nfrom zpipe.report.progress import *\n"
            "progress = make_progress(False, io.StringIO())\nprogress.update(Snapshot(started=True), 0.0)\n"
            "progress.update(Snapshot(started=True), 9.0)\nprogress.say('x')\nprogress.close(Snapshot())\n"
            "sys.exit('rich' in sys.modules)\n"
        )
        assert subprocess.run([sys.executable, "-c", script]).returncode == 0


class TestSummary:
    """How a job ended, told three ways."""

    @pytest.mark.parametrize(
        ("summary", "line", "status"),
        [
            (
                Summary(done=50_000, total=50_000, seconds=12.3, items_per_second=4065.0, failed=2, lost=1),
                "zpipe: 50,000 items done in 12.3 s (4,065 items/s), 2 failed, 1 worker lost",
                1,
            ),
            (
                Summary(done=1, total=1, seconds=10.0, items_per_second=0.1),
                "zpipe: 1 item done in 10.0 s (0.1 items/s)",
                0,
            ),
            (
                Summary(done=0, total=0),
                "zpipe: 0 items done in 0.0 s (0 items/s)",
                0,
            ),
            (
                Summary(done=5, total=9, interrupted=True, note="see x.partial", requeued=1),
                "zpipe: interrupted: 5 of 9 items done in 0.0 s (0 items/s), 1 chunk sent again; see x.partial",
                130,
            ),
            (
                Summary(done=5, error="disk full\nmore", lost=2),
                "zpipe: failed: 5 items done in 0.0 s (0 items/s), 2 workers lost: disk full",
                1,
            ),
            (
                Summary(done=5, total=9, hit=1234),
                "zpipe: 5 of 9 items done in 0.0 s (0 items/s), ended by item 1,234",
                0,
            ),
            (
                Summary(done=5, total=9, strays=2),
                "zpipe: 5 of 9 items done in 0.0 s (0 items/s), 2 stray results dropped",
                1,
            ),
        ],
    )  # fmt: skip
    def test_line_and_status(self, summary: Summary, line: str, status: int) -> None:
        """The line tells what there is to tell, and the exit status agrees with it."""
        assert summary.line() == line
        assert summary.exit_status == status

    def test_json(self) -> None:
        """The object has every count and the exit status, on one line."""
        summary = Summary(done=3, failed=1, total=3, workers=2, duplicates=4, error="a\nb", hit=0)
        data = summary.json()
        assert b"\n" not in data
        assert json.loads(data) == {
            "done": 3, "failed": 1, "total": 3, "seconds": 0.0, "items_per_second": 0.0, "workers": 2, "lost": 0,
            "before": 0, "requeued": 0, "retried": 0, "duplicates": 4, "strays": 0, "unowned": 0, "copies": 0,
            "copies_won": 0, "cached": 0, "repeated": 0, "hit": 0,
            "interrupted": False, "error": "a\nb", "note": "",
            "exit_status": 1,
        }  # fmt: skip
