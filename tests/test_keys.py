"""Key files: made for their owner alone, read with suspicion, and never quoted."""

from __future__ import annotations

import contextlib
import os
import stat
import traceback
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.errors import UsageError
from zpipe.net import keys
from zpipe.nodes.config import Config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A key file."""
    path = tmp_path / "folder" / "key"
    keys.create(path)
    return path


def word(file: Path) -> str:
    """The first key of a file, as it is written there."""
    return next(line for line in file.read_text().splitlines() if not line.startswith("#"))


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Whatever the umask: the file has mode 0600, its folder 0700."""
    before = os.umask(0)
    try:
        keys.create(tmp_path / "folder" / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder" / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_a_file_is_never_overwritten(file: Path, tmp_path: Path) -> None:
    """Nor is the target of a link somebody has put there."""
    text = file.read_text()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (file, link):
        with pytest.raises(UsageError, match="is there already"):
            keys.create(path)
    assert file.read_text() == text
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_one_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    """With the command that mends it."""
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"can be read by others .*chmod 600 {file}"):
        keys.load(file)


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe, an empty file and a huge one, each with its reason."""
    with pytest.raises(UsageError, match=r"there is no key file .*zpipe keygen"):
        keys.load(tmp_path / "missing")
    with pytest.raises(UsageError, match="is no file"):
        keys.load(tmp_path)
    for data, why in ((b"", "holds no key"), (b"# only this\n", "holds no key"), (b"#" * 70_000, "more than 65,536")):
        path = tmp_path / "file"
        path.touch(0o600)
        path.write_bytes(data)
        with pytest.raises(UsageError, match=why):
            keys.load(path)


def test_there_need_not_be_a_default_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default place may be empty; what is there is used."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(keys, "default_path", lambda: tmp_path / "zpipe" / "key")
    assert keys.load(None) is None
    keys.create(tmp_path / "zpipe" / "key")
    assert keys.load(None) is not None


def test_each_key_is_another(tmp_path: Path) -> None:
    """They are random."""
    for name in "ab":
        keys.create(tmp_path / name)
    assert word(tmp_path / "a") != word(tmp_path / "b")


def test_a_key_survives_being_copied_as_text(file: Path, tmp_path: Path) -> None:
    """One line is enough, with spaces around it or a different end; a word of plain letters, digits, - . and _."""
    text = word(file)
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    keys.paste(tmp_path / "copy", f"\n  {text} \r\n".encode())
    here, there = keys.load(file), keys.load(tmp_path / "copy")
    assert here is not None
    assert there is not None
    assert here.secrets == there.secrets


@given(st.data())
def test_a_damaged_key_is_refused_and_not_quoted(data: st.DataObject) -> None:
    """One letter changed, lost or added anywhere is noticed, and the message does not have the rest."""
    text = keys._encode(keys._new())
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from(["", "A", "b", "-", "=", "é", "0x"]))
    damaged = text[:at] + letter + text[at + 1 :]
    if damaged == text:
        return
    with pytest.raises(UsageError) as caught:
        keys.parse(b"# head\n" + damaged.encode() + b"\n", "FILE")
    assert "FILE, line 2," in str(caught.value)
    assert text[12:20] not in "".join(traceback.format_exception(caught.value))


@given(st.binary(max_size=300))
def test_anything_else_is_refused(data: bytes) -> None:
    """Whatever bytes a file has, there is a UsageError or there are keys."""
    with contextlib.suppress(UsageError):
        assert keys.parse(data, "FILE").secrets


def test_rotation(file: Path) -> None:
    """A new key comes first and the old one stays; then the new one is alone. The file stays its owner's."""
    old = keys.load(file)
    assert old is not None
    with pytest.raises(UsageError, match="one key only"):
        keys.retire(file)
    assert keys.rotate(file) == 2
    both = keys.load(file)
    assert both is not None
    assert both.secrets[1:] == old.secrets
    assert both.secrets[0] != old.secrets[0]
    assert keys.retire(file) == 1
    new = keys.load(file)
    assert new is not None
    assert new.secrets == both.secrets[:1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_nothing_that_holds_keys_shows_them(file: Path) -> None:
    """Neither they themselves nor a supervisor's configuration, which carries them through its pipe."""
    held = keys.load(file)
    config = Config("tcp://head:5557", 2, keys=held)
    assert held is not None
    for shown in (repr(held), str(held), f"{held!r}", repr(config), str(config), str(list(held.__rich_repr__()))):
        assert word(file)[14:] not in shown
        assert repr(held.secrets[0])[2:10] not in shown
        assert held.secrets[0].hex() not in shown
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config
