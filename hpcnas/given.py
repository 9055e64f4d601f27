"""The genotypes that a search is given to begin with (`--initial`), as its configuration keeps them: codes, no names.

    search.initial = "codes:0306…,codes:0102…"     their array forms in hexadecimal digits, in the order of their births

So a run depends on no file but its own, and its births can be made again (D3). Where they come from is `sources`'
business. They are the first births, evaluated anew, whatever the strategy; that is asked for all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcnas.evolution import Breeding, Proposal, Strategy
from hpcnas.genotype import Genotype, GenotypeError
from hpcnas.mutation import NothingAllowed
from hpcnas.population import Population
from hpcnas.space import Space

CODES = "codes:"


@dataclass(frozen=True)
class GivenFirst:
    """A strategy that begins with given genotypes and then leaves the word to another."""

    genotypes: tuple[Genotype, ...]
    breeding: Breeding
    others: Strategy

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """The given genotype of that number, else what the other strategy says. Raises NothingAllowed."""
        if id >= len(self.genotypes):
            return self.others.ask(population, id, view)
        genotype = self.genotypes[id]
        if not self.breeding.allowed(genotype):
            raise NothingAllowed(
                f"initial genotype {id + 1} of {len(self.genotypes)} is over a constraint (--max-parameters, "
                "--max-flops): begin another run without it, or with other limits"
            )
        return self.breeding.given(genotype, population, id)

    def bar(self, population: Population, view: int) -> float | None:
        """The other strategy's."""
        return self.others.bar(population, view)


def written(genotypes: Sequence[Genotype]) -> str:
    """As the configuration keeps them."""
    return ",".join(CODES + genotype.codes.hex() for genotype in genotypes)


def of_codes(space: Space, source: str) -> Genotype:
    """The genotype that `codes:…` writes. Raises GenotypeError."""
    try:
        return Genotype(space, bytes.fromhex(source.removeprefix(CODES)))
    except ValueError as error:  # GenotypeError is one
        raise GenotypeError(f"{source:.40}: {error}") from None


def kept(space: Space, initial: str | None) -> tuple[Genotype, ...]:
    """Those of a configuration whose sources have been looked up. Raises GenotypeError."""
    return tuple(of_codes(space, source) for source in initial.split(",")) if initial else ()
