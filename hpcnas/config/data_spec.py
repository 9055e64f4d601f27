"""What `--data` may say, as frozen records: the kinds of data, how they are written, and the error that all data share.

Reads no data (`data.datasets` does) and imports the standard library alone: the controller and the configuration check
a specification without numpy and torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpcnas import plugins
from hpcnas.errors import Error

CIFAR10 = "CIFAR-10"  # the paper's data
MOST_BYTES = 2**38  # of made-up images
SMALLEST_SIDE = 8  # pixels; three groups of cells leave no picture of a smaller image
MOST_CHANNELS = 256  # of an image
KINDS = {  # by kind: how it is written
    "digits": "digits",
    "cifar10": "cifar10:DIR",
    "cifar100": "cifar100:DIR",
    "fashion-mnist": "fashion-mnist:DIR",
    "mnist": "mnist:DIR",
    "svhn": "svhn:DIR",
    "imagefolder": "imagefolder:DIR",
    "arrays": "arrays:FILE.h5|FILE.npz|DIR",
    "synthetic": "synthetic:N[:CxHxW]",
}
ARCHIVES = {  # kinds that torchvision reads: their names, whatever folder they lie in
    "cifar10": CIFAR10, "cifar100": "CIFAR-100", "fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "svhn": "SVHN",
}  # fmt: skip
LAYOUTS = ("nhwc", "nchw")
_MOST_TOLD = 5  # classes


class DataError(Error):
    """Data that cannot be used: one line for the person who gave it, never a traceback."""


def named_classes(numbers: Sequence[int], classes: Sequence[str]) -> str:
    """Some classes in a message, by number and name."""
    told = ", ".join(f"{number} ({classes[number]})" for number in numbers[:_MOST_TOLD])
    return told + (f" and {len(numbers) - _MOST_TOLD:,} more" if len(numbers) > _MOST_TOLD else "")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What of the data decides the size of networks. `height` and `width` are in pixels."""

    image_channels: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True, slots=True)
class DataFacts(ImageFacts):
    """Likewise, with the numbers of images, and a fingerprint that is the same wherever the data lie.

    `split` and the channels' statistics are written down of data that tell groups or a validation part, or whose values
    are of another type than uint8; of others they follow from what stood here before."""

    training_images: int
    validation_images: int
    fingerprint: str
    split: str = field(default="", repr=False)  # 16 hex digits of which images are in which part, or what decides it
    mean: tuple[float, ...] = field(default=(), repr=False, compare=False)  # of each channel, of the training part
    std: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        """Without what follows from the rest."""
        return f"{self!r} split by {self.split}" if self.split else repr(self)

    def record(self) -> dict[str, Any]:
        """Every value by its name, for JSON; without what is not told."""
        optional = ("split", "mean", "std")
        return {name: value for name, value in asdict(self).items() if value or name not in optional}


@dataclass(frozen=True)
class Digits:
    """The 1,797 real 8×8 images that come with the package."""


@dataclass(frozen=True)
class DataFolder:
    """A data set that lies in a folder: one of `ARCHIVES`, or `imagefolder`."""

    kind: str
    path: Path


@dataclass(frozen=True)
class ArrayData:
    """Arrays in a file or folder, and how the axes of images lie; None: as the file says, else nhwc."""

    path: Path
    layout: str | None


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


DataSpec = Digits | DataFolder | ArrayData | Synthetic | Plugged


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
    layout: str | None = None
    if kind == "arrays" and (ends := re.fullmatch(r"(.+):(nhwc|nchw)", rest, re.ASCII | re.IGNORECASE | re.DOTALL)):
        rest, layout = ends[1], ends[2].lower()
    try:
        path = Path(rest).expanduser()
        return ArrayData(path, layout) if kind == "arrays" else DataFolder(kind, path)
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
        case DataFolder(kind, _) if kind in ARCHIVES:
            return ARCHIVES[kind]
        case ArrayData() | DataFolder() | Plugged():
            return f"{kind} of {classes} classes ({fingerprint:.8})"


def _parse_synthetic(spec: str, rest: str) -> Synthetic:
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,4})x(\d{1,4})x(\d{1,4}))?", rest, re.ASCII)
    if match is None:
        raise DataError(f"expected {KINDS['synthetic']}, such as synthetic:2000:3x32x32; got {spec!r}")
    images = int(match[1])
    channels, height, width = (int(match[i] or default) for i, default in ((2, 3), (3, 32), (4, 32)))
    if images < 10:
        raise DataError(f"{spec}: expected 10 training images or more, one of each class; got {images}")
    if not 1 <= channels <= MOST_CHANNELS or min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"{spec}: expected 1 to {MOST_CHANNELS} channels and sides of {SMALLEST_SIDE} pixels or more; "
            f"got {channels} channels, {height}×{width}"
        )
    if (size := images * channels * height * width) > MOST_BYTES:
        raise DataError(f"{spec}: expected images of at most {MOST_BYTES:,} bytes in all, got {size:,}")
    return Synthetic(images, (channels, height, width))


