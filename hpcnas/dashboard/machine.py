"""The machine that a search uses, as JSON: workers by host over time, throughput, failures, and every worker now.

    attempts and sessions ─► busy and present workers, in BINS equal parts of the time since the first session began
    results by rank       ─► what each worker of the last session is doing, as far as its results tell

Everything is over columns: of 1,000,000 individuals it takes about a second, and is kept while nothing has changed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcnas.analysis import snapshot, worker_time
from hpcnas.analysis.distinct import distinct
from hpcnas.analysis.snapshot import WorkerStatus
from hpcnas.analysis.worker_time import Attempts
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.selection import Query
from hpcnas.evolution.individuals import State
from hpcnas.evolution.population import Population
from hpcnas.job.terminal import one_line
from hpcnas.messages import Failure
from hpcnas.search import methods
from hpcnas.search.run_file import StoredRun

BINS = 96
MOST_HOSTS = 120  # that have a row of their own: those of most worker time
MOST_DEVICES = 32  # of a host that are named
MOST_WORKERS = 1000
MOST_FAILURES = 500  # the latest
MOST_IN_FLIGHT = 200  # the longest


def machine(run: FollowedSearch, query: Query) -> dict[str, Any]:
    """Workers by host over time. Hours are since the first session began, `since` is in seconds since 1970."""
    return run.lately(f"machine, running {run.running}", lambda: _machine(run.stored, run.running, time.time()))


def _machine(stored: StoredRun, running: bool, now: float) -> dict[str, Any]:
    population = stored.population
    statuses = snapshot.workers(stored, running)
    hours, busy, present = worker_time.occupancy(stored, BINS)
    start = stored.sessions[0].started if stored.sessions else 0.0
    hosts, left_out = _hosts(stored, statuses, start + 3600 * hours)
    there = float(present.sum())
    return {
        "time": now,
        "running": running,
        "hours": np.round(hours, 6),
        "busy": np.round(busy, 3),
        "present": np.round(present, 3),
        "hosts": hosts,
        "hosts_left_out": left_out,
        "throughput": _throughput(population, start, hours),
        "failures": _failures(population, start),
        "failed_attempts": len(population.failed_attempts),
        "workers": [_told(worker) for worker in statuses[:MOST_WORKERS]],
        "worker_count": len(statuses),
        "states": dict(Counter(worker.state for worker in statuses)),
        "in_flight": _in_flight(stored, now),
        "in_flight_count": population.in_flight,
        "queue": max(0, population.in_flight - len(statuses)),
        "busy_share": float(busy.sum()) / there if there > 0 else None,
        "hours_name": worker_time.hours_name(any(one.startswith("cuda") for host in hosts for one in host["devices"])),
        "slower": [one_line(line) for line in methods.summary(stored.workers)],
    }


def _throughput(population: Population, start: float, hours: np.ndarray) -> np.ndarray:
    """Individuals an hour that were evaluated or stopped early, in each bin: float64 (bins,)."""
    done = np.isin(population.column("state"), (State.EVALUATED, State.STOPPED))
    ended = (population.column("finished")[done] - start) / 3600
    count, _ = np.histogram(ended[np.isfinite(ended)], hours)
    return np.round(count / np.diff(hours), 3)


def _failures(population: Population, start: float) -> list[dict[str, Any]]:
    """The latest failed attempts."""
    return [
        {
            "hours": (attempt.finished - start) / 3600,
            "kind": attempt.outcome.kind.name.lower(),
            "host": one_line(attempt.place.host),
            "individual": attempt.individual,
        }
        for attempt in population.failed_attempts[-MOST_FAILURES:]
        if isinstance(attempt.outcome, Failure)
    ]


def _in_flight(stored: StoredRun, now: float) -> list[dict[str, Any]]:
    """Individuals in flight, and for how long at most, in seconds: the longest first."""
    born, began = stored.population.column("born"), stored.sessions[-1].started if stored.sessions else 0.0
    found = [(max(0.0, now - max(float(born[id]), began)), id) for id in stored.population.issued]
    return [{"id": id, "seconds": seconds} for seconds, id in sorted(found, key=lambda one: (-one[0], one[1]))][
        :MOST_IN_FLIGHT
    ]


def _told(worker: WorkerStatus) -> dict[str, Any]:
    return {
        "rank": worker.rank,
        "host": one_line(worker.host),
        "device": one_line(worker.device),
        "state": worker.state,
        "since": worker.since,
        "typical": worker.typical,
        "evaluated": worker.evaluated,
        "stopped": worker.stopped,
        "failed": worker.failed,
        "last": worker.last,
        "last_fitness": worker.last_fitness,
    }


# ── hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _hosts(
    stored: StoredRun, statuses: Sequence[WorkerStatus], edges: np.ndarray
) -> tuple[list[dict[str, Any]], int]:
    """Each host with its mean number of busy workers in each bin, by name, and how many hosts have no row. `edges` are
    in seconds since 1970."""
    population = stored.population
    attempts, again = Attempts.of(population), worker_time.repeated_attempts(population)
    rows = worker_time.trained(population)
    recorded, codes = distinct(population.column("host"))
    names = list(dict.fromkeys([*recorded.tolist(), *(one.place.host.encode() for one in again)]))
    number = {name: place for place, name in enumerate(names)}
    early = np.array([number[one.place.host.encode()] for one in again], dtype=np.int64)
    host = np.concatenate([early, codes[rows]])  # of attempts
    hours = np.bincount(host, attempts.work, len(names)) / 3600
    there = np.flatnonzero(np.bincount(host, minlength=len(names)))  # others have only what is in flight
    shown = sorted(there[np.argsort(-hours[there], kind="stable")[:MOST_HOSTS]].tolist(), key=lambda one: names[one])
    place_of = np.full(len(names), -1)
    place_of[shown] = np.arange(len(shown))
    place = place_of[host]  # of attempts among those that are shown, or −1
    busy = _busy(attempts, place, len(shown), edges)
    now = [one for one in statuses if one.state.startswith("at work") and one.host.encode() in number]
    since = np.array([min(worker.since, float(edges[-1])) for worker in now])
    under_way = Attempts(since, np.full(len(now), edges[-1]), np.zeros(len(now)), edges[-1] - since)
    its = np.array([place_of[number[worker.host.encode()]] for worker in now], dtype=np.int64)
    busy += _busy(under_way, its, len(shown), edges)
    of_rows = place[len(early) :]
    evaluated = _counts(of_rows[population.column("state")[rows] == State.EVALUATED], len(shown))
    failed = Counter(attempt.place.host for attempt in population.failed_attempts)
    devices, workers = _devices(population, rows, of_rows, len(shown)), _workers(stored, attempts, place, len(shown))
    found = [
        {
            "host": one_line(names[one].decode(errors="replace")),
            "devices": devices[row],
            "workers": int(workers[row]),
            "busy": np.round(busy[row], 3),
            "failed": failed[names[one].decode(errors="replace")],
            "evaluated": int(evaluated[row]),
            "hours": float(hours[one]),
        }
        for row, one in enumerate(shown)
    ]
    return found, len(there) - len(shown)


def _counts(places: np.ndarray, hosts: int) -> np.ndarray:
    """How many there are of each host: int64 (hosts,). Places of −1 count nowhere."""
    return np.bincount(places + 1, minlength=hosts + 1)[1:]


def _busy(attempts: Attempts, host: np.ndarray, hosts: int, edges: np.ndarray) -> np.ndarray:
    """The mean number of busy workers of each host in each bin: float64 (hosts, bins). `host` is that of each attempt,
    −1 of those that are left out."""
    span = attempts.finished - attempts.started
    rate = np.divide(attempts.work, span, out=np.zeros(len(span)), where=span > 0)

    def elapsed(since: np.ndarray) -> np.ndarray:
        """At each edge the time since those before it, times their rate: (hosts, edges)."""
        first = np.searchsorted(edges, since) + (host + 1) * (len(edges) + 1)  # the first edge that is not before it

        def until(weights: np.ndarray) -> np.ndarray:
            sums = np.bincount(first, weights, (hosts + 1) * (len(edges) + 1)).reshape(hosts + 1, len(edges) + 1)
            return np.cumsum(sums[1:, :-1], axis=1)

        return until(rate) * (edges - edges[0]) - until(rate * (since - edges[0]))

    spent = elapsed(attempts.started) - elapsed(attempts.finished)
    return np.maximum(0.0, np.diff(spent, axis=1) / (edges[1] - edges[0]))


def _devices(population: Population, rows: np.ndarray, host: np.ndarray, hosts: int) -> list[list[str]]:
    """The devices of each host that have evaluated something. `host` is that of each of the rows, or −1."""
    names, codes = distinct(population.column("device"))
    found: list[list[str]] = [[] for _ in range(hosts)]
    count = max(1, len(names))
    for pair in np.unique((host + 1) * count + codes[rows]).tolist():
        one, device = pair // count - 1, pair % count
        if one >= 0 and len(found[one]) < MOST_DEVICES:
            found[one].append(one_line(names[device].decode(errors="replace")))
    return found


def _workers(stored: StoredRun, attempts: Attempts, host: np.ndarray, hosts: int) -> np.ndarray:
    """How many workers each host has had at a time: int64 (hosts,), the most of all sessions."""
    starts = np.array([session.started for session in stored.sessions])
    session = np.maximum(0, np.searchsorted(starts, attempts.started, side="right") - 1)
    rank, sessions = attempts.rank.astype(np.int64) + 1, max(1, len(starts))
    ranks = int(rank.max(initial=0)) + 1
    found = np.unique(((host + 1) * sessions + session) * ranks + rank) // ranks
    return np.bincount(found, minlength=(hosts + 1) * sessions).reshape(hosts + 1, sessions)[1:].max(axis=1)
