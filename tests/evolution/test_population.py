"""Population: births and results, their order, the best, and the way into columns and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from examples import SPACE, assert_same, evaluated, failed, individual, population

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import FLAT
from hpcnas.evolution.individuals import COLUMNS, State
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Result

# Births


def test_a_population_begins_empty() -> None:
    empty = population()
    assert (len(empty), empty.issued, empty.in_flight, empty.best, empty.redrawn) == (0, [], 0, None, 0)
    assert empty.evaluated.tolist() == []


def test_a_birth_comes_back_as_it_was() -> None:
    found = population(births=2)
    child = replace(individual(2, parent=1, redrawn=3), view=7)
    found.add(child)
    assert found.individual(2) == child
    assert found.individual(0) == individual(0)
    assert found.individual(0).parent is None


@pytest.mark.parametrize("id", [0, 3])
def test_ids_follow_one_another(id: int) -> None:
    with pytest.raises(ValueError, match=f"^expected the birth of individual 2, got {id}$"):
        population(births=2).add(individual(id))


@pytest.mark.parametrize("parent", [-1, 2, 5])
def test_a_parent_was_born_before(parent: int) -> None:
    with pytest.raises(ValueError, match=f"^expected a parent before individual 2, got {parent}$"):
        population(births=2).add(individual(2, parent))


def test_a_genotype_is_of_the_populations_space() -> None:
    other = replace(individual(0), genotype=Genotype(FLAT, bytes(55)))
    with pytest.raises(ValueError, match=r"^expected a genotype of space 2x3/1x3, got one of flat$"):
        population().add(other)


def test_a_refused_birth_leaves_no_trace() -> None:
    found = population(births=2)
    with pytest.raises(ValueError, match="parent"):
        found.add(individual(2, parent=2, redrawn=9))
    assert_same(found, population(births=2))


def test_refused_genotypes_are_summed() -> None:
    found = population()
    for id, redrawn in enumerate((2, 0, 3)):
        found.add(individual(id, redrawn=redrawn))
    assert found.redrawn == 5


def test_lineage_goes_from_the_individual_to_its_first_ancestor() -> None:
    found = population(births=2)
    found.add(individual(2, parent=0))
    found.add(individual(3, parent=2))
    assert [one.id for one in found.lineage(3)] == [3, 2, 0]
    assert [one.id for one in found.lineage(1)] == [1]


# Results


def test_a_fitness_is_the_mean_of_the_accuracies() -> None:
    found = population(evaluated(0, 0.25, 0.75))
    assert found.column("fitness").tolist() == [0.5]
    assert found.column("state").tolist() == [State.EVALUATED]
    assert found.result(0) == evaluated(0, 0.25, 0.75)


def test_a_failure_is_a_record_and_no_fitness() -> None:
    found = population(failed(0))
    assert np.isnan(found.column("fitness")).tolist() == [True]
    assert found.column("state").tolist() == [State.FAILED]
    assert found.column("failure").tolist() == [FailureKind.OOM]
    assert found.failures == {0: Failure(FailureKind.OOM, "Traceback\nout of memory")}
    assert found.result(0) == failed(0)


def test_evaluations_keep_the_order_of_their_arrival_and_failures_are_not_among_them() -> None:
    found = population(evaluated(3), failed(1), evaluated(0), births=5)
    assert found.evaluated.tolist() == [3, 0]
    assert found.issued == [2, 4]
    assert found.in_flight == 2


def test_the_best_is_the_first_of_equals() -> None:
    assert population(evaluated(2, 0.5, 0.7), evaluated(0, 0.6, 0.6), evaluated(1, 0.2, 0.2)).best == 2
    assert population(evaluated(2, 0.5, 0.7), evaluated(0, 0.6, 0.7)).best == 0


def test_the_best_is_the_one_that_is_expected_to_be() -> None:
    found = population(evaluated(2, 0.5, 0.7), evaluated(0, 0.9, 0.9), evaluated(1, 0.2, 0.2))
    found.expects = lambda population, view: {2: 0.6, 0: 0.5, 1: 0.6}
    assert (found.best, found.measured_best, found.fittest()) == (2, 0, [2, 1, 0])
    assert found.bests.tolist() == [2, 0, 0]
    found.expects = lambda population, view: {}
    assert (found.best, found.fittest()) == (0, [0, 2, 1])


def test_failures_alone_have_no_best() -> None:
    assert population(failed(0)).best is None


def test_a_long_device_and_host_keep_their_beginning() -> None:
    place = Place(1, "h" * 80, "d" * 63 + "é")  # é has two bytes, and the first of them is the 64th
    found = population(replace(evaluated(0), place=place))
    assert found.result(0).place == Place(1, "h" * 64, "d" * 63 + "\ufffd")


@pytest.mark.parametrize("result", [evaluated(0), failed(0), evaluated(1), failed(2), evaluated(-1)])
def test_a_result_needs_an_individual_in_flight(result: Result) -> None:
    found = population(evaluated(0), failed(1))
    with pytest.raises(
        ValueError, match=f"^expected the result of an individual in flight, got one of {result.individual}$"
    ):
        found.settle(result)
    assert_same(found, population(evaluated(0), failed(1)))


def test_a_result_has_an_accuracy_for_each_replicate() -> None:
    found = population(births=1)
    expected = r"^individual 0: expected accuracies of some of its 2 replicates .* got 3 from number 0 on$"
    with pytest.raises(ValueError, match=expected):
        found.settle(evaluated(0, 0.1, 0.2, 0.3))
    assert_same(found, population(births=1))


def test_there_is_no_result_in_flight() -> None:
    with pytest.raises(ValueError, match=r"^individual 0 is in flight: there is no result yet$"):
        population(births=1).result(0)


@pytest.mark.parametrize("id", [-1, 2])
def test_unknown_individuals_are_refused(id: int) -> None:
    found = population(births=2)
    with pytest.raises(IndexError, match=f"^expected an individual from 0 to 1, got {id}$"):
        found.individual(id)
    with pytest.raises(IndexError, match=f"^expected an individual from 0 to 1, got {id}$"):
        found.result(id)


# Attempts


def test_a_failed_attempt_that_is_repeated_leaves_the_individual_in_flight() -> None:
    found = population(births=1)
    found.retry(failed(0))
    assert (found.issued, found.failures, found.failed_attempts) == ([0], {}, [failed(0)])
    assert found.column("attempts").tolist() == [2]
    assert found.column("state").tolist() == [State.ISSUED]


def test_all_failed_attempts_are_kept_in_order() -> None:
    found = population(births=2)
    found.retry(failed(1, "first"))
    found.settle(failed(0))
    found.settle(failed(1, "last"))
    assert found.failed_attempts == [failed(1, "first"), failed(0), failed(1, "last")]
    assert found.failures[1] == Failure(FailureKind.OOM, "last")


def test_an_attempt_after_a_failed_one_may_succeed() -> None:
    found = population(births=1)
    found.retry(failed(0))
    found.settle(evaluated(0))
    assert (found.best, found.failures, found.failed_attempts) == (0, {}, [failed(0)])


@pytest.mark.parametrize("result", [failed(0), failed(2), evaluated(1)])
def test_only_a_failure_in_flight_is_repeated(result: Result) -> None:
    found = population(evaluated(0), births=2)
    with pytest.raises(ValueError, match=r"^expected the failed attempt of an individual in flight, got "):
        found.retry(result)
    assert_same(found, population(evaluated(0), births=2))


# Columns


def test_columns_have_their_types_and_shapes() -> None:
    found = population(evaluated(0), births=3)
    widths = {"": (3,), "edges": (3, 9), "replicates": (3, 2), "hash": (3, 16), "curves": (3, 0),
              "measured": (3, 0), "classes": (3, 0)}  # fmt: skip
    for column in COLUMNS:
        assert (found.column(column.name).dtype, found.column(column.name).shape) == (
            column.dtype,
            widths[column.width],
        )


def test_columns_are_read_only() -> None:
    found = population(evaluated(0))
    for array in (found.column("fitness"), found.evaluated):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_what_is_not_known_is_missing() -> None:
    found = population(births=1)
    blank = ("accuracies", "fitness", "started", "finished", "setup_seconds", "training_seconds", "validation_seconds")
    for name in blank:
        assert np.isnan(found.column(name)).all(), name
    for name in ("parent", "parameters", "rank"):
        assert found.column(name).tolist() == [-1], name
    for name in ("failure", "attempts"):
        assert found.column(name).tolist() == [0], name
    assert found.column("host").tolist() == found.column("device").tolist() == [b""]


@pytest.mark.parametrize("births", [63, 64, 65, 200])
def test_growth_keeps_everything(births: int) -> None:
    found = population(*(evaluated(id, 0.0, id / 1000) for id in reversed(range(births))))
    assert len(found) == births
    assert found.evaluated.tolist() == list(reversed(range(births)))
    assert [found.individual(id) for id in range(births)] == [individual(id) for id in range(births)]
    assert [found.result(id) for id in range(births)] == [evaluated(id, 0.0, id / 1000) for id in range(births)]
    assert found.best == births - 1


def test_a_view_taken_before_growth_still_shows_what_it_showed() -> None:
    found = population(*(evaluated(id) for id in range(64)))
    view, fitness = found.evaluated, found.column("fitness")
    found.add(individual(64))
    found.settle(evaluated(64))
    assert (view.tolist(), len(fitness)) == (list(range(64)), 64)


def _columns(found: Population) -> dict[str, np.ndarray]:
    return {column.name: found.column(column.name) for column in COLUMNS}


SOME = (evaluated(2, 0.5, 0.7), failed(1), evaluated(0, 0.6, 0.6))


@pytest.mark.parametrize("births", [0, 1, 5, 64, 100])
def test_columns_come_back_as_a_population(births: int) -> None:
    results = SOME if births > 2 else ()
    old = population(*results, births=births)
    if births > 4:
        old.retry(failed(4))
    new = Population.from_columns(SPACE, 2, _columns(old), old.evaluated, old.failed_attempts)
    assert_same(new, old)
    for one in (old, new):  # and it goes on alike
        one.add(individual(births, redrawn=2))
        one.settle(evaluated(births, 0.9, 0.9))
    assert_same(new, old)


def test_a_population_from_columns_grows_like_any_other() -> None:
    old = population(*SOME)
    columns = {name: column.copy() for name, column in _columns(old).items()}
    new = Population.from_columns(SPACE, 2, columns, old.evaluated.copy(), old.failed_attempts)
    for grown in (old, new):
        for id in range(len(old), 200) if grown is old else range(len(new), 200):
            grown.add(individual(id))
            grown.settle(evaluated(id, 0.001 * id, 0.5))
    assert_same(new, old)


def test_a_ranking_is_that_of_the_first_evaluations() -> None:
    found = population(*(evaluated(id, fitness, fitness) for id, fitness in ((2, 0.5), (0, 0.7), (3, 0.6), (1, 0.9))))
    for view, expected in ((4, [1, 0, 3, 2]), (2, [0, 2]), (3, [0, 3, 2]), (0, []), (4, [1, 0, 3, 2])):
        ranking = found.ranking(view)
        assert [ranking[rank] for rank in range(len(ranking))] == expected


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("fitness", np.zeros(2), r"column fitness: expected float64 of shape (3,), got float64 of (2,)"),
        ("fitness", np.zeros(3, "f4"), r"column fitness: expected float64 of shape (3,), got float32 of (3,)"),
        ("genotype", np.zeros((3, 8), "u1"), r"column genotype: expected uint8 of shape (3, 9), got uint8 of (3, 8)"),
        ("state", np.array([2, 3, 0], "u1"), "column state: expected 1 to 4 everywhere"),
        ("state", np.array([2, 3, 9], "u1"), "column state: expected 1 to 4 everywhere"),
        ("state", np.array([2, 3, 1], "u1"), "expected each evaluated individual once in the order of evaluation"),
    ],
)
def test_columns_that_no_run_has_written_are_refused(name: str, column: np.ndarray, message: str) -> None:
    old = population(*SOME)
    with pytest.raises(ValueError) as caught:
        Population.from_columns(SPACE, 2, {**_columns(old), name: column}, old.evaluated, old.failed_attempts)
    assert str(caught.value) == message


def test_a_failed_individual_without_its_attempts_is_refused() -> None:
    old = population(*SOME)
    with pytest.raises(ValueError, match=r"^expected the failed attempts of every failed individual$"):
        Population.from_columns(SPACE, 2, _columns(old), old.evaluated, [])


@pytest.mark.parametrize("order", [[2], [2, 0, 0], [2, 1], [0, 2, 1]])
def test_an_order_of_evaluation_that_does_not_fit_is_refused(order: list[int]) -> None:
    old = population(*SOME)
    with pytest.raises(ValueError, match=r"^expected each evaluated individual once in the order of evaluation$"):
        Population.from_columns(SPACE, 2, _columns(old), np.array(order), old.failed_attempts)


def test_an_evaluation_is_what_its_columns_say() -> None:
    outcome = population(evaluated(0, 0.25, 0.5)).result(0).outcome
    assert isinstance(outcome, Evaluation)
    assert (outcome.accuracies, outcome.parameters, outcome.setup_seconds) == ((0.25, 0.5), 1000, 0.25)
