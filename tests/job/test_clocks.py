"""Clocks that nobody sets."""

from __future__ import annotations

import pytest

from hpcnas.job import clocks


def test_only_looks_make_an_attentive_clock_go_on() -> None:
    time = [100.0]
    clock = clocks.Attentive(1.0, lambda: time[0])
    readings = []
    for step in (0.25, 1.0, 3600.0, 0.5, -7200.0, 0.25):  # stopped for an hour; a clock that went back
        time[0] += step
        readings.append(clock())
    assert readings == [0.25, 1.25, 2.25, 2.75, 2.75, 3.0]


def test_dates_do_not_follow_a_wall_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    steady, wall = [50.0], [1e9]
    monkeypatch.setattr(clocks, "steady", lambda: steady[0])
    monkeypatch.setattr(clocks.time, "time", lambda: wall[0])
    now = clocks.Dated()
    assert now() == 1e9
    steady[0], wall[0] = 53.0, 1e9 - 3597.0
    assert now() == 1e9 + 3.0
