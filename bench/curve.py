"""What does a key cost? Throughput over TCP with CURVE in parts of that without, for zpipe and for bare pyzmq.

Payloads of random bytes go to one worker on this machine, which gives them back. Through zpipe as the items of a `map`,
in chunks of its own choice; through pyzmq as the messages of a PUSH/PULL chain, so many in flight. Each is run with and
without a key in the same rounds, and the two ratios are compared: zpipe's should not be worse by more than a tenth. On
a machine with other work those say little; the same ratios of processor time, of all processes together, do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import harness
import zmq
from harness import Checked

SIZES = {"100 B": (100, 200_000), "64 KiB": (65_536, 8_000), "1 MiB": (1 << 20, 500)}
"""Bytes of a payload, and how many are sent."""

IN_FLIGHT = 64 << 20
"""Bytes the chain has under way at most, and 1,000 messages."""

OF_RAW = 0.9
"""What zpipe's ratio may be, in parts of bare pyzmq's."""


def payloads(size: int, items: int) -> Iterator[bytes]:
    """Yield random bytes with a number at their end: each its own, or a pickled list would hold them once."""
    head = os.urandom(size - 8)
    for number in range(items):
        yield head + number.to_bytes(8, "big")


def same(payload: bytes) -> bytes:
    """Give it back."""
    return payload


def through_zpipe(size: int, items: int, keyed: bool) -> Checked:
    """A map on a pipeline with one worker."""
    import zpipe
    from zpipe.net import keys

    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        path = Path(folder) / "key"
        keys.create(path)
        how: dict[str, Any] = {"key_file": path} if keyed else {"insecure": True}
        with zpipe.Pipeline(workers=1, bind="tcp://127.0.0.1:0", **how) as pipe:
            list(pipe.map(same, payloads(size, 50)))
            began = time.monotonic()
            total = sum(_number(value, size) for value in pipe.map(same, payloads(size, items)))
            return _checked(total, items, began)


def through_pyzmq(size: int, items: int, keyed: bool) -> Checked:
    """A chain with one worker in a process of its own."""
    ahead = max(8, min(1000, IN_FLIGHT // size))
    context = zmq.Context()
    push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    public, private = zmq.curve_keypair()
    try:
        for made in (push, pull):
            if keyed:
                made.set(zmq.CURVE_SERVER, 1)
                made.set(zmq.CURVE_SECRETKEY, private)
            made.bind("tcp://127.0.0.1:*")
        ends = [made.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode() for made in (push, pull)]
        worker = subprocess.Popen([sys.executable, __file__, "work", *ends, public.decode() if keyed else ""])
        try:
            for payload in payloads(size, 50):
                push.send(payload)
                pull.recv()
            began, total = time.monotonic(), 0
            for sent, payload in enumerate(payloads(size, items)):
                push.send(payload, copy=size < 65_536)
                if sent >= ahead:
                    total += _number(_got(pull, size), size)
            for _ in range(min(ahead, items)):
                total += _number(_got(pull, size), size)
            return _checked(total, items, began)
        finally:
            worker.kill()
            worker.wait()
    finally:
        context.destroy(linger=0)


def _got(pull: Any, size: int) -> Any:
    return pull.recv() if size < 65_536 else pull.recv(copy=False).buffer


def _number(payload: Any, size: int) -> int:
    if len(payload) != size:
        raise SystemExit(f"wrong result: {len(payload)} bytes for {size}")
    return int.from_bytes(payload[-8:], "big")


def _checked(total: int, items: int, began: float) -> Checked:
    if total != items * (items - 1) // 2:
        raise SystemExit("wrong result: the sum of the payloads' numbers is not what it was")
    return Checked(items, time.monotonic() - began)


def work(down: str, across: str, server: str) -> None:
    """Be the chain's worker: until killed."""
    context = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    for made, end in ((push, across), (pull, down)):
        if server:
            public, private = zmq.curve_keypair()
            made.set(zmq.CURVE_PUBLICKEY, public)
            made.set(zmq.CURVE_SECRETKEY, private)
            made.set(zmq.CURVE_SERVERKEY, server.encode())
        made.connect(end)
    while True:
        frame = pull.recv(copy=False)
        push.send(frame, copy=False)


def costed(run: Callable[[], Checked]) -> Checked:
    """Run it and note the processor time that it took, its worker's included."""
    before = harness.busy_here()
    found = run()
    return Checked(found.items, found.seconds, {"cpu": harness.busy_here() - before})


def _cost(run: Checked) -> float:
    """Seconds of a core that an item took."""
    return float(run.more["cpu"]) / run.items


def _verdict(of_raw: float) -> str:
    return "ok" if of_raw >= OF_RAW else f"should be {OF_RAW} at least"


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", share=1.0)
    where = harness.environment()
    rows = [
        ["payload", "pyzmq MB/s", "with CURVE", "ratio", "zpipe MB/s", "with CURVE", "ratio", "ratio / pyzmq's", ""]
    ]
    costs = [
        ["by processor time", "pyzmq ratio", "zpipe ratio", "ratio / pyzmq's", "a key's ms/MB: pyzmq", "zpipe", ""]
    ]
    figures: dict[str, Any] = {}
    noise = []
    for name, (size, items) in SIZES.items():
        count = max(1, int(items * options.share))
        systems: dict[str, Callable[[], Checked]] = {
            f"{system} {kind}": partial(costed, partial(through, size, count, kind == "curve"))
            for system, through in (("pyzmq", through_pyzmq), ("zpipe", through_zpipe))
            for kind in ("plain", "curve")
        }
        rounds = harness.interleave(systems, options)
        noise.append(rounds.noise())
        found: dict[str, Any] = {
            system: {"items_per_second": harness.spread(run.rate for run in runs)}
            for system, runs in rounds.results.items()
        }
        row = [name]
        for system in ("pyzmq", "zpipe"):
            ratio = harness.spread(harness.per_round(*(rounds.results[f"{system} {k}"] for k in ("curve", "plain"))))
            found[f"{system} ratio"] = ratio
            rates = (found[f"{system} {kind}"]["items_per_second"]["median"] for kind in ("plain", "curve"))
            row += [*(f"{rate * size / 1e6:,.1f}" for rate in rates), f"{ratio['median']:.2f}"]
        of_raw = found["zpipe ratio"]["median"] / found["pyzmq ratio"]["median"]
        found["of pyzmq's"] = of_raw
        figures[name] = found
        for system in ("pyzmq", "zpipe"):
            runs = zip(*(rounds.results[f"{system} {kind}"] for kind in ("curve", "plain")), strict=True)
            more = harness.spread(1e9 * (a.more["cpu"] - b.more["cpu"]) / (size * count) for a, b in runs)
            found[f"{system} ms of a key per MB"] = more
            found[f"{system} ratio of processor time"] = harness.spread(
                harness.per_round(*(rounds.results[f"{system} {k}"] for k in ("plain", "curve")), what=_cost)
            )
        rows.append([*row, f"{of_raw:.2f}", _verdict(of_raw)])
        own, raw = (found[f"{system} ratio of processor time"]["median"] for system in ("zpipe", "pyzmq"))
        more = [f"{found[f'{system} ms of a key per MB']['median']:.2f}" for system in ("pyzmq", "zpipe")]
        costs.append([name, f"{raw:.2f}", f"{own:.2f}", f"{own / raw:.2f}", *more, _verdict(own / raw)])
    text = "\n\n".join([harness.table(rows), harness.table(costs), "\n".join(noise)])
    harness.report(options, where, {"payloads": figures, "noise": noise}, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*sys.argv[2:5])
    else:
        main()
