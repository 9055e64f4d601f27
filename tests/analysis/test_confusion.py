"""Which classes are taken for which: literal counts."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnas.analysis.confusion import Confusion, Pair, added

#                  ape ape ape ape bee bee gnu gnu gnu, and no image of a fourth class
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 3, 0, 1, 1])
FOUND = Confusion.of(LABELS, PREDICTED, 4)


def test_the_matrix_has_classes_as_rows_and_what_they_were_taken_for_as_columns() -> None:
    expected = [[2, 2, 0, 0], [0, 1, 0, 1], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert FOUND.matrix().tolist() == expected
    assert [row.tolist() for row in FOUND.rows()] == expected
    assert FOUND.matrix([2, 0]).tolist() == [[0, 1], [0, 2]]


def test_accuracies_of_classes() -> None:
    assert FOUND.images.tolist() == [4, 2, 3, 0] and FOUND.right.tolist() == [2, 1, 0, 0]
    np.testing.assert_array_equal(FOUND.accuracies, [0.5, 0.5, 0.0, np.nan])
    assert FOUND.worst(9) == [2, 0, 1] and FOUND.best(2) == [0, 1]  # of equals that of more images first


def test_pairs_that_are_confused_most_often() -> None:
    assert FOUND.pairs(3) == [Pair(0, 1, 2, 0.5), Pair(2, 1, 2, 2 / 3), Pair(1, 3, 1, 0.5)]
    assert FOUND.most_confused(2) == [0, 1] and FOUND.most_confused(3) == [0, 1, 2]
    assert Confusion.of(np.arange(5), np.arange(5), 5).pairs(3) == []
    assert len(Confusion.of(np.arange(50), np.arange(50), 50).most_confused(20)) == 20


def test_many_classes_cost_what_occurs() -> None:
    huge = Confusion.of(np.array([0, 2**24 - 1]), np.array([2**24 - 1, 5]), 2**24)
    assert huge.counts.tolist() == [1, 1] and huge.matrix([5, 2**24 - 1]).tolist() == [[0, 0], [1, 0]]


def test_several_together_are_that_of_all_their_images() -> None:
    both = added([FOUND, Confusion.of(np.array([3, 0]), np.array([0, 1]), 4)])
    expected = Confusion.of(np.append(LABELS, [3, 0]), np.append(PREDICTED, [0, 1]), 4)
    assert both.matrix().tolist() == expected.matrix().tolist()


def test_what_is_no_class_is_refused() -> None:
    for labels, predicted in (([0, 1], [0]), ([4], [0]), ([0], [-1])):
        with pytest.raises(ValueError, match="expected as many labels as predictions, from 0 to 3"):
            Confusion.of(np.array(labels), np.array(predicted), 4)
    assert Confusion.of(np.array([], dtype=int), np.array([], dtype=int), 4).images.tolist() == [0, 0, 0, 0]
