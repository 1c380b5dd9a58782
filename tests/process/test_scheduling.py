"""What goes next, when and where, on the command line: real workers, and files that tell in what order they ran."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime

import pytest
from process.tools import LOCAL, PATIENCE, Zpipe, records, values, wait_until

from zpipe.jobs.steering import ask, find


def rows(zpipe: Zpipe, *items: object) -> str:
    """A file of these items as JSON lines."""
    (zpipe.folder / "items").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return "items"


def all_read(url: str, count: int) -> None:
    """Wait until the job at an address has read its source to the end, which is so many items."""

    def known() -> bool:
        told = ask(url, "status", PATIENCE)
        return (told.total, told.exact) == (count, True)

    wait_until(known, "the end of the source")


def test_higher_priorities_go_first(zpipe: Zpipe) -> None:
    """Of a field; each result once, and in the items' order if that is asked for."""
    items = [{"n": n, "prio": n % 5} for n in range(40)]
    job = ("run", "jobs:noted_prio", "--input", rows(zpipe, *items), "--jsonl", "--priority", ".prio", "--ordered")
    node = zpipe.start(*job, "--workers", "0", "--bind", f"{LOCAL}:0", "--chunk", "1")
    url = node.said("zpipe worker ").partition("zpipe worker ")[2].split()[0]
    all_read(url, 40)
    zpipe.start("worker", url, "--slots", "1")
    assert values(node.ended(0).out) == items
    ran = [int(line) for line in (zpipe.folder / "noted").read_text().split()]
    assert ran == sorted(ran, reverse=True)


def test_an_item_that_comes_later_overtakes_what_waits_at_a_worker(zpipe: Zpipe) -> None:
    """Only what is being run already goes ahead of it."""
    job = ("run", "jobs:noted_slow", "--priority", "jobs.py:urgency", "--workers", "1", "--chunk", "30", "--input", "-")
    zpipe.allow(3)
    node = zpipe.piped(*job, "--raw")
    node.write("".join(f"{n}\n" for n in range(30)))
    wait_until(lambda: 3 in zpipe.noted(), "an item that is held")
    node.write("1000\n")
    node.eof()
    all_read(next(iter(find(str(node.pid)).values())), 31)
    zpipe.allow(1001)
    wait_until(lambda: 1000 in zpipe.noted(), "the one that came later")
    (zpipe.folder / "hurry").touch()
    node.ended(0)
    ran = [int(line) for line in (zpipe.folder / "noted").read_text().split()]
    assert sorted(ran) == [*range(30), 1000]
    assert ran[-1] != 1000


def test_what_is_delayed_waits_and_what_comes_too_late_expires(zpipe: Zpipe) -> None:
    """The delayed one is run later; one that was not sent in its time is a dead letter, and is never run."""
    items = [{"prio": 1, "wait": "2s"}, {"prio": 2, "ttl": "1h"}, {"prio": 3, "ttl": 0.01, "wait": 0}, {"prio": 4}]
    source = rows(zpipe, *items)
    job = (
        "run",
        "jobs:noted_prio",
        "--input",
        source,
        "--jsonl",
        "--delay",
        ".wait",
        "--ttl",
        ".ttl",
        "--workers",
        "1",
    )
    began = time.time()
    node = zpipe.run(*job, "--requires", "jobs.py:nobody", "--dead-letters", "dead", "--ordered", status=1)
    found = records(node.out)
    assert [record.get("error", {}).get("type") for record in found] == [None, None, "Expired", None]
    (letter,) = map(json.loads, (zpipe.folder / "dead").read_text().splitlines())
    assert (letter["index"], letter["item"]) == (2, items[2])
    assert letter["error"]["message"].startswith("it expired: it was not started within 0.01")
    assert float((zpipe.folder / "delayed").read_text()) >= began + 2


