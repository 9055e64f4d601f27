"""How a fitness becomes tasks, and that its parts add up: in the controller, at a restart, and after failures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from examples import evaluated, population
from scripted_crew import ERROR, Crew, Search, place, settings, states

from hpcnas import seeds
from hpcnas.config.search import SearchConfig, SearchSettings
from hpcnas.evolution.budget import evaluations_left, has_room
from hpcnas.evolution.population import Population
from hpcnas.evolution.tasks import Replicates, next_tasks
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Result, Task


@pytest.mark.parametrize(
    ("scheduling", "racing", "missing", "expected"),
    [
        ("fitness", False, [0, 1, 2, 3], [(0, 4)]),
        ("fitness", False, [1, 3], [(1, 1), (3, 1)]),  # what another scheduling has left
        ("fitness", True, [0, 1, 2, 3], [(0, 1)]),
        ("fitness", True, [1, 2, 3], [(1, 3)]),
        ("replicate", False, [0, 1, 2, 3], [(0, 1), (1, 1), (2, 1), (3, 1)]),
        ("replicate", False, [2], [(2, 1)]),
        ("replicate", True, [1, 2, 3], [(1, 1)]),
    ],
)
def test_what_is_a_task(scheduling: str, racing: bool, missing: list[int], expected: Sequence[tuple[int, int]]) -> None:
    search = SearchSettings(scheduling=scheduling, racing=racing)
    assert next_tasks(search, missing, replicates=4) == [Replicates(first, count) for first, count in expected]


@pytest.mark.parametrize(
    ("search", "to_come", "room"),
    [
        (SearchSettings(budget=4), 100, True),  # three are born, of which one is evaluated
        (SearchSettings(budget=3), 0, False),
        (SearchSettings(budget=4, trainings=5), 2, True),  # two trainings are done
        (SearchSettings(budget=4, trainings=5), 3, False),
    ],
)
def test_there_is_room_for_a_birth_until_both_budgets_are_issued(
    search: SearchSettings, to_come: int, room: bool
) -> None:
    assert has_room(search, population(evaluated(0, 0.5, 0.5), births=3), to_come) is room


def four(**search: object) -> SearchConfig:
    return settings(search={"budget": 3, **search}, training={"replicates": 4})


def accuracy(task: Task, number: int) -> float:
    """What training `number` of a task's individual finds."""
    return 0.5 + task.individual / 100 + (task.first + number) / 1000


def trained(rank: int, task: Task) -> Evaluation:
    """Each replicate by its number; the first costs 1 s of set-up, each 2 s of training."""
    count = len(task.seeds)
    accuracies = tuple(accuracy(task, number) for number in range(count))
    return Evaluation(accuracies, 1000, 1.0, 2.0 * count, 0.25 * count)


def parts(search: Search) -> list[tuple[int, int, int]]:
    """Individual, first replicate and number of replicates of every task, in order."""
    return [(task.individual, task.first, len(task.seeds)) for _, task in search.crew.tasks]


def columns(population: Population) -> dict[str, list[float]]:
    names = ("accuracies", "fitness", "replicates_trained", "training_seconds", "validation_seconds")
    return {name: population.column(name).tolist() for name in names}


def whole() -> Population:
    """What whole fitnesses give."""
    search = Search(Crew(2, trained), four())
    search.run()
    return search.population


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_replicates_of_their_own_give_the_same_fitness(workers: int) -> None:
    search = Search(Crew(workers, trained), four(scheduling="replicate"))
    search.run()
    assert sorted(parts(search)) == [(id, number, 1) for id in range(3) for number in range(4)]
    assert columns(search.population) == columns(whole())
    assert search.population.trainings == 12
    assert [task.seeds for _, task in search.crew.tasks if task.individual == 1] == [
        (seed,) for seed in seeds.training_seeds(9, 1, 4)
    ]
    assert len(search.listener.results) == 3
    assert search.listener.results[0].outcome.accuracies == whole().accuracies(0)


