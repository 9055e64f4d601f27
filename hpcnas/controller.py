"""The controller's loop: results in, genotypes out, nothing acted upon before it is on the disk (§3.2, D1, D2).

    receive ─► settle results ─► ask the strategy for idle workers ─► commit ─► send tasks ─► report
                                     one disk sync for all of it ──────┘

No barrier, no generations: whenever a worker is idle and the budget allows, it gets a genotype. Knows neither torch nor
MPI nor HDF5, only their interfaces.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hpcnas import seeds
from hpcnas.config import Config
from hpcnas.evolution import Strategy
from hpcnas.messages import DataFacts, Evaluation, Failure, FromWorker, Place, Ready, Refused, Result, Stop, Task
from hpcnas.mutation import NothingAllowed
from hpcnas.population import Individual
from hpcnas.runfile import Session
from hpcnas.store import MemoryStore
from hpcnas.transport import ControllerEnd

COMPLETE, BROKEN, WRONG_USE = 0, 1, 2  # exit codes

StrategyFactory = Callable[[DataFacts], Strategy]


class SearchStopped(Exception):
    """The search cannot go on; one line for a person, and the exit code that says whose turn it is."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Observer(Protocol):
    """Who is told what happens, for people to see."""

    def began(self, session: Session) -> None:
        """The first worker is ready and its data are known."""
        ...

    def refused(self, refused: Refused) -> None:
        """A worker cannot work; the others go on without it."""
        ...

    def settled(self, result: Result, store: MemoryStore) -> None:
        """An individual was evaluated or failed, and that is on the disk."""
        ...

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        """The loop came round, at least once a second."""
        ...


