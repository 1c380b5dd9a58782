"""The director: who may join, when work starts, what is said of the lost, when it is over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from zpipe.core import coding, wire
from zpipe.core.actions import Admit, End, Fill, Lost, Reply, Report, Retire, Skip, Tell
from zpipe.core.chunking import Chunker
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.lifecycle import Phase
from zpipe.core.policy import Halt, Policy
from zpipe.core.roster import LINK
from zpipe.core.seat import Wants
from zpipe.core.suspects import HEARING
from zpipe.errors import WireError

V = wire.Versions(1, "0.1", "3.11", "3.1")
LOCAL = Wants("ipc://results", "json")


def make(local: Wants | None = LOCAL, **policy: Any) -> Director:
    """A director, with a sink of its own process unless told otherwise."""
    return Director("job", Policy(V, **policy), Ledger(Chunker(1)), local)


def join(n: int, turn: int = 1, versions: wire.Versions = V, **more: Any) -> wire.Join:
    """The join of worker n."""
    return wire.Join(versions, f"session{n}", turn, "host", 100 + n, n, **more)


def sink(n: int = 0, turn: int = 1, **more: Any) -> wire.SinkJoin:
    """The join of a sink."""
    return wire.SinkJoin(V, f"sink{n}", turn, "host", 50 + n, "tcp://sink:1", "json", **more)


def enter(director: Director, n: int, turn: int = 1) -> int:
    """Have worker n join and be ready; return its lane."""
    actions = director.on_message(b"w%d" % n, join(n, turn), 0.0)
    (lane,) = [action.lane for action in actions if isinstance(action, Admit)]
    director.on_linked(lane)
    director.on_message(b"w%d" % n, wire.Ready(lane), 0.0)
    director.check()
    return lane


def issue(director: Director, lane: int) -> None:
    """Send one chunk down a lane."""
    director.ledger.issue(lane, 1, "lines", [b"x"], 0.0)


def of(kind: type, actions: list[Any]) -> list[Any]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def test_a_worker_is_admitted_welcomed_and_filled() -> None:
    """Join, welcome with a lane and the sink, ready, and work begins."""
    director = make()
    assert director.on_message(b"w1", join(1), 0.0) == [Admit(b"w1", 1)]
    assert director.welcome(1, "tcp://*:9") == wire.Welcome("job", 1, 1, "tcp://*:9", "ipc://results")
    assert director.on_message(b"w1", wire.Ready(1), 0.0) == [Fill([1])]
    assert director.lifecycle.phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        (wire.Versions(2, "9.9", "3.11", "3.1"), ["protocol 2", "zpipe 9.9", "protocol 1", "zpipe 0.1"]),
        (wire.Versions(1, "0.1", "3.12", "3.1"), ["Python 3.12", "Python 3.11", "--mixed-versions"]),
        (wire.Versions(1, "0.1", "3.11", "4.0"), ["cloudpickle 4.0", "cloudpickle 3.1"]),
    ],
)
def test_versions_that_differ_are_refused_by_name(theirs: wire.Versions, named: list[str]) -> None:
    """Both sides are told both versions."""
    reply, tell = make().on_message(b"w1", join(1, versions=theirs), 0.0)
    assert isinstance(reply.message, wire.Refuse)
    assert isinstance(tell, Tell)
    for words in named:
        assert words in reply.message.reason
        assert words in tell.text


def test_other_pythons_may_be_let_in_by_name() -> None:
    """--mixed-versions admits another Python, never another protocol."""
    director = make(mixed=True)
    assert of(Admit, director.on_message(b"w1", join(1, versions=wire.Versions(1, "0", "3.12", "9")), 0.0))
    assert not of(Admit, director.on_message(b"w2", join(2, versions=wire.Versions(2, "0", "3.11", "3.1")), 0.0))


def test_workers_wait_for_the_sink_and_are_told() -> None:
    """Before there is a sink a join is held; it is answered when the sink stands."""
    director = make(None)
    (hold,) = director.on_message(b"w1", join(1), 0.0)
    assert "no sink has joined yet" in hold.message.reason
    director.sink.line = "zpipe sink tcp://me --output FILE"
    assert "start one with: zpipe sink tcp://me --output FILE" in director.waiting("tcp://me")
    (admit,) = director.on_message(b"s", sink(), 0.0)
    assert director.on_message(b"s", wire.Ready(admit.lane), 0.0) == [Admit(b"w1", 2)]


def test_expected_workers_hold_the_start() -> None:
    """Nothing is issued before enough workers are ready; then everybody is filled."""
    director = make(expect=3)
    for n in (1, 2):
        enter(director, n)
        assert not director.lifecycle.may_issue
    assert "2 of the 3 expected workers" in director.waiting("tcp://me")
    director.on_message(b"w3", join(3), 0.0)
    assert director.on_message(b"w3", wire.Ready(3), 0.0) == [Fill([1, 2, 3])]


def test_a_lost_worker_is_named_and_its_work_goes_on() -> None:
    """Host, pid, slot and how; its chunks to the others; whose fault it was when its successor tells."""
    director = make()
    first, second = enter(director, 1), enter(director, 2)
    issue(director, first)
    chunk = director.ledger.lanes[first].held[0]
    actions = director.on_link_lost(first, "its connection was cut")
    assert Retire(first) in actions
    assert Lost("worker host/101 slot 1", "its connection was cut", 1) in actions
    assert Fill([second]) in actions
    verdict = director.on_message(b"w3", join(3, previous=101, ended="killed by SIGSEGV", crashed=True), 0.0)
    assert of(Tell, verdict)[0].text == "worker host/101 slot 1 had ended: killed by SIGSEGV"
    assert (chunk.crashes, chunk.losses) == (1, 0)


def test_a_process_that_joins_again_has_lost_its_old_lane() -> None:
    """A later turn of the same session replaces the lane; an earlier or doubled one changes nothing."""
    director = make()
    old = enter(director, 1)
    issue(director, old)
    assert director.on_message(b"w1", join(1), 0.0) == []
    actions = director.on_message(b"w1b", join(1, turn=2), 0.0)
    assert Retire(old) in actions
    assert of(Admit, actions)
    assert director.on_message(b"w1", join(1, turn=1), 0.0) == []
    director.check()


def test_a_clone_does_not_take_the_place_of_its_twin() -> None:
    """Of two processes with one session the first keeps its lane, and the other is told: they would go on for ever."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    (reply,) = director.on_message(b"clone", join(1), 0.0)
    assert "another process is here as this one" in reply.message.reason
    assert director.on_message(b"clone", wire.Ready(lane), 0.0) == []
    assert director.on_message(b"clone", wire.Leave(lane, 0), 0.0) == []
    director.check()
    assert len(director.ledger.lanes[lane].held) == 1


