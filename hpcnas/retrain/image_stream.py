"""Images that are decoded as they are needed, by processes of their own (ImageNet's kind): DIR/train and DIR/val.

    rank ── micro-batches to make ──► loader processes: decode, crop, flip, brightness, contrast ── uint8 ──► rank

The layout is that of `class_folders`; images are of any size and decoded by `image_file`; the transforms of training
are torchvision's, version 2. An image's augmentation follows from (seed, its place in the order) alone, whichever
process decodes it. An image that cannot be read is passed over: the next readable one of the listing takes its place,
in every job alike. Test images that cannot be read are left out; all are decoded once before the training, so that they
are known by then. Whether there are too many is for the job and the loop to say.

How images come from those processes, and for how long they are waited for, is the business of `loaders`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcnas import seeds
from hpcnas.config.data_spec import DataFacts, DataFolder, parse
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.data import class_folders, image_file, seeded_transforms
from hpcnas.data.augment import Normaliser
from hpcnas.data.torchvision_shim import import_transforms
from hpcnas.retrain import held_out, shares
from hpcnas.retrain.batch_source import BatchSource, Broken, Loaded, NoImages, OwnThread
from hpcnas.retrain.feed import Appearance, Batch, Order, PlacedBatch, never, statistics
from hpcnas.retrain.loaders import Processes

_logger = logging.getLogger(__name__)
v2 = import_transforms()  # here, so that the loaders' server has them

# Of ImageNet's training images, in pixel values: what torchvision's models are trained with (its documentation of
# pretrained weights; 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 of 255).
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

_TEST_BATCH = 32  # images of the full size
_TOLD = 3  # unreadable images of which a rank says why
_TRIES = 1000  # unreadable images in a row after which there is no point in going on

Item = tuple[Tensor | None, int, list[Broken]]
"""An image, uint8 (C, H, W), or none; its label; and the images that could not be read."""


@dataclass(frozen=True)
class Listing:
    """Images below a folder, by class and then by path. Names are relative to it, as bytes padded with NUL, so that a
    million of them cost little in each process."""

    folder: str
    classes: tuple[str, ...]
    files: NDArray[np.bytes_]  # (N,)
    labels: NDArray[np.int64]  # (N,)

    def name(self, index: int) -> str:
        """The path of an image, beginning with the name of the split: `train/ape/1.jpg`."""
        return f"{os.path.basename(self.folder)}/{os.fsdecode(self.files[index])}"

    def part(self, chosen: NDArray[np.bool_]) -> Listing:
        """Those of the images that are chosen, bool (N,), in their order."""
        return Listing(self.folder, self.classes, self.files[chosen], self.labels[chosen])

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the names; equal for copies of the folder."""
        digest = hashlib.blake2b(repr(self.classes).encode(), digest_size=8)
        digest.update(self.files.tobytes())
        return digest.hexdigest()


def list_images(folder: Path) -> Listing:
    """What lies below a folder; opens no image. Raises DataError."""
    images = class_folders.images_by_class(folder)
    files = [os.fsencode(file) for found in images.values() for file in found]
    labels = np.repeat(np.arange(len(images), dtype=np.int64), [len(found) for found in images.values()])
    return Listing(str(folder), tuple(images), np.array(files), labels)


def _unnoted(index: int) -> None:
    pass


class _Images:
    """A split in a loader process: makes images out of their names (`loaders.ImageMaker`)."""

    def __init__(self, listing: Listing, recipe: RetrainingConfig) -> None:
        self._listing = listing
        self._recipe = recipe
        self._note: Callable[[int], None] = _unnoted  # called with an image of the listing that is to be read

    def __getitem__(self, number: int) -> Item:
        raise NotImplementedError

    def batch(self, numbers: list[int], note: Callable[[int], None]) -> Loaded:
        self._note = note
        return _collated([self[number] for number in numbers])

    def described(self, number: int) -> str:
        return os.path.join(os.path.dirname(self._listing.folder), self._listing.name(number))

    def _read(self, index: int) -> Any:
        """The image in colour, as pillow has it. Raises UnreadableImage."""
        self._note(index)
        path = os.path.join(os.path.dirname(self._listing.folder), self._listing.name(index))
        return image_file.read(path).convert("RGB")


