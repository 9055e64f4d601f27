"""The controller's loop: results in, genotypes out, nothing acted upon before it is on the disk (§3.2, D1, D2).

    receive ─► settle results ─► ask the strategy for idle workers ─► commit ─► send tasks ─► report
                                     one disk sync for all of it ──────┘

No barrier, no generations: whenever a worker is idle and the budget allows, it gets a genotype, or several where it
evaluates faster than the loop turns. What is left of earlier births (`backlog`) goes before new ones. Which workers
there are, and what they hold, is `crew`'s business; whether another individual may be born `budget`'s, how its fitness
is divided into tasks `tasks`', which individuals are given up `racing`'s, and which are trained again at the end
`confirmation`'s. Knows neither torch nor MPI nor HDF5, only their interfaces.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hpcnas import seeds
from hpcnas.architecture.mutation import DrawingStopped, NothingAllowed
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.errors import Error
from hpcnas.evolution.budget import has_room, is_complete, is_searched
from hpcnas.evolution.confirmation import Confirmation
from hpcnas.evolution.early_stopping import EarlyStopping
from hpcnas.evolution.individuals import Individual
from hpcnas.evolution.racing import Racing
from hpcnas.evolution.strategy import Expecting, Proposal, Strategy, StrategyRefused
from hpcnas.job.clocks import Dated
from hpcnas.job.session import Session
from hpcnas.job.status import BROKEN, COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.job.transport import ControllerEnd
from hpcnas.messages import (
    Alive,
    Broke,
    Died,
    Evaluation,
    Failure,
    FromWorker,
    Left,
    Ready,
    Refused,
    Result,
    Stop,
    Stopped,
    Task,
    Warned,
)
from hpcnas.plugins import PluginFault
from hpcnas.search import retries
from hpcnas.search.attention import Attention
from hpcnas.search.backlog import Backlog, Work
from hpcnas.search.crew import Crew
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.methods import Worker

_ATTENTION = 0.2  # seconds between looks at signals and the clock
_WITHOUT_CURVES = "the evaluator gives no learning curves: what it evaluates is never stopped early"


class SearchStopped(Error):
    """The search cannot go on here; one line for a person, the exit code that says what to do about it, and where there
    is one, a traceback."""

    def __init__(self, reason: str, exit_code: int, traceback: str | None = None) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.traceback = traceback


class Observer(Protocol):
    """What is told of everything that happens, to show it to people."""

    def began(self, session: Session) -> None:
        """The first worker is ready and its data are known."""
        ...

    def warned(self, text: str) -> None:
        """Something went wrong that the run can live with."""
        ...

    def settled(self, result: Result, store: MemoryStore) -> None:
        """An individual was evaluated or failed, and that is on the disk."""
        ...

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        """The loop has turned once more, several times a second."""
        ...

    def leaving(self, reason: str) -> None:
        """The search leaves before it is complete; saving may take a while."""
        ...


class Controller:
    """One session of a run: from start or restart to its budget, or to a reason to leave."""

    def __init__(
        self,
        config: SearchConfig,
        store: MemoryStore,
        make_strategy: Callable[[DataFacts], Strategy],
        end: ControllerEnd,
        workers: Sequence[int],
        software: Mapping[str, str],
        observer: Observer,
        reason_to_leave: Callable[[], str | None] = lambda: None,
        now: Callable[[], float] | None = None,
        attention: Attention | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._make_strategy = make_strategy
        self._strategy: Strategy | None = None  # until the first worker knows the data
        self._racing: Racing | None = None  # until then; and always None where every fitness is to be whole
        self._early: EarlyStopping | None = None  # likewise, where every training is
        self._confirmation: Confirmation | None = None  # until the search is over; for ever where none is wanted
        self._end = end
        self._software = software
        self._observer = observer
        self._reason_to_leave = reason_to_leave
        self._now = now or Dated()
        self._crew = Crew(workers, attention or Attention(workers, math.inf), config.run.device_failures)
        self._backlog = Backlog(config, store.population)
        self._arrived: deque[tuple[int, FromWorker]] = deque()  # messages that are not yet handled
        self._settled: deque[Result] = deque()  # results that people are told of once they are on the disk
        self._left: set[int] = set()  # workers that have left without having been told to
        self._warned: set[str] = set()  # what workers have said and the log has
        self._failures_in_a_row = 0
        self._turn_seconds = 0.0  # that the last turn took, without waiting
        self._compacted = self._now()
        self._compaction_seconds = 0.0
        self._wrong = False  # whether the session has ended for a mistake of the person
        self._committed = False  # whether it has brought anything to the disk

    @property
    def refused(self) -> bool:
        """Whether nothing has happened in this session, and it was wrong in itself: the run is to stay as it was."""
        return self._wrong and not self._committed

    def run(self) -> None:
        """Searches until the budget is spent. Raises SearchStopped, PluginFault or StoreError where it ends before; in
        any case the workers have been stopped, and what they still had to say is recorded."""
        exit_code, record = BROKEN, False  # after a StoreError, say, nothing more can be recorded
        try:
            while not self._finished():
                self._turn()
            exit_code, record = COMPLETE, True
        except SearchStopped as stop:
            exit_code, self._wrong = stop.exit_code, stop.exit_code == WRONG_USE
            record = not self.refused
            if exit_code == MORE_TO_DO:
                self._observer.leaving(str(stop))
            raise
        except PluginFault:  # of a strategy: what is known stays known
            record = self._strategy is not None
            raise
        finally:
            self._stop_workers(exit_code, record)
            if record:
                self._store.compact()

    def _turn(self) -> None:
        self._arrived.extend(self._end.receive(timeout=_ATTENTION))
        began = self._now()
        while self._arrived:
            if (result := self._handle(*self._arrived.popleft())) is not None:
                self._settled.append(result)
        self._warn_of_silence()
        tasks = self._assign_work()
        self._store.commit()
        self._committed = self._committed or self._strategy is not None
        for worker, task in tasks:
            self._end.send(worker, task)
        self._report_settled()
        self._turn_seconds = self._now() - began
        self._observer.turned(self._store, self._crew.busy, self._crew.in_use)
        self._compact_now_and_then()
        self._stop_if_there_is_reason()

    def _finished(self) -> bool:
        confirmation = self._confirmation_by_now()
        if confirmation is not None:
            return confirmation.complete and not self._store.population.in_flight
        return is_complete(self._config.search, self._store.population)

    def _confirmation_by_now(self) -> Confirmation | None:
        """What trains the best again; None before its time."""
        search, population, begun = self._config.search, self._store.population, self._strategy is not None
        if self._confirmation is None and begun and search.confirm and is_searched(search, population):
            self._confirmation = Confirmation(search, population, population.expected())
        return self._confirmation

    def _report_settled(self) -> None:
        while self._settled:
            self._observer.settled(self._settled.popleft(), self._store)

    def _stop_if_there_is_reason(self) -> None:
        """Raises SearchStopped."""
        reason = self._reason_to_leave()
        if reason is not None and not self._finished():
            raise SearchStopped(reason, MORE_TO_DO)
        if self._failures_in_a_row >= self._config.run.max_failures:
            raise SearchStopped(
                f"{self._failures_in_a_row} individuals in a row have failed; the last reasons stand above and in "
                "population.h5 under /failures; mend their cause, then start the same command again",
                BROKEN,
            )

    # ── messages in ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _handle(self, worker: int, message: FromWorker) -> Result | None:
        """Acts on a message; returns it if it was a result that has settled its individual. Raises SearchStopped."""
        if worker in self._crew.dead:  # its work has been given to others: what it said before comes too late
            return None
        if not isinstance(message, Died) and self._crew.hear(worker):
            self._observer.warned(f"{self._crew.name(worker)} is heard again")
        match message:
            case Ready():
                self._welcome(worker, message)
            case Refused():
                self._backlog.put_back(self._crew.take_back(worker))
                if worker not in self._crew.refused:  # as one of a bad device
                    self._refuse(worker, message)
            case Warned():
                self._warn_once(message)
            case Alive():
                pass
            case Result():
                return self._record_result(worker, message)
            case Broke():
                raise SearchStopped(f"{message.place}: {message.reason}", BROKEN, message.traceback)
            case Died():
                self._drop_dead_worker(worker)
            case Left():
                self._left.add(worker)
                raise SearchStopped(f"rank {worker} has left without being told to", BROKEN)
        return None

    def _welcome(self, worker: int, ready: Ready) -> None:
        """The first worker's data decide what a new run is about; all others' must be the same."""
        self._crew.report(worker, ready.place)
        known = self._store.sessions[-1].facts if self._store.sessions else ready.facts
        if ready.facts != known:
            reason = f"expected the data that the run has used so far, {known}, but found {ready.facts}"
            self._refuse(worker, Refused(ready.place, reason))
            return
        if self._strategy is None:
            self._begin(ready)
        joined = Worker.of(ready, len(self._store.sessions) - 1)
        if joined is not None:
            self._store.join(joined)
        self._crew.admit(worker)

    def _begin(self, ready: Ready) -> None:
        """The data are known: the strategy is made and the session recorded. Raises SearchStopped."""
        try:  # before the run is bound to its settings
            self._strategy = self._make_strategy(ready.facts)
        except StrategyRefused as refusal:
            raise SearchStopped(str(refusal), WRONG_USE) from None
        if isinstance(self._strategy, Expecting):
            self._store.population.expects = self._strategy.expected
        session = Session(
            started=self._now(),
            host=socket.gethostname(),
            pid=os.getpid(),
            ranks=len(self._crew.ranks) + 1,
            software={**self._software, **ready.software},
            facts=ready.facts,
        )
        self._store.begin(session)
        if self._config.search.racing:
            self._racing = Racing(self._strategy, self._config.search.racing_confidence)
        if self._config.search.early_stopping:
            self._early = EarlyStopping(self._strategy, self._config.search.early_stopping_confidence)
        self._observer.began(session)
        for refused in self._crew.refused.values():
            self._observer.warned(_without(refused))

    def _warn_once(self, warned: Warned) -> None:
        """Tells what workers live with, and the first that says so."""
        if warned.text not in self._warned:
            self._warned.add(warned.text)
            self._observer.warned(f"{warned.place}: {warned.text}")

    def _refuse(self, worker: int, refused: Refused) -> None:
        """Goes on without a worker that cannot work, unless there is no other. Raises SearchStopped."""
        self._crew.refuse(worker, refused)
        if not self._crew.in_use:
            every = self._crew.refused.values()
            also = f" (and {len(every) - 1} other ranks)" if len(every) > 1 else ""
            reason = f"{refused.place}{also}: {refused.reason}"
            if any(one.passes for one in every):
                self._observer.warned(reason)
                raise SearchStopped("there is no worker left that can train", MORE_TO_DO)
            raise SearchStopped(reason, BROKEN if self._strategy is not None else WRONG_USE)
        if self._strategy is not None:
            self._observer.warned(_without(refused))

    def _drop_dead_worker(self, worker: int) -> None:
        """Goes on without a worker whose process has died."""
        self._crew.drop_dead(worker)
        self._backlog.put_back(self._crew.take_back(worker))
        self._refuse(worker, Refused(self._crew.place(worker), "its process has died", passes=True))

    def _warn_of_silence(self) -> None:
        """Says which workers have just been silent for too long."""
        if new := self._crew.newly_silent():
            names = ", ".join(map(self._crew.name, new[:3]))
            others = f" and {len(new) - 3} other ranks" if len(new) > 3 else ""
            self._observer.warned(
                f"nothing heard for {self._crew.patience:g} s of {names}{others}: stopped, swapped out or cut off? "
                "What they have to do is given to workers that have nothing else; the first answer counts"
            )

    # ── results ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _record_result(self, worker: int, result: Result) -> Result | None:
        """Records a result: returns all that is known of its individual if this was the last word on it, None if there
        will be more. Raises SearchStopped, PluginFault."""
        work = self._crew.answer(worker, result, self._turn_seconds)
        if work is None:
            raise SearchStopped(f"rank {worker} sent a result that nobody asked it for: {result}", BROKEN)
        if work.answered or not self._backlog.expects(result.individual):  # or another replicate has failed meanwhile
            return None
        if isinstance(result.outcome, Failure) and self._crew.others_at(work):
            self._observer.warned(f"{result}; another worker is at it")  # as where this one was swapped out meanwhile
            return None
        self._crew.end_loan(work)
        match result.outcome:
            case Failure():
                more_to_come = self._repeat(worker, work, result)
            case Stopped():
                self._note_success(result)
                more_to_come = False
            case Evaluation():
                more_to_come = self._advance(work, result, result.outcome)
        if more_to_come:
            return None
        self._backlog.settle(result.individual)
        self._store.settle(result)
        whole = work.replicates.count == self._config.training.replicates
        return result if whole else self._store.population.result(result.individual)

    def _repeat(self, worker: int, work: Work, failed: Result) -> bool:
        """Notes a failed attempt, and repeats it where that may help; returns whether it will be repeated."""
        self._crew.note_failure(failed)
        able = self._crew.able()
        before = self._store.population.failed_attempts
        if not retries.wanted(failed, before, self._config.run.max_attempts, able):
            self._failures_in_a_row += 1
            return False
        self._store.retry(failed)
        self._backlog.repeat(work, retries.avoided(worker, failed.place, able))
        self._observer.warned(f"{failed}; it will be tried again")
        return True

    def _advance(self, work: Work, result: Result, outcome: Evaluation) -> bool:
        """Notes that replicates are trained; returns whether others of the individual are to come. Only then are these
        recorded here: the last ones settle the individual, which the caller records."""
        self._note_success(result)
        if self._early is not None and not outcome.curves:
            self._warn_once(Warned(result.place, _WITHOUT_CURVES))
        to_come = self._backlog.count(result.individual, len(outcome.accuracies))
        try:
            more = to_come > 0 or self._needs_another_stage(result.individual, outcome)
        except PluginFault:  # of a strategy that should have said whether
            self._store.advance(result)
            raise
        if more:
            self._store.advance(result)
            if not to_come:
                self._backlog.go_on(work.individual)
        return more

    def _note_success(self, result: Result) -> None:
        """Notes that a task has come to its end."""
        self._failures_in_a_row = 0
        self._crew.note_success(result)
        self._retire_bad_devices()

    def _needs_another_stage(self, id: int, outcome: Evaluation) -> bool:
        """Whether an individual of which nothing is under way is neither whole, with this evaluation, nor given up."""
        if len(outcome.accuracies) == self._config.training.replicates:
            return False
        population = self._store.population
        if len(population.missing(id)) == len(outcome.accuracies):
            return False
        known = [*population.accuracies(id), *outcome.accuracies]
        return self._racing is None or not self._racing.hopeless(population, len(population.evaluated), known)

    def _retire_bad_devices(self) -> None:
        """Gives no more work to devices that fail at what others can do."""
        for worker in self._crew.on_bad_devices():
            reason = f"{self._config.run.device_failures} evaluations in a row have failed here, but not elsewhere"
            self._refuse(worker, Refused(self._crew.place(worker), reason))

    # ── genotypes out ───────────────────────────────────────────────────────────────────────────────────────────────
    def _assign_work(self) -> list[tuple[int, Task]]:
        """Tasks for idle workers as far as there is work, recorded but not yet committed."""
        tasks = []
        for worker in self._crew.idle():
            if not self._backlog and not self._may_have_births() and not self._crew.silent:
                break
            tasks += [(worker, self._task(work)) for work in self._crew.fill(worker, self._next_work)]
        return tasks

    def _task(self, work: Work) -> Task:
        replicates, population = self._config.training.replicates, self._store.population
        drawn = seeds.training_seeds(self._config.search.seed, work.individual.id, replicates)
        early, individual = self._early, work.individual
        floors = () if early is None else early.floors_of(population, individual, work.replicates)
        return work.task(drawn, len(self._config.training.rungs), floors)

    def _may_have_births(self) -> bool:
        if has_room(self._config.search, self._store.population, self._backlog.trainings):
            return True
        confirmation = self._confirmation_by_now()
        return confirmation is not None and confirmation.next() is not None

    def _next_work(self, worker: int) -> Work | None:
        """What this worker should do: what is left of earlier births, else a new one, else what silent workers hold;
        None if there is nothing for it. Raises SearchStopped."""
        work = self._backlog.take(lambda work: self._crew.suits(worker, work))
        if work is not None:
            return work
        if self._may_have_births():
            return self._backlog.begin(self._birth())
        return self._crew.lend(worker, self._backlog.expects)

    def _birth(self) -> Individual:
        """The next individual, recorded. Raises SearchStopped."""
        assert self._strategy is not None, "no worker is idle before the first was welcome"
        population = self._store.population
        id, view = len(population), len(population.evaluated)
        try:
            proposal = self._proposal(self._strategy, id, view)
        except NothingAllowed as error:
            raise SearchStopped(str(error), WRONG_USE) from None
        except DrawingStopped as stop:
            raise SearchStopped(str(stop), MORE_TO_DO) from None
        individual = proposal.born(id, view, self._now())
        self._store.birth(individual)
        return individual

    def _proposal(self, strategy: Strategy, id: int, view: int) -> Proposal:
        """What the strategy gives, and after the search the next confirmation; there is one or the other."""
        population, confirmation = self._store.population, self._confirmation
        proposal = None if confirmation is None else confirmation.next()
        return strategy.ask(population, id, view) if proposal is None else proposal

    # ── the file that tools read, and the end ───────────────────────────────────────────────────────────────────────
    def _compact_now_and_then(self) -> None:
        """Renews the file at the set interval, and never for more than a twentieth of the time."""
        pause = max(self._config.run.compact_interval, 20.0 * self._compaction_seconds)
        started = self._now()
        if started - self._compacted >= pause:
            self._store.compact_aside()
            self._compacted = self._now()
            self._compaction_seconds = self._compacted - started

    def _stop_workers(self, exit_code: int, record: bool) -> None:
        """Tells every worker to save and leave, and records the results that were on their way."""
        patience = max(1.0, 0.7 * self._config.run.grace)
        for worker in self._crew.ranks:
            self._end.send(worker, Stop(exit_code, patience))
        present, deadline = set(self._crew.ranks - self._crew.dead - self._left), time.monotonic() + patience
        if record:
            self._store.commit()
            self._report_settled()
        while self._arrived or (present - self._crew.silent and time.monotonic() < deadline):
            if not self._arrived:
                self._arrived.extend(self._end.receive(timeout=_ATTENTION))
            while self._arrived:
                worker, message = self._arrived.popleft()
                self._crew.hear(worker)
                if isinstance(message, Left | Died):
                    present.discard(worker)
                elif isinstance(message, Warned):
                    self._warn_once(message)
                elif isinstance(message, Result) and record and worker in present:
                    self._record_last_result(worker, message)

    def _record_last_result(self, worker: int, result: Result) -> None:
        """Records a result that was on its way at the end; what is wrong with the strategy is known by then."""
        with contextlib.suppress(PluginFault):
            if (settled := self._record_result(worker, result)) is not None:
                self._settled.append(settled)
        self._store.commit()
        self._report_settled()


def _without(refused: Refused) -> str:
    return f"going on without {refused.place}: {refused.reason}"
