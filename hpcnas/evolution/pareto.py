"""Which of several individuals are better where both fitness and cost count (Deb, Pratap, Agarwal and Meyarivan 2002, A
Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, §III).

    fitness │        a            a dominates c: it is no less fit and costs no more, and is better in one of both
            │   b                 a and b are the first front, c and d the second
            │       c     d
            └──────────────── cost

Knows points alone: neither populations nor genotypes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """An individual where more fitness and less cost are better. Neither is NaN."""

    id: int
    fitness: float
    cost: float

    def dominates(self, other: Point) -> bool:
        """Whether it is no worse in both and better in one."""
        return (
            self.fitness >= other.fitness
            and self.cost <= other.cost
            and (self.fitness > other.fitness or self.cost < other.cost)
        )


Front = list[Point]


def fronts(points: Sequence[Point]) -> list[Front]:
    """The points as fronts, the best front first, each by ascending cost; takes about n log n steps."""
    found: list[Front] = []
    fittest: list[float] = []  # minus the best fitness of each front so far: ascending
    for point in sorted(points, key=lambda point: (point.cost, -point.fitness)):
        number = bisect_left(fittest, -point.fitness)  # each front before has a fitter point, which costs no more
        while number < len(found) and fittest[number] == -point.fitness and found[number][-1].cost < point.cost:
            number += 1
        if number == len(found):
            found.append([point])
            fittest.append(-point.fitness)
        else:
            found[number].append(point)
            fittest[number] = -point.fitness
    return found


def crowding(front: Sequence[Point]) -> list[float]:
    """The crowding distance of each point of a front, whose points are by ascending cost.

    That is the sum of the sides of the box between its two neighbours, as shares of the front's extent; infinite for
    both ends."""
    if len(front) < 3:
        return [math.inf] * len(front)
    width = _extent([point.cost for point in front])
    height = _extent([point.fitness for point in front])
    inner = [
        (after.cost - before.cost) / width + abs(after.fitness - before.fitness) / height
        for before, after in zip(front, front[2:], strict=False)
    ]
    return [math.inf, *inner, math.inf]


def _extent(values: Sequence[float]) -> float:
    """The difference of the extremes; 1 where there is none."""
    return (max(values) - min(values)) or 1.0
