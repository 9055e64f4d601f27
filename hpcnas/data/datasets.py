"""The images that networks learn: every kind of data as arrays, one split at a time.

A search must never see test images: `load_training` opens no file of a test split (for `digits` and `arrays`, whose
splits share one file, no array of it). Only `load_test` does, for a found network. Nothing here normalises,
augments or moves images to a device. Importing needs numpy alone; torchvision is loaded where its archives
are read, pillow where images are, h5py where an HDF5 file is.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcnas import plugins
from hpcnas.config.data_spec import (
    MOST_CHANNELS,
    ArrayData,
    DataError,
    DataFolder,
    DataSpec,
    Digits,
    Plugged,
    Synthetic,
    named_classes,
    parse,
)
from hpcnas.data import archives, arrays, class_folders, image_folder

Split = Literal["train", "test"]
_HASHED_BYTES = 256 * 2**20  # of pixels in a fingerprint; larger data give a sample of their images


class Unchecked(NamedTuple):
    """What is read of one split: as of `Images`, not checked yet, and the names of the classes."""

    classes: tuple[str, ...]
    pixels: NDArray[Any]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """One split, possibly mapped read-only from a file; raises DataError unless shapes and dtypes fit."""

    pixels: NDArray[Any]  # (N, H, W, C), of one of `arrays.TYPES`, C from 1 to 256, N ≥ 1
    labels: NDArray[np.int64]  # (N,), 0..classes-1
    groups: NDArray[np.int64] | None = None  # (N,), from 0: those of one group stay together; None: none are told

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        known = any(pixels.dtype == np.dtype(name) for name in arrays.TYPES)
        if not known or pixels.ndim != 4 or not 1 <= pixels.shape[3] <= MOST_CHANNELS:
            raise DataError(
                f"expected pixels {', '.join(arrays.TYPES)} (N, H, W, 1 to {MOST_CHANNELS}), got {pixels.dtype} "
                f"{pixels.shape}"
            )
        if labels.dtype != np.int64 or labels.shape != pixels.shape[:1] or len(labels) == 0:
            raise DataError(f"expected int64 labels ({len(pixels)} ≥ 1,), got {labels.dtype} {labels.shape}")
        groups = self.groups
        if groups is not None and (groups.dtype != np.int64 or groups.shape != labels.shape or groups.min() < 0):
            raise DataError(f"expected int64 groups ({len(labels)},) from 0, got {groups.dtype} {groups.shape}")

    def taken(self, places: NDArray[Any]) -> Images:
        """Those at these places, int64 (n,), in their order, or where these are true, bool (N,): copies."""
        groups = None if self.groups is None else self.groups[places]
        return Images(self.pixels[places], self.labels[places], groups)


@dataclass(frozen=True, eq=False)
class DataSet:
    """One split of a data set, and what tells it from others; raises DataError for labels out of range."""

    name: str  # the specification it was loaded from
    classes: tuple[str, ...]
    images: Images
    fingerprint: str  # 16 hex digits, equal on every host with the same classes, labels and images in order
    validation: Images | None = None  # what is validated on instead of a part of these images; of training data alone

    def __post_init__(self) -> None:
        for images in (self.images, self.validation):
            low, high = (0, 0) if images is None else (int(images.labels.min()), int(images.labels.max()))
            if low < 0 or high >= len(self.classes):
                raise DataError(f"expected labels from 0 to {len(self.classes) - 1}, got {low} to {high}")
        if self.validation is not None:
            ours, theirs = self.images.pixels, self.validation.pixels
            if (ours.dtype, ours.shape[1:]) != (theirs.dtype, theirs.shape[1:]):
                raise DataError(
                    f"expected validation images of {ours.dtype} {ours.shape[1:]}, as for training, got {theirs.dtype} "
                    f"{theirs.shape[1:]}"
                )


def load_training(spec: str, *, download: bool = False) -> DataSet:
    """The training images of a specification (see `data_spec.KINDS`); opens no test file.

    `download` lets torchvision fetch (or unpack) an archive that is not there. Raises
    DataError for an unknown specification and for missing, damaged or unusable data.
    """
    return _load(spec, "train", download)


def load_test(spec: str, *, download: bool = False) -> DataSet:
    """The test images, which a search never sees; as `load_training` otherwise."""
    return _load(spec, "test", download)


def load_validation(spec: str) -> DataSet:
    """The images in DIR/validation of `imagefolder:DIR`, as `load_training` otherwise. Raises DataError, also for other
    data."""
    match parse(spec):
        case DataFolder("imagefolder", path):
            return _data_set(spec, lambda: Unchecked(*image_folder.load(path, class_folders.VALIDATION)))
    raise DataError(f"{spec}: expected imagefolder:DIR, whose DIR/{class_folders.VALIDATION} is validated on")


def test_folder(spec: str) -> Path | None:
    """Where the test images of an image folder lie; None for other data. Raises DataError."""
    match parse(spec):
        case DataFolder("imagefolder", path):
            return image_folder.split_folder(path, "test")
    return None


def test_files(spec: str) -> list[str]:
    """The files of the test images of an image folder, in their order and relative to DIR: `test/cat/1.png`; none for
    other data. Raises DataError."""
    folder = test_folder(spec)
    return [] if folder is None else [f"{folder.name}/{file}" for file in image_folder.list_split(folder).files]


def first_test_in_colour(spec: str) -> str | None:
    """The path of the first test image that is not grey, of an image folder; None where there is none, and for other
    data. Raises DataError."""
    folder = test_folder(spec)
    return None if folder is None else image_folder.first_in_colour(folder)


def fingerprint(classes: tuple[str, ...], images: Images, validation: Images | None = None) -> str:
    """16 hex digits over classes, shape, labels and pixels (beyond 256 MiB, over evenly spaced images); over type,
    groups and validation images as well where the type is not uint8, and there are such."""
    digest = hashlib.blake2b(repr((classes, images.pixels.shape)).encode(), digest_size=8)
    _add(digest, images)
    if validation is not None:
        digest.update(f"validation {validation.pixels.shape}".encode())
        _add(digest, validation)
    return digest.hexdigest()


def _add(digest: Any, images: Images) -> None:
    digest.update(images.labels.astype("<i8").tobytes())
    if images.pixels.dtype != np.uint8:
        digest.update(images.pixels.dtype.name.encode())
    sample = images.pixels[:: -(-images.pixels.nbytes // _HASHED_BYTES)]
    together = max(1, min(1024, (1 << 20) // max(1, sample[:1].nbytes)))  # little memory: each worker takes it
    for start in range(0, len(sample), together):
        digest.update(np.ascontiguousarray(sample[start : start + together]).data)
    if images.groups is not None:
        digest.update(b"groups" + images.groups.astype("<i8").tobytes())


def _load(name: str, which: Split, download: bool) -> DataSet:
    spec = parse(name)
    also = (lambda: _validation(spec)) if which == "train" else (lambda: None)
    return _data_set(name, lambda: _read(spec, which, download), also)


def _data_set(name: str, read: Callable[[], Unchecked], also: Callable[[], Images | None] = lambda: None) -> DataSet:
    """What is read, named after its specification. Raises DataError, which begins with that name."""
    try:
        classes, pixels, labels, groups = read()
        images, validation = Images(pixels, labels, groups), also()
        return DataSet(name, classes, images, fingerprint(classes, images, validation), validation)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except ImportError as error:
        raise DataError(f"{name}: expected to import what reads it: {error}; install that package") from error


def _read(spec: DataSpec, which: Split, download: bool) -> Unchecked:
    match spec:
        case Digits():
            return _digits(which)
        case Synthetic(count, shape):
            return _synthetic(count if which == "train" else count // 5, shape, which)
        case DataFolder("imagefolder", path):
            return Unchecked(*image_folder.load(path, which))
        case ArrayData(path, layout):
            found = arrays.load(path, layout, which)
            assert found is not None, "validation images alone may be missing"
            groups = np.arange(len(found.labels)) if found.groups is None else found.groups  # a split is by class
            return Unchecked(found.classes, found.pixels, found.labels, groups if which == "train" else None)
        case Plugged(kind, rest):
            return _plugged(kind, rest, which, download)
        case DataFolder(kind, path):
            return Unchecked(*archives.load(kind, path, which, download))


def _validation(spec: DataSpec) -> Images | None:
    """The images that come with the training images to be validated on, if there are any."""
    if not isinstance(spec, ArrayData) or (found := arrays.load(spec.path, spec.layout, "validation")) is None:
        return None
    return Images(found.pixels, found.labels)


def _plugged(kind: str, rest: str, which: Split, download: bool) -> Unchecked:
    """What a plugin has read, as far as `Images` and `DataSet` do not check it."""
    whose = f"{plugins.bringer('data', kind)}: `read` of {kind!r}"
    try:
        parts = plugins.answer(whose, plugins.data()[kind].read, rest, which, download, but=(DataError,))
        classes, pixels, labels, groups = (*parts, None) if len(parts) == 3 else parts
        mapped = isinstance(pixels, np.memmap) and pixels.flags.c_contiguous  # which processes of a host share
        numbers, values = np.asarray(labels), pixels if mapped else np.asarray(pixels)
        whole = numbers.dtype.kind in "iu"  # of any width
        found = Unchecked(tuple(map(str, classes)), values, numbers.astype(np.int64) if whole else numbers)
    except plugins.PluginFault as fault:
        raise DataError(str(fault)) from fault
    except (TypeError, ValueError) as error:
        what = "(classes, pixels, labels) or (classes, pixels, labels, groups)"
        raise DataError(f"{whose}: expected {what}, got {type(parts).__name__}: {error}") from None
    if which == "train" and (lacking := _without_images(found)):
        raise DataError(f"{whose}: expected images of every class, got none of {named_classes(lacking, found.classes)}")
    if (place := arrays.first_not_finite(values)) is not None:
        raise DataError(f"{whose}: expected finite pixels, got {values[place]} at {place}")
    if groups is None:
        return found
    told = np.asarray(groups)
    if told.shape != numbers.shape or told.dtype.kind not in "iuSU":
        what = f"expected {len(numbers)} groups, whole numbers or texts"
        raise DataError(f"{whose}: {what}, got {told.dtype} {told.shape}")
    return found._replace(groups=np.unique(told, return_inverse=True)[1].astype(np.int64))


def _without_images(found: Unchecked) -> list[int]:
    """The numbers of the classes that no image is of, as far as labels are such numbers."""
    if found.labels.ndim != 1 or found.labels.dtype.kind not in "iu":
        return []  # which `Images` refuses
    return np.setdiff1d(np.arange(len(found.classes)), found.labels).tolist()


def _digits(which: Split) -> Unchecked:
    """The images that come with the package (README.md beside this file), values 0 to 16."""
    path = Path(__file__).with_name("digits.npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels, labels = arrays[f"{which}_pixels"], arrays[f"{which}_labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"expected the package's own {path}: {error}; install the package again") from error
    return Unchecked(tuple("0123456789"), pixels, labels.astype(np.int64))


def _synthetic(count: int, shape: tuple[int, int, int], which: Split) -> Unchecked:
    """Images of ten classes, each a smooth pattern under noise; integers alone, so alike on every host."""
    channels, height, width = shape
    coarse = _generator("patterns").integers(0, 256, (10, 4, 4, channels))
    patterns = _stretched(_stretched(coarse, 1, height), 2, width)
    draw = _generator(which)
    labels = draw.permutation(np.arange(count, dtype=np.int64) % 10)
    pixels = np.empty((count, height, width, channels), dtype=np.uint8)
    for start in range(0, count, 1024):
        block = labels[start : start + 1024]
        noise = draw.integers(0, 256, (len(block), height, width, channels), dtype=np.uint8)
        pixels[start : start + 1024] = (patterns[block] + 3 * noise.astype(np.int64)) // 4
    return Unchecked(tuple(f"class {number}" for number in range(10)), pixels, labels)


def _generator(purpose: Literal["patterns", "train", "test"]) -> np.random.Generator:
    key = ("patterns", "train", "test").index(purpose)
    return np.random.default_rng(np.random.SeedSequence(1711_00436, spawn_key=(key,)))


def _stretched(values: NDArray[np.int64], axis: int, size: int) -> NDArray[np.int64]:
    """Linear interpolation of one axis to `size` points, in integers."""
    intervals, steps = values.shape[axis] - 1, size - 1
    left, part = np.divmod(np.arange(size) * intervals, steps)
    right = np.minimum(left + 1, intervals)
    part = part.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    stretched: NDArray[np.int64] = values.take(left, axis) * (steps - part) + values.take(right, axis) * part
    return stretched // steps
