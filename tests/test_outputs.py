"""Outputs, with real files, pipes, devices, locks and a process that is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zpipe.errors import OutputError, UsageError
from zpipe.output import outputs
from zpipe.output.outputs import FileOutput, OutputClosed, StreamOutput, open_output

CaptureBytes = pytest.CaptureFixture[bytes]


def partial(path: Path) -> Path:
    """Return where the records of `path` stand until the job is whole."""
    return path.with_name(path.name + ".partial")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A name for an output."""
    return tmp_path / "sums.jsonl"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's (read, write) ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class TestFile:
    """A file is there whole, or not at all."""

    def test_appears_at_finish(self, path: Path) -> None:
        """The name is taken only when the job is whole, and nothing is left beside it."""
        output = FileOutput(path, "json")
        output.write([b"1\n", memoryview(b"2\n")])
        output.flush()
        assert not path.exists()
        assert partial(path).read_bytes() == b"1\n2\n"
        output.finish()
        assert path.read_bytes() == b"1\n2\n"
        assert os.listdir(path.parent) == [path.name]
        assert output.abandon() == ""

    def test_empty_payloads(self, path: Path) -> None:
        """No frames and an empty frame write nothing, and a job without records makes an empty file."""
        output = FileOutput(path, "raw")
        output.write([])
        output.write([b""])
        output.finish()
        assert path.read_bytes() == b""

    def test_is_synced_before_it_is_moved(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The records are on disk before the name is taken, and the folder after."""
        synced: list[tuple[bool, bool]] = []

        def fsync(fd: int) -> None:
            synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), path.exists()))

        monkeypatch.setattr(os, "fsync", fsync)
        FileOutput(path, "json").finish()
        assert synced == [(False, False), (True, True)]

    def test_folder_that_can_not_be_synced(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file system without folder sync does not fail a job whose file stands."""

        def fsync(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "fsync", fsync)
        FileOutput(path, "json").finish()
        assert path.exists()

    def test_abandon_keeps_what_there_is(self, path: Path) -> None:
        """An unfinished job's records stand in the partial file, and the old output is as it was."""
        path.write_bytes(b"old\n")
        output = FileOutput(path, "json")
        output.write([b"1\n"])
        assert output.abandon() == f"the results so far are in {path}.partial"
        assert output.abandon() == ""
        assert partial(path).read_bytes() == b"1\n"
        assert path.read_bytes() == b"old\n"

    def test_abandon_of_nothing(self, path: Path) -> None:
        """A job that wrote nothing leaves nothing."""
        assert FileOutput(path, "json").abandon() == ""
        assert os.listdir(path.parent) == []

    def test_killed(self, path: Path) -> None:
        """A run that is killed between write and finish leaves the name free and the records beside it."""
        script = (
            "import sys, time\nfrom zpipe.output.outputs import FileOutput\n"
            "output = FileOutput(sys.argv[1], 'json')\noutput.write([b'1\\n'])\noutput.flush()\n"
            "print('ready', flush=True)\ntime.sleep(60)\n"
        )
        command = [sys.executable, "-c", script, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(UsageError, match="another run is writing it"):
                FileOutput(path, "json")
            process.send_signal(signal.SIGKILL)
        assert not path.exists()
        assert partial(path).read_bytes() == b"1\n"
        again = FileOutput(path, "json")
        again.write([b"2"])
        again.finish()
        assert path.read_bytes() == b"2"

    def test_lock_clash(self, path: Path) -> None:
        """A second run to one output is refused, names the file, and harms nothing the first has written."""
        first = FileOutput(path, "json")
        first.write([b"1\n"])
        first.flush()
        with pytest.raises(UsageError) as refusal:
            FileOutput(path, "json")
        assert str(path) in str(refusal.value)
        assert "another run is writing it" in str(refusal.value)
        assert "choose another output" in str(refusal.value)
        first.finish()
        assert path.read_bytes() == b"1\n"
        FileOutput(path, "json").finish()

    @pytest.mark.parametrize("third", [False, True], ids=["alone", "third"])
    @pytest.mark.parametrize("end", ["finish", "abandon"])
    def test_run_that_ends_while_another_begins(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, end: str, third: bool
    ) -> None:
        """A partial file moved, removed or made anew between open and lock is not taken for one's own."""
        first = FileOutput(path, "json")
        if end == "finish":
            first.write([b"1\n"])
        real = fcntl.flock
        ended: list[object] = []

        def flock(fd: int, how: int) -> None:
            if not ended:
                ended.append(True)
                getattr(first, end)()
                if third:
                    partial(path).write_bytes(b"3\n")
            real(fd, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        second = FileOutput(path, "json")
        second.write([b"2\n"])
        assert path.exists() == (end == "finish")
        if path.exists():
            assert path.read_bytes() == b"1\n"
        second.finish()
        assert path.read_bytes() == b"2\n"

    def test_file_system_without_locks(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there are no locks a job runs without."""

        def flock(fd: int, how: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
        FileOutput(path, "json").finish()
        assert path.exists()

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
    def test_permissions_are_kept(self, path: Path, mode: int) -> None:
        """A file that is replaced passes its permissions on, from the first byte of the partial file."""
        path.write_bytes(b"old")
        path.chmod(mode)
        output = FileOutput(path, "json")
        assert partial(path).stat().st_mode & 0o777 == mode
        output.finish()
        assert path.stat().st_mode & 0o777 == mode
        assert path.read_bytes() == b""

    def test_new_file_obeys_the_umask(self, path: Path) -> None:
        """A new file gets the permissions that any new file gets."""
        before = os.umask(0o027)
        try:
            FileOutput(path, "json").finish()
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o640

    def test_read_only_file(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that may not be written is not replaced either (the tests may run as root: access is pretended)."""
        path.write_bytes(b"old")
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(UsageError, match="it is read-only; choose a place you may write to"):
            FileOutput(path, "json")
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_folder_without_permission(self, tmp_path: Path) -> None:
        """A folder one may not write to is refused at once."""
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
        with pytest.raises(UsageError, match="Permission denied; choose a place you may write to"):
            FileOutput(folder / "x", "json")

    def test_permission_denied_by_the_system(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A refusal to open is told with path, reason and mend."""

        def refuse(*args: Any) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(UsageError) as refusal:
            FileOutput(path, "json")
        assert str(refusal.value) == f"can't write {path}: Permission denied; choose a place you may write to"

    def test_missing_folder(self, tmp_path: Path) -> None:
        """A missing folder is refused before anything runs, with what to do."""
        with pytest.raises(UsageError, match=r"missing/x: No such file or directory; make its folder first"):
            FileOutput(tmp_path / "missing" / "x", "json")

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_folder(self, tmp_path: Path, slash: str) -> None:
        """A folder is refused before anything runs, there or only named as one."""
        name = f"{tmp_path}{slash}" if not slash else f"{tmp_path}/new/"
        with pytest.raises(UsageError, match=r"Is a directory; name a file inside it"):
            FileOutput(name, "json")

    def test_empty_name(self) -> None:
        """No name is no file."""
        with pytest.raises(UsageError):
            FileOutput("", "json")

    def test_symbolic_link_stays(self, tmp_path: Path, path: Path) -> None:
        """The file a link points to is replaced, in its own folder; the link stays."""
        folder = tmp_path / "real"
        folder.mkdir()
        path.symlink_to(folder / "data")
        output = FileOutput(path, "json")
        output.write([b"1\n"])
        output.flush()
        assert os.listdir(folder) == ["data.partial"]
        output.finish()
        assert path.is_symlink()
        assert (folder / "data").read_bytes() == b"1\n"

    def test_partial_that_is_a_link(self, tmp_path: Path, path: Path) -> None:
        """A link laid where the partial file goes does not lead to another file's end."""
        (tmp_path / "victim").write_bytes(b"mine")
        partial(path).symlink_to(tmp_path / "victim")
        with pytest.raises(UsageError):
            FileOutput(path, "json")
        assert (tmp_path / "victim").read_bytes() == b"mine"

    def test_name_taken_by_a_folder_meanwhile(self, path: Path) -> None:
        """Records that can't be put in place stay whole in the partial file."""
        output = FileOutput(path, "json")
        output.write([b"1\n"])
        path.mkdir()
        with pytest.raises(OutputError, match="name a file inside it"):
            output.finish()
        assert output.abandon() == f"the results so far are in {path}.partial"
        assert partial(path).read_bytes() == b"1\n"

    def test_disk_full(self, path: Path) -> None:
        """A full disk is told with path, reason and mend; what fitted is kept, and said to end in a cut."""
        output = FileOutput(path, "json")
        output.write([b"1\n"])
        output.flush()
        full = os.open("/dev/full", os.O_WRONLY)
        kept = os.dup(output._file.fileno())
        os.dup2(full, output._file.fileno())
        output.write([b"2\n"])
        with pytest.raises(OutputError) as failure:
            output.finish()
        assert str(failure.value).startswith(f"can't write {path}: No space left on device; free some space")
        os.dup2(kept, output._file.fileno())
        os.close(full)
        os.close(kept)
        assert output.abandon().endswith("(its last record may be cut short)")
        assert not path.exists()

    def test_abandon_on_a_full_disk(self) -> None:
        """Giving up never raises, even when what is buffered can't be written."""
        output = FileOutput("/dev/full", "json")
        output.write([b"1\n"])
        assert output.abandon() == ""

    def test_device(self) -> None:
        """A device is written to as it is."""
        output = FileOutput("/dev/null", "json")
        output.write([b"1\n"])
        output.finish()
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        assert not os.path.exists("/dev/null.partial")

    def test_full_device(self) -> None:
        """A device's failure is an OutputError like any."""
        output = FileOutput("/dev/full", "json")
        output.write([b"1\n"])
        with pytest.raises(OutputError, match="can't write /dev/full: No space left on device"):
            output.finish()
        assert output.abandon() == ""

    def test_fifo(self, path: Path) -> None:
        """A FIFO is written to as it is."""
        os.mkfifo(path)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
        reader.start()
        output = FileOutput(path, "json")
        output.write([b"1\n"])
        output.finish()
        reader.join(10)
        assert got == [b"1\n"]
        assert stat.S_ISFIFO(path.stat().st_mode)

    def test_descriptor_path(self, path: Path) -> None:
        """/dev/fd/N is written to as it is, behind what is there, even when it is a regular file."""
        path.write_bytes(b"0\n")
        with path.open("ab") as file:
            output = FileOutput(f"/dev/fd/{file.fileno()}", "json")
            output.write([b"1\n"])
            assert output.abandon().startswith("the results so far went to /dev/fd/")
        assert path.read_bytes() == b"0\n1\n"
        assert os.listdir(path.parent) == [path.name]


class TestStream:
    """Standard output streams."""

    def test_visible_at_flush(self, pipe: tuple[int, int]) -> None:
        """Records are held back until flush, which shows them; the descriptor outlives the output."""
        read, write = pipe
        os.set_blocking(read, False)
        output = StreamOutput("json", write)
        output.write([b"1\n"])
        with pytest.raises(BlockingIOError):
            os.read(read, 100)
        output.flush()
        assert os.read(read, 100) == b"1\n"
        output.write([b"2\n"])
        output.finish()
        assert os.read(read, 100) == b"2\n"
        os.fstat(write)

    def test_abandon(self, pipe: tuple[int, int]) -> None:
        """What is held back is shown when a job is given up, and said to be."""
        read, write = pipe
        output = StreamOutput("json", write)
        output.write([b"1\n"])
        assert output.abandon() == "the results so far went to standard output"
        assert os.read(read, 100) == b"1\n"
        assert StreamOutput("json", write).abandon() == ""

    @pytest.mark.parametrize("size", [2, 1_000_000])
    def test_reader_gone(self, size: int) -> None:
        """`zpipe run ... | head`: a closed pipe is an error of its own kind, at the write or at the flush."""
        read, write = os.pipe()
        os.close(read)
        output = StreamOutput("json", write)

        def stream() -> None:
            output.write([b"x" * size])
            output.flush()

        with pytest.raises(OutputClosed, match="its reader went away"):
            stream()
        assert output.abandon() == ""
        os.close(write)

    def test_closed_descriptor(self) -> None:
        """A standard output that is closed is refused before anything runs."""
        fd = os.dup(1)
        os.close(fd)
        with pytest.raises(UsageError, match="can't write standard output: Bad file descriptor"):
            StreamOutput("json", fd)

    def test_full_device(self) -> None:
        """A full disk behind standard output is an OutputError, not a reader gone."""
        fd = os.open("/dev/full", os.O_WRONLY)
        output = StreamOutput("json", fd)
        output.write([b"1\n"])
        with pytest.raises(OutputError, match="No space left on device") as failure:
            output.flush()
        assert not isinstance(failure.value, OutputClosed)
        output.abandon()
        os.close(fd)


class TestOpen:
    """What the options ask for is what is opened."""

    @pytest.mark.parametrize("name", [None, "-", "/dev/stdout"])
    def test_standard_output(self, capfdbinary: CaptureBytes, name: str | None) -> None:
        """No name, a dash and its path mean standard output."""
        output = open_output(name, "json")
        assert isinstance(output, StreamOutput)
        assert output.encoding == "json"
        output.write([b"1\n"])
        output.finish()
        assert capfdbinary.readouterr().out == b"1\n"

    @pytest.mark.parametrize("format", ["json", "raw", "pickle"])
    def test_file(self, path: Path, format: outputs.Format) -> None:  # noqa: A002 - as open_output has it
        """A name means that file, in the format asked for."""
        output = open_output(str(path), format)
        assert isinstance(output, FileOutput)
        assert output.encoding == format
        output.abandon()

    def test_pickles_on_a_terminal(self) -> None:
        """Pickles are not put on a terminal; text is."""
        head, tail = pty.openpty()
        saved = os.dup(1)
        os.dup2(tail, 1)
        try:
            with pytest.raises(UsageError, match="give --output FILE"):
                open_output(None, "pickle")
            with pytest.raises(UsageError, match="give --output FILE"):
                open_output("-", "pickle")
            open_output(None, "json").finish()
        finally:
            os.dup2(saved, 1)
            for fd in (saved, head, tail):
                os.close(fd)


def test_the_name_of_a_file_is_synced_with_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a journal says was written must be found after a power cut, by its name: that is on the disk first, once."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
    made = FileOutput(tmp_path / "out", "raw")
    for _ in range(2):
        made.write([b"x\n"])
        made.mark()
        made.sync()
    assert synced == [tmp_path]
    made.abandon()
