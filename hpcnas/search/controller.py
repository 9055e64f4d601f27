"""The controller's loop: results in, genotypes out, nothing acted upon before it is on the disk (§3.2, D1, D2).

    receive ─► settle results ─► ask the strategy for idle workers ─► commit ─► send tasks ─► report
                                     one disk sync for all of it ──────┘

No barrier, no generations: whenever a worker is idle and the budget allows, it gets a genotype, or several if it is
through with one before the loop comes round. Work that was in flight at the last end, and attempts that have to be
repeated, go before new births. How a fitness is divided into tasks is `budget`'s business, and who is given up
`racing`'s. Knows neither torch nor MPI nor HDF5, only their interfaces.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hpcnas import seeds
from hpcnas.architecture.mutation import DrawingStopped, NothingAllowed
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.budget import Part, is_complete, next_parts
from hpcnas.evolution.individuals import Individual
from hpcnas.evolution.racing import Racing
from hpcnas.evolution.strategy import Strategy, StrategyRefused
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
    Place,
    Ready,
    Refused,
    Result,
    Stop,
    Task,
    Warned,
)
from hpcnas.plugins import PluginFault
from hpcnas.search import retries
from hpcnas.search.attention import Attention
from hpcnas.search.devices import Devices
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.methods import Worker

_ATTENTION = 0.2  # seconds between looks at signals and the clock
_BRIEF = 0.02  # seconds; a worker that has had so many evaluations in a row that were briefer may hold several
_BRIEF_IN_A_ROW = 10
_MOST_AT_ONCE = 8


class SearchStopped(Exception):
    """The search cannot go on here; one line for a person, the exit code that says what to do about it, and where there
    is one, a traceback."""

    def __init__(self, reason: str, exit_code: int, traceback: str | None = None) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.traceback = traceback


class Observer(Protocol):
    """Who is told what happens, for people to see."""

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
        """The loop came round, several times a second."""
        ...

    def leaving(self, reason: str) -> None:
        """The search leaves before it is complete; saving may take a while."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """Replicates of an individual to be trained, for the how manieth time, and workers that failed at it."""

    individual: Individual
    part: Part
    attempt: int
    avoid: frozenset[int]
    answered: bool = False  # by another worker that did it meanwhile: nobody waits for this one any more


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
        self._racing: Racing | None = None  # likewise, and for good where every fitness is to be whole
        self._end = end
        self._workers = frozenset(workers)
        self._able = set(workers)  # those that were not refused
        self._software = software
        self._observer = observer
        self._reason_to_leave = reason_to_leave
        self._now = now or Dated()
        self._attention = attention or Attention(workers, math.inf)
        self._on_loan: list[Work] = []  # what a silent worker holds and another does meanwhile
        self._arrived: deque[tuple[int, FromWorker]] = deque()  # messages that are not yet heard
        self._settled: deque[Result] = deque()  # results that people are told of once they are on the disk
        self._refused: dict[int, Refused] = {}
        self._dead: set[int] = set()
        self._left: set[int] = set()  # without having been told to
        self._idle: dict[int, None] = {}  # workers that have room for a task, in the order of their asking
        self._busy: dict[int, deque[Work]] = {}  # what a worker holds, in the order of sending
        self._room = dict.fromkeys(workers, 1)  # how much of it a worker may hold
        self._brief = dict.fromkeys(workers, 0)  # evaluations in a row that were brief
        self._round = 0.0  # seconds that the last turn took, without waiting
        self._places: dict[int, Place] = {}
        self._devices = Devices(config.run.device_failures)
        self._to_come: dict[int, int] = {}  # trainings of an individual that are under way or wait in `_again`
        self._again: deque[Work] = deque()  # goes before new births
        for id in store.population.issued:  # in flight when the last session ended, by birth
            self._again.extend(self._next_works(store.population.individual(id)))
        self._warned: set[str] = set()  # what workers have said and the log has
        self._failures_in_a_row = 0
        self._compacted = self._now()
        self._compaction_seconds = 0.0
        self._wrong = False  # whether it has ended for a mistake of the person
        self._committed = False  # whether this session has brought anything to the disk

    @property
    def refused(self) -> bool:
        """Whether nothing has happened in this session, and it was wrong in itself: the run is to stay as it was."""
        return self._wrong and not self._committed

    def run(self) -> None:
        """Searches until the budget is spent. Raises SearchStopped, PluginFault or StoreError where it ends before; in
        any case the workers have been sent home, and what they still had to say is recorded."""
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
            self._send_home(exit_code, record)
            if record:
                self._store.compact()

    def _finished(self) -> bool:
        return is_complete(self._config.search, self._store.population)

    def _turn(self) -> None:
        self._arrived.extend(self._end.receive(timeout=_ATTENTION))
        began = self._now()
        while self._arrived:
            if (result := self._hear(*self._arrived.popleft())) is not None:
                self._settled.append(result)
        self._notice_silence()
        tasks = self._hand_out()
        self._store.commit()
        self._committed = self._committed or self._strategy is not None
        for worker, task in tasks:
            self._end.send(worker, task)
        self._tell_what_settled()
        self._round = self._now() - began
        self._observer.turned(self._store, len(self._busy), len(self._workers) - len(self._refused))
        self._compact_now_and_then()
        self._see_whether_to_stop()

    def _tell_what_settled(self) -> None:
        while self._settled:
            self._observer.settled(self._settled.popleft(), self._store)

    def _see_whether_to_stop(self) -> None:
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

    # ── results in ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _hear(self, worker: int, message: FromWorker) -> Result | None:
        """Takes a message in; returns it if it was a result that has settled its individual."""
        if worker in self._dead:  # its work has been given to others: what it said before comes too late
            return None
        if not isinstance(message, Died) and self._attention.heard(worker):
            self._observer.warned(f"{self._name(worker)} is heard again")
        match message:
            case Ready():
                self._welcome(worker, message)
            case Refused():
                self._take_back(worker)
                if worker not in self._refused:  # as one of a bad device
                    self._refuse(worker, message)
            case Warned():
                self._warn_once(message)
            case Alive():
                pass
            case Result():
                return self._take(worker, message)
            case Broke():
                raise SearchStopped(f"{message.place}: {message.reason}", BROKEN, message.traceback)
            case Died():
                self._bury(worker)
            case Left():
                self._left.add(worker)
                raise SearchStopped(f"rank {worker} has left without being told to", BROKEN)
        return None

    def _welcome(self, worker: int, ready: Ready) -> None:
        """The first worker's data decide what a new run is about; everybody else's must be the same."""
        self._places[worker] = ready.place
        known = self._store.sessions[-1].facts if self._store.sessions else ready.facts
        if ready.facts != known:
            reason = f"expected the data that the run has used so far, {known}, but found {ready.facts}"
            self._refuse(worker, Refused(ready.place, reason))
            return
        if self._strategy is None:
            try:  # before the run is bound to its settings
                self._strategy = self._make_strategy(ready.facts)
            except StrategyRefused as refusal:
                raise SearchStopped(str(refusal), WRONG_USE) from None
            session = Session(
                started=self._now(),
                host=socket.gethostname(),
                pid=os.getpid(),
                ranks=len(self._workers) + 1,
                software={**self._software, **ready.software},
                facts=ready.facts,
            )
            self._store.begin(session)
            if self._config.search.racing:
                self._racing = Racing(self._strategy, self._config.search.racing_confidence)
            self._observer.began(session)
            for refused in self._refused.values():
                self._observer.warned(_without(refused))
        joined = Worker.of(ready, len(self._store.sessions) - 1)
        if joined is not None:
            self._store.join(joined)
        self._idle[worker] = None

    def _warn_once(self, warned: Warned) -> None:
        """Tells what a worker lives with, and the first to say so."""
        if warned.text not in self._warned:
            self._warned.add(warned.text)
            self._observer.warned(f"{warned.place}: {warned.text}")

    def _refuse(self, worker: int, refused: Refused) -> None:
        """Goes on without a worker that cannot work, unless there is no other. Raises SearchStopped."""
        self._refused[worker] = refused
        self._able.discard(worker)
        if len(self._refused) == len(self._workers):
            also = f" (and {len(self._refused) - 1} other ranks)" if len(self._refused) > 1 else ""
            reason = f"{refused.place}{also}: {refused.reason}"
            if any(one.passes for one in self._refused.values()):
                self._observer.warned(reason)
                raise SearchStopped("there is no worker left that can train", MORE_TO_DO)
            raise SearchStopped(reason, BROKEN if self._strategy is not None else WRONG_USE)
        if self._strategy is not None:
            self._observer.warned(_without(refused))

    def _bury(self, worker: int) -> None:
        """Goes on without a worker whose process has died."""
        self._dead.add(worker)
        self._attention.silent.discard(worker)
        self._take_back(worker)
        self._refuse(worker, Refused(self._place(worker), "its process has died", passes=True))

    def _take_back(self, worker: int) -> None:
        """What a worker holds goes to others, as if it had not begun."""
        self._idle.pop(worker, None)
        left = self._busy.pop(worker, deque())
        held = [work for work in left if work.individual.id in self._to_come and not work.answered]
        self._again.extendleft(reversed([work for work in held if not self._holders(work)]))

    def _place(self, worker: int) -> Place:
        return self._places.get(worker, Place(worker, "an unknown host", "unknown device"))

    def _name(self, worker: int) -> str:
        """What people are told of a worker, of which nothing may be known but its number."""
        return str(self._places[worker]) if worker in self._places else f"worker {worker} (not yet ready)"

    def _notice_silence(self) -> None:
        """Says who has been silent for too long while it had something to do, or to get ready for."""
        if not self._attention.due():
            return
        loading = self._workers - self._dead - self._refused.keys() - self._places.keys()
        new = self._attention.look(loading | self._busy.keys())
        if new:
            who = ", ".join(map(self._name, new[:3]))
            others = f" and {len(new) - 3} other ranks" if len(new) > 3 else ""
            self._observer.warned(
                f"nothing heard for {self._attention.patience:g} s of {who}{others}: stopped, swapped out or cut off? "
                "What they have to do is given to workers that have nothing else; the first answer counts"
            )

    def _take(self, worker: int, result: Result) -> Result | None:
        """Records a result: returns all that is known of its individual if this was the last word on it, None if there
        will be more."""
        held = self._busy.get(worker)
        if held is None or not _is_answer(result, held[0]):
            raise SearchStopped(f"rank {worker} sent a result that nobody asked it for: {result}", BROKEN)
        work = held.popleft()
        if not held:
            del self._busy[worker]
        self._make_room(worker, result)
        if worker not in self._refused and len(held) < self._room[worker]:
            self._idle[worker] = None
        id = result.individual
        if work.answered or id not in self._to_come:  # by another, or another of its replicates has failed meanwhile
            return None
        if isinstance(result.outcome, Failure) and self._holders(work) - self._attention.silent:
            self._observer.warned(f"{result}; another worker is at it")  # as where this one was swapped out meanwhile
            return None
        self._end_loan(work)
        if isinstance(result.outcome, Failure):
            self._devices.failed(result.place, (id, result.first))
            able = {one: place for one, place in self._places.items() if one in self._able}
            failed = self._store.population.failed_attempts
            if retries.wanted(result, failed, self._config.run.max_attempts, able):
                self._store.retry(result)
                avoid = work.avoid | retries.avoided(worker, result.place, able)
                self._again.append(replace(work, attempt=result.attempt + 1, avoid=avoid))
                self._observer.warned(f"{result}; it will be tried again")
                return None
            self._failures_in_a_row += 1
        else:
            self._failures_in_a_row = 0
            self._devices.succeeded(result.place, (id, result.first))
            self._retire_bad_devices()
            try:
                goes_on = self._goes_on(id, result.outcome)
            except PluginFault:  # of a strategy that should have said whether
                self._store.advance(result)
                raise
            if goes_on:
                self._store.advance(result)
                if self._to_come[id] == 0:
                    self._again.extendleft(reversed(self._next_works(work.individual)))
                return None
        if self._to_come.pop(id):  # only where it has failed
            self._again = deque(other for other in self._again if other.individual.id != id)
        self._store.settle(result)
        return result if work.part.count == self._config.training.replicates else self._store.population.result(id)

    def _make_room(self, worker: int, result: Result) -> None:
        """How many tasks a worker should hold so as not to wait for the next round of the loop: one, unless its last
        evaluations were all so brief that the round outlasts them and that nobody minds where the next ones wait."""
        seconds = result.finished - result.started
        brief = isinstance(result.outcome, Evaluation) and seconds < min(self._round, _BRIEF)
        self._brief[worker] = self._brief[worker] + 1 if brief else 0
        at_once = 1 + int(self._round / max(seconds, 1e-6)) if self._brief[worker] >= _BRIEF_IN_A_ROW else 1
        self._room[worker] = min(at_once, _MOST_AT_ONCE)

    def _goes_on(self, id: int, outcome: Evaluation) -> bool:
        """Whether more replicates of an individual are to come after these: it is not whole, nor given up."""
        self._to_come[id] -= len(outcome.accuracies)
        if len(outcome.accuracies) == self._config.training.replicates:
            return False
        if self._to_come[id]:
            return True
        population = self._store.population
        if len(population.missing(id)) == len(outcome.accuracies):
            return False
        known = [*population.accuracies(id), *outcome.accuracies]
        return self._racing is None or not self._racing.hopeless(population, len(population.evaluated), known)

    def _retire_bad_devices(self) -> None:
        """Gives no more work to devices that fail at what others can do."""
        if not self._devices.any_is_bad:
            return
        for worker, place in self._places.items():
            last = len(self._refused) + 1 == len(self._workers)
            if worker not in self._refused and not last and self._devices.is_bad(place):
                reason = f"{self._config.run.device_failures} evaluations in a row have failed here, but not elsewhere"
                self._refuse(worker, Refused(place, reason))
        self._idle = {worker: None for worker in self._idle if worker not in self._refused}

    # ── genotypes out ───────────────────────────────────────────────────────────────────────────────────────────────
    def _hand_out(self) -> list[tuple[int, Task]]:
        """Tasks for idle workers as far as there is work, recorded but not yet committed."""
        tasks = []
        for worker in list(self._idle):
            if not self._again and not self._may_have_births() and not self._attention.silent:
                break
            if worker in self._attention.silent:
                continue
            held = self._busy.setdefault(worker, deque())
            if not held:
                self._attention.expect(worker)
            while len(held) < self._room[worker] and (work := self._next_work(worker)) is not None:
                held.append(work)
                tasks.append((worker, self._task(work)))
            if not held:
                del self._busy[worker]
            del self._idle[worker]
            if len(held) < self._room[worker]:
                self._idle[worker] = None
        return tasks

    def _task(self, work: Work) -> Task:
        id, part = work.individual.id, work.part
        drawn = seeds.training_seeds(self._config.search.seed, id, self._config.training.replicates)
        chosen = drawn[part.first : part.first + part.count]
        return Task(id, work.attempt, work.individual.genotype, chosen, part.first)

    def _may_have_births(self) -> bool:
        """Whether the budget has room for another individual."""
        population, search = self._store.population, self._config.search
        if search.trainings is not None and population.trainings + sum(self._to_come.values()) >= search.trainings:
            return False
        return len(population.evaluated) + population.in_flight < search.budget

    def _next_work(self, worker: int) -> Work | None:
        """What this worker should do: repeat what others left, else something new; None if there is nothing for it."""
        for work in self._again:
            if self._suits(worker, work):
                self._again.remove(work)
                return work
        if not self._may_have_births():
            return self._borrowed_work(worker)
        assert self._strategy is not None, "no worker is idle before the first was welcome"
        population = self._store.population
        id, view = len(population), len(population.evaluated)
        try:
            proposal = self._strategy.ask(population, id, view)
        except NothingAllowed as error:
            raise SearchStopped(str(error), WRONG_USE) from None
        except DrawingStopped as stop:
            raise SearchStopped(str(stop), MORE_TO_DO) from None
        individual = Individual(
            id, proposal.genotype, proposal.birth, proposal.parent, view, proposal.redrawn, self._now(),
            proposal.known, proposal.network, proposal.repeats,
        )  # fmt: skip
        self._store.birth(individual)
        first, *others = self._next_works(individual)
        self._again.extend(others)
        return first

    def _suits(self, worker: int, work: Work) -> bool:
        """Whether the worker may be given the work: it has not failed at it, or no other is there that has not."""
        return worker not in work.avoid or self._able - self._attention.silent <= work.avoid

    def _borrowed_work(self, worker: int) -> Work | None:
        """What none but silent workers hold."""
        silent = self._attention.silent
        for other in sorted(silent & self._busy.keys()):
            for work in self._busy[other]:
                wanted = work.individual.id in self._to_come and not work.answered
                if wanted and self._suits(worker, work) and self._holders(work) <= silent:
                    self._on_loan.append(work)
                    return work
        return None

    def _holders(self, work: Work) -> set[int]:
        return {worker for worker, held in self._busy.items() if any(one is work for one in held)}

    def _end_loan(self, work: Work) -> None:
        """The work has been done: whoever else holds it may answer, too, which counts for nothing."""
        if not any(one is work for one in self._on_loan):
            return
        self._on_loan = [one for one in self._on_loan if one is not work]
        for worker in self._holders(work):
            self._busy[worker] = deque(
                replace(one, answered=True) if one is work else one for one in self._busy[worker]
            )

    def _next_works(self, individual: Individual) -> list[Work]:
        """What is to be done next for an individual in flight of which nothing is under way."""
        population, replicates = self._store.population, self._config.training.replicates
        attempts = population.column("attempts")[individual.id]
        parts = next_parts(self._config.search, population.missing(individual.id), replicates)
        self._to_come[individual.id] = sum(part.count for part in parts)
        return [Work(individual, part, int(attempts) + 1, frozenset()) for part in parts]

    # ── the file that tools read, and the end ───────────────────────────────────────────────────────────────────────
    def _compact_now_and_then(self) -> None:
        """Has the file renewed: at the set interval, and never for more than a twentieth of the time."""
        pause = max(self._config.run.compact_interval, 20.0 * self._compaction_seconds)
        started = self._now()
        if started - self._compacted >= pause:
            self._store.compact_aside()
            self._compacted = self._now()
            self._compaction_seconds = self._compacted - started

    def _send_home(self, exit_code: int, record: bool) -> None:
        """Tells every worker to save and leave, and records the results that were on their way."""
        patience = max(1.0, 0.7 * self._config.run.grace)
        for worker in self._workers:
            self._end.send(worker, Stop(exit_code, patience))
        present, deadline = set(self._workers - self._dead - self._left), time.monotonic() + patience
        if record:
            self._store.commit()
            self._tell_what_settled()
        while self._arrived or (present - self._attention.silent and time.monotonic() < deadline):
            if not self._arrived:
                self._arrived.extend(self._end.receive(timeout=_ATTENTION))
            while self._arrived:
                worker, message = self._arrived.popleft()
                self._attention.heard(worker)
                if isinstance(message, Left | Died):
                    present.discard(worker)
                elif isinstance(message, Warned):
                    self._warn_once(message)
                elif isinstance(message, Result) and record and worker in present:
                    self._take_last(worker, message)

    def _take_last(self, worker: int, result: Result) -> None:
        """Records a result that was on its way at the end; what is wrong with the strategy is known by then."""
        with contextlib.suppress(PluginFault):
            if (settled := self._take(worker, result)) is not None:
                self._settled.append(settled)
        self._store.commit()
        self._tell_what_settled()


def _is_answer(result: Result, work: Work) -> bool:
    """Whether the result is of just this work."""
    of, part = (result.individual, result.attempt, result.first), work.part
    whole = not isinstance(result.outcome, Evaluation) or len(result.outcome.accuracies) == part.count
    return of == (work.individual.id, work.attempt, part.first) and whole


def _without(refused: Refused) -> str:
    return f"going on without {refused.place}: {refused.reason}"
