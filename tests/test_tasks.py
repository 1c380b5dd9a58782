"""What users name becomes something to call, and what can't be is said clearly."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from zpipe import serialize
from zpipe.core.spec import TaskSpec
from zpipe.errors import TaskError
from zpipe.running import tasks
from zpipe.running.commands import CommandTask


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A current folder of its own; the modules and search paths a test adds go away again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        # Not what was first imported here by chance: of cloudpickle, say, others would then have two.
        if name.startswith(("zt_", "zpipe_task_")) or _is_below(tmp_path, sys.modules[name]):
            del sys.modules[name]
    importlib.invalidate_caches()


def _is_below(folder: Path, module: Any) -> bool:
    return Path(getattr(module, "__file__", None) or "/").is_relative_to(folder)


def write(path: Path, text: str) -> Path:
    """Write a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(spec: str) -> str:
    """Return what `import_object` says of a spec that it refuses."""
    with pytest.raises(TaskError) as caught:
        tasks.import_object(spec)
    return str(caught.value)


def load_refusal(spec: TaskSpec) -> str:
    """Return what `load` says of a task that it refuses."""
    with pytest.raises(TaskError) as caught:
        tasks.load(spec)
    return str(caught.value)


def describe_refusal(spec: str) -> str:
    """Return what `describe` says of a spec that it refuses."""
    with pytest.raises(TaskError) as caught:
        tasks.describe(spec)
    return str(caught.value)