def test_messages_from_dead_lanes_are_ignored() -> None:
    """A lane that is gone can't be made ready, left or declared unfit by late messages."""
    director = make()
    lane = enter(director, 1)
    director.on_link_lost(lane)
    for late in (wire.Ready(lane), wire.Leave(lane, 0), wire.Unfit(lane, "x")):
        assert director.on_message(b"w1", late, 0.0) == []
    assert director.on_message(b"other", wire.Ready(99), 0.0) == []
    assert director.workers == 0


def test_a_strangers_receipts_are_ignored() -> None:
    """Only the sink's connection may speak for the sink."""
    director = make(None)
    director.on_message(b"s", sink(), 0.0)
    director.on_message(b"s", wire.Ready(1), 0.0)
    lane = enter(director, 1)
    issue(director, lane)
    forged = wire.Receipts("job", [wire.Receipt(0, 1, lane, 0.1, 0, 1)])
    assert director.on_message(b"w1", forged, 0.0) == []
    assert director.on_message(b"w1", wire.Finished("job", 1, 0), 0.0) == []
    assert director.ledger.account.done == 0
    director.on_message(b"s", forged, 0.0)
    assert director.ledger.account.done == 1


def test_a_leaving_worker_is_let_go_when_its_work_is_receipted() -> None:
    """Bye comes at once if nothing is held, else with the last receipt; leaving is not a loss."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    assert of(Reply, director.on_message(b"w1", wire.Leave(lane, 1), 0.0)) == []
    actions = director.on_receipts(wire.Receipts("job", [wire.Receipt(0, 1, lane, 0.1, 0, 1)]), 0.0)
    assert Reply(b"w1", wire.Bye()) in actions
    assert director.counts.lost == 0


def test_a_leaving_worker_that_dies_with_work_is_lost() -> None:
    """What it still ran goes to others, and that is said; killed on its way out, it is no crash."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    assert director.on_message(b"w1", wire.Leave(lane, 1), 0.0) == []
    assert of(Lost, director.on_link_lost(lane)) == [Lost("worker host/101 slot 1", "its connection was cut", 1)]
    assert director.counts.lost == 1
    assert of(Lost, director.on_link_lost(lane)) == []


