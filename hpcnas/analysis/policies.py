"""How far ways to search come with as many trainings, by whole simulated searches in the synthetic landscape.

A policy is a name and options of a search. What counts is the fitness without noise of the individual that the search
would return at that point (`Population.best`). Intervals are of 95 % confidence for the median over the seeds,
from the order of the seeds alone (a binomial count): nothing is assumed of how they are distributed. Draws nothing.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.expansion import expand
from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.population import Population
from hpcnas.search import landscape, simulation
from hpcnas.search.controller import SearchStopped
from hpcnas.search.initial import looked_up

POLICIES = {
    "paper": "--preset paper",
    "random": "--preset paper --strategy random",
    "aging": "--preset paper --strategy aging",
    "resample": "--preset paper --duplicates resample",
    "racing": "--preset paper --racing --scheduling replicate",
    "average": "--preset paper --duplicates average",
    "one": "--preset paper --duplicates resample --replicates 1",
    "efficient": "--preset efficient",
}
POINTS = 200  # of a curve


@dataclass(frozen=True)
class SimulatedSearch:
    """One search: the fitness without noise of what it would have returned after each of equal parts of its trainings,
    and what it did in all."""

    fitness: list[float]
    evaluations: int
    trainings: float


@dataclass(frozen=True)
class Policy:
    """A way to search, and how its searches went: fitness without noise, of shape (seeds, points), after the first of
    POINTS equal parts of the trainings, and what a search was in the mean."""

    name: str
    options: str
    fitness: np.ndarray
    evaluations: float
    trainings_each: float

    @classmethod
    def of(cls, name: str, options: str, searches: Sequence[SimulatedSearch]) -> Policy:
        """That of its searches, one a seed."""
        return cls(
            name,
            options,
            np.array([one.fitness for one in searches]),
            float(np.mean([one.evaluations for one in searches])),
            float(np.mean([one.trainings / one.evaluations for one in searches])),
        )

    def band(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Median over the seeds and both ends of its interval, each of shape (points,)."""
        ordered = np.sort(self.fitness, axis=0)
        place = interval_place(len(ordered))
        return np.median(ordered, axis=0), ordered[place], ordered[-1 - place]


def interval_place(count: int) -> int:
    """The place k such that the median lies between the values of places k and count − 1 − k (ascending, from 0) with a
    confidence of 95 % or, where so few cannot give that, as much as they can."""
    below, place = 0.5**count, 0
    while below + math.comb(count, place + 1) * 0.5**count <= 0.025:
        place += 1
        below += math.comb(count, place) * 0.5**count
    return place


def named(text: str) -> tuple[str, str]:
    """Name and options of a policy, of which POLICIES has some: NAME or NAME=OPTIONS. Raises AnalysisError for another
    name."""
    name, _, how = text.partition("=")
    how = how or POLICIES.get(name, "")
    if not how:
        raise AnalysisError(f"expected a policy ({', '.join(POLICIES)}) or NAME='OPTIONS', got {text!r}")
    return name, how


def settings(how: str, seed: int, trainings: int) -> SearchConfig:
    """The configuration of a simulated search with these options. Raises AnalysisError where they are wrong."""
    try:
        request = options.parse(shlex.split(how))
        limited: dict[str, object] = {"seed": seed, "trainings": trainings, "budget": trainings}
        fixed = {"evaluator": "synthetic", "synthetic_seconds": 3600.0, "synthetic_spread": 0.2}
        chosen = search_config.build(*request.base, *request.layers, {"search": limited, "evaluation": fixed})
        if chosen.search.early_stopping:  # so many trainings are enough for more individuals
            most = {"budget": math.ceil(trainings / chosen.training.rungs[0])}
            chosen = search_config.build(
                *request.base, *request.layers, {"search": limited | most, "evaluation": fixed}
            )
        return looked_up(chosen)
    except (ConfigError, options.UsageError, options.HelpWanted, ValueError) as error:  # a quotation without an end
        raise AnalysisError(f"{how}: {error}") from error


def simulate(chosen: SearchConfig, workers: int, points: int) -> SimulatedSearch:
    """How a search with a limit of trainings goes, at so many equal parts of them. Raises AnalysisError where it stops
    before that limit."""
    limit = chosen.search.trainings
    assert limit is not None, "`settings` sets it"
    try:
        store = simulation.Noting(chosen)
        site = simulation.Site(workers, startup=60.0, queue=0.0, handling=simulation.HANDLING)
        simulation.searched(chosen, site, store=store)
    except (ConfigError, SearchStopped) as error:
        raise AnalysisError(
            f"expected a search that goes on until its trainings are spent, but it would stop: {error}"
        ) from error
    population = store.population
    spent, fitness = returned(population, store.results)
    grid = limit * np.arange(1, points + 1) / points
    at = np.maximum(np.searchsorted(spent, grid, side="right") - 1, 0)
    evaluations = len(population.evaluated) + population.stopped
    return SimulatedSearch(fitness[at].tolist(), evaluations, population.trainings)


def returned(population: Population, results: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Trainings spent whenever another individual became the result, and its fitness without noise: two arrays of shape
    (changes of the best,). `results` are the best individuals after each evaluation."""
    ids = population.evaluated
    spent = np.cumsum(population.column("replicates_trained")[ids], dtype=np.int64)
    spent = spent + population.sums_of_stopped(population.ended_shares)
    best = np.array(results)
    places = np.flatnonzero(np.concatenate([[True], best[1:] != best[:-1]]))
    genotypes = [population.individual(int(best[place])).genotype for place in places]
    return spent[places], np.array([landscape.true_fitness(expand(genotype)) for genotype in genotypes])


def reached(curve: np.ndarray, goal: float, part: float) -> float | None:
    """After how many trainings, `part` from point to point, a curve of shape (points,) is as high as the goal and stays
    so; None where it is not in the end."""
    below = np.flatnonzero(curve < goal)
    if len(below) and below[-1] == len(curve) - 1:
        return None
    return part * float(below[-1] + 2 if len(below) else 1)


def numbers(policies: Sequence[Policy], trainings: int) -> dict[str, Any]:
    """What the table and the picture show, as JSON has it. Fitness from 0 to 1."""
    goal = float(policies[0].band()[0][-1])
    found = []
    for policy in policies:
        median, low, high = policy.band()
        needed = [reached(curve, goal, trainings / POINTS) for curve in (median, high, low)]
        found.append(
            {
                "policy": policy.name,
                "options": policy.options,
                "seeds": len(policy.fitness),
                "evaluations": policy.evaluations,
                "trainings_each": policy.trainings_each,
                "trainings_to_goal": needed[0],
                "trainings_to_goal_interval": needed[1:],
                "median": median,
                "low": low,
                "high": high,
            }
        )
    return {"trainings": trainings, "goal": goal, "policies": found}
