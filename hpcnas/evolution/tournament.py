"""The paper's evolution (§3.2): an initial population, then mutants of the winners of tournaments; nothing is removed.

A tournament of n individuals draws k of them without replacement, and the fittest wins; of equals, the one drawn first.
`draw_winner` draws the winner itself from the ranking, with exactly that distribution: the fittest of the sample has
rank ≥ r where none of the r fittest of all is in it,

    P(rank ≥ r) = C(n−r, k) / C(n, k) = (n−k)/n · (n−k−1)/(n−1) · … (r factors),

and of individuals that are equally fit each is as likely. That takes no longer in a population of a million.
`winner_of_sample` draws the sample, as all runs once did: runs from then are continued and replayed by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.population import Population
from hpcnas.evolution.ranking import Ranking
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
        """A mutated winner; an initial genotype for the first births, and while fewer than two are evaluated."""
        if id < self.initial_population or view < 2:
            return self.breeding.initial(population, id)
        generator = self.breeding.generator(id)
        return self.breeding.mutant(population, id, self._winner(population, view, generator), generator)

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness: the individual that has it wins every tournament that it is in."""
        return population.best_fitness(view) if view else None

    def _winner(self, population: Population, view: int, generator: np.random.Generator) -> int:
        """The id of the winner of a tournament among the first `view` evaluated."""
        if self.tournament_draw == "sample":
            ids, fitness = population.competing(view), population.column("fitness")
            return winner_of_sample(ids, fitness, self.tournament_fraction, generator)
        return draw_winner(population.ranking(view), self.tournament_fraction, generator)


def tournament_size(evaluated: int, fraction: float) -> int:
    """That share of the evaluated individuals, at least 2 and at most all (P3)."""
    return min(evaluated, max(2, round(fraction * evaluated)))


def draw_winner(ranking: Ranking, fraction: float, generator: np.random.Generator) -> int:
    """The id of the winner of a tournament among all of the ranking, which must not be empty."""
    rank = draw_best_rank(len(ranking), tournament_size(len(ranking), fraction), generator)
    first, last = ranking.equals(rank)
    return ranking[first + int(generator.integers(last - first)) if last - first > 1 else rank]


def draw_best_rank(n: int, k: int, generator: np.random.Generator) -> int:
    """The lowest of k different ranks out of 0 … n−1, 1 ≤ k ≤ n, in at most about √n steps.

    By multiplication alone, so that every machine gives the same answer.
    """
    if k * k < n:  # few of many: (n−k)/(k+1) factors are expected below
        return int(generator.choice(n, size=k, replace=False, shuffle=False).min())
    drawn, rank, reached = generator.random(), 0, (n - k) / n
    while drawn < reached:  # P(rank ≥ r + 1)
        rank += 1
        reached *= (n - k - rank) / (n - rank)
    return rank


def winner_of_sample(ids: np.ndarray, fitness: np.ndarray, fraction: float, generator: np.random.Generator) -> int:
    """The id of the fittest of a random sample of `ids`, drawn without replacement; of equals, the one drawn first.

    `ids` is int64 of shape (n,), n ≥ 1; `fitness`, float64, is indexed by id.
    """
    drawn = generator.choice(len(ids), size=tournament_size(len(ids), fraction), replace=False)
    contestants = ids[drawn]
    return int(contestants[np.argmax(fitness[contestants])])
