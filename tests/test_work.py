"""What a pipeline's calls give, and whose the outcomes are."""

from __future__ import annotations

from typing import Any

from zpipe.api.work import Work
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.core.wire import Result


class Receiver:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []

    def deliver(self, offset: int, count: int, frames: object) -> None:
        """Take it."""
        self.got.append((offset, count))


def test_it_is_known_what_was_sent_together() -> None:
    """Outcomes of parts are handed on with their places; those of a run that nobody was sent are told from them."""
    one, other = Receiver(), Receiver()
    work = Work(None, JobSpec(TaskSpec("import", "a:b")))
    tickets: dict[int, Any] = {0: (5, one), 5: (10, other)}
    work.tickets = tickets
    assert all(work.together(*run) for run in ((0, 5), (2, 4), (4, 5), (5, 10), (7, 10)))
    assert not any(work.together(*run) for run in ((3, 7), (0, 6), (0, 10), (4, 10)))
    for start, stop in ((2, 4), (5, 10), (0, 2), (4, 5)):
        work.deliver(Result("job", 1, start, stop, 1, 0.0), [])
    assert (one.got, other.got) == ([(2, 2), (0, 2), (4, 1)], [(0, 5)])
    assert not work.tickets
