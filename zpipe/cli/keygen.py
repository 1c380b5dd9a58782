"""`zpipe keygen`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zpipe.cli import options
from zpipe.errors import UsageError

__all__ = ["command"]


@click.command(
    "keygen",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe keygen                                   once, on one host
  ssh node7 zpipe keygen --paste < ~/.config/zpipe/key     the same key on another host; copying the file does as well
  zpipe keygen --rotate                          a new key besides the old one, which goes on being taken
  zpipe keygen --retire                          no node has the old one any more: drop it

Whoever has the key can take part in jobs, and so run code on their hosts. It is never shown, and belongs into no
command line. Nodes read it when they start.
""",
)
@click.argument("path", required=False, envvar="ZPIPE_KEY_FILE", metavar="[PATH]")
@click.option("--paste", is_flag=True, help="Take the key as text from stdin instead of making one.")
@click.option("--rotate", is_flag=True, help="Add a new key to the file; those with the old one can still join.")
@click.option("--retire", is_flag=True, help="Drop all keys of the file but the newest.")
def command(path: str | None, paste: bool, rotate: bool, retire: bool) -> None:
    """Make the key by which the nodes of a pipeline know each other, at PATH or in the user's configuration folder.

    Nodes that bind or connect to TCP addresses find it there by themselves; of one elsewhere --key-file tells them.
    """
    from zpipe.net import keys

    if paste + rotate + retire > 1:
        raise UsageError("--paste, --rotate and --retire are three things to do; give one")
    where = Path(path) if path else keys.default_path()
    if rotate:
        count = keys.rotate(where)
        told = (
            f"{where} has {count} keys now, a new one first; copy it to the other hosts at leisure, then drop the old "
            "one everywhere with: zpipe keygen --retire"
        )
    elif retire:
        keys.retire(where)
        told = f"{where} has its newest key only; nodes with an older file can't join any more"
    elif paste:
        keys.paste(where, _pasted())
        told = f"wrote the key to {where}"
    else:
        keys.create(where)
        told = f"wrote a new key to {where}, which only you can read; {_copy(where, path is not None)}"
    click.echo(f"zpipe: {told}", err=True)


def _pasted() -> bytes:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("the key (not shown): ").encode(errors="replace")
    return sys.stdin.buffer.read(1 << 20)


def _copy(where: Path, named: bool) -> str:
    if named:
        return f"copy it to every host, and name it there: --key-file FILE, or ZPIPE_KEY_FILE={where.absolute()}"
    return f"for another host: ssh HOST zpipe keygen --paste < {where}"
