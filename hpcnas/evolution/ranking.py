"""The evaluated individuals from the fittest down, kept in order while they come: which one has rank r?

    keys   [-0.91 -0.90 -0.90 …]  [-0.88 …]  …      blocks of at most 2 048, ascending; a key is minus a fitness
    ids    [   17     3    40 …]  [    5 …]  …      of equals, the first evaluated first

Adding or removing one moves the entries of one block at the most, however many blocks there are. Knows neither
populations nor random numbers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

import numpy as np

_MOST = 2048  # individuals of a block


class Ranking:
    """Individuals by rank, from 0 (the fittest) to n−1. One whose fitness is NaN is less fit than all others."""

    def __init__(self, ids: np.ndarray, fitness: np.ndarray) -> None:
        """`ids` (int64) and `fitness` (float64), both of shape (n,), in the order of evaluation."""
        keys = np.nan_to_num(-fitness, nan=np.inf, posinf=np.inf, neginf=-np.inf)
        order = np.argsort(keys, kind="stable")
        cuts = range(0, len(order), _MOST // 2)
        self._keys = [array("d", keys[order[cut : cut + _MOST // 2]].tobytes()) for cut in cuts] or [array("d")]
        self._ids = [array("q", ids[order[cut : cut + _MOST // 2]].tobytes()) for cut in cuts] or [array("q")]
        self._last = [block[-1] for block in self._keys if block]
        self._length = len(order)

    def __len__(self) -> int:
        return self._length

    def add(self, id: int, fitness: float) -> None:
        """Adds an individual that was evaluated after all the others."""
        key = -fitness if fitness == fitness else float("inf")
        number = min(bisect_right(self._last, key), len(self._keys) - 1)
        keys, ids = self._keys[number], self._ids[number]
        place = bisect_right(keys, key)
        keys.insert(place, key)
        ids.insert(place, id)
        self._last[number : number + 1] = [keys[-1]]
        self._length += 1
        if len(keys) > _MOST:
            half = _MOST // 2
            self._keys[number : number + 1] = [keys[:half], keys[half:]]
            self._ids[number : number + 1] = [ids[:half], ids[half:]]
            self._last[number : number + 1] = [keys[half - 1], keys[-1]]

    def remove(self, id: int, fitness: float) -> None:
        """Removes an individual that was added with this fitness. Raises KeyError where it is not there."""
        key = -fitness if fitness == fitness else float("inf")
        for number in range(bisect_left(self._last, key), len(self._last)):  # equals may fill several blocks
            keys, ids = self._keys[number], self._ids[number]
            first, last = bisect_left(keys, key), bisect_right(keys, key)
            if id not in ids[first:last]:
                continue
            place = ids.index(id, first, last)
            del keys[place], ids[place]
            self._last[number : number + 1] = [keys[-1]] if keys else []
            if not keys and len(self._keys) > 1:
                del self._keys[number], self._ids[number]
            self._length -= 1
            return
        raise KeyError(f"expected an individual of fitness {fitness} in the ranking, but {id} is not there")

    def __getitem__(self, rank: int) -> int:
        """The id of the individual of that rank. Raises IndexError unless 0 ≤ rank < n."""
        block, place = self._find(rank)
        return self._ids[block][place]

    def equals(self, rank: int) -> tuple[int, int]:
        """The range of ranks (first, last), without last, of all that are as fit as the individual of this rank.

        Raises IndexError unless 0 ≤ rank < n."""
        block, place = self._find(rank)
        key = self._keys[block][place]
        first, last = bisect_left(self._last, key), min(bisect_right(self._last, key), len(self._keys) - 1)
        return (
            self._before(first) + bisect_left(self._keys[first], key),
            self._before(last) + bisect_right(self._keys[last], key),
        )

    def _find(self, rank: int) -> tuple[int, int]:
        """Block and place of a rank, searched from the first block on, where the winners of tournaments are."""
        if not 0 <= rank < self._length:
            raise IndexError(f"expected a rank from 0 to {self._length - 1}, got {rank}")
        for number, keys in enumerate(self._keys):
            if rank < len(keys):
                return number, rank
            rank -= len(keys)
        raise AssertionError("the blocks hold all ranks")

    def _before(self, number: int) -> int:
        """How many individuals stand in earlier blocks."""
        return sum(len(keys) for keys in self._keys[:number])