class _TrainingImages(_Images):
    """Items are places in the order, from 0: (image, label, images that were passed over)."""

    def __init__(self, listing: Listing, recipe: RetrainingConfig, seed: int) -> None:
        super().__init__(listing, recipe)
        self._seed = seed
        self._order = Order(len(listing.files), seed)
        self._transform: Any = None  # made in the process that uses it

    def __getitem__(self, place: int) -> Item:
        (chosen,) = self._order(place, 1)
        passed: list[Broken] = []
        if self._transform is None:
            self._transform = self._transforms()
        for index in range(chosen, chosen + min(_TRIES, len(self._listing.files))):
            index %= len(self._listing.files)
            with seeded_transforms.drawing_from(seeds.image_seed(self._seed, place)):
                try:
                    image = self._transform(self._read(index))
                    return image, int(self._listing.labels[index]), passed
                except image_file.UnreadableImage as error:
                    passed.append((self._listing.name(index), error.reason))
        side = self._recipe.data.image_size
        return torch.zeros(3, side, side, dtype=torch.uint8), 0, passed

    def _transforms(self) -> Any:
        augmentation = self._recipe.augmentation
        drawn = [seeded_transforms.rand_augment(augmentation)] if augmentation.rand_augment else []
        return v2.Compose(
            [
                v2.RandomResizedCrop(self._recipe.data.image_size, scale=(augmentation.crop_area, 1.0)),
                v2.RandomHorizontalFlip(0.5 if augmentation.flip else 0.0),
                v2.ColorJitter(brightness=augmentation.brightness, contrast=augmentation.contrast),
                *drawn,
                v2.PILToTensor(),
            ]
        )


class _TestImages(_Images):
    """Items are images of the listing: (image, label, none), or no image and the one that cannot be read."""

    def __getitem__(self, index: int) -> Item:
        side = self._recipe.data.image_size
        try:
            image = image_file.middle(self._read(index), resized(self._recipe), side, side)
        except image_file.UnreadableImage as error:
            return None, 0, [(self._listing.name(index), error.reason)]
        pixels = torch.tensor(image_file.pixels(image))  # a copy: pillow's bytes are read-only
        return pixels.permute(2, 0, 1), int(self._listing.labels[index]), []


class _LookedAt(_TestImages):
    """Items likewise, always without an image: only whether it can be read is of interest."""

    def __getitem__(self, index: int) -> Item:
        try:
            self._read(index)
        except image_file.UnreadableImage as error:
            return None, 0, [(self._listing.name(index), error.reason)]
        return None, 0, []


def resized(recipe: RetrainingConfig) -> int:
    """Pixels of a test image's shorter side, before the crop."""
    return round(recipe.data.image_size / recipe.data.resize)


def _collated(items: list[Item]) -> Loaded:
    found = [(image, label) for image, label, _ in items if image is not None]
    pixels = [image.permute(1, 2, 0) for image, _ in found]
    images = torch.stack(pixels) if pixels else torch.empty(0, 1, 1, 3, dtype=torch.uint8)
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    return images, labels, [one for _, _, broken in items for one in broken]


