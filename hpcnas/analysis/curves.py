"""How runs went, evaluation by evaluation: what `plot`, `compare` and `report` show. Draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpcnas.analysis import runs, worker_time
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config.measures import FitnessMeasure
from hpcnas.evolution import objectives
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.registry import sizing
from hpcnas.messages import Failure, FailureKind
from hpcnas.search.run_file import StoredRun


@dataclass(frozen=True)
class Curves:
    """One run with its evaluations, in their order. Arrays have the shape (evaluations,)."""

    name: str
    folder: Path
    stored: StoredRun
    ids: np.ndarray
    fitness: np.ndarray  # of accuracy, from 0 to 1
    parameters: np.ndarray  # of the small network
    cost: np.ndarray  # by the objective of the search: parameters, unless it weighed another one
    mutated: np.ndarray  # whether it was born by mutation
    confirming: np.ndarray  # whether it is one of the best, trained again
    spent: np.ndarray  # worker seconds of the whole run at the end of the evaluation

    @classmethod
    def of(cls, folder: Path) -> Curves:
        """Those of the run in a folder, which may be under way. Raises AnalysisError where there is none."""
        stored = runs.load(folder)
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
            confirming=population.column("birth")[ids] == Birth.CONFIRMATION,
            spent=worker_time.Attempts.of(population).spent(latest(population.column("finished")[ids])),
        )

    @property
    def objective(self) -> str:
        """What the cost is: a name that `--objective` takes."""
        return _objective(self.stored)

    @property
    def measure(self) -> FitnessMeasure:
        """What the fitness is."""
        return self.stored.config.measure

    @property
    def evaluations(self) -> int:
        """How many there are."""
        return len(self.ids)

    @property
    def step(self) -> np.ndarray:
        """Evolution steps: places in the order of evaluations, from 1, of shape (evaluations,)."""
        return np.arange(1, len(self.ids) + 1)

    @property
    def best(self) -> np.ndarray:
        """Best measured fitness at each step, of shape (evaluations,); lower than before only where the best was
        measured again, because a search averages or by confirming."""
        population = self.stored.population
        return population.column("fitness")[population.bests]

    @property
    def front(self) -> np.ndarray:
        """The Pareto front: places in the arrays of those that are fitter than all that cost as much or less, the
        cheapest first, of shape (members,)."""
        order = np.lexsort((self.step, -self.fitness, self.cost))
        order = order[np.isin(self.ids[order], self.stored.population.competing(len(self.ids)))]
        best_before = np.concatenate([[-np.inf], np.maximum.accumulate(self.fitness[order])[:-1]])
        return order[self.fitness[order] > best_before]


def latest(finished: np.ndarray) -> np.ndarray:
    """The latest of each and those before it, of the same shape; where a repair has left no time, that of those
    before."""
    return np.nan_to_num(np.fmax.accumulate(finished), nan=0.0)


def _objective(stored: StoredRun) -> str:
    search = stored.config.search
    weighed = search.strategy == "nsga2" and objectives.is_known(search.objective)  # else a plugin's that is not loaded
    return search.objective if weighed else "parameters"


def _costs(stored: StoredRun) -> np.ndarray:
    """Of the evaluated individuals by the objective of the search, in the order of their evaluation."""
    population, objective = stored.population, _objective(stored)
    if objective == "parameters":
        return population.column("parameters")[population.evaluated]
    cost = objectives.cost(objective, sizing(stored.config, stored.sessions[0].facts))
    return np.array([cost(population, id) for id in population.evaluated.tolist()])


def of_runs(folders: Sequence[Path]) -> list[Curves]:
    """Those of the runs in these folders, also of runs without an evaluation. Runs of one name are called by their
    paths. Raises AnalysisError where a folder holds no run."""
    found = [Curves.of(folder) for folder in folders]
    if len({run.name for run in found}) < len(found):
        found = [replace(run, name=str(run.folder)) for run in found]
    return found


def require_evaluations(found: Sequence[Curves]) -> list[Curves]:
    """The runs in which anything has been evaluated. Raises AnalysisError where there is none."""
    if not any(len(run.ids) for run in found):
        raise AnalysisError("there is nothing to draw")
    return [run for run in found if len(run.ids)]


class HasMeasure(Protocol):
    """A run by its name, and what its fitness is."""

    @property
    def name(self) -> str: ...

    @property
    def measure(self) -> FitnessMeasure: ...


def one_measure(found: Sequence[HasMeasure]) -> FitnessMeasure:
    """What the fitness of all these runs is, one at least. Raises AnalysisError where they differ."""
    names = {run.measure.name: run for run in found}
    if len(names) > 1:
        told = ", ".join(f"{name} ({run.name})" for name, run in names.items())
        raise AnalysisError(f"expected runs whose fitness is of one measure, got {told}")
    return found[0].measure


def failures(stored: StoredRun) -> list[tuple[float, FailureKind]]:
    """When attempts failed, in hours since the first session began, and how."""
    start = stored.sessions[0].started if stored.sessions else 0.0
    attempts = [(attempt.finished, attempt.outcome) for attempt in stored.population.failed_attempts]
    return [((end - start) / 3600, failure.kind) for end, failure in attempts if isinstance(failure, Failure)]


def numbers(run: Curves) -> dict[str, Any]:
    """What the pictures of `plot` show of a run, as JSON has it: fitness of that measure, times in hours since the
    first session began."""
    hours, busy, present = worker_time.occupancy(run.stored)
    return {
        "run": run.name,
        "individual": run.ids,
        "measure": run.measure.name,
        "fitness": run.fitness,
        "best_fitness": run.best,
        "parameters": run.parameters,
        "objective": run.objective,
        "cost": run.cost,
        "pareto_front": run.ids[run.front],
        "hours": hours,
        "busy_workers": busy,
        "workers": present,
        "failures": [{"hours": hour, "kind": kind.name.lower()} for hour, kind in failures(run.stored)],
    }
