"""How much the images of each class count in the loss: `--class-weights balanced`, numbers, or a file of numbers.

Numbers stand in the order of the classes, which is that of their names in an image folder, with commas or blanks
between them; a line of a file from # on is a remark. Whatever they are, they are scaled so that a training image weighs
1 on average: a learning rate means the same with and without them. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hpcnas import text_file
from hpcnas.config.data_spec import DataError
from hpcnas.config.settings import ConfigError

BALANCED = "balanced"
_MOST, _LEAST = 1e9, 1e-9  # of a weight that is not 0


def written_out(text: str | None) -> str | None:
    """What `--class-weights` was given, with the numbers themselves where it names a file, so that they stay the same.
    Raises ConfigError for what are no weights."""
    if text is None or text == BALANCED:
        return text
    if (found := _numbers(text)) is None:
        found = _numbers(_read(text))
    if not found or not all(value == 0 or _LEAST <= value <= _MOST for value in found) or not any(found):
        raise ConfigError(
            f"--class-weights {text:.200}: expected {BALANCED}, or a number for each class, 0 or from {_LEAST:g} to "
            f"{_MOST:g}, not all of them 0, with commas between them or in a file"
        )
    return ",".join(map(repr, found))


def _read(name: str) -> str:
    try:
        lines = text_file.read(Path(name)).splitlines()
    except text_file.Unreadable as error:
        raise ConfigError(
            f"--class-weights {name:.200}: expected {BALANCED}, numbers with commas, or a file to read: {error}"
        ) from None
    return " ".join(line.partition("#")[0] for line in lines)


def _numbers(text: str) -> list[float] | None:
    """What a text is a list of; None where it is another text."""
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        return None


def scaled(text: str | None, class_sizes: Sequence[int]) -> tuple[float, ...] | None:
    """The weight of each class that has so many training images, by what `written_out` gave; None where all count
    alike. Raises DataError where there is another number of weights, or no image has any."""
    if text is None:
        return None
    if text == BALANCED:
        weights = [1 / max(1, size) for size in class_sizes]
    else:
        weights = _numbers(text) or []
        if len(weights) != len(class_sizes):
            raise DataError(f"expected --class-weights of {len(class_sizes)} classes, got {len(weights)}")
    total = math.fsum(weight * size for weight, size in zip(weights, class_sizes, strict=True))
    if not total:
        raise DataError("expected --class-weights that are not 0 for all classes with training images, got such")
    return tuple(weight * sum(class_sizes) / total for weight in weights)
