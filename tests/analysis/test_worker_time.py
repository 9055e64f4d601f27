"""The accounts of worker time, in literal numbers of runs made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import PLACE, SESSION
from toolruns import CHAIN, created, eventful

from hpcnas.analysis import summary, worker_time
from hpcnas.architecture.space import Space
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Failure, FailureKind, Result
from hpcnas.search import run_file


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def test_attempts_that_failed_count_too(run: Path) -> None:
    attempts = worker_time.Attempts.of(run_file.read(run).population)
    assert sorted(zip(attempts.started, attempts.finished, attempts.rank, strict=True)) == [
        (1000.0, 1050.0, 2.0),
        (1000.0, 1100.0, 1.0),
        (1050.0, 1150.0, 2.0),
        (1100.0, 1200.0, 1.0),
        (1150.0, 1160.0, 2.0),
        (2020.0, 2100.0, 1.0),
    ]
    assert attempts.seconds() == 440.0


def test_time_spent_up_to_any_moment(run: Path) -> None:
    attempts = worker_time.Attempts.of(run_file.read(run).population)
    times = np.array([900.0, 1000.0, 1050.0, 1100.0, 1150.0, 1155.0, 1200.0, 2050.0, 9000.0])
    assert attempts.spent(times).tolist() == [0.0, 0.0, 100.0, 200.0, 300.0, 310.0, 360.0, 390.0, 440.0]


def test_nothing_spent_without_attempts() -> None:
    attempts = worker_time.Attempts.of(Population(Space.parse("2x3/1x3"), 2))
    assert attempts.spent(np.array([1.0, 2.0])).tolist() == [0.0, 0.0]


def test_sessions_with_what_was_under_way_at_their_end(run: Path) -> None:
    first, second = worker_time.accounts(run_file.read(run))
    assert (first.started, first.ended, first.workers, first.evaluated) == (1000.0, 1200.0, 2, 3)
    assert (first.unfinished.started.tolist(), first.unfinished.finished.tolist()) == ([1160.0], [1200.0])
    assert (first.busy_seconds, first.worker_seconds) == (400.0, 400.0)
    assert (second.started, second.ended, second.workers, second.evaluated) == (2000.0, 2100.0, 1, 1)
    assert (second.busy_seconds, second.worker_seconds) == (80.0, 100.0)
    assert worker_time.busy_share([first, second]) == 0.96


def test_a_fitness_in_parts_costs_what_its_parts_have(tmp_path: Path) -> None:
    """Rank 1 trains the first replicate from 1000 to 1100 and, in another session, the second from 2000 to 2050; rank
    2 has another individual until 1200."""
    store = created(tmp_path / "run", racing=True)
    store.begin(replace(SESSION, started=1000.0))
    for id in range(2):
        store.birth(Individual(id, CHAIN, Birth.INITIAL, None, 0, 0, 1000.0))
    part = Evaluation((0.5,), 1000, 1.0, 2.0, 3.0)
    store.advance(Result(0, 1, replace(PLACE, rank=1), 1000.0, 1100.0, part))
    store.settle(Result(1, 1, PLACE, 1000.0, 1200.0, Evaluation((0.5, 0.5), 1000, 1.0, 2.0, 3.0)))
    store.compact()
    half = run_file.read(tmp_path / "run")
    assert worker_time.Attempts.of(half.population).seconds() == 300.0, "the part of one in flight"
    assert worker_time.accounts(half)[0].unfinished.work.tolist() == [100.0], "which is still in flight"
    store.begin(replace(SESSION, started=2000.0, ranks=2))
    store.settle(Result(0, 1, replace(PLACE, rank=1), 2000.0, 2050.0, part, first=1))
    store.compact()
    store.close()
    run = run_file.read(tmp_path / "run")
    attempts = worker_time.Attempts.of(run.population)
    assert attempts.seconds() == 350.0, "and not 1,250"
    first, second = worker_time.accounts(run)
    assert (first.evaluated, first.ended, second.evaluated, second.ended) == (1, 1200.0, 1, 2050.0)
    assert sorted(first.attempts.work.tolist()) == pytest.approx([120.0, 200.0])  # 200 of the 250 s between
    assert second.attempts.work.tolist() == pytest.approx([30.0])
    assert summary.facts(tmp_path / "run", run, 5)["worker_hours"] == 350 / 3600


def test_parts_of_a_failed_individual_count_once(tmp_path: Path) -> None:
    store = created(tmp_path / "run", scheduling="replicate")
    store.begin(SESSION)
    store.birth(Individual(0, CHAIN, Birth.INITIAL, None, 0, 0, 1000.0))
    store.advance(Result(0, 1, PLACE, 1000.0, 1100.0, Evaluation((0.5,), 1000, 1.0, 2.0, 3.0)))
    crash = Failure(FailureKind.CRASH, "crash")
    store.retry(Result(0, 1, PLACE, 1100.0, 1110.0, crash, first=1))
    store.settle(Result(0, 2, PLACE, 1110.0, 1115.0, crash, first=1))
    store.compact()
    store.close()
    assert worker_time.Attempts.of(run_file.read(tmp_path / "run").population).seconds() == 115.0


def test_busy_workers_over_time(run: Path) -> None:
    hours, busy, there = worker_time.occupancy(run_file.read(run), bins=11)  # of 100 s
    assert hours.tolist() == pytest.approx([100 * number / 3600 for number in range(12)])
    assert busy.tolist() == pytest.approx([2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0.8])
    assert there.tolist() == pytest.approx([2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize(("seconds", "name"), [(1e6, "hours"), (1800, "hours"), (1799, "minutes"), (29, "seconds")])
def test_units(seconds: float, name: str) -> None:
    assert worker_time.unit(seconds)[0] == name
    assert worker_time.unit(0.0) == ("seconds", 1.0)
