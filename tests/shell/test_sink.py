"""The sink's shell by itself, with results brought over real sockets."""

from __future__ import annotations

import time

import zmq
from process.tools import wait_until

from zpipe.core import coding, wire
from zpipe.core.horizon import Horizon
from zpipe.net import link
from zpipe.net.loop import Loop
from zpipe.nodes.sink import Sink
from zpipe.output.landing import Landing
from zpipe.output.outputs import NoOutput


def test_a_sink_that_holds_too_much_takes_nothing_more_until_it_is_told() -> None:
    """What comes ahead of the word that it was issued is left where it is, and taken when room has been made."""
    context, loop, asked = link.make_context(), Loop(), list[int]()
    sink = Sink(
        loop, context, Landing(NoOutput("outcomes")), deliver=lambda message: None, say=lambda text, error: None
    )
    pusher = link.make_socket(context, zmq.PUSH, heartbeat=10)
    try:
        collector = sink.collector
        collector.on_job("job", {})
        collector.horizon = horizon = Horizon(most=0)
        sink.ask = asked.append
        sink.bind("tcp://127.0.0.1:0")
        pusher.connect(sink.bound)

        def turn(done: bool) -> bool:
            loop.turn(0.01)
            return done

        for n in range(50):
            made = coding.encode(wire.Result("job", 1, n, n + 1, 1, 0.1, body=memoryview(b"x")))
            wait_until(lambda made=made: turn(link.send(pusher, made)), "the connection")  # type: ignore[misc]
        wait_until(lambda: turn(bool(asked)), "a question")
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            loop.turn(0.01)
        assert (len(horizon._held), collector.counted) == (1, 0)
        sink.on_issued(50, asked[-1])
        wait_until(lambda: turn(collector.counted == 50), "all of them")
        assert (collector.strays, asked) == (0, [1])
    finally:
        pusher.close()
        sink.close()
        loop.close()
        context.term()
