"""RUN/predictions-SEED.h5: what a complete training says of each test image, a published format (FORMAT.md).

    / attributes     format, format_version, hpcnas_version, run (the retraining's)
    /seed            of the training
    /class_names     what the numbers of classes mean
    /images/…        one row a test image that could be read, in the order of the test set

Beside retrain.h5 and not in it, since that is written anew at every save and these rows, 5 MB for ImageNet, once.
A retraining of an earlier version has no such files. Knows neither torch nor MPI; when it is written is
`record_keeper`'s business.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnas.retrain.record import Record
from hpcnas.storage import allowed, durable, hdf5
from hpcnas.storage.allowed import Wrong
from hpcnas.storage.columns import Column
from hpcnas.storage.folder import StoreError, holds
from hpcnas.storage.hdf5 import write_dataset, write_table

FORMAT = hdf5.Format("hpcnas test predictions", 1)
MOST = 5  # classes that are kept of each image

_IMAGES = "images"
COLUMNS = (
    Column("image", "i8", "its place in the test set, from 0", low=0),
    Column("label", "i4", "its class", low=0),
    Column("label_probability", "f4", "the probability of that class", "1", low=0, high=1),
    Column("classes", "i4", "the most probable classes, first the one that is predicted", width="kept", low=0),
    Column("probabilities", "f4", "the probabilities of these", "1", width="kept", low=0, high=1),
    Column("file", "S", "its file, relative to the data", text=False),
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a trained network says of the N test images that could be read, in the order of the test set: the K most
    probable of C classes, K = min(5, C). Probabilities are the softmax of the class scores."""

    images: NDArray[np.int64]  # (N,), their places in the test set, from 0
    labels: NDArray[np.int32]  # (N,), 0 to C−1
    label_probabilities: NDArray[np.float32]  # (N,), of the image's own class
    classes: NDArray[np.int32]  # (N, K), the most probable one first
    probabilities: NDArray[np.float32]  # (N, K), of these
    files: NDArray[np.bytes_] | None = None  # (N,), relative to the data; None where images are not files

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which images were classified correctly, (N,)."""
        return np.asarray(self.classes[:, 0] == self.labels)

    def file(self, row: int) -> str | None:
        """The path of an image, relative to the data; None where images are not files."""
        return None if self.files is None else os.fsdecode(bytes(self.files[row]))


def path(folder: Path, seed: int) -> Path:
    """Where the predictions of a complete training are."""
    return folder / f"predictions-{seed}.h5"


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def write(folder: Path, record: Record, seed: int, predictions: Predictions) -> None:
    """The file of that training, whole. Raises OSError."""
    durable.put(path(folder, seed), hdf5.image(FORMAT, record.run, functools.partial(_fill, record, seed, predictions)))


def _fill(record: Record, seed: int, found: Predictions, file: hdf5.Group) -> None:
    write_dataset(file, "seed", np.int64(seed), "seed of the training")
    names = [name.encode("utf-8", "surrogateescape") for name in record.inputs.class_names]
    write_dataset(file, "class_names", np.asarray(names, dtype="S"), "in the order of their numbers")
    files = np.full(len(found.images), b"") if found.files is None else found.files
    values = {
        "image": found.images,
        "label": found.labels,
        "label_probability": found.label_probabilities,
        "classes": found.classes,
        "probabilities": found.probabilities,
        "file": files,
    }
    write_table(file.create_group(_IMAGES), COLUMNS, values)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def read(folder: Path, record: Record, seed: int) -> Predictions | None:
    """Those of a training of the retraining in a folder; None where none are kept. Raises StoreError where they cannot
    be read, or are another training's."""
    name = path(folder, seed)
    if not holds(folder, name.name):
        return None
    try:
        with hdf5.opened(name, FORMAT) as file:
            return _read(name, file, record, seed)
    except hdf5.DAMAGE as error:
        raise StoreError(f"{name}: expected predictions for test images, but they cannot be read: {error}") from None


def _read(name: Path, file: hdf5.Group, record: Record, seed: int) -> Predictions:
    if bytes(file.attrs["run"]) != record.run.encode() or int(file["seed"][()]) != seed:
        raise StoreError(f"{name}: expected predictions of seed {seed} of the retraining beside it, got another one's")
    table = hdf5.read_tables(file, {_IMAGES: COLUMNS})[_IMAGES]
    for wrong in _wrong(table, len(record.inputs.class_names)):
        raise StoreError(f"{name}: {wrong}")
    files = table["file"] if (table["file"] != b"").any() else None
    return Predictions(
        images=table["image"],
        labels=table["label"],
        label_probabilities=table["label_probability"],
        classes=table["classes"],
        probabilities=table["probabilities"],
        files=files,
    )


def _wrong(table: Mapping[str, np.ndarray], classes: int) -> Iterator[Wrong]:
    """What no training has written."""
    misshapen = list(allowed.wrong_shapes(_IMAGES, COLUMNS, table, len(table["image"]), {"kept": min(MOST, classes)}))
    if not misshapen and not len(table["image"]):
        yield Wrong(_IMAGES, "image", None, "an image or more", "0")
    yield from misshapen or allowed.wrong_values(_IMAGES, COLUMNS, table)
    if not misshapen:
        for column in ("label", "classes"):
            wrong = np.asarray((table[column] >= classes).reshape(len(table[column]), -1).any(axis=1))
            yield from allowed.told(_IMAGES, column, wrong, f"numbers of {classes} classes", table)
        earlier = np.asarray(np.diff(table["image"], prepend=-1) <= 0)
        yield from allowed.told(_IMAGES, "image", earlier, "a later image than that of the row before", table)
