"""What only a run in a folder can promise or refuse."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from examples import CONFIG, SESSION, assert_same, evaluated, individual, population
from stored import assert_whole, no_space, stored_run
from warden import Child

from hpcnas.config.search import build
from hpcnas.search import file_store, records, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.storage import durable, journal
from hpcnas.storage.folder import StoreError

ROOT = Path(file_store.__file__).parents[2]

# ── a run in a folder ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stored_run(tmp_path / "run")


def test_a_run_is_three_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["journal", "lock", "population.h5"]
    assert run_file.read(folder).records == 5
    contents = journal.read(folder / "journal")
    assert (contents.base, len(contents.records)) == (5, 2)
    assert_whole(folder)


def test_what_was_not_committed_is_not_there(folder: Path) -> None:
    first = FileStore.open(folder)
    first.settle(evaluated(1))
    first.close()
    assert_whole(folder)


def test_existing_is_having_a_population(tmp_path: Path, folder: Path) -> None:
    assert FileStore.exists(folder)
    assert not FileStore.exists(tmp_path)
    assert not FileStore.exists(tmp_path / "nowhere")


def test_tools_read_while_the_controller_writes(folder: Path) -> None:
    writer = FileStore.open(folder)
    writer.settle(evaluated(1))
    writer.commit()
    assert_same(run_file.read(folder).population, population(evaluated(2), births=3))  # the last compaction's
    writer.compact()
    assert_same(run_file.read(folder).population, writer.population)
    writer.close()


def test_a_continued_run_keeps_the_settings_it_is_given(folder: Path) -> None:
    run = FileStore.open(folder)
    run.config = replace(CONFIG, run=replace(CONFIG.run, device="cpu"))
    run.compact()
    run.close()
    assert run_file.read(folder).config.run.device == "cpu"


def test_a_run_in_which_nothing_happened_may_begin_anew(tmp_path: Path) -> None:
    other = build({"search": {"space": "1x4"}, "training": {"replicates": 1}})
    run = FileStore.create(tmp_path, CONFIG)
    run.begin_anew(other)
    assert run_file.read(tmp_path).config == CONFIG  # the start may be refused yet
    run.begin(SESSION)
    run.commit()
    run.close()
    found = FileStore.open(tmp_path)
    assert found.config == other and found.sessions == [SESSION]
    assert (found.population.space, found.population.replicates, len(found.population)) == (other.space, 1, 0)
    found.close()


def test_a_run_that_has_begun_does_not_begin_anew(folder: Path) -> None:
    run = FileStore.open(folder)
    with pytest.raises(StoreError, match=r"^expected a run in which nothing has happened, but .*run has begun$"):
        run.begin_anew(CONFIG)
    run.close()
    assert_whole(folder)


# Creating


def test_a_run_is_not_created_over_another(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"^expected a folder without a run, but .* holds one$"):
        FileStore.create(folder, CONFIG)
    assert_whole(folder)


def test_a_run_is_not_created_over_a_journal_with_records(folder: Path) -> None:
    (folder / "population.h5").unlink()
    before = (folder / "journal").read_bytes()
    with pytest.raises(StoreError, match=r"holds a journal with records but no population\.h5: put the file back"):
        FileStore.create(folder, CONFIG)
    assert (folder / "journal").read_bytes() == before


def test_a_run_that_was_half_created_is_created_again(tmp_path: Path) -> None:
    FileStore.create(tmp_path, CONFIG).close()
    (tmp_path / "population.h5").unlink()
    FileStore.create(tmp_path, CONFIG).close()
    assert_same(run_file.read(tmp_path).population, population())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"^expected to create the run folder .*: Not a directory$"):
        FileStore.create(tmp_path / "file" / "run", CONFIG)


def test_a_new_folder_is_made_durable_in_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    FileStore.create(tmp_path / "run", CONFIG).close()
    assert str(tmp_path) in synced


@pytest.mark.parametrize("call", ["fsync", "rename", "write"])
def test_a_full_disk_at_creation_is_said_and_nothing_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, call, no_space)
        with pytest.raises(StoreError, match="No space left on device"):
            FileStore.create(tmp_path, CONFIG)
    assert not FileStore.exists(tmp_path)
    FileStore.create(tmp_path, CONFIG).close()  # the lock is free again


# Crashes between two renames; more of them in test_crash_points


def test_records_of_a_journal_older_than_the_population_are_not_replayed(folder: Path) -> None:
    old = (folder / "journal").read_bytes()
    run = FileStore.open(folder)
    run.compact()
    run.close()
    assert run_file.read(folder).records == 7
    (folder / "journal").write_bytes(old)  # the crash: population.h5 is renamed, the journal not yet
    assert_whole(folder)


def test_a_journal_that_ends_before_the_population_is_begun_anew(folder: Path) -> None:
    lines = (folder / "journal").read_bytes().splitlines(keepends=True)
    run = FileStore.open(folder)
    run.compact()
    run.close()
    (folder / "journal").write_bytes(b"".join(lines[:-1]))
    assert_whole(folder)  # else record 8 would be counted as the journal's second, record 7


def test_a_population_older_than_its_journal_is_refused(tmp_path: Path, folder: Path) -> None:
    shutil.copy(folder / "population.h5", tmp_path / "backup.h5")
    run = FileStore.open(folder)
    run.compact()
    run.close()
    shutil.copy(tmp_path / "backup.h5", folder / "population.h5")
    with pytest.raises(StoreError, match=r"begin at record 5 or before, but it begins at 7: population\.h5 is older"):
        FileStore.open(folder)


# What cannot be continued


def _rewritten(folder: Path, *records: journal.Record, run: str | None = None, base: int = 5) -> None:
    log = journal.Journal.create(folder / "journal", run or run_file.read(folder).run, base)
    for record in records:
        log.append(record)
    log.commit()
    log.close()


def test_the_journal_of_another_run_is_refused(folder: Path) -> None:
    _rewritten(folder, run="another")
    with pytest.raises(StoreError, match=r"journal: expected the journal of run [0-9a-f]{32}, got that of another$"):
        FileStore.open(folder)


def test_a_missing_journal_is_refused(folder: Path) -> None:
    (folder / "journal").unlink()
    with pytest.raises(StoreError, match=r"^expected a readable journal .*journal: No such file or directory$"):
        FileStore.open(folder)


def test_a_damaged_journal_is_refused(folder: Path) -> None:
    data = bytearray((folder / "journal").read_bytes())
    data[3] ^= 1
    (folder / "journal").write_bytes(data)
    with pytest.raises(StoreError, match=r"journal: line 1 of 2 is damaged, and it is not the last one$"):
        FileStore.open(folder)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (lambda: {"settle": records.result(evaluated(2))}, "expected the result of an individual in flight"),
        (lambda: {"birth": records.birth(individual(2))}, "expected the birth of individual 3, got 2"),
        (lambda: {"birth": {"id": 3}}, "expected a key 'view', but there is none"),
        (lambda: {"begin": {"pid": 3}}, "expected a key 'started', but there is none"),
        (lambda: {"worker": {"place": 3}}, "expected a key 'training', but there is none"),
        (lambda: {"nap": {}}, "expected a record of begin, worker, birth, retry, advance or settle, got 'nap'"),
        (lambda: {}, "not enough values to unpack"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_by_its_number(
    folder: Path, record: Callable[[], journal.Record], reason: str
) -> None:
    _rewritten(folder, {"begin": asdict(SESSION)}, record())
    with pytest.raises(StoreError, match=f"journal: record 7 does not fit the run: {reason}"):
        FileStore.open(folder)


def test_a_damaged_population_is_refused_and_not_taken_for_a_new_run(folder: Path) -> None:
    (folder / "population.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises(StoreError, match=r"population\.h5: expected a whole file of a run, but it cannot be read"):
        FileStore.open(folder)
    assert FileStore.exists(folder)


def test_a_folder_without_a_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^expected a run in .*, but there is no population\.h5$"):
        FileStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"^expected to write in the run folder .*: No such file or directory$"):
        FileStore.open(tmp_path / "nowhere")


def test_a_refused_opening_lets_go_of_the_lock(folder: Path) -> None:
    data = (folder / "journal").read_bytes()
    (folder / "journal").write_bytes(b"")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError, match="expected a header"):
        FileStore.open(folder)
    assert len(os.listdir("/proc/self/fd")) == before
    (folder / "journal").write_bytes(data)
    assert_whole(folder)


@pytest.mark.parametrize("fails", ["population.h5", "tidying"])
def test_an_opening_that_fails_late_leaves_no_descriptor(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as broken:
        if fails == "tidying":
            broken.setattr(file_store, "_tidy", lambda *given: no_space())
        else:
            broken.setattr(run_file, "image", lambda *given: no_space())
        with pytest.raises((OSError, StoreError), match="No space left"):
            FileStore.open(folder) if fails == "tidying" else FileStore.create(tmp_path / "new", CONFIG)
    assert len(os.listdir("/proc/self/fd")) == before
    assert_whole(folder)


# One controller

HOLDER = """
import sys
import zlib
from pathlib import Path
from hpcnas.search.file_store import FileStore
held = FileStore.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the run of `folder` open."""
    with Child(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_controller_is_refused_and_told_who_is_first(folder: Path, holder: subprocess.Popen[str]) -> None:
    first = re.escape(f"host {socket.gethostname()}, pid {holder.pid}")
    for attempt in (FileStore.open, lambda folder: FileStore.create(folder, CONFIG)):
        with pytest.raises(StoreError, match=rf"^the run .*run already has a controller: {first}$"):
            attempt(folder)
    assert run_file.read(folder).records == 5  # but everybody may look


def test_a_killed_controller_holds_nothing(folder: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert_whole(folder)


def test_the_lock_is_held_until_close(folder: Path) -> None:
    first = FileStore.open(folder)
    with pytest.raises(StoreError, match=rf"already has a controller: host .*, pid {os.getpid()}$"):
        FileStore.open(folder)
    first.close()
    FileStore.open(folder).close()


# A disk that is full or broken


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_after_a_failed_commit_nothing_is_taken_any_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    run = FileStore.open(folder)
    run.settle(evaluated(1))
    with monkeypatch.context() as full:
        full.setattr(os, call, no_space)
        with pytest.raises(StoreError, match=r"No space left on device; nothing acknowledged is lost"):
            run.commit()
    for again in (run.commit, run.compact):
        with pytest.raises(StoreError, match="an earlier write failed"):
            again()
    run.close()
    found = FileStore.open(folder)
    assert len(found.population) == 4  # all that was acknowledged; individual 1 may be settled or in flight
    found.close()


@pytest.mark.parametrize("name", ["population.h5", "journal"])
@pytest.mark.parametrize("call", ["fsync", "rename", "sync_folder"])
def test_after_a_failed_compaction_nothing_is_lost_and_nothing_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: str
) -> None:
    run = FileStore.open(folder)
    real = durable.put

    def put_one(path: Path, *given: Any) -> None:
        with monkeypatch.context() as full:
            if path.name == name:
                full.setattr(durable if call == "sync_folder" else os, call, no_space)
            real(path, *given)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "put", put_one)
        with pytest.raises(StoreError, match=r"^expected to renew .*No space left on device.*nothing acknowledged"):
            run.compact()
    run.settle(evaluated(1))
    with pytest.raises(StoreError, match="an earlier write failed"):
        run.commit()  # it could go to a file that is no longer there
    run.close()
    assert_whole(folder)


# Checkpoints of evaluations in flight


def test_a_checkpoint_goes_when_its_result_is_on_the_disk(folder: Path) -> None:
    run = FileStore.open(folder)
    path = folder / "inflight" / "1.pt"
    path.parent.mkdir()
    path.write_bytes(b"state")
    run.settle(evaluated(1))
    assert path.exists()
    run.commit()
    assert not path.exists()
    run.close()


def test_opening_removes_the_checkpoints_that_nobody_needs(folder: Path) -> None:
    names = ["1.pt", "2.pt", ".3.pt.77.tmp", "9.pt"]  # in flight, settled, half of a file, of nobody
    (folder / "inflight").mkdir()
    for name in names:
        (folder / "inflight" / name).write_bytes(b"state")
    FileStore.open(folder).close()
    assert [path.name for path in (folder / "inflight").iterdir()] == ["1.pt"]
