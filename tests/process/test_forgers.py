"""Nodes that have the key and send what they were never asked for, to a sink in a process of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq
from process.tools import LOCAL, PATIENCE, Zpipe, free_port, values, wait_until

from zpipe.core import coding, wire
from zpipe.net import keys, security


@contextlib.contextmanager
def connected(context: Any, kind: int, url: str, key: Path) -> Iterator[Any]:
    """A socket of somebody who has the key."""
    with context.socket(kind) as made:
        made.set(zmq.LINGER, 0)
        security.approach(made, url, keys.load(key))
        made.connect(url)
        yield made


def test_results_of_what_was_never_issued(zpipe: Zpipe) -> None:
    """They do not count, not even once there are such items, and stand in the way of nothing that comes later."""
    key = zpipe.folder / "key"
    zpipe.run("keygen", key)
    results = f"{LOCAL}:{free_port()}"
    ventilator = zpipe.piped("ventilator", "jobs:same", "--bind", f"{LOCAL}:0", "--json", "--key-file", key)
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", results, "--output", "out", "--key-file", key)
    zpipe.start("worker", url, "--slots", "1", "--key-file", key)
    forged = [*((n, n + 1) for n in range(30, 60)), (35, 60), (1 << 40, (1 << 40) + 5), ((1 << 62) - 2, (1 << 62) - 1)]
    with (
        zmq.Context() as context,
        connected(context, zmq.DEALER, url, key) as asker,
        connected(context, zmq.PUSH, results, key) as forger,
    ):

        def state() -> wire.State:
            asker.send_multipart(coding.encode(wire.Ask("status")))
            assert asker.poll(PATIENCE * 1000)
            found, _ = coding.decode(asker.recv_multipart())
            assert isinstance(found, wire.State)
            return found

        def run(start: int, stop: int) -> None:
            ventilator.write("".join(f"{n}\n" for n in range(start, stop)))
            wait_until(lambda: state().items == stop, lambda: f"{stop} items, not {state().items}")

        run(0, 10)
        for start, stop in forged:
            body = memoryview(f'{{"index":{start},"value":"forged"}}\n'.encode())
            for _ in range(20):
                forger.send_multipart(coding.encode(wire.Result(state().job, 1 << 20, start, stop, 1, 0.1, body=body)))
        forger.send(b"the last word")
        sink.said("it sent what no worker sends")  # so all before it has been taken
        for start in range(10, 30, 5):  # at each turn a question is answered before the receipts that come behind it
            run(start, start + 5)
        run(30, 80)
    ventilator.eof()
    sink.ended(0)
    ventilator.ended(0)
    assert values((zpipe.folder / "out").read_text()) == [str(n) for n in range(80)]
    assert json.loads(ventilator.out)["strays"] == 20 * len(forged)
