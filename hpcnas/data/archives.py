"""Published data sets in their original files, by torchvision: CIFAR-10 and 100, MNIST, Fashion-MNIST, SVHN.

torchvision checks the files by their MD5 sums before it reads them. Of the other split nothing is opened. SVHN's files
are MATLAB's, which scipy reads. Nothing is fetched unless it is asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcnas.config.data_spec import DataError
from hpcnas.data.torchvision_shim import import_torchvision
from hpcnas.job import terminal

_SHAPES = {"cifar10": (32, 3), "cifar100": (32, 3), "fashion-mnist": (28, 1), "mnist": (28, 1), "svhn": (32, 3)}
"""By kind: side of the images in pixels, and their channels."""


def load(
    kind: str, path: Path, which: Literal["train", "test"], download: bool
) -> tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.int64]]:
    """Classes, pixels (N, H, W, C) and labels (N,) of a split. Raises DataError; ImportError where scipy is missing."""
    try:
        datasets = import_torchvision().datasets
    except RuntimeError as error:
        raise DataError(f"expected a torchvision that fits the torch beside it: {_one_line(error)}") from error
    if kind == "svhn":
        import scipy.io  # type: ignore[import-untyped]  # noqa: F401  torchvision asks for it as late as when it reads
    reader, expected = _reader(datasets, kind, path, training=which == "train")
    if kind == "svhn":
        told: dict[str, Any] = {"split": which}
    else:
        told = {"train": which == "train"}
    try:
        bars: Any = terminal.Steering(sys.stderr)  # torchvision's, of what it fetches
        with contextlib.redirect_stderr(bars), contextlib.redirect_stdout(bars):  # a caller's may be a protocol
            data = _fetched(reader, path, told) if download else reader(path, **told)
    except MemoryError:
        raise
    except Exception as error:  # readers, unpackers and the network raise all sorts of things
        reason = "missing or damaged" if "not found" in str(error) else _one_line(error)
        hint = "" if download else "; put it there or ask for the download"
        raise DataError(f"expected {expected}: {reason}{hint}") from error
    pixels, labels = np.asarray(data.data), np.asarray(data.labels if kind == "svhn" else data.targets, dtype=np.int64)
    if kind == "svhn":  # (N, C, H, W)
        pixels = pixels.transpose(0, 2, 3, 1)
    side, channels = _SHAPES[kind]
    if pixels.shape[1:3] != (side, side):
        raise DataError(f"expected {expected} with images of {side}×{side} pixels; got {pixels.shape}")
    classes = tuple("0123456789") if kind == "svhn" else tuple(data.classes)
    return classes, np.ascontiguousarray(pixels.reshape(-1, side, side, channels)), labels


def _reader(datasets: Any, kind: str, path: Path, training: bool) -> tuple[Any, str]:
    """torchvision's class for one split alone, since it checks the files of both whichever is asked for; and what it
    expects to be where."""
    if kind in ("cifar10", "cifar100"):
        own = datasets.CIFAR10 if kind == "cifar10" else datasets.CIFAR100
        reader = type(own.__name__, (own,), {"test_list" if training else "train_list": []})
        return reader, f"the original archive, unpacked, in {path / own.base_folder}"
    if kind == "svhn":
        split = "train" if training else "test"
        return datasets.SVHN, f"the original file {datasets.SVHN.split_list[split][1]} in {path}"
    own = datasets.MNIST if kind == "mnist" else datasets.FashionMNIST
    prefix = "train-" if training else "t10k-"
    resources = [item for item in own.resources if item[0].startswith(prefix)]
    # the folder DIR/MNIST or DIR/FashionMNIST is named after the class
    expected = f"the original files, unpacked, in {path / own.__name__ / 'raw'}"
    return type(own.__name__, (own,), {"resources": resources}), expected


def _fetched(reader: Any, path: Path, told: dict[str, Any]) -> Any:
    """The data set, fetched first unless it is there, by one process of those that start at once."""
    with contextlib.suppress(RuntimeError):  # "not found or corrupted"
        return reader(path, **told)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".hpcnas-download.lock", "w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks: as without this lock
            fcntl.flock(lock, fcntl.LOCK_EX)
        return reader(path, **told, download=True)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