class TestImportObject:
    """`module:name` and `path/file.py:name`, on the host that asks."""

    def test_module_in_current_folder(self, folder: Path) -> None:
        """A module of the current folder is found, and the folder is searched first, once."""
        write(folder / "zt_plain.py", "def double(x):\n    return 2 * x\n")
        assert tasks.import_object("zt_plain:double")(4) == 8
        tasks.import_object("zt_plain:double")
        assert sys.path[0] == str(folder)
        assert sys.path.count(str(folder)) == 1

    def test_dotted_names(self, folder: Path) -> None:
        """Submodules and attributes of classes can be named."""
        write(folder / "zt_pkg/__init__.py", "")
        write(folder / "zt_pkg/sub.py", "class C:\n    @staticmethod\n    def f(x):\n        return x + 1\n")
        assert tasks.import_object("zt_pkg.sub:C.f")(1) == 2

    def test_file(self, folder: Path) -> None:
        """A file is named by its path, from the current folder or from the root."""
        path = write(folder / "deep/my-tasks.py", "def f(x):\n    return x + 1\n")
        assert tasks.import_object("deep/my-tasks.py:f")(1) == 2
        assert tasks.import_object(f"{path}:f")(1) == 2

    @pytest.mark.parametrize(
        "spec", ["tasks.py", "module", "", ":f", "module:", "a b:f", "mod:f g", "mod:f..g", ".m:f"]
    )
    def test_shape(self, spec: str) -> None:
        """A spec of another shape is refused with the two that are right."""
        assert "write module:function or path/file.py:function" in refusal(spec)

    def test_module_not_found(self, folder: Path) -> None:
        """A missing module is named, with where it was looked for and what to do."""
        said = refusal("zt_nowhere:f")
        assert "no module 'zt_nowhere'" in said
        assert str(folder) in said
        assert sys.executable in said
        assert "path/zt_nowhere.py:function" in said

    def test_parent_not_found(self) -> None:
        """Of a dotted module the part that is missing is named."""
        assert "no module 'zt_nowhere'" in refusal("zt_nowhere.sub:f")

    def test_module_that_imports_a_missing_one(self, folder: Path) -> None:
        """A module that is there but imports one that isn't is not called missing."""
        path = write(folder / "zt_needs.py", "\nimport zt_nowhere\n")
        said = refusal("zt_needs:f")
        assert "zt_needs can't be imported: ModuleNotFoundError: No module named 'zt_nowhere'" in said
        assert f"{path}:2" in said

    def test_file_not_found(self, folder: Path) -> None:
        """A missing file is named with its full path, and close names are suggested."""
        write(folder / "tasks.py", "")
        said = refusal("task.py:f")
        assert f"no file {folder}/task.py" in said
        assert "did you mean 'tasks.py'?" in said
        assert f"there is no folder {folder}/gone" in refusal("gone/task.py:f")

    def test_folder_as_file(self, folder: Path) -> None:
        """What can't be read says why."""
        (folder / "x.py").mkdir()
        assert "x.py can't be read: Is a directory" in refusal("x.py:f")

    def test_attribute_missing(self, folder: Path) -> None:
        """A missing name brings up close ones, at each level."""
        write(folder / "zt_attr.py", "class Thing:\n    def method(self): pass\ndef checksum(x): pass\n")
        assert "zt_attr has no 'checksums'; did you mean 'checksum'?" in refusal("zt_attr:checksums")
        assert "did you mean 'method'?" in refusal("zt_attr:Thing.methud")
        assert "did you mean" not in refusal("zt_attr:qqqq")

    def test_attribute_raises(self, folder: Path) -> None:
        """A module whose lookup raises something else is refused with that."""
        write(folder / "zt_lazy.py", "def __getattr__(name):\n    raise ValueError('lazy ' + name)\n")
        assert "ValueError: lazy f" in refusal("zt_lazy:f")

    @pytest.mark.parametrize("spec", ["zt_boom:f", "zt_boom.py:f"])
    def test_exception_at_import(self, folder: Path, spec: str) -> None:
        """An exception at import is told by type, message, file and line of the user's own code."""
        path = write(folder / "zt_boom.py", "import json\n\n\njson.loads('[')\n")
        said = refusal(spec)
        assert "can't be imported: JSONDecodeError: Expecting value" in said
        assert f"{path}:4" in said

    @pytest.mark.parametrize("spec", ["zt_syntax:f", "zt_syntax.py:f"])
    def test_syntax_error(self, folder: Path, spec: str) -> None:
        """A syntax error is told with file and line."""
        path = write(folder / "zt_syntax.py", "x = 1\ndef f(:\n")
        said = refusal(spec)
        assert "SyntaxError: invalid syntax" in said
        assert f"{path}:2" in said

    @pytest.mark.parametrize("spec", ["zt_exit:f", "zt_exit.py:f"])
    def test_exit_at_import(self, folder: Path, spec: str) -> None:
        """A module that exits when imported is told how not to."""
        path = write(folder / "zt_exit.py", "import sys\nsys.exit(3)\n")
        said = refusal(spec)
        assert "calls sys.exit at import" in said
        assert f"{path}:2" in said
        assert "put that under if __name__ == '__main__'" in said

    @pytest.mark.parametrize("spec", ["zt_stop:f", "zt_stop.py:f"])
    def test_interrupt_at_import(self, folder: Path, spec: str) -> None:
        """An interrupt is not the task's fault: it goes through, and nothing half-made stays."""
        write(folder / "zt_stop.py", "raise KeyboardInterrupt\n")
        with pytest.raises(KeyboardInterrupt):
            tasks.import_object(spec)
        assert not [name for name in sys.modules if "zt_stop" in name]

    def test_other_base_exception(self, folder: Path) -> None:
        """Whatever else is raised at import refuses the task too."""
        write(folder / "zt_base.py", "raise GeneratorExit('odd')\n")
        assert "GeneratorExit: odd" in refusal("zt_base.py:f")


