"""What a person sees of a running retraining: a live line or log lines, and the final table.

It is told what happens and decides nothing.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from typing import Protocol

from hpcnas.config.retraining import RetrainingConfig
from hpcnas.job.log import LiveLine, duration
from hpcnas.retrain.record import Record, Row, State, Trained, Validation

_LIVE_INTERVAL, _PLAIN_INTERVAL = 0.2, 30.0  # seconds between two lines
_SLOW_INPUT = 0.1  # share of the time spent waiting for images from which it is worth a warning
_logger = logging.getLogger("hpcnas")


class Underway(Protocol):
    """What is seen of a training under way."""

    step: int
    seconds: float
    waited: float
    history: list[Row]
    validations: list[Validation]


class Progress:
    """Shows how one job of a retraining gets on."""

    def __init__(self, recipe: RetrainingConfig, line: LiveLine) -> None:
        self._recipe = recipe
        self._line = line
        self._next = 0.0  # when the next line is due
        self._warned = False
        self._number = 1  # of the training under way
        self._before, self._seconds_before, self._waited_before = 0, 0.0, 0.0  # what earlier jobs have made of it
        self._validations = 0  # of that training, as many as were told

    def began(self, record: Record) -> None:
        """The data are known, and this job is the last of the record's sessions."""
        self._recipe = record.trained_by
        session, training = record.sessions[-1], self._recipe.training
        facts, skeleton = session.facts, record.inputs.skeleton
        _logger.info(
            "retraining %s (%s): %s parameters, c0 = %d, cells %s", record.origin.source, record.origin.space,
            f"{record.parameters:,}", skeleton.channels, " ".join(map(str, skeleton.cells)),
        )  # fmt: skip
        if record.weights is not None:
            kept = "; the cells stay as they are" if self._recipe.training.freeze_cell else ""
            _logger.info("weights begin as those of %s%s", self._recipe.network.weights, kept)
        _logger.info(
            "data: %s training images, %d classes; %d ranks on %s and alike; batches of %d, batch statistics of %d",
            f"{facts.training_images:,}", facts.classes, session.ranks, session.device,
            training.batch_size,
            training.batch_size if training.batch_statistics == "step" else training.micro_batch,
        )  # fmt: skip

    def training_began(self, record: Record, seed: int, training: Underway) -> None:
        """A training begins or goes on."""
        self._number = 1 + sum(found.state is State.COMPLETE for found in record.trainings)
        self._before, self._seconds_before, self._waited_before = training.step, training.seconds, training.waited
        self._validations = len(training.validations)
        if training.step:
            _logger.info("continuing seed %d after step %d", seed, training.step)
        else:
            _logger.info("seed %d begins", seed)

    def stepped(self, training: Underway) -> None:
        """A step was made: tells a new validation, and shows where the training stands, if it is time."""
        for found in training.validations[self._validations :]:
            _logger.info(
                "step %s: validation accuracy %.4f on %s images", f"{found.step:,}", found.accuracy, f"{found.images:,}"
            )
        self._validations = len(training.validations)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_LIVE_INTERVAL if self._line.live else _PLAIN_INTERVAL)
        if self._line.live:
            self._line.show(self._state(training))
        else:
            _logger.info("%s", self._state(training))
        if not self._warned and self._wait(training) > _SLOW_INPUT and training.step - self._before >= 20:
            self._warned = True
            _logger.warning(
                "waiting for images takes %.0f %% of the time: give more --loaders, or smaller images",
                100 * self._wait(training),
            )

    def _wait(self, training: Underway) -> float:
        """Share of this job's time spent waiting for images."""
        return (training.waited - self._waited_before) / max(1e-9, training.seconds - self._seconds_before)

    def _state(self, training: Underway) -> str:
        settings = self._recipe.training
        parts = [f"step {training.step:,}/{settings.steps:,}"]
        if settings.runs > 1:
            parts.insert(0, f"run {self._number}/{settings.runs}")
        if training.history:
            parts.append(f"loss {training.history[-1].loss:.4f}")
            parts.append(f"accuracy {training.history[-1].accuracy:.4f}")
        if training.validations:
            parts.append(f"validation {training.validations[-1].accuracy:.4f}")
        made, seconds = training.step - self._before, training.seconds - self._seconds_before
        if made and seconds:
            parts.append(f"{made * settings.batch_size / seconds:,.0f} images/s")
            steps_left = settings.steps - training.step + settings.steps * (settings.runs - self._number)
            validating = sum(found.seconds for found in training.validations if found.step > self._before)
            parts.append(f"ETA {duration(steps_left * (seconds + validating) / made)}")
            parts.append(f"waits for images {100 * self._wait(training):.1f} %")
        return " · ".join(parts)

    def left(self, training: Underway, reason: str) -> None:
        """The training leaves before it is complete."""
        self._line.clear()
        _logger.info("%s", reason)
        _logger.info("left after step %d of %d, saved", training.step, self._recipe.training.steps)

    def training_complete(self, found: Trained) -> None:
        """A training is complete and tested."""
        self._line.clear()
        memory = (
            "" if found.peak_memory is None else f", at most {found.peak_memory / 2**30:.2f} GiB of GPU memory in use"
        )
        images = "" if found.test_images is None else f" on {_images(found.test_images, found.test_broken)} images"
        _logger.info("seed %d is complete: test accuracy %.4f%s%s", found.seed, found.test_accuracy, images, memory)


