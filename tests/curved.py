"""Literal individuals with learning curves, and searches that stop some early, for tests that need such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from examples import PLACE, SPACE, failed, individual

from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import COLUMNS, Birth
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Result, Stopped
from hpcnas.search import simulation
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.simulation import Site

RUNGS = (0.1, 0.3)
CONFIG: SearchConfig = search_config.build(
    {"search": {"space": str(SPACE), "budget": 9}, "training": {"replicates": 2, "rungs": list(RUNGS)}}
)
CURVES = ((0.2, 0.4), (0.3, 0.5))
_SITE = Site(workers=4, startup=1.0, queue=0.0, handling=0.001)


def trained(id: int, accuracies: Sequence[float] = (0.5, 0.6), curves: Sequence[Sequence[float]] = CURVES,
            judged: int = 0, first: int = 0) -> Result:  # fmt: skip
    """Replicates of an individual from `first` on, with their learning curves."""
    rows = tuple(map(tuple, curves))
    outcome = Evaluation(tuple(accuracies), 1000 + id, 0.25, 8.0, 1.5, rows, judged)
    return Result(id, 1, PLACE, 3000.0 + id, 3010.0 + id, outcome, first)


def stopped(id: int, *curves: Sequence[float], attempt: int = 1) -> Result:
    """The first trainings of an individual, ended at a rung; by default two of them at the first."""
    rows = tuple(map(tuple, curves)) or ((0.1,), (0.2,))
    return Result(id, attempt, PLACE, 3000.0 + id, 3002.0 + id, Stopped(rows, 1000 + id, 0.25, 1.0, 0.5))


def population(*results: Result, births: int = 0) -> Population:
    """A population of two replicates and RUNGS, with these results."""
    found = Population(SPACE, 2, RUNGS)
    for id in range(births or 1 + max((result.individual for result in results), default=-1)):
        found.add(individual(id))
    for result in results:
        found.settle(result)
    return found


def copied(population: Population) -> Population:
    """The same from its columns, as a file has them."""
    columns = {column.name: population.column(column.name).copy() for column in COLUMNS}
    order, attempts = np.array(population.evaluated), population.failed_attempts
    return Population.from_columns(population.space, population.replicates, columns, order, attempts, population.rungs)


class Play:
    """A random sequence of events that fit, as a controller gives them."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def numbers(self, *shape: int) -> Any:
        return np.round(self.generator.uniform(size=shape), 3).tolist()

    def step(self, one: Population) -> tuple[str, Any]:
        """An event that the population takes next: which method, and with what."""
        draw = self.generator
        if not one.issued or draw.random() < 0.4:
            more: dict[str, Any] = {"parent": 0, "birth": Birth.MUTATION} if len(one) and draw.random() < 0.5 else {}
            return "add", replace(individual(len(one)), view=len(one.evaluated), **more)
        id = int(draw.choice(one.issued))
        missing, kind = one.missing(id), draw.random()
        attempt = int(one.column("attempts")[id]) + 1
        if kind < 0.1:
            outcome: Outcome = Failure(FailureKind.CRASH, "gone")
            return ("retry" if kind < 0.06 else "settle"), replace(failed(id), attempt=attempt, outcome=outcome)
        if len(missing) == 2 and kind < 0.4:
            count, length = int(draw.integers(1, 3)), int(draw.integers(1, 3))
            return "settle", stopped(id, *self.numbers(count, length), attempt=attempt)
        if len(missing) == 2 and kind < 0.6:
            first = int(draw.integers(0, 2))
            judged = int(draw.integers(0, 2)) if first == 0 else 0
            found = trained(id, self.numbers(1), self.numbers(1, 2), judged, first)
            return "advance", replace(found, attempt=attempt)
        curves = self.numbers(len(missing), 2) if kind < 0.9 else []
        judged = len(curves) if missing[0] == 0 else 0
        return "settle", replace(trained(id, self.numbers(len(missing)), curves, judged, missing[0]), attempt=attempt)


def settings(**changes: dict[str, object]) -> SearchConfig:
    """A synthetic search that stops many individuals early."""
    return search_config.build(
        {
            "search": {"budget": 120, "initial_population": 30, "initial_mutations": 50, "early_stopping": True,
                       "early_stopping_confidence": 0.8, "seed": 3},
            "training": {"replicates": 2, "rungs": list(RUNGS)},
            "evaluation": {"evaluator": "synthetic", "synthetic_seconds": 10.0, "synthetic_noise": 0.001},
            "run": {"grace": 0.0},
        },
        changes,
    )  # fmt: skip


def searched(config: SearchConfig) -> MemoryStore:
    """The search by a virtual clock."""
    return simulation.searched(config, _SITE)[0]
