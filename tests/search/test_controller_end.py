"""Every end of the controller's loop, what it does about the disk, and the loop together with the real worker's."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from examples import FACTS, evaluated
from scripted_crew import (
    CRASH,
    ERROR,
    GOOD,
    Crew,
    Listener,
    Numbered,
    Search,
    by_individual,
    place,
    result,
    settings,
    states,
)

from hpcnas.architecture.mutation import NothingAllowed
from hpcnas.config.search import SearchConfig
from hpcnas.evolution import racing
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Proposal
from hpcnas.job.hub import Hub
from hpcnas.job.status import BROKEN, COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.messages import (
    Broke,
    Died,
    Evaluation,
    FromWorker,
    Left,
    Outcome,
    Result,
    Stop,
    Task,
)
from hpcnas.plugins import PluginFault
from hpcnas.search import worker
from hpcnas.search.controller import Controller, SearchStopped
from hpcnas.search.memory_store import MemoryStore
from hpcnas.storage.folder import StoreError
from hpcnas.training.evaluator import EvaluatorRefused, Loaded


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


def test_a_fault_of_a_strategy_loses_nothing_that_has_arrived_or_is_on_its_way() -> None:
    class Faulty(Numbered):
        def ask(self, population: Population, id: int, view: int) -> Proposal:
            if id == 2:
                raise PluginFault("odd: `ask` raised")
            return super().ask(population, id, view)

    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 1:
            return GOOD
        search.crew.parting[rank] = [result(rank, task, GOOD)]
        return None

    search = Search(Crew(2, answer), strategy=Faulty)
    store = search.store = Counting(search.config)
    search.population = store.population
    with pytest.raises(PluginFault, match="`ask` raised"):
        search.run()
    assert search.states() == states("EE") and store.compactions == 1
    assert [one.individual for one in search.listener.results] == [0, 1]


class Counting(MemoryStore):
    compactions = 0

    def compact(self) -> None:
        self.compactions += 1


def test_a_part_whose_racing_fails_is_recorded_all_the_same_and_so_is_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(racing, "LEAST_FREEDOM", 0)

    class Faulty(Numbered):
        def bar(self, population: Population, view: int) -> float | None:
            raise PluginFault("odd: `bar` raised")

    one = Evaluation((0.5,), 1000, 0.0, 1.0, 0.0)

    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 1:
            return one
        search.crew.parting[rank] = [result(rank, task, one)]
        return None

    search = Search(Crew(2, answer), settings(search={"racing": True}), strategy=Faulty)
    store = search.store = Counting(search.config)
    search.population = store.population
    with pytest.raises(PluginFault, match="`bar` raised"):
        search.run()
    assert store.compactions == 1 and search.population.trainings == 2


class AtOnce(Crew):
    """All that has been said arrives together."""

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        arrived = [*self.inbox]
        self.inbox.clear()
        return arrived


def test_what_arrives_together_with_a_reason_to_end_is_not_lost() -> None:
    """Worker 1 says Broke between the results of 2, which is told, and of 3; 4 has left, for which nobody waits."""
    search = Search(AtOnce(4, lambda rank, task: None), settings(run={"grace": 1e6}))

    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 4:
            tasks = dict(search.crew.tasks)
            said: list[tuple[int, FromWorker]] = [(2, result(2, tasks[2], GOOD)), (1, Broke(place(1), "odd", "…"))]
            search.crew.inbox.extend([*said, (3, result(3, tasks[3], GOOD)), (4, Left())])
            search.crew.silent = {4}
        return None

    search.crew.answer = answer
    assert search.stopped().exit_code == BROKEN
    assert search.states() == states("IEEI")
    assert [one.individual for one in search.listener.results] == [1, 2]


def test_a_worker_that_has_left_by_itself_is_not_waited_for() -> None:
    search = Search(Crew(1, lambda rank, task: None), settings(run={"grace": 1e6}))
    search.crew.silent = {1}
    search.crew.inbox.append((1, Left()))
    assert search.stopped().exit_code == BROKEN


def test_workers_that_all_die_before_they_are_ready_may_live_in_another_job() -> None:
    crew = Crew(2)
    crew.inbox.clear()
    crew.inbox.extend([(1, Died()), (2, Died())])
    assert Search(crew).stopped().exit_code == MORE_TO_DO


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

    def __init__(self, chosen: SearchConfig) -> None:
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


class Patient(Flaky):
    """An evaluator that is ready with nothing before `gone` is set."""

    def __init__(self, gone: threading.Event) -> None:
        self.gone = gone

    def poll(self, timeout: float) -> Outcome | None:  # type: ignore[override]
        return GOOD if self.gone.wait(timeout) else None


class Lost(Flaky):
    """An evaluator whose device is gone at its third evaluation."""

    def __init__(self, gone: threading.Event) -> None:
        self.gone = gone
        self.begun = 0

    def poll(self, timeout: float) -> Outcome:
        self.begun += 1
        if self.begun < 3:
            return GOOD
        self.gone.set()
        raise EvaluatorRefused("the GPU has gone", passes=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_cannot_go_on_wait_for_the_end(workers: int) -> None:
    hub, codes, ranks, gone = Hub(workers), [], range(1, workers + 1), threading.Event()

    def work(rank: int) -> None:
        codes.append(worker.run(hub.worker(rank), place(rank), Lost(gone) if rank == 1 else Patient(gone)))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    chosen, listener = settings(search={"budget": 20}), Listener()
    store = MemoryStore(chosen)
    search = Controller(chosen, store, Numbered, hub.controller(), list(ranks), {}, listener)
    if workers == 1:
        with pytest.raises(SearchStopped) as caught:
            search.run()
        assert caught.value.exit_code == MORE_TO_DO
    else:
        search.run()
    for thread in threads:
        thread.join(10.0)
    assert codes == [MORE_TO_DO if workers == 1 else COMPLETE] * workers
    assert len(store.population.evaluated) == (2 if workers == 1 else 20)
    assert len(store.population.failed_attempts) == 0
    assert sum("the GPU has gone" in text for text in listener.warnings) == 1


def test_a_broken_worker_breaks_the_controller() -> None:
    hub = Hub(1)
    hub.broke(ZeroDivisionError("in the worker"))
    chosen = settings()
    with pytest.raises(ZeroDivisionError):
        Controller(chosen, MemoryStore(chosen), Numbered, hub.controller(), [1], {}, Listener()).run()
