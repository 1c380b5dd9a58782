"""What the user names becomes something to call: `module:function`, `path/file.py:function`, a command, a pickle.

The rule: whatever is wrong with a task is said here, as a TaskError that names the thing, the reason and the mend,
before a chunk is run. This file does not know what items are, nor how a task is run over them.

Of a file only its own text travels. It runs on the worker as a module of its own, under a private name made from
the text, so that the same text is loaded once per process and two versions of it never meet.
"""

from __future__ import annotations

import importlib
import os
import posixpath
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from zpipe import serialize
from zpipe.core.spec import TaskSpec
from zpipe.errors import TaskError

if TYPE_CHECKING:
    import ast

__all__ = ["command", "describe", "import_object", "is_import", "load", "share", "state_of", "yields"]

GENERATOR = 0x20
"""The flag of a generator function's code, which `inspect`, slow to load, calls CO_GENERATOR."""

_HERE = __file__.removesuffix("running/tasks.py")


def describe(spec: str) -> TaskSpec:
    """Return what travels for `module:function` or `path/file.py:function`.

    A file is read and checked here (its syntax, and that it makes the name); a module is not imported, since it may
    exist on the workers alone. Raises TaskError.
    """
    where, name = _split(spec)
    if not _is_file(where):
        return TaskSpec("import", _sendable(spec))
    path, data = _read(where, spec)
    _check_name(where, name, _parse(where, path, data))
    return TaskSpec("file", _sendable(f"{path}:{name}"), data)


def command(template: str, shell: bool) -> TaskSpec:
    """Return what travels for a command template. Raises TaskError for one that can't be run anywhere."""
    from zpipe.running.commands import CommandTask

    CommandTask(template, shell)
    return TaskSpec("command", _sendable(template), shell=shell)


def _sendable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TaskError(f"{text!a} has bytes that are no UTF-8, and can't be sent to workers: rename it") from None
    return text


def load(spec: TaskSpec) -> Callable[[Any], Any]:
    """Return the callable that a task's description stands for, on the host that is to run it. Raises TaskError."""
    if spec.kind == "command":
        from zpipe.running.commands import CommandTask

        task = CommandTask(spec.name, spec.shell)
        task.prepare()
        return task
    found: Any
    if spec.kind == "import":
        found = import_object(spec.name)
    elif spec.kind == "file":
        where, name = _split(spec.name)
        found = _attribute(_run_file(where, spec.data), name, posixpath.basename(where))
    else:
        found = _unpickle(spec)
    if not callable(found):
        raise TaskError(f"{spec.name} is a {type(found).__name__}, not a function: name something that can be called")
    function: Callable[[Any], Any] = found
    return function


def state_of(function: Any) -> dict[str, Any]:
    """Return the globals of a function of the script's own, or of a partial of one, that may be a worker's state.

    Such a function travels with the globals it names. What it sets, and what it fills, other functions of the script
    are to find again (`share`): not the functions, classes and modules among them.
    """
    function = getattr(function, "func", function)
    if getattr(function, "__module__", None) not in serialize.MAIN:
        return {}
    found: dict[str, Any] = getattr(function, "__globals__", {})
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("__") and not isinstance(value, FunctionType | type | ModuleType)
    }


def share(function: Any, state: dict[str, Any]) -> None:
    """Let a function of the script's own find the state that another has set up."""
    function = getattr(function, "func", function)
    if getattr(function, "__module__", None) in serialize.MAIN and isinstance(function, FunctionType):
        function.__globals__.update(state)


def yields(task: Any) -> bool:
    """Whether a task is a generator function: each item has any number of outputs."""
    while isinstance(task, partial):
        task = task.func
    code = getattr(task, "__code__", None)
    if code is None and not isinstance(task, type):
        code = getattr(getattr(type(task), "__call__", None), "__code__", None)  # noqa: B004 - what it is, not whether
    return bool(code is not None and code.co_flags & GENERATOR)


def import_object(spec: str) -> Any:
    """Return what `module:qual.name` or `path/file.py:qual.name` names on this host, the current folder included.

    Raises TaskError.
    """
    where, name = _split(spec)
    if _is_file(where):
        return _attribute(_run_file(*_read(where, spec)), name, where)
    return _attribute(_import_module(where), name, where)


def is_import(spec: str) -> bool:
    """Tell whether a name is of the form `module:qual.name`, whatever there is of it."""
    try:
        where, _ = _split(spec)
    except TaskError:
        return False
    return not _is_file(where)


def _split(spec: str) -> tuple[str, str]:
    """Return (module or path, dotted name)."""
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise TaskError(f"{spec!r} names no function: write module:function or path/file.py:function")
    if not _dotted(name):
        mend = "write module:function or path/file.py:function"
        if re.match(r"\w+,.*=", name):
            mend = "settings stand behind a task only where there are further ones, with --then"
        raise TaskError(f"{spec!r}: {name!r} can't be a function's name: {mend}")
    if not _is_file(where) and not _dotted(where):
        raise TaskError(f"{spec!r}: {where!r} can't be a module's name: write module:function or path/file.py:function")
    return where, name


def _dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_file(where: str) -> bool:
    return where.endswith(".py") or os.sep in where


