"""Individuals of a search as points of a picture and as rows of a table.

Of more than a page can draw a sample is given, in which the best are always; every row is in the table.
Nothing here takes a step in Python for each individual of the search.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import selection
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.selection import Query
from hpcnas.evolution import objectives
from hpcnas.evolution.individuals import Birth, State
from hpcnas.job import terminal
from hpcnas.messages import FailureKind

MOST_POINTS = 20_000
MOST_ROWS = 1_000
LEADERS = 50  # of the highest fitness, which are always among the points
COLUMNS = (
    "id", "step", "birth", "state", "parent", "fitness", "std", "parameters", "seconds", "hours", "host", "rank",
    "trainings", "attempts", "failure",
)  # fmt: skip


def points(run: FollowedSearch, query: Query) -> dict[str, Any]:
    """What the pictures of the course of a search show."""
    limit = selection.whole(query, "limit", 10, MOST_POINTS, 4_000)
    population = run.stored.population
    ids = selection.chosen(run, query)
    fitness, objective = population.column("fitness"), objective_of(run)
    improvements, front = _improvements(run), _front(run)
    shown = selection.sampled(ids, limit, np.union1d(np.union1d(improvements, front), _leaders(run)))
    hosts, of_hosts = selection.hosts(run, shown)
    return {
        "version": run.version,
        "total": len(population),
        "matching": len(ids),
        "shown": len(shown),
        "best_id": best_of(run),
        "objective": objective,
        "objective_words": objectives.words(objective),
        "births": [item.name for item in Birth],
        "states": [item.name for item in State],
        "hosts": hosts,
        "points": {
            "id": shown,
            "step": selection.steps(run)[shown],
            "fitness": fitness[shown],
            "parameters": _known(population.column("parameters")[shown]),
            "cost": cost_of(run)[shown],
            "hours": selection.hours(run)[shown],
            "seconds": population.column("worker_seconds")[shown],
            "birth": population.column("birth")[shown].astype(int) - 1,
            "state": population.column("state")[shown].astype(int) - 1,
            "host": of_hosts,
        },
        "best": {
            "id": improvements,
            "step": selection.steps(run)[improvements],
            "fitness": fitness[improvements],
            "last_step": len(population.evaluated),
        },
        "front": {"id": front, "cost": cost_of(run)[front], "fitness": fitness[front]},
    }


def rows(run: FollowedSearch, query: Query) -> dict[str, Any]:
    """Individuals as rows, sorted by a column and one page at a time."""
    offset = selection.whole(query, "offset", 0, 1 << 40, 0)
    limit = selection.whole(query, "limit", 1, MOST_ROWS, 50)
    ids = _sorted(run, query, selection.chosen(run, query))
    return {
        "version": run.version,
        "total": len(run.stored.population),
        "matching": len(ids),
        "offset": offset,
        "rows": table(run, ids[offset : offset + limit]),
    }


def table(run: FollowedSearch, ids: np.ndarray) -> list[dict[str, Any]]:
    """A row for each of these ids; what there is not is None."""
    population = run.stored.population
    hosts, of_hosts = selection.hosts(run, ids)
    trained = population.column("replicates_trained")[ids].astype(int)
    columns: dict[str, list[Any]] = {
        "id": ids.tolist(),
        "step": _or_none(selection.steps(run)[ids], 1),
        "birth": [Birth(code).name for code in population.column("birth")[ids].tolist()],
        "state": [State(code).name for code in population.column("state")[ids].tolist()],
        "parent": _or_none(population.column("parent")[ids], 0),
        "fitness": _numbers(population.column("fitness")[ids]),
        "std": _numbers(_spread(population.column("accuracies")[ids], trained)),
        "parameters": _or_none(population.column("parameters")[ids], 0),
        "seconds": _numbers(population.column("worker_seconds")[ids]),
        "hours": _numbers(selection.hours(run)[ids]),
        "host": [hosts[code] if code >= 0 else None for code in of_hosts.tolist()],
        "rank": _or_none(population.column("rank")[ids], 0),
        "trainings": trained.tolist(),
        "attempts": population.column("attempts")[ids].tolist(),
        "failure": [FailureKind(code).name if code else None for code in population.column("failure")[ids].tolist()],
    }
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(columns[name] for name in COLUMNS), strict=True)]


def objective_of(run: FollowedSearch) -> str:
    """What the cost of `cost_of` is: the objective of a search that weighs one which is a column, else parameters."""
    search = run.stored.config.search
    measured = run.stored.population.weighed or search.objective in ("training-seconds", "validation-seconds")
    return search.objective if search.strategy == "nsga2" and measured else "parameters"


def cost_of(run: FollowedSearch) -> np.ndarray:
    """Cost of each individual by `objective_of`, NaN where it is not known: float64 (individuals,)."""
    objective, population = objective_of(run), run.stored.population

    def made() -> np.ndarray:
        if objective == "parameters":
            return _known(population.column("parameters"))
        if objective in ("training-seconds", "validation-seconds"):
            trained = np.maximum(population.column("replicates_trained"), 1)
            return population.column(objective.replace("-", "_")) / trained
        return population.column("objective")

    return run.cached("cost", made)


def best_of(run: FollowedSearch) -> int | None:
    """The result of the search by now (`Population.best`), which of `guided` takes a model."""
    return run.lately("best", lambda: run.stored.population.best)


def _improvements(run: FollowedSearch) -> np.ndarray:
    """The best as measured, each time that it became another one: ids in the order of steps."""

    def made() -> np.ndarray:
        bests = run.stored.population.bests
        return bests[np.flatnonzero(np.diff(bests, prepend=-1))]

    return run.lately("improvements", made)


def _leaders(run: FollowedSearch) -> np.ndarray:
    def made() -> np.ndarray:
        ids = run.stored.population.evaluated
        fitness = run.stored.population.column("fitness")[ids]
        return ids[np.argpartition(-fitness, LEADERS)[:LEADERS]] if len(ids) > LEADERS else ids

    return run.lately("leaders", made)


def _front(run: FollowedSearch) -> np.ndarray:
    """Ids of those that are fitter than all that cost as much or less, the cheapest first."""

    def made() -> np.ndarray:
        population = run.stored.population
        ids = population.competing(len(population.evaluated))
        fitness, cost = population.column("fitness")[ids], cost_of(run)[ids]
        known = np.isfinite(cost) & ~np.isnan(fitness)
        ids, fitness, cost = ids[known], fitness[known], cost[known]
        order = np.lexsort((selection.steps(run)[ids], -fitness, cost))
        before = np.concatenate([[-np.inf], np.maximum.accumulate(fitness[order])[:-1]]) if len(ids) else fitness
        return ids[order[fitness[order] > before]]

    return run.lately("front", made)


def _sorted(run: FollowedSearch, query: Query, ids: np.ndarray) -> np.ndarray:
    """In the order that a query asks for; those without a value come last. Raises AnalysisError."""
    name, order = selection.one(query, "sort", "id"), selection.one(query, "order", "asc")
    if order not in ("asc", "desc"):
        raise AnalysisError(f"order: expected asc or desc, got {terminal.one_line(order)[:60]}")
    population = run.stored.population
    if name == "id":
        return ids if order == "asc" else ids[::-1]
    if name == "std":
        values = _spread(population.column("accuracies")[ids], population.column("replicates_trained")[ids])
    elif name == "host":
        names, codes = selection.hosts(run, ids)
        values = np.array([*np.argsort(np.argsort(names)), -1])[codes]
    elif name in ("step", "hours"):
        values = (selection.steps if name == "step" else selection.hours)(run)[ids]
    elif name in COLUMNS:
        stored = {"seconds": "worker_seconds", "trainings": "replicates_trained"}.get(name, name)
        values = population.column(stored)[ids]
    else:
        raise AnalysisError(f"sort: expected one of {', '.join(COLUMNS)}, got {terminal.one_line(name)[:60]}")
    values = values.astype(float)
    least = {"step": 1, "failure": 1}.get(name, -np.inf if name in ("fitness", "std", "hours") else 0)
    values[values < least] = np.nan
    keys = np.nan_to_num(values if order == "asc" else -values, nan=np.inf)
    return ids[np.argsort(keys, kind="stable")]


def _spread(accuracies: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Standard deviation of each row's accuracies (n, replicates), NaN of fewer than two: float64 (n,)."""
    found = np.full(len(accuracies), np.nan)
    several = trained > 1
    found[several] = np.nanstd(accuracies[several], axis=1, ddof=1)
    return found


def _known(parameters: np.ndarray) -> np.ndarray:
    return np.where(parameters >= 0, parameters, np.nan)


def _or_none(values: np.ndarray, least: int) -> list[int | None]:
    return [value if value >= least else None for value in values.tolist()]


def _numbers(values: np.ndarray) -> list[float | None]:
    return [value if value == value else None for value in values.tolist()]
