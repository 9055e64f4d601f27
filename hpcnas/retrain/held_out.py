"""What a retraining is validated on while it trains: images that come with the data, or some of the training images.

Which of the training images are held out follows from their labels, groups, the share and the recipe's seed alone: the
same on every rank, in every job, and for every training of a retraining. They are never trained on. Validation decides
nothing, and the test images have no part in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnas import seeds
from hpcnas.config import data_spec
from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.data import arrays, class_folders, splits


def validation_folder(recipe: RetrainingConfig) -> Path | None:
    """DIR/validation of an image folder; None where there is none. Raises DataError where the recipe also holds out
    training images."""
    spec = data_spec.parse(recipe.data.source)
    if not isinstance(spec, data_spec.DataFolder) or spec.kind != "imagefolder":
        return None
    folder = class_folders.validation_folder(spec.path)
    if folder is not None:
        require_no_fraction(recipe, str(folder), "folder")
    return folder


def own_validation(recipe: RetrainingConfig) -> str | None:
    """Where images to validate on come with the data, in words; None where none do. Raises DataError as above."""
    spec = data_spec.parse(recipe.data.source)
    if not isinstance(spec, data_spec.ArrayData):
        folder = validation_folder(recipe)
        return None if folder is None else str(folder)
    if arrays.form(spec.path, spec.layout).validation_images is None:
        return None
    place = f"validation/images in {spec.path}"
    require_no_fraction(recipe, place, "arrays")
    return place


def require_no_fraction(recipe: RetrainingConfig, place: str, what: str) -> None:
    """Raises DataError where the recipe holds out training images beside others to validate on."""
    if recipe.data.validation_fraction:
        raise DataError(
            f"expected no --validation-fraction beside {place}, whose images are validated on, got "
            f"{recipe.data.validation_fraction:g}; leave it out, or give the {what} another name"
        )


def held_out(
    recipe: RetrainingConfig, labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Which of the training images of these labels, int64 (N,), are validated on: bool (N,).

    They are the recipe's share of all images, rounded, and of each class its share, to within one image; every class
    keeps an image to train on. With `groups`, int64 (N,), all images of one are on the same side, and shares are as
    near as that allows. Raises DataError where the share is not 0 and holds out none, or groups leave none to train on.
    """
    fraction = recipe.data.validation_fraction
    chosen = np.zeros(len(labels), dtype=np.bool_)
    if not fraction:
        return chosen
    generator = seeds.held_out_generator(recipe.training.seed)
    if groups is not None:
        chosen = splits.in_validation(labels, groups, fraction, generator)
        splits.require_both(labels, groups, chosen, fraction)
        return chosen
    before = 0  # images of the classes so far
    for name in np.unique(labels):
        (images,) = np.nonzero(labels == name)
        count = round(fraction * (before + len(images))) - round(fraction * before)
        chosen[generator.permutation(images)[: min(count, len(images) - 1)]] = True
        before += len(images)
    if not chosen.any():
        raise DataError(
            f"expected a --validation-fraction that holds out some of {len(labels)} training images, got {fraction:g}"
        )
    return chosen