def test_a_node_that_never_connects_is_dropped() -> None:
    """An admitted node that died before it connected leaves no trace but time."""
    director = make()
    director.on_message(b"w1", join(1), 0.0)
    assert director.waiting("url").startswith("1 worker has joined but can't reach its lane, ")
    assert director.deadline() == LINK
    assert director.on_tick(LINK - 1) == []
    assert Retire(1) in director.on_tick(LINK)
    assert director.deadline() is None


def test_unfit_workers_are_left_out_and_end_the_job_if_nobody_is_fit() -> None:
    """One that can't load the task is told of and left out; when none is left that could, the job fails."""
    director = make()
    first, second = enter(director, 1), enter(director, 2)
    actions = director.on_message(b"w1", wire.Unfit(first, "no module x"), 0.0)
    assert "left out: no module x" in of(Tell, actions)[0].text
    (end,) = of(End, director.on_message(b"w2", wire.Unfit(second, "no module x"), 0.0))
    assert (end.error, end.status) == ("no module x", 2)


@pytest.mark.parametrize("unfit", [False, True])
def test_a_job_without_workers_says_why(unfit: bool) -> None:
    """A task that could not be loaded is told of, with another status."""
    director = make()
    first, _ = enter(director, 1), enter(director, 2)
    if unfit:
        director.on_message(b"w1", wire.Unfit(first, "no module x"), 0.0)
    (end,) = of(End, director.on_deserted())
    assert end.status == 1 + unfit
    assert (end.error == "no module x") == unfit


def test_one_that_leaves_over_an_unfit_one_does_not_hide_why() -> None:
    """Its host takes all of its workers away when one is unfit: the job fails for that reason, if nothing was done."""
    for done in (False, True):
        director = make()
        first, second = enter(director, 1), enter(director, 2)
        if done:
            issue(director, second)
        assert of(End, director.on_message(b"w1", wire.Unfit(first, "no module x"), 0.0)) == []
        actions = director.on_message(b"w2", wire.Leave(second, int(done)), 0.0)
        if done:
            assert of(End, actions) == []
            actions = director.on_receipts(wire.Receipts("job", [wire.Receipt(0, 1, second, 0.1, 0, 1)]), 0.0)
            assert Retire(second) in actions
        assert [(end.error, end.status) for end in of(End, actions)] == ([] if done else [("no module x", 2)])


def test_one_that_leaves_elsewhere_says_nothing_of_an_unfit_one() -> None:
    """It may have been able to load the task: the job waits for others, as ever."""
    director = make()
    first = enter(director, 1)
    elsewhere = msgspec.structs.replace(join(2), host="elsewhere")
    (admit,) = of(Admit, director.on_message(b"w2", elsewhere, 0.0))
    director.on_linked(admit.lane)
    director.on_message(b"w2", wire.Ready(admit.lane), 0.0)
    director.on_message(b"w1", wire.Unfit(first, "no module x"), 0.0)
    actions = director.on_message(b"w2", wire.Leave(admit.lane, 0), 0.0)
    assert Retire(admit.lane) in actions
    assert of(End, actions) == []
    assert "all workers are gone" in director.waiting("url")


def test_an_unfit_worker_does_not_end_a_job_of_which_all_is_done() -> None:
    """The sink has all of it, from an earlier run, and is about to say so."""
    director = make()
    first, second = enter(director, 1), enter(director, 2)
    director.lifecycle.on_exhausted()
    assert director.lifecycle.phase is Phase.CLOSING
    actions = director.on_message(b"w1", wire.Unfit(first, "no module x"), 0.0)
    actions += director.on_message(b"w2", wire.Leave(second, 0), 0.0)
    assert of(End, actions) == []
    assert director.lifecycle.on_finished(wire.Finished("job", 0, 0)) == [End("", 0)]


