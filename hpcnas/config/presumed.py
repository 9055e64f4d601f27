"""What is known of data that are not at hand: the sizes of sets that everybody has, and what stands in for others.

A dry run goes by it where the data are on another machine, or would be downloaded. Reads no data.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas.config.data_spec import ARCHIVES, DataFolder, DataSpec, Digits, ImageFacts, Synthetic

_CIFAR10 = ImageFacts(3, 32, 32, 10), 50_000
_ARCHIVES = {
    "cifar10": _CIFAR10,
    "cifar100": (ImageFacts(3, 32, 32, 100), 50_000),
    "fashion-mnist": (ImageFacts(1, 28, 28, 10), 60_000),
    "mnist": (ImageFacts(1, 28, 28, 10), 60_000),
    "svhn": (ImageFacts(3, 32, 32, 10), 73_257),
}


@dataclass(frozen=True)
class Presumed:
    """The images of a training set, how many they are, and whose numbers these are."""

    images: ImageFacts
    count: int
    whose: str


def presumed(spec: DataSpec) -> Presumed:
    """By what a specification says; CIFAR-10's numbers where it says nothing."""
    match spec:
        case Digits():
            return Presumed(ImageFacts(1, 8, 8, 10), 1442, "the embedded digits")
        case Synthetic(count, (channels, height, width)):
            return Presumed(ImageFacts(channels, height, width, 10), count, "synthetic")
        case DataFolder(kind, _) if kind in _ARCHIVES:
            return Presumed(*_ARCHIVES[kind], ARCHIVES[kind])
    return Presumed(*_CIFAR10, "as CIFAR-10's")
