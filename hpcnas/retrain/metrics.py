"""What trackers get of a retraining: each row of its history, each validation, and the result of the test.

A series is a seed's, a step an optimiser step, and a time that at which the number was known here; what an earlier job
has left, and a tracker lacks, has that at which this job sends it. A job goes on after the step that was saved: rows of
later steps are made again. Decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from hpcnas.config.retraining import SCHEME
from hpcnas.retrain.progress import Underway
from hpcnas.retrain.record import Record, Row, State, Trained, Validation
from hpcnas.tracking.tracker import About, Entry, Past
from hpcnas.tracking.trackers import Trackers

LOSS, ACCURACY, RATE = "train/loss", "train/accuracy", "train/learning_rate"
SPEED, WAIT = "train/images_per_second", "train/input_wait"
VALIDATION_LOSS, VALIDATION_ACCURACY = "validation/loss", "validation/accuracy"
TEST_LOSS, TEST_ACCURACY, TEST_TOP5 = "test/loss", "test/accuracy", "test/top5"
NAMES = (
    LOSS, ACCURACY, RATE, SPEED, WAIT, VALIDATION_LOSS, VALIDATION_ACCURACY, TEST_LOSS, TEST_ACCURACY, TEST_TOP5,
)  # fmt: skip


def about(record: Record, name: str) -> About:
    """What trackers show of a retraining beside its curves."""
    origin = record.origin
    facts = {
        "genotype": origin.source, "space": origin.space, "parameters": record.parameters, "flops": record.flops,
    }  # fmt: skip
    return About.of(record.run, name, NAMES, facts, SCHEME.settings(record.recipe))


class RetrainingMetrics:
    """Sends the numbers of one job; nothing where there are no trackers."""

    def __init__(self) -> None:
        self._trackers = Trackers([])
        self._seed = 0  # of the training under way
        self._rows = self._validations = 0  # of that training, those that were sent

    def begin(self, trackers: Trackers, record: Record) -> None:
        """The job has begun: sends the trainings that are complete."""
        self._trackers = trackers
        for found in record.trainings if trackers else ():
            if found.state is State.COMPLETE:
                rows = [row for row in record.history if row.seed == found.seed]
                validations = [row for row in record.validations if row.seed == found.seed]
                result = Entry(series(found.seed), found.step, found.finished or 0.0, _tested(found), last=True)
                self._send_past(found.seed, found.step, [*_numbers(found.seed, rows, validations), result])

    def training_began(self, seed: int, training: Underway) -> None:
        """A training begins or goes on from what was saved, which is sent where it is lacking."""
        if self._trackers:
            self._send_past(seed, training.step, _numbers(seed, training.history, training.validations))
            self._seed = seed
            self._note_sent(training)

    def stepped(self, training: Underway) -> None:
        """A step was made."""
        if self._trackers:
            rows, validations = training.history[self._rows :], training.validations[self._validations :]
            for entry in _numbers(self._seed, rows, validations):
                self._trackers.log(entry)
            self._note_sent(training)

    def training_complete(self, found: Trained) -> None:
        """A training was tested."""
        self._trackers.log(Entry(series(found.seed), found.step, time.time(), _tested(found), last=True))

    def close(self, complete: bool) -> None:
        """The job ends."""
        self._trackers.close(complete)

    def _note_sent(self, training: Underway) -> None:
        self._rows, self._validations = len(training.history), len(training.validations)

    def _send_past(self, seed: int, step: int, entries: list[Entry]) -> None:
        names = sorted({name for entry in entries for name in entry.values})
        self._trackers.resume(
            Past(
                series(seed),
                step,
                np.array([entry.step for entry in entries], dtype=np.int64),
                np.array([entry.time for entry in entries], dtype=float),
                {name: np.array([entry.values.get(name, np.nan) for entry in entries], dtype=float) for name in names},
                last=any(entry.last for entry in entries),
            )
        )


def series(seed: int) -> str:
    """The name of a training's series."""
    return f"seed-{seed}"


def _numbers(seed: int, rows: Iterable[Row], validations: Iterable[Validation]) -> list[Entry]:
    """An entry a step, in their order."""
    steps: dict[int, dict[str, float]] = {}
    for row in rows:
        steps.setdefault(row.step, {}).update({
            LOSS: row.loss,
            ACCURACY: row.accuracy,
            RATE: row.learning_rate,
            SPEED: row.images_per_second,
            WAIT: row.input_wait,
        })  # fmt: skip
    for found in validations:
        values = steps.setdefault(found.step, {})
        values[VALIDATION_ACCURACY] = found.accuracy
        if found.loss is not None:
            values[VALIDATION_LOSS] = found.loss
    now = time.time()
    return [Entry(series(seed), step, now, values) for step, values in sorted(steps.items())]


def _tested(found: Trained) -> dict[str, float]:
    numbers = {TEST_LOSS: found.test_loss, TEST_ACCURACY: found.test_accuracy, TEST_TOP5: found.test_top5}
    return {name: value for name, value in numbers.items() if value is not None}
