"""Items that take long, or take their worker with them: they hold up and bring down nothing but themselves."""

from __future__ import annotations

import json
import signal

from process.tools import LOCAL, Zpipe, records, values, wait_until


def test_what_waits_behind_a_straggler_runs_elsewhere(zpipe: Zpipe) -> None:
    """While one worker is held up by an item, all others are done by the other, those that waited behind it too."""
    node = zpipe.start("run", "jobs:blocked_at_30", "--range", "0:60", "--workers", "2", "--chunk", "1")
    wait_until(lambda: node.out.count("\n") == 59, lambda: f"59 results, of which came:\n{node.out}\n{node.err}")
    assert (zpipe.folder / "blocked").exists()
    (zpipe.folder / "go").touch()
    node.ended(0)
    assert [index for index, _ in values(node.out)] == list(range(60))


def test_results_do_not_wait_for_a_straggler_behind_them(zpipe: Zpipe) -> None:
    """Results that a worker keeps to send them together are sent though the next item takes for ever."""
    node = zpipe.start("run", "jobs:quick_but_30", "--range", "0:40", "--workers", "1", "--chunk", "1")
    wait_until(lambda: node.out.count("\n") >= 30, lambda: f"30 results, of which came:\n{node.out}\n{node.err}")
    (zpipe.folder / "go").touch()
    node.ended(0)
    assert values(node.out) == list(range(40))


def test_a_chunk_that_turns_out_long_is_shared(zpipe: Zpipe) -> None:
    """Items of a running chunk that have not been started are another worker's as soon as that has nothing to do."""
    zpipe.write("parties", 2)
    node = zpipe.run(
        "run", "jobs:noted_met", "--range", "0:40", "--workers", "2", "--chunk", "40", "--expect-workers", "2"
    )
    assert len(set(values(node.out))) == 2
    assert sorted(zpipe.noted()) == list(range(40)), "each was run once"


def test_a_worker_told_to_leave_hands_back_at_once(zpipe: Zpipe) -> None:
    """What waits behind its running item is another's while that still runs, and its own result counts."""
    ventilator = zpipe.start(
        "ventilator", "jobs:blocked_at_30", "--range", "0:60", "--chunk", "1", "--bind", f"{LOCAL}:0"
    )
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "1")
    wait_until((zpipe.folder / "blocked").exists, "the item that blocks")
    worker.signal(signal.SIGTERM)
    ventilator.said("leaves")
    other = zpipe.start("worker", url, "--slots", "1")
    wait_until(lambda: len((zpipe.folder / "out.partial").read_text().splitlines()) >= 59, "all other items' results")
    (zpipe.folder / "go").touch()
    for node in (ventilator, sink, worker, other):
        node.ended(0)
    found = values((zpipe.folder / "out").read_text())
    assert [index for index, _ in found] == list(range(60))
    assert found[30][1] != found[59][1], "the item that blocked was the first worker's to the end"


def test_items_that_end_their_workers_are_found_and_given_up(zpipe: Zpipe) -> None:
    """Two deadly items fail, alone, after some workers; every other item of their chunks is done."""
    job = ("run", "jobs:deadly", "--range", "0:64", "--workers", "2", "--chunk", "16")
    told = json.loads(zpipe.run(*job, "--output", "out", "--json", status=1).out)
    found = records((zpipe.folder / "out").read_text())
    assert [record["index"] for record in found] == list(range(64))
    failed = [record for record in found if "error" in record]
    assert [record["index"] for record in failed] == [5, 41]
    assert all(record["error"]["type"] == "WorkerLost" for record in failed)
    assert all("workers ended while they ran it" in record["error"]["message"] for record in failed)
    assert (told["done"], told["failed"]) == (64, 2)
    assert told["lost"] >= 6