def test_the_end_is_the_sinks_word() -> None:
    """All receipts make it closing; the sink's Finished makes it over, and everybody is told."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    director.lifecycle.on_exhausted()
    director.on_receipts(wire.Receipts("job", [wire.Receipt(0, 1, lane, 0.1, 0, 1)]), 0.0)
    assert director.lifecycle.phase is Phase.CLOSING
    assert director.lifecycle.on_finished(wire.Finished("job", 1, 0)) == [Reply(b"w1", wire.Bye()), End("", 0)]


def test_a_sink_that_fails_fails_the_job() -> None:
    """A full disk at the sink ends the job with that reason."""
    director = make()
    enter(director, 1)
    (end,) = of(End, director.lifecycle.on_finished(wire.Finished("job", 1, 0, error="disk full")))
    assert (end.error, end.status) == ("disk full", 1)


def test_draining_ends_when_what_is_in_flight_is_done() -> None:
    """Nothing new, what is under way is finished, then the end with its reason; at once if nobody works."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    assert director.lifecycle.on_drain("interrupted", 130) == []
    assert director.ledger.wanted(None) == 0
    receipts = wire.Receipts("job", [wire.Receipt(0, 1, lane, 0.1, 0, 1)])
    assert of(End, director.on_receipts(receipts, 0.0)) == [End("interrupted", 130)]
    assert of(End, make().lifecycle.on_drain("interrupted", 130)) == [End("interrupted", 130)]


def test_a_sink_that_is_gone_is_waited_for_and_taken_back() -> None:
    """The same process is taken back with what it has; a new one is refused, and the job with it."""
    director = make(None)
    director.on_message(b"s", sink(), 0.0)
    director.on_message(b"s", wire.Ready(1), 0.0)
    lane = enter(director, 1)
    issue(director, lane)
    director.on_link_lost(1)
    assert "the sink is gone" in director.waiting("url")
    director.on_message(b"s2", sink(turn=2, held=wire.Held("job", {}, [0, 1])), 0.0)
    assert director.ledger.account.done == 1
    director.on_link_lost(3)
    actions = director.on_message(b"s3", sink(1), 0.0)
    assert "--journal" in of(End, actions)[0].error
    assert "results its first process had are gone" in of(End, actions)[0].error


def anew(fingerprint: dict[str, str], **policy: Any) -> Director:
    """A director whose job can be told from others."""
    return Director("new", Policy(V, **policy), Ledger(Chunker(1)), fingerprint=fingerprint, base=1000)


def test_a_ventilator_started_anew_goes_on_with_the_sinks_job() -> None:
    """The job keeps its id, what is done is passed over, failures count, and lanes are not those of before."""
    director = anew({"task": "f"})
    director.on_message(b"w1", join(1), 0.0)
    held = wire.Held("old", {"task": "f"}, [0, 7, 1, 2], 3)
    assert director.on_message(b"s", sink(held=held), 0.0) == [Admit(b"s", 1001), Skip()]
    assert director.welcome(1001, "tcp://*:9") == wire.Welcome("old", 1, 1001, "tcp://*:9", fingerprint={"task": "f"})
    assert (director.job, director.ledger.account.done, director.ledger.account.failed) == ("old", 9, 3)
    assert director.on_message(b"s", wire.Ready(1001), 0.0) == [Admit(b"w1", 1002)]
    assert director.welcome(1002, "tcp://*:9").job == "old"
    director.check()


def test_a_ventilator_of_another_job_gives_way() -> None:
    """It ends with what differs; the sink is told and waits, and so do the workers: nobody is sent home."""
    director = anew({"task": "g"})
    director.on_message(b"w1", join(1), 0.0)
    reply, end = director.on_message(b"s", sink(held=wire.Held("old", {"task": "f"}, [0, 7])), 0.0)
    assert isinstance(reply.message, wire.Hold)
    for told in (reply.message.reason, end.error):
        assert "task: f there, g here" in told
    assert "sink host/50" in end.error
    assert end.status == 2
    assert director.on_message(b"w2", join(2), 0.0) == []


def test_a_sink_of_this_process_brings_a_job_along() -> None:
    """A journal that is opened again, by a command that has its own sink: the same job, or none."""
    director = anew({"task": "f"})
    assert director.on_local_sink(LOCAL, wire.Held("old", {"task": "f"}, [0, 7])) == [Skip()]
    assert director.job == "old"
    (end,) = anew({"task": "g"}).on_local_sink(LOCAL, wire.Held("old", {"task": "f"}, [0, 7]))
    assert "task: f there, g here" in end.error
    assert anew({"task": "g"}).on_local_sink(LOCAL, wire.Held()) == []


