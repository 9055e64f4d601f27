"""The worst mistakes of a training: the test images that it got wrong with the highest probability, as pixels.

Images are read again from where the retraining had them; data that are gone by now, or others, raise NoPictures.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnas.analysis.runs import AnalysisError
from hpcnas.analysis.tested import KeptPredictions
from hpcnas.config.data_spec import DataError, DataFolder, parse
from hpcnas.data import datasets, image_file
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import Inputs


class NoPictures(AnalysisError):
    """The test images cannot be had any more, or are others."""


@dataclass(frozen=True)
class Mistake:
    """A test image of one class that was taken for another."""

    row: int  # of the predictions
    label: int
    predicted: int
    probability: float  # of the predicted class
    label_probability: float


def worst(found: Predictions, most: int) -> list[Mistake]:
    """Up to that many, the highest probability first; of equals first the earlier image."""
    wrong = np.flatnonzero(~found.right)
    order = wrong[np.argsort(-found.probabilities[wrong, 0], kind="stable")[:most]]
    return [
        Mistake(
            row,
            int(found.labels[row]),
            int(found.classes[row, 0]),
            float(found.probabilities[row, 0]),
            float(found.label_probabilities[row]),
        )
        for row in order.tolist()
    ]


def pictures(tested: KeptPredictions, mistakes: Sequence[Mistake]) -> list[NDArray[np.uint8] | str]:
    """What the network saw of each image, uint8 (H, W, 1 or 3); or why its file cannot be read. Raises NoPictures where
    there are no mistakes, or no image can be had."""
    if not mistakes:
        raise NoPictures("no pictures of mistakes: every test image was classified correctly")
    recipe, found = tested.found.stored.recipe, tested.predictions
    try:
        if found.files is None:
            return _of_arrays(recipe.data.source, found, mistakes)
        spec = parse(recipe.data.source)
    except DataError as error:
        raise NoPictures(f"no pictures of mistakes: {error}") from error
    if not isinstance(spec, DataFolder) or not spec.path.is_dir():
        raise NoPictures(f"no pictures of mistakes: expected the test images in {recipe.data.source}")
    seen = [_of_file(spec.path, found.file(one.row) or "", tested.found.stored.inputs) for one in mistakes]
    if all(isinstance(one, str) for one in seen):
        raise NoPictures(f"no pictures of mistakes: {seen[0]}")
    return seen


def _of_arrays(source: str, found: Predictions, mistakes: Sequence[Mistake]) -> list[NDArray[np.uint8] | str]:
    """Of data that are no files. Raises DataError."""
    images = datasets.load_test(source).images
    if len(images.labels) <= found.images[-1] or not np.array_equal(images.labels[found.images], found.labels):
        raise DataError(f"{source}: the test images are others than those that were tested")
    pixels = images.pixels
    if pixels.dtype != np.uint8 or pixels.shape[3] not in (1, 3):
        raise NoPictures(f"no pictures of mistakes: images of {pixels.shape[3]} channels of {pixels.dtype} are none")
    return [pixels[found.images[one.row]] for one in mistakes]


def _of_file(folder: Path, file: str, inputs: Inputs) -> NDArray[np.uint8] | str:
    skeleton = inputs.skeleton
    if os.path.isabs(file) or ".." in Path(file).parts:  # the file of predictions may be anybody's
        return f"expected a file below {folder}, got {file}"
    try:
        shown = image_file.read(folder / file).convert("RGB" if skeleton.image_channels == 3 else "L")
    except (image_file.UnreadableImage, MemoryError) as error:
        return str(error) or f"{file} does not fit into memory"
    return image_file.pixels(image_file.middle(shown, inputs.resize, skeleton.height, skeleton.width))
