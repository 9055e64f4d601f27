"""A run in progress as its files have it, literal: counts, pace, each worker's state, and whether it goes on."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import curved
import examples
import pytest
from watched import FOUR, evaluated, fill, look, states

from hpcnas.config import search as search_config
from hpcnas.messages import Place, Stopped
from hpcnas.search.file_store import FileStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    """A run that this process keeps, with nothing in it."""
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    yield store
    store.close()


# ── what there is to see ────────────────────────────────────────────────────────────────────────────────────────────
def test_records_of_the_journal_count(store: FileStore) -> None:
    fill(store, 5, evaluated(0, 1, 3010.0), evaluated(2, 2, 3020.0, 0.7, 0.9))
    seen = look(store)
    assert (seen.evaluated, seen.budget, seen.in_flight, seen.failed) == (2, 5, 3, 0)
    assert (seen.state, seen.running) == ("running", True)
    assert seen.best is not None and (seen.best["id"], seen.best["parent"]) == (2, 0)
    assert seen.best["fitness"] == pytest.approx(0.8) and seen.best["gain"] == pytest.approx(0.25)
    assert seen.course == pytest.approx([0.55, 0.8])
    assert [one["id"] for one in seen.recent] == [2, 0]
    assert seen.flying == [(1, 1099.0), (3, 1097.0), (4, 1096.0)]


def test_workers_by_their_results(store: FileStore) -> None:
    results = [evaluated(0, 1, 3010.0), evaluated(1, 1, 3050.0), examples.failed(2)]
    fill(store, 5, *results, session=dataclasses.replace(FOUR, ranks=4))
    first, second, third = look(store).workers
    assert (first.rank, first.evaluated, first.failed, first.last, first.since) == (1, 2, 0, 1, 3050.0)
    assert (first.typical, first.last_fitness, first.device) == (10.0, 0.55, "cuda:0")
    assert (second.rank, second.evaluated, second.failed, second.last, second.since) == (2, 0, 1, 2, 3006.0)
    assert (second.typical, second.last_fitness) == (None, None)
    assert (third.rank, third.host, third.since, third.last) == (3, "", 1000.5, None)


def test_a_repeated_attempt_counts_for_its_worker_once(store: FileStore) -> None:
    fill(store, 1)
    store.retry(dataclasses.replace(examples.failed(0), attempt=1))
    store.commit()
    assert look(store).workers[1].failed == 1
    store.settle(examples.failed(0))
    store.commit()
    assert look(store).workers[1].failed == 2


def test_what_was_stopped_early_is_done_and_has_not_failed(tmp_path: Path) -> None:
    settings = search_config.build(examples.CONFIG.settings(), {"training": {"rungs": (0.5,)}})
    stopped = dataclasses.replace(evaluated(0, 1, 3010.0), outcome=Stopped(((0.25,),), 1000, 0.25, 8.0, 1.5))
    store = fill(FileStore.create(tmp_path / "run", settings), 5, stopped, evaluated(1, 1, 3020.0))
    first, *_ = look(store, 3020.0).workers
    assert (first.evaluated, first.stopped, first.failed, first.last_stopped, first.typical) == (1, 1, 0, False, 10.0)
    store.settle(dataclasses.replace(stopped, individual=2, started=3020.0, finished=3030.0))
    store.commit()
    seen = look(store, 3030.0)
    store.close()
    assert (seen.evaluated, seen.stopped, seen.left, seen.in_flight, seen.failed) == (1, 2, 2, 2, 0)
    assert (seen.workers[0].last, seen.workers[0].last_stopped, seen.workers[0].last_fitness) == (2, True, None)
    assert seen.rate == pytest.approx(3 / (3030.0 - 1000.5)) and seen.remaining == pytest.approx(2 / seen.rate)
    assert states(seen)[1] == "idle?", "the budget is spent"


def test_trainings_of_an_individual_in_flight_are_no_result(store: FileStore) -> None:
    fill(store, 2, evaluated(1, 1, 3020.0))
    store.advance(dataclasses.replace(evaluated(0, 1, 3010.0, 0.5), first=0))
    store.commit()
    assert (look(store).workers[0].evaluated, look(store).in_flight) == (1, 1)


def test_as_many_in_flight_as_workers_means_all_are_at_work(store: FileStore) -> None:
    assert states(look(fill(store, 4))) == dict.fromkeys((1, 2, 3, 4), "at work")


def test_when_the_budget_is_spent_those_who_came_last_are_idle(store: FileStore) -> None:
    fill(store, 5, evaluated(0, 3, 3010.0), evaluated(1, 1, 3020.0), evaluated(2, 4, 3030.0))
    assert states(look(store)) == {1: "idle?", 2: "at work?", 3: "at work?", 4: "idle?"}


def test_where_the_trainings_end_the_search_the_states_go_by_them(tmp_path: Path) -> None:
    settings = search_config.build(examples.CONFIG.settings(), {"search": {"budget": 100, "trainings": 8}})
    store = fill(FileStore.create(tmp_path / "run", settings), 4, evaluated(0, 3, 3010.0), evaluated(1, 1, 3020.0))
    seen = look(store, 3020.0)
    store.close()
    assert (seen.left, seen.trainings, seen.trainings_limit) == (2, 4, 8)
    assert seen.rate is not None and seen.remaining == pytest.approx(2 / seen.rate)
    assert set(states(seen).values()) == {"at work?", "silent?"}, "two more may be born"


def test_while_there_is_work_those_never_heard_of_are_silent(store: FileStore) -> None:
    fill(store, 4, evaluated(0, 3, 3010.0), evaluated(1, 1, 3020.0))
    assert states(look(store)) == {1: "at work?", 2: "silent?", 3: "at work?", 4: "silent?"}


def test_results_of_earlier_sessions_are_not_this_ones(store: FileStore) -> None:
    fill(store, 3, evaluated(0, 1, 3010.0))
    store.begin(dataclasses.replace(examples.SESSION, started=3050.0))
    store.commit()
    seen = look(store)
    assert (seen.sessions, [worker.evaluated for worker in seen.workers]) == (2, [0, 0])
    assert seen.rate is None and seen.remaining is None


def test_alone_the_worker_is_rank_0(store: FileStore) -> None:
    session = dataclasses.replace(examples.SESSION, ranks=2, software={"mpi": "none"})
    fill(store, 2, evaluated(0, 0, 3010.0), session=session)
    assert states(look(store)) == {0: "at work"}


def test_throughput_is_that_of_the_last_four_rounds(tmp_path: Path) -> None:
    settings = search_config.build(examples.CONFIG.settings(), {"search": {"budget": 30}})
    store = FileStore.create(tmp_path / "run", settings)
    session = dataclasses.replace(examples.SESSION, ranks=3, started=1000.0)  # two workers: eight evaluations
    fill(store, 12, *(evaluated(id, 1, 2000.0 + 10 * id) for id in range(10)), session=session)
    store.close()
    seen = look(store, now=2100.0)  # since 2010.0: individual 1 ended
    assert seen.rate == pytest.approx(8 / 90.0)
    assert seen.remaining == pytest.approx(20 / (8 / 90.0))


# ── how the run is ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_process_that_is_gone_means_stopped(store: FileStore) -> None:
    fill(store, 4)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (store.folder / "lock").write_text(f"host {socket.gethostname()}, pid {gone.pid}\n")
    seen = look(store)
    assert (seen.state, seen.running) == ("stopped: there is more to do", False)
    assert set(states(seen).values()) == {"-"}


def test_on_another_host_the_age_of_the_files_tells(store: FileStore) -> None:
    fill(store, 4)
    (store.folder / "lock").write_text("host elsewhere, pid 1\n")
    newest = (store.folder / "journal").stat().st_mtime
    quiet = 60.0 + 3 * examples.CONFIG.run.compact_interval
    assert look(store, newest + 0.9 * quiet).running
    assert look(store, newest + 3600.0).state == "no sign of life for 60 min"


@pytest.mark.parametrize("state", ["complete", "broken", "wrong-use"])
def test_the_status_of_an_ended_run_is_believed(store: FileStore, state: str) -> None:
    (fill(store, 4).folder / "status").write_text(f"state={state}\nevaluated=0\n")
    seen = look(store)
    assert (seen.state, seen.running) == (state, False)


def test_a_damaged_journal_is_said(store: FileStore) -> None:
    fill(store, 4, evaluated(0, 1, 3010.0))
    path = store.folder / "journal"
    header, first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + b"damage\n" + first + b"".join(others))
    seen = look(store)
    assert seen.evaluated == 0 and len(seen.problems) == 1
    assert "line 2 of 3 is damaged" in seen.problems[0]


# ── early stopping ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_those_that_were_stopped_early_count_for_the_pace_and_for_no_failure(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "early", curved.CONFIG)
    ended = [dataclasses.replace(curved.stopped(id), place=Place(1, "node-7", "cuda:0"), finished=3030.0 + id)
             for id in (1, 2)]  # fmt: skip
    fill(store, 4, evaluated(0, 1, 3010.0), *ended)
    seen = look(store)
    store.close()
    assert (seen.evaluated, seen.stopped, seen.failed, seen.in_flight) == (1, 2, 0, 1)
    assert seen.left == 9 - 3 and seen.rate == pytest.approx(3 / (3100.0 - 1000.5))
    first = seen.workers[0]
    assert (first.evaluated, first.failed, first.last, first.last_fitness) == (1, 0, 2, None)


def test_one_of_which_some_replicates_are_trained_is_still_under_way(store: FileStore) -> None:
    fill(store, 1)
    store.advance(evaluated(0, 1, 3010.0, 0.5))
    store.commit()
    seen = look(store)
    assert (seen.evaluated, seen.in_flight, seen.workers[0].evaluated) == (0, 1, 0)
