"""A tiny space, and literal individuals, results and sessions in it, for tests that only need some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import Space
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import COLUMNS, Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Proposal
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Result
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.methods import Worker

SPACE = Space.parse("2x3/1x3")  # 9 edges
CONFIG: SearchConfig = search_config.build({"search": {"space": "2x3/1x3", "budget": 5}, "training": {"replicates": 2}})
FACTS = DataFacts(3, 32, 32, 10, 40_000, 10_000, "5f2e")
SESSION = Session(1000.5, "node-1", 4321, 3, {"hpcnas": "0", "numpy": "2"}, FACTS)
PLACE = Place(2, "node-7", "cuda:GPU-6f1c1c1e-4a4b-9d8e-7a61-2b3c4d5e6f70")
WORKER = Worker(0, PLACE, "Training", "bfloat16", "no compiler")


@dataclass
class Bar:
    """A strategy that demands this fitness, and is asked for nothing else."""

    height: float | None

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        raise NotImplementedError

    def bar(self, population: Population, view: int) -> float | None:
        return self.height


def individual(id: int, parent: int | None = None, redrawn: int = 0) -> Individual:
    """Individual `id`: of the initial population, or a mutated `parent`; its genotype differs from its neighbours'."""
    birth = Birth.INITIAL if parent is None else Birth.MUTATION
    return Individual(id, Genotype(SPACE, bytes([id % 3] * 9)), birth, parent, 0, redrawn, 2000.0 + id)


def evaluated(id: int, *accuracies: float) -> Result:
    """Individual `id` with a fitness: the mean of two accuracies, by default of 0.5 and 0.6."""
    outcome = Evaluation(accuracies or (0.5, 0.6), 1000 + id, 0.25, 8.0, 1.5)
    return Result(id, 1, PLACE, 3000.0 + id, 3010.0 + id, outcome)


def failed(id: int, message: str = "Traceback\nout of memory", kind: FailureKind = FailureKind.OOM) -> Result:
    """Individual `id` without a fitness, at its second attempt."""
    return Result(id, 2, PLACE, 3000.0 + id, 3004.0 + id, Failure(kind, message))


def population(*results: Result, births: int = 0) -> Population:
    """A population of `births` initial individuals, by default as many as the results name, with these results."""
    found = Population(SPACE, replicates=2)
    for id in range(births or 1 + max((result.individual for result in results), default=-1)):
        found.add(individual(id))
    for result in results:
        found.settle(result)
    return found


def assert_same(found: Population, expected: Population) -> None:
    """Equal in every column (NaN equals NaN) and in everything else that can be asked for."""
    for column in COLUMNS:
        np.testing.assert_array_equal(found.column(column.name), expected.column(column.name), column.name)
    assert found.evaluated.tolist() == expected.evaluated.tolist()
    assert found.issued == expected.issued
    assert found.in_flight == expected.in_flight
    assert found.failures == expected.failures
    assert found.failed_attempts == expected.failed_attempts
    assert (found.best, found.redrawn, len(found)) == (expected.best, expected.redrawn, len(expected))


def add_births(target: MemoryStore, count: int) -> None:
    """Records so many initial individuals, not yet committed."""
    for id in range(count):
        target.birth(individual(id))
