"""NSGA-II: the survivors by definition, whatever the order of questions, and who of two becomes a parent."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from test_strategy import INITIAL, breeding, grow, individuals, size_of

from hpcnas.config import search as search_config
from hpcnas.evolution import objectives
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.nsga2 import Nsga2, Survivors
from hpcnas.evolution.pareto import Point, crowding, fronts
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Outcome

PARAMETERS = objectives.cost("parameters", size_of)


def nsga2(most: int = 6) -> Nsga2:
    return Nsga2(breeding(), INITIAL, most, PARAMETERS)


def scattered(individual: Individual) -> Outcome:
    """Fitness and parameters that the id alone decides."""
    fitness, parameters = np.random.default_rng(individual.id).integers(1, 40, size=2).tolist()
    return Evaluation((fitness / 40,), parameters, 0.0, 0.0, 0.0)


def by_definition(points: list[Point], most: int) -> set[int]:
    """Joined one by one: whenever there is one too many, the most crowded of the last front goes, of equals the
    youngest."""
    kept: list[Point] = []
    for point in points:
        kept.append(point)
        if len(kept) > most:
            last = fronts(kept)[-1]
            distances = dict(zip((one.id for one in last), crowding(last), strict=True))
            worst = min(distances, key=lambda id: (distances[id], -id))
            kept = [one for one in kept if one.id != worst]
    return {one.id for one in kept}


@pytest.mark.parametrize("seed", range(10))
def test_survivors_are_as_defined(seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 15, size=(120, 2)).tolist()
    points = [Point(id, float(fitness), float(cost)) for id, (fitness, cost) in enumerate(drawn)]
    survivors = Survivors(8)
    for point in points:
        survivors.join(point)
    assert {id for id, _, _ in survivors.standing()} == by_definition(points, 8)


def test_the_standing_is_a_function_of_the_view_alone() -> None:
    population = grow(nsga2(), 60, scattered)
    one = nsga2()
    forward = [one.survivors(population, view) for view in range(2, 61)]
    assert [nsga2().survivors(population, view) for view in range(60, 1, -1)] == forward[::-1]
    assert [one.survivors(population, view) for view in (60, 5, 40)] == [forward[58], forward[3], forward[38]]


def test_another_population_has_other_survivors() -> None:
    one, population, other = nsga2(), grow(nsga2(), 30, scattered), grow(nsga2(), 30)
    one.survivors(population, 30)
    assert one.survivors(other, 30) == nsga2().survivors(other, 30)


def test_first_come_initial_genotypes_then_mutants_of_survivors() -> None:
    population = grow(nsga2(), 60, scattered)
    for individual in individuals(population):
        if individual.id < INITIAL:
            assert individual.birth is Birth.INITIAL
        else:
            assert individual.parent in {id for id, _, _ in nsga2().survivors(population, individual.view)}


def test_of_two_the_better_front_wins_then_the_less_crowded() -> None:
    """Of six, each the parent where it beats the other that was drawn."""
    population = grow(nsga2(), 60, scattered)
    one = nsga2()
    parents = Counter(one.ask(population, id, 60).parent for id in range(60, 660))
    standing = one.survivors(population, 60)
    for id, front, distance in standing:
        beaten = [(front, -distance) < (other, -theirs) for _, other, theirs in standing]
        equal = [(front, -distance) == (other, -theirs) for _, other, theirs in standing]
        expected = (sum(beaten) + (sum(equal) - 1) / 2) / 15  # of 15 pairs
        assert parents[id] / 600 == pytest.approx(expected, abs=0.08)


def test_fitness_alone_gives_nobody_up() -> None:
    assert nsga2().bar(grow(nsga2(), 20), 20) is None
    with pytest.raises(search_config.ConfigError, match=r"^search\.racing: .* got nsga2"):
        search_config.build({"search": {"strategy": "nsga2", "racing": True}})


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("parameters", 1000.0), ("training-seconds", 3.0), ("validation-seconds", 0.5), ("flops", None)],
)
def test_what_a_network_costs(objective: str, expected: float | None) -> None:
    def timed(individual: Individual) -> Outcome:
        return Evaluation((0.5, 0.5), 1000, 9.0, 6.0, 1.0)

    population = grow(nsga2(), 1, timed, Population(breeding().space, replicates=2))
    flops = size_of(population.individual(0).genotype).flops
    assert objectives.cost(objective, size_of)(population, 0) == (flops if expected is None else expected)
    assert tuple(objectives.NAMES) == search_config.OBJECTIVES


def test_what_was_never_measured_is_the_dearest() -> None:
    def untimed(individual: Individual) -> Outcome:
        return Evaluation((0.5,), 1000, math.nan, math.nan, math.nan)

    population = grow(nsga2(), 1, untimed)
    assert objectives.cost("training-seconds", size_of)(population, 0) == math.inf
