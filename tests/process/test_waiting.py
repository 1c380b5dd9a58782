"""No blind waiting: every node that waits says at once or every few seconds what for, and gives up if told to."""

from __future__ import annotations

import re
import signal
import socket

from process.tools import LOCAL, Node, Zpipe, free_port, values, wait_until


def test_what_nodes_say_while_nothing_happens(zpipe: Zpipe) -> None:
    """Source, workers, sink, ventilator: whoever waits names what is missing, the line to start it, and since when."""
    busy = zpipe.start("run", "jobs:slow", "--range", "0:1000", "--workers", "2", "--chunk", "1")
    silent = zpipe.piped("run", "jobs:same", "--workers", "1")
    url = f"{LOCAL}:{free_port()}"
    lonely = zpipe.start("worker", url, "--slots", "2")
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    alone = zpipe.start("ventilator", "jobs:same", "--range", "0:3", "--bind", f"{LOCAL}:0")
    other = zpipe.start("ventilator", "jobs:noted", "--range", "0:3", "--bind", f"{LOCAL}:0", "--expect-workers", "3")
    at = other.url()
    nodes = [zpipe.start("sink", at, "--bind", f"{LOCAL}:0"), zpipe.start("worker", at, "--slots", "2")]

    for node in (lonely, sink):
        node.said(f"for a ventilator at {url}; it connects as soon as there is one")
    assert len(lonely.err.splitlines()) == len(set(lonely.err.splitlines())), "two slots say the same twice"
    at_alone = alone.url()
    missing = f"no sink has joined yet; start one with: zpipe sink {at_alone} --output FILE"
    wait_until(lambda: alone.err.count(missing) >= 2, "what is said every few seconds")
    other.said(f"2 of the 3 expected workers are here; start more with: zpipe worker {at}")
    silent.said("waiting for the source: no items have come yet")
    line = r"^zpipe: \d+ of 1,000 items \(\d+%\), [1-9][\d.]* items/s, 2 workers, \d:\d\d:\d\d left$"
    wait_until(lambda: re.search(line, busy.err, re.MULTILINE), lambda: f"progress: {busy.err}")
    busy.signal(signal.SIGINT)
    busy.ended(130)
    assert all(text.startswith("zpipe: ") for text in busy.err.splitlines())

    assert not (zpipe.folder / "noted").exists(), "work began before all that were expected had come"
    nodes.append(zpipe.start("worker", at, "--slots", "1"))
    for node in (other, *nodes):
        node.ended(0)
    assert values(nodes[0].out) == [0, 1, 2]
    silent.write("x\n")
    silent.eof().ended(0)


def test_a_worker_is_told_that_there_is_no_sink(zpipe: Zpipe) -> None:
    """A worker that joins before the sink is told so by the ventilator, with the line to start one."""
    ventilator = zpipe.start("ventilator", "jobs:same", "--range", "0:5", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    worker = zpipe.start("worker", url, "--slots", "1")
    worker.said(url, f"no sink has joined yet; start one with: zpipe sink {url} --output FILE")
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    for node in (ventilator, worker, sink):
        node.ended(0)
    assert values(sink.out) == [0, 1, 2, 3, 4]


def test_a_sink_that_workers_cannot_reach(zpipe: Zpipe) -> None:
    """Both ventilator and worker name the address at which there is no sink."""
    ventilator = zpipe.start("ventilator", "jobs:same", "--range", "0:5", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    nowhere = f"{LOCAL}:{free_port()}"
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--advertise", nowhere)
    worker = zpipe.start("worker", url, "--slots", "1")
    worker.said("the sink", nowhere)
    ventilator.said("1 worker", "can't reach", f"the sink at {nowhere}")
    assert sink.process.poll() is None


def test_giving_up(zpipe: Zpipe) -> None:
    """With `--connect-timeout` a node whose ventilator does not come ends with status 1 and one line that says so."""
    url = f"{LOCAL}:{free_port()}"
    worker = zpipe.start("worker", url, "--slots", "3", "--connect-timeout", "0.3")
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--connect-timeout", "0.3", "--output", "out")
    for node in (worker, sink):
        assert node.ended(1).err.count(f"no ventilator answered at {url} for 0.3 s") == 1
        assert len([line for line in unforeseen(node) if "warning: there is no key" not in line]) == 1
    assert not list(zpipe.folder.glob("out*"))


def test_a_sink_taken_for_the_ventilator(zpipe: Zpipe) -> None:
    """Who is sent to a port of another kind is told so, and works as soon as a ventilator is there instead."""
    port = free_port()
    url = f"{LOCAL}:{port}"
    wrong = zpipe.start("sink", f"{LOCAL}:{free_port()}", "--bind", url)
    wait_until(lambda: _listening(port), "the sink's port")
    worker = zpipe.start("worker", url, "--slots", "1")
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    for node in (worker, sink):
        node.said(f"something answers at {url} that is no zpipe ventilator")
    assert wrong.process.poll() is None
    wrong.kill()
    zpipe.run("ventilator", "jobs:same", "--range", "0:3", "--bind", url)
    for node in (worker, sink):
        assert len(unforeseen(node.ended(0))) < 10
    assert values(sink.out) == [0, 1, 2]


def test_a_stranger_at_the_address(zpipe: Zpipe) -> None:
    """What speaks another protocol altogether is dropped with a message, once, and then given up on."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        url = f"{LOCAL}:{stranger.getsockname()[1]}"
        worker = zpipe.start("worker", url, "--slots", "1", "--connect-timeout", "2")
        connection, _ = stranger.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            worker.said(f"a malformed message from {url}")
        assert f"no ventilator answered at {url} for 2 s" in worker.ended(1).err
        assert len(unforeseen(worker)) < 5


def unforeseen(node: Node) -> list[str]:
    """What a node said, but for what it waits for, which it says again every few seconds."""
    return [line for line in node.err.splitlines() if not line.startswith("zpipe: waiting ")]


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
