"""Individuals that share a network, and which of them stands for it (`--duplicates average`). Not the paper's.

    individuals of one network     3        17       40       17 and 40 repeat 3
    trainings of their own         4         1        1
    place of their evaluation      5        21       60
    fitness is the mean of         4         5        6       accuracies: all of the network so far
    competes in views of           6 … 21   22 … 60  61 …     evaluations: the one that was measured last

The order of evaluations alone decides, not that of births: a repeat may be evaluated before the individual that it
repeats.

A confirmation (`confirmation`) is a repeat too, but begins a mean of its own: what its network was chosen for is left
out of it. Where a network has two confirmations, the best individual is one of them: among the networks that have more
than half as many as the most trained one, the fittest. Knows neither accuracies nor how fitness comes about.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from hpcnas.config.search import LEAST_CONFIRMATIONS


class Repeats:
    """The networks that several individuals have. Without any, each method takes constant time."""

    def __init__(self) -> None:
        self.first: dict[int, int] = {}  # repeat → the first individual with its network
        self._evaluated: dict[int, list[int]] = {}  # that first → the evaluated of its network, in order
        self._replaced: dict[int, int] = {}  # place of an evaluation → the one that it replaced
        self.confirming: set[int] = set()  # all confirmations
        self.confirmed: dict[int, list[int]] = {}  # first of a network → its evaluated confirmations, in order

    def __contains__(self, id: int) -> bool:
        return id in self.first or id in self._evaluated

    def join(self, id: int, first: int, evaluated: bool, confirms: bool = False) -> None:
        """Individual `id` is born and repeats `first`, perhaps to confirm it; `evaluated` tells whether that is
        evaluated already."""
        self.first[id] = first
        if confirms:
            self.confirming.add(id)
        self._evaluated.setdefault(first, [first] if evaluated else [])

    def before(self, id: int) -> list[int]:
        """The individuals that its fitness is of beside itself: those of its network that were evaluated before it; all
        so far where it is not evaluated."""
        first = self.first.get(id, id)
        evaluated = self.confirmed.get(first, []) if id in self.confirming else self._evaluated.get(first, [])
        return evaluated[: evaluated.index(id)] if id in evaluated else list(evaluated)

    def replace(self, id: int, place: int) -> int | None:
        """Individual `id` is evaluated, as number `place` from 0, and stands for its network from now on.

        Returns the individual that stood for it before, if there was one."""
        first = self.first.get(id, id)
        evaluated = self._evaluated.get(first)
        if evaluated is None:
            return None
        evaluated.append(id)
        if id in self.confirming:
            self.confirmed.setdefault(first, []).append(id)
        if len(evaluated) == 1:
            return None
        self._replaced[place] = evaluated[-2]
        return evaluated[-2]

    def replaced(self, start: int, end: int) -> list[int]:
        """The individuals that were replaced by evaluations number `start` to `end` − 1."""
        replaced = self._replaced
        return [replaced[place] for place in range(start, end) if place in replaced] if replaced else []

    @property
    def confirmations(self) -> int:
        """How many confirmations are evaluated."""
        return sum(map(len, self.confirmed.values()))


def best_confirmed(confirmed: Mapping[int, Sequence[int]], fitness: Mapping[int, float] | np.ndarray) -> int | None:
    """The individual that stands for the best of the networks with such confirmations (`Repeats.confirmed`), by the
    fitness (float64) of each individual; None while each network has less than two."""
    least = max(LEAST_CONFIRMATIONS, max(map(len, confirmed.values()), default=0) // 2 + 1)
    found = [several[-1] for several in confirmed.values() if len(several) >= least]
    return max(found, key=lambda id: fitness[id], default=None)


def bests(ids: np.ndarray, fitness: np.ndarray, repeats: Repeats) -> np.ndarray:
    """The best individual after each evaluation: ids, int64, shape (n,). It is the fittest of those that competed, of
    equals the first, before they were confirmed; then that of `best_confirmed`, once there is one.

    `ids` (int64) and `fitness` (float64), both of shape (n,), are in the order of evaluation."""
    found = _fittest(ids, fitness, repeats)
    if not repeats.confirmed:
        return found
    confirming = {id: first for first, several in repeats.confirmed.items() for id in several}
    confirmed, values, best = dict[int, list[int]](), dict[int, float](), None
    for place, id in enumerate(ids.tolist()):
        if id in confirming:
            values[id] = float(fitness[place])
            confirmed.setdefault(confirming[id], []).append(id)
            best = best_confirmed(confirmed, values)
        if best is not None:
            found[place] = best
    return found


def _fittest(ids: np.ndarray, fitness: np.ndarray, repeats: Repeats) -> np.ndarray:
    """The fittest of those that competed after each evaluation, of equals the first."""
    keys = np.nan_to_num(-fitness, nan=np.inf)
    if not repeats.replaced(0, len(ids)):
        lowest = np.minimum.accumulate(keys)
        first = np.concatenate([[True], lowest[1:] < lowest[:-1]])[: len(ids)]
        return ids[np.maximum.accumulate(np.where(first, np.arange(len(ids)), 0))]
    found, heap, gone = np.empty_like(ids), list[tuple[float, int, int]](), set[int]()
    confirms: dict[int, int] = {}  # confirmation → whom it stands for, who stays here
    for place, (key, id) in enumerate(zip(keys.tolist(), ids.tolist(), strict=True)):
        replaced = [confirms.get(one, one) for one in repeats.replaced(place, place + 1)]
        if id in repeats.confirming:
            confirms.update((id, one) for one in replaced)
        else:
            heapq.heappush(heap, (key, place, id))
            gone.update(replaced)
        while heap[0][2] in gone:
            heapq.heappop(heap)
        found[place] = heap[0][2]
    return found
