"""The images that networks learn: every kind of data as uint8 arrays, one split at a time.

A search must never see test images: `load_training` opens no file of a test split (for `digits`, whose two
splits share one file, no array of it). Only `load_test` does, for a found network. Nothing here normalises,
augments or moves images to a device. Importing needs numpy alone; torchvision is loaded where its archives
are read, pillow where images are.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcnas import plugins
from hpcnas.config.data_spec import DataError, DataFolder, DataSpec, Digits, Plugged, Synthetic, parse
from hpcnas.data import class_folders, image_folder
from hpcnas.data.torchvision_shim import import_torchvision
from hpcnas.job import terminal

Split = Literal["train", "test"]
Parts = tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.int64]]  # classes, pixels, labels
_HASHED_BYTES = 256 * 2**20  # of pixels in a fingerprint; larger data give a sample of their images


@dataclass(frozen=True, eq=False)
class Images:
    """One split, possibly mapped read-only from a file; raises DataError unless shapes and dtypes fit."""

    pixels: NDArray[np.uint8]  # (N, H, W, C), C in {1, 3}, N ≥ 1
    labels: NDArray[np.int64]  # (N,), 0..classes-1

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
            raise DataError(f"expected pixels uint8 (N, H, W, 1 or 3), got {pixels.dtype} {pixels.shape}")
        if labels.dtype != np.int64 or labels.shape != pixels.shape[:1] or len(labels) == 0:
            raise DataError(f"expected int64 labels ({len(pixels)} ≥ 1,), got {labels.dtype} {labels.shape}")


@dataclass(frozen=True, eq=False)
class DataSet:
    """One split of a data set, and what tells it from others; raises DataError for labels out of range."""

    name: str  # the specification it was loaded from
    classes: tuple[str, ...]
    images: Images
    fingerprint: str  # 16 hex digits, equal on every host with the same classes, labels and images in order

    def __post_init__(self) -> None:
        low, high = int(self.images.labels.min()), int(self.images.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(f"expected labels from 0 to {len(self.classes) - 1}, got {low} to {high}")


def load_training(spec: str, *, download: bool = False) -> DataSet:
    """The training images of a specification (see `data_spec.KINDS`); opens no test file.

    `download` lets `cifar10` and `fashion-mnist` fetch (or unpack) an archive that is not there. Raises
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
            return _data_set(spec, lambda: image_folder.load(path, class_folders.VALIDATION))
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


def split(images: Images, validation_fraction: float, seed: int) -> tuple[Images, Images]:
    """(training, validation) images by a permutation that the seed fixes; copies, in the permutation's order.

    0 < validation_fraction < 1; 0.2 of CIFAR-10's 50,000 leave 40,000 for training, 10,000 for validation
    (§4.1). Raises DataError if either part would be empty.
    """
    count = len(images.labels)
    held_out = round(count * validation_fraction)
    if not 0 < held_out < count:
        raise DataError(f"expected a validation fraction that splits {count} images in two, got {validation_fraction}")
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(count)
    training, validation = order[held_out:], order[:held_out]
    return (
        Images(images.pixels[training], images.labels[training]),
        Images(images.pixels[validation], images.labels[validation]),
    )


