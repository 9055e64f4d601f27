"""Images that are decoded as they are needed, by processes of their own (ImageNet's kind): DIR/train and DIR/val.

    rank ── micro-batches to make ──► loader processes: decode, crop, flip, brightness, contrast ── uint8 ──► rank

The layout is that of torchvision's `ImageFolder` (`image_folder`), images of any size; the transforms are
torchvision's, version 2. An image's augmentation follows from (seed, its place in the order) alone, whichever process
decodes it. An image that cannot be read is passed over: the next readable one of the listing takes its place, in every
job alike. Test images that cannot be read are left out. Whether there are too many of them is for the loop to say.

How images come from those processes, and for how long they are waited for, is the business of `loaders`.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcnas import seeds
from hpcnas.config.data_spec import DataError, DataFacts, DataFolder, parse
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.data import image_folder
from hpcnas.data.augment import Normaliser
from hpcnas.data.torchvision_shim import import_transforms
from hpcnas.retrain.feed import Appearance, Batch, Order, never, statistics
from hpcnas.retrain.loaders import BatchSource, Loaded, NoImages, OwnThread, Processes

v2 = import_transforms()  # here, so that the loaders' server has them

# Of ImageNet's training images, in pixel values: what torchvision's models are trained with (its documentation of
# pretrained weights; 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 of 255).
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

_TEST_BATCH = 32  # images of the full size
_TRIES = 1000  # unreadable images in a row after which there is no point in going on

Item = tuple[Tensor | None, int, list[str]]
"""An image, uint8 (C, H, W), or none; its label; and the names of images that could not be read."""


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

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the names; equal for copies of the folder."""
        digest = hashlib.blake2b(repr(self.classes).encode(), digest_size=8)
        digest.update(self.files.tobytes())
        return digest.hexdigest()


def list_images(folder: Path) -> Listing:
    """What lies below a folder; opens no image. Raises DataError."""
    classes = image_folder.class_names(folder)
    files: list[bytes] = []
    labels: list[int] = []
    try:
        for label, name in enumerate(classes):
            found = image_folder.image_files(folder, name)
            if not found:
                raise DataError(f"expected images ({', '.join(image_folder.EXTENSIONS)}) in {folder / name}, got none")
            files += map(os.fsencode, found)
            labels += [label] * len(found)
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error}") from error
    return Listing(str(folder), classes, np.array(files), np.array(labels, dtype=np.int64))


def _unnoted(index: int) -> None:
    pass


class _Images:
    """A split in a loader process: makes images out of their names (`loaders.ImageMaker`)."""

    def __init__(self, listing: Listing, recipe: RetrainingConfig) -> None:
        self._listing = listing
        self._recipe = recipe
        self._transform: Any = None  # made in the process that uses it
        self._note: Callable[[int], None] = _unnoted  # called with an image of the listing that is to be read

    def __getitem__(self, number: int) -> Item:
        raise NotImplementedError

    def batch(self, numbers: list[int], note: Callable[[int], None]) -> Loaded:
        self._note = note
        return _collated([self[number] for number in numbers])

    def described(self, number: int) -> str:
        return os.path.join(os.path.dirname(self._listing.folder), self._listing.name(number))

    def _decoded(self, index: int) -> Tensor:
        """uint8 (C, H, W). Raises whatever a decoder raises."""
        if self._transform is None:
            self._transform = self._transforms()
        import PIL.Image

        self._note(index)
        path = os.path.join(os.path.dirname(self._listing.folder), self._listing.name(index))
        with warnings.catch_warnings(), PIL.Image.open(path) as image:
            warnings.simplefilter("ignore")  # about metadata
            return self._transform(image.convert("RGB"))

    def _transforms(self) -> Any:
        raise NotImplementedError


class _TrainingImages(_Images):
    """Items are places in the order, from 0: (image, label, names of images that were passed over)."""

    def __init__(self, listing: Listing, recipe: RetrainingConfig, seed: int) -> None:
        super().__init__(listing, recipe)
        self._seed = seed
        self._order = Order(len(listing.files), seed)

    def __getitem__(self, place: int) -> Item:
        (chosen,) = self._order(place, 1)
        passed: list[str] = []
        for index in range(chosen, chosen + min(_TRIES, len(self._listing.files))):
            index %= len(self._listing.files)
            with torch.random.fork_rng(devices=[]):  # what the transforms draw from
                torch.manual_seed(seeds.image_seed(self._seed, place))
                try:
                    return self._decoded(index), int(self._listing.labels[index]), passed
                except MemoryError:  # which says nothing about the image
                    raise
                except Exception:  # decoders raise OSError, SyntaxError, ValueError, struct.error and others
                    passed.append(self._listing.name(index))
        side = self._recipe.data.image_size
        return torch.zeros(3, side, side, dtype=torch.uint8), 0, passed

    def _transforms(self) -> Any:
        augmentation = self._recipe.augmentation
        return v2.Compose(
            [
                v2.RandomResizedCrop(self._recipe.data.image_size, scale=(augmentation.crop_area, 1.0)),
                v2.RandomHorizontalFlip(0.5 if augmentation.flip else 0.0),
                v2.ColorJitter(brightness=augmentation.brightness, contrast=augmentation.contrast),
                v2.PILToTensor(),
            ]
        )


