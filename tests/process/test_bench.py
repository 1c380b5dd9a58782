"""`zpipe bench`, as a person or a program runs it."""

from __future__ import annotations

import json

from process.tools import LOCAL, Zpipe, free_port

QUICK = ("--seconds", "0.6", "--payload", "0")


def test_a_table_and_an_object(zpipe: Zpipe) -> None:
    """On this machine, over Unix sockets or TCP: tables on stdout or an object there, and nothing else anywhere."""
    shown = zpipe.start("bench", "--workers", "2", *QUICK)
    told = zpipe.start(
        "bench", "--workers", "1", *QUICK, "--chunk", "5", "--transport", "tcp", "--insecure", "--json"
    ).ended(0)
    found = json.loads(told.out)
    assert (found["workers"], found["workers_left"], found["lost"]) == (1, 1, 0)
    assert found["endpoint"].startswith("tcp://127.0.0.1:")
    assert [(one["payload"], one["chunk"]) for one in found["throughput"]] == [(0, 5)]
    assert found["throughput"][0]["items_per_second"] > 0
    assert found["round_trips"][0]["p50"] > 0
    shown.ended(0)
    for text in ("zpipe ", "2 workers, ipc", "items/s", "p99.9 µs", "results was the right one"):
        assert text in shown.out, text
    assert (shown.err, told.err) == ("", "")


def test_with_a_key(zpipe: Zpipe) -> None:
    """One that is made for it, and gone afterwards: nothing is warned of, as nobody else gets in."""
    told = zpipe.run("bench", "--workers", "1", *QUICK, "--chunk", "5", "--curve", "--json")
    found = json.loads(told.out)
    assert found["endpoint"].startswith("tcp://127.0.0.1:")
    assert found["endpoint"].endswith(" with a key")
    assert found["throughput"][0]["items_per_second"] > 0
    assert told.err == ""


def test_workers_that_join(zpipe: Zpipe) -> None:
    """It says how workers join, waits until enough have, measures them, and lets them go."""
    url = f"{LOCAL}:{free_port()}"
    bench = zpipe.start("bench", "--bind", url, "--wait-workers", "3", *QUICK, "--json")
    bench.said(f"zpipe: listening; start workers with: zpipe worker {url}")
    workers = [zpipe.start("worker", url, "--slots", "2")]
    bench.said(f"zpipe: waiting for workers: 2 of 3 are ready; start them with: zpipe worker {url}")
    workers.append(zpipe.start("worker", url, "--slots", "1"))
    assert json.loads(bench.ended(0).out)["workers"] == 3
    for worker in workers:
        worker.ended(0)


def test_what_cannot_be(zpipe: Zpipe) -> None:
    """Wrong usage is refused with status 2, and one message that names it."""
    cases = [
        (("--payload", "lots"), "'lots' is no size"),
        (("--payload", "1G"), "too large: give 128 MiB at most"),
        (("--chunk", "auto,0"), "'0' is no chunk size; write a number from 1 on, or auto"),
        (("--seconds", "1"), "1 s are too few for 9 measurements: give 1.8 at least"),
        (("--workers", "0"), "--workers 0 leaves nobody to work; add --bind URL"),
        (("--workers", "1", "--wait-workers", "2"), "--wait-workers 2 can't come true with 1 workers"),
        (("--bind", f"{LOCAL}:0", "--transport", "tcp"), "--transport tcp is for workers of this machine"),
        (("--bind", "tcp://0.0.0.0:0"), "or add --insecure"),
        (("--curve", "--insecure"), "--curve makes a key of its own"),
    ]
    found = zpipe.forked(*(("bench", *args) for args, _ in cases))
    for (args, said), (status, out, err) in zip(cases, found, strict=True):
        assert (status, out) == (2, ""), args
        assert said in err, args
