"""What all ways to train have in common (§4.1): the interface, the data on the device, and what settings mean.

    Trainings    one training a seed, at the same time: `plain`, `cpu.compiled`, `cuda.stacked`

`choice` says which of them a worker uses, and `fitness` what becomes of what they say of the validation images. No
files, no messages.
"""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import class_weights
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data import splits
from hpcnas.data.augment import Normaliser, padded
from hpcnas.data.channel_statistics import channel_statistics, warn_of_padding
from hpcnas.data.datasets import DataSet
from hpcnas.training import schedules
from hpcnas.training.batches import Batches, BatchesFromHost, BatchesInPlace

log = logging.getLogger(__name__)
_SHARE = 0.75  # of the device's free memory that images may take: the rest is for networks and their maps
OWN_VALIDATION = "validation part"  # in place of a split: the data's fingerprint covers it


class LossNotFinite(ArithmeticError):
    """The loss became infinite or not a number: there is no fitness."""


@dataclass(frozen=True)
class ValidationScores:
    """What a network says of the N validation images: how many it classifies correctly, and its class scores, float
    (N, classes), before the softmax."""

    right: int
    scores: Tensor

    @property
    def accuracy(self) -> float:
        """0 to 1."""
        return self.right / len(self.scores)


@dataclass(frozen=True)
class TrainingData:
    """Both splits on the device: (N, H, W, C), of the type that the data have, and int64 (N,); and how pixels become
    inputs.

    Where the images lie in a file that all processes of the host map, CPUs train from there; and where a device has no
    memory for them they stay `on_host`. Then `places` and `validation_places`, int64 (n,) on the host, say which of
    `pixels` and `validation_pixels` are those of the labels, and images are padded by `late_padding` when they are
    taken."""

    pixels: Tensor
    labels: Tensor
    validation_pixels: Tensor
    validation_labels: Tensor
    normalise: Normaliser
    facts: DataFacts
    class_weights: Tensor | None = None  # of each class in the loss, float32 (classes,); None where all count alike
    places: Tensor | None = None
    validation_places: Tensor | None = None
    late_padding: int = 0
    on_host: bool = False

    @property
    def device(self) -> torch.device:
        """Where networks are trained."""
        return self.labels.device

    @property
    def numbers_device(self) -> torch.device:
        """Where numbers of images are wanted that `batches` are taken by."""
        return self.pixels.device

    @property
    def full_size(self) -> tuple[int, int]:
        """Height and width of the training images that `batches` give: padded."""
        _, height, width, _ = self.pixels.shape
        return height + 2 * self.late_padding, width + 2 * self.late_padding

    def batches(self) -> Batches:
        """Training images, for one training."""
        return self._batches(self.pixels, self.places, self.late_padding)

    def validation_batches(self) -> Batches:
        """Validation images, likewise; not padded."""
        return self._batches(self.validation_pixels, self.validation_places, 0)

    def _batches(self, pixels: Tensor, places: Tensor | None, padding: int) -> Batches:
        if not self.on_host:
            return BatchesInPlace(pixels, places, padding)
        assert places is not None, "it says which images of the host they are"
        return BatchesFromHost(pixels, places, self.device, padding)

    def validated(self, part: slice) -> Tensor:
        """Validation images: (B, H, W, C), of their own type."""
        return self.validation_batches().take(part).view(self.validation_pixels.dtype)

    @classmethod
    def prepare(
        cls,
        dataset: DataSet,
        data: DataSettings,
        device: torch.device,
        padding: int = 0,
        weights: str | None = None,
        room: int | None = None,
    ) -> TrainingData:
        """Splits the training images by the configured seed, unless they have validation images of their own, pads them
        by so many pixels of the value 0 on each side, and moves all to the device, unless they take more than their
        share of `room`, its free memory in bytes: then they stay on the host, which is warned of. `weights` are those
        of classes (`config.class_weights`). Raises DataError, also where they do not fit the data."""
        images, others = dataset.images, dataset.validation
        if others is None:
            training, validation, split = splits.places(images, data.validation_fraction, data.split_seed)
            others = images
        else:
            training, validation, split = np.arange(len(images.labels)), np.arange(len(others.labels)), OWN_VALIDATION
        mean, std = channel_statistics(images.pixels, training, f"{dataset.name}, training images")
        _, height, width, channels = images.pixels.shape
        sizes = np.bincount(images.labels[training], minlength=len(dataset.classes)).tolist()
        scaled = class_weights.scaled(weights, sizes)
        told: dict[str, Any] = {}
        if split or images.pixels.dtype != np.uint8:
            told = {"split": split, "mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
        if padding and images.pixels.dtype != np.uint8:
            warn_of_padding(mean, std)
        size = _bytes_to_place(images.pixels, len(training), padding) + others.pixels[:1].nbytes * len(validation)
        on_host = room is not None and size > _SHARE * room
        if room is not None and on_host:
            _warn_of_room(size, room)
        late = on_host or (device.type == "cpu" and isinstance(images.pixels, np.memmap))
        if late:
            pixels, validated = _mapped(images.pixels), _mapped(others.pixels)
        else:
            pixels = padded(torch.as_tensor(images.pixels[training], device=device), padding)
            validated = torch.as_tensor(others.pixels[validation], device=device)
        return cls(
            pixels=pixels,
            labels=torch.as_tensor(images.labels[training], device=device),
            validation_pixels=validated,
            validation_labels=torch.as_tensor(others.labels[validation], device=device),
            normalise=Normaliser(torch.as_tensor(mean, device=device), torch.as_tensor(std, device=device)),
            facts=DataFacts(
                image_channels=channels,
                height=height,
                width=width,
                classes=len(dataset.classes),
                training_images=len(training),
                validation_images=len(validation),
                fingerprint=dataset.fingerprint,
                **told,
            ),
            class_weights=None if scaled is None else torch.tensor(scaled, dtype=torch.float32, device=device),
            places=torch.as_tensor(training) if late else None,
            validation_places=torch.as_tensor(validation) if late else None,
            late_padding=padding if late else 0,
            on_host=on_host,
        )


def _bytes_to_place(pixels: NDArray[Any], count: int, padding: int) -> int:
    """What so many images take on the device, at the most: beside padded ones are those as they were, for a while."""
    _, height, width, channels = pixels.shape
    around = (height + 2 * padding) * (width + 2 * padding) * channels * pixels.itemsize if padding else 0
    return count * (pixels[:1].nbytes + around)


def _warn_of_room(size: int, room: int) -> None:
    """Says that images stay on the host; alike on devices of one kind."""
    log.warning(
        "images stay on the host, and each batch is copied to the device: they take %.2f GiB, more than %d %% of the "
        "%.2f GiB that a worker finds free there; which share of its time it waits for them is told with the results",
        size / 2**30, 100 * _SHARE, room / 2**30,
    )  # fmt: skip


def _mapped(pixels: NDArray[Any]) -> Tensor:
    """The same memory. It may be read-only, which torch does not know: nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.as_tensor(pixels)


def crop_size(settings: TrainingSettings, facts: DataFacts) -> tuple[int, int]:
    """Height and width of the random crop: the configured share of the unpadded image's sides."""
    return max(1, round(settings.crop * facts.height)), max(1, round(settings.crop * facts.width))


class HasPrecision(Protocol):
    """Settings that say which numbers feature maps are: those of a search and of a retraining."""

    @property
    def precision(self) -> str:
        """auto, fp32 or bf16; a retraining may also have fp64."""
        ...


def number_type(settings: HasPrecision, device: torch.device) -> torch.dtype:
    """bfloat16 where feature maps are computed in it, else float32, which parameters have always. `auto` is bfloat16 on
    GPUs that have it. That fp64 makes float64 of both is the caller's business."""
    has_it = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    half = settings.precision == "bf16" or (settings.precision == "auto" and has_it)
    return torch.bfloat16 if half else torch.float32


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The rate of step 0, 1, …: divided by 10 from each milestone on."""
    return schedules.divided(settings.learning_rate, settings.milestones, step, settings.steps)


class Trainings(ABC):
    """A way to train: trainings from scratch at the same time, one a seed."""

    stored_name: ClassVar[str]  # of the way, in files: the words of version 0.1, whatever its class is called now
    side_by_side: ClassVar[int]  # how many at the most
    step: int  # how many steps each of them has made

    @property
    def waited(self) -> float | None:
        """Seconds that steps and validations have waited for images of the host; None where they lie on the device."""
        return None

    @classmethod
    @abstractmethod
    def of(
        cls,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> Trainings:
        """The trainings of these seeds, `side_by_side` of them at the most."""

    @classmethod
    def kind(cls, skeleton: Skeleton) -> str:
        """What a `state` must have in common with the trainings that it is resumed by."""
        return cls.stored_name

    def prepare(self) -> None:
        """Does what is needed once before `run` and may take minutes, such as compiling. Changes no result."""
        return

    @abstractmethod
    def run(self, beat: Callable[[], None], until: int | None = None) -> None:
        """Makes the steps that are left, or those before step `until`. Calls `beat` between them, when `state` may be
        taken. Raises LossNotFinite, and what `beat` raises."""

    def accuracies(self, beat: Callable[[], None], averaged: bool = False) -> tuple[float, ...]:
        """Shares of validation images classified correctly, 0 to 1, one a seed; as `validated`."""
        return tuple(one.accuracy for one in self.validated(beat, averaged))

    @abstractmethod
    def validated(self, beat: Callable[[], None], averaged: bool = False) -> tuple[ValidationScores, ...]:
        """What each says of the validation images, in evaluation mode on whole images; one a seed. Calls `beat`
        meanwhile, when `state` may be taken too. Changes nothing of the steps that are left.

        `averaged`: by the moving average of the weights (`averaging`), which is there from the first step to the last
        rung; else by the weights."""

    @abstractmethod
    def export(self, number: int = 0) -> dict[str, Tensor]:
        """Weights and statistics of the training of that number as the plain network's state_dict."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, for `resume`; valid until the next step."""

    @abstractmethod
    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of the same trainings."""