def test_a_sink_that_comes_back_with_its_journal_has_all_that_was_receipted() -> None:
    """Another process of the same job goes on, and workers join afresh; with less than was receipted it can't be."""
    for done, goes_on in (([0, 1], True), ([0, 2], True), ([], False), ([5, 1], True)):
        director = make(None)
        director.on_message(b"s", sink(), 0.0)
        director.on_message(b"s", wire.Ready(1), 0.0)
        lane = enter(director, 1)
        issue(director, lane)
        issue(director, lane)
        director.on_message(b"s", wire.Receipts("job", [wire.Receipt(0, 1, lane, 0.1, 0, 1)]), 0.0)
        director.on_link_lost(1)
        actions = director.on_message(b"s2", sink(1, held=wire.Held("job", {}, done)), 0.0)
        director.check()
        assert bool(of(Admit, actions)) is goes_on
        assert (Retire(lane) in actions) is goes_on
        if not goes_on:
            assert "it is not the newest" in of(End, actions)[0].error


def test_a_source_that_has_shrunk_is_told_of() -> None:
    """Items done behind the end of the source: it is not the one that the job began with."""
    director = anew({"task": "f"})
    director.on_message(b"s", sink(held=wire.Held("old", {"task": "f"}, [7, 2])), 0.0)
    (end,) = of(End, director.lifecycle.on_exhausted())
    assert "0 items now, and 2 behind them" in end.error
    director = anew({"task": "f"})
    director.lifecycle.on_exhausted()
    actions = director.on_message(b"s", sink(held=wire.Held("old", {"task": "f"}, [0, 2])), 0.0)
    assert "0 items now, and 2 behind them" in of(End, actions)[0].error


def test_garbage_on_the_control_port_is_answered_and_told() -> None:
    """A node of another protocol hears what this one speaks."""
    reply, tell = make().gate.on_malformed(b"x", "a header that is no zpipe message", 0.0)
    assert "protocol 1" in reply.message.reason
    assert isinstance(tell, Tell)


def test_who_comes_after_the_end_is_sent_home() -> None:
    """A worker that joins when the job is over hears so at once, and if it failed why."""
    director = make()
    director.lifecycle.on_failed("stopped")
    assert director.on_message(b"w1", join(1), 0.0) == [Reply(b"w1", wire.Bye("stopped"))]


def test_a_node_for_which_no_lane_is_free_waits_and_is_told() -> None:
    """When no lane can be bound the node is held, not lost, and asks again."""
    director = make()
    director.on_message(b"w1", join(1), 0.0)
    actions = director.on_unbound(1, "all 1 lane ports are in use")
    assert Reply(b"w1", wire.Hold("all 1 lane ports are in use")) in actions
    assert "all 1 lane ports" in of(Tell, actions)[0].text
    assert of(Admit, director.on_message(b"w1", join(1), 1.0)), "the same turn may ask again"


def test_more_workers_than_files_allow_are_held() -> None:
    """The limit of open files is a number of workers, told by name, not a crash."""
    director = make(most=1)
    enter(director, 1)
    hold, tell = director.on_message(b"w2", join(2), 0.0)
    assert "allows 1 workers" in hold.message.reason
    assert "allows 1 workers" in tell.text


def test_a_chunk_its_lane_refused_goes_to_another_when_the_lane_is_lost() -> None:
    """A lane that held nothing any more may still have refused a chunk: its loss fills the others."""
    director = make()
    first, second = enter(director, 1), enter(director, 2)
    director.ledger.on_refused(director.ledger.issue(first, 1, "lines", [b"x"], 0.0))
    assert Fill([second]) in director.on_link_lost(first)


