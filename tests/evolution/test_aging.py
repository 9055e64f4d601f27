"""Aging evolution: only the youngest compete, and the fittest of a sample wins."""

from __future__ import annotations

import numpy as np
import pytest
from test_strategy import INITIAL, breeding, grow, individuals

from hpcnas.evolution.aging import AgingEvolution
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Proposal
from hpcnas.messages import Evaluation, Outcome


def aging(alive: int = 10, sample: int = 3) -> AgingEvolution:
    return AgingEvolution(breeding(), INITIAL, alive, sample)


def older_are_fitter(individual: Individual) -> Outcome:
    return Evaluation((1.0 / (1 + individual.id),), 1000, 0.0, 0.0, 0.0)


def parents(strategy: AgingEvolution, population: Population, view: int) -> list[int]:
    """Of 200 births that know this view."""
    asked: list[Proposal] = [strategy.ask(population, id, view) for id in range(INITIAL, INITIAL + 200)]
    return [one.parent for one in asked if one.parent is not None]


def test_first_come_initial_genotypes_then_mutants() -> None:
    births = [individual.birth for individual in individuals(grow(aging(), 20))]
    assert births == [Birth.INITIAL] * INITIAL + [Birth.MUTATION] * (20 - INITIAL)


def test_the_dead_have_no_children_however_fit() -> None:
    population = grow(aging(), 40, older_are_fitter)
    assert set(parents(aging(), population, 40)) <= set(population.evaluated[30:40].tolist())
    assert set(parents(aging(), population, 35)) <= set(population.evaluated[25:35].tolist())


def test_the_fittest_of_a_sample_of_all_is_the_fittest() -> None:
    population = grow(aging(), 40, older_are_fitter)
    assert set(parents(aging(sample=500), population, 40)) == {30}


def test_winners_are_distributed_as_by_definition() -> None:
    """Of 3 out of 10 with replacement, the r fittest are all missed in (1 − r/10)³ of the samples."""
    population = grow(aging(), 40, older_are_fitter)
    ranks = np.array(parents(aging(), population, 40)) - 30  # the oldest alive is the fittest
    for r in (1, 2, 4):
        assert np.mean(ranks >= r) == pytest.approx((1 - r / 10) ** 3, abs=0.11)


def test_the_bar_is_the_best_of_the_living() -> None:
    population = grow(aging(), 40, older_are_fitter)
    assert aging().bar(population, 40) == 1.0 / (1 + 30)
    assert aging().bar(population, 0) is None
