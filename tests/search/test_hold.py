"""A run that is moved, replaced or taken apart while its controller lives: nobody else's is written to, nothing that
can be saved is lost, and what is said of it is true."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path

import pytest
from examples import CONFIG, assert_same, evaluated, failed, individual, population
from stored import assert_whole, stored_run

from hpcnas.search import file_store, records, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.storage import journal
from hpcnas.storage.folder import RunFolder, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stored_run(tmp_path / "run")


def stops(run: FileStore) -> str:
    """What the run's controller says when it records the result of individual 1; then it takes no more."""
    run.settle(evaluated(1))
    with pytest.raises(StoreError) as caught:
        run.commit()
    with pytest.raises(StoreError, match="an earlier write failed: it takes no more records"):
        run.commit()
    with contextlib.suppress(OSError):  # a disk may be full
        run.leave_behind("status", b"state=broken\n")
    run.close()
    return str(caught.value)


def assert_has_it_all(folder: Path) -> None:
    """What `stops` has recorded is there, and the run can be continued."""
    found = FileStore.open(folder)
    assert found.population.evaluated.tolist() == [2, 1]
    found.birth(individual(len(found.population)))
    found.commit()
    found.close()


# ── moved ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_that_was_moved_is_saved_where_it_is_by_now(folder: Path, tmp_path: Path) -> None:
    run = FileStore.open(folder)
    folder.rename(tmp_path / "old")
    assert stops(run) == (
        f"{folder} was moved to {tmp_path}/old while this job was at work on it; everything is saved in it: go on with "
        f"--run {tmp_path}/old, or move it back"
    )
    assert not folder.exists()
    assert_has_it_all(tmp_path / "old")


def test_the_run_that_took_its_place_is_not_touched(folder: Path, tmp_path: Path) -> None:
    run = FileStore.open(folder)
    run.leave_behind("status", b"state=more\n")
    folder.rename(tmp_path / "old")
    FileStore.create(folder, CONFIG).close()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    stops(run)
    assert (tmp_path / "old" / "status").read_text() == "state=broken\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert_has_it_all(tmp_path / "old")


def test_a_move_is_noticed_also_while_nothing_is_recorded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [5000.0]
    monkeypatch.setattr(file_store.time, "monotonic", lambda: clock[0])
    run = FileStore.open(folder)
    folder.rename(tmp_path / "old")
    run.commit()  # it looks after it once a second
    clock[0] += 1.0
    with pytest.raises(StoreError, match=r"run was moved to .*old while this job was at work on it"):
        run.commit()
    run.close()
    assert_whole(tmp_path / "old")


def test_a_removed_journal_is_noticed_also_while_nothing_is_recorded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [5000.0]
    monkeypatch.setattr(file_store.time, "monotonic", lambda: clock[0])
    run = FileStore.open(folder)
    (folder / "journal").unlink()
    clock[0] += 1.0
    with pytest.raises(StoreError, match="journal: the file has been removed; everything is saved"):
        run.commit()
    run.close()
    assert_whole(folder)


def test_a_renewal_that_is_under_way_goes_to_the_run_that_was_moved(folder: Path, tmp_path: Path) -> None:
    run = FileStore.open(folder)
    run.compact_aside()
    folder.rename(tmp_path / "old")
    FileStore.create(folder, CONFIG).close()
    stops(run)
    assert len(run_file.read(folder).population) == 0
    assert_has_it_all(tmp_path / "old")


def test_a_run_that_was_removed_is_said_to_be_gone(folder: Path) -> None:
    for again in (False, True):
        if again:
            stored_run(folder)
        run = FileStore.open(folder)
        shutil.rmtree(folder)
        assert stops(run) == (
            f"{folder} was removed while this job was at work on it; with it, the 2 evaluated individuals are gone"
        )
        assert not folder.exists()


def test_what_was_missed_first_went_with_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FileStore.open(folder)
    answers = [None]  # the folder was there a moment ago
    real = RunFolder.problem
    monkeypatch.setattr(RunFolder, "problem", lambda place: answers.pop() if answers else real(place))
    shutil.rmtree(folder)
    assert stops(run) == (
        f"{folder} was removed while this job was at work on it; with it, the 2 evaluated individuals are gone"
    )


