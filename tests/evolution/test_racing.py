"""Racing: the rule by hand, what it learns from, and that a search with it can be replayed to the last verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from examples import SPACE, Bar, individual

from hpcnas.analysis import verification
from hpcnas.config import search as search_config
from hpcnas.evolution.individuals import State
from hpcnas.evolution.population import Population
from hpcnas.evolution.racing import Racing, student_quantile
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search import run_file, simulation


@pytest.mark.parametrize(
    ("normal", "freedom", "expected"),  # tables of Student's distribution: 95 % and 99 %
    [(1.644854, 20, 1.7247), (1.644854, 60, 1.6706), (2.326348, 30, 2.4573), (1.644854, 10**9, 1.6449)],
)
def test_quantiles_of_student(normal: float, freedom: int, expected: float) -> None:
    assert student_quantile(normal, freedom) == pytest.approx(expected, abs=0.001)


def population(*rows: Sequence[float]) -> Population:
    """Individuals of four replicates, of which these are trained."""
    found = Population(SPACE, replicates=4)
    for id, accuracies in enumerate(rows):
        found.add(individual(id))
        outcome = Evaluation(tuple(accuracies), 1000, 0.0, 1.0, 0.0)
        found.settle(Result(id, 1, Place(1, "host", "cpu"), 0.0, 1.0, outcome))
    return found


SEVEN = [(0.70, 0.70, 0.72, 0.72)] * 7  # each has Σ(a − ā)² = 0.0004: s² = 0.0028 / 21


def test_the_rule() -> None:
    margin = 1.7207 * math.sqrt(0.0004 / 3)  # t of 21 degrees of freedom at 95 %
    one = Racing(Bar(0.8), confidence=0.95)
    known = population(*SEVEN)
    assert one.hopeless(known, 7, [0.8 - margin - 0.0001])
    assert not one.hopeless(known, 7, [0.8 - margin + 0.0001])
    assert one.hopeless(known, 7, [0.79, 0.79 - 2 * margin / math.sqrt(2) + 0.0198]), "the mean of two is surer"
    assert not one.hopeless(known, 7, [0.79, 0.79])


def test_nobody_is_given_up_while_the_noise_is_unknown() -> None:
    one = Racing(Bar(0.8), confidence=0.95)
    assert not one.hopeless(population(*SEVEN[:6]), 6, [0.1])  # 18 degrees of freedom
    assert one.hopeless(population(*SEVEN), 7, [0.1])
    assert not one.hopeless(population(*SEVEN), 6, [0.1]), "a view that goes back is not what was known last"


def test_where_the_strategy_has_no_bar_nobody_is_given_up() -> None:
    assert not Racing(Bar(None), confidence=0.95).hopeless(population(*SEVEN), 7, [0.1])


def test_those_given_up_teach_nothing_about_the_noise() -> None:
    plain, mixed = population(*SEVEN), population((0.1,), *SEVEN[:3], (0.2, 0.9), *SEVEN[3:])
    for accuracy in np.linspace(0.75, 0.82, 71).tolist():
        verdicts = [Racing(Bar(0.8), 0.95).hopeless(known, len(known), [accuracy]) for known in (plain, mixed)]
        assert verdicts[0] == verdicts[1]


def test_what_is_learnt_one_by_one_is_what_is_learnt_at_once() -> None:
    drawn = np.random.default_rng(3).normal(0.9, 0.002, size=(300, 4)).tolist()
    known = population(*drawn)
    one, other = Racing(Bar(0.8), 0.95), Racing(Bar(0.8), 0.95)
    for view in range(301):
        one.hopeless(known, view, [0.5])
    other.hopeless(known, 300, [0.5])
    assert (one._squares, one._freedom) == (other._squares, other._freedom) and one._freedom == 900


# A search with racing
def raced(
    folder: Path, workers: int = 4, spread: float = 0.3, walltime: float | None = 300.0, **search: object
) -> run_file.StoredRun:
    """A simulated search of several jobs, kept in a folder."""
    settings = search_config.build(
        {"search": {"budget": 160, "initial_population": 20, "initial_mutations": 50, "racing": True, **search}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_seconds": 40.0, "synthetic_spread": spread}},
        {"run": {"grace": 5.0, "walltime": walltime}},
    )
    simulation.simulate(settings, simulation.Site(workers, startup=1.0, queue=0.0, handling=0.001), folder)
    return run_file.read(folder)


@pytest.mark.parametrize("scheduling", ["fitness", "replicate"])
@pytest.mark.parametrize("strategy", ["tournament", "random", "aging"])
def test_a_search_stops_hopeless_trainings_and_every_stop_can_be_checked(
    tmp_path: Path, scheduling: str, strategy: str
) -> None:
    run = raced(tmp_path / "run", scheduling=scheduling, strategy=strategy)
    trained = run.population.column("replicates_trained")[run.population.evaluated]
    assert set(trained) == ({1, 4} if scheduling == "fitness" else {1, 2, 3, 4})
    assert len(run.sessions) >= 2
    assert trained.sum() == run.population.trainings < 0.8 * 4 * 160
    assert run.population.column("replicates_trained")[run.population.best] == 4
    assert list(verification.faults(run)) == []


def test_of_a_damaged_run_those_whose_stop_no_longer_holds_go_on(tmp_path: Path) -> None:
    """Individuals 124 and 126 were given up against the fitness of one that was born after them."""
    run = raced(tmp_path / "run", workers=20, spread=0.6, walltime=None, scheduling="replicate", seed=3)
    columns = run.population._columns
    for wrong, back in ((40, []), (125, [124]), (127, [124, 126]), (135, [124, 126]), (150, [])):
        columns["redrawn"][wrong] += 1
        part = verification.sound_part(run)
        assert len(part.population) == wrong and list(verification.faults(part)) == []
        assert [id for id in part.population.issued if columns["state"][id] == State.EVALUATED] == back
        for name in ("accuracies", "replicates_trained", "worker_seconds", "started", "training_seconds"):
            kept, before = (found.column(name)[:wrong] for found in (part.population, run.population))
            np.testing.assert_array_equal(kept, before, name)
        columns["redrawn"][wrong] -= 1


def test_a_stop_that_the_rule_does_not_give_is_found(tmp_path: Path) -> None:
    run = raced(tmp_path / "run")
    best, columns = run.population.best, run.population._columns
    columns["replicates_trained"][best] = 1
    columns["accuracies"][best, 1:] = np.nan
    columns["fitness"][best] = columns["accuracies"][best, 0]
    found = [fault for fault in verification.faults(run) if "replicates" in fault.what]
    assert [fault.individual for fault in found] == [best]
    assert "1 of 4 replicates" in found[0].what
