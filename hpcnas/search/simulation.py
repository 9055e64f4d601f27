"""A whole search, job after job, in minutes and without a cluster.

    Controller ── Task, Stop ──► Cluster: a heap of what happens next ── Ready, Result, Left ──► Controller
                                 └─ receive: the clock jumps to the next event

The strategy, the controller and the store are the real ones; only the clock and the workers are not: evaluations last
as long, fail as often and find what `synthetic` foresees. What handling a result costs the controller is a setting, to
be measured by tools/bench_controller.py: meanwhile other results wait, and their workers. The same seed gives the same
search to the last bit, on any machine. Nothing sleeps here, nothing looks at the time of day, and no commit waits for
the disk. Without a folder to keep the run in, the store is the one that forgets (`MemoryStore`). `simulate` is the
command.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpcnas.architecture.expansion import expand
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.registry import make_strategy
from hpcnas.evolution.strategy import Strategy
from hpcnas.job.log import duration
from hpcnas.job.session import Session
from hpcnas.job.status import BROKEN, MORE_TO_DO
from hpcnas.messages import Evaluation, FromWorker, Left, Place, Ready, Result, Stop, Task, ToWorker
from hpcnas.search import landscape
from hpcnas.search.controller import Controller, SearchStopped
from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.synthetic import FACTS, Foreseen, Foresight

HANDLING = 0.0005  # seconds of the controller for a result and the next task, by tools/bench_controller.py


@dataclass(frozen=True)
class Site:
    """Where the search would run. Times are in seconds."""

    workers: int
    startup: float  # from the start of a job until its workers are ready
    queue: float  # that a job waits before it starts
    handling: float  # that the controller is busy with one result and the next task
    paces: tuple[float, ...] = ()  # of each worker: how many times as long its tasks take as foreseen; () for once


@dataclass
class Account:
    """What the workers did so far, in worker seconds, and what the jobs took, in seconds."""

    jobs: int = 0
    in_queue: float = 0.0
    in_jobs: float = 0.0
    busy: float = 0.0
    starting: float = 0.0
    waiting: float = 0.0  # for the next task
    retired: float = 0.0  # after having been taken out of use
    longest_wait: float = 0.0
    tasks: int = 0
    most_retired: int = 0  # workers, in one job


@dataclass(slots=True)
class _Running:
    """What a worker does: since when, until when, and how much of it earlier jobs have done."""

    task: Task
    foreseen: Foreseen
    since: float
    until: float


@dataclass
class Cluster:
    """ControllerEnd in front of workers that exist as events alone; `now` is the time, in seconds since the start."""

    site: Site
    foresight: Foresight
    account: Account = field(default_factory=Account)
    now: float = 0.0
    leave: float = float("inf")  # when the present job should leave
    _events: list[tuple[float, int, int, FromWorker | None]] = field(default_factory=list)  # None: a result is due
    _count: int = 0
    _running: dict[int, _Running] = field(default_factory=dict)
    _queued: dict[int, deque[Task]] = field(default_factory=dict)  # what a worker got ahead
    _free: dict[int, float] = field(default_factory=dict)  # since when a worker has nothing to do
    _done: dict[_Key, float] = field(default_factory=dict)  # seconds saved of a task

    def begin_job(self, walltime: float | None, grace: float) -> None:
        """A job is handed in, waits, starts, and its workers become ready."""
        self.now += self.site.queue
        self.account.jobs += 1
        self.account.in_queue += self.site.queue
        self._began = self.now
        self.leave = float("inf") if walltime is None else self.now + walltime - grace
        self._events.clear()
        self._free.clear()
        for worker in range(1, self.site.workers + 1):
            self._at(self.now + self.site.startup, worker, Ready(_place(worker), FACTS, {}))
        self.account.starting += self.site.workers * self.site.startup

    def end_job(self) -> None:
        """Its ranks have left."""
        self.account.in_jobs += self.now - self._began

    def send(self, worker: int, message: ToWorker) -> None:
        if isinstance(message, Stop):
            running = self._running.pop(worker, None)
            self._queued.pop(worker, None)
            if running is not None:  # its trainer saves
                self.account.busy += self.now - running.since
                key = _key(running.task)
                self._done[key] = self._done.get(key, 0.0) + self.now - running.since
            self._at(self.now, worker, Left())
            return
        self.now += self.site.handling
        if worker in self._running:
            self._queued.setdefault(worker, deque()).append(message)
        else:
            self._start(worker, message, self.now)

    def _start(self, worker: int, task: Task, time: float) -> None:
        foreseen = self.foresight.of(task)
        pace = self.site.paces[worker - 1] if self.site.paces else 1.0
        seconds = foreseen.seconds * pace - self._done.get(_key(task), 0.0)
        until = time + max(0.0, seconds)
        self._running[worker] = _Running(task, foreseen, time, until)
        self._at(until, worker, None)
        waited = time - self._free.pop(worker)
        self.account.tasks += 1
        self.account.waiting += waited
        self.account.longest_wait = max(self.account.longest_wait, waited)

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """All that has happened up to now; else the clock goes on to the next event, or to the time to leave."""
        if not self._events or self._events[0][0] > max(self.now, self.leave):
            self.now = max(self.now, self.leave)
            return []
        self.now = max(self.now, self._events[0][0])
        arrived = []
        while self._events and self._events[0][0] <= self.now:
            at, _, worker, message = heapq.heappop(self._events)
            if message is not None:
                self._free[worker] = at
                arrived.append((worker, message))
            elif worker in self._running and self._running[worker].until == at:
                arrived.append((worker, self._result(worker)))
        return arrived

    def _result(self, worker: int) -> Result:
        running = self._running.pop(worker)
        self._free[worker] = running.until
        self.account.busy += running.until - running.since
        task = running.task
        self._done.pop(_key(task), None)
        outcome = running.foreseen.outcome
        if queue := self._queued.get(worker):
            self._start(worker, queue.popleft(), running.until)
        return Result(task.individual, task.attempt, _place(worker), running.since, running.until, outcome, task.first)

    def _at(self, time: float, worker: int, message: FromWorker | None) -> None:
        self._count += 1  # of events at one time, the first caused comes first
        heapq.heappush(self._events, (time, self._count, worker, message))


_Key = tuple[int, int, int]


def _key(task: Task) -> _Key:
    """What a task is known by: individual, first replicate, attempt."""
    return task.individual, task.first, task.attempt


def _place(worker: int) -> Place:
    return Place(worker, "simulated", f"worker {worker}")


class Silent:
    """An observer that shows nothing, and notes when workers were taken out of use."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._retired: list[float] = []  # when

    def ended(self) -> None:
        """Books the time of the retired: their job is over."""
        account = self._cluster.account
        account.retired += sum(self._cluster.now - since for since in self._retired)
        account.most_retired = max(account.most_retired, len(self._retired))

    def began(self, session: Session) -> None: ...

    def warned(self, text: str) -> None: ...

    def settled(self, result: Result, store: MemoryStore) -> None: ...

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        self._retired += [self._cluster.now] * (self._cluster.site.workers - workers - len(self._retired))

    def leaving(self, reason: str) -> None: ...


