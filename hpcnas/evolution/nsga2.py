"""NSGA-II (Deb, Pratap, Agarwal and Meyarivan 2002), without generations: fitness against what a network costs.

    evaluated ─► survivors: N at the most; one more, and the worst of them goes ─► binary tournament ─► mutant

The worst is the most crowded of the last front (`pareto`). Of two survivors in a tournament, the one of the better
front wins; of the same front, the less crowded one. The survivors are a function of the first `view` evaluations, in
their order. They are kept and carried forward from view to view, and computed anew where a view goes back.

Departures: there is no crossover, since the paper of the hierarchical genotypes has none; and children join one by one,
as in every strategy here, instead of N at a time. A lucky evaluation survives; more replicates make it less lucky.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np

from hpcnas.config.search import SearchSettings
from hpcnas.evolution import objectives
from hpcnas.evolution.pareto import Front, Point, crowding, fronts
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding, Proposal


class Survivors:
    """The N best of those that have joined so far, by front and crowding."""

    def __init__(self, most: int) -> None:
        """`most` (N) is at least 2."""
        self._most = most
        self._fronts: list[Front] = []
        self._length = 0

    def join(self, point: Point) -> None:
        """Takes one more in; where that makes one too many, the worst leaves, which may be this one."""
        if self._length == self._most and any(one.dominates(point) for one in self._fronts[-1]):
            return  # it would be alone in a front behind the last
        self._fronts = fronts([*(one for front in self._fronts for one in front), point])
        self._length += 1
        if self._length > self._most:
            last = self._fronts[-1]
            distances = crowding(last)
            del last[min(range(len(last)), key=lambda place: (distances[place], -last[place].id))]
            self._length -= 1
            if not last:
                self._fronts.pop()

    def standing(self) -> list[tuple[int, int, float]]:
        """Id, number of the front (from 0) and crowding distance of all, in a fixed order."""
        return [
            (point.id, number, distance)
            for number, front in enumerate(self._fronts)
            for point, distance in zip(front, crowding(front), strict=True)
        ]


@dataclass
class _Carried:
    """Survivors of the first `view` evaluations of a population."""

    population: Population
    survivors: Survivors
    view: int = 0
    standing: list[tuple[int, int, float]] = field(default_factory=list)


class Nsga2:
    """Strategy `nsga2`."""

    def __init__(self, breeding: Breeding, initial_population: int, most: int, cost: objectives.Cost) -> None:
        self._breeding = breeding
        self._initial_population = initial_population
        self._most = most
        self._cost = cost
        self._carried: _Carried | None = None

    @classmethod
    def of(cls, search: SearchSettings, breeding: Breeding) -> Nsga2:
        """As configured."""
        size = functools.lru_cache(maxsize=1024)(breeding.size)
        return cls(breeding, search.initial_population, search.survivors, objectives.cost(search.objective, size))

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """A mutant of a survivor; an initial genotype for the first births, and before there are two."""
        if id < self._initial_population or view < 2:
            return self._breeding.initial(population, id)
        standing = self.survivors(population, view)
        generator = self._breeding.generator(id)
        one, other = (standing[place] for place in _two_of(len(standing), generator))
        parent = other if _better(other, one) else one
        return self._breeding.mutant(population, id, parent[0], generator)

    def bar(self, population: Population, view: int) -> float | None:
        """None: fitness alone does not decide."""
        return None

    def survivors(self, population: Population, view: int) -> list[tuple[int, int, float]]:
        """Id, number of the front (from 0) and crowding distance of the survivors of the first `view` evaluations."""
        carried = self._carried
        if carried is None or carried.population is not population or view < carried.view:
            carried = self._carried = _Carried(population, Survivors(self._most))
        if carried.view < view:
            fitness = population.column("fitness")
            for id in population.evaluated[carried.view : view].tolist():
                measured = float(fitness[id])
                known = -math.inf if math.isnan(measured) else measured
                carried.survivors.join(Point(id, known, self._cost(population, id)))
            carried.view, carried.standing = view, carried.survivors.standing()
        return carried.standing


def _two_of(count: int, generator: np.random.Generator) -> tuple[int, int]:
    """Two different random numbers from 0 to count − 1, count ≥ 2."""
    first = int(generator.integers(count))
    second = int(generator.integers(count - 1))
    return first, second + (second >= first)


def _better(one: tuple[int, int, float], other: tuple[int, int, float]) -> bool:
    """Whether the first wins: of a better front, or of the same and less crowded."""
    return (one[1], -one[2]) < (other[1], -other[2])
