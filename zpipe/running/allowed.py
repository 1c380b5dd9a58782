"""What a worker runs for a ventilator that it does not trust with more: tasks of its own that it has named.

The rule: nothing that was sent is code. With a list of what is allowed a worker takes no pickles and no text of files,
and only the functions and commands on it. In a job without pickles any worker takes none. Whatever is refused is said
as a TaskError, which both sides show.
"""

from __future__ import annotations

import shlex

import msgspec

from zpipe.core.spec import PICKLED, JobSpec, TaskSpec
from zpipe.errors import TaskError, UsageError
from zpipe.running import tasks

__all__ = ["Allowed", "check", "implied", "parse"]


class Allowed(msgspec.Struct, frozen=True):
    """`functions` are `module:function` or `module:*`, `commands` templates run without a shell, `shells` with one."""

    functions: list[str] = []
    commands: list[str] = []
    shells: list[str] = []

    def options(self) -> str:
        """Return the options of `zpipe worker` that say the same, with a space ahead of each."""
        named = [("--allow", name) for name in self.functions] + [("--allow-command", name) for name in self.commands]
        return "".join(f" {option} {shlex.quote(name)}" for option, name in named)


def parse(functions: tuple[str, ...], commands: tuple[str, ...]) -> Allowed | None:
    """Return what a worker was told to allow, None if it was told nothing. Raises UsageError."""
    for name in functions:
        module, _, function = name.rpartition(":")
        plain = tasks.is_import(f"{module}:any" if function == "*" else name)
        if not plain:
            raise UsageError(
                f"--allow {name!r} names no function of a module: write module:function, or module:* for all that the "
                "module defines; a file's function is that of the module, in the folder where the worker is started"
            )
    try:
        for template in commands:
            tasks.command(template, False)
    except TaskError as error:
        raise UsageError(f"--allow-command {template!r}: {error}") from None
    return Allowed(list(functions), list(commands)) if functions or commands else None


def implied(*specs: JobSpec) -> Allowed | None:
    """Return what a job's own workers are to allow: just what it needs; None if it uses pickles."""
    if any(spec.codec == "pickle" for spec in specs):
        return None
    needed = [task for spec in specs for task in (spec.task, spec.until) if task is not None]
    commands = [task for task in needed if task.kind == "command"]
    return Allowed(
        [task.name for task in needed if task.kind == "import"],
        [task.name for task in commands if not task.shell],
        [task.name for task in commands if task.shell],
    )


def check(spec: JobSpec, allowed: Allowed | None) -> None:
    """Raise TaskError if a job is not to be worked for; `allowed` is None where all are that are of one piece."""
    needed = [spec.task] if spec.until is None else [spec.task, spec.until]
    if spec.codec != "pickle":
        odd = any(task.kind == "pickle" or task.call != "one" for task in needed)
        if odd or spec.setup or spec.encoding in PICKLED:
            raise TaskError(f"a job of --codec {spec.codec} that asks for what only pickles carry is no honest one")
    elif allowed is not None:
        raise TaskError(
            "this worker takes no pickles, as it was started with --allow, and the job sends some: start the job with "
            "--codec json or --codec msgpack, or the worker without --allow"
        )
    if allowed is not None:
        for task in needed:
            _check(task, allowed)


def _check(task: TaskSpec, allowed: Allowed) -> None:
    if task.kind == "import":
        why = _unallowed(task.name, allowed.functions)
        mend = f"start it with --allow {shlex.quote(task.name)} too"
    elif task.kind == "command":
        why = "" if task.name in (allowed.shells if task.shell else allowed.commands) else "it is not on its list"
        mend = f"start it with --allow-command {shlex.quote(task.name)} too"
        if task.shell and why:
            why = "it is for a shell, which is on no list"
            mend = "make it a command without --shell, or a function, that can be allowed"
    else:
        why = "it would be code that was sent to it"
        mend = "name the task as module:function, with the module on the worker"
    if why:
        raise TaskError(
            f"this worker does not allow {task.name!r}: {why} ({_listed(allowed)}); if it should be run there, {mend}"
        )


def _unallowed(name: str, functions: list[str]) -> str:
    """Return why a function of a module is not allowed, empty if it is."""
    if name in functions:
        return ""
    module, _, function = name.rpartition(":")
    if f"{module}:*" not in functions:
        return "it is not on its list"
    if "." in function or function.startswith("_"):
        return f"{module}:* is for public names at the module's top level"
    home = getattr(tasks.import_object(name), "__module__", None)
    # Else it would be for all that the module has imported, too: subprocess.run, say.
    return "" if home == module else f"{module}:* is for what that module defines, and this is from {home}"


def _listed(allowed: Allowed) -> str:
    names = [*allowed.functions, *allowed.commands, *allowed.shells]
    return f"allowed: {', '.join(map(repr, names))}" if names else "nothing is allowed"
