"""In which order a retraining sees its images: a pure function of the seed, so that every rank, and every job that
continues, knows it without being told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcnas import seeds


class Order:
    """Images 0 to n−1, all of them in random order, then all of them in another one, and so on without end."""

    def __init__(self, images: int, seed: int) -> None:
        self._images = images
        self._seed = seed
        self._epochs: dict[int, NDArray[np.int64]] = {}  # the two that were asked for last

    def __call__(self, first: int, count: int) -> NDArray[np.int64]:
        """The images at the places `first` to `first + count − 1`, from 0: int64 (count,)."""
        places = np.arange(first, first + count)
        epochs = places // self._images
        found = np.empty(count, dtype=np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            found[here] = self._epoch(epoch)[places[here] % self._images]
        return found

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            self._epochs = {known: order for known, order in self._epochs.items() if known == epoch - 1}
            self._epochs[epoch] = seeds.order_generator(self._seed, epoch).permutation(self._images)
        return self._epochs[epoch]
