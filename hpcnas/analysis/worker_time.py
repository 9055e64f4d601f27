"""What a run has cost: its attempts, its sessions, and the time that its workers spent.

Times are in seconds since 1970, UTC, as the workers' clocks had them. An attempt whose end was never recorded (cut off
by the end of its session, or still under way) has no cost of its own; in a session's busy time it counts from the last
result of its worker to the last event that is known of the session.

Of an individual whose fitness was several tasks (--scheduling replicate, --racing) the file has the worker time of all
of them, the start of the first and the end of the last: that time is spread evenly over the sessions between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcnas.analysis.distinct import distinct
from hpcnas.evolution.individuals import State
from hpcnas.evolution.population import Population
from hpcnas.messages import Result
from hpcnas.search.run_file import StoredRun

UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


@dataclass(frozen=True)
class Attempts:
    """Individuals as far as they were trained, also those that were stopped early, and failed attempts that were
    repeated: float64 arrays of shape (attempts,)."""

    started: np.ndarray  # seconds since 1970
    finished: np.ndarray
    rank: np.ndarray  # of the last task
    work: np.ndarray  # worker seconds between start and end

    @classmethod
    def of(cls, population: Population) -> Attempts:
        """All of which start and end are recorded: first the failed attempts, then individuals by their ids."""
        failed, rows = repeated_attempts(population), trained(population)
        return cls(
            *(
                np.concatenate([early, population.column(name)[rows]]).astype(float)
                for name, early in (
                    ("started", [attempt.started for attempt in failed]),
                    ("finished", [attempt.finished for attempt in failed]),
                    ("rank", [attempt.place.rank for attempt in failed]),
                    ("worker_seconds", [attempt.finished - attempt.started for attempt in failed]),
                )
            )
        )

    def __len__(self) -> int:
        return len(self.started)

    def chosen(self, which: np.ndarray) -> Attempts:
        """Those that a mask, bool (attempts,), chooses."""
        return Attempts(self.started[which], self.finished[which], self.rank[which], self.work[which])

    def seconds(self) -> float:
        """Worker time of all of them."""
        return float(self.work.sum())

    def spent(self, times: np.ndarray) -> np.ndarray:
        """Worker seconds that had been spent on them at each of these times: float64 (times,) to float64 (times,)."""
        span = self.finished - self.started
        rate = np.divide(self.work, span, out=np.zeros(len(span)), where=span > 0)
        return _elapsed(self.started, rate, times) - _elapsed(self.finished, rate, times)

    def within(self, sessions: Sequence[tuple[float, float]]) -> list[Attempts]:
        """Those of each session (start, end), cut at both; the work of one that lies in several is divided by the time
        that it lies in each."""
        if len(sessions) == 1 and self._lie_within(*sessions[0]):  # of 1,000,000 the copies would be 60 MB
            return [self]
        whole = np.zeros(len(self))
        for start, end in sessions:
            whole += self._length_within(start, end)
        found = []
        for start, end in sessions:
            length = self._length_within(start, end)
            share = np.divide(length, whole, out=np.zeros(len(whole)), where=whole > 0)
            its = np.flatnonzero(length > 0)
            started, finished = np.maximum(self.started[its], start), np.minimum(self.finished[its], end)
            found.append(Attempts(started, finished, self.rank[its], self.work[its] * share[its]))
        return found

    def _lie_within(self, start: float, end: float) -> bool:
        """Whether all lie in a session as a whole, and each takes some time."""
        inside = (self.started >= start) & (self.finished <= end) & (self.started < self.finished)
        return bool(inside.all())

    def _length_within(self, start: float, end: float) -> np.ndarray:
        """How many seconds of each lie in a session: float64 (attempts,)."""
        return np.maximum(0.0, np.minimum(self.finished, end) - np.maximum(self.started, start))


def repeated_attempts(population: Population) -> list[Result]:
    """The failed attempts after which there was another one; the last one of a failed individual is in its row."""
    last = {attempt.individual: attempt for attempt in population.failed_attempts}
    return [
        attempt
        for attempt in population.failed_attempts
        if attempt.individual not in population.failures or attempt is not last[attempt.individual]
    ]


def trained(population: Population) -> np.ndarray:
    """Ids, int64, of the individuals of which start, end and worker time are recorded."""
    times = [population.column(name) for name in ("started", "finished", "worker_seconds")]
    return np.flatnonzero(np.isfinite(times).all(axis=0))


def _elapsed(since: np.ndarray, rate: np.ndarray, times: np.ndarray) -> np.ndarray:
    """At each of `times` the sum, over all `since` before it, of the seconds since then times their rate. `since` and
    `rate` are of shape (attempts,)."""
    if not len(since):
        return np.zeros(len(times))
    order, origin = np.argsort(times), since.min()
    place = np.searchsorted(times[order], since)  # of the first time that is not before it

    def until(weights: np.ndarray) -> np.ndarray:
        return np.cumsum(np.bincount(place, weights, len(times) + 1)[:-1])

    found = np.empty(len(times))
    found[order] = until(rate) * (times[order] - origin) - until(rate * (since - origin))
    return found


@dataclass(frozen=True)
class SessionTime:
    """One session: when it began, the last event known of it, and what its workers did in between."""

    started: float
    ended: float
    workers: int
    evaluated: int
    stopped: int  # early
    attempts: Attempts
    unfinished: Attempts  # under way at `ended`: reckoned, not recorded

    @property
    def busy_seconds(self) -> float:
        """Time in which workers had something to do."""
        return self.attempts.seconds() + self.unfinished.seconds()

    @property
    def worker_seconds(self) -> float:
        """Time in which workers were there."""
        return self.workers * (self.ended - self.started)


def accounts(run: StoredRun) -> list[SessionTime]:
    """An account of every session, in their order."""
    if not run.sessions:
        return []
    population, attempts = run.population, Attempts.of(run.population)
    starts = np.array([session.started for session in run.sessions])
    born, finished = population.column("born"), population.column("finished")
    settled = np.where(population.column("state") == State.ISSUED, np.nan, finished)

    def session_of(times: np.ndarray) -> np.ndarray:
        return np.maximum(0, np.searchsorted(starts, times, side="right") - 1)

    def counted(times: np.ndarray) -> list[int]:
        """How many of these lie in each session."""
        return np.bincount(session_of(times), minlength=len(starts)).tolist()

    evaluated = counted(finished[population.evaluated])
    stopped = counted(finished[population.column("state") == State.STOPPED])
    of_ends = session_of(attempts.finished)
    last = starts.copy()
    np.fmax.at(last, of_ends, attempts.finished)
    np.fmax.at(last, session_of(born), born)
    ends = last.tolist()
    within = attempts.within([(session.started, end) for session, end in zip(run.sessions, ends, strict=True)])
    found = []
    for number, (session, ended, mine) in enumerate(zip(run.sessions, ends, within, strict=True)):
        in_flight = int(np.count_nonzero((born <= ended) & ~(settled <= ended)))
        its = of_ends == number
        free = _last_ends(attempts.rank[its], attempts.finished[its])
        idle_since = sorted([*free, *[session.started] * (session.ranks - 1 - len(free))])
        since = np.array(idle_since[:in_flight])  # the workers that were free first have got the work
        found.append(
            SessionTime(
                started=session.started,
                ended=ended,
                workers=session.ranks - 1,
                evaluated=evaluated[number],
                stopped=stopped[number],
                attempts=mine,
                unfinished=Attempts(since, np.full(len(since), ended), np.zeros(len(since)), ended - since),
            )
        )
    return found


def _last_ends(rank: np.ndarray, finished: np.ndarray) -> list[float]:
    """When the last attempt of each rank ended; both are of shape (attempts,)."""
    place = rank.astype(np.int64) + 1  # 0 where a repair has left none
    if place.max(initial=0) > len(place) + 1_000_000:  # in a damaged file
        _, place = np.unique(place, return_inverse=True)
    last = np.full(int(place.max(initial=0)) + 1, -np.inf)
    np.maximum.at(last, place, finished)
    return [float(end) for end in last[np.isfinite(last)]]


def busy_share(sessions: list[SessionTime]) -> float | None:
    """Share of the workers' time in which they had something to do; None where no time has passed."""
    there = sum(account.worker_seconds for account in sessions)
    return sum(account.busy_seconds for account in sessions) / there if there > 0 else None


