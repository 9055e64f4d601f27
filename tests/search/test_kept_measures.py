"""All measures of a replicate in a population, in the journal and in population.h5; files of versions without them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import CONFIG, PLACE, SESSION, SPACE, add_births, assert_same, evaluated, individual, population

from hpcnas.analysis.merging import merged
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Failure, Result, Task
from hpcnas.search import records, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import journal
from hpcnas.training.evaluator import checked

ONE = (0.5, 0.4, 0.3, None, 1.25, 0.5, None)
OTHER = (0.6, 0.45, 0.35, 0.75, 1.5, 1.0, 0.25)


def measured(id: int, *rows: Sequence[float | None], first: int = 0) -> Result:
    """Replicates of an individual, with their measures."""
    accuracies, every = tuple(row[0] or 0.0 for row in rows), tuple(map(tuple, rows))
    outcome = Evaluation(accuracies, 1000 + id, 0.25, 8.0, 1.5, measures=every)
    return Result(id, 1, PLACE, 3000.0 + id, 3010.0 + id, outcome, first)


def test_an_individual_keeps_the_measures_of_its_replicates() -> None:
    found = population(evaluated(0), measured(1, ONE, OTHER), births=3)
    assert found.measured and found.result(1) == measured(1, ONE, OTHER)
    assert found.measures(0) == () and found.column("class_accuracies").shape == (3, 4)
    found.advance(measured(2, ONE))
    found.settle(measured(2, OTHER, first=1))
    assert found.measures(2) == (ONE, OTHER)
    np.testing.assert_array_equal(found.column("log_loss"), [[np.nan] * 2, [1.25, 1.5], [1.25, 1.5]])
    for _ in range(70):  # more than there was room for
        found.add(individual(len(found)))
    assert found.measures(1) == (ONE, OTHER) and found.column("auroc").shape == (73, 2)
    with pytest.raises(ValueError, match="expected all measures of 2 replicates"):
        found.settle(measured(3, ONE[:6], OTHER[:6]))  # of another number of classes


def test_an_evaluation_has_the_measures_of_every_replicate_or_of_none() -> None:
    found = population(births=1)
    found.advance(evaluated(0, 0.5))  # by a version that kept none
    found.settle(measured(0, OTHER, first=1))
    outcome = found.result(0).outcome
    assert isinstance(outcome, Evaluation) and outcome.accuracies == (0.5, 0.6) and outcome.measures == ()
    assert found.measures(0) == (OTHER,)


def test_a_store_keeps_them(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(SESSION)
    add_births(store, 2)
    store.settle(evaluated(0))
    store.compact()
    with h5py.File(tmp_path / "run/population.h5") as file:
        assert "auroc" not in file["individuals"]  # as every version before wrote it
    store.settle(measured(1, ONE, OTHER))
    store.commit()
    store.close()
    (written,) = [record["settle"] for record in journal.read(tmp_path / "run/journal").records]
    assert json.loads(json.dumps(written["evaluation"]["measures"])) == [list(ONE), list(OTHER)]
    assert records.outcome(json.loads(json.dumps(written))) == measured(1, ONE, OTHER)
    again = FileStore.open(tmp_path / "run")
    assert_same(again.population, store.population)
    again.compact()
    again.close()
    read = run_file.read(tmp_path / "run").population
    assert_same(read, store.population)
    assert read.result(1) == measured(1, ONE, OTHER)


@pytest.mark.parametrize(
    "wrong", ([], [0.5], [[0.5, 0.4]], [[None, *ONE[1:]]], [[*ONE[:4], -1.0]], [[*ONE, 2]], [[*ONE, "x"]])
)
def test_wrong_records_are_refused(wrong: object) -> None:
    record = records.result(measured(1, ONE, OTHER))
    record["evaluation"]["measures"] = wrong
    with pytest.raises(records.ERRORS):
        records.outcome(record)


def test_wrong_columns_are_told_and_left_away(tmp_path: Path) -> None:
    path = tmp_path / "population.h5"
    run_file.write(path, StoredRun("a", 1, CONFIG, population(evaluated(0), measured(1, ONE, OTHER)), [SESSION]))
    with h5py.File(path, "r+") as file:
        file["individuals/auroc"][1, 1] = 7.0
        file["individuals/plain_accuracy"][1, 0] = 0.5
    stored, faults = run_file.examine(tmp_path)
    assert len(faults) == 1 and "individual 1: expected auroc a number from 0 to 1" in faults[0]
    assert stored.population.measures(1) == ((*ONE[:3], None, *ONE[4:]), (*OTHER[:3], None, *OTHER[4:]))
    with h5py.File(path, "r+") as file:
        del file["individuals/log_loss"]
    stored, faults = run_file.examine(tmp_path)
    assert any("expected a column log_loss, beside plain_accuracy" in fault for fault in faults)
    assert not stored.population.measured and len(stored.population.evaluated) == 2


def test_merged_runs_keep_what_they_have() -> None:
    populations = population(evaluated(0)), population(measured(0, ONE, OTHER))
    some = [StoredRun(name, 0, CONFIG, one, [SESSION]) for name, one in zip("ab", populations, strict=True)]
    found = merged(some)
    assert [found.measures(id) for id in range(2)] == [(), (ONE, OTHER)]
    assert not merged(some[:1]).measured


TASK = Task(3, 1, individual(0).genotype, (5, 6))


def test_an_answer_has_all_measures_or_none() -> None:
    outcome = measured(3, ONE, OTHER).outcome
    assert checked(outcome, TASK, classes=2) == outcome
    assert checked(outcome, TASK) == replace(outcome, measures=())
    for wrong in ((ONE,), (ONE[:6], ONE[:6]), (ONE, (*OTHER[:6], "high")), (ONE, (*OTHER[:6], np.inf)),
                  (ONE, (None, *OTHER[1:])), (ONE, (*OTHER[:3], 1.5, *OTHER[4:]))):  # fmt: skip
        found = checked(replace(outcome, measures=wrong), TASK, classes=2)
        assert isinstance(found, Failure) and "5 measures and 2 class-wise accuracies" in found.message
    assert Population(SPACE, 2).measured is False