def test_what_is_whole_is_not_called_interrupted() -> None:
    """A drain that finds every item receipted is the job's own end, not an error."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    director.lifecycle.on_exhausted()
    director.lifecycle.on_drain("interrupted", 130)
    assert of(End, director.on_receipts(wire.Receipts("job", [wire.Receipt(0, 1, lane, 0.1, 0, 1)]), 0.0)) == []
    assert of(End, director.lifecycle.on_finished(wire.Finished("job", 1, 0))) == [End("", 0)]


def test_the_first_end_counts() -> None:
    """After a failure a late Finished does not make the job a success."""
    director = make()
    director.lifecycle.on_failed("the source failed")
    assert director.lifecycle.on_finished(wire.Finished("job", 1, 0)) == []


def test_what_waits_is_recalled_for_an_idle_worker_and_comes_back() -> None:
    """The director asks the laden worker, and shares what it returns."""
    director = make()
    first, second = enter(director, 1), enter(director, 2)
    issue(director, first)
    director.on_receipts(wire.Receipts("job", [wire.Receipt(0, 1, first, 0.02, 0, 1)]), 0.0)
    issue(director, first)
    issue(director, first)
    assert director.on_hungry(0.0) == [Reply(b"w1", wire.Recall(first, True))]
    assert director.on_hungry(0.0) == []
    assert director.on_message(b"w1", wire.Returned(first, 2, 3), 0.1) == [Fill([second])]
    assert director.on_tick(100.0) == []


def test_an_answer_that_hands_nothing_back_concerns_no_other_lane() -> None:
    """It has all begun: the others, of which there may be a thousand, have nothing to expect."""
    director = make()
    first, second, _ = enter(director, 1), enter(director, 2), enter(director, 3)
    issue(director, first)
    issue(director, second)
    done = [wire.Receipt(0, 1, first, 0.02, 0, 1), wire.Receipt(1, 2, second, 0.02, 0, 1)]
    director.on_receipts(wire.Receipts("job", done), 0.0)
    for lane in (first, first, second, second):
        issue(director, lane)
    assert director.on_hungry(0.0) == [Reply(b"w1", wire.Recall(first, True))]
    again = director.on_message(b"w1", wire.Returned(first, 3, 3), 0.001)
    assert again == [Fill([first]), Reply(b"w2", wire.Recall(second, True))], "the idle one is still to have something"
    issue(director, second)
    assert director.on_message(b"w2", wire.Returned(second, 3, 3), 0.001)[0] == Fill([second])


def test_what_waits_too_long_is_recalled_when_it_is_time() -> None:
    """The director's deadline has the ledger's in it."""
    director = make()
    first, _ = enter(director, 1), enter(director, 2)
    issue(director, first)
    director.on_receipts(wire.Receipts("job", [wire.Receipt(0, 1, first, 0.02, 0, 1)]), 0.0)
    issue(director, first)
    issue(director, first)
    due = director.deadline()
    assert due is not None
    assert director.on_tick(due) == [Reply(b"w1", wire.Recall(first))]


@pytest.mark.parametrize(
    ("halt", "failed", "done", "reached"),
    [
        (Halt(count=2), 1, 1, False),
        (Halt(count=2), 2, 900, True),
        (Halt(share=0.5), 2, 2, False),
        (Halt(share=0.5), 3, 6, True),
        (Halt(share=0.5), 3, 7, False),
    ],
)
def test_a_halt_is_reached_by_count_or_share(halt: Halt, failed: int, done: int, reached: bool) -> None:
    """A share counts from the third failure on."""
    assert halt.reached(failed, done) is reached


def test_a_job_is_halted_at_once_or_drained() -> None:
    """`now` ends it with what is in flight, `soon` after that."""
    for now in (True, False):
        director = make(halt=Halt(now=now, count=1))
        lane = enter(director, 1)
        issue(director, lane)
        issue(director, lane)
        failure = wire.Receipts("job", [wire.Receipt(0, 1, lane, 0.1, 1, 1)])
        ends = of(End, director.on_receipts(failure, 0.0))
        assert [end.error for end in ends] == (["halted: 1 of 1 items have failed"] if now else [])
        assert director.ledger.closed is not now
        if not now:
            rest = wire.Receipts("job", [wire.Receipt(1, 2, lane, 0.1, 0, 1)])
            assert of(End, director.on_receipts(rest, 0.0)) == [End("halted: 1 of 1 items have failed", 1)]


def test_failures_of_an_earlier_start_halt_nothing() -> None:
    """A job that was halted can be gone on with: what counts is what fails from then on."""
    director = anew({"task": "f"}, halt=Halt(now=True, count=2))
    held = wire.Held("old", {"task": "f"}, [0, 10], failed=5)
    (admit,) = of(Admit, director.on_message(b"s", sink(held=held), 0.0))
    director.on_message(b"s", wire.Ready(admit.lane), 0.0)
    lane = enter(director, 1)
    director.ledger.on_skipped(10)
    for n in (10, 11):
        issue(director, lane)
        receipts = wire.Receipts("old", [wire.Receipt(n, n + 1, lane, 0.1, 1, 1)])
        ends = of(End, director.on_receipts(receipts, 0.0))
        assert [end.error for end in ends] == (["halted: 2 of 2 items have failed"] if n == 11 else [])
    assert director.ledger.account.failed == 7


def ask(director: Director, wish: str) -> list[Any]:
    """Have somebody who is no node ask for something."""
    return director.on_message(b"somebody", wire.Ask(wish), 0.0)  # type: ignore[arg-type]


def test_a_paused_job_sends_nothing_until_it_is_unpaused() -> None:
    """Whoever joins or dies meanwhile; what came back goes out then, and what is due is not looked at before."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    assert ask(director, "pause") == [Report(b"somebody")]
    assert not director.lifecycle.may_issue
    assert "paused; to go on: zpipe unpause 4711" in director.waiting("4711")
    other = enter(director, 2)
    director.on_link_lost(lane)
    assert director.on_hungry(0.0) == []
    director.on_tick(1e9)
    assert director.deadline() is None
    assert ask(director, "pause") == [Report(b"somebody")]
    assert ask(director, "unpause") == [Report(b"somebody"), Fill([other])]
    assert director.lifecycle.may_issue
    assert ask(director, "unpause") == [Report(b"somebody")]
    assert director.ledger.again(other, 1e9) is not None


