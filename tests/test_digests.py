"""Equal items and functions have equal digests; where a function could tell the difference they have others."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from zpipe.core.spec import TaskSpec
from zpipe.digests import content, digest, of_function, of_task

ODD = [1, 1.0, True, "1", b"1", None, (1, 2), [1, 2], (1, (2,)), ((1,), 2), {"a": 1}, {"a": "1"}, {1, 2}, 2**70, -1, ""]

CLASS = "class C:\n def m(s):"


def test_different_items_have_different_content() -> None:
    """As far as a function could tell."""
    assert len({content(item) for item in ODD}) == len(ODD)


def test_equal_items_have_equal_content() -> None:
    """Whatever order a dict's keys are in, and in another process too."""
    assert content({"a": 1, "b": [2.5]}) == content({"b": [2.5], "a": 1})
    script = "from zpipe.digests import digest; print(digest(b'x', ({'b': 1, 'a': None}, 'ü')).hex())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    made = digest(b"x", ({"a": None, "b": 1}, "ü"))
    assert made is not None
    assert told.strip() == made.hex()


def test_what_can_not_be_pickled_is_like_no_other() -> None:
    """It is run."""
    assert digest(b"x", (item for item in ())) is None


def made_of(text: str, name: str = "f") -> Any:
    names: dict[str, Any] = {"__name__": "made"}
    exec(text, names)
    return names[name]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("def f(x): return x + 1", "\n\n\ndef f(x):\n    # a comment\n    return x + 1", True),
        ("def f(x): return x + 1", "def f(x): return x + 2", False),
        ("def f(x, y=1): return x", "def f(x, y=2): return x", False),
        ("def g(x): return 1\ndef f(x): return g(x)", "def g(x): return 2\ndef f(x): return g(x)", False),
        ("N = 1\ndef f(x): return N", "N = 2\ndef f(x): return N", False),
        ("N = 1\ndef f(x): return x", "N = 2\ndef f(x): return x", True),
        ("def f(x): return [y for y in x if y > 1]", "def f(x): return [y for y in x if y > 2]", False),
        ("def g(n): return lambda x: x + n\nf = g(1)", "def g(n): return lambda x: x + n\nf = g(2)", False),
        (f"{CLASS} return 1\ndef f(x): return C()", f"{CLASS} return 2\ndef f(x): return C()", False),
        ("def f(x): return f(x - 1) if x else 0", "def f(x): return f(x - 1) if x else 0", True),
    ],
)  # fmt: skip
def test_functions_are_known_by_what_they_do(one: str, other: str, same: bool) -> None:
    """Not by where they stand."""
    assert (of_function(made_of(one), "one") == of_function(made_of(other), "one")) is same


def test_bound_arguments_count() -> None:
    """And so does how it is called."""
    assert of_function(partial(pow, 2), "one") != of_function(partial(pow, 3), "one")
    assert of_function(partial(int, base=2), "one") == of_function(partial(int, base=2), "one")
    assert of_function(pow, "star") != of_function(pow, "one")
    assert of_function("a".join, "one") != of_function("b".join, "one")


def test_a_task_is_known_by_its_files_text() -> None:
    """Wherever the file is; a command by its template."""
    assert of_task(TaskSpec("file", "/a/t.py:f", b"text")) == of_task(TaskSpec("file", "/b/t.py:f", b"text"))
    assert of_task(TaskSpec("file", "/a/t.py:f", b"text")) != of_task(TaskSpec("file", "/a/t.py:f", b"texts"))
    assert of_task(TaskSpec("file", "/a/t.py:f", b"text")) != of_task(TaskSpec("file", "/a/t.py:g", b"text"))
    assert of_task(TaskSpec("command", "a {}")) != of_task(TaskSpec("command", "a {}", shell=True))
    assert of_task(TaskSpec("import", "json:loads")) != of_task(TaskSpec("import", "json:dumps"))