class Controller:
    """One run of the search from start or restart to its budget."""

    def __init__(
        self,
        config: Config,
        store: MemoryStore,
        make_strategy: StrategyFactory,
        end: ControllerEnd,
        workers: Sequence[int],
        software: Mapping[str, str],
        observer: Observer,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._store = store
        self._make_strategy = make_strategy
        self._end = end
        self._software = software
        self._observer = observer
        self._now = now
        self._absent = set(workers)  # have not reported yet
        self._ranks = len(workers) + 1
        self._idle: deque[int] = deque()
        self._busy: dict[int, int] = {}  # worker → individual
        self._again = deque(store.population.issued)  # in flight when the last controller ended
        self._refused: dict[int, Refused] = {}
        self._strategy: Strategy | None = None
        self._failures_in_a_row = 0
        self._compacted = now()
        self._compaction_seconds = 0.0

    def run(self) -> None:
        """Searches until the budget is spent, then sends every worker home. Raises SearchStopped, and StoreError;
        the workers are told to stop in any case."""
        exit_code = BROKEN
        try:
            while not self._finished():
                self._turn()
            self._store.compact()
            exit_code = COMPLETE
        except SearchStopped as stop:
            exit_code = stop.exit_code
            raise
        finally:
            for worker in [*self._absent, *self._idle, *self._busy, *self._refused]:
                self._end.send(worker, Stop(exit_code))

    def _finished(self) -> bool:
        population = self._store.population
        return len(population.evaluated) >= self._config.search.budget and population.in_flight == 0

    def _turn(self) -> None:
        arrived = self._end.receive(timeout=1.0)
        settled = [result for worker, message in arrived if (result := self._hear(worker, message)) is not None]
        tasks = self._hand_out()
        self._store.commit()
        for worker, task in tasks:
            self._end.send(worker, task)
        for result in settled:
            self._observer.settled(result, self._store)
        self._observer.turned(self._store, len(self._busy), self._ranks - 1 - len(self._refused))
        self._compact_now_and_then()
        if self._failures_in_a_row >= self._config.run.max_failures:
            raise SearchStopped(
                f"{self._failures_in_a_row} individuals in a row have failed; the last reasons stand above and in "
                "population.h5 under /failures; mend their cause, then start the same command again",
                BROKEN,
            )

    # ── results in ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _hear(self, worker: int, message: FromWorker) -> Result | None:
        """Takes a message in; returns it if it was a result, which has then been settled."""
        match message:
            case Ready():
                self._absent.discard(worker)
                self._welcome(worker, message)
            case Refused():
                self._absent.discard(worker)
                self._refuse(worker, message)
            case Result():
                if self._busy.pop(worker, None) != message.individual:
                    raise SearchStopped(f"rank {worker} sent a result nobody asked it for: {message}", BROKEN)
                self._idle.append(worker)
                self._store.settle(message)
                failed = isinstance(message.outcome, Failure)
                self._failures_in_a_row = self._failures_in_a_row + 1 if failed else 0
                return message
        return None

    def _welcome(self, worker: int, ready: Ready) -> None:
        """The first worker's data decide what a new run is about; everybody else's must be the same."""
        known = self._store.sessions[-1].facts if self._store.sessions else ready.facts
        if ready.facts != known:
            reason = f"expected the data that the run has used so far, {known}, but found {ready.facts}"
            self._refuse(worker, Refused(ready.place, reason))
            return
        if self._strategy is None:
            session = Session(
                started=self._now(),
                host=socket.gethostname(),
                pid=os.getpid(),
                ranks=self._ranks,
                software={**self._software, **ready.software},
                facts=ready.facts,
            )
            self._store.begin(session)
            self._strategy = self._make_strategy(ready.facts)
            self._observer.began(session)
            for refused in self._refused.values():
                self._observer.refused(refused)
        self._idle.append(worker)

    def _refuse(self, worker: int, refused: Refused) -> None:
        """Goes on without a worker that cannot work, unless there is no other. Raises SearchStopped."""
        self._refused[worker] = refused
        if not (self._absent or self._idle or self._busy):
            others = len(self._refused) - 1
            also = f" (and so for {others} other ranks)" if others else ""
            raise SearchStopped(f"{where(refused.place)}{also}: {refused.reason}", WRONG_USE)
        if self._strategy is not None:
            self._observer.refused(refused)

    # ── genotypes out ───────────────────────────────────────────────────────────────────────────────────────────────
    def _hand_out(self) -> list[tuple[int, Task]]:
        """A task for every idle worker as far as there is work, recorded but not yet committed."""
        tasks = []
        while self._idle:
            individual = self._next_individual()
            if individual is None:
                break
            worker = self._idle.popleft()
            self._busy[worker] = individual.id
            run_seed, replicates = self._config.search.seed, self._config.training.replicates
            drawn = tuple(seeds.training_seed(run_seed, individual.id, number) for number in range(replicates))
            tasks.append((worker, Task(individual.id, attempt=1, genotype=individual.genotype, seeds=drawn)))
        return tasks

    def _next_individual(self) -> Individual | None:
        """One that was in flight at the last end, else a new one; None when the budget is spoken for."""
        population = self._store.population
        if self._again:
            return population.individual(self._again.popleft())
        view = len(population.evaluated)
        if view + population.in_flight >= self._config.search.budget:
            return None
        assert self._strategy is not None, "no worker is idle before the first was welcome"
        id = len(population)
        try:
            proposal = self._strategy.ask(population, id, view)
        except NothingAllowed as error:
            raise SearchStopped(str(error), WRONG_USE) from None
        individual = Individual(
            id, proposal.genotype, proposal.birth, proposal.parent, view, proposal.redrawn, born=self._now()
        )
        self._store.birth(individual)
        return individual

    def _compact_now_and_then(self) -> None:
        """Renews the file that tools read: at the set interval, and never for more than a twentieth of the time."""
        pause = max(self._config.run.compact_interval, 20.0 * self._compaction_seconds)
        started = self._now()
        if started - self._compacted >= pause:
            self._store.compact()
            self._compacted = self._now()
            self._compaction_seconds = self._compacted - started


def where(place: Place) -> str:
    """A place in words."""
    return f"rank {place.rank} on {place.host} ({place.device})"


def describe(result: Result) -> str:
    """One line on a result, for logs."""
    outcome = result.outcome
    if isinstance(outcome, Evaluation):
        accuracies = " ".join(f"{accuracy:.4f}" for accuracy in outcome.accuracies)
        return f"individual {result.individual}: fitness {outcome.fitness:.4f} ({accuracies}), {where(result.place)}"
    last = outcome.message.strip().splitlines()[-1] if outcome.message.strip() else ""
    return f"individual {result.individual} failed ({outcome.kind.name.lower()}) at {where(result.place)}: {last}"