class TestDescribe:
    """What the ventilator makes of the user's words."""

    def test_module_is_not_imported(self) -> None:
        """A module need not exist here."""
        assert tasks.describe("zt_remote.only:f") == TaskSpec("import", "zt_remote.only:f")

    def test_module_shape_is_checked(self) -> None:
        """Its shape is checked all the same."""
        assert "can't be a module's name" in describe_refusal("zt-remote:f")

    def test_file_travels(self, folder: Path) -> None:
        """A file's text and full path travel."""
        path = write(folder / "t.py", "def f(x): return x\n")
        assert tasks.describe("t.py:f") == TaskSpec("file", f"{path}:f", b"def f(x): return x\n")

    def test_file_is_not_run(self, folder: Path) -> None:
        """Describing a file does not run it."""
        write(folder / "t.py", "def f(x): return x\nraise SystemExit\n")
        assert tasks.describe("t.py:f").kind == "file"

    @pytest.mark.parametrize(
        "text",
        [
            "f = abs",
            "f: object = abs",
            "a, (f, b) = 1, (2, 3)",
            "async def f(): pass",
            "class f: pass",
            "import f",
            "import f.g",
            "import g as f",
            "from g import f",
            "from g import h as f",
            "from g import *",
            "if True:\n    def f(): pass",
            "try:\n    import g\nexcept ImportError:\n    f = None",
            "for f in []: pass",
            "with open('x') as f: pass",
            "(f := 1)",
            "def __getattr__(name): pass",
        ],
    )
    def test_names_that_a_file_makes(self, folder: Path, text: str) -> None:
        """Every way to make a name at the top level counts."""
        write(folder / "t.py", text + "\n")
        assert tasks.describe("t.py:f.part").kind == "file"

    @pytest.mark.parametrize(
        "text", ["", "g.f = 1", "def g():\n    f = 1", "class C:\n    def f(self): pass", "import g.f"]
    )
    def test_names_that_a_file_does_not_make(self, folder: Path, text: str) -> None:
        """A name elsewhere than at the top level does not count."""
        write(folder / "t.py", text + "\n")
        assert "t.py has no 'f' at its top level" in describe_refusal("t.py:f")

    def test_close_names(self, folder: Path) -> None:
        """A missing name brings up close ones."""
        write(folder / "t.py", "def checksum(x): pass\n")
        assert "did you mean 'checksum'?" in describe_refusal("t.py:chekcsum")

    @pytest.mark.parametrize(("text", "line"), [("def f(:\n", 1), ("x = 1\nreturn x\n", 2), ("f = 1\n  g = 2\n", 2)])
    def test_syntax(self, folder: Path, text: str, line: int) -> None:
        """A file that isn't Python is refused here, with its line, before it travels."""
        path = write(folder / "t.py", text)
        said = describe_refusal("t.py:f")
        assert "t.py isn't valid Python: " in said
        assert f"{path}:{line}" in said

    def test_bytes_that_are_no_text(self, folder: Path) -> None:
        """A binary file is refused."""
        (folder / "t.py").write_bytes(b"f = '\xff\xfe'\0\n")
        assert "t.py isn't valid Python" in describe_refusal("t.py:f")

    def test_command(self) -> None:
        """A command travels as its template, checked but not looked up."""
        assert tasks.command("zt-no-such {}", shell=False) == TaskSpec("command", "zt-no-such {}")
        assert tasks.command("cat {} | wc", shell=True) == TaskSpec("command", "cat {} | wc", shell=True)
        with pytest.raises(TaskError, match="No closing quotation"):
            tasks.command("echo 'x", shell=False)


