"""The controller of a search with early stopping: what tasks carry, and what becomes of those that end at a rung."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from curved import searched
from curved import settings as synthetic
from scripted_crew import CRASH, Crew, Numbered, Search, settings

from hpcnas.config.search import SearchConfig
from hpcnas.evolution.budget import is_complete
from hpcnas.evolution.early_stopping import NO_FLOOR, EarlyStopping
from hpcnas.evolution.individuals import State
from hpcnas.evolution.learning_curves import LEAST
from hpcnas.evolution.population import Population
from hpcnas.job.status import MORE_TO_DO
from hpcnas.messages import Died, Evaluation, Outcome, Stopped, Task, first_below
from hpcnas.search import simulation
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.progress import final_table

RUNGS = (0.25, 0.5)


def config(**search: object) -> SearchConfig:
    training = {"rungs": list(RUNGS), "replicates": search.pop("replicates", 2)}
    return settings(search={"early_stopping": True, "budget": 40, **search}, training=training)


class Barred(Numbered):
    """A strategy that demands a fitness of 0.9."""

    def bar(self, population: Population, view: int) -> float | None:
        return 0.9


def accuracy(task: Task, replicate: int = 0) -> float:
    return 0.5 + (task.individual * 7 % 10) / 100 + replicate / 1000


def train(rank: int, task: Task) -> Outcome:
    """Accuracies that rise by a tenth from rung to rung, to the end; ends where they are below a floor."""
    final = [accuracy(task, task.first + number) for number in range(len(task.seeds))]
    curves = tuple((one - 0.2 - one / 100 * (task.individual % 3), one - 0.1) for one in final)
    if (rung := first_below(curves, task.floors)) is not None:
        return Stopped(tuple(curve[: rung + 1] for curve in curves), 1000, 0.0, 0.5, 0.0)
    return Evaluation(tuple(final), 1000, 0.0, 1.0, 0.0, curves, len(curves) if task.floors else 0)


def search(crew: Crew, of: SearchConfig, store: MemoryStore | None = None) -> Search:
    return Search(crew, of, store, strategy=Barred)


def test_tasks_carry_rungs_and_the_floors_of_their_individuals_view() -> None:
    found = search(Crew(3, train), config())
    found.run()
    early, population = EarlyStopping(Barred(None), 0.95), found.population  # type: ignore[arg-type]
    for _, task in found.crew.tasks:
        view = population.individual(task.individual).view
        assert (task.rungs, task.floors) == (2, early.floors(population, view))
        assert (task.floors == (NO_FLOOR, NO_FLOOR)) == (view < LEAST)
    assert population.stopped > 5
    assert population.searched + population.stopped == len(population) == 40


def test_with_rungs_alone_tasks_carry_no_floors() -> None:
    found = search(Crew(2, train), config(early_stopping=False, budget=5))
    found.run()
    assert [(task.rungs, task.floors) for _, task in found.crew.tasks] == [(2, ())] * 5
    assert found.population.curves(0) != () and set(found.population.column("judged").tolist()) == {0}


@pytest.mark.parametrize("stops", [True, False])
def test_an_evaluator_without_curves_is_told_of_once(stops: bool) -> None:
    def answer(rank: int, task: Task) -> Outcome:
        return Evaluation((0.5,) * len(task.seeds), 1000, 0.0, 1.0, 0.0)

    found = search(Crew(2, answer), config(early_stopping=stops, budget=6))
    found.run()
    told = [text for text in found.listener.warnings if "no learning curves" in text]
    assert len(told) == stops and found.population.searched == 6


def test_without_rungs_tasks_are_as_before() -> None:
    found = Search(Crew(2))
    found.run()
    assert {(task.rungs, task.floors) for _, task in found.crew.tasks} == {(0, ())}


def halt(plan: dict[int, int]) -> Callable[[int, Task], Outcome]:
    """Ends the first trainings of some individuals at a rung, by their ids; trains all others."""

    def answer(rank: int, task: Task) -> Outcome:
        if task.first or task.individual not in plan:
            return train(rank, replace(task, floors=()))
        curve = (0.1, 0.2)[: plan[task.individual]]
        return Stopped((curve,) * len(task.seeds), 1000, 0.0, 0.5, 0.0)

    return answer


def names(found: Search) -> str:
    return "".join(state[0] for state in found.states())


def tasks(found: Search) -> list[tuple[int, int, int]]:
    """Individual, first replicate and how many, of every task in order."""
    return [(task.individual, task.first, len(task.seeds)) for _, task in found.crew.tasks]


@pytest.mark.parametrize("workers", [1, 2, 5, 9])
def test_a_stopped_one_is_settled_and_told_and_counts_for_the_budget(workers: int) -> None:
    found = search(Crew(workers, halt({1: 1, 3: 2})), config(budget=5))
    found.run()
    assert names(found) == "ESESE"
    population = found.population
    assert (population.stopped, population.searched) == (2, 3)
    assert population.trainings == 3 * 2 + 2 * 0.25 + 2 * 0.5
    assert sorted(result.individual for result in found.listener.results) == [0, 1, 2, 3, 4]
    told = next(result for result in found.listener.results if result.individual == 3)
    assert str(told).startswith("individual 3: stopped at a rung (so far 0.1000 0.2000) on rank")
    assert {stop.exit_code for stop in found.crew.stops.values()} == {0}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [(0, 0, 2), (1, 0, 2)]),
        ({"scheduling": "replicate"}, [(0, 0, 1), (1, 0, 1), (1, 1, 1)]),
        ({"racing": True}, [(0, 0, 1), (1, 0, 1), (1, 1, 1)]),
        ({"racing": True, "scheduling": "replicate"}, [(0, 0, 1), (1, 0, 1), (1, 1, 1)]),
        ({"replicates": 3, "racing": True}, [(0, 0, 1), (1, 0, 1), (1, 1, 2)]),
        ({"replicates": 3, "racing": True, "scheduling": "replicate"},
         [(0, 0, 1), (1, 0, 1), (1, 1, 1), (1, 2, 1)]),
        ({"replicates": 3, "scheduling": "replicate"}, [(0, 0, 1), (1, 0, 1), (1, 1, 1), (1, 2, 1)]),
    ],
)  # fmt: skip
def test_nothing_more_of_a_stopped_one_is_trained(
    how: dict[str, object], expected: Sequence[tuple[int, int, int]]
) -> None:
    found = search(Crew(1, halt({0: 1})), config(budget=2, initial_population=2, **how))
    found.run()
    assert names(found) == "SE"
    assert tasks(found) == expected
    assert [bool(task.floors) for _, task in found.crew.tasks] == [first == 0 for _, first, _ in expected]


def test_an_attempt_that_failed_is_tried_again_with_the_same_floors() -> None:
    again = halt({1: 1})
    found = search(Crew(2, lambda rank, task: CRASH if task.attempt == 1 else again(rank, task)), config(budget=2))
    found.run()
    assert names(found) == "ES"
    assert found.population.column("attempts").tolist() == [2, 2]
    assert len({task.floors for _, task in found.crew.tasks if task.individual == 1}) == 1


def test_a_stop_is_a_success() -> None:
    """Failures in a row end with it, and those of a device."""
    of = config(budget=12, initial_population=12)
    of = replace(of, run=replace(of.run, max_failures=2, max_attempts=1))
    again = halt(dict.fromkeys(range(40), 1))
    found = search(Crew(1, lambda rank, task: CRASH if task.individual % 2 else again(rank, task)), of)
    found.run()
    assert (found.population.stopped, found.population.searched) == (12, 0)


def test_all_may_be_stopped() -> None:
    found = search(Crew(3, halt(dict.fromkeys(range(9), 1))), config(budget=5, confirm=2))
    found.run()
    assert names(found) == "SSSSS"
    assert found.population.best is None and is_complete(found.config.search, found.population)
    table = final_table(found.population)
    assert "stopped early      5" in table and "evaluated          0" in table and "best" not in table


def test_work_of_a_dead_worker_is_stopped_elsewhere() -> None:
    crew = Crew(2)
    plain = halt({1: 1})

    def answer(rank: int, task: Task) -> Outcome | None:
        if rank == 2:
            crew.inbox.append((2, Died()))
            return None
        return plain(rank, task)

    crew.answer = answer
    crew.silent = {2}
    found = search(crew, config(budget=3))
    found.run()
    assert names(found) == "ESE"
    first, second = (task for _, task in crew.tasks if task.individual == 1)
    assert first == second


def test_a_restart_gives_the_same_floors_and_the_same_individuals() -> None:
    whole = search(Crew(1, train), config())
    whole.run()
    store = MemoryStore(config())
    for _ in range(4):
        turns = iter(range(7))
        one = search(Crew(1, train), config(), store)
        one.reason = lambda turns=turns: None if next(turns, None) is not None else "so it is"  # type: ignore[misc]
        assert one.stopped().exit_code == MORE_TO_DO
    last = search(Crew(1, train), config(), store)
    last.run()
    found = store.population
    assert found.column("state").tolist() == whole.population.column("state").tolist()
    assert found.column("genotype").tolist() == whole.population.column("genotype").tolist()
    assert found.stopped == whole.population.stopped > 5


@pytest.mark.parametrize("confidence", [0.5, 0.99])
def test_trainings_end_the_search(confidence: float) -> None:
    of = config(trainings=50, budget=400, early_stopping_confidence=confidence)
    found = search(Crew(3, train), of)
    found.run()
    population = found.population
    assert 50 <= population.trainings < 50 + 3 * 2
    assert population.in_flight == 0 and population.stopped > 0


@pytest.mark.parametrize("least", [{}, {"strategy": "random", "replicates": 1}])
def test_a_search_that_is_too_short_for_lines_stops_nobody(least: dict[str, object]) -> None:
    replicates = least.pop("replicates", 2)
    found = searched(synthetic(search={**least, "budget": LEAST}, training={"replicates": replicates})).population
    assert found.stopped == 0 and set(found.column("judged").tolist()) == {replicates}
    assert set(found.column("state").tolist()) == {State.EVALUATED}


def test_failures_and_stops_together() -> None:
    fates = {"synthetic_crashes": 0.2, "synthetic_nans": 0.1}
    of = synthetic(evaluation=fates, run={"grace": 0.0, "max_failures": 100})
    found = searched(of).population
    assert found.stopped > 10 and len(found.failures) > 3 and found.failed_attempts
    assert found.searched + found.stopped == of.search.budget


def test_a_simulation_tells_how_many_were_stopped() -> None:
    report = simulation.simulate(synthetic(), simulation.Site(workers=4, startup=1.0, queue=0.0, handling=0.001))
    assert report.stopped > 10 and report.evaluated + report.stopped == 120
    assert f"evaluated             {report.evaluated} ({report.stopped} stopped early, 0 failed" in report.text()