@dataclass(frozen=True)
class Report:
    """What the search would be like. Shares are of the workers' time in jobs; times are in seconds."""

    workers: int
    evaluated: int
    trainings: float
    failed: int
    failed_attempts: int
    jobs: int
    wall_clock: float
    in_queue: float
    worker_seconds: float
    idle_share: float
    starting_share: float
    waiting_share: float
    ending_share: float
    retired_share: float
    retired_workers: int
    mean_wait: float
    longest_wait: float
    controller_share: float
    best_individual: int
    best_fitness: float
    best_true_fitness: float
    stopped: int = 0  # early

    def text(self) -> str:
        """For a person."""
        stopped = f"{self.stopped} stopped early, " if self.stopped else ""
        rows = [
            ("workers", f"{self.workers}"),
            ("evaluated", f"{self.evaluated} ({stopped}{self.failed} failed, {self.failed_attempts} failed attempts)"),
            ("trainings", f"{self.trainings:.0f}"),
            ("wall clock", f"{duration(self.wall_clock)}, {duration(self.in_queue)} of it in the queue"),
            ("jobs", f"{self.jobs}"),
            ("workers' time", f"{self.worker_seconds / 3600:,.1f} hours in jobs"),
            ("idle", f"{self.idle_share:.2%} of it"),
            ("  starting", f"{self.starting_share:.2%}"),
            ("  waiting for work", f"{self.waiting_share:.2%} (mean {self.mean_wait:.3g} s a task, "
             f"longest {self.longest_wait:.3g} s)"),
            ("  at the end of jobs", f"{self.ending_share:.2%}"),
            ("  taken out of use", f"{self.retired_share:.2%} ({self.retired_workers} workers of a job at the most)"),
            ("controller busy", f"{self.controller_share:.2%} of the time in jobs"),
            ("best individual", f"{self.best_individual}"),
            ("  fitness", f"{self.best_fitness:.4f} measured, {self.best_true_fitness:.4f} without noise"),
        ]  # fmt: skip
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


