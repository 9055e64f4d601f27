"""Which training images are held out for validation: a share of each class, by the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_retraining import write_image

from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain.feed import Resident
from hpcnas.retrain.held_out import held_out, validation_folder
from hpcnas.retrain.image_stream import list_all

LABELS = np.array([0] * 10 + [1] * 5 + [2] * 3 + [3])


def recipe(fraction: float, source: str = "digits", seed: int = 0, **data: object) -> RetrainingConfig:
    return SCHEME.build(
        {"training": {"seed": seed}, "data": {"source": source, "validation_fraction": fraction, **data}}
    )


def in_folder(folder: Path, fraction: float) -> RetrainingConfig:
    return recipe(fraction, f"imagefolder:{folder}", loading="stream")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four training images of each of two classes, one to test and one to validate on."""
    for split, count in (("train", 4), ("test", 1), ("validation", 1)):
        for name in ("ape", "bee"):
            for number in range(count):
                write_image(tmp_path / split / name / f"{number}.png", "L", 8)
    return tmp_path


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.2, [2, 1, 1, 0]), (0.5, [5, 3, 1, 0]), (0.9, [9, 4, 2, 0]), (0.1, [1, 1, 0, 0])],
)
def test_each_class_gives_its_share_and_keeps_an_image(fraction: float, expected: list[int]) -> None:
    chosen = held_out(recipe(fraction), LABELS)
    assert np.bincount(LABELS[chosen], minlength=4).tolist() == expected


def test_the_seed_draws_them() -> None:
    first = held_out(recipe(0.5), LABELS)
    assert np.array_equal(first, held_out(recipe(0.5), LABELS))
    assert not np.array_equal(first, held_out(recipe(0.5, seed=1), LABELS))


def test_without_a_share_none_is_and_a_share_without_images_is_refused() -> None:
    assert not held_out(recipe(0.0), LABELS).any()
    with pytest.raises(DataError, match="holds out some of 19 training images, got 0.01$"):
        held_out(recipe(0.01), LABELS)


def test_a_folder_of_validation_images_is_taken_unless_a_share_is_given_too(folder: Path) -> None:
    assert validation_folder(recipe(0.2)) is None
    assert validation_folder(in_folder(folder, 0.0)) == folder / "validation"
    with pytest.raises(DataError, match="expected no --validation-fraction beside .*/validation, whose images"):
        validation_folder(in_folder(folder, 0.25))


def test_a_stream_trains_on_the_others_alone(folder: Path) -> None:
    training, tests, validation = list_all(in_folder(folder, 0.0))
    assert validation is not None
    assert [len(found.files) for found in (training, tests, validation)] == [8, 2, 2]
    assert validation.name(0) == "validation/ape/0.png"
    (folder / "validation").rename(folder / "away")
    assert list_all(in_folder(folder, 0.0))[2] is None
    training, tests, validation = list_all(in_folder(folder, 0.25))
    assert validation is not None
    assert training.labels.tolist() == [0, 0, 0, 1, 1, 1] and validation.labels.tolist() == [0, 1]
    assert sorted([*training.files, *validation.files]) == sorted(list_all(in_folder(folder, 0.0))[0].files)


def test_resident_images_of_a_folder_are_validated_on(folder: Path) -> None:
    import torch

    feed = Resident(recipe(0.0, f"imagefolder:{folder}"), 0, 1, torch.device("cpu"))
    assert feed.validated_on == f"2 images of {folder / 'validation'}"
    assert (feed.appearance.facts.training_images, feed.appearance.facts.validation_images) == (8, 2)
    assert [labels.tolist() for _, labels, _ in feed.validate()] == [[0, 1]]
    for image in (folder / "validation" / "bee").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="expected images .* in .*/validation/bee, got none"):
        Resident(recipe(0.0, f"imagefolder:{folder}"), 0, 1, torch.device("cpu"))