class TestLoad:
    """What a worker makes of a description."""

    def test_import(self, folder: Path) -> None:
        """An import path is imported on the worker."""
        write(folder / "zt_load.py", "def f(x): return x + 1\n")
        assert tasks.load(TaskSpec("import", "zt_load:f"))(1) == 2

    def test_pickle(self) -> None:
        """A pickled function is unpickled."""
        step = 2
        assert tasks.load(TaskSpec("pickle", "<lambda>", serialize.dump_function(lambda x: x + step)))(1) == 3

    def test_pickle_that_needs_a_missing_module(self, folder: Path) -> None:
        """A pickled function whose module isn't here says which."""
        write(folder / "zt_gone.py", "def f(x): return x\n")
        data = serialize.dump_function(tasks.import_object("zt_gone:f"))
        (folder / "zt_gone.py").unlink()
        del sys.modules["zt_gone"]
        importlib.invalidate_caches()
        said = load_refusal(TaskSpec("pickle", "f", data))
        assert "f needs the module 'zt_gone'" in said
        assert os.uname().nodename in said

    def test_pickle_that_is_none(self) -> None:
        """Bytes that are no pickle are refused."""
        assert "f can't be unpickled on this worker: UnpicklingError" in load_refusal(TaskSpec("pickle", "f", b"x"))

    def test_command(self) -> None:
        """A command becomes a callable that runs it."""
        task = tasks.load(TaskSpec("command", "echo {}"))
        assert isinstance(task, CommandTask)
        assert task("hi")["stdout"] == "hi\n"

    def test_command_not_on_path(self) -> None:
        """A program that this host lacks refuses the task before any item is run."""
        assert "no program 'zt-gzipp' on this worker's PATH" in load_refusal(TaskSpec("command", "zt-gzipp -k {}"))

    @pytest.mark.parametrize("shell", [False, True])
    def test_command_that_can_be_looked_up_late(self, shell: bool) -> None:
        """A program named by the item, or by a shell script, is not looked up."""
        tasks.load(TaskSpec("command", "{} --version" if not shell else "zt-gzipp {}", shell=shell))

    def test_file(self, folder: Path) -> None:
        """A file's text runs where the file isn't: as a module of its own, with its path."""
        spec = TaskSpec(
            "file", "/zt/gone/my-tasks.py:Maker.make", b"class Maker:\n    make = lambda x: (x, __file__)\n"
        )
        task = tasks.load(spec)
        assert task(1) == (1, "/zt/gone/my-tasks.py")
        assert task.__module__.startswith("zpipe_task_my_tasks_")
        assert "/zt/gone" not in sys.path

    def test_same_text_is_loaded_once(self) -> None:
        """The same text gives the same module; another text another one."""
        first = tasks.load(TaskSpec("file", "/zt/t.py:f", b"def f(x): return x\n"))
        again = tasks.load(TaskSpec("file", "/zt/t.py:f", b"def f(x): return x\n"))
        other = tasks.load(TaskSpec("file", "/zt/t.py:f", b"def f(x): return -x\n"))
        assert first is again
        assert other(1) == -1
        assert first(1) == 1

    def test_classes_of_a_file_can_be_pickled(self) -> None:
        """A value of a class that the file makes can be pickled and read back where the file is loaded."""
        task = tasks.load(
            TaskSpec(
                "file", "/zt/t.py:Point", b"from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n"
            )
        )
        assert serialize.loads(serialize.dumps(task(3))) == task(3)

    def test_traceback_shows_the_text_that_travelled(self) -> None:
        """Tracebacks and inspect show the lines of the text, though there is no such file here."""
        task = tasks.load(TaskSpec("file", "/zt/gone/t.py:f", b"def f(x):\n    return x / 0  # oops\n"))
        with pytest.raises(ZeroDivisionError) as caught:
            task(1)
        assert "return x / 0  # oops" in "".join(traceback.format_exception(caught.value))
        assert "# oops" in inspect.getsource(task)

    def test_sibling_import(self, folder: Path) -> None:
        """Where the file's folder exists, its siblings can be imported."""
        write(folder / "job/zt_helpers.py", "def add(x): return x + 1\n")
        path = write(folder / "job/t.py", "from zt_helpers import add\ndef f(x): return add(x)\n")
        assert tasks.load(tasks.describe(f"{path}:f"))(1) == 2

    def test_sibling_import_elsewhere(self) -> None:
        """Where it doesn't, the message says that only the file itself travels."""
        said = load_refusal(TaskSpec("file", "/zt/gone/t.py:f", b"import zt_helpers\ndef f(x): pass\n"))
        assert f"t.py imports 'zt_helpers', which this worker ({os.uname().nodename}) does not have" in said
        assert "only t.py itself travels" in said
        assert "install 'zt_helpers' on the worker, or run it where the file's folder (/zt/gone) exists" in said

    def test_missing_import_beside_the_file(self, folder: Path) -> None:
        """With the folder there, a missing module is said to be neither there nor installed."""
        path = write(folder / "t.py", "import zt_helpers\n")
        assert f"neither in {folder} nor installed" in load_refusal(TaskSpec("file", f"{path}:f", path.read_bytes()))

    def test_failed_file_can_be_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that failed leaves no half-made module behind."""
        spec = TaskSpec("file", "/zt/t.py:f", b"import os\nx = os.environ['ZT_SET']\ndef f(y): return x\n")
        said = load_refusal(spec)
        assert "t.py can't be imported: KeyError: 'ZT_SET', at /zt/t.py:2" in said
        monkeypatch.setenv("ZT_SET", "yes")
        assert tasks.load(spec)(0) == "yes"

    def test_name_missing_at_run_time(self) -> None:
        """A name that only seemed to be there is refused on the worker."""
        spec = TaskSpec("file", "/zt/t.py:f", b"if False:\n    f = 1\n")
        assert "t.py has no 'f'" in load_refusal(spec)

    @pytest.mark.parametrize(
        "spec",
        [
            TaskSpec("import", "os:sep"),
            TaskSpec("file", "/zt/t.py:f", b"f = 'text'\n"),
            TaskSpec("pickle", "f", serialize.dumps("text")[0]),
        ],
    )
    def test_not_callable(self, spec: TaskSpec) -> None:
        """What can't be called is refused by its type."""
        assert "is a str, not a function" in load_refusal(spec)

    def test_any_callable(self) -> None:
        """Whatever can be called is a task."""
        assert tasks.load(TaskSpec("import", "functools:partial")) is functools.partial
