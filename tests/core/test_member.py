"""Belonging: one way back from every cut, a reason for every wait, an end to every leave."""

from __future__ import annotations

from typing import Any

import pytest

from zpipe.core import wire
from zpipe.core.intake import LATE_BYTES, Intake
from zpipe.core.member import HUSH, RETRY, Close, Gone, Member, Open, Say, Send, State

V = wire.Versions(1, "0.1", "3.11", "3.1")


def join(turn: int) -> wire.Join:
    """A worker's join."""
    return wire.Join(V, "s", turn, "host", 1, 0)


def make(**options: object) -> Member:
    """A worker's member at time 0."""
    return Member(join, ("lane", "results"), url="tcp://head:5557", now=0.0, **options)  # type: ignore[arg-type]


def welcome(turn: int, lane: int = 1) -> wire.Welcome:
    """The answer to a join."""
    return wire.Welcome("job", turn, lane, "tcp://*:1", "tcp://*:2")


def ready(member: Member) -> Member:
    """Bring it to READY."""
    member.on_control_up(0.0)
    member.on_message(welcome(member.turn), 0.0)
    member.on_link_up("lane", 0.0)
    assert member.on_link_up("results", 0.0) == [Send(wire.Ready(1))]
    assert member.state is State.READY
    return member


def test_joining_takes_four_steps() -> None:
    """Control up, welcome, both links up, ready."""
    member = make()
    assert member.on_control_up(0.0) == [Send(join(1))]
    assert member.on_message(welcome(1), 0.0) == [Open(welcome(1))]
    assert member.on_link_up("lane", 0.0) == []
    assert member.on_link_up("results", 0.0) == [Send(wire.Ready(1))]


def test_a_welcome_may_come_too_late() -> None:
    """A node that is not what it was when it joined asks again, as what it is now, and takes no earlier answer."""
    member = make()
    member.on_control_up(0.0)
    assert member.expects(welcome(1))
    assert member.on_misfit(0.0) == [Close()]
    assert not member.expects(welcome(1))
    assert member.on_message(welcome(1), 0.0) == []
    assert Send(join(2)) in member.on_tick(RETRY)


@pytest.mark.parametrize("name", ["lane", "results"])
def test_a_cut_link_is_a_new_turn(name: str) -> None:
    """Either link's end closes both and joins afresh."""
    member = ready(make())
    assert member.on_link_down(name, 1.0) == [Close(), Send(join(2))]
    assert member.state is State.ASKED


def test_a_cut_control_waits_and_then_is_a_new_turn() -> None:
    """Without the ventilator the links are given up; its return is a fresh start."""
    member = ready(make())
    assert member.on_control_down(1.0) == [Close()]
    assert member.on_control_up(2.0) == [Send(join(2))]


def test_a_late_welcome_is_ignored() -> None:
    """The answer to an earlier turn names a lane that is gone."""
    member = ready(make())
    member.on_link_down("lane", 1.0)
    assert member.on_message(welcome(1), 1.0) == []
    assert member.on_message(welcome(2, 7), 1.0) == [Open(welcome(2, 7))]


def said(actions: list[Any]) -> list[str]:
    """What the person is told."""
    return [action.text for action in actions if isinstance(action, Say)]


def test_every_wait_says_why_soon_and_then_every_few_seconds() -> None:
    """Looking for a ventilator, waiting for an answer, held for a reason, links that don't come up."""
    member = make()
    assert member.deadline() == HUSH
    assert "waiting for 1 s for a ventilator at tcp://head:5557" in said(member.on_tick(1.0))[0]
    assert said(member.on_tick(5.0)) == []
    assert "waiting for 6 s" in said(member.on_tick(6.0))[0]
    member.on_control_up(7.0)
    actions = member.on_tick(12.0)
    assert "no answer to our join yet" in said(actions)[0]
    assert Send(join(1)) in actions, "asked again, in the same turn"
    assert "no sink has joined yet" in said(member.on_message(wire.Hold("no sink has joined yet"), 12.5))[0]
    assert member.on_message(wire.Hold("no sink has joined yet"), 13.0) == [], "not said twice"
    assert "no sink has joined yet" in said(member.on_tick(17.5))[0]
    member.on_message(welcome(1), 18.0)
    member.on_link_up("lane", 18.0)
    assert said(member.on_tick(23.0)) == ["the sink is unreachable at tcp://*:2: trying for 5 s"]


