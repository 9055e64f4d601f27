"""What happens to a drawn genotype whose network is known already (D6): about a third of the mutations change nothing.

    retrain     it is evaluated like any other: the paper's algorithm
    resample    it is drawn again, so many times at the most
    average     it is trained once, as one more replicate of the network (`repeats`)

Known is the network of every individual that was born before, whatever became of it: in flight, evaluated or failed. So
the answer depends on births alone and can be given again at replay (D3). With `average` that has a price: where the
first individual of a network is still in flight, or has failed, a repeat competes by its one training until the network
is measured again, and a single training can be a lucky one. Births that an older version of the hash has looked at are
answered by that version again, all others by today's, which looks at those once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hpcnas.architecture.expansion import InvalidGenotype
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import redraw_until
from hpcnas.architecture.network_hash import network_hash
from hpcnas.evolution.population import Population

MOST_KNOWN = 100
"""Known networks that are refused at one birth; the next one is evaluated again. A genotype of the paper's space has
some 300 mutants, and those of the best one may all have been tried."""

MOST_COUNTED = 20_000
"""Individuals whose networks are looked at for a count that their run has not kept: half a millisecond each."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A genotype, and what was refused before it; the network's hash where somebody needs it, and the first individual
    of that network where this is to be one more replicate of it."""

    genotype: Genotype
    redrawn: int  # not allowed
    known: int  # of known networks
    network: bytes | None
    repeats: int | None = None


class Duplicates(Protocol):
    """Draws until there is a genotype for birth `id` of the population. Raises NothingAllowed."""

    def __call__(
        self, draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], population: Population, id: int
    ) -> Drawn: ...


def retrain(
    draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], population: Population, id: int
) -> Drawn:
    """The first allowed genotype, known or not."""
    genotype, redrawn = redraw_until(draw, allowed)
    return Drawn(genotype, redrawn, known=0, network=None)


def resample(
    draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], population: Population, id: int
) -> Drawn:
    """The first allowed genotype of a network that is new; after `MOST_KNOWN` known ones the next, whatever it is."""
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
    """A genotype that is given and not drawn: never refused, but looked at as far as those that follow need it."""
    if duplicates is retrain:
        return Drawn(genotype, 0, 0, None)
    if duplicates is average:
        return average(lambda: genotype, lambda _: True, population, id)
    return Drawn(genotype, 0, 0, network_hash(genotype, population.hash_version(id)))


DUPLICATES: dict[str, Duplicates] = {"retrain": retrain, "resample": resample, "average": average}


def repeats(population: Population) -> int | None:
    """How many individuals have the network of an earlier one. Where the run has kept no network (`retrain`) all are
    looked at now, unless there are more than MOST_COUNTED: then None."""
    if population.column("network").any():
        return population.repeats
    if len(population) > MOST_COUNTED:
        return None
    networks: set[bytes] = set()
    valid = 0
    for id in range(len(population)):
        try:
            networks.add(network_hash(population.individual(id).genotype))
        except InvalidGenotype:  # in a damaged file
            continue
        valid += 1
    return valid - len(networks)
