"""Keys as a user has them: made by a command, found by themselves, refused with a reason, replaced without a stop."""

from __future__ import annotations

import contextlib
import resource
import socket
import stat
from pathlib import Path

import pytest
from process.tools import LINUX, LOCAL, Zpipe, free_port, values, wait_until

ANY = "tcp://0.0.0.0"


@pytest.fixture
def home(zpipe: Zpipe, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the default key of all nodes is."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(zpipe.folder / "home"))
    return zpipe.folder / "home" / "zpipe" / "key"


def words(path: Path) -> list[str]:
    """The keys of a file as they are written there."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def shown(zpipe: Zpipe, secret: str) -> list[str]:
    """Where the key can be seen that should not: output, command lines, environments."""
    assert zpipe.anew, "else the system shows nothing of the kind"
    seen = [name for node in zpipe.nodes for name in (node.out, node.err) if secret in name]
    for pid in zpipe.left() if LINUX else ():
        for name in ("cmdline", "environ"):
            try:
                text = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            if secret.encode() in text:
                seen.append(f"{pid} {name}")
    return seen


@pytest.mark.skipif(not LINUX, reason="the default place is another one there")
def test_a_job_whose_key_is_found_by_itself(zpipe: Zpipe, home: Path) -> None:
    """One command, and every address may be bound; nobody else gets in, and either side says why within seconds."""
    zpipe.anew = True  # for their command lines
    made = zpipe.run("keygen")
    assert str(home) in made.err
    assert stat.S_IMODE(home.stat().st_mode) == 0o600
    secret = words(home)[0][12:]
    port = free_port()
    job = ("jobs:double", "--range", "0:50", "--bind", f"{ANY}:{port}")
    ventilator = zpipe.start("ventilator", *job)
    ventilator.said("listening", f"zpipe sink tcp://{_host()}:{port} --bind tcp://0.0.0.0:5558 --output FILE")
    ventilator.said(f"zpipe worker tcp://{_host()}:{port} (on hosts that have the key, {home})")
    url = f"{LOCAL}:{port}"
    sink = zpipe.start("sink", url, "--bind", f"{ANY}:0")
    sink.said("joined")
    zpipe.run("keygen", "other")
    other = zpipe.start("worker", url, "--slots", "1", "--key-file", "other")
    bare = zpipe.start("worker", url, "--slots", "1", "--insecure")
    stray = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--key-file", "other")
    assert "has another key than other" in other.ended(1).err
    assert "wants a key, and there is none here" in bare.ended(1).err
    assert "has another key than other" in stray.ended(1).err
    ventilator.said("turned away", "at the control port: it has another key", "it has no key")
    worker = zpipe.start("worker", url, "--slots", "2")
    seen = shown(zpipe, secret)
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values(sink.out) == [2 * n for n in range(50)]
    assert seen + shown(zpipe, secret) == []


def _host() -> str:
    import platform

    return platform.node()


def test_the_key_of_the_environment_and_local_workers(zpipe: Zpipe) -> None:
    """`zpipe run --bind` hands its key to its own workers through a pipe; remote ones get it from a variable."""
    zpipe.run("keygen", "key")
    zpipe.write("parties", 2)
    zpipe.anew = True  # for their command lines
    job = ("jobs:met", "--range", "0:30", "--chunk", "1", "--expect-workers", "2", "--workers", "1")
    node = zpipe.start("run", *job, "--bind", f"{ANY}:0", ZPIPE_KEY_FILE="key")
    line = node.said("listening; start workers with: zpipe worker tcp://", f" --key-file {zpipe.folder}/key")
    url = line.partition("zpipe worker ")[2].split()[0]
    worker = zpipe.start("worker", url, "--slots", "1", ZPIPE_KEY_FILE="key")
    assert shown(zpipe, words(zpipe.folder / "key")[0][12:]) == []
    node.ended(0)
    worker.ended(0)
    assert len(set(values(node.out))) == 2


def test_a_ventilator_without_a_key(zpipe: Zpipe) -> None:
    """One that was started with --insecure is named by both sides; --insecure joins it though there is a key."""
    zpipe.run("keygen", "key")
    ventilator = zpipe.start("ventilator", "jobs:same", "--range", "0:3", "--bind", f"{ANY}:0", "--insecure")
    ventilator.said("warning: there is no key (--insecure): whoever can reach", " --insecure")
    url = ventilator.url()

    def told() -> bool:
        """Which of the two gets to know that the other has hung up is chance; the worker finds out in any case."""
        worker = zpipe.start("worker", url, "--slots", "1", "--key-file", "key")
        assert "has no key: it was started with --insecure" in worker.ended(1).err
        return "turned away" in ventilator.err

    wait_until(told, "the ventilator's word")
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--insecure", ZPIPE_KEY_FILE="key")
    zpipe.run("worker", url, "--slots", "1", "--insecure", ZPIPE_KEY_FILE="key")
    ventilator.ended(0)
    assert values(sink.ended(0).out) == [0, 1, 2]


def test_a_key_is_replaced_without_a_stop(zpipe: Zpipe) -> None:
    """While a file has two keys, nodes with the old file and with the new one join alike; then only the latter do."""
    zpipe.run("keygen", "old")
    (zpipe.folder / "new").write_bytes((zpipe.folder / "old").read_bytes())
    (zpipe.folder / "new").chmod(0o600)
    assert "has 2 keys now" in zpipe.run("keygen", "new", "--rotate").err
    assert words(zpipe.folder / "new")[1:] == words(zpipe.folder / "old")

    def job(at: str, *workers: str) -> None:
        zpipe.write("parties", len(workers))
        (zpipe.folder / "met").unlink(missing_ok=True)
        run = ("jobs:met", "--range", "0:30", "--chunk", "1", "--expect-workers", str(len(workers)))
        ventilator = zpipe.start("ventilator", *run, "--bind", f"{LOCAL}:0", "--key-file", at)
        url = ventilator.url()
        nodes = [zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--key-file", workers[0])]
        nodes += [zpipe.start("worker", url, "--slots", "1", "--key-file", name) for name in workers]
        for node in (ventilator, *nodes):
            node.ended(0)
        assert len(set(values(nodes[0].out))) == len(workers)

    job("new", "old", "new")
    job("old", "new", "old")
    (zpipe.folder / "newest").write_bytes((zpipe.folder / "new").read_bytes())
    (zpipe.folder / "newest").chmod(0o600)
    zpipe.run("keygen", "newest", "--retire")
    job("newest", "new", "newest")
    ventilator = zpipe.start("ventilator", "jobs:same", "--bind", f"{LOCAL}:0", "--key-file", "newest")
    late = zpipe.start("worker", ventilator.url(), "--slots", "1", "--key-file", "old")
    assert "has another key than old" in late.ended(1).err


def test_a_key_is_pasted(zpipe: Zpipe) -> None:
    """Its text goes in by stdin, never by an argument; the copy is its owner's alone, and is not overwritten."""
    zpipe.run("keygen", "key")
    text = (zpipe.folder / "key").read_text()
    zpipe.run("keygen", "--paste", "copy", text=text)
    assert words(zpipe.folder / "copy") == words(zpipe.folder / "key")
    assert stat.S_IMODE((zpipe.folder / "copy").stat().st_mode) == 0o600
    assert "is there already" in zpipe.run("keygen", "--paste", "copy", text=text, status=2).err
    node = zpipe.run("keygen", "--paste", "cut", text=words(zpipe.folder / "key")[0][:-3], status=2)
    assert "what was pasted, line 1, is no zpipe key, or not a whole one" in node.err
    assert not (zpipe.folder / "cut").exists()
    assert words(zpipe.folder / "key")[0][12:30] not in node.err


def test_keys_that_cant_be_used(zpipe: Zpipe) -> None:
    """Every node says what is wrong with its key file, with status 2 and before it does anything."""
    zpipe.run("keygen", "loose")
    (zpipe.folder / "loose").chmod(0o644)
    (zpipe.folder / "odd").touch(0o600)
    nodes = [
        ("ventilator", "jobs:same", "--range", "3", "--bind", f"{LOCAL}:0"),
        ("run", "jobs:same", "--range", "3", "--bind", f"{LOCAL}:0"),
        ("sink", f"{LOCAL}:1"),
        ("worker", f"{LOCAL}:1"),
    ]
    wrong = {
        "missing": "there is no key file missing; make one with",
        "loose": "chmod 600 loose",
        "odd": "holds no key",
    }
    cases = [((*node, "--key-file", name), said) for node in nodes for name, said in wrong.items()]
    cases.append((("keygen", "--rotate", "missing"), "there is no key file missing"))
    cases.append((("keygen", "--rotate", "--retire", "loose"), "are three things to do"))
    for (args, said), (status, _, err) in zip(cases, zpipe.forked(*(args for args, _ in cases)), strict=True):
        assert (status, said in err) == (2, True), (args, err)


def test_a_sink_with_more_keys(zpipe: Zpipe) -> None:
    """Workers learn from the ventilator which key the sink shows: it may be one that they don't have themselves."""
    for name in ("key", "more"):
        zpipe.run("keygen", name)
    both = f"{words(zpipe.folder / 'key')[0]}\n{words(zpipe.folder / 'more')[0]}\n"
    zpipe.run("keygen", "--paste", "both", text=both)
    ventilator = zpipe.start("ventilator", "jobs:same", "--range", "3", "--bind", f"{LOCAL}:0", "--key-file", "key")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--key-file", "both")
    worker = zpipe.start("worker", url, "--slots", "1", "--key-file", "key")
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values(sink.out) == [0, 1, 2]


def test_a_results_port_that_is_another(zpipe: Zpipe) -> None:
    """A worker that is led to a port with another key says so, and so does that port."""
    for name in ("key", "other"):
        zpipe.run("keygen", name)
    port = free_port()
    elsewhere = zpipe.piped("ventilator", "jobs:same", "--bind", f"{LOCAL}:{port}", "--key-file", "other")
    elsewhere.said("listening")
    ventilator = zpipe.start("ventilator", "jobs:same", "--range", "3", "--bind", f"{LOCAL}:0", "--key-file", "key")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--advertise", f"{LOCAL}:{port}", "--key-file", "key")
    worker = zpipe.start("worker", url, "--slots", "1", "--key-file", "key")
    worker.said("the sink can't be reached at", "it closed the connection, as one does that has another key")
    elsewhere.said("turned away", "it has another key")
    assert sink.process.poll() is None


def test_only_who_has_the_key_steers(zpipe: Zpipe) -> None:
    """A job's state, its pause and its end are for those with its key; others hear why not."""
    for name in ("key", "other"):
        zpipe.run("keygen", name)
    job = zpipe.piped("ventilator", "jobs:same", "--bind", f"{LOCAL}:0", "--key-file", "key")
    url = job.url()
    assert "has another key than other" in zpipe.run("cancel", url, "--key-file", "other", status=1).err
    assert "wants a key" in zpipe.run("cancel", url, status=1).err
    assert "draining" not in zpipe.run("status", url, "--key-file", "key").out
    assert job.process.poll() is None
    zpipe.run("cancel", url, "--key-file", "key")
    job.ended(130)


@pytest.mark.skipif(not LINUX, reason="limits of open files differ")
def test_connections_that_are_opened_and_left(zpipe: Zpipe) -> None:
    """They may take all files there are, but not for ever: the job goes on, and is right."""
    zpipe.run("keygen", "key")
    port = free_port()
    job = ("jobs:nap", "--range", "0:300", "--chunk", "1", "--workers", "1", "--heartbeat", "1", "--key-file", "key")
    few = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))}
    node = zpipe.start("run", *job, "--bind", f"{LOCAL}:{port}", "--raw", "--reduce", "operator:add", popen=few)
    node.said("listening")
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            peer = stack.enter_context(socket.socket())
            peer.setblocking(False)
            peer.connect_ex(("127.0.0.1", port))
        node.ended(0)
    assert node.out.strip() == str(sum(range(300)))
    assert node.err.count("turned away") <= 2
