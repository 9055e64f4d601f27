"""population.h5 is renewed while records come: what is where, and what a failure costs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from examples import assert_same, evaluated, individual
from stored import assert_whole, no_space, stored_run

from hpcnas.search import file_store, recovery, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.storage import journal
from hpcnas.storage.folder import RunFolder, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stored_run(tmp_path / "run")


class Later(file_store._Renewal):
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
    monkeypatch.setattr(file_store, "_Renewal", Later)


@pytest.mark.usefixtures("later")
def test_what_comes_meanwhile_is_in_the_old_journal_and_then_in_the_new(folder: Path) -> None:
    run = FileStore.open(folder)
    run.compact_aside()  # with records 6 and 7
    run.settle(evaluated(1))  # record 8
    run.commit()
    run.birth(individual(4))
    run.commit()
    assert run_file.read(folder).records == 5
    assert [journal.read(folder / "journal").base, len(journal.read(folder / "journal").records)] == [5, 4]
    renewal = run._renewal
    assert renewal is not None
    renewal.join()  # renamed, and the journal is still the old one
    assert run_file.read(folder).records == 7
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
    assert run_file.read(folder).records == 8 and journal.read(folder / "journal").records == []
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
    unlinked = RunFolder.remove

    def remove(place: RunFolder, name: str) -> None:
        seen.append((name, 1 in recovery.salvage(folder)[0].population.evaluated))
        unlinked(place, name)

    monkeypatch.setattr(RunFolder, "remove", remove)
    run.compact()
    assert seen == [("inflight/1.pt", True)]
    run.close()


def test_files_renewed_between_two_reads_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, answers = recovery._once, [["population.h5 is older than its journal"], []]
    monkeypatch.setattr(recovery, "_once", lambda folder: (whole(folder)[0], answers.pop(0)))
    assert recovery.salvage(folder)[1] == [] and answers == []


@pytest.mark.usefixtures("later")
def test_closing_waits_for_a_renewal(folder: Path) -> None:
    run = FileStore.open(folder)
    run.compact_aside()
    run.close()
    assert run_file.read(folder).records == 7
    assert list(folder.glob(".*.tmp")) == []
    assert_whole(folder)


def _broken(*given: object, **named: object) -> None:
    raise MemoryError("too little memory")


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(("broken", "reason"), [(no_space, "No space left on device"), (_broken, "too little memory")])
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
    assert run_file.read(folder).records == journal.read(folder / "journal").base == 5
    run.close()
    assert_whole(folder)
