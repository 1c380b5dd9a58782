"""Options that were made one by one, any of them together: jobs in this process, compared with plain Python."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from process import mixed

from zpipe.cli import cli

SCHEDULES = [
    (),
    ("--rate", "100000/s"),
    ("--priority", "process.mixed:urgency", "--max-in-flight", "2"),
    ("--key", "process.mixed:third", "--ageing", "1s"),
    ("--delay", "0.003", "--ttl", "10m"),
    ("--rate-key", "process.mixed:third", "--rate-per-key", "50000/s", "--max-in-flight-per-key", "1"),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for all examples."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def run(folder: Path, *options: str) -> tuple[int, list[str], str]:
    """Run a job here; return its status, its output's lines and what it said."""
    said = io.StringIO()
    output = folder / "out"
    with contextlib.redirect_stderr(said):
        try:
            cli.main(["run", *options, "-w", "0", "--raw", "-o", str(output)], standalone_mode=False)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return status, output.read_text().split(), said.getvalue()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stages=st.lists(st.sampled_from(sorted(mixed.PLAIN)), min_size=1, max_size=3),
    unique=st.lists(st.booleans(), min_size=3, max_size=3),
    cached=st.lists(st.booleans(), min_size=3, max_size=3),
    bounds=st.sampled_from(
        ["", ",workers=1", ",chunk=7", ",rate=20000/s", ",max-in-flight=2", ",workers=1,rate=20000/s,chunk=3"]
    ),
    schedule=st.sampled_from(SCHEDULES),
    cache=st.booleans(),
    ordered=st.booleans(),
    journal=st.booleans(),
)
def test_any_options_together(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    stages: list[str],
    unique: list[bool],
    cached: list[bool],
    bounds: str,
    schedule: tuple[str, ...],
    cache: bool,
    ordered: bool,
    journal: bool,
) -> None:
    """The output is the twin's, each item once; what is to be run once is, over two jobs where there is a cache."""
    home = Path(tempfile.mkdtemp(dir=folder))
    monkeypatch.setenv("MIXED", str(home / "ran"))
    options = ["--source", "process.mixed:numbers", "--retries", "1", "--retry-delay", "0", "--retry-on", "OSError"]
    for number, name in enumerate(stages):
        settings_of = f"unique={'yes' if unique[number] else 'no'}{bounds}" + ",cache=no" * (not cached[number])
        if len(stages) == 1:
            options += [f"process.mixed:{name}", *(["--unique"] * unique[0])]
        else:
            options += ["--then"] * (number > 0) + [f"process.mixed:{name},{settings_of}"]
    options += [*schedule, *(["--ordered"] * ordered)]
    options += ["--cache", str(home / "cache")] * cache
    wanted, fed = mixed.twin(stages)
    fails = sum(5 in items for name, items in zip(stages, fed, strict=True) if name == "less") > 0
    for turn in range(2):
        more = ["--journal", str(home / f"journal{turn}")] * journal
        status, found, said = run(home, *options, *more)
        assert status == int(fails), said
        assert (found if ordered else sorted(map(int, found))) == (
            list(map(str, wanted)) if ordered else sorted(wanted)
        )
        path = home / "ran"
        ran = Counter(path.read_text().splitlines()) if path.exists() else Counter()
        path.unlink(missing_ok=True)
        once = [unique[n] or (cache and (len(stages) == 1 or cached[n])) for n in range(len(stages))]
        for name in set(stages):
            mine = [(items, once[n]) for n, items in enumerate(fed) if stages[n] == name]
            for item in {item for items, _ in mine for item in items}:
                most = sum(min(items.count(item), 1) if single else items.count(item) for items, single in mine)
                kept = turn and cache and not (name == "less" and item == 5)
                spared = sum(item in items for items, _ in mine) if kept else 0
                if kept and len(stages) == 1:
                    most -= spared
                assert ran[f"{name} {item}"] <= most, (name, item)
    shutil.rmtree(home)
