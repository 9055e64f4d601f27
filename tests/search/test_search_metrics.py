"""What trackers get of a search: a step an evaluation, from the store what an earlier job has left, each once."""

from __future__ import annotations

from typing import Any

import curved
import pytest
from examples import CONFIG, evaluated, failed, population
from followed import Followed

from hpcnas.evolution.guided import Guided
from hpcnas.evolution.initial import GivenFirst
from hpcnas.search import metrics
from hpcnas.search.metrics import (
    BEST,
    CORRELATION,
    FAILED,
    FITNESS,
    GIVEN_UP,
    IDLE,
    PARAMETERS,
    QUEUE,
    STOPPED,
    SearchMetrics,
)


def test_each_evaluation_is_a_step_and_what_was_before_the_job_comes_first() -> None:
    found, trackers, told = population(evaluated(1), births=4), Followed(), SearchMetrics()
    told.begin(trackers, found)
    found.settle(failed(2))
    told.settled(found)  # no evaluation
    found.settle(evaluated(0, 0.25, 0.25))
    found.settle(evaluated(3, 0.75, 0.75))
    told.settled(found)
    told.settled(found)
    assert trackers.begun == [("search", 1)]
    assert [(entry.step, entry.time) for entry in trackers.entries] == [(1, 3011.0), (2, 3010.0), (3, 3013.0)]
    assert trackers.curve(FITNESS) == {1: 0.55, 2: 0.25, 3: 0.75}
    assert trackers.curve(BEST) == {1: 0.55, 2: 0.75, 3: 0.75}  # as of when both were told
    assert trackers.curve(PARAMETERS) == {1: 1001.0, 2: 1000.0, 3: 1003.0}
    assert trackers.curve(QUEUE) == {1: 1000.0, 2: 1000.0, 3: 1000.0}
    assert trackers.curve(FAILED) == {2: 1.0, 3: 1.0}
    told.close(complete=True)
    assert trackers.closed is True


def test_the_past_is_that_of_the_population() -> None:
    found, trackers = population(evaluated(1), evaluated(0, 0.25, 0.25), evaluated(2, 0.75, 0.75)), Followed()
    SearchMetrics().begin(trackers, found)
    assert trackers.curve(BEST) == {1: 0.55, 2: 0.55, 3: 0.75}
    assert trackers.curve(STOPPED) == {1: 0.0, 2: 0.0, 3: 0.0}
    nothing = Followed()
    SearchMetrics().begin(nothing, population())
    assert nothing.begun == [("search", 0)] and nothing.entries == []


def test_what_is_stopped_early_or_given_up_is_counted() -> None:
    found, trackers, told = curved.population(curved.trained(0), births=4), Followed(), SearchMetrics()
    found.settle(curved.stopped(1))
    found.settle(curved.trained(2, (0.5,), curved.CURVES[:1]))  # of two replicates
    told.begin(trackers, found)
    found.settle(curved.trained(3))
    told.settled(found)
    assert trackers.curve(STOPPED) == {1: 0.0, 2: 1.0, 3: 1.0}
    assert trackers.curve(GIVEN_UP) == {1: 0.0, 2: 1.0, 3: 1.0}


def test_idle_time_is_the_share_since_the_evaluation_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
    found, trackers, told = population(births=2), Followed(), SearchMetrics()
    told.begin(trackers, found)
    for id, turns in enumerate([((101.0, 4), (103.0, 2), (104.0, 0)), ((106.0, 4),)]):
        for clock[0], busy in turns:
            told.turned(busy, workers=4)
        found.settle(evaluated(id))
        told.settled(found)
    assert trackers.curve(IDLE) == pytest.approx({1: 1.0 - 4.0 / 12.0, 2: 0.0})


def test_the_models_rank_correlation_is_told_of_guided_search_alone() -> None:
    class Model:
        correlation = 0.5

    guided: Any = Guided.__new__(Guided)
    guided.model = lambda population, view: Model() if view else None
    for strategy, expected in ((guided, {1: 0.5}), (GivenFirst((), guided, guided), {1: 0.5}), (object(), {})):
        found, trackers, told = population(births=1), Followed(), SearchMetrics()
        assert told.of(strategy) is strategy
        told.begin(trackers, found)
        found.settle(evaluated(0))
        told.settled(found)
        assert trackers.curve(CORRELATION) == expected


def test_the_settings_are_told_beside_the_curves() -> None:
    found = metrics.about(CONFIG, "ab" * 16, "first\udcff")
    assert (found.run, found.name) == ("ab" * 16, "first?")
    assert found.settings["search.budget"] == "5" and "search.trainings" not in found.settings
