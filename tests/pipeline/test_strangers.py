"""Attacks on a pipeline that has a key, over real sockets. Nobody hears strangers, and sums are right whatever they do.

Each of them has a counterpart with the right key that gets through, so that a defence that is gone is noticed.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chores
import pytest
import zmq
from attacks import raw
from process.tools import PATIENCE, wait_until

import zpipe
from zpipe import serialize
from zpipe.core import coding, wire
from zpipe.errors import UsageError
from zpipe.net import keys, link, security
from zpipe.net.loop import Loop
from zpipe.net.versions import our_versions

Dress = Callable[[Any], None]
"""What makes a socket a peer of a kind."""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file."""
    path = tmp_path_factory.mktemp("keys") / "key"
    keys.create(path)
    return path


@pytest.fixture(scope="module")
def fort(key: Path, mark: str) -> Iterator[zpipe.Pipeline]:
    """A pipeline with that key, at a TCP address."""
    with zpipe.Pipeline(workers=1, bind="tcp://127.0.0.1:0", key_file=key) as made:
        wait_until(lambda: made.workers == 1, "its worker")
        yield made


@pytest.fixture
def context() -> Iterator[Any]:
    """A stranger's sockets, closed at the end."""
    made = zmq.Context()
    yield made
    while OPEN:
        OPEN.pop().close(0)
    made.destroy(linger=0)


OPEN: list[Any] = []


def held(path: Path) -> keys.Keys:
    """The keys of a file."""
    found = keys.load(path)
    assert found is not None
    return found


def plain(made: Any) -> None:
    """Somebody without a key."""


def with_key(path: Path) -> Dress:
    """Somebody with the key of a file."""
    return lambda made: security.approach(made, "tcp://", held(path))


def other_key(tmp_path: Path) -> Dress:
    """Somebody with the key of another pipeline."""
    keys.create(tmp_path / "other")
    return with_key(tmp_path / "other")


def half_key(path: Path) -> Dress:
    """Somebody who has learnt the public key of those that bind, and has a pair of his own."""

    def dress(made: Any) -> None:
        public, private = zmq.curve_keypair()
        made.set(zmq.CURVE_PUBLICKEY, public)
        made.set(zmq.CURVE_SECRETKEY, private)
        made.set(zmq.CURVE_SERVERKEY, security._pair(held(path).secrets[0], b"binds")[0])

    return dress


def ports(pipe: zpipe.Pipeline) -> dict[str, str]:
    """Where a pipeline listens."""
    engine = pipe._engine
    results = engine._sink.bound
    lanes = {f"lane {number}": lane.endpoint for number, lane in engine._ventilator._lanes.open.items()}
    return {"control": engine._ventilator.bound, "results": results, **lanes}


def shake(context: Any, kind: int, url: str, dress: Dress) -> tuple[Any, bool]:
    """Connect a socket; return it, and whether the other side takes it."""
    made = context.socket(kind)
    dress(made)
    monitor = made.get_monitor_socket(link.UP | link.FAILED)
    OPEN.extend((monitor, made))
    made.connect(url)
    assert monitor.poll(PATIENCE * 1000), f"{url} neither takes nor refuses us"
    event = struct.unpack_from("=H", monitor.recv_multipart()[0])[0]
    return made, event == link.UP


def join_message() -> wire.Join:
    """The join of a worker that fits."""
    return wire.Join(our_versions(), "session", 1, "stranger", 1, 0)


def exact(pipe: zpipe.Pipeline) -> None:
    """Assert that the pipeline is at work, and right."""
    assert sum(pipe.map(chores.double, range(500))) == 2 * sum(range(500))


STRANGERS: dict[str, Callable[[Path, Path], Dress]] = {
    "no key": lambda key, tmp_path: plain,
    "another key": lambda key, tmp_path: other_key(tmp_path),
    "half a key": lambda key, tmp_path: half_key(key),
}


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_get_no_handshake(fort: zpipe.Pipeline, key: Path, tmp_path: Path, context: Any, who: str) -> None:
    """At no port, of whatever socket; whoever has the key gets one."""
    dress = STRANGERS[who](key, tmp_path)
    kinds = {"control": zmq.DEALER, "results": zmq.PUSH}
    for port, url in ports(fort).items():
        assert not shake(context, kinds.get(port, zmq.PULL), url, dress)[1], port
    for port in ("control", "results"):
        assert shake(context, kinds[port], ports(fort)[port], with_key(key))[1], port
    exact(fort)


def test_every_port_wants_a_key(fort: zpipe.Pipeline) -> None:
    """What each listening socket says first names CURVE as its mechanism."""
    assert set(map(link.mechanism, ports(fort).values())) == {"CURVE"}
    with zpipe.Pipeline(workers=0, bind="tcp://127.0.0.1:0") as bare:
        assert set(map(link.mechanism, ports(bare).values())) == {"NULL"}