def test_a_rate_holds_across_workers(zpipe: Zpipe) -> None:
    """No stretch of time has more starts than the rate and its burst allow, as the workers' own clocks have it."""
    job = ("run", "jobs:started_at", "--range", "12", "--rate", "10/s", "--burst", "2", "--workers", "2", "--raw")
    before = time.time()
    began = sorted(float(line) for line in zpipe.run(*job).out.split())
    assert len(began) == 12
    for n, moment in enumerate(began[2:], 1):
        assert moment >= before + n / 10, "what is sent may be run later, but not before"


def test_items_of_a_key_run_one_at_a_time_and_in_order(zpipe: Zpipe) -> None:
    """On several workers, of which each would have some of them else."""
    items = [{"who": n % 3, "n": n} for n in range(30)]
    job = ("run", "jobs:keyed", "--input", rows(zpipe, *items), "--jsonl", "--key", ".who", "--workers", "3")
    zpipe.run(*job, "--output", "out")
    for who in range(3):
        lines = (zpipe.folder / f"key-{who}").read_text().split()
        wanted = [item["n"] for item in items if item["who"] == who]
        assert lines == [word for n in wanted for word in (f"+{n}", f"-{n}")]


def test_no_more_are_in_flight_than_may_be(zpipe: Zpipe) -> None:
    """Of each rate key; so two workers of three are idle, and the job still ends."""
    job = ("run", "jobs:keyed_all", "--range", "12", "--max-in-flight", "1", "--workers", "3", "--output", "out")
    zpipe.run(*job)
    lines = (zpipe.folder / "key-all").read_text().split()
    assert [line[0] for line in lines] == ["+", "-"] * 12


def test_items_go_to_workers_that_have_their_labels(zpipe: Zpipe) -> None:
    """And wait for one if there is none, which the ventilator says by name."""
    items = [{"n": n, "needs": "gpu=1" if n % 2 else None} for n in range(10)]
    job = ("ventilator", "jobs:who", "--input", rows(zpipe, *items), "--jsonl", "--requires", ".needs")
    vent = zpipe.start(*job, "--bind", f"{LOCAL}:0")
    url = vent.url()
    sink = zpipe.start("sink", url, "--output", "out", "--bind", f"{LOCAL}:0")
    plain = zpipe.start("worker", url, "--slots", "1")
    vent.said("waiting for a worker with label gpu=1")
    wait_until(lambda: len((zpipe.folder / "out.partial").read_text().splitlines()) == 5, "all that need none")
    labelled = zpipe.start("worker", url, "--slots", "1", "--label", "gpu=1")
    for node in (vent, sink, plain, labelled):
        node.ended(0)
    found = records((zpipe.folder / "out").read_text())
    assert len(found) == 10
    first, second = ({record["value"] for record in found if record["index"] % 2 == odd} for odd in (0, 1))
    assert (len(first), len(second), len(first | second)) == (1, 1, 2)


def test_a_job_goes_on_from_its_journal(zpipe: Zpipe) -> None:
    """Whatever order its items were done in."""
    items = [{"n": n, "prio": n % 3} for n in range(30)]
    job = ("run", "jobs:noted_prio", "--input", rows(zpipe, *items), "--jsonl", "--priority", ".prio", "--workers", "1")
    job = (*job, "--journal", "kept", "--output", "out", "--chunk", "1", "--rate", "20/s")
    node = zpipe.start(*job)
    wait_until(lambda: len(zpipe.noted()) > 5, "some are run")
    node.kill()
    zpipe.run("resume", "kept")
    assert sorted(value["n"] for value in values((zpipe.folder / "out").read_text())) == list(range(30))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_is_fed_with_the_time_until_it_is_ended(zpipe: Zpipe, number: int) -> None:
    """A signal has it finish what is in flight; what there is of the output is kept."""
    node = zpipe.start("run", "jobs:same", "--every", "50ms", "--workers", "1", "--raw")
    wait_until(lambda: node.out.count("\n") >= 3, "three times")
    node.signal(number)
    node.ended(130)
    times = [datetime.fromisoformat(line) for line in node.out.split()]
    assert len(times) == len(set(times))
    assert times[0].tzinfo is not None


