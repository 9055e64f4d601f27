"""Schedules by their values."""

from __future__ import annotations

import pytest

from hpcnas.training.schedules import cosine, divided, rising, warmed_up


def test_a_tenth_from_each_milestone_on() -> None:
    assert [divided(0.5, (0.4, 0.8), step, 5) for step in range(5)] == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])


def test_half_a_cosine_from_the_first_rate_to_none() -> None:
    rates = [cosine(0.2, step, 6) for step in range(7)]
    assert rates == pytest.approx([0.2, 0.186602540, 0.15, 0.1, 0.05, 0.013397460, 0.0], abs=1e-9)


def test_a_straight_line_from_nothing_to_the_last_value() -> None:
    assert [rising(0.5, step, 4) for step in range(5)] == [0.0, 0.125, 0.25, 0.375, 0.5]


def test_a_rate_rises_to_the_schedules_in_the_first_share_of_the_steps() -> None:
    assert [warmed_up(0.4, 0.5, step, 8) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert [warmed_up(0.4, share, 0, 8) for share in (0, 0.01)] == [0.4, 0.4]
    assert warmed_up(0.8, 1, 7, 8) == 0.8
