"""Which keys an address gets, and what a person is told of one without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zpipe.net import access, keys


def passwd(folder: Path, *rows: str) -> Path:
    """A file of accounts."""
    path = folder / "passwd"
    path.write_text("".join(f"{row}\n" for row in ("root:x:0:0::/root:/bin/sh", "www:x:33:33::/:/bin/sh", *rows)))
    return path


def test_files_need_no_key(tmp_path: Path) -> None:
    """On ipc no key is looked for; on TCP it is, and --insecure by name does without."""
    keys.create(tmp_path / "key")
    assert access.admit("ipc:///a", "ipc:///b", key_file=tmp_path / "missing").keys is None
    assert access.admit("ipc:///a", "tcp://b:1", key_file=tmp_path / "key").keys is not None
    assert access.admit("b:1", key_file=tmp_path / "key").keys is not None
    assert access.admit("tcp://b:1", key_file=tmp_path / "key", insecure=True).keys is None


def test_command_lines_elsewhere_name_a_key_of_its_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the default place needs no word, any other its path, and none at all --insecure."""
    keys.create(tmp_path / "my key")
    given = access.admit("tcp://a", key_file=tmp_path / "my key")
    assert given.hint == f" --key-file '{tmp_path}/my key'"
    monkeypatch.setattr(access, "default_path", lambda: tmp_path / "my key")
    assert given.hint == ""
    assert access.Access(insecure=True).hint == " --insecure"
    assert access.Access().hint == ""


def test_loopback_is_warned_of_where_others_live(tmp_path: Path) -> None:
    """People with a shell besides oneself; neither services, nor locked accounts, nor root."""
    me = f"me:x:{os.getuid()}:1::/home/me:/bin/bash"
    alone = passwd(tmp_path, me, "gone:x:1999:1::/:/usr/sbin/nologin", "nobody:x:65534:1::/:/bin/sh", "odd line")
    bare, keyed = access.Access(), access.Access(keys.Keys((b"x" * 32,), "FILE"))
    assert bare.caution("tcp://127.0.0.1:1", alone) == ""
    crowded = passwd(tmp_path, me, "ada:x:1998:1::/home/ada:/bin/bash")
    assert "the user ada can connect to tcp://127.0.0.1:1" in bare.caution("tcp://127.0.0.1:1", crowded)
    more = passwd(tmp_path, "ada:x:1998:1::/home/ada:/bin/bash", "bob:x:1997:1::/home/bob:/bin/bash")
    assert "any of this machine's 2 other users" in bare.caution("tcp://127.0.0.1:1", more)
    assert access.Access(insecure=True).caution("tcp://127.0.0.1:1", more) == ""
    for quiet in (keyed.caution("tcp://0.0.0.0:1", more), bare.caution("ipc:///x", more)):
        assert quiet == ""
    assert bare.caution("tcp://127.0.0.1:1", tmp_path / "missing") == ""


def test_an_open_port_is_always_warned_of(tmp_path: Path) -> None:
    """--insecure is heard, and what it means is said."""
    said = access.Access(insecure=True).caution("tcp://0.0.0.0:5557", tmp_path / "missing")
    assert "whoever can reach tcp://0.0.0.0:5557 can run code" in said
