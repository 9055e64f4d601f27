"""Making every decision of a run again, from its seed and its order of evaluations alone (D3).

Each birth is asked for once more, knowing just what the strategy knew then; the answer must be the genotype, parent and
count on record, bit for bit, whatever the number of ranks was.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hpcnas.architecture.mutation import NothingAllowed
from hpcnas.architecture.network_hash import VERSION
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import COLUMNS, Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import make_strategy


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an individual on record."""

    individual: int
    what: str

    def __str__(self) -> str:
        return f"individual {self.individual}: {self.what}"


def deviations(config: SearchConfig, facts: DataFacts, population: Population) -> Iterator[Fault]:
    """The individuals whose birth is not what their strategy gives, by id; nothing for a sound run."""
    strategy = make_strategy(config, facts)
    known, births = len(population.evaluated), population.column("birth")
    for id in range(len(population)):
        if births[id] in (Birth.FOUNDER, Birth.CONFIRMATION):  # from another run, or after the search: not its decision
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


def joined_networks(config: SearchConfig, facts: DataFacts, population: Population) -> Iterator[str]:
    """What an older hash has done where it joined networks that differ, giving them one value; a line each, and nothing
    where no individual has such a hash."""
    old = np.flatnonzero((population.column("network_version") > 0) & (population.column("network_version") < VERSION))
    if not old.size:
        return
    networks = population.column("network")
    first: dict[bytes, int] = {}
    now: dict[int, bytes] = {}
    others = []  # with the first individual of the same old hash, which has another network
    for id in old.tolist():
        hashed = population.network_of(id)
        if hashed is None:
            continue
        now[id] = hashed
        same = first.setdefault(networks[id].tobytes(), id)
        if now[same] != hashed:
            others.append((id, same))
    shared = _listed(f"{id} that of {same}" for id, same in others)
    yield (
        f"individuals whose hash is of version 1, which could join networks that differ: {len(old)}; with the hash of "
        f"an earlier one that has another network: {len(others)}{shared}; "
        f"a search that goes on decides by version {VERSION}"
    )
    pooled = [(id, one) for id in now if (one := population.individual(id).repeats) is not None and now[one] != now[id]]
    if pooled:
        yield (
            f"averaged with an individual that has another network, so that their fitness is that of neither: "
            f"{len(pooled)}{_listed(f'{id} with {one}' for id, one in pooled)}"
        )
    refused = list(_refused(config, facts, population, now))
    if refused:
        yield (
            f"born after a network was refused that nobody had, for it had the hash of another: "
            f"{len(refused)}{_listed(map(str, refused))}"
        )


def _refused(config: SearchConfig, facts: DataFacts, population: Population, now: Mapping[int, bytes]) -> Iterator[int]:
    """Births of an older hash that would have taken a genotype which that hash refused as known."""
    columns = {column.name: population.column(column.name).copy() for column in COLUMNS}
    for id, hashed in now.items():
        columns["network"][id], columns["network_version"][id] = np.frombuffer(hashed, dtype=np.uint8), VERSION
    renewed = Population.from_columns(
        population.space,
        population.replicates,
        columns,
        population.evaluated.copy(),
        population.failed_attempts,
        population.rungs,
    )
    strategy, births = make_strategy(config, facts), columns["birth"]
    for id in np.flatnonzero((columns["known"] > 0) & (births != Birth.FOUNDER)).tolist():
        individual = population.individual(id)
        if id in now and 0 <= individual.view <= len(population.evaluated):
            with contextlib.suppress(NothingAllowed):
                if strategy.ask(renewed, id, individual.view).genotype != individual.genotype:
                    yield id


def _listed(items: Iterable[str]) -> str:
    """The first few, in brackets; nothing where there are none."""
    shown = list(itertools.islice(items, 6))
    return f" ({', '.join(shown[:5])}{', …' if len(shown) > 5 else ''})" if shown else ""


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
