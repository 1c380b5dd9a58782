"""Who may connect where: which keys an address needs, and what a person should know of one that has none.

Sockets of one machine's own files (`ipc://`) need no key: their folder says who may connect. On TCP whoever reaches a
port may, unless there is a key.
"""

from __future__ import annotations

import os
import shlex

import msgspec
import zmq

from zpipe.errors import UsageError
from zpipe.net import endpoints
from zpipe.net.keys import Keys, default_path, load

__all__ = ["Access", "admit", "neighbours"]

PASSWD = "/etc/passwd"  # noqa: S105 - it has none

PEOPLE = range(1000, 60_000)
"""User ids that people have, as Linux distributions give them out."""


class Access(msgspec.Struct, frozen=True):
    """What a node shows to others and asks of them: its keys, or None, which is `insecure` if asked for by name."""

    keys: Keys | None = None
    insecure: bool = False

    @property
    def hint(self) -> str:
        """What the command lines of nodes elsewhere need for it, with a space ahead; empty if nothing."""
        if self.keys is None:
            return " --insecure" if self.insecure else ""
        origin = self.keys.origin
        if origin == str(default_path()):
            return ""
        return f" --key-file {shlex.quote(os.path.abspath(origin))}"  # noqa: PTH100 - pathlib is slow to load

    def caution(self, bound: str, passwd: str | os.PathLike[str] = PASSWD) -> str:
        """Return what a person should know who had a socket bound at `bound`; empty if all is well."""
        if self.keys is not None or bound.startswith("ipc://"):
            return ""
        if not endpoints.is_loopback(bound):
            return f"warning: there is no key (--insecure): whoever can reach {bound} can run code on this job's hosts"
        others = [] if self.insecure else neighbours(passwd)
        if not others:
            return ""
        who = f"the user {others[0]}" if len(others) == 1 else f"any of this machine's {len(others)} other users"
        return (
            f"warning: there is no key: {who} can connect to {bound}, and so run code as you; `zpipe keygen` makes a "
            "key, which is then used by itself"
        )


def admit(*urls: str, key_file: str | os.PathLike[str] | None, insecure: bool = False) -> Access:
    """Return the access for sockets at these addresses, or to them: by the keys of `key_file`, else of the default
    place.

    No keys if all are `ipc://`, nor if `insecure`. Raises UsageError for a key file that can't be used.
    """
    if insecure or all(url.startswith("ipc://") for url in urls):
        return Access(insecure=insecure)
    keys = load(key_file or None)
    if keys is not None and not zmq.has("curve"):
        raise UsageError("this ZeroMQ was built without CURVE, so keys can't be used; install pyzmq from its wheel")
    return Access(keys)


def neighbours(passwd: str | os.PathLike[str] = PASSWD) -> list[str]:
    """Return the people besides this one, root excepted, who have an account with a shell on this machine."""
    try:
        with open(passwd, errors="replace") as file:
            rows = [line.rstrip("\n").split(":") for line in file]
    except OSError:
        return []
    return [
        row[0]
        for row in rows
        if len(row) == 7
        and row[2].isdecimal()
        and int(row[2]) in PEOPLE
        and int(row[2]) != os.getuid()
        and not row[6].endswith(("nologin", "false"))
    ]
