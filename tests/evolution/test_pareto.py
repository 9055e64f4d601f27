"""Fronts and crowding, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpcnas.evolution.pareto import Point, crowding, fronts


def points(*pairs: tuple[float, float]) -> list[Point]:
    """From (cost, fitness)."""
    return [Point(id, fitness, cost) for id, (cost, fitness) in enumerate(pairs)]


def by_definition(given: list[Point]) -> list[set[int]]:
    """Front after front: those that nobody left dominates."""
    left, found = list(given), []
    while left:
        first = [one for one in left if not any(other.dominates(one) for other in left)]
        found.append({one.id for one in first})
        left = [one for one in left if one not in first]
    return found


def test_who_dominates_whom() -> None:
    a, b, c, d = points((1, 0.9), (2, 0.9), (1, 0.8), (1, 0.9))
    assert a.dominates(b) and a.dominates(c)
    assert not b.dominates(c) and not c.dominates(b)
    assert not a.dominates(d) and not d.dominates(a), "equals do not"


def test_the_fronts_of_a_few() -> None:
    found = fronts(points((3, 0.9), (1, 0.5), (2, 0.7), (2, 0.6), (3, 0.7), (4, 0.1)))
    assert [[point.id for point in front] for front in found] == [[1, 2, 0], [3, 4], [5]]


@pytest.mark.parametrize("seed", range(40))
def test_fronts_are_as_defined_with_many_equals(seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 6, size=(40, 2)).tolist()
    given = points(*((cost, fitness) for cost, fitness in drawn))
    assert [{point.id for point in front} for front in fronts(given)] == by_definition(given)


def test_a_point_is_crowded_by_its_neighbours_and_an_end_by_nobody() -> None:
    front = points((0, 0.0), (1, 0.5), (2, 0.6), (10, 1.0))
    assert crowding(front) == [math.inf, pytest.approx(0.2 + 0.6), pytest.approx(0.9 + 0.5), math.inf]
    assert crowding(front[:2]) == [math.inf, math.inf]
    assert crowding(points((1, 0.5), (1, 0.5), (1, 0.5))) == [math.inf, 0.0, math.inf]
