"""Where a retraining's images come from, as the loop sees it; and images that all lie on the device (CIFAR-10's kind).

Which images a micro-batch holds follows from (seed, step) alone (`Order`), and what is drawn for it from a generator
that is passed in: neither depends on the number of ranks, nor on what went before. Test images are looked at before
the training, for what is wrong with them, and no network sees them before the test. What a network is validated on
while it trains is `held_out`'s choice.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcnas import seeds
from hpcnas.config.data_spec import DataError, DataFacts
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.data import image_file, splits
from hpcnas.data.augment import Normaliser, movable, padded, random_crop, random_flip
from hpcnas.data.channel_statistics import channel_statistics, warn_of_padding
from hpcnas.data.datasets import (
    DataSet,
    Images,
    first_test_in_colour,
    load_test,
    load_training,
    load_validation,
    test_files,
    test_folder,
)
from hpcnas.data.seeded_transforms import RandAugment
from hpcnas.retrain import held_out, shares
from hpcnas.training.method import OWN_VALIDATION

_logger = logging.getLogger(__name__)
TEST_BATCH = 250  # images, fewer than fill the memory; does not change the result

Batch = tuple[Tensor, Tensor]
"""Normalised images, float (B, C, h, w), channels-last, and labels, int64 (B,), on the device."""

PlacedBatch = tuple[Tensor, Tensor, NDArray[np.int64]]
"""Likewise of images that are not trained on, and their places among all of their kind, from 0: int64 (B,)."""


@dataclass(frozen=True)
class Appearance:
    """What the network's inputs are: how test images are cut, and what pixels become."""

    facts: DataFacts  # height and width are those of a test image as it is tested
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # of each channel, in pixel values
    std: tuple[float, ...]
    resize: int  # pixels of a test image's shorter side, before its middle is taken
    class_sizes: tuple[int, ...] = ()  # training images of each class
    type: str = "uint8"  # of the pixels


class Feed(Protocol):
    """Images for one rank."""

    appearance: Appearance
    broken: set[str]  # names of training and validation images that this rank could not read so far
    broken_tests: set[str]  # likewise of test images
    tested_on: str  # what the test images are, in words
    test_images: int  # how many they are, over all ranks, those that cannot be read among them; once looked at
    test_files: NDArray[np.bytes_] | None  # of all of them, relative to the data; on rank 0 alone, once tested, if any
    waits: bool  # whether images may not come; the same on every rank
    interrupted: bool  # whether images that were asked for have not come: nothing counts that was made of them
    problem: str | None  # why; None where the waiting ended because the rank is to leave
    validated_on: str  # what is validated on while the network trains, in words
    validation_images: int  # how many they are, likewise; 0 where nothing is

    def look(self, leave: Callable[[], bool]) -> Iterator[None]:
        """Reads this rank's share of the test and validation images, as `test` and `validate` will, some at a time;
        fewer where `interrupted`. Before any training. Raises DataError for what no test can be made with."""
        ...

    def use(self, recipe: RetrainingConfig, scored: int | None = None) -> None:
        """From now on steps are cut into the micro-batches of this recipe; all else of it is as it was. `scored`: how
        many images `test` and `validate` give at a time, at the most; None where memory is ample."""
        ...

    def begin(self, seed: int, step: int, leave: Callable[[], bool]) -> None:
        """The training of that seed goes on with that step, from 0. `leave` is asked while images are waited for."""
        ...

    def next(self, step: int, micro_batch: int, generator: torch.Generator) -> Batch:
        """Training images of a micro-batch of a step; a rank asks for those that its `shares` are of, in order, leaving
        out none. Blank ones where the feed is `interrupted`."""
        ...

    def test(self, leave: Callable[[], bool]) -> Iterator[PlacedBatch]:
        """This rank's share of the test images; all ranks' shares are all of them. Ends early where the feed is
        `interrupted`; `leave` as of `begin`. Raises DataError."""
        ...

    def validate(self, leave: Callable[[], bool]) -> Iterator[PlacedBatch]:
        """This rank's share of the validation images, seen as test images are; all ranks' shares are all of them. Ends
        early as `test` does. Before `next` is called again, the training is to `begin` where it stands."""
        ...

    def close(self) -> None:
        """Lets go of what was started."""
        ...


