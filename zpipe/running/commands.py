"""Command templates: one item in, one program run, its output out.

The rule: an item is data, whatever it holds. Without a shell it becomes (part of) one argument; with one it reaches
the script as a variable's value, which the shell expands but never parses. This file does not know jobs or chunks.

    {}    the item                          {//}  its folder ("." when it has none)
    {.}   without its extension             {/.}  its last part without extension
    {/}   its last part                     {#}   its number in the job, from 1

A template with none of these gets the item as its last argument. With a shell, a backslash keeps one as it is.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import signal
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from zpipe import context
from zpipe.errors import CommandFailed, TaskError
from zpipe.running.child import Child, seal

__all__ = ["CommandTask", "is_numbered"]

_PLACEHOLDER = r"\{(?:|\.|/|//|/\.|#)\}"
_IN_WORDS = re.compile(f"({_PLACEHOLDER})")
_IN_SCRIPT = re.compile(rf"\\.|\$\(|(?<!\$){_PLACEHOLDER}|['\"()]", re.DOTALL)
_SHELL = "/bin/sh"

PATIENCE = 0.005
"""Seconds that a program which is expected to say little may take before its output is looked at."""

LITTLE = 16_384
"""Bytes: less than a pipe holds."""

_Value = Callable[[bytes], bytes]
_Word = bytes | list["bytes | _Value"]


class CommandTask:
    """A template to be called with one item at a time.

    A call returns {"stdout": text, "stderr": text, "exit": 0}, decoded as UTF-8 with surrogateescape, once the
    program and whatever holds its output have ended. It raises CommandFailed for another exit status, OSError for a
    program that can't be started, ValueError or TypeError for an item that can't be an argument. Making one raises
    TaskError for a template that can't be run anywhere.
    """

    def __init__(self, template: str, shell: bool) -> None:
        if not template.strip() or "\0" in template:
            raise TaskError(f"{template!r} is no command: write a program and its arguments, with {{}} for the item")
        self._words = _script(template) if shell else _words(template)
        self._program: str | None = None
        self._environment = dict(os.environb)  # a plain one: os.environ costs as much as starting the program
        self._said = 0
        self._template = template if _IN_WORDS.search(template) else f"{template} {{}}"

    def prepare(self) -> None:
        """Make ready for items: to be called once, in the process that runs them.

        Looks a program up that is known from the template. Raises TaskError when this host does not have it.
        """
        seal()
        program = self._words[0]
        if isinstance(program, bytes):
            self._program = _which(program)
            if self._program is None:
                raise TaskError(f"{_absent(program)}: install it there, or correct the command")

    def __call__(self, item: Any) -> dict[str, Any]:
        """Run the command for one item."""
        value = _argument(item)
        argv = [word if isinstance(word, bytes) else _fill(word, value) for word in self._words]
        patience = PATIENCE if self._said < LITTLE else 0.0
        status, stdout, stderr = _run(argv, self._program, self._environment, patience)
        self._said = len(stdout) + len(stderr)
        out, err = stdout.decode("utf-8", "surrogateescape"), stderr.decode("utf-8", "surrogateescape")
        if status:
            raise CommandFailed(_ending(status, err), status, out, err)
        return {"stdout": out, "stderr": err, "exit": 0}

    def line(self, item: Any) -> str:
        """Return the command for an item as one could type it, for a person to read."""
        try:
            value = _argument(item)
        except (TypeError, ValueError):  # one that can't be an argument has failed
            return self._template
        return _IN_WORDS.sub(lambda found: shlex.quote(os.fsdecode(_VALUES[found[0]](value))), self._template)


def _words(template: str) -> list[_Word]:
    """Return the arguments of a template that runs without a shell."""
    try:
        texts = shlex.split(template)
    except ValueError as error:
        raise TaskError(f"the command {template!r} can't be split into arguments: {error}") from None
    words = [_word(text) for text in texts]
    if not words[0]:
        raise TaskError(f"{template!r} is no command: its program's name is empty")
    if all(isinstance(word, bytes) for word in words):
        words.append([_VALUES["{}"]])
    return words


def _word(text: str) -> _Word:
    """Return one argument: bytes, or its parts when some are filled in for each item."""
    parts = [_VALUES.get(part) or os.fsencode(part) for part in _IN_WORDS.split(text) if part]
    if any(callable(part) for part in parts):
        return parts
    return os.fsencode(text)


def _script(template: str) -> list[_Word]:
    """Return the arguments that run a template in a shell, each value it uses arriving as a variable."""
    script, used = _expand(template)
    hint = ""
    if not used:
        script, used = _expand(template + " {}")
        hint = " (the item went to its end: write {} where it belongs)"
    given = " ".join(f"zpipe_{n}=${n}" for n in range(1, len(used) + 1))
    script = f"{given}; {script}"
    import subprocess

    check = subprocess.run([_SHELL, "-n", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if check.returncode:
        said = check.stderr.decode(errors="replace").strip()
        raise TaskError(f"the shell can't read the command {template!r}: {said}{hint}")
    values: list[_Word] = [[_VALUES[name]] for name in used]
    return [os.fsencode(word) for word in (_SHELL, "-c", script, "sh")] + values


def _expand(template: str) -> tuple[str, list[str]]:
    """Return a template with each placeholder made a variable, quoted for where it stands, and those it uses.

    A quoting this reads otherwise than the shell does (in a here-document, say) can at worst split or garble a value:
    what a variable holds is never run.
    """
    used: list[str] = []
    inside = ["("]  # what surrounds the place we are at: a quote, or the script of a substitution

    def expand(found: re.Match[str]) -> str:
        mark = found[0]
        if mark not in _VALUES:
            _enter_or_leave(inside, mark)
            return mark
        if mark not in used:
            used.append(mark)
        variable = f"${{zpipe_{used.index(mark) + 1}}}"
        return {"(": f'"{variable}"', '"': variable, "'": f"'\"{variable}\"'"}[inside[-1]]

    return _IN_SCRIPT.sub(expand, template), used


def _enter_or_leave(inside: list[str], mark: str) -> None:
    """Follow a shell's quotes and parentheses past one mark."""
    if inside[-1] == "'":
        if mark.endswith("'"):  # a backslash is nothing special here
            inside.pop()
    elif mark == '"' == inside[-1] or (mark == ")" and inside[-1] == "(" and len(inside) > 1):
        inside.pop()
    elif mark == '"' or (mark in {"'", "("} and inside[-1] == "("):
        inside.append(mark)
    elif mark == "$(":
        inside.append("(")


