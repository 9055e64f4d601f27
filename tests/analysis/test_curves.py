"""How a run made by hand went, evaluation by evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from examples import CONFIG, evaluated, population
from toolruns import eventful, steady

from hpcnas.analysis.curves import Curves, of_runs
from hpcnas.search.run_file import StoredRun


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def test_the_evaluations_of_a_run(run: Path) -> None:
    found = Curves.of(run)
    assert found.ids.tolist() == [0, 2, 1, 4]
    assert found.step.tolist() == [1, 2, 3, 4]
    assert found.fitness.tolist() == [0.5625, 0.625, 0.75, 0.8125]
    assert found.mutated.tolist() == [False, True, False, True]
    assert found.confirming.tolist() == [False] * 4
    assert found.spent.tolist() == [200.0, 300.0, 360.0, 440.0]


def test_the_front_is_fitter_than_all_that_are_as_small(tmp_path: Path) -> None:
    columns = (range(6), [0.5, 0.6, 0.6, 0.7, 0.7, 0.4], [7], [20, 30, 30, 40, 35, 10], [0], [0], [0])
    six = population(*(evaluated(id, fitness, fitness) for id, fitness in enumerate(columns[1])))
    found = Curves("", tmp_path, StoredRun("", 0, CONFIG, six), *map(np.array, columns))
    assert found.front.tolist() == [5, 0, 1, 4]
    assert found.best.tolist() == [0.5, 0.6, 0.6, 0.7, 0.7, 0.7]


def test_runs_of_one_name_are_called_by_their_paths(run: Path, tmp_path: Path) -> None:
    other = steady(tmp_path / "elsewhere" / "run", [0.5], 1.0)
    assert [found.name for found in of_runs([run])] == ["run"]
    assert [found.name for found in of_runs([run, other])] == [str(run), str(other)]