def test_a_cron_expression_feeds_a_job_that_is_cancelled(zpipe: Zpipe) -> None:
    """It waits for the source, and ends at once when it is told to from elsewhere."""
    pytest.importorskip("cronsim", reason="--cron needs cronsim: pip install 'zpipe[cron]'")
    node = zpipe.start("run", "jobs:same", "--cron", "0 0 29 2 *", "--workers", "1")
    node.said("waiting for the source")
    zpipe.run("cancel", node.pid)
    node.ended(130)
    assert "can't be read" in zpipe.run("run", "jobs:same", "--cron", "often", status=2).err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--priority", "high"), "--priority high: write a number, .high for that field"),
        (("--rate", "fast"), "no rate: give for instance 100/s"),
        (("--rate-per-key", "1/s"), "--rate-per-key needs --rate-key"),
        (("--rate-key", ".x"), "--rate-key goes with"),
        (("--key", "host"), "--key host: all items would have that one key: write .host"),
        (("--delay", "1", "--eta", "5"), "give one"),
        (("--key", "jobs.py:nothing_there"), "--key jobs.py:nothing_there"),
        (("--then", "jobs:same,rate=fast"), "rate=fast is no rate"),
        (("--then", "jobs:same,requires=a b"), "requires=a b is no label"),
        (("--then", "jobs:same,requires=gpu", "-w", "0"), "requires= and --workers 0: nobody has labels here"),
        (("--ttl", "soon"), "'soon' is no span of time"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(zpipe: Zpipe, options: tuple[str, ...], said: str) -> None:
    """It names the option, and how it is to be written."""
    assert said in zpipe.run("run", "jobs:same", "--range", "3", *options, status=2).err


def test_an_item_without_the_field_it_is_asked_for(zpipe: Zpipe) -> None:
    """Text has no fields: the job ends with what it can't tell, and of which item."""
    node = zpipe.run("run", "jobs:same", "--range", "3", "--priority", ".prio", status=1)
    assert "what item 0 claims can't be told" in node.err
    assert "Traceback" not in node.err


def test_the_first_stage_goes_by_priority_and_others_as_they_can(zpipe: Zpipe) -> None:
    """What is nearest to the end goes first, whatever the priority; a stage may require a label."""
    job = ("run", "jobs:noted", "--then", "jobs:pid,requires=disk", "--range", "100:140", "--raw", "--chunk", "1")
    node = zpipe.start(*job, "--priority", "jobs.py:urgency", "-w", "0", "--bind", f"{LOCAL}:0")
    url = node.said("zpipe worker ").partition("zpipe worker ")[2].split()[0]
    zpipe.start("worker", url, "--slots", "1")
    wait_until(lambda: len(zpipe.noted()) == 40, "the whole first stage")
    assert zpipe.noted() == list(range(139, 99, -1))
    wait_until(lambda: "disk" in ask(url, "status", PATIENCE).note, "word of who is missed")
    labelled = zpipe.start("worker", url, "--slots", "1", "--label", "disk")
    found = node.ended(0).out.split()
    assert len(found) == 40
    assert len(set(found)) == 1
    labelled.ended(0)


def test_a_stage_keeps_to_its_rate(zpipe: Zpipe) -> None:
    """The first one by the option, another by its setting; and no more of it are at workers than may be."""
    began = time.monotonic()
    zpipe.run("run", "jobs:same", "--then", "jobs:same,rate=40/s,max-in-flight=3", "--range", "30", "--raw")
    assert time.monotonic() - began >= (30 - 4) / 40
    began = time.monotonic()
    node = zpipe.run("run", "jobs:same", "--then", "jobs:same", "--range", "30", "--rate", "40/s", "--raw")
    assert time.monotonic() - began >= (30 - 4) / 40
    assert sorted(map(int, node.out.split())) == list(range(30))
