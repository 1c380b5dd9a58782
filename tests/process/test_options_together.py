"""Options that were made one by one, several together, with real workers: exact results, and each item once."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from process import mixed
from process.tools import Zpipe, wait_until

JOBS = [
    # stages, further options, whether all is in the cache the second time
    (["shy"], "--retries 1 --retry-delay 0 --unique --priority mixed.py:urgency --ageing 1s", False),
    (["less"], "--cache c --rate 2000/s --key mixed.py:third --ordered", True),
    (["wait"], "--cache c --concurrency 5 --max-in-flight 3 --delay 0.05 --ttl 10m --ordered", True),
    (["both"], "--unique --cache c --rate-key mixed.py:third --max-in-flight-per-key 1 --speculate", True),
    (["shy"], "--retries 2 --retry-delay 0 --key mixed.py:third --journal j --halt soon,fail=100% --ordered", False),
    (["both,unique=yes", "less", "wait,unique=yes"], "--ordered --speculate", False),
    (["less", "both,workers=1", "shy,unique=yes,retries=1"], "--retry-delay 0 --cache c --journal j", True),
    (["wait,chunk=3", "shy,retries=1,cache=no", "wait"], "--retry-delay 0 --cache c --cache-ttl 1h --ordered", True),
]


@pytest.mark.parametrize(("stages", "more", "kept"), JOBS, ids=[" ".join([*job[0], job[1]]) for job in JOBS])
def test_options_together(
    zpipe: Zpipe, monkeypatch: pytest.MonkeyPatch, stages: list[str], more: str, kept: bool
) -> None:
    """What plain Python makes of it; what is to be run once is run once, over two jobs where there is a cache."""
    shutil.copy(mixed.__file__, zpipe.folder)
    monkeypatch.setenv("MIXED", str(zpipe.folder / "ran"))
    names = [stage.partition(",")[0] for stage in stages]
    wanted, fed = mixed.twin(names)
    status = int(any(name == "less" and 5 in items for name, items in zip(names, fed, strict=True)))
    job = [f"mixed.py:{stages[0]}", *(part for stage in stages[1:] for part in ("--then", f"mixed.py:{stage}"))]
    once = [
        "--unique" in more or "unique" in stage or ("--cache" in more and "cache=no" not in stage) for stage in stages
    ]
    for turn in range(2):
        options = more.replace("--journal j", f"--journal j{turn}").split()
        zpipe.run("run", *job, "--source", "mixed.py:numbers", "-w", "2", "--raw", "-o", "out", *options, status=status)
        found = (zpipe.folder / "out").read_text().split()
        assert (found if "--ordered" in more else sorted(found)) == (
            [*map(str, wanted)] if "--ordered" in more else sorted(map(str, wanted))
        )
        ran = runs(zpipe.folder)
        for name in set(names):
            inputs = [
                (set(items) if single else items)
                for n, items, single in zip(names, fed, once, strict=True)
                if n == name
            ]
            most = Counter(item for items in inputs for item in items)
            for item, count in most.items():
                if "--speculate" not in more:
                    assert ran[f"{name} {item}"] <= count
                if turn and kept and "shy,retries=1,cache=no" not in stages:
                    assert not ran[f"{name} {item}"] or (name, item) == ("less", 5)


def runs(folder: Path) -> Counter[str]:
    """What was run since this was last asked."""
    path = folder / "ran"
    found = Counter(path.read_text().splitlines()) if path.exists() else Counter[str]()
    path.unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("how", ["-w 2", "-w 0"])
def test_a_killed_job_of_stages_goes_on_and_runs_nothing_twice(zpipe: Zpipe, how: str) -> None:
    """What became of the items that were run is beside the journal, for those like them."""
    (zpipe.folder / "t.py").write_text(
        "import os, pathlib, signal\n"
        "def spread(item):\n"
        "    yield from (item % 5, item % 7)\n"
        "def noted(item):\n"
        "    with open('ran', 'a') as file: file.write(f'{item}\\n')\n"
        "    return item\n"
        "def last(item):\n"
        "    if item == 6 and not pathlib.Path('spared').exists():\n"
        "        pathlib.Path('spared').touch()\n"
        "        os.kill(int(pathlib.Path('pid').read_text()), signal.SIGKILL)\n"
        "    return item\n"
        "def source():\n"
        "    pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "    yield from range(100)\n"
    )
    job = ("run", "t.py:spread", "--then", "t.py:noted,unique=yes", "--then", "t.py:last,chunk=2", "--ordered")
    job = (*job, "--source", "t.py:source", "--raw", "-o", "out", "--journal", "j", *how.split())
    assert zpipe.start(*job).end() == -signal.SIGKILL
    wait_until(lambda: not zpipe.left(), "the end of its workers")
    zpipe.run(*job)
    assert (zpipe.folder / "out").read_text().split() == [str(n) for i in range(100) for n in (i % 5, i % 7)]
    ran = runs(zpipe.folder)
    assert set(ran) == set("0123456")
    assert max(ran.values()) <= 2, "once in each process at most"
    assert not (zpipe.folder / "j.unique").exists()
