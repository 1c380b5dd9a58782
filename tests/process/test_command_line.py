"""The command line's manners: help that teaches, versions, completion, the environment, and what goes to stderr."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import threading

from process.tools import LOCAL, Zpipe, free_port

import zpipe as package

COMMANDS = ("run", "ventilator", "worker", "sink", "status", "pause", "unpause", "cancel", "bench")
STEERING = ("status", "pause", "unpause", "cancel")


def test_help_teaches_by_example(zpipe: Zpipe) -> None:
    """`--help` of each command says what it does, explains every option and shows the command at work."""
    for command, (status, text, _) in zip(
        COMMANDS, zpipe.forked(*((name, "--help") for name in COMMANDS)), strict=True
    ):
        assert status == 0
        assert f"Usage: zpipe {command} " in text
        assert f"zpipe {command} " in text.partition("Examples:")[2]
        options = text.partition("Options:")[2].partition("Examples:")[0]
        assert command in STEERING or "--heartbeat" in re.findall(r"^  (?:-\S, )?(--[a-z-]+)", options, re.MULTILINE)
        starts = [match.start() for match in re.finditer(r"^  -", options, re.MULTILINE)]
        for start, stop in zip(starts, [*starts[1:], None], strict=True):
            assert len(options[start:stop].split()) > 3, options[start:stop]


def test_the_help_of_all(zpipe: Zpipe) -> None:
    """`zpipe --help` names the commands, examples, exit statuses and how completion is had; -h is the same."""
    (_, text, _), (_, short, _), *versions = zpipe.forked(("--help",), ("-h",), ("--version",), ("-V",))
    for word in (*COMMANDS, "Examples:", "Exit status", "_ZPIPE_COMPLETE=bash_source", "ZPIPE_"):
        assert word in text, word
    assert short == text
    assert versions == [(0, f"zpipe {package.__version__}\n", "")] * 2


def test_what_does_not_exist(zpipe: Zpipe) -> None:
    """An unknown command, option or number is told, with the known ones or the nearest, and the status is 2."""
    cases = [
        (("rum",), "'rum'", "run, ventilator, worker, sink"),
        (("run", "--worker", "3", "jobs:same"), "--worker", "--workers"),
        (("run", "--workers", "many", "jobs:same"), "'many'", "--workers"),
        (("run", "--retries", str(10**30), "jobs:same"), str(10**30), "--retries"),
        *(
            (("run", option, number, "jobs:same"), f"'{number}'", option)
            for option in ("--timeout", "--heartbeat", "--retry-delay", "--retry-max-delay", "--burst")
            for number in ("nan", "inf")
        ),
    ]
    for (args, *said), (status, out, err) in zip(cases, zpipe.forked(*(args for args, *_ in cases)), strict=True):
        assert (status, out) == (2, ""), args
        assert all(text in err for text in said), args


def test_completion(zpipe: Zpipe) -> None:
    """The script for bash is printed, and what it asks for, commands and options, is answered."""
    node = zpipe.run(_ZPIPE_COMPLETE="bash_source")
    assert "complete -o nosort -F _zpipe_completion zpipe" in node.out
    assert subprocess.run(["bash", "-n"], input=node.raw, timeout=300).returncode == 0
    node = zpipe.run(_ZPIPE_COMPLETE="bash_complete", COMP_WORDS="zpipe ", COMP_CWORD="1")
    assert {line.partition(",")[2] for line in node.out.split()} >= set(COMMANDS)
    node = zpipe.run(_ZPIPE_COMPLETE="bash_complete", COMP_WORDS="zpipe run --ra", COMP_CWORD="2")
    assert {line.partition(",")[2] for line in node.out.split()} >= {"--range", "--raw"}


def test_options_from_the_environment(zpipe: Zpipe) -> None:
    """ZPIPE_ and an option's name is that option; what the command line says goes before it."""
    env = {"ZPIPE_WORKERS": "1", "ZPIPE_QUIET": "1", "ZPIPE_ORDERED": "1", "ZPIPE_RANGE": "0:3"}
    node = zpipe.run("run", "jobs:same", **env, ZPIPE_REDUCE="operator:add", ZPIPE_INITIAL="4")
    assert (node.out, node.err) == ("7\n", "")
    node = zpipe.run(
        "run", "jobs:same", "--range", "5:6", **env, ZPIPE_FORMAT="raw", ZPIPE_OUTPUT="out", ZPIPE_JSON="1"
    )
    assert json.loads(node.out)["done"] == 1
    assert (zpipe.folder / "out").read_text() == "5\n"
    more = {"ZPIPE_COMMAND": "echo {} | cat", "ZPIPE_GLOB": "jobs.*", "ZPIPE_RAW": "true", "ZPIPE_SHELL": "1"}
    assert zpipe.run("run", "--quiet", **more).out == "jobs.py\n"


def test_the_environment_of_the_other_commands(zpipe: Zpipe) -> None:
    """The address that worker and sink are told may come from ZPIPE_URL, the rest as for `run`."""
    url = f"{LOCAL}:{free_port()}"
    for command, more in (("worker", {"ZPIPE_SLOTS": "1"}), ("sink", {"ZPIPE_BIND": f"{LOCAL}:0"})):
        node = zpipe.run(command, status=1, ZPIPE_URL=url, ZPIPE_CONNECT_TIMEOUT="0.2", **more)
        assert f"no ventilator answered at {url} for 0.2 s" in node.err


def test_progress_on_a_terminal(zpipe: Zpipe) -> None:
    """On a terminal there is a bar with counts, rate, workers and failures, and afterwards only the summary."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # how Linux tells the end of a terminal
                return
            if not data:
                return
            shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        job = ("run", "jobs:fail_on_seven_slowly", "--range", "0:30", "--output", "out", "--workers", "2")
        node = zpipe.start(*job, popen={"stderr": theirs}, TERM="xterm", COLUMNS="120")
        os.close(theirs)
        assert node.end() == 1
        reader.join(60)
    finally:
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"\d+/30 items +\d+%", text)
    assert "items/s, 1 failed, 2 workers" in text
    assert re.search(r"\d:\d\d:\d\d left", text)
    assert text.rstrip().splitlines()[-1].startswith("zpipe: 30 items done")


def test_errors_that_quiet_does_not_hide(zpipe: Zpipe) -> None:
    """`--quiet` says nothing of a job that goes well, and all that went wrong."""
    node = zpipe.run("run", "jobs:fail_on_seven", "--range", "0:10", "--quiet", status=1)
    assert node.err == "zpipe: item 7 failed: ValueError: seven is not wanted\n"
    node = zpipe.run("run", "jobs:same", "--source", "jobs:broken_source", "--quiet", "--json", status=1)
    assert "the source broke" in json.loads(node.err.splitlines()[-1])["error"]
