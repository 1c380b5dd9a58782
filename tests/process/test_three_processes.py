"""Ventilator, workers and sink as processes of their own, over TCP and ipc, in every order of starting and going."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path

from process.tools import LINUX, LOCAL, Node, Zpipe, free_port, values, wait_until

from zpipe.net import endpoints


def test_every_order_of_starting(zpipe: Zpipe) -> None:
    """Whoever comes first waits for the others, over TCP and ipc, and the job ends well for all three."""
    zpipe.anew = True  # as users start them
    for number, order in enumerate(itertools.permutations(("ventilator", "worker", "sink"))):
        tcp = number % 2 == 0
        url = f"{LOCAL}:{free_port()}" if tcp else f"ipc://control{number}"
        bind = f"{LOCAL}:0" if tcp else f"ipc://results{number}"
        args: dict[str, tuple[object, ...]] = {
            "ventilator": ("jobs:double", "--range", "0:50", "--bind", url),
            "worker": (url, "--slots", "2"),
            "sink": (url, "--bind", bind, "--output", f"out{number}"),
        }
        nodes = {}
        for role in order:
            nodes[role] = zpipe.start(role, *args[role])
            if role != order[-1]:
                _settled(nodes[role], role)
        for node in nodes.values():
            node.ended(0)
        assert values((zpipe.folder / f"out{number}").read_text()) == [2 * n for n in range(50)], order
        assert "50 items done" in nodes["ventilator"].err
        assert "50 items done" in nodes["sink"].err
    assert not [path for path in zpipe.folder.iterdir() if path.is_socket()]


def _settled(node: Node, role: str) -> None:
    """Wait until a process has begun, so that the next one really comes after it."""
    if role == "ventilator":
        node.said("listening")
    elif LINUX:
        wait_until(lambda: b"libzmq" in Path(f"/proc/{node.pid}/maps").read_bytes(), "its libraries")


def test_workers_that_join_and_leave_in_mid_job(zpipe: Zpipe) -> None:
    """A second worker gets work as soon as it is there; the first one leaves and nothing is lost or done twice."""
    zpipe.allow(30)
    ventilator = zpipe.start("ventilator", "jobs:noted_nap", "--range", "0:300", "--bind", f"{LOCAL}:0", "--json")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    first = zpipe.start("worker", url, "--slots", "1")
    wait_until(lambda: len(_pids(zpipe)) == 1, "the first worker at work")
    second = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: len(_pids(zpipe)) == 3, "both slots of the second worker at work")
    first.signal(signal.SIGTERM)
    zpipe.allow(300)
    first.ended(0)
    for node in (ventilator, sink, second):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(300))
    assert len(zpipe.noted()) == 300
    told = json.loads(ventilator.out)
    assert (told["workers"], told["lost"], told["duplicates"]) == (3, 0, 0)


def _pids(zpipe: Zpipe) -> set[int]:
    return set(zpipe.task_pids())


def test_a_worker_that_stays(zpipe: Zpipe) -> None:
    """With `--stay` a worker serves one ventilator after the other at its address; SIGTERM ends it well."""
    url = f"{LOCAL}:{free_port()}"
    zpipe.write("parties", 2)
    worker = zpipe.start("worker", url, "--slots", "2", "--stay")
    pids = []
    for number in range(2):
        sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--raw", "--ordered")
        zpipe.run("ventilator", "jobs:met", "--range", f"{number}:6", "--bind", url, "--expect-workers", "2")
        pids.append(set(sink.ended(0).out.split()))
        (zpipe.folder / "met").unlink()
    assert pids[0] == pids[1], "its slots are the same processes all the time"
    assert len(pids[0]) == 2
    assert worker.process.poll() is None
    worker.signal(signal.SIGTERM)
    worker.ended(0)


def test_a_sink_that_dies(zpipe: Zpipe) -> None:
    """Ventilator and workers say that the sink is gone; one that comes in its place can't have what it had."""
    ventilator = zpipe.start("ventilator", "jobs:nap", "--range", "0:100000", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    worker = zpipe.start("worker", url, "--slots", "1")
    wait_until(lambda: sink.out.count("\n") > 10, "the first results")
    sink.kill()
    ventilator.said("sink ", "is gone", "waiting for it to come back")
    # It may have asked for the way to the sink before the ventilator knew.
    told = ("the sink is gone; work goes on when it is back", "the sink is unreachable")
    wait_until(lambda: any(text in worker.err for text in told), "the worker's word")
    other = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    assert "start the job anew, with --journal FILE" in other.ended(1).err
    assert "the sink was started anew" in ventilator.ended(1).err
    assert "failed: the sink was started anew" in worker.ended(1).err


def test_a_second_sink(zpipe: Zpipe) -> None:
    """A job has one sink: another is told which one there is, and waits for its place."""
    ventilator = zpipe.piped("ventilator", "jobs:same", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    worker = zpipe.start("worker", url, "--slots", "1")
    ventilator.write("one\n")
    sink.printed("one")
    other = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    other.said(f"there is a sink already, sink {_host()}/{sink.pid}; a job has one")
    ventilator.write("two\n")
    ventilator.eof()
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values(sink.out) == ["one", "two"]
    assert other.out == ""


def _host() -> str:
    import platform

    return platform.node()


def test_other_workers_join_a_run(zpipe: Zpipe) -> None:
    """`zpipe run --bind` works with its own slots and with those of others that join."""
    url = f"{LOCAL}:{free_port()}"
    zpipe.write("parties", 2)
    job = ("run", "jobs:met", "--range", "0:60", "--bind", url, "--workers", "1", "--expect-workers", "2")
    run = zpipe.start(*job)
    run.said(f"listening; start workers with: zpipe worker {url}")
    worker = zpipe.start("worker", url, "--slots", "1")
    run.ended(0)
    worker.ended(0)
    assert len(values(run.out)) == 60
    assert len(set(values(run.out))) == 2


def test_lane_ports(zpipe: Zpipe) -> None:
    """With `--lane-ports` the lanes are bound to those ports alone; when they are used up the worker is told."""
    low = free_port(3)
    job = ("--range", "0:20", "--bind", f"{LOCAL}:0", "--lane-ports", f"{low}-{low + 2}", "--expect-workers", "2")
    ventilator = zpipe.start("ventilator", "jobs:same", *job)
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--reduce", "operator:add")
    worker = zpipe.start("worker", url, "--slots", "2")
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert sink.out == "190\n"


def test_versions_that_differ(zpipe: Zpipe) -> None:
    """A worker or a sink of another version is refused, with status 1; both versions are named, on both sides."""
    ventilator = zpipe.start("ventilator", "jobs:same", "--range", "0:3", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    worker, sink = ("worker", url, "--slots", "1"), ("sink", url, "--bind", f"{LOCAL}:0")
    for field, other, args, theirs, ours in (
        ("protocol", "99", worker, "it speaks protocol 99 (zpipe ", "this ventilator protocol "),
        ("protocol", "98", sink, "it speaks protocol 98 (zpipe ", "this ventilator protocol "),
        ("python", "3.99", worker, "it runs Python 3.99", "this ventilator Python 3."),
        ("cloudpickle", "0.9", sink, "it runs cloudpickle 0.9", "this ventilator cloudpickle "),
    ):
        text = zpipe.python("other_version.py", field, other, *args).ended(1).err
        assert text.count("refused us") == 1
        assert theirs in text
        assert ours in text
        assert ours in ventilator.said(f"refused {args[0]} ", theirs)
    assert ventilator.process.poll() is None


def test_versions_may_differ_when_that_is_asked_for(zpipe: Zpipe) -> None:
    """With `--mixed-versions` workers of another Python may join; of another protocol never."""
    ventilator = zpipe.start("ventilator", "jobs:same", "--range", "0:3", "--bind", f"{LOCAL}:0", "--mixed-versions")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    refused = zpipe.python("other_version.py", "protocol", "99", "worker", url, "--slots", "1")
    refused.ended(1)
    worker = zpipe.python("other_version.py", "python", "3.99", "worker", url, "--slots", "1")
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values(sink.out) == [0, 1, 2]


def test_a_sink_beside_a_socket_of_the_longest_path(zpipe: Zpipe) -> None:
    """What a node adds to an address of its own making is no reason to refuse what a person typed."""
    control = f"ipc://{'c' * endpoints.IPC_LENGTH}"
    ventilator = zpipe.start("ventilator", "jobs:double", "--range", "0:9", "--bind", control)
    worker = zpipe.start("worker", control)
    sink = zpipe.start("sink", control, "--output", "out")
    for node in (sink, worker, ventilator):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == [2 * item for item in range(9)]
