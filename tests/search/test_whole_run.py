"""A run that tools write is there as a whole or not at all, wherever its writer is killed or the machine stops.

As in test_crash_points, but of a folder that is moved into its place: the disk here has folders in folders.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import pytest
from examples import CONFIG, SESSION, assert_same, evaluated, failed, population
from test_crash_points import _write_bytes

from hpcnas.search import run_file, whole_run
from hpcnas.search.file_store import FileStore
from hpcnas.search.run_file import StoredRun
from hpcnas.storage.folder import StoreError

POPULATION = population(evaluated(1), evaluated(0, 0.7, 0.8), failed(2))


def write(folder: Path) -> None:
    whole_run.write(folder, StoredRun("", 0, CONFIG, POPULATION, [SESSION]))


def assert_whole(folder: Path) -> None:
    """All is there, and a search can go on from it."""
    found = run_file.read(folder)
    assert_same(found.population, POPULATION)
    assert (found.sessions, found.config) == ([SESSION], CONFIG)
    FileStore.open(folder).close()


class Ending(Enum):
    """What becomes of the last call, and of what the machine had not yet brought to the disk."""

    KILLED = "the process is killed before the call"
    KILLED_HALFWAY = "the process is killed when half of the bytes are written"
    POWER_LOST = "the machine stops: only what was synced is left, under the names that were synced"
    POWER_LOST_AFTER_NAMES = "the machine stops: all names are as they were last, of the bytes only what was synced"


CALLS = ("open", "mkdir", "write", "ftruncate", "fsync", "fdatasync", "chown", "chmod", "rename", "unlink", "rmdir")
REAL = {name: getattr(os, name) for name in CALLS}
STOPPED, BROKEN = 3, 4  # exit codes of the child
Tree = dict[str, Any]  # name → bytes of a file, or Tree of a folder


class Disk:
    """A folder with all that is in it as the disk has it, call by call; ends the process at a call."""

    def __init__(self, root: Path, last: int, ending: Ending, note: Callable[[str], None]) -> None:
        self._root, self._last, self._ending, self._note = root, last, ending, note
        self._calls = 0
        self._bytes: dict[int, bytes] = {}  # inode → what is synced
        self._names: dict[int, dict[str, int]] = {}  # inode of a folder → its synced names
        self._held: list[int] = []  # no other file gets the inode of one of these
        for folder, _, files in os.walk(root):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                self._sync(os.open(path, os.O_RDONLY))
        for name in CALLS:
            setattr(os, name, self._numbered(name))
        Path.write_bytes = _write_bytes  # type: ignore[method-assign, assignment]

    def end(self) -> NoReturn:
        """The process and perhaps the machine stop here."""
        for name, call in REAL.items():
            setattr(os, name, call)
        if self._ending in (Ending.POWER_LOST, Ending.POWER_LOST_AFTER_NAMES):
            left = self._left(self._root.stat().st_ino, self._root)
            shutil.rmtree(self._root)
            _lay_out(self._root, left)
        os._exit(STOPPED)

    def _numbered(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if name == "open" and not given[1] & os.O_CREAT:
                return REAL["open"](*given, **named)
            self._calls += 1
            self._note(name)
            if self._calls == self._last:
                if name == "write" and self._ending is Ending.KILLED_HALFWAY:
                    REAL["write"](given[0], given[1][: len(given[1]) // 2])
                self.end()
            result = REAL[name](*given, **named)
            if name in ("fsync", "fdatasync"):
                self._sync(os.dup(given[0]))
            return result

        return call

    def _sync(self, descriptor: int) -> None:
        self._held.append(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(f"/proc/self/fd/{descriptor}") as entries:
                self._names[status.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self._bytes[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _left(self, inode: int, now: Path) -> Tree | bytes:
        """What is left of a file or folder; `now` is the folder of the names that it has, synced or not."""
        if self._ending is Ending.POWER_LOST_AFTER_NAMES:
            if not now.is_dir():
                return self._bytes.get(inode, b"")
            return {entry.name: self._left(entry.inode(), now / entry.name) for entry in os.scandir(now)}
        if inode not in self._names:  # a file, or a folder whose names were never synced
            return self._bytes.get(inode, {} if self._is_folder(inode) else b"")
        return {name: self._left(other, now) for name, other in self._names[inode].items()}

    def _is_folder(self, inode: int) -> bool:
        return any(os.stat(folder).st_ino == inode for folder, _, _ in os.walk(self._root))


def _lay_out(path: Path, left: Tree | bytes) -> None:
    if isinstance(left, bytes):
        path.write_bytes(left)
        return
    path.mkdir()
    for name, content in left.items():
        _lay_out(path / name, content)


def crash(script: Callable[[], None], root: Path, last: int, ending: Ending) -> tuple[list[str], bool]:
    """Runs the script in a child that stops at its call number `last`, or at its end; its calls, and whether it came
    to the end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            disk = Disk(root, last, ending, lambda name: (REAL["write"](writing, f"{name}\n".encode()), None)[1])
            script()
            REAL["write"](writing, b"end\n")
            disk.end()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(BROKEN)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        calls = pipe.read().split()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == STOPPED, f"the script broke at call {last} ({ending.value}): see its standard error"
    return [call for call in calls if call != "end"], "end" in calls


