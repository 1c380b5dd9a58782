"""`zpipe bench`, as a person or a program runs it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from process.tools import LOCAL, Node, Zpipe, free_port


def measured(bench: Callable[[str], Node]) -> Node:
    """Measure for a moment; for long if the machine is so busy that nothing came back, as the message then says."""
    node = bench("0.6")
    if node.end() == 1 and " s: give more --seconds" in node.err:
        node = bench("12")
    return node.ended(0)


def unsaid(node: Node) -> list[str]:
    """What it said, but for waiting for its workers, which a busy machine is slow to start."""
    return [line for line in node.err.splitlines() if not line.startswith("zpipe: waiting for workers: ")]


def test_a_table_and_an_object(zpipe: Zpipe) -> None:
    """On this machine, over Unix sockets or TCP: tables on stdout or an object there, and nothing else anywhere."""
    two, one = ("bench", "--workers", "2", "--payload", "0"), ("bench", "--workers", "1", "--payload", "0")
    one = (*one, "--chunk", "5", "--transport", "tcp", "--insecure", "--json")
    shown = measured(lambda seconds: zpipe.start(*two, "--seconds", seconds))
    told = measured(lambda seconds: zpipe.start(*one, "--seconds", seconds))
    found = json.loads(told.out)
    assert (found["workers"], found["workers_left"], found["lost"]) == (1, 1, 0)
    assert found["endpoint"].startswith("tcp://127.0.0.1:")
    assert [(one["payload"], one["chunk"]) for one in found["throughput"]] == [(0, 5)]
    assert found["throughput"][0]["items_per_second"] > 0
    assert found["round_trips"][0]["p50"] > 0
    for text in ("zpipe ", "2 workers, ipc", "items/s", "p99.9 µs", "results was the right one"):
        assert text in shown.out, text
    assert (unsaid(shown), unsaid(told)) == ([], [])


def test_with_a_key(zpipe: Zpipe) -> None:
    """One that is made for it, and gone afterwards: nothing is warned of, as nobody else gets in."""
    zpipe.anew = True  # as users start it
    job = ("bench", "--workers", "1", "--payload", "0", "--chunk", "5", "--curve", "--json")
    told = measured(lambda seconds: zpipe.start(*job, "--seconds", seconds))
    found = json.loads(told.out)
    assert found["endpoint"].startswith("tcp://127.0.0.1:")
    assert found["endpoint"].endswith(" with a key")
    assert found["throughput"][0]["items_per_second"] > 0
    assert unsaid(told) == []


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_without_pickles(zpipe: Zpipe, codec: str) -> None:
    """Jobs whose items and values are data, over Unix sockets or with a key."""
    job = ("bench", "--workers", "1", "--payload", "0,1K", "--chunk", "7", "--codec", codec, "--json")
    job = (*job, "--curve") if codec == "json" else job
    told = measured(lambda seconds: zpipe.start(*job, "--seconds", seconds if seconds != "0.6" else "2"))
    found = json.loads(told.out)
    assert (
        found["endpoint"]
        == {
            "json": "tcp with a key, items and values as JSON",
            "msgpack": "ipc, items and values as MessagePack",
        }[codec]
    )
    assert (
        [one["payload"] for one in found["throughput"]] == [one["payload"] for one in found["round_trips"]] == [0, 1024]
    )
    for one in found["throughput"]:
        assert (one["chunk"], found["lost"]) == (7, 0)
        assert one["items_per_second"] > 0
    assert all(one["p50"] > 0 for one in found["round_trips"])


def test_workers_that_join(zpipe: Zpipe) -> None:
    """It says how workers join, waits until enough have, measures them, and lets them go."""

    def bench(seconds: str) -> Node:
        url = f"{LOCAL}:{free_port()}"
        node = zpipe.start("bench", "--bind", url, "--wait-workers", "3", "--payload", "0", "--seconds", seconds,
                           "--json", "--insecure")  # fmt: skip
        node.said(f"zpipe: listening; start workers with: zpipe worker {url} --insecure")
        join = ("worker", url, "--insecure", "--slots")
        workers = [zpipe.start(*join, "2")]
        node.said(f"zpipe: waiting for workers: 2 of 3 are ready; start them with: zpipe worker {url} --insecure")
        workers.append(zpipe.start(*join, "1"))
        node.end()
        for worker in workers:
            worker.ended(0)
        return node

    assert json.loads(measured(bench).out)["workers"] == 3


def test_what_cannot_be(zpipe: Zpipe) -> None:
    """Wrong usage is refused with status 2, and one message that names it."""
    cases = [
        (("--payload", "lots"), "'lots' is no size"),
        (("--payload", "1G"), "too large: give 128 MiB at most"),
        (("--chunk", "auto,0"), "'0' is no chunk size; write a number from 1 on, or auto"),
        (("--chunk", "1,300", "--payload", "0,1M"), "a chunk of 300 items of 1 MiB is too large: give 256 MiB in all"),
        (("--chunk", str(10**30), "--payload", "0"), "items of a number is too large"),
        (("--seconds", "nan"), "'nan' is no number"),
        (("--seconds", "inf"), "'inf' is no number"),
        (("--heartbeat", "nan"), "'nan' is no number"),
        (("--heartbeat", "3e6"), "'3e6' is no number up to 1,000,000"),
        (("--wait-workers", str(10**30), "--bind", f"{LOCAL}:0"), "the most there may be"),
        (("--seconds", "1"), "1 s are too few for 9 measurements: give 1.8 at least"),
        (("--workers", "0"), "--workers 0 leaves nobody to work; add --bind URL"),
        (("--workers", "1", "--wait-workers", "2"), "--wait-workers 2 can't come true with 1 workers"),
        (("--bind", f"{LOCAL}:0", "--transport", "tcp"), "--transport tcp is for workers of this machine"),
        (("--bind", "tcp://0.0.0.0:0"), "or add --insecure"),
        (("--codec", "json", "--bind", f"{LOCAL}:0"), "--codec json is for workers of this machine"),
        (("--codec", "json", "--workers", "0"), "--workers 0 leaves nobody to work"),
        (("--curve", "--insecure"), "--curve makes a key of its own"),
    ]
    found = zpipe.forked(*(("bench", *args) for args, _ in cases))
    for (args, said), (status, out, err) in zip(cases, found, strict=True):
        assert (status, out) == (2, ""), args
        assert said in err, args
