"""Making every decision of a run again, from its seed and its order of evaluations alone (D3).

Each birth is asked for once more, knowing just what the strategy knew then; the answer must be the genotype, parent and
count on record, bit for bit, whatever the number of ranks was.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpcnas.config import Config
from hpcnas.evolution import make_strategy
from hpcnas.messages import DataFacts
from hpcnas.population import Population


def deviations(config: Config, facts: DataFacts, population: Population) -> Iterator[str]:
    """One line for each individual whose birth is not what its strategy gives; nothing for a sound run."""
    strategy = make_strategy(config, facts)
    for id in range(len(population)):
        individual = population.individual(id)
        if not 0 <= individual.view <= len(population.evaluated):
            known = len(population.evaluated)
            yield f"individual {id}: expected a view of 0 to {known} evaluations, got {individual.view}"
            continue
        proposal = strategy.ask(population, id, individual.view)
        found = (individual.birth, individual.parent, individual.redrawn, individual.genotype)
        expected = (proposal.birth, proposal.parent, proposal.redrawn, proposal.genotype)
        names = ("birth", "parent", "redrawn", "genotype")
        for name, ours, theirs in zip(names, expected, found, strict=True):
            if ours != theirs:
                yield f"individual {id}: expected {name} {ours!s:.120}, got {theirs!s:.120}"