def test_a_job_is_cancelled_or_drained() -> None:
    """At once, or once what is in flight is done, a pause ending with it; a drain can be cancelled, and not paused."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    ask(director, "pause")
    actions = ask(director, "drain")
    assert of(Tell, actions)[0].text == "cancelled: finishing what is in flight"
    assert of(End, actions) == []
    assert ask(director, "pause") == ask(director, "status") == [Report(b"somebody")]
    assert (director.lifecycle.draining, director.lifecycle.paused) == (True, False)
    assert of(End, ask(director, "cancel")) == [End("cancelled", 130)]
    assert ask(director, "status") == [Reply(b"somebody", wire.Bye("cancelled"))]


def test_a_wish_that_is_not_known_is_refused() -> None:
    """By the codec: the director never sees one."""
    with pytest.raises(WireError, match="no zpipe message"):
        coding.decode(coding.encode(wire.Ask("dance")))  # type: ignore[arg-type]


def test_who_breaks_the_rules_is_told_once_and_heard_no_more() -> None:
    """Whatever else comes by that connection; others are not concerned, and a flood of them is no flood of words."""
    director = make()
    assert director.gate.on_malformed(b"x", "no header", 0.0)
    assert director.gate.on_malformed(b"x", "no header", 1.0) == []
    assert director.on_message(b"x", join(1), 2.0) == []
    assert of(Admit, director.on_message(b"y", join(1), 2.0))
    told = [of(Tell, director.gate.on_malformed(b"%d" % n, "no header", 3.0)) for n in range(20_000)]
    assert sum(map(len, told)) < 10
    assert len(director.gate._shunned) <= 10_000


def test_one_connection_brings_one_process() -> None:
    """A second join by it is no worker's: it could take all lanes. The first one's lane stays as it is."""
    director = make()
    lane = enter(director, 1)
    (reply, tell) = director.on_message(b"w1", join(2), 1.0)
    assert isinstance(reply.message, wire.Refuse)
    assert "two processes joined by one connection" in tell.text
    assert director.workers == 1
    assert director.on_link_lost(lane)
    waiting = Director("job", Policy(V), Ledger(Chunker(1)))
    assert waiting.on_message(b"w1", join(1), 0.0)
    assert of(Tell, waiting.on_message(b"w1", join(2), 0.0))


def test_joins_without_end_take_no_memory_without_end() -> None:
    """Of processes that came once, so many are remembered."""
    director = make(most=1)
    enter(director, 1)
    for n in range(2, 12_000):
        director.on_message(b"w%d" % n, join(n), 0.0)
    assert len(director._roster._turns) <= 10_000


def test_a_worker_killed_over_an_item_is_told_as_that() -> None:
    """Its loss is not told until its slot's next process says what it was; one of whom nothing is heard was lost."""
    director = make()
    director.ledger.returns.limited = True
    first, second = enter(director, 1), enter(director, 2)
    issue(director, first)
    issue(director, second)
    for lane in (first, second):
        assert of(Lost, director.on_link_lost(lane)) == []
    assert director.counts.lost == 0
    late = join(3, previous=101, ended="it ran for 5 s", item=0, late=True)
    told = of(Tell, director.on_message(b"w3", late, 0.0))
    assert [tell.text for tell in told] == ["killed worker host/101 slot 1 over item 0: it ran for 5 s"]
    director.on_tick(0.0)
    assert director.counts.lost == 0
    lost = of(Lost, director.on_tick(HEARING))
    assert [(action.name, action.requeued) for action in lost] == [("worker host/102 slot 2", 1)]
    assert director.counts.lost == 1
    director.check()


