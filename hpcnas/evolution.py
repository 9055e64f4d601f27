"""Strategies: which genotype is evaluated next (§3.2, §4.2), as ask/tell.

`ask(population, id, view)` is a pure function of the run's seed, the id of the birth and the first `view` evaluations
of the population: the same question gives the same answer on any number of ranks, today and at replay (D3). What is
told, the population records; a strategy keeps nothing of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpcnas import canonical, counting, seeds
from hpcnas.config import Config
from hpcnas.genotype import Genotype
from hpcnas.messages import DataFacts
from hpcnas.mutation import diversified, mutate, redraw_until
from hpcnas.population import Birth, Population
from hpcnas.selection import sampled_tournament, tournament
from hpcnas.skeleton import Skeleton
from hpcnas.space import Space

Allowed = Callable[[Genotype], bool]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A genotype to evaluate, and where it comes from."""

    genotype: Genotype
    birth: Birth
    parent: int | None
    redrawn: int  # genotypes that were drawn and not allowed


class Strategy(Protocol):
    """What the controller asks for the next genotype."""

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """The genotype of birth `id`, chosen knowing the first `view` evaluations. Raises NothingAllowed."""
        ...


@dataclass(frozen=True)
class RandomSearch:
    """Random search (§4.2): every genotype is drawn as the initial ones are."""

    space: Space
    seed: int
    initial_mutations: int
    allowed: Allowed  # valid, and within the constraints

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """A diversified genotype; looks at nothing."""
        return draw_initial(self, id, Birth.RANDOM)


@dataclass(frozen=True)
class TournamentEvolution:
    """The paper's evolution: an initial population, then mutated winners of tournaments; nothing is removed."""

    space: Space
    seed: int
    initial_mutations: int
    allowed: Allowed
    initial_population: int
    tournament_fraction: float
    tournament_draw: str = "winner"  # or "sample", as older runs did

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """A mutated winner; an initial genotype for the first births, and while there is nobody to compete."""
        if id < self.initial_population or view < 2:
            return draw_initial(self, id, Birth.INITIAL)
        generator = seeds.birth_generator(self.seed, id)
        parent = self._winner(population, view, generator)
        origin = population.individual(parent).genotype
        genotype, redrawn = redraw_until(lambda: mutate(origin, generator), self.allowed)
        return Proposal(genotype, Birth.MUTATION, parent, redrawn)

    def _winner(self, population: Population, view: int, generator: np.random.Generator) -> int:
        """The id of the winner of a tournament among the first `view` evaluated."""
        if self.tournament_draw == "sample":
            known, fitness = population.evaluated[:view], population.column("fitness")
            return sampled_tournament(known, fitness, self.tournament_fraction, generator)
        return tournament(population.ranking(view), self.tournament_fraction, generator)


def draw_initial(strategy: RandomSearch | TournamentEvolution, id: int, birth: Birth) -> Proposal:
    """A diversified genotype (§3.2); refused ones are drawn again as a whole."""
    generator = seeds.birth_generator(strategy.seed, id)
    genotype, redrawn = redraw_until(
        lambda: diversified(strategy.space, strategy.initial_mutations, generator), strategy.allowed
    )
    return Proposal(genotype, birth, None, redrawn)


def allowance(config: Config, facts: DataFacts) -> Allowed:
    """Whether a genotype may be evaluated: it is valid, and its network has fewer parameters than the limit (§4.2)."""
    skeleton, limit = Skeleton.of(config.network, facts), config.search.max_parameters

    def allowed(genotype: Genotype) -> bool:
        if limit is None:
            return canonical.is_valid(genotype)
        try:
            graph = canonical.expand(genotype)
        except canonical.InvalidGenotype:
            return False
        return counting.size(graph, skeleton).parameters < limit

    return allowed


def make_strategy(config: Config, facts: DataFacts) -> Strategy:
    """The configured strategy for networks on this data."""
    search, allowed = config.search, allowance(config, facts)
    if search.strategy == "random":
        return RandomSearch(config.space, search.seed, search.initial_mutations, allowed)
    return TournamentEvolution(
        config.space,
        search.seed,
        search.initial_mutations,
        allowed,
        search.initial_population,
        search.tournament_fraction,
        search.tournament_draw,
    )
