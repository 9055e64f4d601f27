"""What trackers get of a retraining: each row, validation and result, a series a seed, from where it goes on."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

from followed import Followed
from test_record_file import COMPLETE, RECORD

from hpcnas.retrain.metrics import (
    LOSS,
    NAMES,
    RATE,
    TEST_ACCURACY,
    TEST_TOP5,
    VALIDATION_ACCURACY,
    VALIDATION_LOSS,
    RetrainingMetrics,
    about,
)
from hpcnas.retrain.record import Row, Trained, Validation


def under_way(step: int, rows: int) -> Any:
    history = [Row(4, 100 * number, 1.0 / number, 0.5, 0.1, 900.0, 0.0) for number in range(1, rows + 1)]
    return SimpleNamespace(step=step, history=history, validations=[])


def test_a_training_goes_on_after_the_step_that_was_saved() -> None:
    trackers, told, training = Followed(known=100), RetrainingMetrics(), under_way(250, 2)
    told.begin(trackers, dataclasses.replace(RECORD, trainings=[Trained(4)]))
    told.training_began(4, training)
    training.step = 300
    training.history.append(Row(4, 300, 0.125, 0.5, 0.05, 900.0, 0.0))
    training.validations.append(Validation(4, 300, 50, 0.75, None, 1.0))
    told.stepped(training)
    told.stepped(training)
    told.training_complete(dataclasses.replace(COMPLETE, seed=4, step=300, test_top5=None))
    told.close(complete=False)
    assert trackers.begun == [("seed-4", 250)]
    assert [(entry.step, entry.last) for entry in trackers.entries] == [(200, False), (300, False), (300, True)]
    assert trackers.curve(LOSS) == {200: 0.5, 300: 0.125} and trackers.curve(RATE) == {200: 0.1, 300: 0.05}
    assert trackers.curve(VALIDATION_ACCURACY) == {300: 0.75} and trackers.curve(VALIDATION_LOSS) == {}
    assert trackers.curve(TEST_ACCURACY) == {300: 0.9625} and trackers.curve(TEST_TOP5) == {}
    assert trackers.closed is False


def test_trainings_that_were_complete_before_are_told_whole() -> None:
    trackers = Followed()
    RetrainingMetrics().begin(trackers, RECORD)
    assert trackers.begun == [("seed-3", 80_000)]
    assert trackers.curve(LOSS) == {100: 2.25, 200: 2.0}
    assert trackers.curve(VALIDATION_ACCURACY) == {100: 0.25, 200: 0.375}
    assert trackers.curve(TEST_TOP5) == {80_000: 0.999}
    assert [entry.last for entry in trackers.entries] == [False, False, True]
    assert trackers.entries[-1].time == COMPLETE.finished
    assert {name for entry in trackers.entries for name in entry.values} == set(NAMES)


def test_genotype_and_recipe_are_told_beside_the_curves() -> None:
    found = about(RECORD, "large")
    assert found.settings["genotype"] == "runs/a:17" and found.settings["parameters"] == "62832520"
    assert found.settings["training.steps"] == "200000"