def _base(value: bytes) -> bytes:
    return posixpath.basename(value.rstrip(b"/"))


def _folder(value: bytes) -> bytes:
    return posixpath.dirname(value.rstrip(b"/") or value) or b"."


def is_numbered(template: str, shell: bool) -> bool:
    """Tell whether a template has the item's number, so that equal items make different commands."""
    found = (_IN_SCRIPT if shell else _IN_WORDS).finditer(template)
    return any(match.group() == "{#}" for match in found)


def _number(_: bytes) -> bytes:
    return b"%d" % (context.current().index + 1)


_VALUES: dict[str, _Value] = {
    "{}": lambda value: value,
    "{.}": lambda value: posixpath.splitext(value)[0],
    "{/}": _base,
    "{//}": _folder,
    "{/.}": lambda value: posixpath.splitext(_base(value))[0],
    "{#}": _number,
}


def _fill(word: list[bytes | _Value], value: bytes) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part(value) for part in word)


def _argument(item: Any) -> bytes:
    """Return an item as it goes into an argument."""
    if isinstance(item, str):
        value = item.encode("utf-8", "surrogateescape")
    elif isinstance(item, bytes | os.PathLike):
        value = os.fsencode(item)
    elif isinstance(item, int | float) and not isinstance(item, bool):
        value = str(item).encode()
    else:
        value = msgspec.json.encode(item)
    if b"\0" in value:
        raise ValueError(
            f"the item holds a NUL byte (at position {value.index(0)}), which no command's argument can: "
            "take it out, or give the item to a Python function"
        )
    return value


def _run(
    argv: list[bytes], program: str | None, environment: Mapping[bytes, bytes], patience: float
) -> tuple[int, bytes, bytes]:
    """Run a program, found already if `program` is its path, to its end; read nothing for `patience` seconds.

    Returns its exit status (negative: the signal's number), stdout and stderr.
    """
    try:
        child = Child(argv, program, environment)
    except OSError as error:
        raise _unstarted(argv[0], error) from None
    with child:
        stdout, stderr = child.read(patience)
        return child.wait(), stdout, stderr


def _unstarted(program: bytes, error: OSError) -> OSError:
    """Return an error of the same type that names the program."""
    if isinstance(error, FileNotFoundError) and _which(program) is None:
        return FileNotFoundError(_absent(program))
    return type(error)(f"{os.fsdecode(program)!r} can't be run on this worker: {error.strerror}")


def _which(program: bytes) -> str | None:
    """Return the path of a program's file, None if there is none: as shutil's, which loads much, finds it."""
    if b"/" in program:
        places = [program]
    else:
        search = os.environb.get(b"PATH", os.fsencode(os.defpath))
        places = [posixpath.join(folder, program) for folder in search.split(b":")] if search else []
    return next((os.fsdecode(path) for path in places if posixpath.isfile(path) and os.access(path, os.X_OK)), None)


def _absent(program: bytes) -> str:
    place = "this worker" if b"/" in program else "this worker's PATH"
    return f"no program {os.fsdecode(program)!r} on {place}"


def _ending(status: int, stderr: str) -> str:
    """Say how a command that failed ended."""
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:  # the real-time signals have no names
            return f"killed by signal {-status}"
    said = stderr.rstrip()[-1000:].splitlines()
    return f"exit status {status}: {said[-1].strip()}" if said else f"exit status {status}"
