"""The paper's evolution (§3.2): an initial population, then mutated winners of tournaments; nothing is removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.population import Population
from hpcnas.evolution.selection import sampled_tournament, tournament
from hpcnas.evolution.strategy import Breeding, Proposal


@dataclass(frozen=True)
class TournamentEvolution:
    """Strategy `tournament`."""

    breeding: Breeding
    initial_population: int
    tournament_fraction: float
    tournament_draw: str = "winner"  # or "sample", as older runs did

    @classmethod
    def of(cls, search: SearchSettings, breeding: Breeding) -> TournamentEvolution:
        """As configured."""
        return cls(breeding, search.initial_population, search.tournament_fraction, search.tournament_draw)

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """A mutated winner; an initial genotype for the first births, and while there is nobody to compete."""
        if id < self.initial_population or view < 2:
            return self.breeding.initial(population, id)
        generator = self.breeding.generator(id)
        return self.breeding.mutant(population, id, self._winner(population, view, generator), generator)

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness: who has it wins every tournament that it is in."""
        return population.best_fitness(view) if view else None

    def _winner(self, population: Population, view: int, generator: np.random.Generator) -> int:
        """The id of the winner of a tournament among the first `view` evaluated."""
        if self.tournament_draw == "sample":
            known, fitness = population.competing(view), population.column("fitness")
            return sampled_tournament(known, fitness, self.tournament_fraction, generator)
        return tournament(population.ranking(view), self.tournament_fraction, generator)