class _TestImages(_Images):
    """Items are images of the listing: (image, label, none), or no image and the name of one that cannot be read."""

    def __getitem__(self, index: int) -> Item:
        try:
            return self._decoded(index), int(self._listing.labels[index]), []
        except MemoryError:  # which says nothing about the image
            raise
        except Exception:
            return None, 0, [self._listing.name(index)]

    def _transforms(self) -> Any:
        side = self._recipe.data.image_size
        return evaluation_view(resized(self._recipe), side, side)


def evaluation_view(resize: int, height: int, width: int) -> Any:
    """A function from one of pillow's images to a test image, uint8 (C, height, width) with C as the image has them.

    The shorter side is resized to `resize` pixels (bilinear, antialiased), then the middle is cropped; what the crop
    wants beyond the image is black.
    """
    return v2.Compose([v2.Resize(resize), v2.CenterCrop((height, width)), v2.PILToTensor()])


def resized(recipe: RetrainingConfig) -> int:
    """Pixels of a test image's shorter side, before the crop."""
    return round(recipe.data.image_size / recipe.data.resize)


def _collated(items: list[Item]) -> Loaded:
    found = [(image, label) for image, label, _ in items if image is not None]
    pixels = [image.permute(1, 2, 0) for image, _ in found]
    images = torch.stack(pixels) if pixels else torch.empty(0, 1, 1, 3, dtype=torch.uint8)
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    return images, labels, [name for _, _, names in items for name in names]


class Stream:
    """Images of an `imagefolder:DIR`, decoded by `loaders` processes, or by this one if there are none."""

    def __init__(
        self, recipe: RetrainingConfig, rank: int, ranks: int, device: torch.device, loaders: int, listing: Listing
    ) -> None:
        self._recipe, self._rank, self._ranks, self._device = recipe, rank, ranks, device
        self._listing = listing
        mean, std = statistics(recipe, 3, lambda: (MEAN, STD))
        self._normalise = Normaliser(torch.tensor(mean, device=device), torch.tensor(std, device=device))
        self._source: BatchSource = OwnThread()
        if loaders:
            largest = max(recipe.training.micro_batch, _TEST_BATCH)
            self._source = Processes(loaders, largest * 3 * recipe.data.image_size**2, preload=__name__)
        self.waits, self.interrupted = True, False
        self.problem: str | None = None
        self.broken: set[str] = set()
        self.broken_tests: set[str] = set()
        side = recipe.data.image_size
        self.appearance = Appearance(
            facts=DataFacts(3, side, side, len(listing.classes), len(listing.files), 0, listing.fingerprint),
            class_names=listing.classes,
            mean=mean,
            std=std,
            resize=resized(recipe),
        )

    def begin(self, seed: int, step: int, leave: Callable[[], bool] = never) -> None:
        training = self._recipe.training
        images = _TrainingImages(self._listing, self._recipe, seed)

        def places() -> Iterator[list[int]]:
            for number in range(step, training.steps):
                for micro_batch in range(self._rank, self._recipe.micro_batches, self._ranks):
                    first = number * training.batch_size + micro_batch * training.micro_batch
                    yield list(range(first, first + training.micro_batch))

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
            shape = (self._recipe.training.micro_batch, side, side, 3)
            loaded = torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[0], dtype=torch.int64), []
        self.broken.update(loaded[2])
        return self._on_device(loaded)

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

    def test(self, leave: Callable[[], bool] = never) -> Iterator[Batch]:
        listing = list_images(test_folder(self._recipe))
        if listing.classes != self._listing.classes:
            raise DataError(f"expected the same class folders in {listing.folder} as in {self._listing.folder}")
        mine = range(self._rank, len(listing.files), self._ranks)
        batches = [list(mine[start : start + _TEST_BATCH]) for start in range(0, len(mine), _TEST_BATCH)]
        self._begin(_TestImages(listing, self._recipe), batches)
        for _ in batches:
            loaded = self._waited_for(leave)
            if loaded is None:
                return
            self.broken_tests.update(loaded[2])
            if len(loaded[1]):
                yield self._on_device(loaded)

    def close(self) -> None:
        self._source.close()


def training_folder(recipe: RetrainingConfig) -> Path:
    """DIR/train of a recipe that streams."""
    return _folder(recipe) / "train"


def test_folder(recipe: RetrainingConfig) -> Path:
    """DIR/val, where ImageNet keeps what the paper tests on; else DIR/test. Raises DataError where there is neither."""
    folder = _folder(recipe)
    try:
        for name in ("val", "test"):
            if (folder / name).is_dir():
                return folder / name
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error.strerror}") from error
    raise DataError(f"expected {folder / 'val'} to hold a folder of images for each class, to test the network on")


def _folder(recipe: RetrainingConfig) -> Path:
    spec = parse(recipe.data.source)
    assert isinstance(spec, DataFolder), "a recipe that streams names a folder"
    return spec.path
