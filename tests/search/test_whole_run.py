"""A run that tools write is there as a whole or not at all, wherever its writer is killed or the machine stops.

As in test_crash_points, but of a folder that is moved into its place: the disk here has folders in folders.

HPCNAS_TORTURE=1   every way in which every call can be the last (`make torture`), instead of one or two for each, and
                   fewer where something is there before
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_disk
import pytest
from examples import CONFIG, SESSION, assert_same, evaluated, failed, population
from made_up_disk import Ending, Say, crash_points

from hpcnas.search import run_file, whole_run
from hpcnas.search.file_store import FileStore
from hpcnas.search.run_file import StoredRun
from hpcnas.storage.folder import StoreError

POPULATION = population(evaluated(1), evaluated(0, 0.7, 0.8), failed(2))
TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"
ENDINGS = [ending for ending in Ending if ending is not Ending.POWER_LOST_HALFWAY]  # of journals that grow


def write(folder: Path) -> None:
    whole_run.write(folder, StoredRun("", 0, CONFIG, POPULATION, [SESSION]))


def assert_whole(folder: Path) -> None:
    """All is there, and a search can go on from it."""
    found = run_file.read(folder)
    assert_same(found.population, POPULATION)
    assert (found.sessions, found.config) == ([SESSION], CONFIG)
    FileStore.open(folder).close()


def crash(script: Callable[[], None], root: Path, last: int, ending: Ending) -> tuple[list[str], bool]:
    """Runs the script in a child that stops at its call number `last`, or at its end; its calls, and whether it came
    to the end."""

    def to_the_end(say: Say) -> None:
        script()
        say("end")

    said = made_up_disk.crash(to_the_end, root, last, ending)
    return made_up_disk.calls(said), "end" in said


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
    every = 1 if TORTURE else 2 if prepare is nothing else 4
    for number, ending in [*crash_points(calls, ENDINGS)][::every]:
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
        for number, ending in reversed([*crash_points(calls, ENDINGS)]):  # a late crash shows it first
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
