"""A sink that joins a ventilator: whose job goes on, or why none can."""

from __future__ import annotations

import pytest

from zpipe.core.rejoin import Outcome, meet
from zpipe.core.wire import Held

OURS = {"task": "t.py:f (aa)", "items": "--range 9"}
OTHER = {"task": "t.py:f (bb)", "items": "--range 9"}


@pytest.mark.parametrize(
    ("held", "met", "done", "outcome"),
    [
        (Held(), False, 0, Outcome.GO_ON),
        (Held(), True, 0, Outcome.GO_ON),
        (Held(), True, 3, Outcome.FAIL),
        (Held("job", OURS, [0, 3]), True, 3, Outcome.GO_ON),
        (Held("job", OURS, [0, 5]), True, 3, Outcome.GO_ON),
        (Held("job", OURS, [0, 2]), True, 3, Outcome.BEGIN_ANEW),
        (Held("old", OURS, [0, 2]), False, 0, Outcome.ADOPT),
        (Held("old", OURS, [0, 2]), True, 0, Outcome.ADOPT),
        (Held("old", OURS, [0, 2]), True, 3, Outcome.BEGIN_ANEW),
        (Held("old", OTHER, [0, 2]), False, 0, Outcome.GIVE_WAY),
        (Held("old", OTHER, [0, 2]), True, 0, Outcome.REFUSE),
        (Held("old", {}, [0, 2]), False, 0, Outcome.GIVE_WAY),
    ],
)
def test_every_case(held: Held, met: bool, done: int, outcome: Outcome) -> None:
    """Nothing that was receipted is ever missing, and jobs that differ are never mixed."""
    meeting = meet(held, "job", OURS, met=met, done=done)
    assert meeting.outcome is outcome
    assert bool(meeting.why) == (outcome not in (Outcome.GO_ON, Outcome.ADOPT))


def test_what_differs_is_named() -> None:
    """The person is told in what the jobs differ, and what to do."""
    why = meet(Held("old", OTHER, [0, 2]), "job", OURS, met=False, done=0).why
    assert "task: t.py:f (bb) there, t.py:f (aa) here" in why
    assert "items: " not in why
    assert "give its command" in why


def test_jobs_without_a_fingerprint_are_never_the_same() -> None:
    """Where nothing tells two jobs apart but their ids, those must agree."""
    assert meet(Held("old", {}, [0, 2]), "job", {}, met=False, done=0).outcome is Outcome.GIVE_WAY