def test_a_lane_without_a_key_is_for_its_worker_alone(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else gets a chunk by connecting to it, or has the worker lose it; whoever was told the ticket does."""
    with zpipe.Pipeline(workers=1, bind="tcp://127.0.0.1:0", insecure=True) as bare:
        wait_until(lambda: bare.workers == 1, "its worker")
        ventilator = bare._engine._ventilator
        (lane,) = ventilator._lanes.open.values()
        other = ventilator._lanes.bind(77, ventilator.bound)

        def shows(ticket: str) -> Dress:
            return lambda made: security.approach(made, "tcp://", None, ticket=ticket)

        for dress in (plain, shows("x"), shows(other.ticket), shows("")):
            assert not shake(context, zmq.PULL, lane.endpoint, dress)[1]
        assert shake(context, zmq.PULL, other.endpoint, shows(other.ticket))[1]
        exact(bare)
        assert ventilator.director.counts.joined == 1
        assert list(ventilator._lanes.open.values()) == [lane, other]
        wait_until(lambda: security.STRAY in caplog.text, lambda: caplog.text)
        assert lane.ticket not in caplog.text
        ventilator._lanes.close(77)


def test_each_side_says_why(key: Path, tmp_path: Path, context: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Which peer was turned away, from which port and for what is in the log, once, and the key is not."""
    with zpipe.Pipeline(workers=0, bind="tcp://127.0.0.1:0", key_file=key) as pipe:
        for dress in (plain, other_key(tmp_path), half_key(key)):
            for _ in range(20):
                assert not shake(context, zmq.DEALER, ports(pipe)["control"], dress)[1]
        wanted = ("it has no key", "it has another key", "it has a key of its own")
        wait_until(lambda: all(said in caplog.text for said in wanted), lambda: caplog.text)
    for said in wanted:
        assert caplog.text.count(said) <= 2, caplog.text  # at first the peer's address may not be known
    assert f"copy {key} there" in caplog.text
    assert all(line not in caplog.text for line in key.read_text().splitlines())


def test_a_peer_with_a_key_at_a_port_without(key: Path, context: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is turned away too, and both ways out are named: which of the two sides gets to know it is chance."""
    with zpipe.Pipeline(workers=0, bind="tcp://127.0.0.1:0", insecure=True) as bare:
        url = ports(bare)["control"]

        def told() -> bool:
            assert not shake(context, zmq.DEALER, url, with_key(key))[1]
            return "it has a key, and there is none here" in caplog.text

        wait_until(told, lambda: caplog.text)
        assert shake(context, zmq.DEALER, url, plain)[1]


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.SUB, zmq.PAIR, zmq.PULL])
def test_sockets_of_the_wrong_kind(fort: zpipe.Pipeline, key: Path, context: Any, kind: int) -> None:
    """Even with the key: nothing but a DEALER (or REQ) talks to the control port, nothing but a PUSH to results."""
    for port, right in (("control", zmq.DEALER), ("results", zmq.PUSH)):
        if kind != right:
            assert not shake(context, kind, ports(fort)[port], with_key(key))[1], port
    exact(fort)


def test_only_the_sink_gives_receipts(fort: zpipe.Pipeline, key: Path, context: Any, gate: str) -> None:
    """A worker's receipts, and its word that all is finished, are no more than noise."""
    director = fort._engine._ventilator.director
    ledger = director.ledger
    call = fort.submit(chores.held, gate)
    wait_until(lambda: ledger.in_flight == 1, "the call to be sent")
    before = ledger.account.done
    forger, taken = shake(context, zmq.DEALER, ports(fort)["control"], with_key(key))
    assert taken
    forged = wire.Receipt(ledger.next - 1, ledger.next, 1, 0.0, 0, 1)
    forger.send_multipart(coding.encode(wire.Receipts(director.job, [forged])))
    forger.send_multipart(coding.encode(wire.Finished(director.job, 1, 0)))
    forger.send_multipart(coding.encode(join_message()))
    assert forger.poll(PATIENCE * 1000), "no answer to what came last"
    assert (ledger.in_flight, ledger.account.done) == (1, before)
    Path(gate).touch()
    assert call.exception(PATIENCE) is None
    exact(fort)


def test_results_of_an_earlier_job_do_not_count(fort: zpipe.Pipeline, key: Path, context: Any, gate: str) -> None:
    """The same key, the same range, even the same port: what was sent for another job is dropped and counted."""
    with zpipe.Pipeline(workers=0, bind="tcp://127.0.0.1:0", key_file=key) as earlier:
        old = earlier._engine._ventilator.director.job
    collector, ledger = fort._engine._sink.collector, fort._engine._ventilator.ledger
    assert old != collector.job
    assert len(collector.job) >= 16
    call = fort.submit(chores.held, gate)
    wait_until(lambda: ledger.in_flight == 1, "the call to be sent")
    strays, counted = collector.strays, collector.counted
    replayer, taken = shake(context, zmq.PUSH, ports(fort)["results"], with_key(key))
    assert taken
    body = memoryview(serialize.dumps(["forged"])[0])
    replayer.send_multipart(
        coding.encode(wire.Result(old, 1, ledger.next - 1, ledger.next, 1, 0.1, body=body))  # type: ignore[arg-type]
    )
    wait_until(lambda: collector.strays == strays + 1, "the replayed result")
    assert collector.counted == counted
    Path(gate).touch()
    assert call.result(PATIENCE) != "forged"
    exact(fort)


class Tap:
    """Stands between two sockets and keeps what goes by."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard = b""
        self.parts: list[tuple[bool, bytes]] = []
        """What went by, piece by piece, and whether it came from the side that connected."""

    def run(self, done: Callable[[], bool]) -> None:
        """Pass on what comes, both ways, until all is done."""
        near, _ = self._listener.accept()
        with self._listener, near, socket.create_connection(self._target) as far:
            near.settimeout(0.02)
            far.settimeout(0.02)
            deadline = time.monotonic() + PATIENCE
            while not done():
                assert time.monotonic() < deadline, "waited in vain"
                for one, other in ((near, far), (far, near)):
                    try:
                        data = one.recv(65_536)
                    except TimeoutError:
                        continue
                    self.heard += data
                    self.parts.append((one is near, data))
                    other.sendall(data)


@pytest.mark.parametrize("keyed", [True, False])
def test_whoever_listens_learns_nothing(key: Path, context: Any, keyed: bool) -> None:
    """What goes over the wire has the payload in it without a key, and does not with one."""
    secret = b"the payload of a chunk " * 20
    loop = Loop()
    guard = security.Guard(loop, context, held(key) if keyed else None, lambda text, error: None)
    pull = link.make_socket(context, zmq.PULL, heartbeat=10)
    guard.serve(pull, "tcp://")
    tap = Tap(link.bind(pull, "tcp://127.0.0.1:*"))
    push = link.make_socket(context, zmq.PUSH, heartbeat=10)
    security.approach(push, tap.url, held(key) if keyed else None)
    push.connect(tap.url)
    got: list[Any] = []

    def done() -> bool:
        loop.turn(0)
        if not got and not link.send(push, [secret]):
            return False
        got.extend(link.receive(pull) or [])
        return bool(got)

    tap.run(done)
    OPEN.extend((push, pull))
    assert got[0] == secret
    assert (secret[:40] in tap.heard) is not keyed
    assert all(line.encode() not in tap.heard for line in key.read_text().splitlines())
    guard.close()
    loop.close()


@pytest.mark.parametrize("keyed", [True, False])
def test_what_was_heard_can_not_be_said_again(key: Path, context: Any, keyed: bool) -> None:
    """Every byte of a connection, sent once more, is one more message without a key, and nothing with one."""
    loop = Loop()
    guard = security.Guard(loop, context, held(key) if keyed else None, lambda text, error: None)
    pull = link.make_socket(context, zmq.PULL, heartbeat=10)
    guard.serve(pull, "tcp://")
    url = link.bind(pull, "tcp://127.0.0.1:*")
    tap, push = Tap(url), link.make_socket(context, zmq.PUSH, heartbeat=10)
    security.approach(push, tap.url, held(key) if keyed else None)
    push.connect(tap.url)
    sent = False

    def came() -> bool:
        nonlocal sent
        loop.turn(0)
        sent = sent or link.send(push, [b"a result"])
        return link.receive(pull) == [b"a result"]

    events: list[int] = []
    watch = link.Watch(loop, pull, events.append, lambda host, fault: None)
    tap.run(came)
    with raw.connect(url) as replayer:
        replayer.settimeout(0.01)
        answer, due, message = b"", 0, False

        def over() -> bool:
            nonlocal answer, message
            loop.turn(0)
            message = message or link.receive(pull) == [b"a result"]
            with contextlib.suppress(OSError):
                answer += replayer.recv(65_536)
            return message or link.FAILED in events

        for ours, data in tap.parts:  # each when it is its turn, as the first one did
            if ours:
                with contextlib.suppress(OSError):
                    replayer.sendall(data)
            else:
                due += len(data)
                wait_until(lambda due=due: over() or len(answer) >= due, "an answer")  # type: ignore[misc]
        wait_until(over, "an end of the handshake")
        assert (message, link.FAILED in events) == (not keyed, keyed)
    push.close()
    watch.close()
    guard.close()
    loop.close()


def test_no_answer_is_no_entry(key: Path, context: Any) -> None:
    """With nobody to say who may in, as after an oversight, nobody gets in, the key's holders included."""
    loop = Loop()
    guard = security.Guard(loop, context, held(key), lambda text, error: None)
    guard.close()
    pull = link.make_socket(context, zmq.PULL, heartbeat=10)
    guard.serve(pull, "tcp://")
    url = link.bind(pull, "tcp://127.0.0.1:*")
    made = context.socket(zmq.PUSH)
    with_key(key)(made)
    watched = pull.get_monitor_socket(link.UP | link.FAILED)
    OPEN.extend((made, watched, pull))
    made.connect(url)
    assert watched.poll(PATIENCE * 1000)
    assert struct.unpack_from("=H", watched.recv_multipart()[0])[0] & link.FAILED
    loop.close()


def test_a_key_of_another_user_file_is_refused(key: Path, tmp_path: Path) -> None:
    """A pipeline whose key others can read does not start, nor one whose key is not there."""
    loose = tmp_path / "loose"
    keys.create(loose)
    loose.chmod(0o644)
    for path in (loose, tmp_path / "missing"):
        with pytest.raises(UsageError, match="key file"):
            zpipe.Pipeline(workers=1, bind="tcp://127.0.0.1:0", key_file=path)


def test_a_key_opens_the_network(key: Path) -> None:
    """With one, any address may be bound, and no word by name is needed."""
    with zpipe.Pipeline(workers=1, bind="tcp://0.0.0.0:0", key_file=key) as pipe:
        exact(pipe)


def test_results_that_nobody_asked_for(fort: zpipe.Pipeline, key: Path, context: Any) -> None:
    """A worker may send what it likes: what was never sent out does not count, and what is no result cuts it off."""
    collector, ledger = fort._engine._sink.collector, fort._engine._ventilator.ledger
    pusher, taken = shake(context, zmq.PUSH, ports(fort)["results"], with_key(key))
    assert taken
    strays, counted = collector.strays, collector.counted
    body = memoryview(serialize.dumps(["forged"])[0])
    for start, stop in ((ledger.next, ledger.next + 1), (0, 2**62 - 1), (2**61, 2**61 + 1)):
        forged = wire.Result(collector.job, 1, start, stop, 1, 0.1, body=body)
        pusher.send_multipart(coding.encode(forged))  # type: ignore[arg-type]
    wait_until(lambda: collector.strays == strays + 3, "the forged results")
    for garbage in ([b"garbage", b"", b"x" * 1000], [b"\x91" * 100_000], coding.encode(join_message())):
        pusher, taken = shake(context, zmq.PUSH, ports(fort)["results"], with_key(key))
        gone = departures(pusher)
        pusher.send_multipart(garbage)
        assert gone(), "it is still connected"
    assert collector.counted == counted
    exact(fort)


def departures(made: Any) -> Callable[[], bool]:
    """Return what waits until this socket's connection is cut."""
    watched = made.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    return lambda: bool(watched.poll(PATIENCE * 1000))


def test_who_babbles_at_the_control_port_is_refused_once(fort: zpipe.Pipeline, key: Path, context: Any) -> None:
    """He hears why, and nothing any more."""
    babbler, taken = shake(context, zmq.DEALER, ports(fort)["control"], with_key(key))
    assert taken
    gone = departures(babbler)
    for frames in ([b"x"], [b""], [b"\x91" * 100_000], [b"\xc1"], coding.encode(join_message())):
        babbler.send_multipart(frames)
    assert babbler.poll(PATIENCE * 1000)
    message, _ = coding.decode(babbler.recv_multipart())
    assert isinstance(message, wire.Refuse)
    assert gone(), "it is still connected"
    other, taken = shake(context, zmq.DEALER, ports(fort)["control"], with_key(key))
    assert taken
    other.send_multipart(coding.encode(join_message()))
    assert other.poll(PATIENCE * 1000), "a join by another connection is heard"
    assert not babbler.poll(0)
    exact(fort)


def test_a_frame_of_two_gigabytes_is_cut_off_when_it_is_announced(key: Path) -> None:
    """At every port, before the handshake: nobody waits for it, nor makes room."""
    with zpipe.Pipeline(workers=1, bind="tcp://127.0.0.1:0", key_file=key, heartbeat=300.0) as pipe:
        wait_until(lambda: pipe.workers == 1, "its worker")
        for port, url in ports(pipe).items():
            host, _, number = url.removeprefix("tcp://").rpartition(":")
            with socket.create_connection((host, int(number)), PATIENCE) as peer:
                greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
                peer.sendall(greeting + b"\x06" + struct.pack(">Q", 2 << 30))
                peer.settimeout(PATIENCE)
                try:
                    while peer.recv(65_536):
                        pass
                except ConnectionResetError:
                    pass
                except TimeoutError:
                    raise AssertionError(f"the {port} port waits for two gigabytes") from None
        exact(pipe)
