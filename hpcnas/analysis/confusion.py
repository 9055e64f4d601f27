"""Which classes are taken for which: confusion counts, class-wise accuracies and the most confused pairs.

Numbers alone, of any labels and predictions. Only pairs that occur are held, so that many classes cost little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pair:
    """Images of one class that were taken for another."""

    label: int
    predicted: int
    count: int
    share: float  # of the images of the class, 0 to 1


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often images of each of C classes were taken for each. Of the P pairs that occur, in the order of labels and
    then of predictions: int64 (P,)."""

    classes: int
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Confusion:
        """That of N images, integers (N,) from 0 to classes − 1 each. Raises ValueError for others."""
        labels, predicted = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
        both = np.concatenate([labels, predicted])
        if labels.shape != predicted.shape or (len(both) and not 0 <= both.min() <= both.max() < classes):
            raise ValueError(f"expected as many labels as predictions, from 0 to {classes - 1}")
        pairs, counts = np.unique(labels * classes + predicted, return_counts=True)
        return cls(classes, pairs // classes, pairs % classes, counts.astype(np.int64))

    @property
    def images(self) -> NDArray[np.int64]:
        """Images of each class, int64 (C,)."""
        return self._sums(self.counts)

    @property
    def right(self) -> NDArray[np.int64]:
        """Of these the ones that were classified correctly, int64 (C,)."""
        return self._sums(np.where(self.labels == self.predicted, self.counts, 0))

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Share of each class's images that were classified correctly, float64 (C,); NaN for a class without images."""
        images = self.images
        return np.divide(self.right, images, out=np.full(self.classes, np.nan), where=images > 0)

    def _sums(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(self.labels, weights=values, minlength=self.classes).astype(np.int64)

    def matrix(self, chosen: Sequence[int] | None = None) -> NDArray[np.int64]:
        """int64 (K, K): rows are classes, columns what their images were taken for; of all classes, or of the K chosen
        ones in that order."""
        order = list(range(self.classes)) if chosen is None else list(chosen)
        place = np.full(self.classes, -1)
        place[order] = np.arange(len(order))
        rows, columns = place[self.labels], place[self.predicted]
        inside = (rows >= 0) & (columns >= 0)
        found = np.zeros((len(order), len(order)), dtype=np.int64)
        found[rows[inside], columns[inside]] = self.counts[inside]
        return found

    def rows(self) -> Iterator[NDArray[np.int64]]:
        """The rows of the matrix of all classes, int64 (C,) each, one at a time."""
        ends = np.searchsorted(self.labels, np.arange(self.classes + 1))
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            row = np.zeros(self.classes, dtype=np.int64)
            row[self.predicted[start:end]] = self.counts[start:end]
            yield row

    def pairs(self, most: int) -> list[Pair]:
        """The pairs of different classes that are confused most often; of equals first those of the least numbers."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        order = wrong[np.argsort(-self.counts[wrong], kind="stable")[:most]]
        images = self.images
        return [
            Pair(label, predicted, count, count / int(images[label]))
            for label, predicted, count in zip(
                self.labels[order].tolist(), self.predicted[order].tolist(), self.counts[order].tolist(), strict=True
            )
        ]

    def worst(self, most: int) -> list[int]:
        """The classes of the lowest accuracies, the lowest first; of equals first those of more images. Classes without
        images are left out."""
        images, accuracies = self.images, self.accuracies
        order = np.lexsort((np.arange(self.classes), -images, accuracies))
        return [number for number in order.tolist() if images[number]][:most]

    def best(self, most: int) -> list[int]:
        """Likewise those of the highest, the highest first."""
        images, accuracies = self.images, self.accuracies
        order = np.lexsort((np.arange(self.classes), -images, -accuracies))
        return [number for number in order.tolist() if images[number]][:most]

    def most_confused(self, most: int) -> list[int]:
        """Up to that many classes, in the order of their numbers: those of the most confused pairs, then the worst."""
        chosen = dict[int, None]()
        for pair in self.pairs(most):
            chosen |= dict.fromkeys((pair.label, pair.predicted)) if len(chosen) + 2 <= most else {}
        for number in self.worst(self.classes):
            if len(chosen) >= most:
                break
            chosen[number] = None
        return sorted(chosen)


def added(parts: Sequence[Confusion]) -> Confusion:
    """All of them together: of several trainings on the same classes, at least one."""
    labels = np.concatenate([one.labels for one in parts])
    predicted = np.concatenate([one.predicted for one in parts])
    counts = np.concatenate([one.counts for one in parts])
    classes = parts[0].classes
    pairs, place = np.unique(labels * classes + predicted, return_inverse=True)
    summed = np.bincount(place, weights=counts, minlength=len(pairs)).astype(np.int64)
    return Confusion(classes, pairs // classes, pairs % classes, summed)
