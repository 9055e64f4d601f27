"""Floors: by hand from the formula, of which tasks, and the same in whatever order they are asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from curved import RUNGS, copied, searched, settings, trained
from examples import FACTS, SPACE, Bar, individual

from hpcnas.evolution.early_stopping import NO_FLOOR, EarlyStopping
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.learning_curves import LEAST
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import make_strategy
from hpcnas.evolution.strategy import rounded
from hpcnas.evolution.tasks import Replicates


def twenty(births: int = 20) -> Population:
    """Final accuracies of 0.3 + 0.4 · x ± 0.1 at the first rung; at the second all are equal."""
    found = Population(SPACE, 2, RUNGS)
    for id in range(births):
        found.add(individual(id))
        x, above = float(id % 2), 0.1 if id % 4 > 1 else -0.1
        found.settle(trained(id, (0.3 + 0.4 * x + above, 0.0), ((x, 0.5), (0.0, 0.0))))
    return found


def test_the_floors_by_hand() -> None:
    floors = EarlyStopping(Bar(0.6), confidence=0.95).floors(twenty(), 20)
    t, s = 1.7341, math.sqrt(20 * 0.01 / 18)  # t of 18 degrees of freedom at 95 %
    assert floors == (pytest.approx((0.6 - t * s * math.sqrt(1 + 1 / 20) - 0.3) / 0.4, abs=1e-3), NO_FLOOR)


def test_a_higher_bar_or_less_confidence_raises_the_floor() -> None:
    several = [EarlyStopping(Bar(0.6), 0.95), EarlyStopping(Bar(0.7), 0.95), EarlyStopping(Bar(0.7), 0.6)]
    floors = [one.floors(twenty(), 20)[0] for one in several]
    assert floors == sorted(set(floors))


def test_at_a_confidence_of_one_half_the_line_itself_decides() -> None:
    assert EarlyStopping(Bar(0.5), 0.5).floors(twenty(), 20)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("bar", [None, -math.inf, math.nan])
def test_without_a_bar_nothing_is_below(bar: float | None) -> None:
    for floor in EarlyStopping(Bar(bar), 0.95).floors(twenty(), 20):
        assert not 0.0 < floor


@pytest.mark.parametrize("view", [0, 1, LEAST - 1])
def test_while_too_little_is_known_any_accuracy_will_do(view: int) -> None:
    assert EarlyStopping(Bar(0.6), 0.95).floors(twenty(), view) == (NO_FLOOR, NO_FLOOR)


def test_a_strategy_is_not_asked_for_its_bar_before_the_first_evaluation() -> None:
    class Strict(Bar):
        def bar(self, population: Population, view: int) -> float | None:
            assert view >= 1
            return 0.5

    assert EarlyStopping(Strict(0.5), 0.95).floors(twenty(), 0) == (NO_FLOOR, NO_FLOOR)


def test_floors_belong_to_the_first_trainings_of_a_new_network_alone() -> None:
    found, early = twenty(), EarlyStopping(Bar(0.6), 0.95)
    one = replace(individual(20), view=20)
    given = replace(one, birth=Birth.GIVEN)
    repeat = replace(one, repeats=0)
    confirmation = replace(repeat, birth=Birth.CONFIRMATION, parent=0)
    floors = early.floors(found, 20)
    assert floors != (NO_FLOOR, NO_FLOOR)
    for of in (one, given):
        assert early.floors_of(found, of, Replicates(0, 2)) == floors
        assert early.floors_of(found, of, Replicates(0, 1)) == floors
        assert early.floors_of(found, of, Replicates(1, 1)) == ()
    for of in (repeat, confirmation):
        assert early.floors_of(found, of, Replicates(0, 1)) == ()


@pytest.mark.parametrize(
    ("view", "expected"),
    [(0, 0), (1, 1), (20, 20), (63, 63), (64, 64), (65, 64), (127, 126), (128, 128), (131, 128), (1000, 992)],
)
def test_floors_are_made_anew_after_a_32nd_part(view: int, expected: int) -> None:
    assert rounded(view) == expected
    assert view - rounded(view) <= view / 32


@pytest.mark.parametrize("strategy", ["tournament", "aging", "random", "guided"])
def test_floors_are_the_same_in_whatever_order_they_are_asked_for(strategy: str) -> None:
    config = settings(search={"strategy": strategy, "budget": 90, "aging_population": 30})
    found = searched(config).population
    views = range(len(found.evaluated) + 1)
    growing = EarlyStopping(make_strategy(config, FACTS), 0.8)
    floors = [growing.floors(found, view) for view in views]
    again = copied(found)
    for other in (growing, EarlyStopping(make_strategy(config, FACTS), 0.8)):
        assert [other.floors(again, view) for view in reversed(views)] == floors[::-1]
    assert len(set(floors)) > 3