class Noting(MemoryStore):
    """A store that notes what the result of the search would be after each evaluation."""

    def __init__(self, config: SearchConfig) -> None:
        super().__init__(config)
        self.results: list[int] = []  # individuals: `Population.best` as it was then

    def settle(self, result: Result) -> None:
        """The last word on an individual in flight. Raises ValueError if it is not in flight."""
        super().settle(result)
        best = self.population.best
        if best is not None and isinstance(result.outcome, Evaluation):
            self.results.append(best)


def simulate(
    settings: SearchConfig, site: Site, folder: Path | None = None, foresight: Foresight | None = None
) -> Report:
    """What `searched` would be like; keeps the run in `folder` if there is one. Raises what `searched` raises, and
    SearchStopped where nothing was evaluated."""
    store, cluster = searched(settings, site, folder, foresight)
    store.close()
    return _report(store, cluster)


def searched(
    settings: SearchConfig,
    site: Site,
    folder: Path | None = None,
    foresight: Foresight | None = None,
    strategy: Callable[[DataFacts], Strategy] | None = None,
    store: MemoryStore | None = None,
) -> tuple[MemoryStore, Cluster]:
    """The run, open, and what its workers did: a search by the virtual clock until the budget is spent.

    What evaluations give is up to `foresight`, by default that of the synthetic landscape; `strategy` makes another
    strategy than the configured one, once a job; `store` is to be used instead of a new one.

    Raises ConfigError where no job would get anywhere, SearchStopped where the search would break, and StoreError.
    """
    run = settings.run
    if run.walltime is not None and run.walltime <= run.grace + site.startup:
        raise ConfigError(
            f"expected a walltime of more than {run.grace + site.startup:g} s (--startup and --grace), "
            f"got {run.walltime:g}"
        )
    # the file is renewed at the end of each job: what the real clock would have it done is no matter of this one
    quiet = replace(settings, run=replace(run, compact_interval=float(2**62)))
    cluster = Cluster(site, foresight or Foresight(settings))
    make = strategy or (lambda facts: make_strategy(settings, facts))
    if store is None:
        store = MemoryStore(settings) if folder is None else FileStore.create(folder, settings, synced=False)
    try:
        while True:
            cluster.begin_job(run.walltime, run.grace)
            observer = Silent(cluster)
            search = Controller(
                quiet, store, make, cluster, range(1, site.workers + 1),
                {}, observer, lambda: "time is up" if cluster.now >= cluster.leave else None, lambda: cluster.now,
            )  # fmt: skip
            try:
                search.run()
                return store, cluster
            except SearchStopped as stop:
                if stop.exit_code != MORE_TO_DO:
                    raise
            finally:
                cluster.end_job()
                observer.ended()
            if folder is not None:
                store.close()
                store = FileStore.open(folder, synced=False)
    except BaseException:
        store.close()
        raise


def _report(store: MemoryStore, cluster: Cluster) -> Report:
    population, account, workers = store.population, cluster.account, cluster.site.workers
    best = population.best
    if best is None:
        raise SearchStopped("the budget is spent, and nothing has been evaluated: all have failed", BROKEN)
    there = workers * account.in_jobs or 1.0  # no time passes where evaluations take none
    idle = 1.0 - account.busy / there
    return Report(
        workers=workers,
        evaluated=population.searched,
        trainings=population.trainings,
        failed=len(population.failures),
        failed_attempts=len(population.failed_attempts),
        jobs=account.jobs,
        wall_clock=cluster.now,
        in_queue=account.in_queue,
        worker_seconds=workers * account.in_jobs,
        idle_share=idle,
        starting_share=account.starting / there,
        waiting_share=account.waiting / there,
        ending_share=idle - (account.starting + account.waiting + account.retired) / there,
        retired_share=account.retired / there,
        retired_workers=account.most_retired,
        mean_wait=account.waiting / account.tasks,
        longest_wait=account.longest_wait,
        controller_share=account.tasks * cluster.site.handling / (account.in_jobs or 1.0),
        best_individual=best,
        best_fitness=float(population.column("fitness")[best]),
        best_true_fitness=landscape.true_fitness(expand(population.individual(best).genotype)),
        stopped=population.stopped,
    )
