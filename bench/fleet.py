"""Many light workers in one process: they speak the wire protocol, and answer each chunk at once with what it holds.

    python fleet.py URL COUNT SECONDS

Each has a lane and a control connection of its own, as real workers have; where results go they share. `SECONDS` is
how long each says a chunk took it: the ventilator sends long ones one at a time, short ones many ahead.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import zmq

from zpipe.core import coding, wire
from zpipe.net import link
from zpipe.net.loop import Loop
from zpipe.net.versions import our_versions

__all__ = ["Fleet"]

HEARTBEAT = 60.0


class _Light:
    """One of them."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet, self._number = fleet, number
        self.control = link.make_socket(fleet.context, zmq.DEALER, heartbeat=HEARTBEAT)
        fleet.loop.add(self.control, self._on_control)
        self.control.connect(fleet.url)
        join = wire.Join(our_versions(), os.urandom(8).hex(), 1, "fleet", os.getpid(), number)
        link.send(self.control, coding.encode(join))
        self.lane: Any = None
        self._number_of_lane, self._job, self._had = 0, "", 0

    def _on_control(self) -> bool:
        frames = link.receive(self.control)
        if frames is None:
            return False
        message, _ = coding.decode(frames)
        if isinstance(message, wire.Welcome):
            self._job, self._number_of_lane = message.job, message.lane
            self.lane = link.make_socket(self._fleet.context, zmq.PULL, heartbeat=HEARTBEAT)
            self.lane.connect(message.endpoint)
            self._fleet.loop.add(self.lane, self._on_lane)
            self._fleet.answer_to(message.sink)
            link.send(self.control, coding.encode(wire.Ready(message.lane)))
        elif isinstance(message, wire.Recall):
            # What came is answered already: nothing is left to give back.
            link.send(self.control, coding.encode(wire.Returned(self._number_of_lane, self._had, self._had)))
        elif isinstance(message, wire.Bye):
            self._fleet.left += 1
        return True

    def _on_lane(self) -> bool:
        frames = link.receive(self.lane)
        if frames is None:
            return False
        message, payload = coding.decode(frames)
        if isinstance(message, wire.Chunk):
            inside = message.body is not None or message.grains
            self._fleet.send(coding.encode(self._result(message), () if inside else payload))
        elif isinstance(message, wire.Chunks):
            results = wire.Results([self._result(chunk) for chunk in message.chunks])
            self._fleet.send(coding.encode(results))
        return True

    def _result(self, chunk: wire.Chunk) -> wire.Result:
        seconds = self._fleet.seconds * max(1, len(chunk.grains))
        self._had += 1
        about = (self._job, self._number_of_lane, chunk.start, chunk.stop, chunk.attempt, seconds)
        return wire.Result(*about, body=chunk.body, grains=chunk.grains)


class Fleet:
    """All of them."""

    def __init__(self, url: str, count: int, seconds: float) -> None:
        self.url, self.seconds = url, seconds
        self.left = 0
        self.loop, self.context = Loop(), link.make_context()
        self._results: Any = None
        self._there = ""
        self._light = [_Light(self, number) for number in range(count)]

    def answer_to(self, sink: str) -> None:
        """Results go there."""
        if self._results is None:
            self._results = link.make_socket(self.context, zmq.PUSH, heartbeat=HEARTBEAT)
            self._results.connect(sink)

    def send(self, frames: Any) -> None:
        """Send a result."""
        while not link.send(self._results, frames):
            self._results.poll(100, zmq.POLLOUT)  # its connection is not up yet

    def run(self) -> None:
        """Be there until every one of them was told that the job is over."""
        while self.left < len(self._light):
            self.loop.turn(None)


def main(url: str, count: int, seconds: float) -> None:
    """Be a fleet."""
    Fleet(url, count, seconds).run()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
