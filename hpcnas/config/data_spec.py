"""What `--data` may say, as frozen records: the kinds of data, how they are written, and the error that all data share.

Reads no data (`data.datasets` does) and imports the standard library alone: the controller and the configuration check
a specification without numpy and torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hpcnas import plugins
from hpcnas.errors import Error

CIFAR10 = "CIFAR-10"  # the paper's data
MOST_BYTES = 2**38  # of made-up images
SMALLEST_SIDE = 8  # pixels; three groups of cells leave no picture of a smaller image
KINDS = {  # by kind: how it is written
    "digits": "digits",
    "cifar10": "cifar10:DIR",
    "fashion-mnist": "fashion-mnist:DIR",
    "imagefolder": "imagefolder:DIR",
    "synthetic": "synthetic:N[:CxHxW]",
}


class DataError(Error):
    """Data that cannot be used: one line for the person who gave it, never a traceback."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What of the data decides the size of networks. `height` and `width` are in pixels."""

    image_channels: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True, slots=True)
class DataFacts(ImageFacts):
    """Likewise, with the numbers of images, and a fingerprint that is the same wherever the data lie."""

    training_images: int
    validation_images: int
    fingerprint: str


@dataclass(frozen=True)
class Digits:
    """The 1,797 real 8×8 images that come with the package."""


@dataclass(frozen=True)
class DataFolder:
    """A data set that lies in a folder: kind `cifar10`, `fashion-mnist` or `imagefolder`."""

    kind: str
    path: Path


@dataclass(frozen=True)
class Synthetic:
    """Made-up images of ten classes: how many for training, and their (channels, height, width)."""

    images: int
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Plugged:
    """Data of a kind that a plugin brings. The plugin alone interprets `rest`, what follows the colon."""

    kind: str
    rest: str


DataSpec = Digits | DataFolder | Synthetic | Plugged


def parse(spec: str) -> DataSpec:
    """The record of a specification, made of its text alone. A folder may begin with `~`. Raises DataError."""
    kind, colon, rest = spec.partition(":")
    if kind in (brought := plugins.data()):
        return Plugged(kind, rest)
    if kind not in KINDS:
        import difflib  # seldom needed, and every rank is here

        close = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.4)
        hint = f"; did you mean {KINDS[close[0]]}?" if close else ""
        known = ", ".join([*KINDS.values(), *(one.syntax for one in brought.values())])
        raise DataError(f"expected data as one of {known}; got {spec!r:.100}{hint}")
    if kind == "synthetic":
        return _parse_synthetic(spec, rest)
    if kind == "digits" and not colon:
        return Digits()
    if kind == "digits" or not rest:
        raise DataError(f"expected {KINDS[kind]}, got {spec!r}")
    try:
        return DataFolder(kind, Path(rest).expanduser())
    except RuntimeError as error:  # ~name of nobody
        raise DataError(f"expected {KINDS[kind]}, got {spec!r}: {error}") from None


def title(spec: str, classes: int, fingerprint: str) -> str:
    """A name of the data that is the same wherever they lie, and that no other data have.

    A kind that does not say which data they are is told with its classes and fingerprint; so is every plugin's kind,
    whether the plugin is loaded or not. Raises DataError as `parse` does."""
    kind, _, rest = spec.partition(":")
    match parse(spec) if kind in KINDS else Plugged(kind, rest):
        case Digits():
            return "digits"
        case Synthetic(images, shape):
            return f"synthetic:{images}:{'x'.join(map(str, shape))}"
        case DataFolder("cifar10", _):
            return CIFAR10
        case DataFolder("fashion-mnist", _):
            return "Fashion-MNIST"
        case DataFolder(kind, _) | Plugged(kind, _):
            return f"{kind} of {classes} classes ({fingerprint:.8})"


def _parse_synthetic(spec: str, rest: str) -> Synthetic:
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,4})x(\d{1,4})x(\d{1,4}))?", rest, re.ASCII)
    if match is None:
        raise DataError(f"expected {KINDS['synthetic']}, such as synthetic:2000:3x32x32; got {spec!r}")
    images = int(match[1])
    channels, height, width = (int(match[i] or default) for i, default in ((2, 3), (3, 32), (4, 32)))
    if images < 10:
        raise DataError(f"{spec}: expected 10 training images or more, one of each class; got {images}")
    if channels not in (1, 3) or min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"{spec}: expected 1 or 3 channels and sides of {SMALLEST_SIDE} pixels or more; "
            f"got {channels} channels, {height}×{width}"
        )
    if (size := images * channels * height * width) > MOST_BYTES:
        raise DataError(f"{spec}: expected images of at most {MOST_BYTES:,} bytes in all, got {size:,}")
    return Synthetic(images, (channels, height, width))


