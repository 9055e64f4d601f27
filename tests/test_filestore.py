"""What only a run in a folder can promise or refuse."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import CONFIG, FACTS, SESSION, SPACE, add_births, assert_same, evaluated, failed, individual, population

from hpcnas import durable, journal, runfile, store
from hpcnas.config import build
from hpcnas.genotype import Genotype
from hpcnas.individuals import COLUMNS, Birth, Individual
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Result
from hpcnas.runfile import Session, StoreError
from hpcnas.store import FileStore

ROOT = Path(store.__file__).parents[1]

# ── a run in a folder ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed run: records 1 to 5 in population.h5, records 6 and 7 in the journal."""
    folder = tmp_path / "run"
    new = FileStore.create(folder, CONFIG)
    new.begin(SESSION)
    add_births(new, 3)
    new.settle(evaluated(2))
    new.compact()
    new.settle(failed(0))
    new.birth(individual(3))
    new.commit()
    new.close()
    return folder


def assert_whole(folder: Path) -> None:
    """The run of the `folder` fixture opens with all its records, and goes on."""
    found = FileStore.open(folder)
    assert_same(found.population, population(evaluated(2), failed(0), births=4))
    assert found.sessions == [SESSION]
    found.settle(evaluated(1))
    found.commit()
    found.close()
    found = FileStore.open(folder)
    assert_same(found.population, population(evaluated(2), failed(0), evaluated(1), births=4))
    found.close()


def test_a_run_is_three_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["journal", "lock", "population.h5"]
    assert runfile.read(folder).records == 5
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
    assert_same(runfile.read(folder).population, population(evaluated(2), births=3))  # the last compaction's
    writer.compact()
    assert_same(runfile.read(folder).population, writer.population)
    writer.close()


def test_a_continued_run_keeps_the_settings_it_is_given(folder: Path) -> None:
    run = FileStore.open(folder)
    run.config = replace(CONFIG, run=replace(CONFIG.run, device="cpu"))
    run.compact()
    run.close()
    assert runfile.read(folder).config.run.device == "cpu"


def test_a_run_in_which_nothing_happened_may_begin_anew(tmp_path: Path) -> None:
    other = build({"search": {"space": "1x4"}, "training": {"replicates": 1}})
    run = FileStore.create(tmp_path, CONFIG)
    run.begin_anew(other)
    run.close()
    found = FileStore.open(tmp_path)
    assert found.config == other
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
    assert_same(runfile.read(tmp_path).population, population())


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
        full.setattr(os, call, _no_space)
        with pytest.raises(StoreError, match="No space left on device"):
            FileStore.create(tmp_path, CONFIG)
    assert not FileStore.exists(tmp_path)
    FileStore.create(tmp_path, CONFIG).close()  # the lock is free again


def _no_space(*given: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# Crashes between two renames; more of them in test_crash_points


def test_records_of_a_journal_older_than_the_population_are_not_replayed(folder: Path) -> None:
    old = (folder / "journal").read_bytes()
    run = FileStore.open(folder)
    run.compact()
    run.close()
    assert runfile.read(folder).records == 7
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


# Renewal of population.h5 while records come


class Later(store._Renewal):
    """A renewal that is written when the test wants it, or when the store waits for it."""

    def start(self) -> None:
        self.over = False

    def is_alive(self) -> bool:
        return not self.over

    def join(self, timeout: float | None = None) -> None:
        if not self.over:
            self.over = True
            self.run()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_Renewal", Later)


@pytest.mark.usefixtures("later")
def test_what_comes_meanwhile_is_in_the_old_journal_and_then_in_the_new(folder: Path) -> None:
    run = FileStore.open(folder)
    run.compact_aside()  # with records 6 and 7
    run.settle(evaluated(1))  # record 8
    run.commit()
    run.birth(individual(4))
    run.commit()
    assert runfile.read(folder).records == 5
    assert [journal.read(folder / "journal").base, len(journal.read(folder / "journal").records)] == [5, 4]
    renewal = run._renewal
    assert renewal is not None
    renewal.join()  # renamed, and the journal is still the old one
    assert runfile.read(folder).records == 7
    assert journal.read(folder / "journal").base == 5
    run.birth(individual(5))
    run.commit()  # now it is noticed
    contents = journal.read(folder / "journal")
    assert (contents.base, len(contents.records)) == (7, 3)
    assert run._renewal is None
    run.close()
    found = FileStore.open(folder)
    assert_same(found.population, run.population)
    found.close()


@pytest.mark.usefixtures("later")
def test_one_renewal_at_a_time_and_the_last_one_has_it_all(folder: Path) -> None:
    run = FileStore.open(folder)
    run.compact_aside()
    first = run._renewal
    run.settle(evaluated(1))
    run.compact_aside()
    assert run._renewal is first
    run.compact()
    assert runfile.read(folder).records == 8 and journal.read(folder / "journal").records == []
    run.close()


@pytest.mark.usefixtures("later")
def test_a_checkpoint_stays_until_the_result_is_on_the_disk_also_where_a_renewal_ends_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "inflight").mkdir()
    (folder / "inflight" / "1.pt").write_bytes(b"state")
    run = FileStore.open(folder)
    run.compact_aside()
    run.settle(evaluated(1))  # not committed
    seen = []
    unlinked = store._remove

    def remove(path: Path | str) -> None:
        seen.append((Path(path).name, 1 in store.salvage(folder)[0].population.evaluated))
        unlinked(path)

    monkeypatch.setattr(store, "_remove", remove)
    run.compact()
    assert seen == [("1.pt", True)]
    run.close()