def test_how_a_worker_ended_may_be_told_before_its_loss_is_noticed() -> None:
    """What its slot's next process says is kept until then."""
    director = make()
    director.ledger.returns.limited = True
    lane = enter(director, 1)
    issue(director, lane)
    director.on_message(b"w2", join(2, previous=101, ended="it ran for 5 s", item=0, late=True), 0.0)
    assert director.ledger.lanes[lane].held
    told = of(Tell, director.on_link_lost(lane))
    assert [tell.text for tell in told] == ["killed worker host/101 slot 1 over item 0: it ran for 5 s"]
    assert not director.ledger.returns.waits(lane)


def test_a_worker_that_is_replaced_goes_without_a_word() -> None:
    """What it hands back goes to others, and is not counted as sent again."""
    director = make()
    lane = enter(director, 1)
    issue(director, lane)
    actions = director.on_message(b"w1", wire.Leave(lane, 0, replaced=True), 0.0)
    assert of(Tell, actions) == []
    assert of(Reply, actions) == [Reply(b"w1", wire.Bye())]
    assert (director.ledger.returns.requeued, director.ledger.waiting) == (0, True)


def test_ready_alone_is_no_connection() -> None:
    """Whoever says it is ready and never connects to its lane does not keep that."""
    director = make()
    director.on_message(b"w1", join(1), 0.0)
    director.on_message(b"w1", wire.Ready(1), 0.0)
    assert Retire(1) in director.on_tick(LINK)
    assert not director.workers


def test_who_joins_again_and_again_has_to_wait() -> None:
    """Each join with another turn takes a lane; other connections are admitted meanwhile, and this one later."""
    director = make()
    admitted = [of(Admit, director.on_message(b"w1", join(1, turn), 0.0)) for turn in range(1, 100)]
    assert sum(map(bool, admitted)) == 20
    (hold,) = director.on_message(b"w1", join(1, 100), 0.0)
    assert "too often" in hold.message.reason
    assert of(Admit, director.on_message(b"w2", join(2), 0.0))
    assert of(Admit, director.on_message(b"w1", join(1, 100), 5.0))
    director.check()


def test_few_who_are_turned_away_are_told_of() -> None:
    """Each of them hears why; a person, of some."""
    director = make(most=1)
    old = wire.Versions(2, "9.9", "3.11", "3.1")
    actions = [a for n in range(1000) for a in director.on_message(b"%d" % n, join(n, versions=old), 0.0)]
    actions += [a for n in range(1000) for a in director.on_message(b"w%d" % n, join(n), 0.0)]
    assert len(of(Reply, actions)) == 1999
    assert len(of(Tell, actions)) <= 16


def test_few_joins_wait_for_a_sink() -> None:
    """No more than there are lanes for: others come again."""
    director = make(None, most=3)
    for n in range(100):
        assert of(Reply, director.on_message(b"w%d" % n, join(n), 0.0))
    (admit,) = director.on_message(b"s", sink(), 0.0)
    assert len(of(Admit, director.on_message(b"s", wire.Ready(admit.lane), 0.0))) == 3


def test_unfit_is_for_workers_that_are_ready() -> None:
    """Nobody else has seen the task, nor can end the job over it."""
    director = make()
    director.on_message(b"w1", join(1), 0.0)
    assert director.on_message(b"w1", wire.Unfit(1, "no module"), 0.0) == []


def test_a_sink_that_wants_pickles_in_a_job_without_any_is_refused() -> None:
    """Both sides are told the mend; one that takes data is admitted."""
    for encoding in ("values", "pickle", "outcomes"):
        wants = msgspec.structs.replace(sink(), encoding=encoding)
        reply, tell = make(None, codec="json").on_message(b"s", wants, 0.0)
        assert isinstance(reply.message, wire.Refuse)
        assert isinstance(tell, Tell)
        for said in (reply.message.reason, tell.text):
            assert "wants results as pickles" in said
            assert "give the sink --codec json" in said
        assert not isinstance(make(None).on_message(b"s", wants, 0.0)[0], Reply)
    for encoding in ("values-json", "values-msgpack", "json", "raw"):
        wants = msgspec.structs.replace(sink(), encoding=encoding)
        assert not isinstance(make(None, codec="msgpack").on_message(b"s", wants, 0.0)[0], Reply)
