"""What the package offers: every name in an `__all__` is there, documented, and few are at the top."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import GenericAlias

import pytest
from test_layers import modules

import zpipe


@pytest.mark.parametrize("name", modules())
def test_exported_names_exist_and_are_documented(name: str) -> None:
    """Each module says what it offers, and every public class and function says what it is."""
    module = importlib.import_module(f"zpipe.{name}")
    assert module.__doc__, name
    if name == "core":
        return
    for public in module.__all__:
        thing = getattr(module, public)
        alias = isinstance(thing, GenericAlias)  # a class, too, as Python 3.10 has it
        if (inspect.isclass(thing) and not alias) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name}.{public}"


def test_the_top_is_small_and_lazy() -> None:
    """`import zpipe` costs nothing: names are loaded when used, and an unknown one is an AttributeError."""
    assert len(zpipe.__all__) <= 15
    code = "import sys, zpipe; assert not {'zmq', 'msgspec', 'click'} & set(sys.modules); zpipe.current; zpipe.Context"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert set(zpipe.__all__) <= set(dir(zpipe))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zpipe.nothing