def points(calls: list[str]) -> Iterator[tuple[int, Ending]]:
    """Every call and the end of the script, with every ending that makes a difference there."""
    for number, name in enumerate([*calls, "end"], start=1):
        for ending in Ending:
            if name == "write" or ending is not Ending.KILLED_HALFWAY:
                yield number, ending


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder in memory where there is one: what a disk keeps is the business of `Disk`, and real syncs are slow."""
    with tempfile.TemporaryDirectory(prefix="hpcnas-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        yield Path(name)


def nothing(root: Path) -> None:
    """The folder that is written to does not exist."""
    root.mkdir()


def an_empty_folder(root: Path) -> None:
    (root / "new").mkdir(parents=True)


def what_a_kill_has_left(root: Path) -> None:
    root.mkdir()
    crash(lambda: write(root / "new"), root, 9, Ending.KILLED)
    assert len(os.listdir(root)) == 1 and not (root / "new").exists()


@pytest.mark.parametrize("prepare", [nothing, an_empty_folder, what_a_kill_has_left])
def test_a_run_appears_whole_or_not_at_all_at_every_call(ground: Path, prepare: Callable[[Path], None]) -> None:
    root = ground / "runs"
    prepare(ground / "before")
    shutil.copytree(ground / "before", root)
    calls, _ = crash(lambda: write(root / "new"), root, 0, Ending.KILLED)
    assert {"open", "mkdir", "write", "fsync", "rename"} <= set(calls) and len(calls) > 20
    for number, ending in points(calls):
        shutil.rmtree(root)
        shutil.copytree(ground / "before", root)
        found, ended = crash(lambda: write(root / "new"), root, number, ending)
        assert found == calls[:number], "a script makes the same calls whenever it is run"
        try:
            check(root, ended)
        except BaseException as error:
            raise AssertionError(f"call {number}, {[*calls, 'end'][number - 1]}: {ending.value}") from error


def check(root: Path, ended: bool) -> None:
    """There is nothing, or all; it can be written, and then nothing else is there."""
    new = root / "new"
    there = new.exists() and os.listdir(new) != []
    assert there or not ended
    assert [name for name in os.listdir(root) if name != "new" and not name.startswith(".new.")] == []
    if there:
        assert_whole(new)
        with pytest.raises(StoreError, match="expected a folder without a run, but .*new holds one"):
            write(new)
    else:
        write(new)
        assert_whole(new)
        assert os.listdir(root) == ["new"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_careless_writer_is_found_out(ground: Path, call: str) -> None:
    """The enumeration sees a sync that is left out, and a run that is written in its place."""

    def careless() -> None:
        if call == "fsync":
            os.fsync = lambda descriptor: None  # in the child only
            write(ground / "runs" / "new")
        else:
            store = FileStore.create(ground / "runs" / "new", CONFIG)
            store.population, store.sessions = POPULATION, [SESSION]
            store.compact()
            store.close()

    (ground / "runs").mkdir()
    calls, _ = crash(careless, ground / "runs", 0, Ending.KILLED)
    with pytest.raises((AssertionError, StoreError)):
        for number, ending in points(calls):
            shutil.rmtree(ground / "runs")
            (ground / "runs").mkdir()
            _, ended = crash(careless, ground / "runs", number, ending)
            check(ground / "runs", ended)


# ── what stands in the way ──────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_there_is_neither_replaced_nor_mixed_with(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    for name in "abcd":
        (tmp_path / "mine" / name).touch()
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "lock").touch()
    before = sorted(tmp_path.rglob("*"))
    for name, message in (
        ("file", f"expected a folder that does not exist or is empty, got {tmp_path}/file: Not a directory"),
        ("mine", f"expected a folder that does not exist or is empty, but {tmp_path}/mine holds a, b, c, …"),
        ("locked", f"expected a folder that does not exist or is empty, but {tmp_path}/locked holds lock"),
        ("file/new", f"expected a folder that does not exist or is empty, got {tmp_path}/file/new: Not a directory"),
    ):
        with pytest.raises(StoreError) as caught:
            write(tmp_path / name)
        assert str(caught.value) == message
    assert sorted(tmp_path.rglob("*")) == before


def test_somebody_who_was_faster_keeps_what_is_his(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(old: Path, new: Path, **named: Any) -> None:
        if new == tmp_path / "new":
            new.mkdir()
            (new / "theirs").touch()
        rename(old, new, **named)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(StoreError, match="does not exist or is empty, but .*new holds theirs"):
        write(tmp_path / "new")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "theirs"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_does_not_take_it_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=os.strerror(number)):
        write(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_parents_are_made_and_a_link_to_an_empty_folder_stays_one(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "of" / "mine")
    assert_whole(tmp_path / "runs" / "of" / "mine")
    (tmp_path / "fast").mkdir(mode=0o2770)
    (tmp_path / "fast").chmod(0o2770)
    (tmp_path / "link").symlink_to("fast")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "fast").stat().st_mode & 0o7777 == 0o2770
    assert_whole(tmp_path / "fast")


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    other = FileStore.create(tmp_path / f".new.{'0' * 32}.tmp", CONFIG)
    mine = tmp_path / ".new.mine.tmp"
    mine.mkdir()
    write(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == [f".new.{'0' * 32}.tmp", ".new.mine.tmp", "new"]
    other.close()
    shutil.rmtree(tmp_path / "new")
    write(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == [".new.mine.tmp", "new"]
