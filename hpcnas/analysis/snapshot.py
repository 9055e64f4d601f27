"""A run at one moment, as its files have it: counts, pace, the best, and every worker. Takes no lock, changes nothing.

Workers are known by their results alone: while there is work for all of them, each has been at work since its last
result. Which individual it has is not recorded.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcnas.analysis import job_state
from hpcnas.analysis.worker_time import repeated_attempts
from hpcnas.config.measures import FitnessMeasure
from hpcnas.evolution.budget import evaluations_left
from hpcnas.evolution.individuals import State
from hpcnas.messages import Evaluation, Result
from hpcnas.search.recovery import salvage
from hpcnas.search.run_file import StoredRun

ROUNDS = 4  # of evaluations by all workers, over which throughput is measured


@dataclass(frozen=True)
class WorkerStatus:
    """A worker, by its results of the present session. `since` is the end of the last one, or the session's start, in
    seconds since 1970; `typical` the median duration of its evaluations in seconds."""

    rank: int
    host: str
    device: str
    state: str
    since: float
    typical: float | None
    evaluated: int
    stopped: int  # early
    failed: int
    last: int | None  # individual of its last result
    last_fitness: float | None
    last_stopped: bool  # early


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment. Times are in seconds since 1970, durations in seconds."""

    run: str
    time: float
    state: str
    running: bool
    evaluated: int
    stopped: int  # early: with those that are evaluated what is done of the budget
    budget: int
    left: int  # individuals to come: an estimate where the trainings are limited
    trainings: float
    trainings_limit: int | None
    failed: int
    in_flight: int
    sessions: int
    began: float | None
    rate: float | None  # individuals evaluated or stopped early a second, lately
    remaining: float | None
    measure: FitnessMeasure  # what the fitness is
    best: dict[str, Any] | None
    course: list[float]  # best measured fitness after each evaluation
    workers: list[WorkerStatus]
    flying: list[tuple[int, float]]  # individuals in flight, and for how long at most
    recent: list[dict[str, Any]]
    failures: list[str]
    problems: list[str]


def look(folder: Path, now: float) -> Snapshot:
    """The run in a folder at the time `now`, in seconds since 1970. Raises StoreError where it cannot be read."""
    run, problems = salvage(folder)
    population, search = run.population, run.config.search
    left = evaluations_left(search, population)
    began = run.sessions[-1].started if run.sessions else None
    state, running = job_state.of_search(folder, run, now)
    found = workers(run, running)
    rate = throughput(run, now if running else None)
    born = population.column("born")
    return Snapshot(
        run=str(folder),
        time=now,
        state=state,
        running=running,
        evaluated=population.searched,
        stopped=population.stopped,
        budget=search.budget,
        left=left,
        trainings=population.trainings,
        trainings_limit=search.trainings,
        failed=len(population.failures),
        in_flight=population.in_flight,
        sessions=len(run.sessions),
        began=began,
        rate=rate,
        remaining=left / rate if rate else None,
        measure=run.config.measure,
        best=None if population.best is None else individual(run, population.best),
        course=population.column("fitness")[population.bests].tolist(),
        workers=found,
        flying=[(id, max(0.0, now - max(born[id], began or 0.0))) for id in population.issued],
        recent=[individual(run, int(id)) for id in population.evaluated[:-6:-1]],
        failures=[str(attempt) for attempt in population.failed_attempts[:-4:-1]],
        problems=problems,
    )


def individual(run: StoredRun, id: int) -> dict[str, Any]:
    """What is known of an evaluated individual; in seconds."""
    population, result = run.population, run.population.result(id)
    assert isinstance(result.outcome, Evaluation), "evaluated"
    parent = population.individual(id).parent
    accuracies, fitness = population.averaged_accuracies(id), population.column("fitness")
    return {
        "id": id,
        "fitness": float(fitness[id]),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "parameters": result.outcome.parameters,
        "parent": parent,
        "gain": None if parent is None else float(fitness[id] - fitness[parent]),
        "seconds": result.finished - result.started,
        "finished": result.finished,
        "rank": result.place.rank,
    }


def workers(run: StoredRun, running: bool) -> list[WorkerStatus]:
    """Those of the last session, in the order of their ranks."""
    if not run.sessions:
        return []
    session = run.sessions[-1]
    first = 0 if session.software.get("mpi") == "none" else 1  # alone, controller and worker are one process
    ended = dict.fromkeys(range(first, session.ranks + first - 1)) | _ended(run)
    since = {rank: its.since if its else session.started for rank, its in sorted(ended.items())}
    states = _states(run, since) if running else dict.fromkeys(since, "-")
    return [_worker(run, rank, ended[rank], states[rank], since[rank]) for rank in since]


