"""The controller's loop against workers that answer by script: budget, retries, restarts, workers that cannot work."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable

import pytest
from examples import FACTS, SESSION, evaluated, failed, individual
from scripted_crew import (
    CRASH,
    ERROR,
    GOOD,
    HANG,
    NAN,
    OOM,
    OVERRUN,
    Answer,
    Brief,
    Crew,
    Search,
    by_individual,
    genotype,
    place,
    result,
    settings,
    states,
)

from hpcnas import seeds
from hpcnas.evolution import registry
from hpcnas.job.status import MORE_TO_DO, WRONG_USE
from hpcnas.messages import (
    Died,
    Failure,
    FailureKind,
    Outcome,
    Place,
    Ready,
    Refused,
    Task,
    Warned,
)
from hpcnas.search.memory_store import MemoryStore


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


@pytest.mark.parametrize("kind", [OVERRUN, ERROR])
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

    search = Search(Crew(3, answer), chosen, strategy=lambda facts: registry.make_strategy(chosen, facts))
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


@pytest.mark.parametrize(
    ("seconds", "longest", "held"),
    [(0.0, 0.02, 8), (0.0004, 0.02, 3), (0.001, 0.02, 1), (0.0, 0.0, 1)],
)
def test_a_worker_holds_several_evaluations_only_if_they_are_brief_and_the_loop_slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, longest: float, held: int
) -> None:
    monkeypatch.setattr("hpcnas.search.crew._BRIEF", longest)
    crew = Brief(1)
    crew.seconds = seconds
    search = Search(crew, settings(search={"budget": 40}), now=crew.now)
    monkeypatch.setattr(search.listener, "settled", crew.round)
    search.run()
    assert search.states() == states("E" * 40)
    ahead = [individual - view for individual, view in enumerate(search.population.column("view").tolist())]
    assert ahead[:10] == [0] * 10  # that they are brief has to be seen first
    assert max(ahead) == held - 1


def test_what_workers_live_with_is_told_once_a_job() -> None:
    search = Search(Crew(2), settings(search={"budget": 4}))
    for rank, text in ((1, "no compiler"), (2, "no compiler"), (2, "no room")):
        search.crew.inbox.append((rank, Warned(place(rank), text)))
    search.run()
    assert search.listener.warnings == [f"{place(1)}: no compiler", f"{place(2)}: no room"]


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


def test_a_loss_that_is_finite_nowhere_is_tried_on_two_devices() -> None:
    search = Search(Crew(3, by_individual({1: [NAN, NAN]})), settings(search={"budget": 3}, run={"max_attempts": 9}))
    search.run()
    assert search.states() == states("EFEE")
    assert search.population.failures == {1: NAN}
    assert [(rank, attempt) for rank, id, attempt in search.crew.given if id == 1] == [(2, 1), (1, 2)]


def test_a_loss_that_is_not_finite_fails_at_once_where_all_share_a_device() -> None:
    crew = Crew(2, by_individual({1: [NAN]}), lambda rank: Place(rank, "node", "cpu"))
    search = Search(crew, settings(search={"budget": 3}))
    search.run()
    assert search.states() == states("EFEE")
    assert search.population.column("attempts").tolist() == [1] * 4


def test_a_device_that_calculates_wrongly_is_taken_out_of_use_and_costs_no_individual() -> None:
    def answer(rank: int, task: Task) -> Outcome:
        return NAN if rank == 1 else GOOD

    search = Search(Crew(3, answer), settings(search={"budget": 20}, run={"device_failures": 2}))
    search.run()
    assert search.states() == states("E" * 20)
    assert "going on without rank 1 on node-1 (cuda:0): 2 evaluations in a row have failed here, but not elsewhere" in (
        search.listener.warnings
    )


def test_that_a_loss_was_not_finite_is_known_after_a_restart() -> None:
    store = left_behind()
    store.retry(dataclasses.replace(failed(6, kind=FailureKind.NAN), attempt=1))
    search = Search(Crew(2, by_individual({6: [NAN, NAN]})), settings(search={"budget": 7}), store)
    search.run()
    assert search.population.failures[6] == NAN
    assert [attempt for _, id, attempt in search.crew.given if id == 6] == [2]


def test_a_retry_spares_all_who_share_the_device() -> None:
    """Ranks 1 and 2 are on one device: rank 3 tries again what one of them has failed at, when it has time."""

    def answer(rank: int, task: Task) -> Outcome:
        return CRASH if rank < 3 else GOOD

    crew = Crew(3, answer, lambda rank: Place(rank, "node", f"cuda:{rank // 3}"))
    search = Search(crew, settings(search={"budget": 4}, run={"device_failures": 100}))
    search.run()
    assert {attempt for rank, _, attempt in search.crew.given if rank < 3} == {1}
    assert len(search.population.failures) == 0


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


@pytest.mark.parametrize("passing", [{1}, {3}, {1, 2, 3}])
def test_a_search_whose_workers_may_start_the_next_time_has_more_to_do(passing: set[int]) -> None:
    search = Search(Crew(3))
    search.crew.inbox = deque((rank, Refused(place(rank), "no process", rank in passing)) for rank in (1, 2, 3))
    assert search.stopped().exit_code == MORE_TO_DO
    assert len(search.population) == 0


def unable(lost: set[int], search: Callable[[], Search]) -> Answer:
    """Workers that can begin one task, but not a second one; the others are good."""
    asked: set[int] = set()

    def answer(rank: int, task: Task) -> Outcome | None:
        if rank not in lost or rank not in asked:
            asked.add(rank)
            return GOOD
        search().crew.inbox.append((rank, Refused(place(rank), "the GPU has gone", passes=True)))
        return None

    return answer


def test_the_work_of_a_worker_that_cannot_go_on_goes_to_another_as_if_it_had_not_begun() -> None:
    search = Search(Crew(2, unable({1}, lambda: search)))
    search.run()
    assert search.states() == states("EEEEE")
    assert search.population.column("attempts").tolist() == [1] * 5
    assert search.population.failed_attempts == []
    assert search.listener.warnings == ["going on without rank 1 on node-1 (cuda:0): the GPU has gone"]
    assert [rank for rank, _, _ in search.crew.given].count(1) == 2


def test_the_last_worker_that_cannot_go_on_leaves_its_work_to_another_job() -> None:
    search = Search(Crew(2, unable({1, 2}, lambda: search)))
    stop = search.stopped()
    assert (stop.exit_code, str(stop)) == (MORE_TO_DO, "there is no worker left that can train")
    assert search.listener.warnings[-2].endswith("(and 1 other ranks): the GPU has gone")
    assert search.states() == states("EEII")
    assert search.population.column("attempts").tolist() == [1, 1, 0, 0]
    assert search.population.failed_attempts == []


def test_a_worker_of_a_bad_device_that_cannot_go_on_is_told_of_once() -> None:
    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 2:
            return GOOD
        if any("going on without" in text for text in search.listener.warnings):
            return None
        if len([one for one, _ in search.crew.tasks if one == 1]) <= 2:
            return CRASH
        search.crew.inbox.append((1, Refused(place(1), "the GPU has gone", passes=True)))
        return None

    search = Search(Crew(2, answer), settings(search={"budget": 12}, run={"device_failures": 2}))
    search.run()
    assert search.states() == states("E" * 12)
    without = [text for text in search.listener.warnings if "going on without" in text]
    assert len(without) == 1


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


@pytest.mark.parametrize("late", ["result", "ready", "refused"])
def test_what_a_dead_worker_had_still_to_say_comes_too_late(late: str) -> None:
    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 1:
            refused = Refused(place(1), "no data")
            said = {"result": result(1, task, GOOD), "ready": Ready(place(1), FACTS, {}), "refused": refused}[late]
            search.crew.inbox.extend([(1, Died()), (1, said)])
            return None
        return GOOD

    search = Search(Crew(2, answer), settings(search={"budget": 3}))
    search.run()
    assert search.crew.given == [(1, 0, 1), (2, 1, 1), (2, 0, 1), (2, 2, 1)]
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