def final_table(record: Record) -> str:
    """What was reached, as aligned lines."""
    complete = [found for found in record.trainings if found.state is State.COMPLETE]
    rows = [
        ("genotype", record.origin.source),
        ("parameters", f"{record.parameters:,}"),
        ("test accuracy", _mean([found.test_accuracy for found in complete])),
        ("test error", _mean([None if found.test_accuracy is None else 1 - found.test_accuracy for found in complete])),
    ]
    if any(found.test_top5 is not None for found in complete):
        rows.append(("  top 5", _mean([found.test_top5 for found in complete])))
    if any(found.test_balanced_accuracy is not None for found in complete):
        rows.append(("balanced", _mean([found.test_balanced_accuracy for found in complete])))
    for name, values in (
        ("macro F1", [found.test_macro_f1 for found in complete]),
        ("AUROC", [found.test_auroc for found in complete]),
        ("log loss", [found.test_loss for found in complete]),
    ):
        if any(value is not None for value in values):
            rows.append((name, _mean_number(values)))
    tested = [(found.test_images, found.test_broken) for found in complete if found.test_images is not None]
    if tested:
        rows.append(("test images", _images(*min(tested, key=lambda counts: counts[0]))))
    if record.diverged:
        rows.append(("diverged", f"seed {', '.join(map(str, record.diverged))}, not in the means"))
    validated = [last for found in complete if (last := record.last_validation(found.seed)) is not None]
    if validated:
        rows.append(("validation accuracy", _mean([found.accuracy for found in validated])))
        rows.append(("validation images", f"{min(found.images for found in validated):,}"))
    rows.append(("training time", duration(sum(found.training_seconds for found in complete))))
    if record.broken:
        rows.append(("broken images", f"{len(record.broken):,}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def _images(images: int, broken: int | None) -> str:
    """How many images were tested, and of how many."""
    return f"{images:,} of {images + broken:,}" if broken else f"{images:,}"


def _mean_number(values: Sequence[float | None]) -> str:
    """Of numbers that are no shares of images."""
    known = [value for value in values if value is not None]
    if len(known) == 1:
        return f"{known[0]:.4f} (one run)"
    return f"{statistics.fmean(known):.4f} ± {statistics.stdev(known):.4f} (mean ± std of {len(known)} runs)"


def _mean(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "none yet"
    if len(known) == 1:
        return f"{known[0]:.2f} % (one run)"
    return f"{statistics.fmean(known):.2f} ± {statistics.stdev(known):.2f} % (mean ± std of {len(known)} runs)"
