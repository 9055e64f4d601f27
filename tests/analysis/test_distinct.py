"""Different texts of a column, against NumPy's slow way."""

from __future__ import annotations

import string

import numpy as np
import pytest

from hpcnas.analysis.distinct import distinct


@pytest.mark.parametrize("width", [1, 8, 13, 64])
def test_the_texts_in_their_order_and_where_each_row_has_its_own(width: int) -> None:
    names = [b"node-2", b"node-1", b"", b"node-1", b"node-10", b"\xff\x00\x01", b"node-2"]
    column = np.array(names, dtype=f"S{width}")
    values, codes = distinct(column)
    expected, places = np.unique(column, return_inverse=True)
    assert values.tolist() == expected.tolist() and codes.tolist() == places.tolist()


def test_many_texts_that_differ_in_one_letter() -> None:
    column = np.array([f"gpu-{number:05d}.example.org" for number in range(20_000)][::-1], dtype="S64")
    values, codes = distinct(column)
    assert values[codes].tolist() == column.tolist() and len(values) == 20_000


@pytest.mark.parametrize("first", range(1, 9))
def test_many_texts_that_differ_in_two_letters_wherever_these_stand(first: int) -> None:
    """Also where both are the last letters of words of eight."""
    letters = [f"{one}{'-' * 7}{other}" for one in string.ascii_letters for other in string.ascii_letters]
    column = np.array(["x" * first + pair for pair in letters], dtype="S64")
    values, codes = distinct(column)
    assert values[codes].tolist() == column.tolist() and len(values) == len(letters)


def test_of_no_row_there_is_no_text() -> None:
    values, codes = distinct(np.empty(0, dtype="S64"))
    assert (len(values), len(codes)) == (0, 0)
