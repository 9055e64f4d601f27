"""Individuals that are stopped at a rung, and curves, in the population: in and out, what is refused, their costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from curved import CURVES, RUNGS, Play, copied, population, stopped, trained
from examples import SPACE, assert_same, evaluated, failed, individual

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.budget import evaluations_left, has_room, is_complete
from hpcnas.evolution.individuals import COLUMNS, State, recorded_columns
from hpcnas.evolution.population import Population
from hpcnas.evolution.tasks import Replicates, next_tasks
from hpcnas.messages import Evaluation, Result, Stopped


def test_a_stopped_individual_in_and_out() -> None:
    found = population(trained(0), stopped(1, (0.1, 0.2), (0.2, 0.4)), births=3)
    assert [State(state).name for state in found.column("state")] == ["EVALUATED", "STOPPED", "ISSUED"]
    assert found.result(1) == stopped(1, (0.1, 0.2), (0.2, 0.4))
    assert found.curves(1) == ((0.1, 0.2), (0.2, 0.4))
    assert (found.column("judged")[1], found.column("stopped_after")[1]) == (2, 1)
    assert found.column("stopped_after").tolist() == [-1, 1, -1]
    assert math.isnan(found.column("fitness")[1]) and found.accuracies(1) == ()
    assert (found.evaluated.tolist(), found.issued, found.best, found.searched) == ([0], [2], 0, 1)
    assert (found.stopped, found.trainings) == (1, 2 + 2 * 0.3)


def test_an_evaluation_brings_its_curves_back() -> None:
    found = population(trained(0, judged=2))
    assert found.result(0) == trained(0, judged=2)
    assert (found.curves(0), found.stopped, found.trainings) == (CURVES, 0, 2)


def test_an_evaluation_without_curves_is_taken() -> None:
    found = population(evaluated(0))
    assert found.result(0) == evaluated(0)
    assert found.curves(0) == ()


def test_curves_of_replicates_that_come_one_by_one() -> None:
    found = population(births=1)
    found.advance(trained(0, (0.5,), ((0.1, 0.2),), judged=1))
    assert (found.curves(0), found.missing(0)) == (((0.1, 0.2),), [1])
    found.settle(trained(0, (0.6,), ((0.3, 0.4),), first=1))
    outcome = found.result(0).outcome
    assert isinstance(outcome, Evaluation)
    assert (outcome.curves, outcome.judged, outcome.accuracies) == (((0.1, 0.2), (0.3, 0.4)), 1, (0.5, 0.6))


def test_after_an_attempt_that_failed() -> None:
    found = population(births=1)
    found.retry(replace(failed(0), attempt=1))
    found.settle(stopped(0, attempt=2))
    assert (found.column("attempts").tolist(), found.stopped, found.failures) == ([2], 1, {})
    assert found.result(0) == stopped(0, attempt=2)


def test_one_of_several_replicates_alone() -> None:
    found = population(stopped(0, (0.2,)))
    assert (found.column("judged").tolist(), found.trainings, found.curves(0)) == ([1], 0.1, ((0.2,),))


def test_trainings_are_counted_by_their_shares() -> None:
    found = population(*(stopped(id, (0.2,)) for id in range(10)), *(stopped(id, (0.2, 0.1)) for id in range(10, 20)))
    assert found.trainings == math.fsum([10 * 0.1, 10 * 0.3]) == copied(found).trainings
    assert isinstance(population(trained(0)).trainings, int)


def test_what_a_birth_knows_of_those_that_were_stopped() -> None:
    results = [trained(3), stopped(5), stopped(1), trained(0), stopped(4), trained(2)]
    found = population(*results, births=7)
    assert [found.stopped_before(view).tolist() for view in range(5)] == [[], [], [1, 5], [1, 5, 4], [1, 5, 4]]
    assert population(trained(0)).stopped_before(1).tolist() == []


NAN = math.nan


@pytest.mark.parametrize(
    "wrong",
    [
        lambda one: one.settle(Result(0, 1, trained(0).place, 1.0, 2.0, Stopped((), 9, 0.0, 1.0, 0.0))),
        lambda one: one.settle(stopped(0, ())),
        lambda one: one.settle(stopped(0, (0.1,), (0.1, 0.2))),
        lambda one: one.settle(stopped(0, (0.1, 0.2, 0.3))),
        lambda one: one.settle(stopped(0, (0.1,), (0.1,), (0.1,))),
        lambda one: one.settle(stopped(0, (NAN,))),
        lambda one: one.settle(replace(stopped(0), first=1)),
        lambda one: one.settle(stopped(2)),
        lambda one: one.settle(stopped(3)),
        lambda one: one.settle(stopped(5)),
        lambda one: one.settle(stopped(6)),
        lambda one: one.advance(stopped(0)),
        lambda one: one.retry(stopped(0)),
        lambda one: one.settle(trained(0, curves=((0.1,), (0.2,)))),
        lambda one: one.settle(trained(0, curves=((0.1, 0.2),))),
        lambda one: one.settle(trained(0, curves=((0.1, 0.2), (0.1, NAN)))),
        lambda one: one.settle(trained(0, judged=3)),
        lambda one: one.settle(trained(0, judged=-1)),
        lambda one: one.settle(trained(0, judged=300)),
        lambda one: one.settle(trained(0, curves=(), judged=1)),
        lambda one: one.advance(trained(0, (0.5,), ((0.1, 0.2),), judged=1, first=1)),
    ],
)
def test_what_does_not_fit_is_refused_without_a_trace(wrong: Callable[[Population], None]) -> None:
    def fresh() -> Population:
        one = population(births=6)
        one.advance(trained(1, (0.5,), ((0.1, 0.2),)))
        one.advance(trained(5, (0.5,), ((0.1, 0.2),), first=1))
        one.settle(trained(2))
        one.settle(stopped(3))
        one.add(replace(individual(6), repeats=2))
        return one

    found = fresh()
    with pytest.raises(ValueError, match="expected"):
        wrong(found)
    assert_same(found, fresh())
    assert (found.stopped, found.trainings) == (fresh().stopped, fresh().trainings)
    found.settle(stopped(0))
    assert found.stopped == 2


@pytest.mark.parametrize("result", [stopped(0), trained(0)])
def test_without_rungs_there_are_no_curves(result: Result) -> None:
    found = Population(SPACE, 2)
    found.add(individual(0))
    with pytest.raises(ValueError, match="expected accuracies at"):
        found.settle(result)
    assert found.issued == [0]


def test_a_population_grows_with_its_curves() -> None:
    found = Population(SPACE, 2, RUNGS)
    for id in range(200):
        found.add(individual(id))
        found.settle(stopped(id, (id / 200,)) if id % 3 else trained(id))
    assert [found.curves(id) for id in (0, 1, 199)] == [CURVES, ((0.005,),), ((0.995,),)]
    assert_same(copied(found), found)
    assert copied(found).stopped == found.stopped == 133


@pytest.mark.parametrize("state", [State.EVALUATED, State.FAILED, State.ISSUED])
def test_columns_that_say_stopped_without_curves_are_refused(state: State) -> None:
    found = population(trained(0), births=1)
    columns = {column.name: found.column(column.name).copy() for column in COLUMNS}
    columns["state"][:], columns["curves"][:] = State.STOPPED, np.nan
    with pytest.raises(ValueError, match="expected accuracies at 1 to 2 rungs"):
        Population.from_columns(SPACE, 2, columns, np.empty(0, dtype=np.int64), [], RUNGS)


def test_runs_without_rungs_have_the_columns_of_before() -> None:
    whole = recorded_columns(2, measured=True, weighed=True, waited=True)
    assert whole == COLUMNS
    assert {column.name for column in whole} - {column.name for column in recorded_columns(0, True, True, True)} == {
        "curves", "judged", "stopped_after"
    }  # fmt: skip
    assert not {"curves", "log_loss", "objective", "waiting_seconds"} & {column.name for column in recorded_columns(0)}


@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_of_events_is_the_same_from_its_columns(seed: int) -> None:
    found, play = Population(SPACE, 2, RUNGS), Play(seed)
    for _ in range(150):
        method, event = play.step(found)
        getattr(found, method)(event)
    again = copied(found)
    assert_same(again, found)
    assert (again.stopped, again.trainings) == (found.stopped, found.trainings)
    assert found.stopped > 5
    for id in range(len(found)):
        if id not in found.issued:
            assert again.result(id) == found.result(id)
    for view in (0, 3, len(found.evaluated) + 1):
        assert again.stopped_before(view).tolist() == found.stopped_before(view).tolist()


# Tasks and the budget


@pytest.mark.parametrize(
    ("scheduling", "racing", "missing", "expected"),
    [
        ("fitness", False, [0, 1, 2, 3], [(0, 4)]),
        ("fitness", False, [1, 2, 3], [(1, 3)]),
        ("fitness", True, [0, 1, 2, 3], [(0, 1)]),
        ("fitness", True, [1, 2, 3], [(1, 3)]),
        ("replicate", False, [0, 1, 2, 3], [(0, 1)]),
        ("replicate", False, [1, 2, 3], [(1, 1), (2, 1), (3, 1)]),
        ("replicate", False, [0], [(0, 1)]),  # of a repeat
        ("replicate", True, [0, 1, 2, 3], [(0, 1)]),
        ("replicate", True, [1, 2, 3], [(1, 1)]),
    ],
)
def test_what_is_a_task(scheduling: str, racing: bool, missing: list[int], expected: list[tuple[int, int]]) -> None:
    search = SearchSettings(scheduling=scheduling, racing=racing, early_stopping=True)
    assert next_tasks(search, missing, replicates=4) == [Replicates(first, count) for first, count in expected]


@pytest.mark.parametrize(
    ("search", "to_come", "room", "left"),
    [
        (SearchSettings(budget=4), 0, True, 2),  # one is evaluated, one stopped, one in flight
        (SearchSettings(budget=3), 0, False, 1),
        (SearchSettings(budget=2), 0, False, 0),
        (SearchSettings(budget=9, trainings=3), 0, True, 1),  # 2 and 2 · 0.1 trainings are done: 1.1 each
        (SearchSettings(budget=9, trainings=5), 2, True, 3),
        (SearchSettings(budget=9, trainings=4), 2, False, 2),
        (SearchSettings(budget=9, trainings=2), 0, False, 0),
    ],
)
def test_a_stopped_individual_takes_its_share_of_the_budgets(
    search: SearchSettings, to_come: int, room: bool, left: int
) -> None:
    found = population(trained(0), stopped(1), births=3)
    assert has_room(search, found, to_come) is room
    assert evaluations_left(search, found) == left


def test_the_budget_is_spent_by_stopped_ones_as_well() -> None:
    found = population(trained(0), stopped(1))
    assert is_complete(SearchSettings(budget=2), found)
    assert not is_complete(SearchSettings(budget=3), found)
    assert not is_complete(SearchSettings(budget=2), population(trained(0), stopped(1), births=3))
    assert is_complete(SearchSettings(budget=3, trainings=2), found)


def test_an_estimate_where_all_were_stopped_is_of_shares() -> None:
    found = population(*(stopped(id, (0.2,)) for id in range(3)))
    assert evaluations_left(SearchSettings(budget=100, trainings=1), found) == 7
    assert evaluations_left(SearchSettings(budget=100, trainings=10), found) == 97
    assert evaluations_left(SearchSettings(budget=3, trainings=1), found) == 0
