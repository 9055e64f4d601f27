"""What happens to a drawn genotype whose network is known already (D6): about a third of the mutations change nothing.

    retrain     it is evaluated like any other: the paper's algorithm
    resample    it is drawn again, so many times at the most

Known is the network of every individual that was born before, whatever became of it: in flight, evaluated or failed. So
the answer depends on births alone and can be given again at replay (D3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hpcnas.genotype import Genotype
from hpcnas.mutation import redraw_until
from hpcnas.population import Population
from hpcnas.sameness import network_hash

MOST_KNOWN = 100
"""Known networks that are refused at one birth; the next one is evaluated again. A genotype of the paper's space has
some 300 mutants, and those of the best one may all have been tried."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A genotype, and what was refused before it; the network's hash where somebody needs it."""

    genotype: Genotype
    redrawn: int  # not allowed
    known: int  # of known networks
    network: bytes | None


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
    redrawn = 0
    for known in range(MOST_KNOWN + 1):
        genotype, refused = redraw_until(draw, allowed)
        redrawn += refused
        network = network_hash(genotype)
        if known == MOST_KNOWN or not population.knows(network, id):
            break
    return Drawn(genotype, redrawn, known, network)


DUPLICATES: dict[str, Duplicates] = {"retrain": retrain, "resample": resample}