def test_a_later_session_trains_only_what_is_missing() -> None:
    """Three of four replicates are done, not the second, when the job ends."""

    def answer(rank: int, task: Task) -> Outcome | None:
        return None if task.first == 1 else trained(rank, task)

    search = Search(
        Crew(2, answer),
        four(scheduling="replicate", budget=1),
        reason=lambda: "time is up" if search.population.trainings == 3 else None,
    )
    search.stopped()
    assert (search.states(), search.population.missing(0)) == (states("I"), [1])
    again = Search(Crew(2, trained), four(budget=3), store=search.store)
    again.run()
    assert parts(again) == [(0, 1, 1), (1, 0, 4), (2, 0, 4)]
    assert columns(again.population)["accuracies"] == columns(whole())["accuracies"]


def test_a_replicate_that_crashes_is_tried_again_alone() -> None:
    def answer(rank: int, task: Task) -> Outcome | None:
        failed = task.individual == 1 and task.first == 2 and task.attempt == 1
        return Failure(FailureKind.CRASH, "crash") if failed else trained(rank, task)

    search = Search(Crew(2, answer), four(scheduling="replicate"))
    search.run()
    assert [part for part in parts(search) if part[:2] == (1, 2)] == [(1, 2, 1), (1, 2, 1)]
    assert columns(search.population) == columns(whole())
    assert search.population.column("attempts").tolist() == [1, 2, 1]


def test_when_a_replicate_fails_for_good_the_others_are_dropped() -> None:
    """The second fails; one waits and is not issued, another is under way and is not recorded."""
    late: list[tuple[int, Task]] = []

    def answer(rank: int, task: Task) -> Outcome | None:
        if task.individual != 0:
            return trained(rank, task)
        if task.first == 0:
            late.append((rank, task))
            return None
        return ERROR

    def reason() -> str | None:
        if late and len(search.population.failures):
            rank, task = late.pop()
            outcome = trained(rank, task)
            message = Result(0, 1, place(rank), 100.0, 110.0, outcome, task.first)
            search.crew.inbox.append((rank, message))
        return None

    search = Search(Crew(2, answer), four(scheduling="replicate", budget=2), reason=reason)
    search.run()
    assert [part for part in parts(search) if part[0] == 0] == [(0, 0, 1), (0, 1, 1)]
    assert search.states() == states("FEE")
    assert search.population.column("replicates_trained").tolist() == [0, 4, 4]


def test_the_trainings_can_end_the_search() -> None:
    search = Search(Crew(1, trained), four(budget=100, trainings=10))
    search.run()
    assert search.population.trainings == 12, "what is under way is brought to its end"
    again = Search(Crew(1, trained), four(budget=100, trainings=12), store=search.store)
    again.run()
    assert again.crew.tasks == []


def test_what_is_left_goes_by_whichever_budget_is_spent_first() -> None:
    search = Search(Crew(1, trained), four(budget=3))
    search.run()  # 3 evaluations, 12 trainings
    left = [
        evaluations_left(SearchSettings(budget=budget, trainings=trainings), search.population)
        for budget, trainings in [(3, None), (10, None), (10, 12), (10, 11), (10, 20), (10, 21), (5, 1000)]
    ]
    assert left == [0, 7, 0, 0, 2, 3, 2]
    empty = Population(search.population.space, replicates=4)
    assert evaluations_left(SearchSettings(budget=100, trainings=40), empty) == 10


def test_a_result_of_other_replicates_than_were_asked_for_is_a_broken_run() -> None:
    def answer(rank: int, task: Task) -> Outcome | None:
        message = Result(0, 1, place(rank), 100.0, 110.0, trained(rank, task), first=2)
        search.crew.inbox.append((rank, message))
        return None

    search = Search(Crew(1, answer), four(scheduling="replicate"))
    assert "that nobody asked it for" in str(search.stopped())
