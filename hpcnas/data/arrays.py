"""Images that lie in arrays, `arrays:FILE.h5|FILE.npz|DIR`, of any number of channels and several types of values.

    train/images        (N, H, W, C), or (N, C, H, W) where `layout` says nchw: uint8, uint16, int16, float16, float32
    train/labels        (N,), whole numbers from 0
    train/groups        (N,), or `groups`: whole numbers or texts; images of one group stay together in a split
    validation/…        images to validate on, instead of a split; `test/…` likewise, for retraining
    classes             names of the classes; without them, they are called by their numbers

Values keep their type. What cannot be used is told in one line, with its file, array and place; what is merely odd is
warned of. Of the test arrays nothing is opened unless they are asked for. Large arrays are mapped where they lie plain,
and else from a cache beside the file (`pixel_cache`). Reading is `array_files`' business.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcnas.config.data_spec import LAYOUTS, MOST_CHANNELS, SMALLEST_SIDE, DataError, named_classes
from hpcnas.data import array_files, pixel_cache
from hpcnas.data.array_files import Array, ArrayFile

log = logging.getLogger(__name__)

Part = Literal["train", "validation", "test"]
TYPES = ("uint8", "uint16", "int16", "float16", "float32")
_BLOCK = 4 << 20  # bytes that are read at a time
_SHARED = 64 << 20  # bytes of images that processes share; smaller ones each has for itself


@dataclass(frozen=True)
class Labelled:
    """A part of the data: (N, H, W, C), (N,), and (N,) numbers of groups, if they are told."""

    classes: tuple[str, ...]
    pixels: NDArray[Any]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None


@dataclass(frozen=True)
class Form:
    """What is known of the training images before they are read."""

    images: int
    height: int
    width: int
    channels: int
    type: str
    classes: int
    validation_images: int | None  # None: there are none of their own

    @property
    def value_bytes(self) -> int:
        """What a pixel takes in a channel."""
        return np.dtype(self.type).itemsize


def form(path: Path, layout: str | None) -> Form:
    """What the training arrays are; of the images nothing is read. Raises DataError."""
    with array_files.opened(path) as arrays:
        reader = _Reader(arrays, path, layout)
        images, sizes = reader.images("train/images")
        classes = len(reader.classes())
        own = reader.images("validation/images")[0].shape[0] if reader.has("validation") else None
        return Form(*sizes, images.dtype.name, classes, own)


def load(path: Path, layout: str | None, part: Part) -> Labelled | None:
    """A part, read whole; None where there is none for validation. Raises DataError."""
    with array_files.opened(path) as arrays:
        reader = _Reader(arrays, path, layout)
        return None if part == "validation" and not reader.has(part) else reader.part(part)


def unlabelled(path: Path, layout: str | None) -> tuple[NDArray[Any], NDArray[np.int64] | None, str]:
    """Images to be classified: those of `test`, or else `images` alone; their labels, if there are any; and the name of
    their array. Raises DataError."""
    with array_files.opened(path) as arrays:
        reader = _Reader(arrays, path, layout)
        name = "test/images" if reader.has("test") or not reader.has_array("images") else "images"
        pixels = reader.pixels(name)
        labels = name.replace("images", "labels")
        return pixels, reader.labels(labels, len(pixels)) if reader.has_array(labels) else None, name


def first_not_finite(block: NDArray[Any]) -> tuple[int, ...] | None:
    """The place of the first value that is infinite or not a number; None where there is none."""
    if block.dtype.kind != "f":
        return None
    with np.errstate(invalid="ignore"):
        if np.isfinite(block.min(initial=0) + block.max(initial=0)):  # without a copy
            return None
    places = np.argwhere(~np.isfinite(block))
    return tuple(places[0].tolist()) if len(places) else None


class _Reader:
    """The arrays of one file or folder, looked at as images and labels. All of it raises DataError."""

    def __init__(self, arrays: ArrayFile, path: Path, layout: str | None) -> None:
        self._arrays, self.path, self._layout = arrays, path, layout
        self._contradicted = False  # whether it was told that the file says another layout

    def has_array(self, name: str) -> bool:
        return self._arrays.find(name) is not None

    def has(self, part: Part) -> bool:
        """Whether there are images, or labels, of a part."""
        return self.has_array(f"{part}/images") or self.has_array(f"{part}/labels")

    def part(self, part: Part) -> Labelled:
        """The whole of it."""
        classes = self.classes()
        labels = self.labels(f"{part}/labels", None)
        self._require_classes(f"{part}/labels", labels, classes)
        array, (count, *_) = self.images(f"{part}/images")
        if len(labels) != count:
            raise self._wrong(f"{part}/labels", f"expected {count:,} labels, one an image, got {len(labels):,}")
        groups = self._groups(count) if part == "train" else None
        return Labelled(classes, self._read(f"{part}/images", array), labels, groups)

    def pixels(self, name: str) -> NDArray[Any]:
        return self._read(name, self.images(name)[0])

    def classes(self) -> tuple[str, ...]:
        """Their names: those that are told, or the numbers of the training labels."""
        array = self._arrays.find("classes")
        if array is None:
            labels = self.labels("train/labels", None)
            if not len(labels):
                raise self._wrong("train/labels", "expected labels, got none")
            most = int(labels.max())
            if most > len(labels):
                where = f"train/labels[{labels.argmax()}]"
                raise self._wrong(where, f"expected the number of a class, from 0 without gaps, got {most}")
            return tuple(map(str, range(most + 1)))
        names = array.whole()
        if names.ndim != 1 or names.dtype.kind not in "SUiu":
            raise self._wrong("classes", f"expected names in a row, got {names.dtype} {names.shape}")
        told = tuple(
            name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name) for name in names.tolist()
        )
        if len(set(told)) != len(told) or not all(told):
            raise self._wrong("classes", "expected names that differ, and none without a letter")
        return told

    def labels(self, name: str, count: int | None) -> NDArray[np.int64]:
        """Whole numbers in a row, as many as are expected."""
        array = self._needed(name)
        if len(array.shape) != 1 or array.dtype.kind not in "iu":
            raise self._wrong(name, f"expected whole numbers (N,), got {array.dtype} {array.shape}")
        labels = array.whole()
        if labels.dtype.kind == "u" and labels.size and int(labels.max()) >= 2**31:
            raise self._wrong(f"{name}[{labels.argmax()}]", f"expected the number of a class, got {labels.max()}")
        if count is not None and len(labels) != count:
            raise self._wrong(name, f"expected {count:,} labels, one an image, got {len(labels):,}")
        return labels.astype(np.int64)

    def _require_classes(self, name: str, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
        """That labels are numbers of classes, and in training none is without images."""
        (wrong,) = np.nonzero((labels < 0) | (labels >= len(classes)))
        if len(wrong):
            place = int(wrong[0])
            more = f", and {len(wrong) - 1:,} more like it" if len(wrong) > 1 else ""
            raise self._wrong(
                f"{name}[{place}]", f"expected a class from 0 to {len(classes) - 1}, got {labels[place]}{more}"
            )
        if name == "train/labels":
            empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
            if len(empty):
                called = named_classes(empty.tolist(), classes)
                raise self._wrong(name, f"expected images of every class, got none of {called}")

    def _groups(self, count: int) -> NDArray[np.int64] | None:
        """The number of each training image's group, from 0."""
        told = [name for name in ("train/groups", "groups") if self.has_array(name)]
        if not told:
            return None
        if len(told) == 2:
            raise self._wrong("groups", "expected train/groups or groups, got both")
        groups = self._needed(told[0]).whole()
        if groups.ndim != 1 or groups.dtype.kind not in "iuSU":
            raise self._wrong(told[0], f"expected whole numbers or texts (N,), got {groups.dtype} {groups.shape}")
        if len(groups) != count:
            raise self._wrong(told[0], f"expected {count:,} groups, one an image, got {len(groups):,}")
        return np.unique(groups, return_inverse=True)[1].astype(np.int64)

    def images(self, name: str) -> tuple[Array, tuple[int, int, int, int]]:
        """The array of images, and (N, height, width, channels)."""
        array = self._needed(name)
        if array.dtype.newbyteorder("=").name not in TYPES:
            raise self._wrong(name, f"expected values of {', '.join(TYPES)}, got {array.dtype}; convert them")
        if len(array.shape) != 4 or not array.shape[0]:
            raise self._wrong(name, f"expected images (N, H, W, C) or (N, C, H, W), N ≥ 1, got {array.shape}")
        count, *rest = array.shape
        if self._channels_first(name, array):
            rest = [*rest[1:], rest[0]]
        height, width, channels = rest
        if not 1 <= channels <= MOST_CHANNELS or min(height, width) < SMALLEST_SIDE:
            raise self._wrong(
                name,
                f"expected 1 to {MOST_CHANNELS} channels and sides of {SMALLEST_SIDE} pixels or more, got {channels} "
                f"channels, {height}×{width}; where the axes are (N, C, H, W), say so: arrays:{self.path}:nchw",
            )
        return array, (count, height, width, channels)

    def _channels_first(self, name: str, array: Array) -> bool:
        """What is told of the axes. Where nothing is, shapes that look like (N, C, H, W) are not guessed at."""
        beside = array.attribute("layout")
        if beside is not None:
            beside = (beside.decode(errors="replace") if isinstance(beside, bytes) else str(beside)).lower()
        told = self._layout or beside
        if beside not in (None, told) and not self._contradicted:
            self._contradicted = True
            log.warning("%s, %s: taken as %s, as is asked for, though the file says %s", self.path, name, told, beside)
        if told is None:
            _, first, second, third = array.shape
            if first != second and second == third:
                raise self._wrong(
                    name,
                    f"expected to be told whether {array.shape} is (N, H, W, C) or (N, C, H, W): "
                    f"arrays:{self.path}:nhwc or :nchw, or a `layout` beside the array",
                )
        elif told not in LAYOUTS:
            raise self._wrong(name, f"expected nhwc or nchw as its layout, got {told!r:.40}")
        return told == "nchw"

    def _read(self, name: str, array: Array) -> NDArray[Any]:
        """All images, (N, H, W, C), in native order of bytes, after a look at every value; large ones are mapped, so
        that the processes of a host share them."""
        _, sizes = self.images(name)
        kind, size = array.dtype.newbyteorder("="), int(np.prod(array.shape, dtype=object)) * array.dtype.itemsize
        if size >= _SHARED and name.startswith(("train/", "validation/")):
            mapped = None if self._channels_first(name, array) else array.mapped()
            if mapped is not None:
                for _ in self.blocks(name, array):  # looked at
                    pass
                return mapped
            source = _Kept(self, name, array, sizes[0], kind.name)
            folder, split = self.path.parent, f"{self.path.name}-{name.partition('/')[0]}"
            return pixel_cache.kept(source, pixel_cache.files(folder, split, source))
        pixels, start = np.empty(sizes, kind), 0
        for block in self.blocks(name, array):
            pixels[start : start + len(block)] = block
            start += len(block)
        return pixels

    def blocks(self, name: str, array: Array) -> Iterator[NDArray[Any]]:
        """The images in order, some at a time, once their values have been looked at: (…, H, W, C), native order."""
        _, sizes = self.images(name)
        first, kind, together = self._channels_first(name, array), array.dtype.newbyteorder("="), array.rows_together
        row = int(np.prod(sizes[1:], dtype=object)) * kind.itemsize
        rows = max(1, _BLOCK // (row * together)) * together
        for start in range(0, sizes[0], rows):
            block = array.rows(start, rows)
            block = np.ascontiguousarray(block.transpose(0, 2, 3, 1) if first else block, kind)
            if (place := first_not_finite(block)) is not None:
                image, line, column, channel = place
                where = f"{name}[{start + image}], row {line}, column {column}, channel {channel}"
                raise self._wrong(where, f"expected finite values, got {block[place]}")
            yield block

    def state(self, name: str, array: Array) -> str:
        """24 hex digits that are others where the images may be others. Raises OSError."""
        file = self.path / f"{name}.npy" if self.path.is_dir() else self.path
        found, first = file.stat(), self._channels_first(name, array)
        told = f"arrays 1\0{name}\0{first}\0{found.st_size}\0{found.st_mtime_ns}\0".encode() + os.fsencode(file.name)
        return hashlib.blake2b(told, digest_size=12).hexdigest()

    def _needed(self, name: str) -> Array:
        array = self._arrays.find(name)
        if array is None:
            raise self._wrong(name, "expected this array, but there is none")
        return array

    def _wrong(self, name: str, what: str) -> DataError:
        return DataError(f"{self.path}, {name}: {what}")


class _Kept:
    """Images as a source of `pixel_cache`."""

    def __init__(self, reader: _Reader, name: str, array: Array, count: int, type: str) -> None:
        self._reader, self._name, self._array = reader, name, array
        self.key, self.count, self.type = reader.state(name, array), count, type
        self.place = reader.path

    def blocks(self) -> Iterator[NDArray[Any]]:
        return self._reader.blocks(self._name, self._array)
