"""Lines from accuracies at a rung to final ones: by hand, and from which curves of a population."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from curved import RUNGS, copied, stopped, trained
from curved import population as with_results
from examples import SPACE, individual

from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.learning_curves import LEAST, complete, fitted, lines, outcomes
from hpcnas.evolution.population import Population
from hpcnas.messages import Result, mean


def test_a_line_by_hand() -> None:
    reached = np.array([0.0, 1.0] * 10)
    final = np.array([0.2, 0.6, 0.4, 0.8] * 5)  # means of 0.3 and 0.7, each 0.1 off
    line = fitted(reached, final)
    assert line is not None
    assert (line.intercept, line.slope) == (pytest.approx(0.3), pytest.approx(0.4))
    assert line.deviation == pytest.approx(math.sqrt(20 * 0.01 / 18))
    assert (line.count, line.final(0.5)) == (20, pytest.approx(0.5))


def test_a_line_without_deviation() -> None:
    reached = np.arange(32) / 64
    line = fitted(reached, 0.25 + reached)
    assert line is not None and (line.intercept, line.slope, line.deviation) == (0.25, 1.0, 0.0)


@pytest.mark.parametrize(
    ("reached", "final"),
    [
        (np.arange(LEAST - 1) / 100, np.arange(LEAST - 1) / 100),  # too few
        (np.arange(30) / 100, 0.9 - np.arange(30) / 100),  # falls
        (np.arange(30) / 100, np.full(30, 0.5)),  # says nothing of the end
        (np.full(30, 0.5), np.arange(30) / 100),  # equal at the rung
        (np.empty(0), np.empty(0)),
    ],
)
def test_where_there_is_no_line(reached: np.ndarray, final: np.ndarray) -> None:
    assert fitted(reached, final) is None


def four(*results: Result, births: int = 0) -> Population:
    found = Population(SPACE, 4, RUNGS)
    for id in range(births or len(results)):
        found.add(individual(id))
    for result in results:
        found.settle(result)
    return found


FOUR = ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.9))


@pytest.mark.parametrize(
    ("judged", "reached", "final"),
    [(0, (0.1, 0.2), 0.5), (1, (0.1, 0.2), 0.5), (2, (0.15, 0.25), 0.55), (4, (0.25, 0.45), 0.65)],
)
def test_those_that_were_judged_together_are_learnt_from_else_the_first(
    judged: int, reached: Sequence[float], final: float
) -> None:
    found = complete(four(trained(0, (0.5, 0.6, 0.7, 0.8), FOUR, judged)), 1)
    assert found[0].tolist() == [pytest.approx(reached)]
    assert found[1].tolist() == [pytest.approx(final)]


def test_one_that_racing_has_given_up_has_a_complete_curve() -> None:
    found = complete(four(trained(0, (0.5,), FOUR[:1], 1)), 1)
    assert (found[0].tolist(), found[1].tolist()) == ([[0.1, 0.2]], [0.5])


@pytest.mark.parametrize(
    "result",
    [
        trained(0, (0.5, 0.6), ()),  # of an evaluator that knows no rungs
        trained(0, (math.nan, 0.6)),
        trained(0, (0.5, math.inf), judged=2),
        stopped(0),
    ],
)
def test_what_is_not_learnt_from(result: Result) -> None:
    found = complete(with_results(result), 1)
    assert (found[0].shape, found[1].shape) == ((0, 2), (0,))
    assert lines(with_results(result), 1) == (None, None)


def test_a_replicate_alone_without_the_first_is_not_learnt_from() -> None:
    found = four(births=1)
    found.advance(trained(0, (0.6, 0.7, 0.8), (), first=1))
    found.settle(trained(0, (0.5,), ()))
    assert len(complete(found, 1)[1]) == 0


def test_confirmations_are_left_out_and_what_they_confirm_stays() -> None:
    found = with_results(trained(0, (0.5, 0.6)), trained(1, (0.7, 0.8)))
    before = complete(found, 2)
    found.add(replace(individual(2, parent=1), genotype=individual(1).genotype, birth=Birth.CONFIRMATION, repeats=1,
                      view=2))  # fmt: skip
    found.settle(trained(2, (0.65,), ((0.9, 0.9),)))
    assert found.competing(3).tolist() == [0, 2]
    after = complete(found, 3)
    assert [one.tolist() for one in after] == [one.tolist() for one in before]
    assert after[1].tolist() == [0.5, 0.7]


def test_repeats_and_founders_are_learnt_from() -> None:
    found = with_results(trained(0, (0.5, 0.6)))
    found.add(replace(individual(1), repeats=0))
    found.settle(trained(1, (0.75,), ((0.3, 0.4),)))
    found.add(replace(individual(2), birth=Birth.FOUNDER))
    found.settle(trained(2, (0.25, 0.5)))
    assert complete(found, 3)[1].tolist() == [0.5, 0.75, 0.25]


def test_stopped_ones_do_not_shift_the_line() -> None:
    generator = np.random.default_rng(4)
    several = []
    for id in range(60):
        at = float(generator.uniform(0.2, 0.6))
        several.append(trained(id, (at + 0.2, 0.5), ((at, at + 0.1), (0.3, 0.3))))
    alone = with_results(*several)
    mixed = with_results(*several, births=70)
    for id in range(60, 70):
        mixed.settle(stopped(id))
    assert lines(alone, 60) == lines(mixed, 60)
    line = lines(mixed, 60)[0]
    assert line is not None and (line.intercept, line.slope) == (pytest.approx(0.2), pytest.approx(1.0))


def test_lines_are_equal_to_the_last_bit_whatever_was_asked_before_and_after_the_file() -> None:
    generator = np.random.default_rng(5)
    found = Population(SPACE, 4, RUNGS)
    for id in range(90):
        found.add(individual(id))
        accuracies = generator.uniform(0.4, 0.9, size=4)
        curves = np.minimum.outer(accuracies, [1.0, 1.0]) * [0.5, 0.8] + generator.normal(size=(4, 2)) / 50
        found.settle(trained(id, tuple(accuracies.tolist()), tuple(map(tuple, curves.tolist())), judged=id % 5))
    again = copied(found)
    growing = [lines(found, view) for view in range(91)]
    assert [lines(again, view) for view in reversed(range(91))] == growing[::-1]
    assert [line is None for line in (growing[LEAST - 1][0], growing[LEAST][0])] == [True, False]
    assert growing[90] != growing[89]


def test_what_was_stopped_stands_among_the_outcomes_by_its_line() -> None:
    """Final accuracies are a quarter above those at the first rung; all are equal at the second."""
    found = with_results(births=LEAST + 5)
    for id in range(LEAST):
        found.settle(trained(id, (0.25 + id / 64, 0.0), ((id / 64, 0.5), (0.0, 0.0))))
    found.settle(stopped(LEAST + 1, (0.125,), (0.375,)))  # after LEAST evaluations, at a mean of a quarter
    found.settle(stopped(LEAST, (0.5,)))
    found.settle(stopped(LEAST + 2, (0.5, 0.5)))  # at a rung that has no line
    found.settle(trained(LEAST + 3, (0.0, 0.0), ((0.0, 0.5), (0.0, 0.0))))
    ids, fitness = outcomes(found, LEAST + 1)
    assert ids.tolist() == [*range(LEAST), LEAST, LEAST + 1, LEAST + 3]  # of one time, by their ids
    known = [float(found.column("fitness")[id]) for id in range(LEAST)]
    line = lines(found, LEAST + 1)[0]
    assert line is not None and line.slope > 0.5
    assert fitness.tolist() == [*known, line.final(0.5), line.final(0.25), 0.0]
    assert outcomes(found, LEAST)[0].tolist() == list(range(LEAST))  # those came after what this view knows
    with pytest.raises(ValueError, match="in flight"):
        found.result(LEAST + 4)


def test_without_stops_outcomes_are_the_fitness_of_those_that_compete() -> None:
    found = with_results(trained(1), trained(0, (0.1, 0.2)))
    ids, fitness = outcomes(found, 2)
    assert (ids.tolist(), fitness.tolist()) == ([1, 0], [0.55, mean((0.1, 0.2))])
