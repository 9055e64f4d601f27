"""A search that is followed by its journal: what each look finds, and that it reads no more than has come."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from examples import CONFIG, SESSION, add_births, assert_same, evaluated, failed, individual

from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import followed, points, search_state
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.search import recovery, run_file
from hpcnas.search.file_store import FileStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    """A run of three births that this process keeps."""
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(SESSION)
    add_births(store, 3)
    store.commit()
    yield store
    store.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of which population.h5 is read from now on."""
    found: list[Path] = []
    examine = run_file.examine

    def counted(folder: Path) -> tuple[run_file.StoredRun, list[str]]:
        found.append(folder)
        return examine(folder)

    monkeypatch.setattr(run_file, "examine", counted)
    return found


def look(run: FollowedSearch) -> str:
    with run.looked():
        return run.version


def expect_same(run: FollowedSearch, store: FileStore) -> None:
    assert run.problems == []
    assert_same(run.stored.population, store.population)
    assert run.stored.sessions == store.sessions
    assert run.stored.records == recovery.salvage(run.folder)[0].records


def test_what_is_committed_is_there_at_the_next_look(store: FileStore, reads: list[Path]) -> None:
    run = FollowedSearch(store.folder)
    assert len(reads) == 1
    version = look(run)
    assert look(run) == version, "nothing has happened"
    store.settle(evaluated(2))
    store.commit()
    assert look(run) != version
    assert run.stored.population.evaluated.tolist() == [2]
    store.settle(failed(0))
    store.birth(individual(3))
    store.commit()
    look(run)
    assert len(reads) == 1, "population.h5 is read once"
    expect_same(run, store)


def test_a_journal_that_begins_anew_goes_on(store: FileStore, reads: list[Path]) -> None:
    run = FollowedSearch(store.folder)
    for id in range(3, 6):
        store.birth(individual(id))
        store.settle(evaluated(id))
        store.commit()
        look(run)
        store.compact()
        look(run)
    assert len(reads) == 1
    expect_same(run, store)


def test_what_was_not_looked_at_for_long_is_read_anew(store: FileStore, reads: list[Path]) -> None:
    run = FollowedSearch(store.folder)
    for id in range(3, 6):  # records that no journal has any more
        store.birth(individual(id))
        store.compact()
    store.settle(evaluated(5))
    store.commit()
    look(run)
    assert len(reads) == 2
    expect_same(run, store)


def test_a_search_that_is_killed_and_started_again_is_followed_on(store: FileStore) -> None:
    run = FollowedSearch(store.folder)
    store.settle(evaluated(1))
    store.commit()
    store.close()
    again = FileStore.open(store.folder)
    again.begin(SESSION)
    again.settle(evaluated(0))
    again.commit()
    look(run)
    assert [len(run.stored.sessions), *run.stored.population.evaluated.tolist()] == [2, 1, 0]
    expect_same(run, again)
    again.close()


def test_what_is_damaged_is_told_and_the_rest_stays(store: FileStore, tmp_path: Path) -> None:
    store.settle(evaluated(2))
    store.commit()
    run = FollowedSearch(store.folder)
    journal = store.folder / "journal"
    sound = journal.read_bytes()
    journal.write_bytes(sound + b"00000000 [1]\n00000000 [2]\n")
    look(run)
    (problem,) = run.problems
    assert "line 1 of 2 is damaged, and it is not the last one" in problem
    assert run.stored.population.evaluated.tolist() == [2]
    run._reading_took = 0.0  # else it waits before it reads what is damaged once more
    journal.write_bytes(sound)
    look(run)
    expect_same(run, store)


def test_a_folder_that_goes_is_told(store: FileStore, tmp_path: Path) -> None:
    run = FollowedSearch(store.folder)
    shutil.move(store.folder, tmp_path / "elsewhere")
    look(run)
    assert len(run.problems) == 1 and "expected a readable journal" in run.problems[0]
    assert len(run.stored.population) == 3
    shutil.move(tmp_path / "elsewhere", store.folder)
    run._reading_took = 0.0
    look(run)
    expect_same(run, store)


def test_what_cannot_be_read_at_all_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "population.h5").write_bytes(b"no run")
    with pytest.raises(AnalysisError, match="expected a whole file of a run"):
        FollowedSearch(tmp_path)


def test_values_are_kept_until_the_run_changes_and_slow_ones_longer(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made, now = FollowedSearch(store.folder), list[str](), [1000.0]
    monkeypatch.setattr(followed, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))

    def count(name: str, seconds: float) -> int:
        made.append(name)
        now[0] += seconds
        return len(run.stored.population)

    def values() -> list[int]:
        with run.looked():
            return [
                run.cached("exact", lambda: count("exact", 2.0)),
                run.lately("slow", lambda: count("slow", 2.0)),
                run.lately("quick", lambda: count("quick", 0.0)),
            ]

    assert (values(), values(), made) == ([3, 3, 3], [3, 3, 3], ["exact", "slow", "quick"])
    store.birth(individual(3))
    store.commit()
    assert values() == [4, 3, 4], "what took long is of a moment ago"
    now[0] += 2.0 * followed.PATIENCE
    assert values() == [4, 4, 4]
    assert made == ["exact", "slow", "quick", "exact", "quick", "slow"]


def test_views_of_a_run_that_grows_fit_it(store: FileStore) -> None:
    """Values that are kept from before have no place for what has come since."""
    run = FollowedSearch(store.folder)
    views = (points.points, points.rows, search_state.state, lambda run, query: points.rows(run, {"host": ["node-7"]}))
    for id in range(3, 8):
        with run.looked():
            for view in views:
                view(run, {})
            run._kept = {name: (changes, made, 1e9, value) for name, (changes, made, _, value) in run._kept.items()}
        store.birth(individual(id))
        store.settle(evaluated(id))
        store.commit()
    with run.looked():
        assert points.points(run, {})["points"]["id"].tolist() == list(range(8))
        assert [row["id"] for row in points.rows(run, {"host": ["node-7"]})["rows"]] == [3, 4, 5, 6, 7]