def test_files_renewed_between_two_reads_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, answers = store._salvaged, [["population.h5 is older than its journal"], []]
    monkeypatch.setattr(store, "_salvaged", lambda folder: (whole(folder)[0], answers.pop(0)))
    assert store.salvage(folder)[1] == [] and answers == []


@pytest.mark.usefixtures("later")
def test_closing_waits_for_a_renewal(folder: Path) -> None:
    run = FileStore.open(folder)
    run.compact_aside()
    run.close()
    assert runfile.read(folder).records == 7
    assert list(folder.glob(".*.tmp")) == []
    assert_whole(folder)


def _broken(*given: object) -> None:
    raise MemoryError("too little memory")


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(("broken", "reason"), [(_no_space, "No space left on device"), (_broken, "too little memory")])
def test_a_renewal_that_fails_is_said_by_the_next_commit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., None], reason: str
) -> None:
    run = FileStore.open(folder)
    run.compact_aside()
    with monkeypatch.context() as full:
        full.setattr(os, "rename", broken)
        assert run._renewal is not None
        run._renewal.join()
    with pytest.raises(StoreError, match=rf"^expected to renew .*{reason}.*nothing acknowledged is lost"):
        run.commit()
    assert runfile.read(folder).records == journal.read(folder / "journal").base == 5
    run.close()
    assert_whole(folder)


# What cannot be continued


def _rewritten(folder: Path, *records: journal.Record, run: str | None = None, base: int = 5) -> None:
    log = journal.Journal.create(folder / "journal", run or runfile.read(folder).run, base)
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
        (lambda: {"settle": store._result_record(evaluated(2))}, "expected the result of an individual in flight"),
        (lambda: {"birth": store._birth_record(individual(2))}, "expected the birth of individual 3, got 2"),
        (lambda: {"birth": {"id": 3}}, "'genotype'"),
        (lambda: {"begin": {"pid": 3}}, "'facts'"),
        (lambda: {"nap": {}}, "expected a record of begin, birth, retry, advance or settle, got 'nap'"),
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


# One controller

HOLDER = """
import sys
import zlib
from pathlib import Path
from hpcnas.store import FileStore
held = FileStore.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the run of `folder` open."""
    with subprocess.Popen(
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
    assert runfile.read(folder).records == 5  # but everybody may look


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


def test_a_file_system_without_locks_is_no_second_controller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*given: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"^expected to lock .*lock: Function not implemented$"):
        FileStore.open(folder)


# A disk that is full or broken


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_after_a_failed_commit_nothing_is_taken_any_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    run = FileStore.open(folder)
    run.settle(evaluated(1))
    with monkeypatch.context() as full:
        full.setattr(os, call, _no_space)
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
    real = durable.replace

    def replace_one(path: Path, write: Callable[[Path], object]) -> None:
        with monkeypatch.context() as full:
            if path.name == name:
                full.setattr(durable if call == "sync_folder" else os, call, _no_space)
            real(path, write)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "replace", replace_one)
        with pytest.raises(StoreError, match=r"^expected to renew .*No space left on device.*nothing acknowledged"):
            run.compact()
    run.settle(evaluated(1))
    with pytest.raises(StoreError, match="an earlier write failed"):
        run.commit()  # it could go to a file that is no longer there
    run.close()
    assert_whole(folder)


# Values there and back, through the journal and through population.h5

