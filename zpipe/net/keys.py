"""The key of a pipeline: one line of text in one file, from which all that its nodes need to trust each other comes.

    # Whoever has this file can run code ...
    zpipe-key-1.Zm9vYmFyYmF6cXV4...                    32 random bytes and 4 of a checksum, in URL-safe base64

Two key pairs for ZeroMQ's CURVE are derived from a key, one for the sockets that bind and one for those that connect.
So whoever connects knows whom to expect, and whoever binds knows whom to let in; both know it of nodes with this very
key, and of nobody else.

While a key is being replaced the file has several lines. Sockets that connect try them from the first line on; those
that bind show the last one, since a node that was not given the new key yet knows only that, and let in who has any of
them. Nothing in here, nor an error, says what a key is.
"""

from __future__ import annotations

import binascii
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from zpipe.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Keys", "create", "default_path", "load", "parse", "paste", "retire", "rotate"]

PREFIX = "zpipe-key-1."

SECRET_BYTES, CHECK_BYTES = 32, 4

LARGEST = 65_536
"""Bytes a key file may have; it has some hundred."""

HEAD = "# The key of a zpipe pipeline. Whoever has it can take part in jobs, and so run code on their hosts.\n"

SHAPE = f"a key is one line that begins with {PREFIX}"


class Keys(msgspec.Struct, frozen=True):
    """The keys of a file, in its order, and what to call that file. Its `repr` does not say what they are."""

    secrets: tuple[bytes, ...]
    origin: str

    def __repr__(self) -> str:
        return f"<{len(self.secrets)} of {self.origin}>"

    def __rich_repr__(self) -> list[str]:  # type: ignore[override,unused-ignore]
        return [repr(self)]


def default_path() -> Path:
    """Return where a key is looked for when nobody says where: in the user's folder for configuration."""
    from platformdirs import user_config_path

    return user_config_path("zpipe") / "key"


def load(path: str | os.PathLike[str] | None) -> Keys | None:
    """Return the keys of the file `path`, or of the default one if there is one.

    Raises UsageError for a file that can't be read, that others can read, or that holds no key.
    """
    where = default_path() if path is None else path
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        if path is None:
            return None
        raise UsageError(f"there is no key file {where}; make one with: zpipe keygen {where}") from None
    except OSError as error:
        raise UsageError(f"the key file {where} can't be read: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"the key file {where} is no file; name one that `zpipe keygen` has made")
        if status.st_mode & 0o077:
            raise UsageError(
                f"the key file {where} can be read by others (mode {status.st_mode & 0o777:04o}); if nobody has: "
                f"chmod 600 {where}"
            )
        text = os.read(fd, LARGEST + 1)
    finally:
        os.close(fd)
    return parse(text, os.fspath(where))


def parse(text: bytes, origin: str) -> Keys:
    """Return the keys that `text` holds, called `origin` in messages. Raises UsageError, which never quotes it."""
    if len(text) > LARGEST:
        raise UsageError(f"{origin} is no key file: it has more than {LARGEST:,} bytes")
    found: list[bytes] = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if word and not word.startswith(b"#"):
            key = _decode(word)
            if key is None:
                raise UsageError(f"{origin}, line {number}, is no zpipe key, or not a whole one: {SHAPE}")
            if key not in found:
                found.append(key)
    if not found:
        raise UsageError(f"{origin} holds no key: {SHAPE}; `zpipe keygen` makes one")
    return Keys(tuple(found), origin)


def create(path: Path) -> None:
    """Make a key file with a new key, which only this user can read. Raises UsageError if there is one."""
    _write(path, Keys((_new(),), str(path)))


def paste(path: Path, text: bytes) -> None:
    """Make a key file with the key, or keys, of `text`. Raises UsageError as `parse` and `create` do."""
    _write(path, msgspec.structs.replace(parse(text, "what was pasted"), origin=str(path)))


def rotate(path: Path) -> int:
    """Add a new key ahead of those of a file; return how many it has now. Raises UsageError."""
    keys = _existing(path)
    made = msgspec.structs.replace(keys, secrets=(_new(), *keys.secrets))
    _replace(path, made)
    return len(made.secrets)


def retire(path: Path) -> int:
    """Keep the first key of a file alone; return how many were dropped. Raises UsageError."""
    keys = _existing(path)
    if len(keys.secrets) == 1:
        raise UsageError(f"{path} has one key only, which is in use; add a new one first with: zpipe keygen --rotate")
    _replace(path, msgspec.structs.replace(keys, secrets=keys.secrets[:1]))
    return len(keys.secrets) - 1


def _existing(path: Path) -> Keys:
    keys = load(path)
    assert keys is not None  # a file that is named is there, or load raises
    return keys


def _new() -> bytes:
    return os.urandom(SECRET_BYTES)


def _checksum(secret: bytes) -> bytes:
    import hashlib  # slow to load, as all that deals with keys: jobs on one machine have none

    return hashlib.blake2b(secret, digest_size=CHECK_BYTES, person=b"zpipe check").digest()


def _encode(secret: bytes) -> str:
    import base64

    return PREFIX + base64.urlsafe_b64encode(secret + _checksum(secret)).decode()


def _decode(word: bytes) -> bytes | None:
    if not word.startswith(PREFIX.encode()):
        return None
    import base64

    try:
        whole = base64.b64decode(word[len(PREFIX) :], b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    secret, check = whole[:SECRET_BYTES], whole[SECRET_BYTES:]
    return secret if len(whole) == SECRET_BYTES + CHECK_BYTES and check == _checksum(secret) else None


def _write(path: Path, keys: Keys) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already, and is left as it is; `zpipe keygen --rotate` adds a new key to it, or name "
            "another file"
        ) from None
    except OSError as error:
        raise UsageError(f"the key file {path} can't be made: {error.strerror}") from None
    with open(fd, "w", encoding="ascii") as file:
        file.write(HEAD + "".join(f"{_encode(secret)}\n" for secret in keys.secrets))
        file.flush()
        os.fsync(fd)


def _replace(path: Path, keys: Keys) -> None:
    """Write a key file anew: at any moment the old one is there, or the new one."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write(beside, keys)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
