"""Individuals that share a network, and which of them stands for it (`--duplicates average`). Not the paper's.

    individuals of one network     3        17       40       17 and 40 repeat 3
    trainings of their own         4         1        1
    place of their evaluation      5        21       60
    fitness is the mean of         4         5        6       accuracies: all of the network so far
    competes in views of           6 … 21   22 … 60  61 …     evaluations: the one that was measured last

The order of evaluations alone decides, not that of births: a repeat may be evaluated before the individual that it
repeats. Knows neither accuracies nor fitness.
"""

from __future__ import annotations

import heapq

import numpy as np


class Repeats:
    """The networks that several individuals have. Without any, each method takes constant time."""

    def __init__(self) -> None:
        self.first: dict[int, int] = {}  # repeat → the first individual with its network
        self._evaluated: dict[int, list[int]] = {}  # that first → the evaluated of its network, in order
        self._replaced: dict[int, int] = {}  # place of an evaluation → the one that it replaced

    def __contains__(self, id: int) -> bool:
        return id in self.first or id in self._evaluated

    def join(self, id: int, first: int, evaluated: bool) -> None:
        """Individual `id` is born and repeats `first`; `evaluated` tells whether that is evaluated already."""
        self.first[id] = first
        self._evaluated.setdefault(first, [first] if evaluated else [])

    def before(self, id: int) -> list[int]:
        """The individuals of its network that were evaluated before it; all so far where it is not evaluated."""
        evaluated = self._evaluated.get(self.first.get(id, id), [])
        return evaluated[: evaluated.index(id)] if id in evaluated else list(evaluated)

    def replace(self, id: int, place: int) -> int | None:
        """Individual `id` is evaluated, as number `place` from 0, and stands for its network from now on.

        Returns the individual that stood for it before, if there was one."""
        evaluated = self._evaluated.get(self.first.get(id, id))
        if evaluated is None:
            return None
        evaluated.append(id)
        if len(evaluated) == 1:
            return None
        self._replaced[place] = evaluated[-2]
        return evaluated[-2]

    def replaced(self, start: int, end: int) -> list[int]:
        """The individuals that were replaced by evaluations number `start` to `end` − 1."""
        replaced = self._replaced
        return [replaced[place] for place in range(start, end) if place in replaced] if replaced else []


def bests(ids: np.ndarray, fitness: np.ndarray, repeats: Repeats) -> np.ndarray:
    """The fittest of those that competed after each evaluation, of equals the first: ids, int64, shape (n,).

    `ids` (int64) and `fitness` (float64), both of shape (n,), are in the order of evaluation."""
    keys = np.nan_to_num(-fitness, nan=np.inf)
    if not repeats.replaced(0, len(ids)):
        lowest = np.minimum.accumulate(keys)
        first = np.concatenate([[True], lowest[1:] < lowest[:-1]])[: len(ids)]
        return ids[np.maximum.accumulate(np.where(first, np.arange(len(ids)), 0))]
    found, heap, gone = np.empty_like(ids), list[tuple[float, int, int]](), set[int]()
    for place, (key, id) in enumerate(zip(keys.tolist(), ids.tolist(), strict=True)):
        heapq.heappush(heap, (key, place, id))
        gone.update(repeats.replaced(place, place + 1))
        while heap[0][2] in gone:
            heapq.heappop(heap)
        found[place] = heap[0][2]
    return found
