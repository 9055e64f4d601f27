"""What learning curves say: of a run made by hand, in literal numbers, and of a simulated one that stops early."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from examples import PLACE, SPACE, individual
from toolruns import curved, eventful

from hpcnas.analysis import rungs, worker_time
from hpcnas.analysis.curves import Curves
from hpcnas.analysis.rungs import LearningCurves, NoCurves
from hpcnas.config import search as search_config
from hpcnas.evolution import learning_curves
from hpcnas.evolution.early_stopping import EarlyStopping, stopped_at
from hpcnas.evolution.learning_curves import Line
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import make_strategy
from hpcnas.messages import Evaluation, Result
from hpcnas.search import simulation

NAN = np.nan


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    """A simulated search that stops most of its trainings early."""
    folder = tmp_path_factory.mktemp("stopping") / "run"
    chosen = search_config.build(
        {"search": {"budget": 150, "initial_population": 40, "space": "2x3/1x3", "early_stopping": True, "confirm": 2}},
        {"training": {"rungs": (0.1, 0.3), "replicates": 2}, "evaluation": {"evaluator": "synthetic"}},
    )
    simulation.simulate(chosen, simulation.Site(5, startup=0.0, queue=0.0, handling=0.0), folder)
    return Curves.of(folder)


def rising(count: int) -> Population:
    """As many individuals, whose final accuracies are a quarter over those at the only rung."""
    population = Population(SPACE, 2, (0.5,))
    for id in range(count):
        population.add(individual(id))
        low = id / 64
        outcome = Evaluation((low + 0.25, low + 0.25), 1000, 0.0, 1.0, 0.0, ((low,), (low,)), 2)
        population.settle(Result(id, 1, PLACE, 0.0, 1.0, outcome))
    return population


def test_a_curve_is_the_mean_of_the_trainings_that_were_judged_together(tmp_path: Path) -> None:
    run = Curves.of(curved(tmp_path / "run"))
    found = LearningCurves.of(run)
    assert (found.ids.tolist(), found.final.tolist()) == ([0, 2], [0.5625, 0.75])
    assert found.reached.tolist() == [[0.25, 0.4375], [0.4375, 0.5625]]
    assert (found.stopped_ids.tolist(), found.stopped_view.tolist()) == ([1, 3], [0, 1])
    np.testing.assert_array_equal(found.stopped, [[0.125, 0.25], [0.125, NAN]])
    assert found.best is not None and found.best.tolist() == [0.4375, 0.5625, 0.75]
    assert found.every == (1, 1) and [rung.name for rung in found.rungs] == ["25 %", "50 %"]
    assert [rung.stopped for rung in found.rungs] == [1, 1] and [rung.curves for rung in found.rungs] == [2, 2]
    assert {(rung.correlation, rung.line) for rung in found.rungs} == {(None, None)}
    assert found.views.tolist() == [0, 1, 2] and np.isnan(found.floors).all()


def test_what_was_stopped_is_counted(tmp_path: Path) -> None:
    population = Curves.of(curved(tmp_path / "run")).stored.population
    assert (stopped_at(population), population.saved_trainings) == ([1, 1], 2 * 0.5 + 2 * 0.75)
    assert [rungs.stopped_share(population, id) for id in range(5)] == [None, 0.5, None, 0.25, None]
    none = Population(SPACE, 2)
    assert (stopped_at(none), none.saved_trainings, rungs.of_population(none)) == ([], 0.0, [])


def test_its_time_is_worker_time(tmp_path: Path) -> None:
    run = Curves.of(curved(tmp_path / "run"))
    (session,) = worker_time.accounts(run.stored)
    assert (session.evaluated, session.stopped) == (2, 2)
    assert session.attempts.seconds() == 50.0 + 100.0 + 25.0 + 100.0
    assert run.spent.tolist() == [200.0, 275.0]


def test_only_those_that_are_evaluated_have_a_step(tmp_path: Path) -> None:
    run = Curves.of(curved(tmp_path / "run"))
    assert (run.ids.tolist(), run.step.tolist()) == ([0, 2], [1, 2])
    assert run.best.tolist() == [0.5625, 0.75] and run.ids[run.front].tolist() == [0, 2]


@pytest.mark.parametrize(("count", "correlation", "line"), [(4, None, None), (5, 1.0, None), (20, 1.0, True)])
def test_few_curves_say_nothing(count: int, correlation: float | None, line: bool | None) -> None:
    (rung,) = rungs.of_population(rising(count))
    assert (rung.curves, rung.correlation) == (count, correlation)
    assert rung.line == (Line(0.25, 1.0, 0.0, count) if line else None)


def test_lines_and_floors_are_those_that_the_search_went_by(stopping: Curves) -> None:
    population, found = stopping.stored.population, LearningCurves.of(stopping)
    reached, final = learning_curves.complete(population, population.searched)
    assert (found.reached.tolist(), found.final.tolist()) == (reached.tolist(), final.tolist())
    assert [rung.line for rung in found.rungs] == list(learning_curves.lines(population, population.searched))
    assert sum(rung.stopped for rung in found.rungs) == population.stopped > 20
    assert all(rung.correlation is not None and 0.3 < rung.correlation < 1.0 for rung in found.rungs)
    early = EarlyStopping(make_strategy(stopping.stored.config, stopping.stored.sessions[0].facts), 0.95)
    for view, accuracies in zip(found.stopped_view.tolist(), found.stopped.tolist(), strict=True):
        floors = early.floors(population, view)
        place = int(np.searchsorted(found.views, view, side="right")) - 1
        np.testing.assert_array_equal(found.floors[place], floors)
        last = max(rung for rung, accuracy in enumerate(accuracies) if accuracy == accuracy)
        assert accuracies[last] < floors[last]


def test_confirmations_are_left_out(stopping: Curves) -> None:
    population = stopping.stored.population
    assert population.confirmations and population.curves(int(population.evaluated[-1]))
    assert not set(LearningCurves.of(stopping).ids.tolist()) & set(population.evaluated[population.searched :].tolist())


def test_of_many_a_part_is_looked_at(stopping: Curves, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LearningCurves.of(stopping)
    monkeypatch.setattr(rungs, "MOST", 10)
    part = LearningCurves.of(stopping)
    assert part.every[0] > 1 and part.ids.tolist() == whole.ids[:: part.every[0]].tolist()
    assert part.stopped_ids.tolist() == whole.stopped_ids[:: part.every[1]].tolist()
    assert part.rungs == whole.rungs, "which count all"


def test_a_run_without_rungs_or_without_curves_has_none(tmp_path: Path) -> None:
    with pytest.raises(NoCurves, match=r"^expected a run whose trainings have rungs \(--rungs\)$"):
        LearningCurves.of(Curves.of(eventful(tmp_path / "run")))


def test_few_of_many_rungs() -> None:
    assert [rungs.few(count) for count in (0, 1, 5, 9)] == [[], [0], [0, 1, 2, 3, 4], [0, 2, 4, 6, 8]]
    assert rungs.few(100) == [0, 25, 50, 74, 99]
