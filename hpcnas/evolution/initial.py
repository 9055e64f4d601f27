"""The genotypes that a search is given to begin with (`--initial`), as its configuration keeps them: codes, no names.

    search.initial = "codes:0306…,codes:0102…"     their array forms in hexadecimal digits, in the order of their births

So a run depends on no file but its own, and a replay makes the same births (D3). `search.initial` looks up what a
person has written. With any strategy these genotypes are the first births, evaluated anew; it is asked for all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcnas.architecture.genotype import Genotype, GenotypeError
from hpcnas.architecture.space import Space
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding, Expecting, Proposal, Strategy, StrategyRefused

CODES = "codes:"


@dataclass(frozen=True)
class GivenFirst:
    """A strategy that begins with given genotypes, and asks another one for all others."""

    genotypes: tuple[Genotype, ...]
    breeding: Breeding
    others: Strategy

    def __post_init__(self) -> None:
        """Raises StrategyRefused, before anything is trained, where a genotype is not allowed."""
        for number, genotype in enumerate(self.genotypes, start=1):
            if not self.breeding.allowed(genotype):
                raise StrategyRefused(
                    f"initial genotype {number} of {len(self.genotypes)} is over a constraint (--max-parameters, "
                    "--max-flops): start again without it, or with other limits"
                )

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """The given genotype of that number, else what the other strategy proposes. Raises NothingAllowed."""
        if id >= len(self.genotypes):
            return self.others.ask(population, id, view)
        return self.breeding.given(self.genotypes[id], population, id)

    def expected(self, population: Population, view: int) -> Mapping[int, float]:
        """The other strategy's; empty where that has none."""
        return self.others.expected(population, view) if isinstance(self.others, Expecting) else {}

    def bar(self, population: Population, view: int) -> float | None:
        """The other strategy's."""
        return self.others.bar(population, view)


def written(genotypes: Sequence[Genotype]) -> str:
    """The genotypes as the configuration keeps them."""
    return ",".join(CODES + genotype.codes.hex() for genotype in genotypes)


def of_codes(space: Space, source: str) -> Genotype:
    """The genotype that `codes:…` writes. Raises GenotypeError."""
    try:
        return Genotype(space, bytes.fromhex(source.removeprefix(CODES)))
    except ValueError as error:  # GenotypeError is one
        raise GenotypeError(f"{source:.40}: {error}") from None


def kept(space: Space, initial: str | None) -> tuple[Genotype, ...]:
    """The genotypes that a configuration keeps. Raises GenotypeError."""
    return tuple(of_codes(space, source) for source in initial.split(",")) if initial else ()