def test_a_link_that_never_stands_is_tried_again_without_spinning() -> None:
    """A refused lane is asked for anew a second later, not at once, and the reason is told."""
    member = make()
    member.on_control_up(0.0)
    member.on_message(welcome(1), 0.0)
    assert member.on_link_down("lane", 0.1) == [Close()]
    assert member.deadline() == 0.1 + RETRY
    actions = member.on_tick(0.1 + RETRY)
    assert Send(join(2)) in actions
    assert "our lane from the ventilator can't be reached at tcp://*:1" in said(actions)[0]
    assert member.on_message(welcome(2, 7), 1.2) == [Open(welcome(2, 7))]


def test_patience_ends() -> None:
    """With a limit, a ventilator that never answers is an error that names it."""
    member = make(patience=3.0)
    member.on_tick(1.0)
    assert member.deadline() == 3.0
    close, gone = member.on_tick(3.0)
    assert close == Close()
    assert isinstance(gone, Gone)
    assert "no ventilator answered at tcp://head:5557 for 3 s" in gone.error


def test_a_refusal_is_final() -> None:
    """A refused node ends with the reason."""
    member = make()
    member.on_control_up(0.0)
    assert member.on_message(wire.Refuse("it runs Python 3.10"), 0.0)[-1] == Gone(
        "tcp://head:5557 refused us: it runs Python 3.10", refused=True
    )


def test_bye_ends_or_stays() -> None:
    """After the job a member goes, or with `stay` looks for the next one."""
    member = ready(make())
    assert member.on_message(wire.Bye(), 1.0) == [Close(), Gone("", refused=True)]
    stayer = ready(make(stay=True))
    assert stayer.on_message(wire.Bye(), 1.0) == [Close()]
    assert stayer.state is State.AWAY
    assert stayer.on_control_down(1.0) == []
    assert stayer.on_control_up(2.0) == [Send(join(2))]


def test_a_failed_job_is_told() -> None:
    """The reason a job failed for reaches its workers."""
    member = ready(make())
    _, gone = member.on_message(wire.Bye("the disk is full"), 1.0)
    assert "the disk is full" in gone.error


def test_leaving_waits_for_leave_but_not_for_ever() -> None:
    """A leaving worker stays until it is let go, its link ends, or its grace is over."""
    for event in (
        lambda m: m.on_message(wire.Bye(), 1.0),
        lambda m: m.on_link_down("lane", 1.0),
        lambda m: m.on_control_down(1.0),
        lambda m: m.on_tick(m.deadline()),
    ):
        member = ready(make())
        assert member.on_leave(wire.Leave(1, 0), 0.5) == [Send(wire.Leave(1, 0))]
        assert member.on_leave(wire.Leave(1, 0), 0.6) == [], "asked once"
        close, gone = event(member)
        assert (close, gone.error) == (Close(), "")
        assert member.state is State.GONE


def test_leaving_before_there_is_anything_to_leave_is_immediate() -> None:
    """A node that holds nothing just goes."""
    assert make().on_leave(None, 0.0) == [Close(), Gone()]


def test_the_intake_counts_what_it_starts_of_one_lane() -> None:
    """The count tells which chunks were never started; a new lane starts from nothing."""
    member = make()
    intake = Intake(member)
    intake.on_chunks(["early"])
    assert intake.start() is None, "not ready: the chunk is another's by now"
    ready(member)
    intake.on_chunks(["a", "b"])
    intake.on_chunks(["c"])
    assert (intake.start(), intake.start()) == ("a", "b")
    assert (intake.taken, intake.arrived, intake.waiting) == (2, 3, 1)
    intake.after(member.on_link_down("lane", 1.0))
    assert (intake.taken, intake.arrived, intake.start()) == (0, 0, None)
    ready_again = [
        *intake.on_message(welcome(2, 9), 1.0),
        *member.on_link_up("lane", 1.0),
        *member.on_link_up("results", 1.0),
    ]
    assert ready_again[-1] == Send(wire.Ready(9))
    intake.on_chunks(["d", "e"])
    intake.start()
    assert intake.on_terminate(2.0, lambda: 0) == [Send(wire.Leave(9, 1))]
    intake.on_chunks(["f"])
    assert intake.start() is None, "a leaving worker takes no more"


