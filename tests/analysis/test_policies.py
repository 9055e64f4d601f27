"""Policies: intervals and goals by hand, and what a search returns."""

from __future__ import annotations

from pathlib import Path

import curved
import numpy as np
import pytest
from toolruns import POOLING, SHORTCUT, eventful

from hpcnas.analysis import policies
from hpcnas.analysis.policies import Policy, interval_place, reached
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import named
from hpcnas.architecture.mutation import trivial
from hpcnas.architecture.space import HIERARCHICAL
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.initial import kept
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search.landscape import true_fitness

SMALL = "--space 2x3/1x3 --initial-population 6 --initial-mutations 20"


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (20, 5), (30, 9)])
def test_the_interval_of_a_median(count: int, expected: int) -> None:
    assert interval_place(count) == expected  # tables of the sign test


def test_a_band_of_nine_seeds() -> None:
    fitness = np.arange(9.0)[::-1, None] + np.array([[0.0, 10.0]])
    median, low, high = Policy("a", "", fitness, 1.0, 1.0).band()
    assert (median.tolist(), low.tolist(), high.tolist()) == ([4, 14], [1, 11], [7, 17])


@pytest.mark.parametrize(
    ("curve", "expected"),
    [([1, 2, 3, 4], 75.0), ([3, 2, 3, 3], 75.0), ([3, 3, 3, 3], 25.0), ([1, 5, 5, 2], None), ([1, 1, 1, 3], 100.0)],
)
def test_when_a_goal_of_three_is_reached_for_good(curve: list[int], expected: float | None) -> None:
    assert reached(np.array(curve), 3, part=25) == expected


def test_the_fittest_as_measured_is_returned_with_its_true_fitness() -> None:
    found = Population(HIERARCHICAL, replicates=2)
    genotypes = [named("paper"), trivial(HIERARCHICAL)]
    for id, accuracies in enumerate([(0.5, 0.5), (0.9,), (0.4, 0.2), (0.9, 0.9)]):
        found.add(Individual(id, genotypes[id % 2], Birth.INITIAL, None, 0, 0, 0.0))
        outcome = Evaluation(accuracies, 1000, 0.0, 1.0, 0.0)
        found.settle(Result(id, 1, Place(1, "host", "cpu"), 0.0, 1.0, outcome))
    spent, fitness = policies.returned(found, found.bests.tolist())
    assert spent.tolist() == [2, 3], "an equal one does not replace the first"
    assert fitness.tolist() == [true_fitness(expand(genotype)) for genotype in genotypes]


def test_a_lucky_one_is_returned_until_it_is_measured_again() -> None:
    found = Population(HIERARCHICAL, replicates=2)
    genotypes = [named("paper"), trivial(HIERARCHICAL), named("paper")]
    for id, accuracies in enumerate([(0.9, 0.9), (0.8, 0.8), (0.3,)]):
        found.add(Individual(id, genotypes[id], Birth.INITIAL, None, 0, 0, 0.0, repeats=0 if id == 2 else None))
        outcome = Evaluation(accuracies, 1000, 0.0, 1.0, 0.0)
        found.settle(Result(id, 1, Place(1, "host", "cpu"), 0.0, 1.0, outcome))
    spent, fitness = policies.returned(found, found.bests.tolist())
    assert spent.tolist() == [2, 5]
    assert fitness.tolist() == [true_fitness(expand(genotype)) for genotype in genotypes[:2]]


def test_a_policy_may_begin_with_the_best_of_a_run(tmp_path: Path) -> None:
    run = eventful(tmp_path / "run")
    settings = policies.settings(f"{SMALL} --initial {run}:top2", seed=0, trainings=20)
    assert kept(settings.space, settings.search.initial) == (POOLING, SHORTCUT)


def test_what_was_stopped_at_a_rung_is_paid_for() -> None:
    results = [curved.stopped(0, (0.1,)), curved.trained(1, (0.5, 0.5)), curved.stopped(2, (0.1, 0.2), (0.1, 0.2)),
               curved.stopped(3, (0.1,)), curved.trained(4, (0.9, 0.9))]  # fmt: skip
    found = Population(HIERARCHICAL, 2, curved.RUNGS)
    for result in results:
        found.add(Individual(result.individual, named("paper"), Birth.INITIAL, None, 0, 0, 0.0))
        found.settle(result)
    assert found.ended_shares.tolist() == pytest.approx([0.1, 0.0, 0.6, 0.1, 0.0])
    assert found.ended_shares.sum() == pytest.approx(found.ended_trainings)
    spent, _ = policies.returned(found, found.bests.tolist())
    assert spent.tolist() == pytest.approx([2.1, 4.8])


def test_a_search_with_early_stopping_goes_on_until_its_trainings_are_spent() -> None:
    how = f"{SMALL} --replicates 1 --rungs 0.1 0.3 --early-stopping --synthetic-noise 0.001"
    chosen = policies.settings(how, 0, 60)
    assert (chosen.search.budget, chosen.search.trainings) == (600, 60)
    found = policies.simulate(chosen, 3, 4)
    assert 60 <= found.trainings < 64 and found.evaluations > 60
    assert policies.settings(SMALL, 0, 60).search.budget == 60
