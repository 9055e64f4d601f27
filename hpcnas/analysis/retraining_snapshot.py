"""A retraining at one moment, as its files have it: state, counts, pace, expected end, every training, and the curves
of the one under way. Takes no lock, changes nothing.

retrain.h5 is renewed at each save (`run.checkpoint_interval`); what has happened since is not known.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcnas.analysis import job_state, training_curves
from hpcnas.analysis.retrainings import Found
from hpcnas.retrain import record_file
from hpcnas.retrain.record import Record, State, Trained

ROWS = 5  # of the history, the last ones, by which the pace is measured


@dataclass(frozen=True)
class RetrainingSnapshot:
    """A retraining at one moment. Times are in seconds since 1970, durations in seconds; accuracies and shares from 0
    to 1."""

    run: str
    time: float
    state: str
    running: bool
    saved: float  # when retrain.h5 was renewed
    steps_done: int
    steps: int  # of all trainings
    complete: int
    diverged: int
    sessions: int
    began: float | None
    first_host: str  # rank 0's, in the last session
    first_device: str  # likewise
    ranks: int
    images_per_second: float | None  # lately
    input_wait: float | None
    remaining: float | None  # None where it is not known, or nothing is to come
    test_accuracies: list[float]
    facts: dict[str, Any]  # as of `training_curves.facts`
    shown: int | None  # seed of the training whose curves follow
    curves: dict[str, list[float]]
    broken: int  # images that could not be read
    problems: list[str]


def look(folder: Path, now: float) -> RetrainingSnapshot:
    """The retraining in a folder at the time `now`, in seconds since 1970. Raises StoreError where it cannot be
    read."""
    saved = job_state.modified(folder / record_file.NAME)  # then it is read: what comes may be newer, and no older
    return of_record(Found(folder, record_file.read(folder)), saved, now)


def of_record(found: Found, saved: float, now: float) -> RetrainingSnapshot:
    """Likewise one that was read; `saved` is when its retrain.h5 was renewed, in seconds since 1970."""
    folder, stored = found.folder, found.stored
    last = stored.sessions[-1] if stored.sessions else None
    state, running = job_state.of_retraining(folder, stored, now)
    under_way = _shown(stored)
    speed, wait = _pace(stored, under_way)
    return RetrainingSnapshot(
        run=str(folder),
        time=now,
        state=state,
        running=running,
        saved=saved,
        steps_done=sum(one.step for one in stored.trainings),
        steps=stored.recipe.training.steps * len(stored.trainings),
        complete=sum(one.state is State.COMPLETE for one in stored.trainings),
        diverged=len(stored.diverged),
        sessions=len(stored.sessions),
        began=None if last is None else last.started,
        first_host="" if last is None else last.host,
        first_device="" if last is None else last.device,
        ranks=0 if last is None else last.ranks,
        images_per_second=speed,
        input_wait=wait,
        remaining=_remaining(stored, speed, max(0.0, now - saved) if running else 0.0),
        test_accuracies=stored.test_accuracies,
        facts=training_curves.facts(found, now),
        shown=None if under_way is None else under_way.seed,
        curves={} if under_way is None else _curves(stored, under_way.seed),
        broken=len(stored.broken),
        problems=[],
    )


def _shown(stored: Record) -> Trained | None:
    """The training under way, else the last one that has made steps."""
    begun = [one for one in stored.trainings if one.state is State.TRAINING]
    begun = begun or [one for one in stored.trainings if one.step]
    return begun[-1] if begun else None


def _pace(stored: Record, training: Trained | None) -> tuple[float | None, float | None]:
    """Images a second, and the share of the time spent waiting for them, of late; of the whole training as long as its
    history has no row."""
    if training is None:
        return None, None
    rows = training_curves.history(stored, training.seed)[-ROWS:]
    if not rows:
        return training.images_per_second or None, training.input_wait
    speeds = [row.images_per_second for row in rows]
    return statistics.median(speeds) or None, statistics.median(row.input_wait for row in rows)


def _remaining(stored: Record, speed: float | None, passed: float) -> float | None:
    """Seconds that the steps left will take, with the validations between them, less those that have passed since the
    last save. What has diverged takes none."""
    training = stored.recipe.training
    left = sum(training.steps - one.step for one in stored.trainings if one.state is not State.DIVERGED)
    if not left or speed is None:
        return None
    validated = [one.seconds for one in stored.validations[-ROWS:]]
    validating = statistics.fmean(validated) / stored.recipe.run.validate_every if validated else 0.0
    return max(0.0, left * (training.batch_size / speed + validating) - passed)


def _curves(stored: Record, seed: int) -> dict[str, list[float]]:
    """Of one training: the columns of its history that are worth a curve, and its validation accuracies; those that
    are empty are left out."""
    rows = training_curves.history(stored, seed)
    found = {
        "loss": [row.loss for row in rows],
        "accuracy": [row.accuracy for row in rows],
        "validation": [one.accuracy for one in training_curves.validations_of(stored, seed)],
        "learning rate": [row.learning_rate for row in rows],
        "images/s": [row.images_per_second for row in rows],
        "waiting": [row.input_wait for row in rows],
    }
    return {name: values for name, values in found.items() if values}