def channel_statistics(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over all pixels, (C,) each, in pixel values 0..255.

    Summed in integers, so the same on every host. The deviation of a constant channel is given as 1, never 0.
    """
    channels = images.pixels.shape[3]
    histograms = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images.pixels), 1024):
        block = images.pixels[start : start + 1024]
        for channel in range(channels):
            histograms[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256)
    means, deviations = [], []
    for histogram in histograms:
        count, total, squares = (int(histogram @ values**power) for power in (0, 1, 2))
        means.append(total / count)
        deviations.append(math.sqrt((count * squares - total**2) / count**2) or 1.0)
    return np.array(means), np.array(deviations)


def fingerprint(classes: tuple[str, ...], images: Images) -> str:
    """16 hex digits over classes, shape, labels and pixels (beyond 256 MiB, over evenly spaced images)."""
    digest = hashlib.blake2b(repr((classes, images.pixels.shape)).encode(), digest_size=8)
    digest.update(images.labels.astype("<i8").tobytes())
    sample = images.pixels[:: -(-images.pixels.nbytes // _HASHED_BYTES)]
    for start in range(0, len(sample), 1024):
        digest.update(np.ascontiguousarray(sample[start : start + 1024]).data)
    return digest.hexdigest()


def _load(name: str, which: Split, download: bool) -> DataSet:
    spec = parse(name)
    return _data_set(name, lambda: _read(spec, which, download))


def _data_set(name: str, read: Callable[[], Parts]) -> DataSet:
    """What is read, named after its specification. Raises DataError, which begins with that name."""
    try:
        classes, pixels, labels = read()
        images = Images(pixels, labels)
        return DataSet(name, classes, images, fingerprint(classes, images))
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except ImportError as error:
        raise DataError(f"{name}: expected to import what reads it: {error}; install that package") from error


def _read(spec: DataSpec, which: Split, download: bool) -> Parts:
    match spec:
        case Digits():
            return _digits(which)
        case Synthetic(count, shape):
            return _synthetic(count if which == "train" else count // 5, shape, which)
        case DataFolder("imagefolder", path):
            return image_folder.load(path, which)
        case Plugged(kind, rest):
            return _plugged(kind, rest, which, download)
        case DataFolder(kind, path):
            return _archive(kind, path, which, download)


def _plugged(kind: str, rest: str, which: Split, download: bool) -> Parts:
    """What a plugin has read, as far as `Images` and `DataSet` do not check it."""
    whose = f"{plugins.bringer('data', kind)}: `read` of {kind!r}"
    try:
        parts = plugins.answer(whose, plugins.data()[kind].read, rest, which, download, but=(DataError,))
        classes, pixels, labels = parts
        numbers = np.asarray(labels)
        whole = numbers.dtype.kind in "iu"  # of any width
        return tuple(map(str, classes)), np.asarray(pixels), numbers.astype(np.int64) if whole else numbers
    except plugins.PluginFault as fault:
        raise DataError(str(fault)) from fault
    except (TypeError, ValueError) as error:
        raise DataError(f"{whose}: expected (classes, pixels, labels), got {type(parts).__name__}: {error}") from None


def _digits(which: Split) -> Parts:
    """The images that come with the package (README.md beside this file), values 0 to 16."""
    path = Path(__file__).with_name("digits.npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels, labels = arrays[f"{which}_pixels"], arrays[f"{which}_labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"expected the package's own {path}: {error}; install the package again") from error
    return tuple("0123456789"), pixels, labels.astype(np.int64)


def _synthetic(count: int, shape: tuple[int, int, int], which: Split) -> Parts:
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
    return tuple(f"class {number}" for number in range(10)), pixels, labels


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


def _archive(kind: str, path: Path, which: Split, download: bool) -> Parts:
    """CIFAR-10 or Fashion-MNIST from its original files, by torchvision."""
    try:
        datasets = import_torchvision().datasets
    except RuntimeError as error:
        raise DataError(f"expected a torchvision that fits the torch beside it: {_one_line(error)}") from error
    training = which == "train"
    if kind == "cifar10":
        # torchvision checks the files of both splits whichever is asked for: leave it the list of one.
        expected = f"the original archive, unpacked, in {path / datasets.CIFAR10.base_folder}"
        reader = type("CIFAR10", (datasets.CIFAR10,), {"test_list" if training else "train_list": []})
    else:
        expected = f"the original files, unpacked, in {path / 'FashionMNIST' / 'raw'}"
        prefix = "train-" if training else "t10k-"
        own = [item for item in datasets.FashionMNIST.resources if item[0].startswith(prefix)]
        # the folder DIR/FashionMNIST is named after the class
        reader = type("FashionMNIST", (datasets.FashionMNIST,), {"resources": own})
    try:
        bars: Any = terminal.Steering(sys.stderr)  # torchvision's, of what it fetches
        with contextlib.redirect_stderr(bars), contextlib.redirect_stdout(bars):  # a caller's may be a protocol
            data = _fetched(reader, path, training) if download else reader(path, train=training)
    except MemoryError:
        raise
    except Exception as error:  # readers, unpackers and the network raise all sorts of things
        reason = "missing or damaged" if "not found" in str(error) else _one_line(error)
        hint = "" if download else "; put it there or ask for the download"
        raise DataError(f"expected {expected}: {reason}{hint}") from error
    pixels, labels = np.asarray(data.data), np.asarray(data.targets, dtype=np.int64)
    side, channels = (32, 3) if kind == "cifar10" else (28, 1)
    if pixels.shape[1:3] != (side, side):
        raise DataError(f"expected {expected} with images of {side}×{side} pixels; got {pixels.shape}")
    return tuple(data.classes), np.ascontiguousarray(pixels.reshape(-1, side, side, channels)), labels


def _fetched(reader: Any, path: Path, training: bool) -> Any:
    """The data set, fetched first unless it is there, by one process of those that start at once."""
    with contextlib.suppress(RuntimeError):  # "not found or corrupted"
        return reader(path, train=training)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".hpcnas-download.lock", "w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks: as without this lock
            fcntl.flock(lock, fcntl.LOCK_EX)
        return reader(path, train=training, download=True)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
