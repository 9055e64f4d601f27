"""The folder of a run: what is written goes there and nowhere else, and what is not the run's own stays as it is."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcnas.storage import durable, sealed
from hpcnas.storage.folder import RunFolder, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    found = RunFolder.make(tmp_path / "run")
    yield found
    found.close()


# ── what is not the run's own ───────────────────────────────────────────────────────────────────────────────────────
def _link(path: Path) -> None:
    path.symlink_to("../mine.txt")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_link, r"a link to \.\./mine\.txt"),
        (_dangling, "a link to nowhere"),
        (os.mkfifo, "a pipe"),
        (Path.mkdir, "a folder"),
    ],
    ids=["link", "dangling link", "pipe", "folder"],
)
def test_what_is_no_plain_file_is_refused_in_words_and_not_waited_for(
    tmp_path: Path, folder: RunFolder, make: Callable[[Path], object], words: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    make(folder.path / "log")
    expected = rf"run/log: expected a file of the run's own or nothing, but it is {words}; move it away, then start the"
    for attempt in (
        lambda: folder.check(["status", "log"]),
        lambda: folder.open("log", os.O_WRONLY | os.O_CREAT),
        folder.open_log,
        lambda: folder.read("log"),
    ):
        with pytest.raises(StoreError, match=expected):
            attempt()
    assert (tmp_path / "mine.txt").read_text() == "mine" and not (folder.path / "nowhere").exists()


def test_a_link_that_comes_after_the_look_is_not_followed(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    _link(folder.path / "log")
    monkeypatch.setattr(RunFolder, "check", lambda *given: None)
    with pytest.raises(StoreError, match=r"^expected to write .*run/log: Too many levels of symbolic links$"):
        folder.open_log()
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_inflight_may_be_a_folder_or_a_link_to_one_also_to_one_of_other_hosts(
    tmp_path: Path, folder: RunFolder
) -> None:
    path = folder.path / "inflight"
    folder.check([], links=["inflight"])
    path.mkdir()
    folder.check([], links=["inflight"])
    path.rmdir()
    (tmp_path / "fast").mkdir()
    for target in ("../fast", "/not/on/this/host"):
        path.symlink_to(target)
        folder.check([], links=["inflight"])
        path.unlink()
    for make, words in ((Path.touch, "a file"), (os.mkfifo, "a pipe")):
        make(path)
        with pytest.raises(StoreError, match=f"inflight: expected a folder, or a link to one, or nothing, .* {words};"):
            folder.check([], links=["inflight"])
        path.unlink()
    (tmp_path / "mine.txt").touch()
    path.symlink_to("../mine.txt")
    with pytest.raises(StoreError, match=r"inflight: .* but it is a link to \.\./mine\.txt;"):
        folder.check([], links=["inflight"])


def test_what_is_put_in_place_of_a_link_leaves_its_target(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    _link(folder.path / "status")
    _link(folder.path / ".status.7.tmp")  # where the new content would be written first
    with monkeypatch.context() as known:
        known.setattr(secrets, "randbits", lambda bits: 7)
        with pytest.raises(FileExistsError):
            folder.put("status", b"state=more\n")
        with pytest.raises(FileExistsError):
            durable.replace(folder.path / "status", lambda half: sealed.write(half, lambda file: file.write(b"x")))
    folder.put("status", b"state=more\n")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (folder.path / "status").read_bytes() == b"state=more\n"


def test_a_second_name_of_the_log_keeps_what_it_has(tmp_path: Path, folder: RunFolder) -> None:
    (folder.path / "log").write_text("before\n")
    os.link(folder.path / "log", tmp_path / "backup")
    with folder.open_log() as file:
        file.write("after\n")
    assert (tmp_path / "backup").read_text() == "before\n"
    assert (folder.path / "log").read_text() == "before\nafter\n"


@pytest.mark.parametrize("linked", [False, True])
def test_only_plain_files_of_its_own_names_are_removed(tmp_path: Path, folder: RunFolder, linked: bool) -> None:
    inside = tmp_path / "fast" if linked else folder.path / "inflight"
    inside.mkdir()
    if linked:
        (folder.path / "inflight").symlink_to("../fast")
    kept = ["2.pt", "other.pt", "thesis.tex", "x1.pt", ".other.tmp", ".other.pt.12.tmp", ".1.pt.tmp", "1.pt.damaged"]
    for name in [*kept, "1.pt", ".1.pt.12.tmp", ".2.pt.12.tmp"]:
        (inside / name).touch()
    (inside / "3.pt").symlink_to("thesis.tex")
    (inside / "4.pt").mkdir()
    folder.tidy(lambda name: name[:-3] in "1234" and name[1:] == ".pt", lambda name: name != "2.pt", inside="inflight")
    assert sorted(os.listdir(inside)) == sorted([*kept, "3.pt", "4.pt"])
    assert (folder.path / "inflight").is_symlink() == linked


# ── where it is ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_folder_that_is_moved_is_written_to_where_it_is(tmp_path: Path, folder: RunFolder) -> None:
    folder.put("status", b"1")
    assert folder.problem() is None and folder.where() == folder.path
    folder.path.rename(tmp_path / "moved")
    (tmp_path / "run").mkdir()
    folder.put("status", b"2")
    with folder.open_log() as file:
        file.write("hello\n")
    assert sorted(os.listdir(tmp_path / "moved")) == ["log", "status"] and os.listdir(tmp_path / "run") == []
    assert folder.problem() == f"{tmp_path}/run was moved to {tmp_path}/moved while this job was at work on it"


def test_a_folder_that_is_removed_is_no_longer_anywhere(tmp_path: Path, folder: RunFolder) -> None:
    folder.path.rmdir()
    for again in (False, True):
        if again:
            folder.path.mkdir()
        assert folder.problem() == f"{tmp_path}/run was removed while this job was at work on it"
        assert folder.where() is None


def test_a_server_that_does_not_answer_is_no_move(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*given: object) -> None:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    monkeypatch.setattr(os, "stat", silent)
    assert folder.problem() is None


def test_the_path_may_be_a_link(tmp_path: Path, folder: RunFolder) -> None:
    (tmp_path / "there").symlink_to("run")
    other = RunFolder.make(tmp_path / "there")
    other.put("status", b"1")
    assert other.problem() is None and not other.new
    other.close()
    assert folder.read("status") == b"1"


# ── file systems ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_folder_that_is_made_is_made_durable_in_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    RunFolder.make(tmp_path / "a" / "b").close()
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a")]


def _fsync(number: int) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EROFS])
def test_folders_that_cannot_be_synced_are_lived_with_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", _fsync(number))
    folder = RunFolder.make(tmp_path / "run")
    folder.put("status", b"1")
    durable.replace(tmp_path / "run" / "2.pt", lambda temporary: temporary.write_bytes(b"2"))
    remark = folder.remark()
    assert remark is not None and remark.startswith(f"the file system of {tmp_path}/run cannot sync folders: ")
    folder.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_sync_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    folder = RunFolder(tmp_path)
    assert folder.remark() is None
    monkeypatch.setattr(os, "fsync", _fsync(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        folder.put("status", b"1")
    folder.close()


def test_a_parent_that_may_not_be_listed_is_lived_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def unlistable(path: str | Path, flags: int, *given: int, **named: int | None) -> int:
        if Path(path) == tmp_path:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *given, **named)

    monkeypatch.setattr(os, "open", unlistable)  # root may list everything
    RunFolder.make(tmp_path / "run").close()


def test_equal_process_ids_on_two_hosts_do_not_share_half_a_file(folder: RunFolder) -> None:
    """As of a task that was lent twice, whose checkpoint both write."""
    path, other = folder.path / "1.pt", b"the other's, which is longer"

    def meanwhile(half: Path) -> None:
        half.write_bytes(b"one's")
        durable.replace(path, lambda second: second.write_bytes(other))
        assert half.read_bytes() == b"one's" and path.read_bytes() == other

    durable.replace(path, meanwhile)
    assert path.read_bytes() == b"one's" and os.listdir(folder.path) == ["1.pt"]
    folder.put("1.pt", other, ready=lambda: folder.put("1.pt", b"again"))
    assert path.read_bytes() == other
