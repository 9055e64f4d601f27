"""What trackers get of a search: the numbers of each evaluation, and how its workers were used meanwhile.

A step is an evaluation, in the order in which they were recorded, and its time that of its end. The store knows them
all; so a job first sends what trackers lack. What the store does not know, such as the workers' share of idle time, a
curve has as of the jobs that were tracked. Decides nothing, and reads the population alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from hpcnas.config.search import SCHEME, SearchConfig
from hpcnas.evolution.guided import Guided
from hpcnas.evolution.initial import GivenFirst
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Strategy
from hpcnas.tracking.tracker import About, Entry, Past
from hpcnas.tracking.trackers import Trackers

SERIES = "search"
FITNESS, BEST = "fitness/evaluated", "fitness/best"  # best: the fittest so far, as it was measured
PARAMETERS = "network/parameters"
SECONDS, QUEUE = "evaluation/worker_seconds", "evaluation/queue_seconds"  # queue: from birth to its first training
STOPPED, GIVEN_UP, FAILED = "search/stopped_early", "search/given_up_by_racing", "search/failed"  # individuals so far
IDLE = "workers/idle_share"  # since the evaluation before
CORRELATION = "guided/rank_correlation"  # of the model's predictions with the latest outcomes, as it tests itself
NAMES = (FITNESS, BEST, PARAMETERS, SECONDS, QUEUE, STOPPED, GIVEN_UP, FAILED, IDLE, CORRELATION)


def about(config: SearchConfig, run: str, name: str) -> About:
    """What trackers show of a search beside its curves."""
    return About.of(run, name, NAMES, {}, SCHEME.settings(config))


class SearchMetrics:
    """Sends the numbers of one session of a search; nothing where there are no trackers."""

    def __init__(self) -> None:
        self._trackers = Trackers([])
        self._strategy: Strategy | None = None
        self._sent = 0  # evaluations
        self._given_up = 0  # of these
        self._idle = _Idle()

    def of(self, strategy: Strategy) -> Strategy:
        """The strategy, of which something may be told."""
        self._strategy = strategy.others if isinstance(strategy, GivenFirst) else strategy
        return strategy

    def begin(self, trackers: Trackers, population: Population) -> None:
        """The session has begun: sends what was evaluated before it."""
        self._trackers = trackers
        if not trackers:
            return
        count = len(population.evaluated)
        values = self._columns(population, 0)
        values[BEST] = population.column("fitness")[population.bests].astype(float)
        values[STOPPED] = population.sums_of_stopped(np.ones(len(population)))
        steps = np.arange(1, count + 1)
        trackers.resume(Past(SERIES, count, steps, _times(population, 0), values))
        self._note_sent(count, values)

    def turned(self, busy: int, workers: int) -> None:
        """The controller's loop has turned."""
        self._idle.note(busy, workers)

    def settled(self, population: Population) -> None:
        """Something was evaluated or failed: sends the evaluations that are new."""
        count = len(population.evaluated)
        if not self._trackers or self._sent == count:
            return
        first, values = self._sent, self._columns(population, self._sent)
        best = population.measured_best
        now = {
            BEST: float(population.column("fitness")[best]) if best is not None else np.nan,
            STOPPED: float(population.stopped),
            FAILED: float(len(population.failures)),
            IDLE: self._idle.share(),
            CORRELATION: self._correlation(population),
        }
        for row, ended in enumerate(_times(population, first).tolist()):
            whole = {name: float(column[row]) for name, column in values.items()} | now
            self._trackers.log(Entry(SERIES, first + row + 1, ended, whole))
        self._note_sent(count, values)

    def close(self, complete: bool) -> None:
        """The session ends."""
        self._trackers.close(complete)

    def _columns(self, population: Population, since: int) -> dict[str, np.ndarray]:
        """What is known of each evaluation from number `since` on, from 0: float64, shape (evaluations,)."""
        ids = population.evaluated[since:]

        def column(name: str) -> np.ndarray:
            return population.column(name)[ids].astype(float)

        whole = np.where(population.column("repeats")[ids] >= 0, 1, population.replicates)
        given_up = population.column("replicates_trained")[ids] < whole
        parameters = column("parameters")
        return {
            FITNESS: column("fitness"),
            PARAMETERS: np.where(parameters < 0, np.nan, parameters),
            SECONDS: column("worker_seconds"),
            QUEUE: np.maximum(0.0, column("started") - column("born")),
            GIVEN_UP: self._given_up + np.cumsum(given_up).astype(float),
        }

    def _note_sent(self, count: int, values: Mapping[str, np.ndarray]) -> None:
        self._sent = count
        if count:
            self._given_up = int(values[GIVEN_UP][-1])

    def _correlation(self, population: Population) -> float:
        """NaN where there is none. The model is the one that chooses by now."""
        if not isinstance(self._strategy, Guided):
            return np.nan
        model = self._strategy.model(population, population.searched_view)
        return np.nan if model is None or model.correlation is None else model.correlation


class _Idle:
    """How much of the workers' time was not used."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._busy = self._whole = 0.0  # worker seconds

    def note(self, busy: int, workers: int) -> None:
        """From the last call until now, so many were busy."""
        now = time.monotonic()
        if self._last is not None:
            self._busy += busy * (now - self._last)
            self._whole += workers * (now - self._last)
        self._last = now

    def share(self) -> float:
        """Since it was asked before; NaN where nothing was noted since."""
        share = 1.0 - self._busy / self._whole if self._whole > 0.0 else np.nan
        self._busy = self._whole = 0.0
        return share


def _times(population: Population, since: int) -> np.ndarray:
    """When each evaluation ended: float64, shape (evaluations,); of one that has none, the first of these."""
    times = population.column("finished")[population.evaluated[since:]].astype(float)
    known = times[np.isfinite(times)]
    return np.nan_to_num(times, nan=known.min() if len(known) else time.time())
