"""What the README shows is true: its commands exist, those shown with their output give it, its links lead somewhere.

Blocks marked `console` are run and compared; of those marked `sh` every `zpipe` command has to be one that the command
line takes. Python blocks that begin with a file's name are that file.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from test_layers import level

from zpipe.cli import COMMANDS, cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*/README.md"))]


def blocks(page: str, kind: str) -> list[str]:
    """Return the code blocks of a page that are marked as `kind`."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def transcript() -> Iterator[tuple[str, str]]:
    """Yield each command of the README that is shown with its output, and that output."""
    for block in blocks(README, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def invocations(script: str) -> Iterator[list[str]]:
    """Yield the arguments of each `zpipe` in a shell script."""
    for line in script.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split, words.commenters = True, ""
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("();<>|&"):
                while command and re.match(r"\w+=", command[0]):
                    del command[0]
                if command and Path(command[0]).name == "zpipe":
                    yield command[1:]
                command = []
            else:
                command.append(word)


SHOWN = [
    pytest.param(args, id=f"{page.parent.name}: {shlex.join(args)[:60]}")
    for page in PAGES
    for script in blocks(page.read_text(), "sh")
    + ([command for command, _ in transcript()] if page == PAGES[0] else [])
    for args in invocations(script)
]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option comes from the environment."""
    for name in [name for name in os.environ if "ZPIPE_" in name]:
        monkeypatch.delenv(name)


def test_the_two_commands_come_first() -> None:
    """Right below the title, a line each: the real job, and the tests."""
    assert README.startswith("# zpipe\n\n```sh\n")
    job, tests = blocks(README, "sh")[0].splitlines()
    assert job.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert tests.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert next(invocations(job))[0] == "run"
    assert tests.endswith("&& .venv/bin/pytest -q -n 4 --dist worksteal")


@pytest.mark.parametrize("args", SHOWN)
def test_commands_are_taken(args: list[str]) -> None:
    """The command exists, and so do its options, with such values."""
    command = cli.get_command(click.Context(cli), args[0])
    assert command is not None, f"there is no zpipe {args[0]}"
    command.make_context(args[0], args[1:])


def test_every_command_is_shown() -> None:
    """No command is left out, and the checks above have something to check."""
    assert {args.values[0][0] for args in SHOWN} == set(COMMANDS)  # type: ignore[index]


@pytest.mark.parametrize(("command", "output"), [pytest.param(*pair, id=pair[0][:60]) for pair in transcript()])
def test_transcripts_are_what_happens(command: str, output: str, tmp_path: Path) -> None:
    """The command prints what the README shows on standard output."""
    program = tmp_path / "bin" / "zpipe"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zpipe "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in blocks(README, "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        if name is not None:
            (tmp_path / name[1]).write_text(block)
    env = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout) == (0, output), run.stderr


def test_the_script_prints_what_is_shown(tmp_path: Path) -> None:
    """The blocks of "In a script", one after the other, run as a script and print what their comments say."""
    pytest.importorskip("joblib", reason="no joblib")
    script = "".join(blocks(README.partition("## In a script\n")[2].partition("\n## ")[0], "python"))
    shown = re.findall(r"^ *print\(.*\)  # (.*)$", script, re.MULTILINE)
    assert len(shown) == script.count("print(") > 10
    (tmp_path / "script.py").write_text(script)
    run = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout.splitlines()) == (0, shown), run.stderr


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bZPIPE_[A-Z_]+", README)) - {"ZPIPE_"}))
def test_variables_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable the README names gives some option of some command its value."""
    monkeypatch.setenv(name, "8")
    read = []
    for each in COMMANDS:
        command = cli.get_command(click.Context(cli), each)
        assert command is not None
        with command.make_context(each, ["--help"], resilient_parsing=True) as context:
            read += [option for option in command.params if option.value_from_envvar(context) is not None]
    assert read


def test_every_folder_is_on_a_layer() -> None:
    """The table of layers names each folder of the package once, from the highest level to the lowest."""
    table = README.partition("### The layers")[2].partition("```text\n")[2].partition("```")[0]
    named = [line.split()[0].rstrip("/") for line in table.splitlines()]
    folders = {path.parent.name for path in (ROOT / "zpipe").glob("*/__init__.py")}
    assert set(named) >= folders
    assert [level(name) for name in named] == sorted([level(name) for name in named], reverse=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file or a heading has its target."""
    text = page.read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir()))
def test_examples_are_described(example: str) -> None:
    """Each example has a README with the commands to run it, and the project's README names it."""
    assert blocks((ROOT / "examples" / example / "README.md").read_text(), "sh")
    assert f"examples/{example})" in README