def test_a_leaving_worker_hands_back_items_once() -> None:
    """What is left of its chunk is told with its leave; asked again it says and leaves nothing more."""
    intake = Intake(ready(make()))
    intake.on_chunks(["a"])
    intake.start()
    assert intake.on_terminate(2.0, lambda: 5) == [Send(wire.Leave(1, 1, 5))]
    assert intake.on_terminate(3.0, pytest.fail) == []


def test_a_leaving_member_has_its_time_from_the_end_of_its_work() -> None:
    """A long item does not use it up: the receipt of its result can still come."""
    member = ready(make())
    member.on_leave(wire.Leave(1, 1), 0.0)
    member.stir(100.0)
    assert member.on_tick(100.1) == []
    assert member.deadline() == 110.0
    assert Gone() in member.on_tick(110.0)


def test_a_recalled_worker_gives_back_what_it_has_not_started() -> None:
    """It names the last one started and the last one that came; what comes later is run."""
    intake = Intake(ready(make()))
    intake.on_chunks(["a", "b", "c"])
    intake.start()
    assert intake.on_recall(wire.Recall(1), lambda: 77) == [Send(wire.Returned(1, 1, 3))]
    assert intake.start() is None
    intake.on_chunks(["d"])
    assert intake.start() == "d"
    assert intake.taken == 4
    assert intake.on_recall(wire.Recall(7, True), lambda: 77) == [], "of another lane"
    assert intake.on_recall(wire.Recall(1, True), lambda: 77) == [Send(wire.Returned(1, 4, 4, 77))]


def test_an_unfit_worker_says_why() -> None:
    """A task that can't be loaded is told with its reason, once."""
    intake = Intake(ready(make()))
    assert intake.on_unfit("no module named x", 1.0) == [Send(wire.Unfit(1, "no module named x"))]
    assert intake.on_unfit("no module named x", 1.0) == []


def test_a_lane_that_can_not_be_read_is_given_up_without_a_spin() -> None:
    """The member joins afresh after a while, and says why if it goes on."""
    member = ready(make())
    assert member.on_unreadable("no chunk", 10.0) == [Close()]
    assert member.state is State.ASKED
    assert not [action for action in member.on_tick(10.5) if isinstance(action, Send)]
    assert [action for action in member.on_tick(11.0) if isinstance(action, Send)]
    assert "can't be read (no chunk)" in member.waiting(11.0)


def test_results_that_nobody_could_take_are_kept_for_their_job() -> None:
    """They are delivered when the links stand again, whatever the lane; those of another job never."""
    intake = Intake(ready(make()))
    intake.keep("job", "a", 10)
    intake.keep("other", "b", 10)
    intake.after(intake.member.on_link_down("results", 1.0))
    assert intake.late() == []
    intake.on_message(welcome(2, 9), 1.0)
    intake.member.on_link_up("lane", 1.0)
    assert intake.late() == []
    intake.member.on_link_up("results", 1.0)
    assert intake.late() == [("job", "a")]
    assert intake.late() == []


def test_what_is_kept_is_bounded() -> None:
    """What is more is made again by another worker."""
    intake = Intake(ready(make()))
    for name in ("first", "second"):
        intake.keep("job", name, LATE_BYTES - 1)
    assert intake.late() == [("job", "first")]


def test_a_ventilator_whose_key_does_not_fit_ends_the_wait() -> None:
    """It is told once, tried again after a second, and after the third time the member ends with the reason."""
    member = make()
    assert said(member.on_denied("no key in common", 0.0)) == ["no key in common; trying again"]
    assert member.deadline() == 1.0
    assert member.on_tick(1.0) == []
    assert member.on_denied("no key in common", 1.1) == []
    assert member.on_tick(2.1) == []
    assert member.on_denied("no key in common", 2.2) == [Close(), Gone("no key in common", refused=True)]
    assert member.state is State.GONE


def test_another_ventilator_may_take_its_place() -> None:
    """One that answers makes the others forgotten; when none answers any more the wait is told of as ever."""
    member = make()
    for now in (0.0, 1.0):
        member.on_denied("no key in common", now)
    assert said(member.on_tick(6.1))[0].startswith("waiting")
    member.on_denied("no key in common", 7.0)
    member.on_control_up(8.0)
    member.on_control_down(9.0)
    for now in (10.0, 11.0):
        assert Gone("no key in common", refused=True) not in member.on_denied("no key in common", now)
    member.on_control_up(12.0)
    assert member.on_denied("late", 12.0) == []
