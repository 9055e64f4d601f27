"""Random search (§4.2): every genotype is drawn as those of the initial population are."""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding, Proposal


@dataclass(frozen=True)
class RandomSearch:
    """Strategy `random`."""

    breeding: Breeding

    @classmethod
    def of(cls, search: SearchSettings, breeding: Breeding) -> RandomSearch:
        """As configured."""
        return cls(breeding)

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """A diversified genotype, whatever the fitness of others."""
        return self.breeding.initial(population, id, Birth.RANDOM)

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness: none becomes a parent, and only the best is of interest."""
        return population.best_fitness(view) if view else None
