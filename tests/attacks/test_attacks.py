"""A short siege of every port of a real job; `python -m tests.attacks` has longer ones."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from attacks.garbage import SAMPLES, harmless, message, mutated
from attacks.liars import Lies
from attacks.siege import ATTACKS, Siege
from process.tools import LINUX, Zpipe

from zpipe.core import coding, wire
from zpipe.errors import WireError


@pytest.fixture
def zpipe(tmp_path: Path) -> Iterator[Zpipe]:
    """Starts `zpipe` in a folder with tasks."""
    shutil.copy(Path(__file__).parent.parent / "process" / "jobs.py", tmp_path)
    made = Zpipe(tmp_path)
    yield made
    made.close()


@pytest.mark.skipif(not LINUX, reason="what a process holds is read from /proc")
@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
def test_a_siege(zpipe: Zpipe, key: bool) -> None:
    """Garbage of all kinds and at all ports: the output is exact, the nodes stay small and say little."""
    siege = Siege(zpipe, 1, key=key)
    for attack in ATTACKS.values():
        attack(siege, 3000)
    siege.end()


def _is_refused(frames: list[bytes]) -> bool:
    try:
        coding.decode(frames)
    except WireError:
        return True
    return False


def test_garbage_is_refused_or_a_message() -> None:
    """Nothing but WireError comes of what decode is given."""
    rng = random.Random(7)
    refused = sum(_is_refused(message(rng)) for _ in range(5000))
    assert 2000 < refused < 5000, "some of it should get further than the decoder"


def parts(made: Any) -> Iterator[Any]:
    """Yield a message and the structs inside it."""
    if isinstance(made, msgspec.Struct):
        yield made
        for name in made.__struct_fields__:
            yield from parts(getattr(made, name))
    elif isinstance(made, list):
        for one in made:
            yield from parts(one)


def test_garbage_is_made_of_every_message() -> None:
    """Each kind there is, and in some sample each field that has a default has something else."""
    given = [part for sample in SAMPLES for part in parts(sample)]
    assert {type(sample) for sample in SAMPLES} == set(get_args(wire.Message))
    for kind in {type(part) for part in given}:
        for field in msgspec.structs.fields(kind):
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            assert any(getattr(part, field.name) != default for part in given if type(part) is kind), (kind, field.name)
    for sample in SAMPLES:
        assert coding.decode(coding.encode(sample))[0] == sample


def test_liars_break_no_books() -> None:
    """Whatever those say who were let in, workers and sink: a ventilator goes on, and has each chunk in one place."""
    issued = 0
    heard = set[type]()
    for seed in range(150):
        lies = Lies(seed)
        for _ in range(200):
            if not lies.over:
                heard.add(type(lies.step()))
        issued += lies.issued
    assert issued > 500
    assert len(heard) == 11


def test_garbage_ends_no_job() -> None:
    """It is drawn again if it happens to be somebody's wish."""
    assert not harmless([bytes(coding.encode(wire.Ask("cancel"))[0])])
    assert mutated(random.Random(3)) == mutated(random.Random(3))
