"""The controller's loop against workers that answer by script: budget, retries, restarts, refusals, and every end."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from examples import FACTS, SESSION, SPACE, evaluated, failed, individual

from hpcnas import config, controller, evolution, seeds, strategies, worker
from hpcnas.config import Config
from hpcnas.controller import Controller, SearchStopped
from hpcnas.evaluator import Loaded
from hpcnas.evolution import Proposal
from hpcnas.exits import BROKEN, COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.genotype import Genotype
from hpcnas.individuals import Birth, State
from hpcnas.messages import (
    DataFacts,
    Died,
    Evaluation,
    Failure,
    FailureKind,
    FromWorker,
    Left,
    Outcome,
    Place,
    Ready,
    Refused,
    Result,
    Stop,
    Task,
    ToWorker,
)
from hpcnas.mutation import NothingAllowed
from hpcnas.population import Population
from hpcnas.runfile import Session, StoreError
from hpcnas.store import MemoryStore
from hpcnas.transport import Hub

GOOD = Evaluation((0.5, 0.7), 1000, 0.0, 1.0, 0.0)
CRASH, OOM, HANG, OVERRUN, NAN, ERROR = (Failure(kind, kind.name.lower()) for kind in FailureKind)


def settings(**changes: dict[str, object]) -> Config:
    return config.build(
        {"search": {"space": str(SPACE), "budget": 5, "initial_population": 3, "initial_mutations": 5, "seed": 9}},
        {"training": {"replicates": 2}, "run": {"grace": 0.0}},
        changes,
    )


def place(rank: int) -> Place:
    return Place(rank, f"node-{rank}", "cuda:0")


Answer = Callable[[int, Task], Outcome | None]


class Crew:
    """ControllerEnd with workers that answer each task at once by `answer`, or never where that gives None.

    Messages arrive one at a time, in the order in which they were caused. Told to stop, a worker says what stands in
    `parting` for it, then Left.
    """

    def __init__(self, workers: int, answer: Answer = lambda rank, task: GOOD) -> None:
        self.ranks = range(1, workers + 1)
        self.answer = answer
        self.tasks: list[tuple[int, Task]] = []
        self.stops: dict[int, Stop] = {}
        self.parting: dict[int, list[FromWorker]] = {}
        self.inbox: deque[tuple[int, FromWorker]] = deque((rank, Ready(place(rank), FACTS, {})) for rank in self.ranks)
        self.silent: set[int] = set()  # these do not even say Left

    def send(self, rank: int, message: ToWorker) -> None:
        if isinstance(message, Stop):
            self.stops[rank] = message
            farewell = [*self.parting.get(rank, []), Left()]
            self.inbox.extend((rank, said) for said in farewell if rank not in self.silent)
            return
        self.tasks.append((rank, message))
        outcome = self.answer(rank, message)
        if outcome is not None:
            self.inbox.append((rank, result(rank, message, outcome)))

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        return [self.inbox.popleft()] if self.inbox else []

    @property
    def given(self) -> list[tuple[int, int, int]]:
        """Rank, individual and attempt of every task, in order."""
        return [(rank, task.individual, task.attempt) for rank, task in self.tasks]


def result(rank: int, task: Task, outcome: Outcome) -> Result:
    return Result(task.individual, task.attempt, place(rank), 100.0, 110.0, outcome, task.first)


@dataclass
class Listener:
    """An observer that remembers."""

    sessions: list[Session] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def began(self, session: Session) -> None:
        self.sessions.append(session)

    def warned(self, text: str) -> None:
        self.warnings.append(text)

    def settled(self, result: Result, store: MemoryStore) -> None:
        self.results.append(result)

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        pass

    def leaving(self, reason: str) -> None:
        self.warnings.append(f"leaving: {reason}")


class Numbered:
    """A strategy whose genotypes tell the birth."""

    def __init__(self, facts: DataFacts) -> None:
        pass

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        return Proposal(genotype(id), Birth.INITIAL, None, 0)


def genotype(id: int) -> Genotype:
    return Genotype(SPACE, bytes([id % 7, id // 7 % 7, id // 49, 0, 0, 0, 0, 0, 1]))


@dataclass
class Search:
    """One session: what it runs on, and what there is to see afterwards."""

    crew: Crew
    config: Config = field(default_factory=settings)
    store: MemoryStore | None = None
    reason: Callable[[], str | None] = lambda: None
    strategy: Callable[[DataFacts], evolution.Strategy] = Numbered
    now: Callable[[], float] = lambda: 2000.0
    listener: Listener = field(default_factory=Listener)

    def __post_init__(self) -> None:
        self.store = self.store or MemoryStore(self.config)
        self.population = self.store.population

    def run(self) -> None:
        assert self.store is not None
        one = Controller(
            self.config, self.store, self.strategy, self.crew, list(self.crew.ranks), {"hpcnas": "1"}, self.listener,
            reason_to_leave=self.reason, now=self.now,
        )  # fmt: skip
        one.run()

    def stopped(self) -> SearchStopped:
        """What stops the search; the workers are told the same."""
        with pytest.raises(SearchStopped) as caught:
            self.run()
        assert {stop.exit_code for stop in self.crew.stops.values()} == {caught.value.exit_code}
        assert set(self.crew.stops) == set(self.crew.ranks)
        return caught.value

    def states(self) -> list[str]:
        return [State(state).name for state in self.population.column("state")]


def states(text: str) -> list[str]:
    """`EFI` stands for evaluated, failed, issued."""
    return [{"E": "EVALUATED", "F": "FAILED", "I": "ISSUED"}[letter] for letter in text]


def by_individual(plan: dict[int, Sequence[Failure]]) -> Answer:
    """Answers of attempts 1, 2, … at an individual; after them, and for all others, it is good."""

    def answer(rank: int, task: Task) -> Outcome:
        failures = plan.get(task.individual, ())
        return failures[task.attempt - 1] if task.attempt <= len(failures) else GOOD

    return answer


# ── the budget ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("workers", [1, 2, 5, 9])
def test_the_budget_is_spent_and_no_more(workers: int) -> None:
    search = Search(Crew(workers))
    search.run()
    assert search.states() == states("EEEEE")
    assert [task.individual for _, task in search.crew.tasks] == [0, 1, 2, 3, 4]
    assert {stop.exit_code for stop in search.crew.stops.values()} == {0}


def test_a_task_carries_the_genotype_and_the_seeds_of_its_individual() -> None:
    search = Search(Crew(2))
    search.run()
    for _, task in search.crew.tasks:
        assert task.genotype == genotype(task.individual) == search.population.individual(task.individual).genotype
        assert task.seeds == tuple(seeds.training_seed(9, task.individual, replicate) for replicate in (0, 1))


@pytest.mark.parametrize("kind", [OVERRUN, NAN, ERROR])
def test_a_failure_that_would_come_again_is_recorded_at_once_and_never_counted(kind: Failure) -> None:
    search = Search(Crew(2, by_individual({1: [kind], 3: [kind]})))
    search.run()
    assert search.states() == states("EFEFEEE")
    assert search.population.failures == {1: kind, 3: kind}
    assert search.population.column("attempts").tolist() == [1] * 7
    assert len(search.population.evaluated) == 5


def test_a_failed_individual_is_no_parent() -> None:
    chosen = settings(search={"budget": 40, "initial_population": 10, "tournament_fraction": 0.1})

    def answer(rank: int, task: Task) -> Outcome:
        return ERROR if task.individual % 3 == 0 else GOOD

    search = Search(Crew(3, answer), chosen, strategy=lambda facts: strategies.make_strategy(chosen, facts))
    search.run()
    parents = set(search.population.column("parent").tolist()) - {-1}
    assert len(parents) > 5 and all(parent % 3 for parent in parents)
    assert len(search.population.evaluated) == 40


def test_a_session_is_recorded_with_the_first_workers_data() -> None:
    search = Search(Crew(3))
    search.run()
    (session,) = search.listener.sessions
    assert search.store is not None and search.store.sessions == [session]
    assert (session.started, session.ranks, session.facts) == (2000.0, 4, FACTS)


class Brief(Crew):
    """Workers whose evaluations take so many seconds. A round of the loop takes a millisecond."""

    seconds = 0.0
    time = 0.0

    def now(self) -> float:
        return self.time

    def round(self, result: Result, store: MemoryStore) -> None:
        self.time += 0.001

    def send(self, rank: int, message: ToWorker) -> None:
        before = len(self.inbox)
        super().send(rank, message)
        while len(self.inbox) > before:  # what it has just caused
            sender, said = self.inbox.pop()
            before += 1
            if isinstance(said, Result):
                said = dataclasses.replace(said, finished=said.started + self.seconds)
            self.inbox.append((sender, said))


@pytest.mark.parametrize(
    ("seconds", "longest", "held"),
    [(0.0, 0.02, 8), (0.0004, 0.02, 3), (0.001, 0.02, 1), (0.0, 0.0, 1)],
)
def test_a_worker_holds_several_evaluations_only_if_they_are_brief_and_the_loop_slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, longest: float, held: int
) -> None:
    monkeypatch.setattr(controller, "_BRIEF", longest)
    crew = Brief(1)
    crew.seconds = seconds
    search = Search(crew, settings(search={"budget": 40}), now=crew.now)
    monkeypatch.setattr(search.listener, "settled", crew.round)
    search.run()
    assert search.states() == states("E" * 40)
    ahead = [individual - view for individual, view in enumerate(search.population.column("view").tolist())]
    assert ahead[:10] == [0] * 10  # that they are brief has to be seen first
    assert max(ahead) == held - 1


# ── retries ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", [CRASH, OOM, HANG])
def test_what_another_worker_may_do_better_is_given_to_another_worker(kind: Failure) -> None:
    search = Search(Crew(2, by_individual({0: [kind]})), settings(search={"budget": 3}))
    search.run()
    attempts = [(rank, task) for rank, task in search.crew.tasks if task.individual == 0]
    ((first, before), (second, after)) = attempts
    assert (first, second) == (1, 2)
    assert (before.attempt, after.attempt) == (1, 2)
    assert (before.genotype, before.seeds) == (after.genotype, after.seeds)
    assert search.states() == states("EEE")
    assert search.population.column("attempts").tolist() == [2, 1, 1]
    assert [attempt.outcome for attempt in search.population.failed_attempts] == [kind]
    assert any("it will be tried again" in text for text in search.listener.warnings)


def test_a_retry_waits_for_another_worker_rather_than_go_to_the_same() -> None:
    """Worker 2 is busy with individual 1 until worker 1 has had everything else."""
    held: list[Task] = []

    def answer(rank: int, task: Task) -> Outcome | None:
        if task.individual == 0 and task.attempt == 1:
            return CRASH
        if task.individual == 1:
            held.append(task)
            return None
        if task.individual == 3:
            search.crew.inbox.append((2, result(2, held[0], GOOD)))
        return GOOD

    search = Search(Crew(2, answer), settings(search={"budget": 4}))
    search.run()
    assert search.crew.given == [(1, 0, 1), (2, 1, 1), (1, 2, 1), (1, 3, 1), (2, 0, 2)]


def test_a_retry_goes_to_the_same_worker_where_there_is_no_other() -> None:
    search = Search(Crew(1, by_individual({0: [CRASH]})), settings(search={"budget": 2}))
    search.run()
    assert search.crew.given == [(1, 0, 1), (1, 0, 2), (1, 1, 1)]


def test_a_refused_worker_is_no_other_worker() -> None:
    search = Search(Crew(2, by_individual({0: [CRASH]})), settings(search={"budget": 2}))
    search.crew.inbox[1] = (2, Refused(place(2), "there are no images"))
    search.run()
    assert search.crew.given == [(1, 0, 1), (1, 0, 2), (1, 1, 1)]


@pytest.mark.parametrize(("most", "tried"), [(1, 1), (2, 2), (4, 4)])
def test_a_failure_is_recorded_after_the_last_attempt(most: int, tried: int) -> None:
    crew = Crew(2, by_individual({1: [CRASH, HANG, OOM, CRASH, CRASH]}))
    search = Search(crew, settings(run={"max_attempts": most}))
    search.run()
    assert search.states() == states("EFEEEE")
    assert search.population.column("attempts")[1] == tried
    assert [attempt.attempt for attempt in search.population.failed_attempts] == list(range(1, tried + 1))
    assert search.population.failures[1] == (CRASH, HANG, OOM, CRASH)[tried - 1]


def test_a_failure_after_a_retry_is_not_repeated_if_it_would_come_again() -> None:
    search = Search(Crew(2, by_individual({1: [CRASH, ERROR]})), settings(run={"max_attempts": 5}))
    search.run()
    assert search.population.failures == {1: ERROR}


# ── a restart ───────────────────────────────────────────────────────────────────────────────────────────────────────
def left_behind() -> MemoryStore:
    """A run with individuals 0 to 6: 3 evaluated, 4 failed, and the others in flight, 5 after a crash."""
    store = MemoryStore(settings())
    store.begin(SESSION)
    for id in range(7):
        store.birth(individual(id))
    store.settle(evaluated(3))
    store.settle(failed(4))
    store.retry(dataclasses.replace(failed(5, kind=FailureKind.CRASH), attempt=1))
    return store


def test_what_was_in_flight_goes_first_in_the_order_of_birth() -> None:
    search = Search(Crew(2), settings(search={"budget": 8}), left_behind())
    search.run()
    assert [(id, attempt) for _, id, attempt in search.crew.given] == [
        *((0, 1), (1, 1), (2, 1), (5, 2), (6, 1)),  # left behind
        *((7, 1), (8, 1)),  # new
    ]
    assert search.states() == states("EEEEFEEEE")
    for _, task in search.crew.tasks[:5]:
        assert task.genotype == individual(task.individual).genotype
        assert task.seeds == tuple(seeds.training_seed(9, task.individual, replicate) for replicate in (0, 1))


def test_what_was_in_flight_is_finished_even_beyond_a_smaller_budget() -> None:
    search = Search(Crew(2), settings(search={"budget": 1}), left_behind())
    search.run()
    assert search.states() == states("EEEEFEE")


def test_an_attempt_counts_across_a_restart() -> None:
    search = Search(Crew(2, by_individual({5: [CRASH, HANG]})), settings(search={"budget": 7}), left_behind())
    search.run()
    assert search.population.failures[5] == HANG
    assert search.population.column("attempts")[5] == 2


def test_a_search_that_is_complete_asks_nobody() -> None:
    store = MemoryStore(settings(search={"budget": 1}))
    store.begin(SESSION)
    store.birth(individual(0))
    store.settle(evaluated(0))
    search = Search(Crew(2), settings(search={"budget": 1}), store)
    search.run()
    assert search.crew.tasks == [] and set(search.crew.stops) == {1, 2}


# ── workers that cannot work ────────────────────────────────────────────────────────────────────────────────────────
def test_the_search_goes_on_without_a_refused_worker() -> None:
    search = Search(Crew(3))
    search.crew.inbox[0] = (1, Refused(place(1), "there are no images"))
    search.run()
    assert {rank for rank, _ in search.crew.tasks} == {2, 3}
    assert search.listener.warnings == ["going on without rank 1 on node-1 (cuda:0): there are no images"]


def test_a_search_without_workers_is_wrong_use() -> None:
    search = Search(Crew(3))
    search.crew.inbox = deque((rank, Refused(place(rank), "there are no images")) for rank in (1, 2, 3))
    stop = search.stopped()
    assert stop.exit_code == WRONG_USE
    assert str(stop) == "rank 3 on node-3 (cuda:0) (and 2 other ranks): there are no images"


def test_a_worker_with_other_data_is_refused() -> None:
    search = Search(Crew(2))
    other = dataclasses.replace(FACTS, fingerprint="another")
    search.crew.inbox[1] = (2, Ready(place(2), other, {}))
    search.run()
    assert {rank for rank, _ in search.crew.tasks} == {1}
    (warning,) = search.listener.warnings
    assert "expected the data that the run has used so far" in warning and "another" in warning


def test_a_continued_run_wants_the_data_it_began_with() -> None:
    search = Search(Crew(1), store=left_behind())
    search.crew.inbox[0] = (1, Ready(place(1), dataclasses.replace(FACTS, fingerprint="another"), {}))
    assert search.stopped().exit_code == WRONG_USE
    assert search.crew.tasks == []


def test_a_device_that_fails_at_what_others_can_do_is_taken_out_of_use() -> None:
    def answer(rank: int, task: Task) -> Outcome:
        return CRASH if rank == 1 else GOOD

    search = Search(Crew(3, answer), settings(search={"budget": 20}, run={"device_failures": 2}))
    search.run()
    mine = [id for rank, id, _ in search.crew.given if rank == 1]
    assert mine == [0, 3, 5, 7]  # it had 7 in its hands when the second of the others was found to be good
    assert search.listener.warnings[3] == (
        "going on without rank 1 on node-1 (cuda:0): 2 evaluations in a row have failed here, but not elsewhere"
    )
    assert search.states() == states("E" * 20)
    assert [search.population.column("attempts")[id] for id in mine] == [2, 2, 2, 2]


def test_a_device_that_is_taken_out_of_use_while_it_works_gets_nothing_more() -> None:
    """Rank 1 holds individual 4 when it is retired, and then fails at it."""
    held: list[Task] = []

    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 2:
            return GOOD
        if len([one for one, _ in search.crew.tasks if one == 1]) <= 2:
            return CRASH
        held.append(task)
        return None

    def reason() -> str | None:
        if held and any("going on without" in text for text in search.listener.warnings):
            search.crew.inbox.append((1, result(1, held.pop(), ERROR)))
        return None

    chosen = settings(search={"budget": 12}, run={"device_failures": 2})
    search = Search(Crew(2, answer), chosen, reason=reason)
    search.run()
    assert len([rank for rank, _, _ in search.crew.given if rank == 1]) == 3
    assert len(search.population.evaluated) == 12 and len(search.population.failures) == 1


def test_the_work_of_a_dead_worker_goes_to_another_as_if_it_had_not_begun() -> None:
    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 1:
            search.crew.inbox.append((1, Died()))
            return None
        return GOOD

    search = Search(Crew(2, answer), settings(search={"budget": 3}))
    search.run()
    assert search.crew.given == [(1, 0, 1), (2, 1, 1), (2, 0, 1), (2, 2, 1)]
    assert search.population.column("attempts").tolist() == [1, 1, 1]
    assert search.listener.warnings == ["going on without rank 1 on node-1 (cuda:0): its process has died"]


def test_all_that_a_dead_worker_held_goes_to_another_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 2 or len([one for one, _ in crew.tasks if one == 1]) <= 12:
            return GOOD
        if (1, Died()) not in crew.inbox:
            crew.inbox.append((1, Died()))
        return None

    crew = Brief(2, answer)
    search = Search(crew, settings(search={"budget": 60}), now=crew.now)
    monkeypatch.setattr(search.listener, "settled", crew.round)
    search.run()
    held = [id for rank, id, _ in crew.given if rank == 1][12:]
    assert len(held) == 8
    assert [id for rank, id, _ in crew.given if rank == 2 and id in held] == held
    assert search.states() == states("E" * 60)
    assert set(search.population.column("attempts").tolist()) == {1}


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_reason_to_leave_stops_issuing_and_leaves_what_is_in_flight_to_the_next_session() -> None:
    def answer(rank: int, task: Task) -> Outcome | None:
        return GOOD if task.individual == 0 else None

    def reason() -> str | None:
        return "SIGUSR1 received" if len(search.population.evaluated) else None

    search = Search(Crew(2, answer), reason=reason)
    stop = search.stopped()
    assert (stop.exit_code, str(stop)) == (MORE_TO_DO, "SIGUSR1 received")
    assert search.listener.warnings == ["leaving: SIGUSR1 received"]
    assert search.states() == states("EII")
    again = Search(Crew(3), store=search.store)
    again.run()
    assert [(id, attempt) for _, id, attempt in again.crew.given] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert again.states() == states("EEEEE")


def test_nobody_leaves_a_search_that_is_complete() -> None:
    search = Search(Crew(2), reason=lambda: "late" if len(search.population.evaluated) == 5 else None)
    search.run()
    assert search.states() == states("EEEEE")


def test_results_on_their_way_at_the_end_are_recorded() -> None:
    """One worker has just finished, one has just failed for good, one has crashed, one is cut off."""
    last = {1: GOOD, 2: ERROR, 3: CRASH}

    def answer(rank: int, task: Task) -> Outcome | None:
        if rank in last:
            search.crew.parting[rank] = [result(rank, task, last[rank])]
        return None

    def reason() -> str | None:
        return "SIGTERM received" if len(search.crew.tasks) == 4 else None

    search = Search(Crew(4, answer), reason=reason)
    assert search.stopped().exit_code == MORE_TO_DO
    assert search.states() == states("EFII")
    assert search.population.column("attempts").tolist() == [1, 1, 1, 0]
    assert [one.individual for one in search.listener.results] == [0, 1]


def test_a_worker_that_does_not_answer_is_not_waited_for_longer_than_the_grace() -> None:
    search = Search(Crew(2, lambda rank, task: None), reason=lambda: "SIGUSR1 received")
    search.crew.silent = {2}
    assert search.stopped().exit_code == MORE_TO_DO


def test_trainers_have_most_of_the_grace_to_save() -> None:
    search = Search(Crew(1, lambda rank, task: None), settings(run={"grace": 60.0}), reason=lambda: "SIGUSR1 received")
    search.stopped()
    assert search.crew.stops == {1: Stop(MORE_TO_DO, 42.0)}


def test_many_failures_in_a_row_are_a_broken_run() -> None:
    search = Search(Crew(1, lambda rank, task: ERROR), settings(run={"max_failures": 3}))
    stop = search.stopped()
    assert stop.exit_code == BROKEN and str(stop).startswith("3 individuals in a row have failed")
    assert search.states()[:3] == states("FFF")


def test_a_success_begins_the_row_anew() -> None:
    plan = {id: [ERROR] for id in (0, 1, 3, 4, 6, 7)}
    search = Search(Crew(1, by_individual(plan)), settings(run={"max_failures": 3}))
    search.run()
    assert len(search.population.evaluated) == 5


def test_a_space_with_nothing_allowed_is_wrong_use() -> None:
    class Nothing(Numbered):
        def ask(self, population: Population, id: int, view: int) -> Proposal:
            if id == 2:
                raise NothingAllowed("nothing is small enough")
            return super().ask(population, id, view)

    search = Search(Crew(1), strategy=Nothing)
    stop = search.stopped()
    assert (stop.exit_code, str(stop)) == (WRONG_USE, "nothing is small enough")
    assert search.states() == states("EE")


def test_a_result_that_nobody_asked_for_breaks_the_run() -> None:
    search = Search(Crew(1, lambda rank, task: None))
    search.crew.inbox.append((1, evaluated(77)))
    stop = search.stopped()
    assert stop.exit_code == BROKEN and "nobody asked" in str(stop)


def test_a_worker_that_leaves_by_itself_breaks_the_run() -> None:
    search = Search(Crew(2, lambda rank, task: None))
    search.crew.inbox.append((2, Left()))
    assert search.stopped().exit_code == BROKEN


# ── the disk ────────────────────────────────────────────────────────────────────────────────────────────────────────
class Disk(MemoryStore):
    """A store that tells when it is asked to write, and may be full."""

    def __init__(self, chosen: Config) -> None:
        super().__init__(chosen)
        self.events: list[str] = []
        self.commits_left = 10**9
        self.compaction: Callable[[], None] = lambda: None

    def commit(self) -> None:
        self.commits_left -= 1
        if self.commits_left < 0:
            raise StoreError("the disk is full")
        self.events.append(f"{len(self.population)} born, {len(self.population.evaluated)} evaluated")

    def compact(self) -> None:
        self.events.append("compact")
        self.compaction()

    def compact_aside(self) -> None:
        self.compact()


def test_nothing_is_sent_or_told_before_it_is_on_the_disk() -> None:
    disk = Disk(settings())

    def answer(rank: int, task: Task) -> Outcome:
        assert disk.events[-1].startswith(f"{task.individual + 1} born")
        return GOOD

    class Strict(Listener):
        def settled(self, result: Result, store: MemoryStore) -> None:
            super().settled(result, store)
            assert disk.events[-1].endswith(f"{len(self.results)} evaluated")

    search = Search(Crew(1, answer), store=disk, listener=Strict())
    search.run()
    assert len(search.listener.results) == 5
    assert disk.events[-1] == "compact"


def test_a_full_disk_stops_everything_and_nothing_unrecorded_is_sent() -> None:
    disk = Disk(settings())
    disk.commits_left = 2  # the birth of individual 0, and its evaluation with the birth of 1
    search = Search(Crew(1), store=disk)
    search.crew.parting[1] = [evaluated(1)]
    with pytest.raises(StoreError, match="the disk is full"):
        search.run()
    assert [task.individual for _, task in search.crew.tasks] == [0, 1]
    assert [stop.exit_code for stop in search.crew.stops.values()] == [BROKEN]
    assert "compact" not in disk.events


def test_the_file_is_renewed_at_the_interval_and_for_a_twentieth_of_the_time_at_most() -> None:
    clock = [0.0]
    disk = Disk(settings(search={"budget": 200}))
    when: list[float] = []

    def compact() -> None:
        when.append(clock[0])
        clock[0] += 5.0  # so long it takes

    def answer(rank: int, task: Task) -> Outcome:
        clock[0] += 1.0
        return GOOD

    disk.compaction = compact
    search = Search(Crew(1, answer), settings(search={"budget": 200}, run={"compact_interval": 10.0}), disk)
    search.now = lambda: clock[0]
    search.run()
    assert when[:2] == [10.0, 115.0]  # after 10 s; then not before 20 times 5 s have passed


# ── with the real worker's loop ─────────────────────────────────────────────────────────────────────────────────────
class Flaky:
    """An evaluator that crashes at every fourth individual's first attempt."""

    def ready(self, timeout: float) -> Loaded:
        return Loaded(FACTS, {})

    def start(self, task: Task) -> None:
        self.task = task

    def poll(self, timeout: float) -> Outcome:
        return CRASH if self.task.individual % 4 == 0 and self.task.attempt == 1 else GOOD

    def save(self, timeout: float) -> None:
        pass

    def close(self) -> None:
        pass


def test_controller_and_workers_in_one_process() -> None:
    hub, codes = Hub(3), []
    threads = [
        threading.Thread(target=lambda rank=rank: codes.append(worker.run(hub.worker(rank), place(rank), Flaky())))
        for rank in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    chosen = settings(search={"budget": 100})
    store = MemoryStore(chosen)
    Controller(chosen, store, Numbered, hub.controller(), [1, 2, 3], {}, Listener()).run()
    for thread in threads:
        thread.join(10.0)
    assert codes == [COMPLETE] * 3
    assert len(store.population) == len(store.population.evaluated) == 100
    attempts = store.population.column("attempts")
    assert [id for id in range(100) if attempts[id] == 2] == list(range(0, 100, 4))


def test_a_broken_worker_breaks_the_controller() -> None:
    hub = Hub(1)
    hub.broke(ZeroDivisionError("in the worker"))
    chosen = settings()
    with pytest.raises(ZeroDivisionError):
        Controller(chosen, MemoryStore(chosen), Numbered, hub.controller(), [1], {}, Listener()).run()
