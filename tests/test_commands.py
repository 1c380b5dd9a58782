"""Command templates: what an item becomes in one, and how a command can end."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zpipe import context
from zpipe.errors import CommandFailed, TaskError
from zpipe.running.child import Child
from zpipe.running.commands import CommandTask

SHOW = r"printf '%s\0'"
"""A command that prints its arguments."""

NASTY = [
    "plain",
    "two words",
    "; touch made",
    "$(touch made)",
    "`touch made`",
    "| touch made",
    "> made",
    "&& touch made",
    "it's",
    'say "hi"',
    "'; touch made; '",
    '"; touch made; "',
    "line\nbreak",
    "\ntouch made\n",
    "-rf",
    "--help",
    "*",
    "~",
    "$HOME",
    "${zpipe_1}",
    "back\\slash",
    "",
    " ",
    "{}",
    "{.}",
    "é ü 漢",
    "# no comment",
    "!x",
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(template: str, item: Any, shell: bool = False) -> list[str]:
    """Return the arguments that a program got from a template that begins where SHOW ends."""
    text: str = CommandTask(f"{SHOW} {template}", shell)(item)["stdout"]
    return text.split("\0")[:-1]


def echoed(template: str, item: Any) -> str:
    """Return what a shell template prints."""
    text: str = CommandTask(template, True)(item)["stdout"]
    return text


class TestPlaceholders:
    """What each placeholder stands for."""

    @pytest.mark.parametrize("shell", [False, True])
    @pytest.mark.parametrize(
        ("template", "item", "wanted"),
        [
            ("{}", "a/b.tar.gz", "a/b.tar.gz"),
            ("{.}", "a/b.tar.gz", "a/b.tar"),
            ("{.}", "a.d/b", "a.d/b"),
            ("{.}", ".profile", ".profile"),
            ("{/}", "a/b.tar.gz", "b.tar.gz"),
            ("{/}", "a/b/", "b"),
            ("{//}", "a/b.gz", "a"),
            ("{//}", "/b.gz", "/"),
            ("{//}", "b.gz", "."),
            ("{//}", "a/b/", "a"),
            ("{//}", "", "."),
            ("{/.}", "a/b.tar.gz", "b.tar"),
            ("{/.}", "b", "b"),
            ("x{.}.png-{/}", "a/b.jpg", "xa/b.png-b.jpg"),
            ("{}{}", "ab", "abab"),
        ],
    )
    def test_values(self, shell: bool, template: str, item: str, wanted: str) -> None:
        """Each placeholder gives its part of the item, inside an argument too."""
        assert arguments(template, item, shell) == [wanted]

    @pytest.mark.parametrize("shell", [False, True])
    def test_number(self, shell: bool) -> None:
        """{#} is the item's number in the job, from 1."""
        task = CommandTask("echo {#}:{}", shell)
        with context.running(40, [None, None], 1, "", ""):
            assert task("x")["stdout"] == "43:x\n"

    @pytest.mark.parametrize("shell", [False, True])
    def test_none(self, shell: bool) -> None:
        """Without a placeholder the item is the last argument."""
        assert arguments("-x", "two words", shell) == ["-x", "two words"]

    def test_only_number_takes_no_item(self) -> None:
        """A template that uses any placeholder does not get the item besides."""
        with context.running(0, [], 1, "", ""):
            assert CommandTask("echo {#}", False)("x")["stdout"] == "1\n"

    def test_other_braces_are_kept(self) -> None:
        """Braces that are no placeholder are left alone."""
        assert arguments("'{print $1}' {x} {}", "i") == ["{print $1}", "{x}", "i"]

    def test_program_from_the_item(self) -> None:
        """The program itself can be the item."""
        assert CommandTask("{} hi", False)("echo")["stdout"] == "hi\n"


class TestItemsAreData:
    """No shell ever parses an item."""

    @pytest.mark.parametrize("item", NASTY)
    def test_without_shell(self, folder: Path, item: str) -> None:
        """An item arrives as it is."""
        assert arguments("{} x{}y", item) == [item, f"x{item}y"]
        assert not list(folder.iterdir())

    @pytest.mark.parametrize("item", NASTY)
    @pytest.mark.parametrize(
        "template",
        [
            "{}",
            '"{}"',
            "'{}'",
            "$(printf '%sx' {})",
            '"$(printf %sx {})"',
            '"$(printf %sx "{}")"',
            "\"$(printf %sx '{}')\"",
        ],
    )
    def test_with_shell(self, folder: Path, item: str, template: str) -> None:
        """An item arrives as it is, however the template quotes it, and nothing in it is run."""
        got = arguments(template, item, shell=True)
        assert not list(folder.iterdir())
        if template.startswith("$("):  # the user's own unquoted substitution is split by the shell
            return
        assert got == [item + "x" if "printf" in template else item]

    @pytest.mark.parametrize("item", NASTY)
    @pytest.mark.parametrize(
        "template",
        ["cat <<END\n{}\nEND", "# don't\necho {}", 'echo `echo "{}"`', "echo $((1)) {}", "f() { echo {}; }; f"],
    )
    def test_with_shell_where_quotes_are_unclear(self, folder: Path, item: str, template: str) -> None:
        """Where the shell reads quotes otherwise than we do, nothing of an item is run all the same."""
        try:
            task = CommandTask(template, True)
        except TaskError:
            return
        task(item)
        assert not list(folder.iterdir())

    @settings(max_examples=40, deadline=None)
    @given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
    def test_any_text_through_a_shell(self, item: str) -> None:
        """Any text goes through a shell unchanged."""
        assert CommandTask("printf '%s|' {}", True)(item)["stdout"] == f"{item}|"

    @settings(max_examples=100, deadline=None)
    @given(
        st.text(st.sampled_from("\"'`$(){}\\ ;#ab")),
        st.text(st.sampled_from("\"'`$(){}\\ ;#ab")),
        st.sampled_from(
            ["; touch made;", "$(touch made)", "' ; touch made;'", '";touch made;"', "`touch made`", "\ntouch made\n"]
        ),
    )
    def test_any_template_in_a_shell(self, before: str, after: str, item: str) -> None:
        """Whatever surrounds a placeholder, an item is not run."""
        try:
            task = CommandTask(f"echo {before}{{}}{after}", True)
        except TaskError:
            return
        with contextlib.suppress(CommandFailed), context.running(0, [], 1, "", ""):
            task(item)
        assert not Path("made").exists()

    def test_shell_works(self) -> None:
        """With a shell, pipes and variables of the template's own work."""
        assert echoed("printf '%s\\n' {} b a | sort | head -n 2 | tr a-z A-Z", "c") == "A\nB\n"
        assert echoed('x={/}; echo "$x" ${#}', "d/e f") == "e f 1\n"

    def test_shell_backslash_keeps(self) -> None:
        """With a shell, a backslash keeps a placeholder for the program."""
        assert echoed("echo \\{} {}", "x") == "{} x\n"


class TestItems:
    """Items that are not text."""

    @pytest.mark.parametrize(
        ("item", "wanted"),
        [
            (3, "3"),
            (2.5, "2.5"),
            (True, "true"),
            (None, "null"),
            ({"a": [1, "x y"]}, '{"a":[1,"x y"]}'),
            (["a"], '["a"]'),
            (b"by tes", "by tes"),
            (b"\xff", "\udcff"),
            ("\udcff", "\udcff"),
            (Path("a b/c"), "a b/c"),
        ],
    )
    def test_text_of(self, item: Any, wanted: str) -> None:
        """Numbers are written out, bytes and paths are as they are, the rest is JSON."""
        assert CommandTask("printf %s {}", False)(item)["stdout"] == wanted

    def test_without_text(self) -> None:
        """An item that has no text fails, and says of what type it is."""
        with pytest.raises(TypeError, match="object"):
            CommandTask("echo", False)(object())

    @pytest.mark.parametrize("item", ["a\0b", b"a\0b"])
    @pytest.mark.parametrize("shell", [False, True])
    def test_nul(self, item: Any, shell: bool) -> None:
        """A NUL byte can't be in an argument."""
        with pytest.raises(ValueError, match=r"the item holds a NUL byte \(at position 1\)"):
            CommandTask("echo", shell)(item)


class TestTemplates:
    """Templates that can't be run anywhere."""

    @pytest.mark.parametrize("template", ["", " \n", "a\0b"])
    @pytest.mark.parametrize("shell", [False, True])
    def test_no_command(self, template: str, shell: bool) -> None:
        """An empty template is refused."""
        with pytest.raises(TaskError, match="is no command: write a program"):
            CommandTask(template, shell)

    def test_empty_program(self) -> None:
        """So is one whose program is empty."""
        with pytest.raises(TaskError, match="program's name is empty"):
            CommandTask("'' {}", False)

    @pytest.mark.parametrize("template", ["echo 'x", 'echo "x', "echo x\\"])
    def test_unbalanced(self, template: str) -> None:
        """Unbalanced quotes are refused."""
        with pytest.raises(TaskError, match="can't be split into arguments: No"):
            CommandTask(template, False)

    @pytest.mark.parametrize("template", ["echo 'x", "if {}", "echo )"])
    def test_script_with_errors(self, template: str) -> None:
        """A script that the shell can't read is refused, in the shell's words."""
        with pytest.raises(TaskError, match=r"the shell can't read the command .*: .*[Ss]yntax error"):
            CommandTask(template, True)

    def test_script_without_a_place_for_the_item(self) -> None:
        """A script that can't end in an item is told to say where the item belongs."""
        with pytest.raises(TaskError, match=r"the item went to its end: write \{\} where it belongs"):
            CommandTask("for i in 1 2; do echo $i; done", True)


class TestRuns:
    """How a command runs and ends."""

    def test_output(self) -> None:
        """Both outputs come back as text, with the status."""
        assert echoed("echo out; echo err >&2", "") == "out\n"
        assert CommandTask("echo out {}; echo err >&2", True)("x") == {
            "stdout": "out x\n",
            "stderr": "err\n",
            "exit": 0,
        }

    def test_bytes_that_are_no_text(self) -> None:
        """Bytes that aren't UTF-8 come back as surrogates that give them again."""
        assert echoed("printf '\\377'", "").encode("utf-8", "surrogateescape") == b"\xff"

    def test_newlines_are_kept(self) -> None:
        """Line ends are not translated."""
        assert echoed("printf 'a\\r\\nb\\r'", "") == "a\r\nb\r"

    def test_much_on_both_outputs(self) -> None:
        """Outputs larger than a pipe, written in turns, do not deadlock."""
        got = CommandTask(
            ": {}; for i in 1 2 3; do head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; done", True
        )("")
        assert (len(got["stdout"]), len(got["stderr"])) == (900_000, 900_000)

    def test_stdin_is_empty(self) -> None:
        """A command that reads its input finds it at an end."""
        assert CommandTask("sh -c cat", False)("x")["stdout"] == ""

    def test_process_group(self) -> None:
        """A command belongs to the worker's process group, which its supervisor kills."""
        assert (
            CommandTask(f"{sys.executable} -c 'import os; print(os.getpgrp())'", False)("")["stdout"]
            == f"{os.getpgrp()}\n"
        )

    def test_exit_status(self) -> None:
        """A status other than 0 fails the item with the last line said, and all that was printed."""
        with pytest.raises(CommandFailed, match=r"^exit status 3: no such luck$") as caught:
            CommandTask("echo out; printf 'first\\n no such luck \\n\\n' >&2; exit 3", True)("")
        assert caught.value.status == 3
        assert caught.value.stdout == "out\n"
        assert caught.value.stderr.startswith("first\n")
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.status) == (str(caught.value), 3)

    def test_exit_status_alone(self) -> None:
        """With nothing on stderr there is the status alone."""
        with pytest.raises(CommandFailed, match=r"^exit status 1$"):
            CommandTask("false", False)("x")

    @pytest.mark.parametrize(
        ("number", "said"), [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGRTMIN + 3, "killed by signal 37")]
    )
    def test_killed(self, number: int, said: str) -> None:
        """A signal that kills the command is named."""
        with pytest.raises(CommandFailed) as caught:
            CommandTask(f"sh -c 'kill -{int(number)} $$'", False)("x")
        assert str(caught.value) == said
        assert caught.value.status == -number

    def test_program_not_found(self) -> None:
        """A program that isn't there is named."""
        with pytest.raises(FileNotFoundError, match=r"^no program 'zt-none' on this worker's PATH$"):
            CommandTask("{} x", False)("zt-none")
        with pytest.raises(FileNotFoundError, match=r"^no program './zt-none' on this worker$"):
            CommandTask("{} x", False)("./zt-none")

    def test_program_that_may_not_run(self, folder: Path) -> None:
        """A file that can't be run says why."""
        (folder / "plain").write_text("x")
        with pytest.raises(PermissionError, match=r"'./plain' can't be run on this worker: Permission denied"):
            CommandTask("{} x", False)("./plain")

    def test_argument_too_long(self) -> None:
        """An item too long for an argument fails with the system's reason."""
        with pytest.raises(OSError, match="'echo' can't be run on this worker: Argument list too long"):
            CommandTask("echo", False)("x" * 3_000_000)

    def test_program_known_at_start(self) -> None:
        """A program known from the template is looked up once, before any item."""
        with pytest.raises(TaskError, match=r"no program 'zt-none' on this worker's PATH: install it there"):
            CommandTask("zt-none {}", False).prepare()
        task = CommandTask("echo {}", False)
        task.prepare()
        assert task("x")["stdout"] == "x\n"

    def test_no_thread_and_no_descriptor_is_left(self) -> None:
        """A run leaves no descriptor open, whether it succeeds or not, and starts no thread."""
        before, threads = os.listdir("/proc/self/fd"), threading.active_count()
        for template in ("echo", "false", "zt-none"):
            with contextlib.suppress(CommandFailed, FileNotFoundError):
                CommandTask(template, False)("x")
        assert len(os.listdir("/proc/self/fd")) == len(before)
        assert threading.active_count() == threads

    def test_inherits_no_descriptor(self, folder: Path) -> None:
        """A command has none of the worker's descriptors but its own three, even those that are to be inherited."""
        reading, writing = os.pipe()
        try:
            os.set_inheritable(writing, True)
            task = CommandTask("ls -l {}", False)
            task.prepare()
            assert f"pipe:[{os.fstat(writing).st_ino}]" not in task("/proc/self/fd/")["stdout"]
        finally:
            os.close(reading)
            os.close(writing)

    def test_signals_are_as_programs_expect(self) -> None:
        """A command that writes to a pipe that nobody reads is ended by SIGPIPE, which Python itself ignores."""
        assert CommandTask("{ yes; kill -l $? >&2; } | head -n {}", True)(1) == {
            "stdout": "y\n",
            "stderr": "PIPE\n",
            "exit": 0,
        }

    def test_output_of_what_is_left_behind(self) -> None:
        """What a command starts and does not wait for is heard out, as long as it holds the output."""
        assert echoed("(sleep 0.2; echo late) & echo {}", "early") == "early\nlate\n"

    def test_output_opened_again(self) -> None:
        """A script may open its own outputs by name, without emptying them."""
        got = CommandTask("echo {} >&2; echo b | tee /dev/stderr; echo c >/dev/stdout", True)("a")
        assert (got["stdout"], got["stderr"]) == ("b\nc\n", "a\nb\n")

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A command has the worker's environment, bytes that are no text included."""
        monkeypatch.setitem(os.environb, b"ZT_ODD", b"\xff=x")
        task = CommandTask("printenv", False)
        assert task("ZT_ODD")["stdout"] == "\udcff=x\n"
        with pytest.raises(CommandFailed):
            task("ZT_NONE")

    def test_script_without_interpreter(self, folder: Path) -> None:
        """A file that the system can't run by itself says so, and is not given to a shell."""
        (folder / "script").write_text("echo x\n")
        (folder / "script").chmod(0o755)
        with pytest.raises(OSError, match=r"'./script' can't be run on this worker: Exec format error"):
            CommandTask("{} x", False)("./script")

    def test_interrupt_ends_the_command(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An exception while a command's output is read kills the command: it does not run on unseen."""
        made = folder / "pid"

        def interrupt(*_: object) -> list[bytes]:
            deadline = time.monotonic() + 20
            while not (made.exists() and made.read_text().endswith("\n")) and time.monotonic() < deadline:
                time.sleep(0.001)
            raise KeyboardInterrupt

        monkeypatch.setattr(Child, "read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            CommandTask("echo $$ > pid; exec sleep", True)("100")
        with pytest.raises(ProcessLookupError):
            os.kill(int(made.read_text()), 0)