def _read(where: str, spec: str) -> tuple[str, bytes]:
    """Return a file's absolute path and its text."""
    path = posixpath.abspath(where)
    try:
        with open(path, "rb") as file:
            return path, file.read()
    except FileNotFoundError:
        folder, base = posixpath.split(path)
        known = posixpath.isdir(folder)
        near = _near(base, (entry.name for entry in os.scandir(folder))) if known else f": there is no folder {folder}"
        raise TaskError(f"no file {path} (from {spec!r}){near}") from None
    except OSError as error:
        raise TaskError(f"{path} can't be read: {error.strerror}") from error


def _parse(where: str, path: str, data: bytes) -> ast.Module:
    """Return a file's syntax tree, having compiled it."""
    import ast

    try:
        tree = ast.parse(data, path)
        compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise TaskError(f"{where} isn't valid Python: {error.msg}, at {_place(error)}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise TaskError(f"{where} isn't valid Python: {error}") from error
    return tree


def _check_name(where: str, name: str, tree: ast.AST) -> None:
    """Raise TaskError when a file can't make the name, as far as its text tells."""
    names = set(_bound(tree))
    if not names & {"*", "__getattr__", name.partition(".")[0]}:
        raise TaskError(f"{where} has no {name!r} at its top level{_near(name, names)}")


def _bound(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module's top level makes: by assignment, def, class or import."""
    import ast

    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _import_module(name: str) -> ModuleType:
    """Return the module called `name`, the current folder searched first."""
    here = _search_here()
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            _refuse(name, error)
        raise TaskError(
            f"no module {error.name!r} on this host ({os.uname().nodename}): looked in {here} and among "
            f"the packages of {sys.executable}; start it in the module's folder, install it here, or name a file, "
            f"as in path/{name.rpartition('.')[2]}.py:function"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - _refuse raises
        _refuse(name, error)


def _search_here() -> str:
    """Put the current folder at the front of sys.path, once, and return it."""
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib is a tenth of a worker's start
    except OSError:
        return "no current folder (it was deleted)"
    if here not in sys.path:
        sys.path.insert(0, here)
    return here


def _run_file(path: str, data: bytes) -> ModuleType:
    """Return the module that a file's text makes, running it unless this process has done so."""
    folder, base = posixpath.split(path)
    name = f"zpipe_task_{re.sub(r'[^0-9A-Za-z_]', '_', posixpath.splitext(base)[0])}_{zlib.crc32(data):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if posixpath.isdir(folder) and folder not in sys.path:
        sys.path.insert(0, folder)
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = path
    try:
        _execute(module, path, data)
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise TaskError(_missing(base, error.name, folder)) from error
        _refuse(base, error)
    return module


def _execute(module: ModuleType, path: str, data: bytes) -> None:
    import importlib.util
    import linecache

    code = compile(data, path, "exec", dont_inherit=True)
    # Without a modification time the entry is never checked against the disk, so that tracebacks show the text
    # that runs, here and where there is no such file.
    lines = importlib.util.decode_source(data).splitlines(keepends=True)
    linecache.cache[path] = (len(data), None, lines, path)
    exec(code, module.__dict__)  # noqa: S102 - running the user's file is the job


def _missing(base: str, module: str, folder: str) -> str:
    """Say that a file imports what this host does not have."""
    said = f"{base} imports {module!r}, which this worker ({os.uname().nodename}) does not have: "
    if posixpath.isdir(folder):
        return f"{said}it is neither in {folder} nor installed; install {module!r} on the worker"
    return (
        f"{said}only {base} itself travels; install {module!r} on the worker, or run it where the file's folder "
        f"({folder}) exists"
    )


def _unpickle(spec: TaskSpec) -> Any:
    try:
        return serialize.load_function(spec.data)
    except ModuleNotFoundError as error:
        raise TaskError(
            f"{spec.name} needs the module {error.name!r}, which this worker ({os.uname().nodename}) does not have: "
            "install it there"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise TaskError(f"{spec.name} can't be unpickled on this worker: {type(error).__name__}: {error}") from error


def _attribute(module: ModuleType, name: str, where: str) -> Any:
    """Return what a dotted name is within a module."""
    found: Any = module
    part = ""
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        public = (known for known in dir(found) if not known.startswith("__"))
        raise TaskError(f"{where} has no {name!r}{_near(part, public)}") from error
    except Exception as error:
        raise TaskError(f"{where}: looking up {name!r} raised {_said(error)}") from error
    return found


def _refuse(what: str, error: BaseException) -> NoReturn:
    """Raise the TaskError for a module that raised `error` while it was imported."""
    if isinstance(error, SystemExit):
        raise TaskError(
            f"{what} calls sys.exit at import (at {_place(error)}); put that under if __name__ == '__main__'"
        ) from error
    raise TaskError(f"{what} can't be imported: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """Return an exception's type, message and place."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}, at {_place(error)}"


def _place(error: BaseException) -> str:
    """Return the file and line an exception comes from: the user's, not the library's they called, if any is."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    import traceback

    stack = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith((_HERE, "<"))
    ]
    libraries = (f"{posixpath.dirname(os.__file__)}{os.sep}", f"{sys.prefix}{os.sep}lib{os.sep}")
    own = [frame for frame in stack if not frame.filename.startswith(libraries)]
    frame = next(reversed(own or stack), None)
    return f"{frame.filename}:{frame.lineno}" if frame else "an unknown line"


def _near(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known names close to `name`, or nothing."""
    import difflib

    close = difflib.get_close_matches(name, known)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
