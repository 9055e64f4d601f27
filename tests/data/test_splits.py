"""Splits that keep groups together: of every class about its share, and never a class without an image to train on."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnas.config.data_spec import DataError
from hpcnas.data import splits
from hpcnas.data.datasets import Images


def images(labels: list[int], groups: list[int]) -> Images:
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Images(pixels, np.array(labels), np.array(groups))


def test_the_choice_of_groups_is_the_literal_one() -> None:
    found = images([0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4])
    training, validation, name = splits.split(found, 0.25, seed=0)
    assert validation.pixels.ravel().tolist() == [9, 10, 11]
    assert validation.groups is not None and validation.groups.tolist() == [4, 4, 4]
    assert training.pixels.ravel().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert name == splits.digest(np.arange(9), np.arange(9, 12)) == "da9bb11e5a08e1ec"
    assert len({splits.split(found, 0.25, seed=seed)[2] for seed in range(8)}) > 1


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides_and_classes_keep_their_shares(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.choice(4, 2000, p=[0.6, 0.25, 0.1, 0.05])
    groups = np.sort(generator.integers(0, 150, 2000))
    inside = splits.in_validation(labels, groups, 0.2, generator)
    assert not set(groups[inside]) & set(groups[~inside])
    shares = [inside[labels == name].mean() for name in range(4)]
    assert max(abs(share - 0.2) for share in shares) < 0.05


def test_images_without_company_are_divided_class_by_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    inside = splits.in_validation(labels, np.arange(160), 0.2, np.random.default_rng(1))
    assert np.bincount(labels[inside]).tolist() == [20, 10, 2]


def test_a_class_in_a_single_group_is_trained_on() -> None:
    labels, groups = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 0, 1, 1, 1, 2])
    for seed in range(8):
        inside = splits.in_validation(labels, groups, 0.9, np.random.default_rng(seed))
        assert not inside[2:5].any() and inside.any()


@pytest.mark.parametrize(
    ("labels", "groups", "fraction", "expected"),
    [
        ([0, 1, 0, 1], [0, 0, 0, 0], 0.5, "a validation fraction of 0.5 splits in two, got 1 groups of 4 images"),
        ([0] * 4 + [1] * 20, [place // 2 for place in range(24)], 0.9, "expected images of class 0 to train on, but"),
    ],
)
def test_groups_that_cannot_be_split(labels: list[int], groups: list[int], fraction: float, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        splits.split(images(labels, groups), fraction, seed=0)
