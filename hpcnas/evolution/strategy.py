"""What a strategy is (§3.2, §4.2): ask/tell, and how births come by their genotypes whoever chooses the parents.

`ask(population, id, view)` is a pure function of the run's seed, the id of the birth, the first `view` evaluations and
the genotypes of the individuals born before: the same question gives the same answer on any number of ranks, today and
at replay (D3). What is told, the population records; a strategy keeps nothing but what it can make again from that.

Each strategy has a file of its own; `registry` lists them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from hpcnas import seeds
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import diversified, mutate
from hpcnas.architecture.sizes import Size
from hpcnas.architecture.space import Space
from hpcnas.errors import Error
from hpcnas.evolution.duplicates import Drawn, Duplicates, retrain, undrawn
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.population import Population

Allowed = Callable[[Genotype], bool]


class StrategyRefused(Error):
    """A strategy that cannot be made of the settings: one line for a person."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A genotype to evaluate, and where it comes from."""

    genotype: Genotype
    birth: Birth
    parent: int | None
    redrawn: int  # genotypes that were drawn and not allowed
    known: int = 0  # genotypes that were refused because their network was known
    network: bytes | None = None  # the hash of its network, where that was needed
    repeats: int | None = None  # the first individual of its network, where it is one more replicate of that

    def born(self, id: int, view: int, now: float) -> Individual:
        """The individual that it becomes as birth `id`, at that time, chosen knowing the first `view` evaluations."""
        return Individual(id=id, view=view, born=now, **dict(zip(_PROPOSED, _proposed(self), strict=True)))


_PROPOSED = tuple(item.name for item in fields(Proposal))
_proposed = operator.attrgetter(*_PROPOSED)


class Strategy(Protocol):
    """What the controller asks for the next genotype, and racing for what others are measured by."""

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """The genotype of birth `id`, chosen knowing the first `view` evaluations. Raises NothingAllowed."""
        ...

    def bar(self, population: Population, view: int) -> float | None:
        """The fitness of the best that compete, knowing the first `view` evaluations; None where fitness alone does not
        decide, or nothing is known yet."""
        ...


@dataclass(frozen=True)
class Breeding:
    """How a birth comes by its genotype: drawn as the initial ones are, or as a mutant of a parent."""

    space: Space
    seed: int
    initial_mutations: int
    allowed: Allowed  # valid, and within the constraints
    size: Callable[[Genotype], Size]  # of a valid genotype's network
    duplicates: Duplicates = retrain

    def generator(self, id: int) -> np.random.Generator:
        """All randomness of birth `id`, from its beginning."""
        return seeds.birth_generator(self.seed, id)

    def initial(self, population: Population, id: int, birth: Birth = Birth.INITIAL) -> Proposal:
        """A diversified genotype (§3.2); refused ones are drawn again as a whole. Raises NothingAllowed."""
        generator = self.generator(id)
        drawn = self._drawn(lambda: diversified(self.space, self.initial_mutations, generator), population, id)
        return _proposal(drawn, birth, None)

    def mutant(self, population: Population, id: int, parent: int, generator: np.random.Generator) -> Proposal:
        """A mutated `parent` (eq. 4); refused mutations are drawn again, of the same parent.

        Raises NothingAllowed."""
        origin = population.individual(parent).genotype
        drawn = self._drawn(lambda: mutate(origin, generator), population, id)
        return _proposal(drawn, Birth.MUTATION, parent)

    def _drawn(self, draw: Callable[[], Genotype], population: Population, id: int) -> Drawn:
        return self.duplicates(draw, self.allowed, population, id)

    def given(self, genotype: Genotype, population: Population, id: int) -> Proposal:
        """An allowed genotype that is not drawn."""
        return _proposal(undrawn(self.duplicates, genotype, population, id), Birth.GIVEN, None)


def _proposal(drawn: Drawn, birth: Birth, parent: int | None) -> Proposal:
    return Proposal(drawn.genotype, birth, parent, drawn.redrawn, drawn.known, drawn.network, drawn.repeats)
