"""What happens to a drawn genotype whose network is known already (D6): about a third of the mutations change nothing.

    retrain     it is evaluated like any other: the paper's algorithm
    resample    another one is drawn, at most `MOST_KNOWN` times
    average     it is trained once, as one more replicate of the network (`repeats`)

A network is known once an individual that has it is born, whether that is in flight, evaluated or failed. So the answer
depends on births alone, and a replay gives it again (D3). With `average` that has a price: while the first individual
of a network is in flight, or where it has failed, the fitness of a repeat is that of a single training, which can be a
lucky one, until the network is measured again.

A birth that was hashed by an older version of `network_hash` is answered by that version again. All other births are
answered by today's version, for which the genotypes of the older births are hashed anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpcnas.architecture.expansion import InvalidGenotype
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import redraw_until
from hpcnas.architecture.network_hash import network_hash
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population

MOST_KNOWN = 100
"""So many known networks are refused at one birth; the next one is evaluated once more. A genotype of the paper's space
has some 300 mutants, and all those of the best genotype may have been tried."""

MOST_COUNTED = 20_000
"""Individuals whose networks are hashed for a count that their run has not kept, at half a millisecond each."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A genotype that was drawn, and how many were refused before it."""

    genotype: Genotype
    redrawn: int  # refused as not allowed
    known: int  # refused because their network is known
    network: bytes | None  # the hash of its network, where the policy needs it
    repeats: int | None = None  # the first individual of its network, where this is one more replicate of it


class Duplicates(Protocol):
    """A policy: draws until there is a genotype for birth `id` of the population. Raises NothingAllowed."""

    def __call__(
        self, draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], population: Population, id: int
    ) -> Drawn: ...


def retrain(
    draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], population: Population, id: int
) -> Drawn:
    """The first allowed genotype, whether its network is known or not."""
    genotype, redrawn = redraw_until(draw, allowed)
    return Drawn(genotype, redrawn, known=0, network=None)


def resample(
    draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], population: Population, id: int
) -> Drawn:
    """The first allowed genotype whose network is new; after `MOST_KNOWN` others, the next allowed one."""
    redrawn, version = 0, population.hash_version(id)
    for known in range(MOST_KNOWN + 1):
        genotype, refused = redraw_until(draw, allowed)
        redrawn += refused
        network = network_hash(genotype, version)
        if known == MOST_KNOWN or not population.knows(network, id, version):
            break
    return Drawn(genotype, redrawn, known, network)


def average(
    draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], population: Population, id: int
) -> Drawn:
    """The first allowed genotype; where its network is known, a repeat of the first individual that has it."""
    genotype, redrawn = redraw_until(draw, allowed)
    version = population.hash_version(id)
    network = network_hash(genotype, version)
    first = population.first_with(network, version)
    return Drawn(genotype, redrawn, 0, network, repeats=first if first is not None and first < id else None)


def undrawn(duplicates: Duplicates, genotype: Genotype, population: Population, id: int) -> Drawn:
    """A genotype that is given and not drawn: never refused, but hashed where later births have to know its network."""
    if duplicates is retrain:
        return Drawn(genotype, 0, 0, None)
    if duplicates is average:
        return average(lambda: genotype, lambda _: True, population, id)
    return Drawn(genotype, 0, 0, network_hash(genotype, population.hash_version(id)))


DUPLICATES: dict[str, Duplicates] = {"retrain": retrain, "resample": resample, "average": average}


def repeats(population: Population) -> int | None:
    """How many individuals have the network of an earlier one, confirmations aside.

    Where the run has kept no networks (`retrain`), all are hashed now; None if there are more than MOST_COUNTED."""
    if population.column("network").any():
        return population.repeats
    if len(population) > MOST_COUNTED:
        return None
    networks: set[bytes] = set()
    valid = 0
    for id in np.flatnonzero(population.column("birth") != Birth.CONFIRMATION).tolist():
        try:
            networks.add(network_hash(population.individual(id).genotype))
        except InvalidGenotype:  # in a damaged file
            continue
        valid += 1
    return valid - len(networks)
