"""What a person sees of a retraining: what it would do (--dry-run), a live line or log lines, and the final table.

It is told what happens and decides nothing.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from typing import Protocol

from hpcnas import canonical, counting, dataspec
from hpcnas.genotype import Genotype
from hpcnas.imagefolder import class_names
from hpcnas.jobenv import Binding, Seat
from hpcnas.large import LargeSkeleton
from hpcnas.log import LiveLine
from hpcnas.memory import step_memory
from hpcnas.progress import duration
from hpcnas.recipe import Recipe
from hpcnas.retrainfile import Origin, Retraining, Row, State, Trained

_LIVE_INTERVAL, _PLAIN_INTERVAL = 0.2, 30.0  # seconds between two lines
_SLOW_INPUT = 0.1  # share of the time spent waiting for images from which it is worth a warning
_logger = logging.getLogger("hpcnas")


class Underway(Protocol):
    """What is seen of a training under way."""

    step: int
    seconds: float
    waited: float
    history: list[Row]


class Progress:
    """Tells about one job of a retraining."""

    def __init__(self, recipe: Recipe, line: LiveLine) -> None:
        self._recipe = recipe
        self._line = line
        self._next = 0.0
        self._warned = False

    def began(self, record: Retraining) -> None:
        """The data are known."""
        session, training = record.sessions[-1], self._recipe.training
        facts, skeleton = session.facts, record.inputs.skeleton
        _logger.info(
            "retraining %s (%s): %s parameters, c0 = %d, cells %s", record.origin.source, record.origin.space,
            f"{record.parameters:,}", skeleton.channels, " ".join(map(str, skeleton.cells)),
        )  # fmt: skip
        _logger.info(
            "data: %s training images, %d classes; %d ranks on %s and alike; batches of %d as %d × %d",
            f"{facts.training_images:,}", facts.classes, session.ranks, session.device,
            training.batch_size, self._recipe.micro_batches, training.micro_batch,
        )  # fmt: skip

    def training_began(self, record: Retraining, seed: int, training: Underway) -> None:
        """A training begins or goes on."""
        self._number = 1 + sum(found.state is State.COMPLETE for found in record.trainings)
        self._before, self._seconds_before, self._waited_before = training.step, training.seconds, training.waited
        if training.step:
            _logger.info("continuing seed %d after step %d", seed, training.step)
        else:
            _logger.info("seed %d begins", seed)

    def stepped(self, training: Underway) -> None:
        """A step was made: shows where the training stands, if it is time."""
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
        made, seconds = training.step - self._before, training.seconds - self._seconds_before
        if made and seconds:
            parts.append(f"{made * settings.batch_size / seconds:,.0f} images/s")
            steps_left = settings.steps - training.step + settings.steps * (settings.runs - self._number)
            parts.append(f"ETA {duration(steps_left * seconds / made)}")
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
        _logger.info("seed %d is complete: test accuracy %.4f", found.seed, found.test_accuracy)


def final_table(record: Retraining) -> str:
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
    rows.append(("training time", duration(sum(found.training_seconds for found in complete))))
    if record.broken:
        rows.append(("broken images", str(len(record.broken))))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def _mean(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "none yet"
    if len(known) == 1:
        return f"{known[0]:.2f} % (one run)"
    return f"{statistics.fmean(known):.2f} ± {statistics.stdev(known):.2f} % (mean ± std of {len(known)} runs)"


# ── what it would do ────────────────────────────────────────────────────────────────────────────────────────────────
def dry_run(
    recipe: Recipe, genotype: Genotype, origin: Origin, seats: Sequence[Seat], bindings: Sequence[Binding]
) -> str:
    """Everything, for the terminal: recipe, network, memory, schedule, ranks. Opens no image."""
    graph = canonical.expand(genotype)
    skeleton, known = expected_skeleton(recipe)
    size = counting.size(graph, skeleton)
    training = recipe.training
    if training.schedule == "cosine":
        schedule = f"falls from {training.learning_rate:g} to 0 along a cosine"
    else:
        places = ", ".join(f"{round(share * training.steps):,}" for share in training.milestones)
        schedule = f"{training.learning_rate:g}, divided by 10 after {places} steps"
    side = recipe.data.image_size if recipe.data.loading == "stream" else 0
    height, width = (side, side) if side else _crop(recipe, skeleton)
    trained = LargeSkeleton(
        skeleton.image_channels, height, width, skeleton.classes, skeleton.channels, skeleton.cells, skeleton.kind
    )
    half = training.precision == "bf16" or (training.precision == "auto" and any(each.gpu for each in bindings))
    copies = 4 if training.weight_averaging else 3  # weights, gradients, momentum; averages
    weights = copies * 4 * size.parameters
    maps = training.micro_batch * step_memory(graph, trained).bytes(2 if half else 4)
    lines = [
        recipe.toml(),
        "# network",
        f"genotype {origin.source}, space {origin.space}",
        f"images of {skeleton.height}×{skeleton.width}, {skeleton.image_channels} channels, {skeleton.classes} classes "
        f"({known}); trained on {height}×{width}",
        f"{size.parameters:,} parameters, {size.flops / 1e9:,.2f} GFLOPs a test image",
        "",
        "# memory of a rank, estimated",
        f"{weights / 2**30:.2f} GiB weights, gradients and momentum",
        f"{maps / 2**30:.2f} GiB feature maps of a micro-batch of {training.micro_batch}, in "
        f"{'bfloat16' if half else 'float32'}",
        "",
        "# training",
        f"{training.runs} × {training.steps:,} steps of {training.batch_size} images, "
        f"{recipe.micro_batches} micro-batches of {training.micro_batch} a step",
        f"learning rate {schedule}",
        "",
        "# ranks",
    ]
    for rank, (seat, binding) in enumerate(zip(seats, bindings, strict=True)):
        mine = len(range(rank, recipe.micro_batches, len(seats)))
        share = f"{binding.threads} threads, {mine} micro-batches a step"
        lines.append(f"rank {rank}  {seat.host}  {binding.device}, {share}")
    return "\n".join(lines)


def _crop(recipe: Recipe, skeleton: LargeSkeleton) -> tuple[int, int]:
    """Height and width of training images that are resident."""
    crop = recipe.augmentation.crop
    return max(1, round(crop * skeleton.height)), max(1, round(crop * skeleton.width))


def expected_skeleton(recipe: Recipe) -> tuple[LargeSkeleton, str]:
    """The network for the data as their specification, or the names of their folders, tell; and how that is known."""
    spec = dataspec.parse(recipe.data.source)
    if recipe.data.loading == "stream":
        assert isinstance(spec, dataspec.Folder)
        side = recipe.data.image_size
        try:
            return recipe.skeleton(3, side, side, len(class_names(spec.path / "train"))), "classes as in the folder"
        except dataspec.DataError:
            return recipe.skeleton(3, side, side, 1000), "the folder is not here: as ImageNet's"
    match spec:
        case dataspec.Digits():
            return recipe.skeleton(1, 8, 8, 10), "the embedded digits"
        case dataspec.Synthetic(_, (channels, height, width)):
            return recipe.skeleton(channels, height, width, 10), "synthetic"
        case dataspec.Folder("fashion-mnist", _):
            return recipe.skeleton(1, 28, 28, 10), "Fashion-MNIST"
        case dataspec.Folder("imagefolder", path):
            try:
                classes = len(class_names(path / "train"))
            except dataspec.DataError:
                classes = 10
            return recipe.skeleton(3, 32, 32, classes), "sizes as CIFAR-10's: no image was opened"
    return recipe.skeleton(3, 32, 32, 10), "CIFAR-10"
