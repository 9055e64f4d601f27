"""How runs went, evaluation by evaluation: what `plot` and `compare` draw. Numbers only, nothing is drawn here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import toolkit

from hpcnas.analysis import worker_time
from hpcnas.evolution import objectives
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.registry import sizing
from hpcnas.search.run_file import StoredRun


@dataclass(frozen=True)
class Curves:
    """One run with its evaluations, in their order: arrays of shape (evaluations,)."""

    name: str
    folder: Path
    stored: StoredRun
    ids: np.ndarray
    fitness: np.ndarray
    parameters: np.ndarray
    cost: np.ndarray  # by the objective of the search: parameters, unless it weighed another one
    mutated: np.ndarray  # whether it was born by mutation
    spent: np.ndarray  # worker seconds of the whole run at the end of the evaluation

    @classmethod
    def of(cls, folder: Path) -> Curves:
        """Those of the run in a folder; ends the tool where there is none."""
        stored = toolkit.load(folder)
        population = stored.population
        ids = population.evaluated
        return cls(
            name=folder.resolve().name,
            folder=folder,
            stored=stored,
            ids=ids,
            fitness=population.column("fitness")[ids],
            parameters=population.column("parameters")[ids],
            cost=_costs(stored),
            mutated=population.column("birth")[ids] == Birth.MUTATION,
            spent=worker_time.Attempts.of(population).spent(_latest(population.column("finished")[ids])),
        )

    @property
    def objective(self) -> str:
        """What the cost is."""
        return _objective(self.stored)

    @property
    def step(self) -> np.ndarray:
        """Evolution steps: places in the order of evaluations, from 1."""
        return np.arange(1, len(self.ids) + 1)

    @property
    def best(self) -> np.ndarray:
        """Best fitness at each step; lower than before only where a search averages and the best was measured again."""
        population = self.stored.population
        return population.column("fitness")[population.bests]

    @property
    def front(self) -> np.ndarray:
        """Places in the arrays of those that are fitter than all that cost as much or less, the cheapest first."""
        order = np.lexsort((self.step, -self.fitness, self.cost))
        order = order[np.isin(self.ids[order], self.stored.population.competing(len(self.ids)))]
        best_before = np.concatenate([[-np.inf], np.maximum.accumulate(self.fitness[order])[:-1]])
        return order[self.fitness[order] > best_before]


def _latest(finished: np.ndarray) -> np.ndarray:
    """The latest of each and those before it; where a repair has left no time, that of those before."""
    return np.nan_to_num(np.fmax.accumulate(finished), nan=0.0)


def _objective(stored: StoredRun) -> str:
    search = stored.config.search
    return search.objective if search.strategy == "nsga2" else "parameters"


def _costs(stored: StoredRun) -> np.ndarray:
    """Of the evaluated individuals, in the order of their evaluation."""
    population, objective = stored.population, _objective(stored)
    if objective == "parameters":
        return population.column("parameters")[population.evaluated]
    cost = objectives.cost(objective, sizing(stored.config, stored.sessions[0].facts))
    return np.array([cost(population, id) for id in population.evaluated.tolist()])


def of_runs(folders: Sequence[Path]) -> list[Curves]:
    """Those of the runs in which anything was evaluated; says which are left out, and ends the tool if all are."""
    found = [Curves.of(folder) for folder in folders]
    if len({run.name for run in found}) < len(found):
        found = [replace(run, name=str(folder)) for run, folder in zip(found, folders, strict=True)]
    for folder in (folder for folder, run in zip(folders, found, strict=True) if not len(run.ids)):
        print(f"{folder}: no individual has been evaluated yet: left out", file=sys.stderr)
    if not any(len(run.ids) for run in found):
        toolkit.fail("there is nothing to draw")
    return [run for run in found if len(run.ids)]
