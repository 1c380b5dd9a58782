"""Nodes that have the key and send what they were never asked for, to a sink in a process of its own."""

from __future__ import annotations

import contextlib
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
    """They do not count, and stand in the way of nothing that comes later."""
    key = zpipe.folder / "key"
    zpipe.run("keygen", key)
    results = f"{LOCAL}:{free_port()}"
    ventilator = zpipe.piped("ventilator", "jobs:same", "--bind", f"{LOCAL}:0", "--json", "--key-file", key)
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", results, "--output", "out", "--key-file", key)
    zpipe.start("worker", url, "--slots", "1", "--key-file", key)
    ventilator.write("".join(f"{n}\n" for n in range(10)))
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

        wait_until(lambda: state().items == 10, "the first items")
        for start, stop in ((15, 40), (1 << 40, (1 << 40) + 5), ((1 << 62) - 2, (1 << 62) - 1)):
            body = memoryview(f'{{"index":{start},"value":"forged"}}\n'.encode())
            for _ in range(100):
                forger.send_multipart(coding.encode(wire.Result(state().job, 1 << 20, start, stop, 1, 0.1, body=body)))
        ventilator.write("".join(f"{n}\n" for n in range(10, 14)))
        wait_until(lambda: state().items == 14, "the rest")
    ventilator.eof()
    sink.ended(0)
    ventilator.ended(0)
    assert values((zpipe.folder / "out").read_text()) == [str(n) for n in range(14)]
