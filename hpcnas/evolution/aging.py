"""Aging evolution (Real, Aggarwal, Huang and Le 2019, Regularized Evolution for Image Classifier Architecture Search,
Algorithm 1): S of the P youngest evaluated are drawn with replacement, and the fittest of them is mutated.

    evaluated  0 1 2 … │ view−P … view−1        those to the left of the line have died of age: no more children

So a lucky evaluation makes an individual a parent for a limited time only. The dead leave the competition, not the
file: the result of the search is still the fittest of all. The place in the order of evaluations is the age of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding, Proposal


@dataclass(frozen=True)
class AgingEvolution:
    """Strategy `aging`."""

    breeding: Breeding
    initial_population: int
    alive: int  # P
    sample: int  # S

    @classmethod
    def of(cls, search: SearchSettings, breeding: Breeding) -> AgingEvolution:
        """As configured."""
        return cls(breeding, search.initial_population, search.aging_population, search.aging_sample)

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """A mutant of the fittest of a sample; an initial genotype for the first births, and while none is alive."""
        if id < self.initial_population or view < 1:
            return self.breeding.initial(population, id)
        generator = self.breeding.generator(id)
        ids, fitness = self._living(population, view)
        drawn = generator.integers(len(ids), size=self.sample)
        parent = int(ids[drawn[np.argmax(fitness[drawn])]])  # of equals, the one drawn first
        return self.breeding.mutant(population, id, parent, generator)

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness of those alive; None before the first evaluation."""
        return float(self._living(population, view)[1].max()) if view else None

    def _living(self, population: Population, view: int) -> tuple[np.ndarray, np.ndarray]:
        """The youngest by age, the oldest first: ids (int64) and fitness (float64, −∞ for NaN), both of shape (n,)."""
        ids = population.competing(view, since=max(0, view - self.alive))
        return ids, np.nan_to_num(population.column("fitness")[ids], nan=-np.inf)