class Order:
    """The order in which a retraining sees its images, 0 to n−1: all of them in random order, then all of them in
    another one, and so on without end.

    A pure function of the seed: every rank, and every job that continues, knows it without being told.
    """

    def __init__(self, images: int, seed: int) -> None:
        self._images = images
        self._seed = seed
        self._epochs: dict[int, NDArray[np.int64]] = {}  # the two that were asked for last

    def __call__(self, first: int, count: int) -> NDArray[np.int64]:
        """The images at the places `first` to `first + count − 1`, from 0: int64 (count,)."""
        places = np.arange(first, first + count)
        epochs = places // self._images
        found = np.empty(count, dtype=np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            found[here] = self._epoch(epoch)[places[here] % self._images]
        return found

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            self._epochs = {known: order for known, order in self._epochs.items() if known == epoch - 1}
            self._epochs[epoch] = seeds.order_generator(self._seed, epoch).permutation(self._images)
        return self._epochs[epoch]


def never() -> bool:
    """No."""
    return False


class Resident:
    """All training images on the device. Raises DataError where they cannot be had."""

    def __init__(self, recipe: RetrainingConfig, rank: int, ranks: int, device: torch.device) -> None:
        dataset = load_training(recipe.data.source, download=recipe.run.download)
        learnt = self._split(recipe, dataset)
        count, height, width, channels = learnt.pixels.shape
        whose = f"{recipe.data.source}, training images"
        mean, std = statistics(recipe, channels, lambda: _lists(channel_statistics(learnt.pixels, whose=whose)))
        self._recipe, self._rank, self._ranks, self._device = recipe, rank, ranks, device
        self._scored = TEST_BATCH
        padding = recipe.augmentation.padding
        pixels = torch.tensor(learnt.pixels, device=device)  # a copy: the array may be mapped read-only
        self._pixels = padded(pixels, padding)
        if padding and learnt.pixels.dtype != np.uint8 and rank == 0:
            warn_of_padding(np.array(mean), np.array(std))
        self._labels = torch.as_tensor(learnt.labels, device=device)
        self._normalise = Normaliser(torch.tensor(mean, device=device), torch.tensor(std, device=device))
        crop = recipe.augmentation.crop
        self._crop = max(1, round(crop * height)), max(1, round(crop * width))
        self._augment: RandAugment | None = None
        if recipe.augmentation.rand_augment:
            if learnt.pixels.dtype != np.uint8:
                got = f"got {learnt.pixels.dtype}; leave it out"
                raise DataError(f"{recipe.data.source}: expected images of uint8 for --rand-augment, {got}")
            self._augment = RandAugment(recipe.augmentation, channels)
        self.broken: set[str] = set()
        self.broken_tests: set[str] = set()
        self.tested_on, self.test_images = "test images", 0
        self.test_files: NDArray[np.bytes_] | None = None
        self.waits = self.interrupted = False
        self.problem: str | None = None
        self.appearance = Appearance(
            facts=DataFacts(
                channels, height, width, len(dataset.classes), count, self.validation_images, dataset.fingerprint,
                self._split_name,
            ),  # fmt: skip
            class_names=dataset.classes,
            mean=mean,
            std=std,
            resize=min(height, width),
            class_sizes=tuple(np.bincount(learnt.labels, minlength=len(dataset.classes)).tolist()),
            type=learnt.pixels.dtype.name,
        )
        if self._validation is not None:
            self._require_of_the_network(self._validation, "validation")

    def _split(self, recipe: RetrainingConfig, dataset: DataSet) -> Images:
        """The images to train on, in their order; those to validate on are kept, if there are any. Raises DataError."""
        place, images = held_out.own_validation(recipe), dataset.images
        self._validation: DataSet | None = None  # stays in the host's memory
        self.validated_on, self.validation_images, self._split_name = "no images", 0, ""
        chosen = held_out.held_out(recipe, images.labels, images.groups)
        if dataset.validation is not None:
            self._validation = dataclasses.replace(dataset, images=dataset.validation, validation=None)
            self.validated_on, self._split_name = f"images of {place}", OWN_VALIDATION
        elif place is not None:
            self._validation = load_validation(recipe.data.source)
            self.validated_on = f"images of {place}"
        elif chosen.any():
            self._validation = dataclasses.replace(dataset, images=images.taken(chosen))
            if images.groups is not None:
                self._split_name = splits.digest(np.flatnonzero(~chosen), np.flatnonzero(chosen))
            images = images.taken(~chosen)
            self.validated_on = "held-out training images"
        if self._validation is not None:
            self.validation_images = len(self._validation.images.labels)
            self.validated_on = f"{self.validation_images:,} {self.validated_on}"
        return images

    def use(self, recipe: RetrainingConfig, scored: int | None = None) -> None:
        self._recipe, self._scored = recipe, min(TEST_BATCH, scored or TEST_BATCH)

    def begin(self, seed: int, step: int, leave: Callable[[], bool] = never) -> None:
        self._order, self._seed = Order(len(self._labels), seed), seed

    def next(self, step: int, micro_batch: int, generator: torch.Generator) -> Batch:
        places = shares.micro_batch(self._recipe, micro_batch)
        first = step * self._recipe.training.batch_size + places.start
        chosen = torch.as_tensor(self._order(first, len(places)), device=self._device)
        images = random_crop(movable(self._pixels)[chosen], *self._crop, generator)
        if self._recipe.augmentation.flip:
            images = random_flip(images, generator)
        if self._augment is not None:
            places = range(first, first + len(images))
            images = self._augment(images, [seeds.image_seed(self._seed, place) for place in places])
        return self._normalise(images.view(self._pixels.dtype)), self._labels[chosen]

    def look(self, leave: Callable[[], bool] = never) -> Iterator[None]:
        pixels, facts = self._tests().images.pixels, self.appearance.facts
        self.test_images = len(pixels)
        self.tested_on = f"{len(pixels):,} test images{self._test_folder()}"
        if pixels.shape[1:3] != (facts.height, facts.width) and self._rank == 0:
            _logger.warning(
                "test images are of %d×%d pixels, training images of %d×%d: they are resized, and the middle is taken, "
                "as predict does", *pixels.shape[1:3], facts.height, facts.width,
            )  # fmt: skip
        yield

    def test(self, leave: Callable[[], bool] = never) -> Iterator[PlacedBatch]:
        dataset = self._tests()
        if self._rank == 0:
            self.test_files = _test_files(dataset)
        yield from self._share(dataset.images)

    def validate(self, leave: Callable[[], bool] = never) -> Iterator[PlacedBatch]:
        if self._validation is not None:
            yield from self._share(self._validation.images)

    def _share(self, images: Images) -> Iterator[PlacedBatch]:
        """This rank's share of images that are not trained on."""
        mine = np.arange(self._rank, len(images.labels), self._ranks)
        for start in range(0, len(mine), self._scored):
            places = mine[start : start + self._scored]
            part = self._as_trained(images.pixels[places[0] : places[-1] + 1 : self._ranks])
            labels = torch.as_tensor(images.labels[places], device=self._device)
            yield self._normalise(torch.tensor(part, device=self._device)), labels, places

    def _tests(self) -> DataSet:
        """The test images as they are. Raises DataError where they are none for this network."""
        dataset = load_test(self._recipe.data.source, download=self._recipe.run.download)
        self._require_of_the_network(dataset, "test")
        return dataset

    def _require_of_the_network(self, dataset: DataSet, what: str) -> None:
        """Raises DataError unless these images are of the classes, and of the type, channels and size, or else of the
        colours, that the network is trained on."""
        if dataset.classes != self.appearance.class_names:
            raise DataError(f"{dataset.name}: expected {what} images of the same classes as for training")
        facts, kind, shape = self.appearance.facts, dataset.images.pixels.dtype.name, dataset.images.pixels.shape[1:]
        learnt = facts.height, facts.width, facts.image_channels
        pictures = {facts.image_channels, shape[2]} <= {1, 3} and self.appearance.type == "uint8"
        if kind != self.appearance.type or (shape != learnt and not pictures):
            raise DataError(
                f"{dataset.name}: expected {what} images of {self.appearance.type} {learnt}, as those for training, "
                f"got {kind} {shape}"
            )
        if shape[2] > facts.image_channels:
            first = first_test_in_colour(dataset.name) if what == "test" else None
            raise DataError(
                f"{dataset.name}: expected grey {what} images, as all those for training are, got "
                f"{f'{first} in colour' if first else 'some in colour'}; make them grey"
            )

    def _test_folder(self) -> str:
        folder = test_folder(self._recipe.data.source)
        return f" of {folder}" if folder else ""

    def _as_trained(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Test images (B, H, W, C) as images for training are: of their size, and grey ones in three equal channels
        where those are in colour."""
        facts = self.appearance.facts
        sides = facts.height, facts.width
        if pixels.shape[1:3] != sides:
            resize = self.appearance.resize
            seen = [image_file.middle(image_file.from_pixels(image), resize, *sides) for image in pixels]
            pixels = np.stack([image_file.pixels(image) for image in seen])
        return np.broadcast_to(pixels, (*pixels.shape[:3], facts.image_channels))

    def close(self) -> None:
        pass


def _test_files(dataset: DataSet) -> NDArray[np.bytes_] | None:
    """The files of test images that have just been read, relative to the data; None where they are no files. Raises
    DataError."""
    names = test_files(dataset.name)
    if names and len(names) != len(dataset.images.labels):
        raise DataError(f"{dataset.name}: expected test images that stay as they are while they are read")
    return np.array([os.fsencode(name) for name in names]) if names else None


def statistics(
    recipe: RetrainingConfig, channels: int, otherwise: Callable[[], tuple[Sequence[float], Sequence[float]]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in pixel values: the recipe's, or what `otherwise` gives. Raises
    DataError where they are of another number of channels."""
    if not recipe.data.mean:
        mean, std = otherwise()
        return tuple(float(value) for value in mean), tuple(float(value) for value in std)
    if len(recipe.data.mean) != channels:
        raise DataError(
            f"{recipe.data.source}: expected --mean and --std of {channels} channels, got {len(recipe.data.mean)}"
        )
    return recipe.data.mean, recipe.data.std


def _lists(arrays: tuple[NDArray[np.float64], NDArray[np.float64]]) -> tuple[Sequence[float], Sequence[float]]:
    return arrays[0].tolist(), arrays[1].tolist()