@dataclass(frozen=True)
class _Ended:
    """What has ended on one worker in the last session: individuals, and failed attempts that were repeated."""

    since: float  # end of the last of them
    typical: float | None
    counts: dict[int, int]  # by State: such an attempt has FAILED
    last: Result
    state: State  # of the last


def _ended(run: StoredRun) -> dict[int, _Ended]:
    """By rank, those that have ended something."""
    population, since = run.population, run.sessions[-1].started
    whole = population.column("state") != State.ISSUED  # some replicates of the others may be trained
    rows = np.flatnonzero((population.column("finished") >= since) & whole)
    again = [one for one in repeated_attempts(population) if one.finished >= since]
    rank, started, finished, state = (
        np.concatenate([population.column(name)[rows], np.array(more, population.column(name).dtype)])
        for name, more in (
            ("rank", [one.place.rank for one in again]),
            ("started", [one.started for one in again]),
            ("finished", [one.finished for one in again]),
            ("state", [State.FAILED] * len(again)),
        )
    )
    narrow = rank.astype(np.uint16) if not len(rank) or 0 <= rank.min() <= rank.max() < 1 << 16 else rank
    order = np.argsort(narrow, kind="stable")  # at once, of so few bits
    ranks, first = np.unique(rank[order], return_index=True)
    found = {}
    for number, places in zip(ranks.tolist(), np.split(order, first[1:]), strict=False):
        last = int(places[len(places) - 1 - np.argmax(finished[places][::-1])])
        evaluated = places[state[places] == State.EVALUATED]
        counts = np.bincount(state[places], minlength=max(State) + 1)
        found[number] = _Ended(
            since=float(finished[last]),
            typical=float(np.median(finished[evaluated] - started[evaluated])) if len(evaluated) else None,
            counts=dict(enumerate(counts.tolist())),
            last=population.result(int(rows[last])) if last < len(rows) else again[last - len(rows)],
            state=State(int(state[last])),
        )
    return found


def _states(run: StoredRun, since: dict[int, float]) -> dict[int, str]:
    """What each worker is doing: all are at work as long as there is work for all of them; where there is less, a guess
    at which have none."""
    population, search, count = run.population, run.config.search, run.population.in_flight
    if count >= len(since):
        return dict.fromkeys(since, "at work")
    limit = search.trainings  # of which each in flight takes one more at least
    spent = population.searched + population.stopped + count >= search.budget
    spent |= limit is not None and population.trainings + count >= limit
    # nothing left to issue: those whose results came last got nothing; else those that are silent longest are gone
    ranked = sorted(since, key=lambda rank: since[rank], reverse=not spent)
    without = "idle?" if spent else "silent?"
    return {rank: ("at work?" if place < count else without) for place, rank in enumerate(ranked)}


def _worker(run: StoredRun, rank: int, ended: _Ended | None, state: str, since: float) -> WorkerStatus:
    last = ended.last if ended else None
    measured = last is not None and ended is not None and ended.state is State.EVALUATED
    return WorkerStatus(
        rank=rank,
        host=last.place.host if last else "",
        device=last.place.device if last else "",
        state=state,
        since=since,
        typical=ended.typical if ended else None,
        evaluated=ended.counts[State.EVALUATED] if ended else 0,
        stopped=ended.counts[State.STOPPED] if ended else 0,
        failed=ended.counts[State.FAILED] if ended else 0,
        last=last.individual if last else None,
        last_fitness=float(run.population.column("fitness")[last.individual]) if last and measured else None,
        last_stopped=ended is not None and ended.state is State.STOPPED,
    )


def throughput(run: StoredRun, now: float | None) -> float | None:
    """Individuals that were evaluated or stopped early a second, over the last ROUNDS rounds of the last session, up to
    `now` or else to the last of them. None where there were none."""
    if not run.sessions:
        return None
    session, done = run.sessions[-1], np.isin(run.population.column("state"), (State.EVALUATED, State.STOPPED))
    finished = run.population.column("finished")[done]
    finished = np.sort(finished[finished >= session.started])
    count = min(len(finished), ROUNDS * max(1, session.ranks - 1))
    if count == 0:
        return None
    since = finished[-count - 1] if len(finished) > count else session.started
    elapsed = (finished[-1] if now is None else max(now, finished[-1])) - since
    return float(count / elapsed) if elapsed > 0 else None
