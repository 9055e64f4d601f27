"""How long trainings have waited for images that stay on the host, from an evaluation to the files and to a person."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import curved
import pytest
from examples import CONFIG, SESSION, add_births, evaluated, individual, population

from hpcnas.analysis.export import csv_table
from hpcnas.analysis.summary import facts
from hpcnas.command.summary import at_length
from hpcnas.messages import Failure, Result, Task
from hpcnas.search import records, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.progress import final_table
from hpcnas.training.evaluator import checked

TASK = Task(1, 1, individual(0).genotype, (5, 6))


def waited(result: Result, seconds: float | None) -> Any:
    """The same result, of trainings that waited so long."""
    assert not isinstance(result.outcome, Failure)
    return replace(result, outcome=replace(result.outcome, waiting_seconds=seconds))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """One of images that lie on the device, one in two parts, and one that is in flight; 9.5 s each."""
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(SESSION)
    add_births(store, 3)
    store.settle(evaluated(0))
    store.advance(waited(evaluated(1, 0.5), 0.5))
    store.settle(replace(waited(evaluated(1, 0.6), 1.4), first=1))
    store.commit()
    store.close()
    again = FileStore.open(tmp_path / "run")  # from the journal
    again.compact()
    again.close()
    return tmp_path / "run"


def test_parts_of_a_fitness_add_up(run: Path) -> None:
    stored = run_file.read(run)
    assert stored.population.column("waiting_seconds")[1] == pytest.approx(1.9)
    assert stored.population.input_wait == pytest.approx(0.1)
    outcome: Any = stored.population.result(1).outcome
    assert outcome.waiting_seconds == pytest.approx(1.9)
    assert stored.population.result(0) == evaluated(0)
    line = "10.0 % of training and validation, for images that did not fit onto the device"
    found = facts(run, stored, 1)
    assert found["input_wait"] == pytest.approx(0.1) and line in at_length(found)
    assert line in final_table(stored.population)
    header, first, second, _ = csv_table(stored).splitlines()
    place = header.split(",").index("waiting_seconds")
    assert (first.split(",")[place], second.split(",")[place]) == ("", "1.9")


def test_runs_whose_images_lie_on_the_device_say_nothing_of_it() -> None:
    found = population(evaluated(0))
    assert found.input_wait is None and "waiting" not in final_table(found)
    assert "waiting_seconds" not in {column.name for column in found.recorded}
    none = population(waited(evaluated(0), 0.0))
    assert none.input_wait == 0.0 and "waiting" not in final_table(none)


def test_a_record_holds_it() -> None:
    for result in (waited(evaluated(1), 0.25), waited(curved.stopped(1), 0.0), evaluated(1)):
        record = json.loads(json.dumps(records.result(result)))
        assert records.outcome(record) == result
    record = json.loads(json.dumps(records.result(waited(evaluated(1), 0.25))))
    for wrong in (None, -1.0, "long", True):
        record["evaluation"]["waiting_seconds"] = wrong
        with pytest.raises(ValueError, match="waiting_seconds"):
            records.outcome(record)


def test_an_answer_has_it_or_not() -> None:
    assert checked(waited(evaluated(1), 0.25).outcome, TASK) == waited(evaluated(1), 0.25).outcome
    assert checked(evaluated(1).outcome, TASK) == evaluated(1).outcome
    for wrong in (-1.0, float("nan"), "long"):
        found = checked(waited(evaluated(1), wrong).outcome, TASK)  # type: ignore[arg-type]
        assert isinstance(found, Failure) and "expected waiting_seconds from 0 to" in found.message
