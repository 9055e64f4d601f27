"""What a retraining costs, by some of its steps."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from patience import GUARD

from hpcnas.config.retraining import RetrainingSettings
from hpcnas.job.signals import Signals
from hpcnas.job.world import AloneWorld
from hpcnas.retrain import job
from hpcnas.retrain.timekeeper import NothingTimed, RankTimes, Timekeeper, told


def keeper(*ends: float) -> Timekeeper:
    """One of a training that had spent so many seconds on its steps when they ended, a quarter of them waiting."""
    training: Any = SimpleNamespace(seconds=0.0, waited=0.0, peak_memory=None)
    made = Timekeeper()
    made.training_begins(0, training)
    for end in ends:
        training.seconds, training.waited = end, end / 4
        made.made_step()
    return made


@pytest.mark.parametrize(
    ("ends", "enough"),
    [
        ((), False),
        ((9.0, 90.0, 91.0, 92.0), False),
        ((0.0, 5.0, 6.0, 7.0, 14.9), False),
        ((0.0, 5.0, 6.0, 7.0, 15.0), True),
    ],
    ids=["none", "few steps", "too short", "enough"],
)
def test_three_steps_and_ten_seconds_beyond_the_first_two_are_enough(ends: tuple[float, ...], enough: bool) -> None:
    assert keeper(*ends).enough() is enough


def test_the_first_two_steps_are_not_counted() -> None:
    found = keeper(3.0, 5.0, 6.0, 8.0).timed()
    assert found.steps == (1.0, 2.0) and found.waited == 0.25 and found.host > 10**7 and found.device is None


def test_a_training_of_hardly_any_steps_is_timed_as_it_can_be() -> None:
    assert keeper(3.0, 5.0).timed().steps == (2.0,)
    with pytest.raises(NothingTimed):
        keeper(3.0).timed()


def test_what_it_says_of_all_trainings() -> None:
    training = RetrainingSettings(batch_size=100, steps=7200)
    lines = told(training, [RankTimes((0.5, 0.5, 4.0), 0.25, 2**30, 2**31), RankTimes((0.5,), 0.0, 2**31, 2**30)], 5)
    assert lines == [
        "500.0 ms a step with 2 ranks (3 steps timed), 200 images/s, 25.0% of it waiting for images",
        "a training of 7,200 steps: 60 min; 5 of them, one after another: 5 h 00 min, 10 rank hours; validations and "
        "tests are not timed",
        "memory of a rank, at the most: 2.00 GiB of its host, 2.00 GiB of its GPU",
    ]


def test_who_is_told_to_leave_while_measuring_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    signals, handlers = Signals(), logging.getLogger("hpcnas").handlers[:]
    signals._arrived(signal.SIGTERM, None)
    small = ["--channels", "2", "--cells", "1", "--batch-size", "8", "--threads", "1", "--data", "synthetic:64:3x8x8"]
    try:
        code = job.run(AloneWorld(), ["--preset", "quick", "--dry-run", "--measure", *small], signals)
    finally:
        logging.getLogger("hpcnas").handlers[:] = handlers
    assert code == 75 and "SIGTERM came before all was measured\n" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["synthetic:64:3x8x8", "cifar10:nowhere"])
def test_some_steps_are_made_and_nothing_is_written(data: str, tmp_path: Path) -> None:
    small = ["--channels", "2", "--cells", "1", "--steps", "4", "--batch-size", "8", "--threads", "1", "--data", data]
    command = [sys.executable, "-m", "hpcnas.retrain", "--preset", "quick", "--dry-run", "--measure", *small]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0, done.stderr
    before, cost = done.stdout.split("\n# what it will cost\n")
    assert "rank 0" in before and "ms a step with 1 rank (2 steps timed)" in cost
    assert list(tmp_path.iterdir()) == []


def test_images_in_files_that_are_not_here_are_not_timed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hpcnas.retrain", "--preset", "imagenet", "--dry-run", "--measure"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0 and "not measured: the images are not here" in done.stdout
