"""What new trainings of a network would give: weights by hand."""

from __future__ import annotations

import pytest

from hpcnas.evolution.expectation import LEAST, Measured, expected, variances


def test_the_mean_and_the_squares_of_a_network() -> None:
    one = Measured.of(0.7, [0.5, 0.75, 1.0])
    assert (one.predicted, one.mean, one.count, one.squares) == (0.7, 0.75, 3, 0.125)


def test_of_single_trainings_half_is_luck() -> None:
    lucky, other = Measured.of(0.6, [0.9]), Measured.of(0.6, [0.7])
    assert variances([lucky, other], 0.02) == pytest.approx((0.01, 0.01))
    assert expected([lucky, other], 0.02) == pytest.approx([0.85, 0.75]), "predictions are 0.2 too low on an average"


def test_a_network_that_was_trained_often_is_judged_by_its_trainings() -> None:
    often = Measured(predicted=0.8, mean=0.9, count=9, squares=0.08)
    once = Measured(predicted=0.8, mean=0.7, count=1, squares=0.0)
    noise, own = variances([often, once], 0.02)
    assert (noise, own) == pytest.approx(((0.08 + 8 * 0.01) / 16, 0.01))
    assert expected([often, once], 0.02) == pytest.approx([0.8 + 0.1 * 0.9, 0.8 - 0.1 * 0.5])


def test_where_all_is_noise_the_prediction_decides() -> None:
    noisy = [Measured(0.8, 0.9, 9, 0.8), Measured(0.82, 0.7, 9, 0.8)]
    noise, own = variances(noisy, 0.001)
    assert own == pytest.approx(LEAST * noise)
    found = expected(noisy, 0.001)
    assert found[0] - found[1] < 0.05 < 0.2
