"""Functions that do the same have one identity, on any day; those that do not have others."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from types import ModuleType

import pytest

from zpipe.caching.identity import content, of_function

CLASS = "class C:\n def m(s):"


def identity_of(text: str) -> bytes:
    """That of the function `f` of a module of this text."""
    made = sys.modules["made"] = ModuleType("made")
    try:
        exec(text, made.__dict__)
        return of_function(made.f, "one")
    finally:
        del sys.modules["made"]


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
    assert (identity_of(one) == identity_of(other)) is same


def test_bound_arguments_count() -> None:
    """And so does how it is called."""
    assert of_function(partial(pow, 2), "one") != of_function(partial(pow, 3), "one")
    assert of_function(partial(int, base=2), "one") == of_function(partial(int, base=2), "one")
    assert of_function(pow, "star") != of_function(pow, "one")
    assert of_function("a".join, "one") != of_function("b".join, "one")


MENDED = [
    "W = {'a', N}\ndef f(x): return x in W",
    "import re\nP = re.compile('aN')\ndef f(x): return P.sub('', x)",
    "import numpy\nK = numpy.full(3, N)\ndef f(x): return K[x]",
    "D = {1: N}\ndef f(x): return D[x]",
    "def g(x): return N\nD = {'a': g}\ndef f(x): return D['a'](x)",
    "def g(x): return N\nD = (g,)\ndef f(x): return D[0](x)",
    "def g(x): return N\ndef f(x, D={1: g}): return D[1](x)",
    "import functools\n@functools.lru_cache\ndef g(x): return N\ndef f(x): return g(x)",
    "import functools\n@functools.lru_cache\ndef f(x): return N",
    "from functools import partial\ndef g(n, x): return n\nh = partial(g, N)\ndef f(x): return h(x)",
    "from functools import partial\nclass C:\n def go(s): return N\ndef g(c, x): return c.go()\nf = partial(g, C())",
    "class C:\n def __init__(s, n): s.n = n\n def go(s, x): return s.n\nc = C(N)\ndef f(x): return c.go(x)",
    "class C:\n def go(s, x): return N\nc = C()\ndef f(x): return c.go(x)",
    "class C:\n K = N\n def __init__(s): s.a = 1\n def __call__(s, x): return s.K\nf = C()",
    "class C:\n K = N\ndef f(x): return C.K",
    "class C:\n class D:\n  K = N\ndef f(x): return C.D.K",
    "class B:\n def h(s): return N\nclass C(B):\n def go(s, x): return s.h()\nf = C().go",
    "class C:\n @property\n def k(s): ...\n @k.setter\n def k(s, v): s.q = N\ndef f(x): return C()",
    "import functools\nclass C:\n @functools.cached_property\n def k(s): return N\ndef f(x): return C()",
    "class B:\n __slots__ = ('k',)\nclass C(B):\n def __init__(s): s.k, s.z = N, 0\n def __call__(s, x): ...\nf = C()",
    "class C(dict):\n def __init__(s): s['k'], s.z = N, 0\n def __call__(s, x): return s['k']\nf = C()",
    "import enum\nclass E(enum.Enum):\n A = N\ndef f(x): return E.A",
    "import collections\nP = collections.namedtuple('P', 'a')\nK = P(N)\ndef f(x): return K.a",
    "def g(): pass\ng.k = N\ndef f(x): return g.k",
    "class C:\n def go(s): return N\ndef g():\n c = C()\n return lambda x: c.go()\nf = g()",
    "def d(g):\n def inner(x): return g(x)\n return inner\n@d\ndef f(x): return N",
    "import functools\n@functools.singledispatch\ndef f(x): return 0\n@f.register\ndef _(x: int): return N",
    "import threading\nL = threading.Lock()\ndef f(x):\n with L: return N",
]
"""Modules in which N is a number."""


@pytest.mark.parametrize("text", MENDED)
def test_a_functions_surroundings_count(text: str) -> None:
    """Whatever of its own module it refers to, and whatever is bound to it."""
    assert identity_of(text.replace("N", "1")) == identity_of(text.replace("N", "1"))
    assert identity_of(text.replace("N", "1")) != identity_of(text.replace("N", "2"))


def test_what_a_try_is_around_counts() -> None:
    """Where no instruction tells."""
    text = "def f(x):\n try:\n  pass\n  x = x\n%s except ValueError: return 1\n%s"
    assert identity_of(text % ("", " g(x)\n")) != identity_of(text % ("  g(x)\n", ""))


SCRIPT = """
import dataclasses, sys
from zpipe.caching.digests import digest
from zpipe.caching.identity import of_function
@dataclasses.dataclass
class Point:
    x: int
    y: str
ORIGIN = {"a": Point(0, "b c"), "b": {"x y", "z"}}
def f(x):
    return ORIGIN, x
print(of_function(f, "one").hex(), digest(b"", [Point(1, "a"), {"x", "y", "z"}]).hex())
"""


def test_another_run_of_a_script_finds_the_same() -> None:
    """Of classes of its own, and of sets, whose order differs from process to process."""
    runs = [subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True).stdout for _ in range(3)]
    assert len(set(runs)) == 1


def test_equal_parts_need_not_be_one_object() -> None:
    """A text that is there twice is like two that are equal."""
    text, other = "a b", " ".join("ab")
    assert content([text, text, {1}]) == content([text, other, {1}])
