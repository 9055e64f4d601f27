"""Tournament selection: its size, and who wins how often."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_mutation import assert_share, assert_uniform

from hpcnas.selection import tournament, tournament_size


@pytest.mark.parametrize(
    ("evaluated", "size"),
    [(1, 1), (2, 2), (10, 2), (39, 2), (40, 2), (49, 2), (51, 3), (60, 3), (200, 10), (7000, 350)],
)
def test_a_tournament_has_five_percent_of_the_population_and_at_least_two(evaluated: int, size: int) -> None:
    assert tournament_size(evaluated, 0.05) == size


@pytest.mark.parametrize(
    ("evaluated", "fraction", "size"), [(10, 0.2, 2), (10, 0.5, 5), (10, 1.0, 10), (10, 0.0, 2), (1, 0.0, 1)]
)
def test_the_share_can_be_set(evaluated: int, fraction: float, size: int) -> None:
    assert tournament_size(evaluated, fraction) == size


def winners(fitness: list[float], fraction: float, count: int = 3000) -> list[int]:
    """Winners of many tournaments among all individuals 0, 1, … of that fitness."""
    generator = np.random.default_rng(0)
    ids, values = np.arange(len(fitness)), np.array(fitness)
    return [tournament(ids, values, fraction, generator) for _ in range(count)]


def test_the_fittest_of_all_wins_where_all_take_part() -> None:
    assert set(winners([0.1, 0.9, 0.5, 0.3], fraction=1.0, count=50)) == {1}


def test_nobody_takes_part_twice() -> None:
    """Else the less fit of two would win every fourth time."""
    assert set(winners([0.5, 0.4], fraction=0.05, count=50)) == {0}


def test_the_least_fit_never_wins() -> None:
    assert_uniform({*winners([0.1, 0.2, 0.3, 0.4], fraction=0.5)}, {1, 2, 3})


def test_each_wins_as_often_as_it_is_the_fittest_of_a_random_pair() -> None:
    """Of the ten pairs out of five the fittest wins four, the next three, …"""
    won = winners([0.3, 0.5, 0.1, 0.4, 0.2], fraction=0.4)
    for individual, pairs in {1: 4, 3: 3, 0: 2, 4: 1, 2: 0}.items():
        assert_share(won.count(individual), len(won), pairs / 10)


@pytest.mark.parametrize(("individuals", "size"), [(40, 2), (200, 10), (300, 15)])
def test_the_best_wins_whenever_it_is_drawn(individuals: int, size: int) -> None:
    fitness = np.random.default_rng(1).permutation(individuals) / individuals
    won = winners(fitness.tolist(), fraction=0.05)
    assert_share(won.count(int(fitness.argmax())), len(won), size / individuals)


def test_a_tournament_draws_from_the_whole_population() -> None:
    """All equally fit: each of 60 wins as often as it is drawn first."""
    assert_uniform(winners([0.5] * 60, fraction=0.05, count=6000), range(60))


def test_only_the_given_individuals_take_part() -> None:
    """Fitness is indexed by id: others may be fitter, or have none."""
    fitness = np.array([0.99, math.nan, 0.2, 0.1, math.nan, 0.3])
    generator = np.random.default_rng(0)
    assert {tournament(np.array([3, 5, 2]), fitness, 0.05, generator) for _ in range(100)} == {2, 5}


def test_a_single_individual_wins() -> None:
    assert tournament(np.array([3]), np.array([0.1] * 4), 0.05, np.random.default_rng(0)) == 3


def test_the_same_generator_gives_the_same_winner() -> None:
    ids, fitness = np.arange(100), np.random.default_rng(0).random(100)
    first, second = (
        [tournament(ids, fitness, 0.05, generator) for _ in range(20)]
        for generator in map(np.random.default_rng, (4, 4))
    )
    assert first == second and len(set(first)) > 1
