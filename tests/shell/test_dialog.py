"""The control connection to a ventilator: what is told of it, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from zpipe.core import coding, wire
from zpipe.nodes.dialog import Dialog

SECONDS = 30


class Turns:
    """In place of a loop: has what it would call, to be called by the test."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Callable[[], bool]]] = []

    def add(self, made: Any, call: Callable[[], bool]) -> None:
        """Have one more."""
        self.calls.append((made, call))

    def again(self, made: Any) -> None:
        """Look at it in the next turn: the test does."""

    def remove(self, made: Any) -> None:
        """Have one less."""


@pytest.fixture
def context() -> Iterator[Any]:
    """A context of its own, of which nothing is left."""
    made: Any = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_what_was_said_before_the_connection_was_cut_is_heard_before_its_end(context: Any) -> None:
    """A node that was held up finds both at once: the reason to wait, and that who gave it has gone."""
    turns, heard = Turns(), []
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    dialog = Dialog(
        turns,  # type: ignore[arg-type]
        context,
        f"tcp://127.0.0.1:{port}",
        heartbeat=10.0,
        up=lambda: heard.append("up"),
        down=lambda: heard.append("down"),
        heard=heard.append,
        say=heard.append,
        denied=heard.append,
    )
    (monitor, events), (_, _) = turns.calls
    dialog.connect()
    while "up" not in heard:
        assert monitor.poll(1000 * SECONDS), "no connection"
        events()
    dialog.send(wire.Ask("state"))
    assert router.poll(1000 * SECONDS), "no message"
    identity, _ = router.recv_multipart()
    router.send_multipart([identity, *coding.encode(wire.Hold("another job"))])
    router.close(linger=1000 * SECONDS)
    while "down" not in heard:
        assert monitor.poll(1000 * SECONDS), "no end"
        events()
    assert heard == ["up", wire.Hold("another job"), "down"]
    dialog.close()
