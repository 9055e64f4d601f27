"""How a search stands, for the head of its page: counts, pace, the best, what failed, its sessions and settings."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hpcnas.analysis import snapshot, summary, worker_time
from hpcnas.analysis.job_state import modified
from hpcnas.dashboard import points, selection
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.selection import Query
from hpcnas.evolution.budget import evaluations_left
from hpcnas.evolution.individuals import Birth, State
from hpcnas.evolution.population import Population
from hpcnas.job import terminal
from hpcnas.search.progress import confirmed, expected

BEST, RECENT = 10, 10  # individuals that are listed


def state(run: FollowedSearch, query: Query) -> dict[str, Any]:
    """Everything that the head shows and the filters need. Times are in seconds since 1970, durations in seconds."""
    stored, population, search = run.stored, run.stored.population, run.stored.config.search
    sessions, busy = run.lately("sessions", lambda: _sessions(run))
    return row(run) | {
        "version": run.version,
        "run": stored.run,
        "trainings": population.trainings,
        "trainings_limit": search.trainings,
        "stopped": population.stopped,
        "confirmations": population.confirmations,
        "said": [*expected(population), *confirmed(population)] if len(population.evaluated) else [],
        "sessions": sessions,
        "busy_share": busy,
        "bests": run.lately("bests", lambda: _listed(run, _fittest(run))),
        "recent": points.table(run, population.evaluated[-1 : -1 - RECENT : -1].copy()),
        "failures": [
            one | {"last": terminal.one_line(str(one["last"]))} for one in summary.failures_by_kind(population)
        ],
        "settings": stored.config.settings(),
        "has": {
            "predictions": search.strategy == "guided",
            "rungs": bool(population.rungs),
            "objective": None if points.objective_of(run) == "parameters" else points.objective_of(run),
        },
        "filters": run.lately("filters", lambda: _filters(run)),
    }


def _sessions(run: FollowedSearch) -> tuple[list[dict[str, Any]], float | None]:
    """Each session, and the share of time in which workers had something to do."""
    accounts = worker_time.accounts(run.stored)
    told = [
        {
            "started": account.started,
            "seconds": account.ended - account.started,
            "host": terminal.one_line(session.host),
            "workers": account.workers,
            "evaluated": account.evaluated,
            "busy_share": worker_time.busy_share([account]),
            "hpcnas": terminal.one_line(session.software.get("hpcnas", "?")),
        }
        for session, account in zip(run.stored.sessions, accounts, strict=True)
    ]
    return told, worker_time.busy_share(accounts)


def row(run: FollowedSearch) -> dict[str, Any]:
    """What the overview has of a search."""
    stored, population = run.stored, run.stored.population
    measure, best = stored.config.measure, points.best_of(run)
    left = evaluations_left(stored.config.search, population)
    rate = _pace(run)
    return {
        "name": terminal.one_line(run.folder.resolve().name),
        "path": terminal.one_line(str(run.folder)),
        "state": run.state,
        "running": run.running,
        "time": time.time(),
        "done": population.searched + population.stopped,
        "total": population.searched + population.stopped + left,
        "evaluated": population.searched,
        "budget": stored.config.search.budget,
        "left": left,
        "failed": len(population.failures),
        "in_flight": population.in_flight,
        "best": None if best is None else float(population.column("fitness")[best]),
        "best_id": best,
        "best_parameters": None if best is None else int(population.column("parameters")[best]),
        "measure": {
            "name": measure.name, "words": measure.words, "remark": measure.remark, "percent": measure.percent,
        },
        "strategy": stored.config.search.strategy,
        "hours": run.lately("worker hours", lambda: worker_time.Attempts.of(population).seconds() / 3600),
        "rate": rate,
        "remaining": left / rate if rate else None,
        "began": stored.sessions[-1].started if stored.sessions else None,
        "modified": max(modified(run.folder / name) for name in ("population.h5", "journal", "status")),
        "problems": [terminal.one_line(problem) for problem in run.problems],
    }  # fmt: skip


def _pace(run: FollowedSearch) -> float | None:
    """Individuals a second, lately."""
    now = time.time() if run.running else None
    return run.lately("pace", lambda: snapshot.throughput(run.stored, now))


def _fittest(run: FollowedSearch) -> np.ndarray:
    """Ids of the best, the result first, then by fitness: of as many as a table has room for."""
    population, best = run.stored.population, points.best_of(run)
    ids = population.competing(len(population.evaluated))
    fitness = np.nan_to_num(population.column("fitness")[ids], nan=-np.inf)
    if len(ids) > 4 * BEST:
        kept = np.argpartition(-fitness, 4 * BEST)[: 4 * BEST]
        ids, fitness = ids[kept], fitness[kept]
    order = ids[np.lexsort((ids, -fitness))]
    first = [] if best is None else [best]
    return np.array([*first, *order[order != best][: BEST - len(first)].tolist()], dtype=np.int64)


def _listed(run: FollowedSearch, ids: np.ndarray) -> list[dict[str, Any]]:
    """Rows of these individuals, with how many mutations led to each and what the strategy expects of it."""
    population = run.stored.population
    expected = population.expected()
    rows = points.table(run, ids)
    for one in rows:
        if one["id"] not in run.mutations:
            run.mutations[one["id"]] = _mutations(population, one["id"])
        one["mutations"] = run.mutations[one["id"]]
        one["expected"] = expected.get(one["id"])
    return rows


def _mutations(population: Population, id: int) -> int:
    """How many mutations led to an individual."""
    parents, births, count = population.column("parent"), population.column("birth"), 0
    while id >= 0:
        count += births.item(id) == Birth.MUTATION
        id = parents.item(id)
    return count


def _filters(run: FollowedSearch) -> dict[str, Any]:
    """What there is to filter by."""
    population = run.stored.population
    return {
        "births": [Birth(code).name for code in np.unique(population.column("birth")).tolist()],
        "states": [State(code).name for code in np.unique(population.column("state")).tolist()],
        "hosts": selection.host_names(run),
        "parameters": _range(population.column("parameters").astype(float), 0),
        "fitness": _range(population.column("fitness"), -np.inf),
        "hours": _range(selection.hours(run), -np.inf),
        "steps": len(population.evaluated),
        "individuals": len(population),
    }


def _range(values: np.ndarray, least: float) -> list[float] | None:
    known = values[np.isfinite(values) & (values >= least)]
    return [float(known.min()), float(known.max())] if len(known) else None