def occupancy(run: StoredRun, bins: int = 160) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of equal bins in hours since the first session began, shape (bins + 1,); and for every bin the mean numbers
    of busy workers and of workers that were there, shape (bins,). Without a session one empty bin."""
    sessions = accounts(run)
    if not sessions:  # it has not begun
        return np.array([0.0, 1.0]), np.zeros(1), np.zeros(1)
    start, end = sessions[0].started, max(session.ended for session in sessions)
    edges = np.linspace(start, max(end, start + 1e-3), bins + 1)
    busy, there = np.zeros(bins), np.zeros(bins)
    for session in sessions:
        busy += np.diff(session.attempts.spent(edges) + session.unfinished.spent(edges))
        there += session.workers * np.diff(np.clip(edges, session.started, session.ended))
    width = edges[1] - edges[0]
    return (edges - start) / 3600, busy / width, there / width


def on_gpus(population: Population) -> bool:
    """Whether anything ran on a GPU: then a worker's time is a GPU's time."""
    recorded, _ = distinct(population.column("device"))
    devices = {attempt.place.device.encode() for attempt in population.failed_attempts} | set(recorded.tolist())
    return any(device.startswith(b"cuda") for device in devices)


def hours_name(on_gpus: bool) -> str:
    """What worker time is called."""
    return "GPU hours" if on_gpus else "worker hours"


def unit(seconds: float) -> tuple[str, float]:
    """The unit in which times up to this one read well, and its seconds: hours, unless that is very little."""
    return next(((name, size) for name, size in UNITS if seconds >= 0.5 * size), UNITS[-1])
