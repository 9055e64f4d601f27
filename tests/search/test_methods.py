"""How each worker trains: kept in the journal and in population.h5, and told."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path

import examples
import h5py
import pytest
from scripted_crew import FACTS, Crew, Search, place

from hpcnas.messages import Place, Ready
from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.methods import Worker, summary
from hpcnas.search.progress import final_table

FAST = Worker(0, Place(1, "node-1", "cpu"), "PlannedTraining", "float32", "")
WORKERS = [FAST, replace(FAST, place=Place(2, "node-1", "cpu")), examples.WORKER]


def test_workers_are_there_after_a_kill_and_after_a_renewal(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    for _ in range(2):
        store.begin(examples.SESSION)
        for worker in WORKERS:
            store.join(replace(worker, session=len(store.sessions) - 1))
    store.commit()
    store.close()
    expected = [replace(worker, session=session) for session in (0, 1) for worker in WORKERS]
    opened = FileStore.open(tmp_path / "run")  # by the journal
    assert opened.workers == expected
    opened.compact()
    opened.close()
    assert run_file.read(tmp_path / "run").workers == expected  # by the file
    reopened = FileStore.open(tmp_path / "run")
    assert reopened.workers == expected
    reopened.close()


def test_older_runs_have_no_workers(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    store.close()
    with h5py.File(tmp_path / "run" / "population.h5", "a") as file:
        del file["workers"]
    assert run_file.read(tmp_path / "run").workers == []


def test_only_what_trains_is_kept() -> None:
    place, facts = Place(1, "node-1", "cpu"), examples.FACTS
    assert Worker.of(Ready(place, facts, {"python": "3"}), 4) is None
    software = {"training": "Training", "numbers": "float32"}
    found = Worker.of(Ready(place, facts, software, "no compiler"), 4)
    assert found == Worker(4, place, "Training", "float32", "no compiler")


@pytest.mark.parametrize(
    ("workers", "lines"),
    [
        ([], []),
        ([FAST], ["PlannedTraining on 1 worker"]),
        (
            WORKERS,
            [
                "PlannedTraining on 2 workers",
                "Training on 1 worker: SLOWER THAN IT MIGHT BE, no compiler",
            ],
        ),
        (
            [examples.WORKER, replace(FAST, session=1)],
            ["PlannedTraining on 1 worker", "(earlier sessions: 1 worker slower)"],
        ),
        (
            [replace(examples.WORKER, slower=reason) for reason in ("full", "no compiler", "no compiler", "away")],
            ["Training on 4 workers: SLOWER THAN IT MIGHT BE, no compiler (and 2 other reasons)"],
        ),
        (
            [replace(examples.WORKER, slower=reason) for reason in ("full", "away")],
            ["Training on 2 workers: SLOWER THAN IT MIGHT BE, away (and 1 other reason)"],
        ),
    ],
)
def test_what_a_person_is_told(workers: list[Worker], lines: list[str]) -> None:
    assert summary(workers) == lines
    table = final_table(examples.population(), workers)
    assert [line.split(maxsplit=2)[2] for line in table.splitlines() if "trained by" in line] == lines


def test_every_worker_is_recorded_and_not_the_first_one_alone() -> None:
    search = Search(Crew(3))
    fast, slow = ({"training": method, "numbers": "float32"} for method in ("PlannedTraining", "Training"))
    search.crew.inbox = deque(
        [
            (1, Ready(place(1), FACTS, fast)),
            (2, Ready(place(2), FACTS, slow, "no compiler")),
            (3, Ready(place(3), FACTS, {})),  # evaluates something else
        ]
    )
    search.run()
    assert search.store is not None
    assert search.store.workers == [
        Worker(0, place(1), "PlannedTraining", "float32", ""),
        Worker(0, place(2), "Training", "float32", "no compiler"),
    ]


def test_names_that_are_no_text_can_be_stored(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    store.begin(examples.SESSION)
    store.join(replace(FAST, slower="/home/\udcff: no room"))  # a folder's name that is no UTF-8
    store.compact()
    store.close()
    assert run_file.read(tmp_path / "run").workers == [replace(FAST, slower="/home/?: no room")]
