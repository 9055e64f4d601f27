"""A folder of images (DIR/train/<class>/*, DIR/test/<class>/* or DIR/val) as one array: decoded once, then mapped.

The layout and its order are those of `class_folders`; images are decoded by `image_file`, and kept in DIR or in the
user's cache folder by `pixel_cache`. The key of a cache covers name, size and modification time of every image, so a
changed folder is decoded anew.

Reading a split must not open anything of the other. Needs numpy, and pillow where something is decoded.

Measured with 50,000 JPEGs of 32×32 (2 cores of an x86 virtual machine beside much other work, local disk,
Pillow 13, n = 3): 14 to 22 s the first time, 0.9 to 1.6 s afterwards, nearly all of it for looking at 50,000
files, which costs more on a network file system. The look at the cache's 146 MiB takes 0.18 s of a processor's
time, which threads share.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnas.config.data_spec import SMALLEST_SIDE, DataError
from hpcnas.data import class_folders, image_file, pixel_cache

log = logging.getLogger(__name__)

_BLOCK = 1024  # images between two signs of life
_THREADS = 8  # decoding itself gains nothing beyond two; more hide the latency of a network file system


@dataclass(frozen=True)
class Listing:
    """What a split's folder holds: N files relative to `folder`, their labels, and the key of that state."""

    folder: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    key: str
    type = "uint8"  # of the pixels, as of a `pixel_cache.Decodable`

    @property
    def count(self) -> int:
        """Of the images."""
        return len(self.files)

    @property
    def place(self) -> Path:
        """Where they lie."""
        return self.folder

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """The pixels in order, in blocks (≤ 1024, H, W, C). Raises DataError for bad images."""
        return _decode(self)


def load(root: Path, split: str) -> tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.int64]]:
    """Classes, pixels (N, H, W, C) uint8, as a rule mapped from the cache, and labels (N,) of `root/split`; for `test`,
    where there is no such folder, of `root/val`.

    C is 1 if every image is greyscale, else 3. Raises DataError for a missing folder, an empty class, classes
    that differ from those of `root/train`, an unreadable image, and images of differing sizes (naming the
    first odd one).
    """
    folder, training = split_folder(root, split), root / "train"
    if split != "train" and training.is_dir():  # before anything is decoded
        class_folders.require_same(training, folder)
    listing = list_split(folder)
    return listing.classes, pixel_cache.kept(listing, pixel_cache.files(root, folder.name, listing)), listing.labels


def split_folder(root: Path, split: str) -> Path:
    """Where the images of `train`, `validation` or `test` lie. Raises DataError."""
    return root / split if split != "test" else class_folders.test_folder(root, "test", "val")


def first_in_colour(folder: Path) -> str | None:
    """The first image of a split that is not grey; None where all are. Raises DataError."""
    listing = list_split(folder)
    paths = (os.path.join(folder, file) for file in listing.files)
    return next((path for path in paths if not _is_grey(path)), None)


def list_split(folder: Path) -> Listing:
    """The images below `folder`, by class and then by path; raises DataError."""
    images = class_folders.images_by_class(folder)
    files = tuple(file for found in images.values() for file in found)
    key = hashlib.blake2b(b"2", digest_size=12)  # the number: version of the cache's content
    try:
        for file in files:
            state = os.stat(os.path.join(folder, file))
            key.update(os.fsencode(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0"))
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error}") from error
    labels = np.repeat(np.arange(len(images), dtype=np.int64), [len(found) for found in images.values()])
    return Listing(folder, tuple(images), files, labels, key.hexdigest())


# ── decoding ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _decode(listing: Listing) -> Iterator[NDArray[np.uint8]]:
    """The pixels in order, in blocks (≤ 1024, H, W, C); raises DataError naming the first odd image."""
    paths = [os.path.join(listing.folder, file) for file in listing.files]
    size = image_file.read(paths[0]).size
    if min(size) < SMALLEST_SIDE:
        raise DataError(f"{paths[0]}: expected sides of {SMALLEST_SIDE} pixels or more, got {_sides(size)}")
    with ThreadPoolExecutor(_THREADS) as pool:
        grey = _is_grey(paths[0]) and all(pool.map(_is_grey, paths))

        def pixels(path: str) -> NDArray[np.uint8]:
            with image_file.opened(path) as image:
                if sorted(image.size) != sorted(size):  # before it is decoded, since it may be large
                    raise _odd(path, image.size)
                shown = image_file.shown(image)
            if shown.size != size:
                raise _odd(path, shown.size)
            return image_file.pixels(shown if grey else shown.convert("RGB"))

        def _odd(path: str, found: tuple[int, int]) -> DataError:
            return DataError(
                f"{path} is {_sides(found)} pixels, {paths[0]} is {_sides(size)}: "
                "expected images of one size; resize or remove the odd ones"
            )

        for start in range(0, len(paths), _BLOCK):
            yield np.stack(list(pool.map(pixels, paths[start : start + _BLOCK])))


def _is_grey(path: str) -> bool:
    with image_file.opened(path) as image:
        return image_file.is_grey(image)


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
