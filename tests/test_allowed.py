"""What a worker with a list runs: what is on it, of jobs without pickles, and nothing else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.errors import TaskError, UsageError
from zpipe.running import tasks
from zpipe.running.allowed import Allowed, check, implied, parse

MODULE = """
from os import system
import subprocess

class Made:
    def method(self): pass

def own(x): return x
def _hidden(x): return x
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of tasks in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "za_tasks.py").write_text(MODULE)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("za_tasks", None)


def job(name: str, kind: Any = "import", until: str = "", shell: bool = False, **more: Any) -> JobSpec:
    """A job in JSON, unless told otherwise."""
    stop = TaskSpec("import", until) if until else None
    return JobSpec(TaskSpec(kind, name, shell=shell), **{"encoding": "json", "codec": "json", "until": stop, **more})


def refusal(spec: JobSpec, *names: str, commands: tuple[str, ...] = ()) -> str:
    """What a worker says that allows these names."""
    with pytest.raises(TaskError) as caught:
        check(spec, Allowed(list(names), list(commands)))
    return str(caught.value)


def test_names_that_are_allowed() -> None:
    """By name, or by their module if they are its own and public."""
    for name in ("za_tasks:own", "za_tasks:Made"):
        check(job(name), Allowed(["math:sqrt", name]))
        check(job(name), Allowed(["za_tasks:*"]))
    check(job("za_tasks:system"), Allowed(["za_tasks:system"]))
    check(job("za_tasks:own", until="builtins:bool"), Allowed(["za_tasks:*", "builtins:bool"]))
    check(job("os:system"), None)


@pytest.mark.parametrize(
    "name", ["za_tasks:system", "za_tasks:subprocess.run", "za_tasks:Made.method", "za_tasks:_hidden"]
)
def test_what_a_module_has_imported_is_not_its_own(name: str) -> None:
    """Or `module:*` would be a way to everything it uses."""
    assert f"start it with --allow {name} too" in refusal(job(name), "za_tasks:*")


def test_names_that_are_not_allowed() -> None:
    """The refusal names the task, what is allowed, and the mend; a module that is not allowed is not even imported."""
    said = refusal(job("za_tasks:own"), "math:*")
    assert said.startswith("this worker does not allow 'za_tasks:own': it is not on its list (allowed: 'math:*')")
    assert "za_tasks" not in sys.modules
    assert "'os:system'" in refusal(job("math:sqrt", until="os:system"), "math:*")
    for kind in ("file", "pickle"):
        refusal(job("za_tasks:own", kind), "za_tasks:own")
    assert "code that was sent" in refusal(job("/tmp/za_tasks.py:own", "file"), "za_tasks:own")


def test_commands() -> None:
    """Word for word, and without a shell."""
    check(job("echo {}", "command"), Allowed(commands=["echo {}"]))
    assert "--allow-command 'rm {}'" in refusal(job("rm {}", "command"), commands=("echo {}",))
    assert "without --shell" in refusal(job("echo {}", "command", shell=True), commands=("echo {}",))
    refusal(job("echo {}", "command"), "za_tasks:*")


def test_jobs_with_pickles() -> None:
    """None is taken where there is a list, and where there is none, none by a job that says it has none."""
    assert "this worker takes no pickles" in refusal(job("za_tasks:own", codec="pickle"), "za_tasks:own")
    check(job("za_tasks:own", codec="pickle"), None)
    for sly in (
        *(job("za_tasks:own", encoding=encoding) for encoding in ("values", "pickle", "outcomes")),
        job("za_tasks:own", "pickle"),
        job("za_tasks:own", setup=True),
        JobSpec(TaskSpec("import", "za_tasks:own", call="full"), "json", codec="json"),
    ):
        for allowed in (None, Allowed(["za_tasks:own"])):
            with pytest.raises(TaskError, match="no honest one"):
                check(sly, allowed)


def test_what_a_jobs_own_workers_allow() -> None:
    """Just what it needs; the same as options for workers elsewhere."""
    assert implied(job("m:f", codec="pickle")) is None
    found = implied(job("m:f", until="m:g"))
    assert found == Allowed(["m:f", "m:g"])
    assert found.options() == " --allow m:f --allow m:g"
    command = implied(JobSpec(tasks.command("echo {}", False), "raw", codec="json"))
    assert command is not None
    assert command.options() == " --allow-command 'echo {}'"
    shell = JobSpec(tasks.command("echo {} | wc", True), "raw", codec="json")
    check(shell, implied(shell))


@pytest.mark.parametrize("name", ["x", "tasks.py:f", "a/b.py:*", ":f", "m:", "m:f*", "m*:f", "m:*.f"])
def test_lists_that_can_not_be_meant(name: str) -> None:
    """Are refused at the start, with what to write."""
    with pytest.raises(UsageError, match=r"write module:function, or module:\*"):
        parse((name,), ())


def test_lists() -> None:
    """Without one everything is allowed."""
    assert parse((), ()) is None
    assert parse(("a.b:c.d", "m:*"), ()) == Allowed(["a.b:c.d", "m:*"])
    assert parse((), ("echo {}",)) == Allowed([], ["echo {}"])
    with pytest.raises(UsageError, match="--allow-command"):
        parse((), ("echo '",))
