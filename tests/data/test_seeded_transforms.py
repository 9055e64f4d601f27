"""RandAugment and MixUp: torchvision's, each image or batch by its seed alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import AugmentationSettings
from hpcnas.data.seeded_transforms import MixUp, RandAugment, drawing_from, rand_augment

STRONG = AugmentationSettings(rand_augment=2, rand_augment_magnitude=15)


def pictures(channels: int = 3) -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(256, (6, 12, 10, channels), generator=drawn, dtype=torch.uint8)


def test_what_is_drawn_follows_from_the_seed_and_nothing_else_is_disturbed() -> None:
    before = torch.get_rng_state()
    with drawing_from(5):
        first = torch.rand(3)
    with drawing_from(5):
        assert torch.equal(torch.rand(3), first)
    with drawing_from(6):
        assert not torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_transformed_by_its_seed_whichever_images_are_beside_it(channels: int) -> None:
    images, seeds = pictures(channels), list(range(6))
    augment = RandAugment(STRONG, channels)
    found = augment(images, seeds)
    assert found.shape == images.shape and found.dtype == torch.uint8
    assert torch.equal(augment(images[4:], seeds[4:]), found[4:])
    assert not torch.equal(augment(images, list(range(6, 12))), found)
    with drawing_from(4):
        expected = rand_augment(STRONG)(images[4].permute(2, 0, 1))
    assert torch.equal(found[4].permute(2, 0, 1), expected)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(DataError, match="expected images of 1 or 3 channels for --rand-augment, got 4"):
        RandAugment(STRONG, 4)


def test_images_and_labels_are_mixed_in_the_same_shares() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 3, 3).contiguous()
    labels = torch.tensor([0, 2, 2, 1])
    mixed, shares = MixUp(1.0, classes=3)(images, labels, seed=3)
    part = float(shares[0, 0])  # the rest is of the last image, of class 1
    assert 0 < part < 1 and shares[0].tolist() == pytest.approx([part, 1 - part, 0])
    assert shares[1].tolist() == pytest.approx([1 - part, 0, part])
    assert shares[2].tolist() == pytest.approx([0, 0, 1])
    assert mixed[:, 1, 2, 0].tolist() == pytest.approx([3 * (1 - part), part, 1 + part, 2 + part])
    again, _ = MixUp(1.0, classes=3)(images, labels, seed=3)
    other, _ = MixUp(1.0, classes=3)(images, labels, seed=4)
    assert torch.equal(again, mixed) and not torch.equal(other, mixed)
    assert torch.equal(labels, torch.tensor([0, 2, 2, 1])) and images[3].unique().tolist() == [3]