AWKWARD_RESULTS = (
    Result(0, 1, Place(0, "", ""), 0.1 + 0.2, 1e-320, Evaluation((0.1, 1 / 3), 2**40, float("nan"), 0.0, -0.0)),
    Result(1, 3, Place(200, "nöde", "cuda:0"), -1.5, 2.0**52 + 0.5, Failure(FailureKind.NAN, "")),
    Result(2, 1, Place(3, "n", "cpu"), 1.0, float("inf"), Failure(FailureKind.ERROR, 'ü ☃ 𝄞\r\n\t"\\ \x1b[2K\0 end')),
    Result(3, 1, Place(3, "n", "cpu"), 1.0, 2.0, Failure(FailureKind.CRASH, "x" * 5000 + "☃" * 500)),
    Result(4, 255, Place(3, "n", "cpu"), 1.0, 2.0, Failure(FailureKind.OVERRUN, "name \udcff\0")),
)
AWKWARD_SESSION = Session(0.1, "nöde", 2**40, 201, {"ü": '"\n', "": ""}, replace(FACTS, fingerprint="☃"))


@pytest.fixture(params=["journal", "population.h5"])
def awkward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    """A run of awkward values, reopened from one file or the other."""
    new = FileStore.create(tmp_path, CONFIG)
    new.begin(AWKWARD_SESSION)
    for id in range(6):
        codes = bytes((id + place) % 7 for place in range(6)) + bytes([0, 1, 2])
        parent, born = (None, 1e9 + id / 3) if id < 3 else (id - 2, float(id))
        kind = Birth.RANDOM if id < 3 else Birth.MUTATION
        network = bytes([id] * 16) if id else None
        new.birth(Individual(id, Genotype(SPACE, codes), kind, parent, id * 1000, id, born, 2 * id, network))
    new.retry(replace(AWKWARD_RESULTS[3], attempt=1))
    for result in AWKWARD_RESULTS:
        new.settle(result)
    (new.commit if request.param == "journal" else new.compact)()
    new.close()
    found = FileStore.open(tmp_path)
    yield found
    found.close()


def test_individuals_come_back_bit_for_bit(awkward: FileStore) -> None:
    found = [awkward.population.individual(id) for id in range(6)]
    assert [one.parent for one in found] == [None, None, None, 1, 2, 3]
    assert [one.genotype.codes[:2] for one in found] == [b"\0\1", b"\1\2", b"\2\3", b"\3\4", b"\4\5", b"\5\6"]
    assert [one.born for one in found] == [1e9, 1e9 + 1 / 3, 1e9 + 2 / 3, 3.0, 4.0, 5.0]
    assert [(one.view, one.redrawn, one.known) for one in found] == [(id * 1000, id, 2 * id) for id in range(6)]
    assert [one.network for one in found] == [None, *(bytes([id] * 16) for id in range(1, 6))]


def test_a_birth_from_before_networks_were_kept_comes_back(tmp_path: Path) -> None:
    new = FileStore.create(tmp_path, CONFIG)
    new.birth(individual(0))
    new.commit()
    new.close()
    old = (tmp_path / "journal").read_bytes()[:-1].rpartition(b"\n")
    body = old[2][9:].replace(b',"known":0,"network":null', b"")
    assert body != old[2][9:]
    (tmp_path / "journal").write_bytes(old[0] + b"\n%08x %s\n" % (zlib.crc32(body), body))
    found = FileStore.open(tmp_path)
    assert found.population.individual(0) == individual(0)
    found.close()


def test_results_come_back_bit_for_bit(awkward: FileStore) -> None:
    found = [awkward.population.result(id) for id in range(5)]
    assert str(found[0]) == str(AWKWARD_RESULTS[0])  # NaN is not equal to itself
    assert found[1:3] == list(AWKWARD_RESULTS[1:3])


def test_messages_come_back_as_far_as_they_fit(awkward: FileStore) -> None:
    failures = awkward.population.failures
    assert failures[3].message == "x" * 548 + "☃" * 500
    assert failures[4].message == "name ?"
    assert [(attempt.individual, attempt.attempt) for attempt in awkward.population.failed_attempts] == [
        (3, 1), (1, 3), (2, 1), (3, 1), (4, 255),
    ]  # fmt: skip


def test_sessions_come_back_bit_for_bit(awkward: FileStore) -> None:
    assert awkward.sessions == [AWKWARD_SESSION]


def test_the_file_and_the_journal_agree_in_every_column(awkward: FileStore) -> None:
    before = {column.name: awkward.population.column(column.name).copy() for column in COLUMNS}
    awkward.compact()
    found = runfile.read(awkward.folder).population
    for name, column in before.items():
        np.testing.assert_array_equal(found.column(name), column, name)
    assert found.failed_attempts == awkward.population.failed_attempts


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
