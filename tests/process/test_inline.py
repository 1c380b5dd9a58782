"""Jobs in one process: the same output and the same end as with workers."""

from __future__ import annotations

import json
import signal

import pytest
from process.tools import Zpipe, values, wait_until

INLINE = ("--workers", "0")


@pytest.mark.parametrize(
    "job",
    [
        ("jobs:double", "--range", "300", "--ordered"),
        ("jobs:fail_on_seven", "--range", "20", "--ordered", "--raw"),
        ("jobs:same", "--range", "100", "--reduce", "operator:add"),
        ("jobs:same", "--range", "30", "--rate", "1000/s", "--max-in-flight", "3", "--ordered"),
        ("jobs:same", "--range", "30", "--delay", "0.01", "--ordered"),
        ("builtins:bool", "--range", "1000000000", "--first", "--ordered"),
        ("--command", "echo {}", "--range", "5", "--ordered"),
        ("jobs:same", "--range", "300", "--then", "jobs:double,workers=1", "--then", "builtins:str", "--ordered"),
        ("jobs:fail_on_seven", "--range", "20", "--then", "jobs:double", "--reduce", "operator:add"),
    ],
    ids=lambda job: job[0],
)
def test_output_and_status_are_those_of_workers(zpipe: Zpipe, job: tuple[str, ...]) -> None:
    """Whatever the task, the format and the end."""
    status = int("jobs:fail_on_seven" in job)
    here, there = (zpipe.run("run", *job, "-w", n, status=status) for n in "01")
    assert here.out.replace(" inline", "") == there.out
    assert here.out


def test_nothing_is_started(zpipe: Zpipe) -> None:
    """The task runs in the command's own process and only thread, and what it prints is not output."""
    (zpipe.folder / "tell.py").write_text(
        "import os, threading\n"
        "def tell(item):\n"
        "    print('printed')\n"
        "    main = threading.current_thread() is threading.main_thread()\n"
        "    return os.getpid(), main, threading.active_count()\n"
    )
    node = zpipe.start("run", "tell.py:tell", "--range", "2", *INLINE)
    node.ended(0)
    assert values(node.out) == [[node.pid, True, 1]] * 2
    assert "printed" in node.err


@pytest.mark.parametrize("stages", [(), ("--then", "jobs:double")], ids=["one stage", "two stages"])
def test_a_job_that_was_killed_goes_on(zpipe: Zpipe, stages: tuple[str, ...]) -> None:
    """Its journal has what is done; the rest is run in another process."""
    (zpipe.folder / "deadly.py").write_text(
        "import os, pathlib, signal\n"
        "def task(item):\n"
        "    with open('ran', 'a') as file: file.write(f'{item}\\n')\n"
        "    if item == 60 and not pathlib.Path('spared').exists():\n"
        "        pathlib.Path('spared').touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return item\n"
    )
    job = ("run", "deadly.py:task", *stages, "--range", "100", "--chunk", "5", "--ordered", "--journal", "j", *INLINE)
    assert zpipe.start(*job, "--output", "out").end() == -signal.SIGKILL
    zpipe.run(*job, "--output", "out")
    assert values((zpipe.folder / "out").read_text()) == list(range(0, 200, 2) if stages else range(100))


def test_what_needs_a_process_is_refused(zpipe: Zpipe) -> None:
    """With the reason and the mend, before anything is run."""
    for options, said in (
        (("--timeout", "3"), "can't be stopped in this process"),
        (("--max-memory", "1G"), "give -w 1"),
        (("--requires", "gpu"), "add --bind URL"),
        (("--max-tasks-per-worker", "3"), "give -w 1"),
        (("--then", "jobs:same,timeout=3"), "can't be stopped in this process"),
        (("--then", "jobs:nothing_like_it"), "nothing_like_it"),
        (("--expect-workers", "2"), "--expect-workers 2 can't come true"),
    ):
        node = zpipe.run("run", "jobs:same", "--range", "3", *INLINE, *options, status=2)
        assert said in node.err
        assert node.out == ""
        assert "Traceback" not in node.err


def test_interrupts(zpipe: Zpipe) -> None:
    """The first one ends the job behind the item that runs, the second one in it."""
    (zpipe.folder / "hold.py").write_text(
        "import pathlib, time\n"
        "def hold(item):\n"
        "    pathlib.Path(f'begun{item}').touch()\n"
        "    while not pathlib.Path('gate').exists(): time.sleep(0.01)\n"
        "    return item\n"
    )
    node = zpipe.start("run", "hold.py:hold", "--range", "1000000000", "--chunk", "1", "--json", "-o", "out", *INLINE)
    wait_until((zpipe.folder / "begun0").exists)
    node.signal(signal.SIGINT)
    (zpipe.folder / "gate").touch()
    node.ended(130)
    assert json.loads(node.out)["interrupted"]
    (zpipe.folder / "gate").unlink()
    (zpipe.folder / "begun0").unlink()
    node = zpipe.start("run", "hold.py:hold", "--range", "9", *INLINE)
    wait_until((zpipe.folder / "begun0").exists)
    node.signal(signal.SIGINT)
    node.signal(signal.SIGTERM)
    assert node.end() == 130
    assert "stopped by a second interrupt" in node.err
    assert node.out == ""


def test_a_debugger_may_stop_in_a_task(zpipe: Zpipe) -> None:
    """It reads standard input, and to leave it ends the job."""
    (zpipe.folder / "stop.py").write_text("def stop(item):\n    breakpoint()\n    return item\n")
    node = zpipe.run("run", "stop.py:stop", "--range", "2", *INLINE, text="c\np item\nq\n", status=130)
    assert "(Pdb) 1" in node.err
    assert "left from the debugger" in node.err
