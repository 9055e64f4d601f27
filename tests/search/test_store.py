"""One contract for all stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import CONFIG, SESSION, add_births, assert_same, evaluated, failed, individual, population

from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore

# ── the contract ────────────────────────────────────────────────────────────────────────────────────────────────────

Reopen = Callable[[MemoryStore], MemoryStore]


@pytest.fixture(params=["memory", "file"])
def contract(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[MemoryStore, Reopen]]:
    """A new store of each kind, and what ends one and gives its continuation."""
    if request.param == "memory":
        yield MemoryStore(CONFIG), lambda old: old
        return
    opened = [FileStore.create(tmp_path / "run", CONFIG)]

    def reopen(old: MemoryStore) -> MemoryStore:
        old.close()
        opened.append(FileStore.open(tmp_path / "run"))
        return opened[-1]

    yield opened[0], reopen
    for one in opened:
        one.close()


def test_a_new_store_is_empty(contract: tuple[MemoryStore, Reopen]) -> None:
    new, reopen = contract
    for one in (new, reopen(new)):
        assert one.config == CONFIG
        assert one.sessions == []
        assert_same(one.population, population())


def test_births_and_results_are_in_the_population(contract: tuple[MemoryStore, Reopen]) -> None:
    new, reopen = contract
    add_births(new, 4)
    new.settle(evaluated(2, 0.5, 0.7))
    new.settle(failed(0))
    new.retry(failed(1, "again"))
    expected = population(evaluated(2, 0.5, 0.7), failed(0), births=4)
    expected.retry(failed(1, "again"))
    assert_same(new.population, expected)
    new.commit()
    assert_same(reopen(new).population, expected)


def test_replicates_that_come_one_by_one_make_the_same_individual(contract: tuple[MemoryStore, Reopen]) -> None:
    """And those that are there are not lost with the process, nor by a renewal of the file."""
    new, reopen = contract
    new.begin(SESSION)
    add_births(new, 2)
    new.advance(replace(evaluated(1, 0.7), first=1))
    new.commit()
    again = reopen(new)
    assert again.population.missing(1) == [0] and again.population.issued == [0, 1]
    again.compact()
    again = reopen(again)
    assert again.population.accuracies(1) == (0.7,) and again.population.trainings == 1
    again.settle(evaluated(1, 0.5))
    again.commit()
    found, expected = reopen(again).population, population(evaluated(1, 0.5, 0.7))
    for name in ("accuracies", "fitness", "replicates_trained", "state", "parameters", "started", "finished"):
        np.testing.assert_array_equal(found.column(name), expected.column(name), name)
    assert found.column("training_seconds")[1] == 16.0 and found.column("worker_seconds")[1] == 20.0
    assert (found.trainings, found.best) == (2, 1)


def test_a_replicate_is_trained_once(contract: tuple[MemoryStore, Reopen]) -> None:
    new, _ = contract
    add_births(new, 1)
    new.advance(replace(evaluated(0, 0.7), first=1))
    with pytest.raises(ValueError, match="that are not yet trained, got 2 from number 0 on"):
        new.settle(evaluated(0))
    assert new.population.missing(0) == [0]


def test_sessions_are_kept_in_order(contract: tuple[MemoryStore, Reopen]) -> None:
    new, reopen = contract
    sessions = [SESSION, replace(SESSION, pid=2, software={})]
    for session in sessions:
        new.begin(session)
    new.commit()
    assert reopen(new).sessions == sessions


def test_what_does_not_fit_is_refused_and_leaves_no_trace(contract: tuple[MemoryStore, Reopen]) -> None:
    new, reopen = contract
    add_births(new, 2)
    for refused in (
        lambda: new.birth(individual(1)),
        lambda: new.birth(individual(2, parent=2)),
        lambda: new.settle(evaluated(5)),
        lambda: new.settle(evaluated(0, 0.5, 0.5, 0.5)),
        lambda: new.advance(failed(0)),
        lambda: new.retry(evaluated(0)),
    ):
        with pytest.raises(ValueError, match="expected"):
            refused()
    new.settle(evaluated(1))
    new.commit()
    assert_same(new.population, population(evaluated(1)))
    assert_same(reopen(new).population, population(evaluated(1)))


def test_compacting_changes_nothing(contract: tuple[MemoryStore, Reopen]) -> None:
    new, reopen = contract
    new.begin(SESSION)
    add_births(new, 3)
    new.compact()
    new.settle(evaluated(2))
    new.compact()
    new.compact()
    new.settle(failed(0))
    new.commit()
    expected = population(evaluated(2), failed(0), births=3)
    assert_same(new.population, expected)
    again = reopen(new)
    assert_same(again.population, expected)
    assert again.sessions == [SESSION]


def test_compacting_aside_changes_nothing(contract: tuple[MemoryStore, Reopen]) -> None:
    new, reopen = contract
    new.begin(SESSION)
    add_births(new, 3)
    new.compact_aside()
    new.settle(evaluated(2))
    new.compact_aside()
    new.commit()
    new.settle(failed(0))
    new.commit()
    expected = population(evaluated(2), failed(0), births=3)
    assert_same(new.population, expected)
    again = reopen(new)
    assert_same(again.population, expected)
    assert again.sessions == [SESSION]


def test_a_continued_store_takes_what_comes(contract: tuple[MemoryStore, Reopen]) -> None:
    current, reopen = contract
    current.begin(SESSION)
    for id in range(5):
        current.birth(individual(id))
        if id % 2:
            current.settle(evaluated(id))
        if id == 3:
            current.compact()
        current.commit()
        current = reopen(current)
    assert_same(current.population, population(evaluated(1), evaluated(3), births=5))


def test_closing_twice_is_closing_once(contract: tuple[MemoryStore, Reopen]) -> None:
    new, _ = contract
    new.close()
    new.close()
