"""What a strategy is: it decides which genotype is evaluated next (§3.2, §4.2).

    strategy.ask(population, id, view)            ──►  Proposal: a genotype, and where it comes from
        chooses a parent, if it wants one,                        │
        then breeding.mutant(…) or .initial(…)                    ▼
                                                       the controller has it trained
    population.settle(result)                     ◄──  and tells the population, not the strategy

`ask` is a pure function of the run's seed, the id of the birth, the first `view` evaluations and the genotypes of the
individuals born before: the same question gives the same answer on any number of ranks, today and at a replay (D3). A
strategy may keep what it can compute again from these, to be faster.

A strategy chooses parents alone. `Breeding` is the same for all: it draws the genotypes, and draws again where one is
not allowed or, as `--duplicates` says, where its network is known. Each strategy has a file of its own; `registry`
makes the configured one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

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
    """The settings do not make a strategy: one line for the person who gave them."""


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


def rounded(view: int) -> int:
    """The evaluations that something is made of which need not be made anew after each: `view`, less a 32nd part of it
    at the most."""
    return view & -renewal(view)


def renewal(view: int) -> int:
    """The evaluations from one such rounded number to the next."""
    return 1 << max(0, view.bit_length() - 6)


class Strategy(Protocol):
    """The controller asks it for the next genotype, and racing for the fitness to compare others with."""

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """The genotype of birth `id`, chosen knowing the first `view` evaluations. Raises NothingAllowed."""
        ...

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness among those that compete, knowing the first `view` evaluations.

        None where fitness alone does not decide, or where none is evaluated yet."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """A strategy that knows more of fitness than what was measured."""

    def expected(self, population: Population, view: int) -> Mapping[int, float]:
        """What new trainings would give, after the first `view` evaluations: a fitness for each individual that may be
        the best; empty where it knows too little."""
        ...


@dataclass(frozen=True)
class Breeding:
    """Draws the genotype of a birth: as those of the initial population are drawn, or as a mutant of a parent."""

    space: Space
    seed: int
    initial_mutations: int
    allowed: Allowed  # valid, and within the constraints
    size: Callable[[Genotype], Size]  # of a valid genotype's network
    duplicates: Duplicates = retrain

    def generator(self, id: int) -> np.random.Generator:
        """A new generator of the random numbers of birth `id`, the same for the same run and id."""
        return seeds.birth_generator(self.seed, id)

    def initial(self, population: Population, id: int, birth: Birth = Birth.INITIAL) -> Proposal:
        """A trivial genotype, diversified by many mutations (§3.2); in place of a refused one, a new one is drawn.

        Raises NothingAllowed."""
        generator = self.generator(id)
        drawn = self._drawn(lambda: self.draw_initial(generator), population, id)
        return _proposal(drawn, birth, None)

    def largest(self, population: Population, id: int, among: int) -> Proposal:
        """As `initial`, but each time the one of most FLOPs of so many that are drawn. Raises NothingAllowed."""
        generator = self.generator(id)

        def draw() -> Genotype:
            drawn = [self.draw_initial(generator) for _ in range(among)]
            return max(filter(self.allowed, drawn), key=lambda one: self.size(one).flops, default=drawn[0])

        return _proposal(self._drawn(draw, population, id), Birth.INITIAL, None)

    def mutant(self, population: Population, id: int, parent: int, generator: np.random.Generator) -> Proposal:
        """A mutant of `parent` (eq. 4); in place of a refused one, another mutant of the same parent is drawn.

        Raises NothingAllowed."""
        origin = population.individual(parent).genotype
        drawn = self._drawn(lambda: self.draw_mutant(origin, generator), population, id)
        return _proposal(drawn, Birth.MUTATION, parent)

    def chosen(
        self,
        population: Population,
        id: int,
        ranked: Sequence[tuple[int, Genotype]],
        another: Callable[[], int],
        generator: np.random.Generator,
    ) -> Proposal:
        """The first of the `ranked` mutants, each with its parent, that is not refused; after all of them, a mutant of
        the parent that `another` draws, a new one each time. Raises NothingAllowed."""
        left, parent = iter(ranked), 0

        def draw() -> Genotype:
            nonlocal parent
            found = next(left, None)
            if found is None:
                parent = another()
                return self.draw_mutant(population.individual(parent).genotype, generator)
            parent = found[0]
            return found[1]

        drawn = self._drawn(draw, population, id)
        return _proposal(drawn, Birth.MUTATION, parent)

    def draw_initial(self, generator: np.random.Generator) -> Genotype:
        """One that may be refused: the trivial genotype, diversified."""
        return diversified(self.space, self.initial_mutations, generator)

    def draw_mutant(self, origin: Genotype, generator: np.random.Generator) -> Genotype:
        """One that may be refused: the genotype with one mutation."""
        return mutate(origin, generator)

    def _drawn(self, draw: Callable[[], Genotype], population: Population, id: int) -> Drawn:
        return self.duplicates(draw, self.allowed, population, id)

    def given(self, genotype: Genotype, population: Population, id: int) -> Proposal:
        """A genotype that is allowed and that is not drawn, but given."""
        return _proposal(undrawn(self.duplicates, genotype, population, id), Birth.GIVEN, None)


def _proposal(drawn: Drawn, birth: Birth, parent: int | None) -> Proposal:
    return Proposal(drawn.genotype, birth, parent, drawn.redrawn, drawn.known, drawn.network, drawn.repeats)
