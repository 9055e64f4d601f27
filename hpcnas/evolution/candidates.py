"""The mutants among which guided evolution chooses: bred by a draw of its model, some for many births, some for one.

    a model's pool      parents ─► mutants ─► mutants of the best of these, and so on    by each of several draws
    a birth             pool, sorted by the birth's own draw ─► its best, and mutants of the best, and so on

A model is made anew only after many evaluations, and the births in between search the same function, each by a draw of
its own. What the pool costs is spent once for all of them, and each begins where that search has come to. The pool is a
function of the run's seed and of what the model knows, a birth's candidates also of its id: any process finds the same
again. Knows neither fitness nor how a model is fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcnas.architecture.expansion import bare
from hpcnas.architecture.features import Features
from hpcnas.architecture.genotype import Genotype
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding

BEST = 5  # mutants that a generation comes from
KEPT = 24  # of a pool, for one birth


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mutant, and the individual that it comes from by one mutation or several."""

    score: int
    parent: int
    genotype: Genotype
    needed: bytes  # its codes without dead edges and unused motifs
    origin: bytes  # those of the parent
    row: Features


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates that births share, and their features as a model has them: whole numbers, int64, shape (candidates,
    features that it learns)."""

    candidates: Sequence[Candidate]
    features: np.ndarray

    def best(self, weights: np.ndarray) -> list[Candidate]:
        """The KEPT best of them by these weights, int64, the best first; of equals, the one found first."""
        scores = self.features @ weights
        order = np.argsort(-scores, kind="stable")[:KEPT].tolist()
        return [replace(self.candidates[place], score=int(scores[place])) for place in order]


@dataclass(frozen=True)
class Nursery:
    """Breeds candidates of a population. `look` tells the features of a genotype without dead edges and unused motifs,
    None where it has no network."""

    breeding: Breeding
    look: Callable[[Genotype], Features | None]

    def bred(
        self,
        population: Population,
        winner: Callable[[], int],
        score: Callable[[Features], int],
        generator: np.random.Generator,
        count: int,
        generations: int,
        known: Sequence[Candidate] = (),
    ) -> list[Candidate]:
        """The `known` ones and `count` mutants more, less those without a network and those that are known or a parent:
        each genotype once, by their score; of equals, the one that was there first.

        The first generation comes from parents that `winner` draws, unless some are known; each later one from the
        BEST so far."""
        found = list(known)
        seen = {codes for one in known for codes in (one.needed, one.origin)}
        origins: dict[int, tuple[Genotype, bytes]] = {}
        ends = [count * number // generations for number in range(generations + 1)]
        for generation in range(generations):
            best = found[:BEST] if generation or known else []
            for number in range(ends[generation + 1] - ends[generation]):
                if best:
                    one = best[number % len(best)]
                    parent, genotype, origin = one.parent, one.genotype, one.origin
                else:
                    parent = winner()
                    if parent not in origins:
                        genotype = population.individual(parent).genotype
                        origins[parent] = genotype, bare(genotype).codes
                    genotype, origin = origins[parent]
                    seen.add(origin)
                genotype = self.breeding.draw_mutant(genotype, generator)
                needed = bare(genotype)
                if needed.codes in seen:
                    continue
                seen.add(needed.codes)
                row = self.look(needed)
                if row is not None:
                    found.append(Candidate(score(row), parent, genotype, needed.codes, origin, row))
            found.sort(key=lambda one: -one.score)
        return found