# ── the lock ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_without_its_lock_a_controller_saves_and_ends(folder: Path) -> None:
    run = FileStore.open(folder)
    (folder / "lock").unlink()
    assert stops(run) == f"{folder}/lock was removed; everything is saved: start the same command again"
    assert_has_it_all(folder)


def test_while_it_lives_no_second_one_gets_the_journal(folder: Path) -> None:
    run = FileStore.open(folder)
    (folder / "lock").unlink()
    with pytest.raises(StoreError, match=r"journal: another job, whose lock was removed, is at work on the run; end"):
        FileStore.open(folder)
    with contextlib.suppress(StoreError):
        run.commit()
    run.close()
    assert_whole(folder)


def test_where_there_is_no_flock_the_first_one_ends_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*given: object) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(fcntl, "flock", flock)
    first = FileStore.open(folder)
    (folder / "lock").unlink()
    second = FileStore.open(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert stops(first) == (
        f"{folder}/lock was replaced: another job may be at work there; what was acknowledged by then is in the run, "
        "into which this job writes nothing more"
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    second.settle(evaluated(1))
    second.commit()
    second.close()
    assert_has_it_all(folder)


def test_a_job_on_a_host_that_the_lock_does_not_reach_ends_the_first_one(folder: Path) -> None:
    run = FileStore.open(folder)
    (folder / "lock").write_text("host elsewhere, pid 7\n")  # and it has the lock there
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert stops(run).startswith(f"{folder}/lock was taken by another job: host elsewhere, pid 7; what was ack")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_another_controller_has_appended_is_noticed_before_anything_follows_it(folder: Path) -> None:
    run = FileStore.open(folder)
    size = (folder / "journal").stat().st_size
    with (folder / "journal").open("ab") as file:
        file.write(journal._line([{"birth": records.birth(individual(4))}]))
    now = (folder / "journal").stat().st_size
    assert f"{folder}/journal: it was left with {size} bytes and now has {now}; " in stops(run)


# ── the files ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_journal_that_was_removed_costs_nothing(folder: Path) -> None:
    run = FileStore.open(folder)
    (folder / "journal").unlink()
    assert stops(run) == (
        f"{folder}/journal: the file has been removed; everything is saved: start the same command again"
    )
    assert run_file.read(folder).population.evaluated.tolist() == [2, 1]
    assert_has_it_all(folder)


def test_a_journal_that_was_removed_where_nothing_can_be_written_is_a_loss_and_said_to_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FileStore.open(folder)
    (folder / "journal").unlink()
    with monkeypatch.context() as full:
        full.setattr(os, "rename", _no_space)
        said = stops(run)
    assert said == (
        f"{folder}/journal: the file has been removed; population.h5 cannot be renewed (No space left on device): "
        "of the 2 evaluated individuals, those that came after its last renewal are lost"
    )


def _no_space(*given: object, **named: object) -> None:
    raise OSError(28, os.strerror(28))


def test_a_lock_that_was_removed_where_nothing_more_can_be_written_is_no_loss(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FileStore.open(folder)
    (folder / "lock").unlink()
    with monkeypatch.context() as full:
        full.setattr(os, "rename", _no_space)
        assert stops(run) == (
            f"{folder}/lock was removed; nothing acknowledged is lost, but {folder} takes nothing more "
            "(No space left on device)"
        )
    assert_whole(folder)


def test_a_folder_that_cannot_be_looked_after_is_a_broken_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*given: object) -> None:
        raise OSError(116, os.strerror(116))

    run = FileStore.open(folder)
    with monkeypatch.context() as gone:
        gone.setattr(os, "pread", stale)
        assert stops(run) == (
            f"expected to look after {folder}: Stale file handle; nothing acknowledged is lost, mend the folder, then "
            "start the same command again"
        )
    assert_whole(folder)


def test_a_population_that_was_removed_is_written_again(folder: Path) -> None:
    run = FileStore.open(folder)
    (folder / "population.h5").unlink()
    run.compact()
    run.close()
    assert_whole(folder)


def test_a_population_of_another_run_is_left_alone(folder: Path, tmp_path: Path) -> None:
    FileStore.create(tmp_path / "other", CONFIG).close()
    other = run_file.read(tmp_path / "other").run
    run = FileStore.open(folder)
    shutil.copy(tmp_path / "other" / "population.h5", tmp_path / "copy")
    os.rename(tmp_path / "copy", folder / "population.h5")
    with pytest.raises(StoreError) as caught:
        run.compact()
    assert str(caught.value) == (
        f"{folder}/population.h5 is that of another run by now, {other}; the 1 evaluated individuals of this run are "
        "gone: this job writes nothing into another one"
    )
    run.close()
    assert run_file.read(folder).run == other


def test_an_older_population_of_the_same_run_is_renewed(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "population.h5", tmp_path / "backup")
    run = FileStore.open(folder)
    run.compact()
    os.rename(tmp_path / "backup", folder / "population.h5")
    run.compact()
    run.close()
    assert_whole(folder)


def test_what_a_file_system_lacks_is_to_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*given: object) -> None:
        raise OSError(95, os.strerror(95))

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, os.strerror(22))

    FileStore.create(tmp_path / "usual", CONFIG).close()
    usual = FileStore.open(tmp_path / "usual")
    assert usual.remarks == []
    usual.close()
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(os, "fsync", fsync)
    run = FileStore.create(tmp_path / "run", CONFIG)
    assert [remark.partition(" of ")[0] for remark in run.remarks] == ["the file system", "the file system"]
    assert "has no flock" in run.remarks[0] and "cannot sync folders" in run.remarks[1]
    run.compact()
    run.close()


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["population.h5", "journal", "lock", "log", "status", "best.toml", "profile.json"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_run_whose_files_are_something_else_is_not_opened(
    folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    path = folder / name
    if path.exists():
        path.rename(tmp_path / "mine")
    else:
        (tmp_path / "mine").write_text("mine")
    before = (tmp_path / "mine").read_bytes()
    {"link": lambda: path.symlink_to("../mine"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(StoreError, match=rf"/{name}: expected a file of the run's own or nothing, but .* a {kind}"):
        FileStore.open(folder)
    with pytest.raises(StoreError, match="expected a file of the run's own or nothing"):
        FileStore.create(folder, CONFIG)
    assert (tmp_path / "mine").read_bytes() == before
    assert path.is_symlink() == (kind == "link")


def test_what_is_appended_does_not_reach_a_second_name_of_the_journal(folder: Path, tmp_path: Path) -> None:
    os.link(folder / "journal", tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    assert_whole(folder)
    assert (tmp_path / "backup").read_bytes() == before


def test_a_run_in_a_linked_folder_is_a_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("run")
    assert_whole(tmp_path / "link")


def test_opening_leaves_halves_that_are_not_its_own(folder: Path) -> None:
    names = [".thesis.tex.77.tmp", ".status.tmp", ".journal.77.tmp", ".population.h5.77.tmp"]
    for name in names:
        (folder / name).touch()
    FileStore.open(folder).close()
    assert [name for name in names if (folder / name).exists()] == names[:2]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_reading_takes_no_lock_and_changes_nothing(folder: Path) -> None:
    with (folder / "journal").open("ab") as file:
        file.write(b'9b2e4410 {"birth":')
    (folder / "inflight").mkdir()
    (folder / "inflight" / "2.pt").touch()
    (folder / "lock").unlink()

    def state() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}

    before = state()
    found = FileStore.read(folder)
    assert_same(found.population, population(evaluated(2), failed(0), births=4))
    assert len(found.sessions) == 1
    assert state() == before


# ── going away ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_that_is_abandoned_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    FileStore.create(tmp_path / "run", CONFIG).abandon()
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    FileStore.create(tmp_path / "run", CONFIG).abandon()
    assert os.listdir(tmp_path / "run") == ["mine"]