class Stream:
    """Images of an `imagefolder:DIR`, decoded by `loaders` processes, or by this one if there are none."""

    def __init__(
        self, recipe: RetrainingConfig, rank: int, ranks: int, device: torch.device, loaders: int, listing: Listing,
        tests: Listing, validation: Listing | None = None,
    ) -> None:  # fmt: skip
        recipe = recipe.on_images(len(listing.files))
        self._recipe, self._rank, self._ranks, self._device = recipe, rank, ranks, device
        self._listing, self._tests, self._validation = listing, tests, validation
        self.validation_images = 0 if validation is None else len(validation.files)
        where = "no images" if validation is None else f"images of {validation.folder}"
        self.validated_on = f"{self.validation_images:,} {where}"
        self.test_images = len(tests.files)
        self.test_files: NDArray[np.bytes_] | None = None
        self.tested_on = f"{self.test_images:,} test images of {tests.folder}"
        mean, std = statistics(recipe, 3, lambda: (MEAN, STD))
        self._normalise = Normaliser(torch.tensor(mean, device=device), torch.tensor(std, device=device))
        self._loaders, self._scored = loaders, _TEST_BATCH
        self._source = self._made_source()
        self.waits, self.interrupted = True, False
        self.problem: str | None = None
        self.broken: set[str] = set()
        self.broken_tests: set[str] = set()
        self._told: set[str] = set()  # of which the reason was told
        side = recipe.data.image_size
        self.appearance = Appearance(
            facts=DataFacts(
                3, side, side, len(listing.classes), len(listing.files), self.validation_images, listing.fingerprint
            ),
            class_names=listing.classes,
            mean=mean,
            std=std,
            resize=resized(recipe),
            class_sizes=tuple(np.bincount(listing.labels, minlength=len(listing.classes)).tolist()),
        )

    def _made_source(self) -> BatchSource:
        if not self._loaders:
            return OwnThread()
        largest = max(self._recipe.training.micro_batch, _TEST_BATCH)
        return Processes(self._loaders, largest * 3 * self._recipe.data.image_size**2, preload=__name__)

    def use(self, recipe: RetrainingConfig, scored: int | None = None) -> None:
        self._scored = min(_TEST_BATCH, scored or _TEST_BATCH)
        larger = recipe.training.micro_batch > self._recipe.training.micro_batch
        self._recipe = recipe
        if larger:
            self._source.close()
            self._source = self._made_source()

    def begin(self, seed: int, step: int, leave: Callable[[], bool] = never) -> None:
        training = self._recipe.training
        images = _TrainingImages(self._listing, self._recipe, seed)
        mine = [
            shares.micro_batch(self._recipe, number)
            for piece in shares.pieces(self._recipe, self._rank, self._ranks)
            for number in shares.micro_batches_of(self._recipe, piece)
        ]

        def places() -> Iterator[list[int]]:
            for number in range(step, training.steps):
                for micro_batch in mine:
                    yield [number * training.batch_size + place for place in micro_batch]

        self._leave = leave
        self._begin(images, places())

    def _begin(self, images: _Images, batches: Iterable[list[int]]) -> None:
        try:
            self._source.begin(images, batches)
        except NoImages as error:
            self.interrupted, self.problem = True, str(error)

    def next(self, step: int, micro_batch: int, generator: torch.Generator) -> Batch:
        loaded = self._waited_for(self._leave)
        if loaded is None:
            side = self._recipe.data.image_size
            shape = (len(shares.micro_batch(self._recipe, micro_batch)), side, side, 3)
            loaded = torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[0], dtype=torch.int64), []
        self._tell(self.broken, loaded)
        return self._on_device(loaded)

    def _tell(self, known: set[str], loaded: Loaded) -> None:
        """Adds what could not be read to what is known, and says why of the first of them."""
        for name, reason in loaded[2]:
            if name not in known and len(known) < _TOLD and name not in self._told:
                self._told.add(name)
                _logger.warning("%s cannot be read: %s", name, reason)
            known.add(name)

    def _waited_for(self, leave: Callable[[], bool]) -> Loaded | None:
        """What comes next; None where it does not, which `interrupted` and `problem` then say."""
        if self.interrupted:
            return None
        try:
            loaded = self._source.next(leave)
        except NoImages as error:
            loaded, self.problem = None, str(error)
        self.interrupted = loaded is None
        return loaded

    def _on_device(self, loaded: Loaded) -> Batch:
        images, labels, _ = loaded
        if self._device.type == "cuda":
            images, labels = images.pin_memory(), labels.pin_memory()  # copies, that the device fetches by itself
        pixels = images.to(self._device, non_blocking=True)
        return self._normalise(pixels), labels.to(self._device, non_blocking=True)

    def look(self, leave: Callable[[], bool] = never) -> Iterator[None]:
        self.broken_tests = set()
        for listing, broken in ((self._tests, self.broken_tests), (self._validation, self.broken)):
            if listing is not None:
                for _ in self._share(_LookedAt(listing, self._recipe), listing, broken, leave):
                    yield

    def test(self, leave: Callable[[], bool] = never) -> Iterator[PlacedBatch]:
        self.broken_tests = set()
        if self._rank == 0:
            self.test_files = np.array([os.fsencode(self._tests.name(place)) for place in range(self.test_images)])
        yield from self._middles(self._tests, self.broken_tests, leave)

    def validate(self, leave: Callable[[], bool] = never) -> Iterator[PlacedBatch]:
        if self._validation is not None:
            yield from self._middles(self._validation, self.broken, leave)

    def _middles(self, listing: Listing, broken: set[str], leave: Callable[[], bool]) -> Iterator[PlacedBatch]:
        for loaded, places in self._share(_TestImages(listing, self._recipe), listing, broken, leave):
            if len(loaded[1]):
                unreadable = {name for name, _ in loaded[2]}
                readable = [place for place in places if listing.name(place) not in unreadable]
                yield *self._on_device(loaded), np.array(readable, dtype=np.int64)

    def _share(
        self, images: _Images, listing: Listing, broken: set[str], leave: Callable[[], bool]
    ) -> Iterator[tuple[Loaded, list[int]]]:
        """This rank's share of images that are not trained on, and their places, less where they do not come; adds the
        names of those that cannot be read."""
        mine = range(self._rank, len(listing.files), self._ranks)
        batches = [list(mine[start : start + self._scored]) for start in range(0, len(mine), self._scored)]
        self._begin(images, batches)
        for places in batches:
            loaded = self._waited_for(leave)
            if loaded is None:
                return
            self._tell(broken, loaded)
            yield loaded, places

    def close(self) -> None:
        self._source.close()


def list_all(recipe: RetrainingConfig) -> tuple[Listing, Listing, Listing | None]:
    """Training, test and validation images of a recipe that streams: DIR/train, and DIR/val, where ImageNet keeps what
    the paper tests on, else DIR/test; and DIR/validation, or what is held out of DIR/train, or none. Raises DataError,
    also where they have other classes."""
    folder, validation = _folder(recipe), held_out.validation_folder(recipe)
    training, tests = folder / "train", class_folders.test_folder(folder, "val", "test")
    class_folders.require_same(training, tests)
    if validation is not None:
        class_folders.require_same(training, validation)
        return list_images(training), list_images(tests), list_images(validation)
    whole = list_images(training)
    chosen = held_out.held_out(recipe, whole.labels)
    if not chosen.any():
        return whole, list_images(tests), None
    return whole.part(~chosen), list_images(tests), whole.part(chosen)


def _folder(recipe: RetrainingConfig) -> Path:
    spec = parse(recipe.data.source)
    assert isinstance(spec, DataFolder), "a recipe that streams names a folder"
    return spec.path
