"""Sampling and augmentation: which pixels come out, and how often."""

from __future__ import annotations

import pytest
import torch
from test_mutation import assert_share, assert_uniform
from torch import Tensor

from hpcnas.data.augment import EpochSampler, Normaliser, random_crop, random_flip

torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, height: int, width: int) -> Tensor:
    """Images whose pixels say where they are: (count, height, width, 3) with channels image, row, column."""
    axes = (torch.arange(size, dtype=torch.uint8) for size in (count, height, width))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=3)


# Crop


@pytest.mark.parametrize(("height", "width"), [(3, 4), (5, 2), (1, 1), (3, 6), (5, 4)])
def test_a_crop_is_a_window_of_its_image(height: int, width: int) -> None:
    images = coordinates(50, 5, 6)
    crops = random_crop(images, height, width, seeded())
    assert crops.shape == (50, height, width, 3) and crops.dtype == torch.uint8
    for image, crop in zip(images, crops, strict=True):
        _, top, left = crop[0, 0].tolist()
        assert torch.equal(crop, image[top : top + height, left : left + width])


def test_a_crop_is_where_the_generator_says() -> None:
    images, generator = coordinates(20, 8, 9), seeded(3)
    crops = random_crop(images, 6, 5, generator)
    twin = seeded(3)
    tops, lefts = torch.randint(3, (20,), generator=twin), torch.randint(5, (20,), generator=twin)
    for image, crop, top, left in zip(images, crops, tops.tolist(), lefts.tolist(), strict=True):
        assert torch.equal(crop, image[top : top + 6, left : left + 5])
    assert torch.equal(generator.get_state(), twin.get_state())


def test_every_place_is_equally_likely() -> None:
    images = coordinates(1, 5, 6).expand(12_000, -1, -1, -1)
    crops = random_crop(images, 3, 4, seeded())
    places = [tuple(place) for place in crops[:, 0, 0, 1:].tolist()]
    assert_uniform(places, [(top, left) for top in range(3) for left in range(3)])


def test_without_room_nothing_is_cropped() -> None:
    images = coordinates(4, 5, 6)
    assert torch.equal(random_crop(images, 5, 6, seeded()), images)


def test_images_of_one_channel_are_cropped() -> None:
    assert random_crop(coordinates(4, 5, 6)[..., 1:2], 3, 3, seeded()).shape == (4, 3, 3, 1)


# Flip


def test_an_image_stays_or_is_mirrored_from_left_to_right() -> None:
    images = coordinates(50, 2, 3)
    kept = 0
    for image, flipped in zip(images, random_flip(images, seeded()), strict=True):
        if torch.equal(flipped, image):
            kept += 1
        else:
            assert [torch.equal(flipped[:, column], image[:, 2 - column]) for column in range(3)] == [True] * 3
    assert 0 < kept < 50


def test_half_of_the_images_are_mirrored() -> None:
    images = coordinates(1, 1, 2).expand(10_000, -1, -1, -1)
    flipped = random_flip(images, seeded())
    assert_share(int((flipped[:, 0, 0, 2] == 1).sum()), 10_000, 1 / 2)


# Sampling


@pytest.mark.parametrize("batch", [1, 3, 10, 25])
def test_all_images_come_before_one_comes_again(batch: int) -> None:
    sampler = EpochSampler(10, seeded())
    drawn = torch.cat([sampler.next(batch) for _ in range(60 // batch + 1)])
    for start in range(0, 60, 10):
        assert sorted(drawn[start : start + 10].tolist()) == list(range(10))


def test_a_batch_has_its_size_across_the_end_of_an_order() -> None:
    sampler = EpochSampler(10, seeded())
    assert [sampler.next(7).shape for _ in range(4)] == [(7,)] * 4
    assert sampler.next(7).dtype == torch.int64


def test_every_order_is_a_new_one() -> None:
    sampler = EpochSampler(10, seeded())
    assert len({tuple(sampler.next(10).tolist()) for _ in range(20)}) == 20


def test_every_image_is_equally_likely_to_come_first() -> None:
    sampler = EpochSampler(5, seeded())
    assert_uniform((int(sampler.next(5)[0]) for _ in range(3000)), range(5))


def test_the_order_is_the_generators() -> None:
    first, same, other = (EpochSampler(50, seeded(seed)).next(50).tolist() for seed in (1, 1, 2))
    assert first == same != other


def test_a_sampler_goes_on_where_another_stood() -> None:
    first, second = seeded(1), seeded(2)
    sampler = EpochSampler(10, first)
    sampler.next(7)
    state = sampler.state()
    second.set_state(first.get_state())
    expected = [sampler.next(4).tolist() for _ in range(5)]
    resumed = EpochSampler(10, second)
    resumed.resume(state)
    assert [resumed.next(4).tolist() for _ in range(5)] == expected


# Normalisation


def test_normalising_is_subtracting_the_mean_and_dividing_by_the_deviation() -> None:
    pixels = torch.randint(256, (4, 5, 6, 3), generator=seeded(), dtype=torch.uint8)
    mean, std = torch.tensor([125.0, 99.5, 0.0]), torch.tensor([63.0, 1.0, 250.0])
    normalised = Normaliser(mean, std)(pixels)
    expected = (pixels.permute(0, 3, 1, 2).double() - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(normalised.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_normalised_is_float32_and_channels_last(dtype: torch.dtype) -> None:
    statistics = torch.tensor([100.0, 100.0, 100.0], dtype=dtype)
    normalised = Normaliser(statistics, statistics)(coordinates(4, 5, 6))
    assert normalised.dtype == torch.float32
    assert normalised.shape == (4, 3, 5, 6)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("padding", "side"), [(0, 24), (4, 32)])
def test_crops_and_flips_are_torchvisions_on_the_same_draws(padding: int, side: int) -> None:
    from hpcnas.data.torchvision_shim import import_torchvision

    import_torchvision()
    from torchvision.transforms.v2 import functional

    pixels = torch.randint(256, (20, 32, 32, 3), generator=seeded(1), dtype=torch.uint8)
    padded = torch.nn.functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    mean, std = torch.tensor([125.3, 123.0, 113.9]), torch.tensor([63.0, 62.1, 66.7])
    generator, twin = seeded(5), seeded(5)
    ours = Normaliser(mean, std)(random_flip(random_crop(padded, side, side, generator), generator))
    room = 33 + 2 * padding - side
    tops, lefts = (torch.randint(room, (20,), generator=twin) for _ in range(2))
    flips = torch.randint(2, (20,), generator=twin, dtype=torch.bool)
    for number, (top, left, flipped) in enumerate(zip(tops.tolist(), lefts.tolist(), flips.tolist(), strict=True)):
        image = functional.crop(functional.pad(pixels[number].permute(2, 0, 1), [padding]), top, left, side, side)
        image = functional.horizontal_flip(image) if flipped else image
        theirs = functional.normalize(image.float() / 255, (mean / 255).tolist(), (std / 255).tolist())
        torch.testing.assert_close(ours[number], theirs, rtol=1e-5, atol=1e-5)
