"""Making every decision of a run again, from its seed and its order of evaluations alone (D3).

Each birth is asked for once more, knowing just what the strategy knew then; the answer must be the genotype, parent and
count on record, bit for bit, whatever the number of ranks was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpcnas.config import Config
from hpcnas.individuals import Birth
from hpcnas.messages import DataFacts
from hpcnas.mutation import NothingAllowed
from hpcnas.population import Population
from hpcnas.strategies import make_strategy


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an individual on record."""

    individual: int
    what: str

    def __str__(self) -> str:
        return f"individual {self.individual}: {self.what}"


def deviations(config: Config, facts: DataFacts, population: Population) -> Iterator[Fault]:
    """The individuals whose birth is not what their strategy gives, by id; nothing for a sound run."""
    strategy = make_strategy(config, facts)
    known, births = len(population.evaluated), population.column("birth")
    for id in range(len(population)):
        if births[id] == Birth.FOUNDER:  # nobody has decided on it here
            continue
        individual = population.individual(id)
        if not 0 <= individual.view <= known:
            yield Fault(id, f"expected a view of 0 to {known} evaluations, got {individual.view}")
            continue
        try:
            proposal = strategy.ask(population, id, individual.view)
        except NothingAllowed as error:  # such as all mutants of a parent that is damaged
            yield Fault(id, f"expected a birth that its strategy gives, but: {error}")
            continue
        for name in ("birth", "parent", "redrawn", "known", "genotype", "network", "repeats"):
            expected, found = getattr(proposal, name), getattr(individual, name)
            if expected != found:
                yield Fault(id, f"expected {name} {_shown(expected):.120}, got {_shown(found):.120}")


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
