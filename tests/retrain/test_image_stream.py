"""Images that are decoded as they are needed: the same for any rank and process, broken ones passed over and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from hpcnas import seeds
from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain import image_stream
from hpcnas.retrain.feed import Batch, Order
from hpcnas.retrain.image_stream import Stream, list_all, list_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and five test images of two classes and differing sizes; two of the former and one of the latter
    cannot be read."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name in ("ape", "bee"):
            place = root / split / name
            place.mkdir(parents=True)
            for number in range(count):
                sides = draw.integers(20, 40, size=2)
                pixels = draw.integers(0, 256, (*sides, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(place / f"{number}.png")
    (root / "train" / "ape" / "3.png").write_bytes(b"no image")
    torn = root / "train" / "bee" / "5.png"  # the last of the listing: the first one takes its place
    torn.write_bytes(torn.read_bytes()[:200])
    (root / "val" / "ape" / "1.png").unlink()
    (root / "val" / "bee" / "0.png").write_bytes(b"")
    return root


def recipe(folder: Path, seed: int = 0, **data: object) -> RetrainingConfig:
    return SCHEME.build(
        {
            "network": {"channels": 2, "cells": (1,), "stem": "strided"},
            "training": {
                "steps": 4, "batch_size": 8, "micro_batch": 2, "batch_statistics": "micro-batch", "seed": seed,
            },
            "data": {"source": f"imagefolder:{folder}", "loading": "stream", "image_size": 16, **data},
        }
    )


def stream(settings: RetrainingConfig, rank: int = 0, ranks: int = 1, loaders: int = 0) -> Stream:
    return Stream(settings, rank, ranks, torch.device("cpu"), loaders, *list_all(settings))


def batches(
    feed: Stream, settings: RetrainingConfig, rank: int, ranks: int, first: int = 0
) -> dict[tuple[int, int], Batch]:
    """Every micro-batch of a rank, from a step on."""
    feed.begin(7, first)
    generator = torch.Generator()
    return {
        (step, number): feed.next(step, number, generator)
        for step in range(first, settings.training.steps)
        for number in range(rank, settings.micro_batches, ranks)
    }


def assert_equal(one: Batch, two: Batch) -> None:
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_loaders_have_room_for_the_micro_batches_that_memory_has_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_stream, "_TEST_BATCH", 4)
    settings = recipe(folder)
    begun = stream(settings, loaders=1)
    for size, images in ((4, 4), (8, 8)):
        begun.use(settings.with_smaller_batches(size))
        assert begun._source._batch_bytes == images * 3 * 16 * 16  # type: ignore[attr-defined]
    tested = stream(settings)
    tested.use(settings, scored=3)
    assert [len(places) for _, _, places in tested.test()] == [2, 2]  # one of five cannot be read


def test_a_micro_batch_is_the_same_on_any_rank_in_any_process_and_after_a_break(folder: Path) -> None:
    settings = recipe(folder)
    whole = batches(stream(settings), settings, 0, 1)
    parts = batches(stream(settings, 0, 2, loaders=1), settings, 0, 2)
    parts |= batches(stream(settings, 1, 2), settings, 1, 2)
    assert whole.keys() == parts.keys()
    for place, batch in whole.items():
        assert_equal(batch, parts[place])
    later = batches(stream(settings, 1, 3), settings, 1, 3, first=2)
    for place, batch in later.items():
        assert_equal(batch, whole[place])
    images, labels = whole[0, 0]
    assert images.shape == (2, 3, 16, 16) and images.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64 and not torch.equal(images, whole[1, 0][0])


def test_the_next_readable_image_takes_the_place_of_a_broken_one(folder: Path) -> None:
    settings = recipe(folder)
    feed = stream(settings)
    listing = list_images(folder / "train")
    names = [listing.name(index) for index in range(12)]
    assert (names[3], names[11]) == ("train/ape/3.png", "train/bee/5.png")
    found = batches(feed, settings, 0, 1)
    order = Order(12, seed=7)(0, 32)
    expected = [listing.labels[{3: 4, 11: 0}.get(int(index), int(index))] for index in order]
    assert torch.cat([labels for _, labels in found.values()]).tolist() == expected
    assert feed.broken == {"train/ape/3.png", "train/bee/5.png"}


def test_an_images_augmentation_is_drawn_from_its_place_alone(folder: Path) -> None:
    settings = recipe(folder)
    images = image_stream._TrainingImages(list_images(folder / "train"), settings, 7)
    one, other = (images[place][0] for place in (0, 12))
    state = torch.get_rng_state()
    assert torch.equal(images[0][0], one)
    assert torch.equal(torch.get_rng_state(), state)  # the process's own generator is left alone
    assert one.shape == (3, 16, 16) and one.dtype == torch.uint8
    assert seeds.image_seed(7, 0) != seeds.image_seed(7, 12) and not torch.equal(one, other)


def test_all_ranks_together_test_every_readable_image_once(folder: Path) -> None:
    settings = recipe(folder)
    found = [stream(settings, rank, 2) for rank in (0, 1)]
    labels = [label for feed in found for _, labels, _ in feed.test() for label in labels.tolist()]
    assert sorted(labels) == [0, 0, 1, 1]
    assert found[0].broken_tests | found[1].broken_tests == {"val/bee/0.png"}
    assert found[0].broken == found[1].broken == set()


def test_validation_between_two_steps_leaves_the_training_as_it_is(folder: Path) -> None:
    settings = recipe(folder, validation_fraction=0.5)
    whole = batches(stream(settings), settings, 0, 1)
    feed = stream(settings)
    feed.begin(7, 0)
    feed.next(0, 0, torch.Generator())
    assert sum(len(labels) for _, labels, _ in feed.validate()) == len(readable(settings))
    for place, batch in batches(feed, settings, 0, 1, first=2).items():
        assert_equal(batch, whole[place])


def readable(settings: RetrainingConfig) -> list[int]:
    """The labels of the validation images that can be read."""
    validation = list_all(settings)[2]
    assert validation is not None and len(validation.files) == 6
    names = map(validation.name, range(6))
    broken = ("train/ape/3.png", "train/bee/5.png")
    return [label for name, label in zip(names, validation.labels.tolist(), strict=True) if name not in broken]


def test_all_ranks_together_validate_on_every_readable_image_once_and_name_the_others(folder: Path) -> None:
    found, named = [], set()
    settings = next(  # one that holds out an image that cannot be read
        some for seed in range(9) if len(readable(some := recipe(folder, seed=seed, validation_fraction=0.5))) < 6
    )
    for rank in range(2):
        feed = stream(settings, rank, 2)
        assert (feed.validation_images, feed.validated_on) == (6, f"6 images of {folder / 'train'}")
        list(feed.look())  # before the training
        named |= feed.broken
        feed.broken, feed.broken_tests = set(), set()
        found += [label for _, labels, _ in feed.validate() for label in labels.tolist()]
        assert feed.broken <= named
    assert sorted(found) == readable(settings) and len(named) == 6 - len(found) and not feed.broken_tests


def test_a_test_image_is_the_middle_of_its_resized_self(folder: Path) -> None:
    settings = recipe(folder, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    images, _, _ = next(stream(settings).test())
    with PIL.Image.open(folder / "val" / "ape" / "0.png") as image:
        width, height = image.size
        sides = (int(18 * width / min(width, height)), int(18 * height / min(width, height)))  # 16 of 0.875
        resized = image.resize(sides, PIL.Image.Resampling.BILINEAR)
    left, top = round((sides[0] - 16) / 2), round((sides[1] - 16) / 2)
    expected = np.asarray(resized.crop((left, top, left + 16, top + 16)), dtype=np.float32)
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), expected)


def test_test_images_that_cannot_be_read_are_known_before_the_training(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = recipe(folder)
    feed = stream(settings, loaders=1)
    assert (feed.test_images, feed.tested_on) == (5, f"5 test images of {folder / 'val'}")
    assert sum(1 for _ in feed.look()) == 1 and feed.broken_tests == {"val/bee/0.png"}
    assert caplog.messages == ["val/bee/0.png cannot be read: no image, or of a format that pillow does not read"]
    feed.broken_tests = {"val/ape/0.png"}  # which another time could not be read
    assert sum(len(labels) for _, labels, _ in feed.test()) == 4 and feed.broken_tests == {"val/bee/0.png"}


def test_training_and_test_see_the_images_that_every_reader_sees(tmp_path: Path) -> None:
    """Of 16 bits, sideways and transparent: by the one loader."""
    for split in ("train", "val"):
        for name in ("ape", "bee"):
            place = tmp_path / split / name
            place.mkdir(parents=True)
            PIL.Image.fromarray(np.full((16, 16), 0x4000, np.uint16)).save(place / "0.png")
            PIL.Image.new("RGBA", (16, 16), (1, 2, 3, 0)).save(place / "1.png")
            told = PIL.Image.Exif()
            told[0x112] = 6
            PIL.Image.fromarray(np.eye(16, dtype=np.uint8)[::-1] * 255).save(place / "2.png", exif=told)
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "resize": 1.0}
    settings = SCHEME.build(
        SCHEME.settings(recipe(tmp_path, **plain)),
        {"augmentation": {"crop_area": 1.0, "flip": False, "brightness": 0.0, "contrast": 0.0}},
    )
    feed = stream(settings)
    ((images, _, _),) = feed.test()
    assert images[0].unique().tolist() == [0x40] and images[1].unique().tolist() == [255]
    assert torch.equal(images[2, 0], 255 * torch.eye(16))  # turned clockwise by a quarter
    trained = image_stream._TrainingImages(list_images(tmp_path / "train"), settings, 0)
    seen = {index: trained[place][0] for place, index in enumerate(Order(6, 0)(0, 6).tolist())}
    assert torch.equal(seen[0], images[0].byte()) and torch.equal(seen[4], images[1].byte())
    # a crop of the whole image's area may be a quarter longer than wide, so the diagonal alone is not compared


def test_what_is_missing_is_told_in_words(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected .*train to hold a folder of images for each class"):
        list_images(tmp_path / "train")
    with pytest.raises(DataError, match=r"expected .*val \(or .*test\) to hold a folder of images for each class"):
        list_all(recipe(tmp_path))
    with pytest.raises(DataError, match="expected --mean and --std of 3 channels, got 1"):
        stream(recipe(folder, mean=(1.0,), std=(1.0,)))
    with pytest.raises(DataError, match="cannot look through /n{300}: File name too long"):
        list_all(recipe(Path("/" + "n" * 300)))
    (tmp_path / "val").symlink_to(folder / "val")
    (tmp_path / "train").mkdir()
    for name in ("ape", "cow"):
        (tmp_path / "train" / name).symlink_to(folder / "train" / "ape")
    with pytest.raises(DataError, match="expected the same class folders .*val lacks cow, .*train lacks bee"):
        list_all(recipe(tmp_path))


def test_a_copy_elsewhere_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    listing = list_images(folder / "train")
    (tmp_path / "train").symlink_to(folder / "train")
    assert list_images(tmp_path / "train").fingerprint == listing.fingerprint
    assert listing.fingerprint != list_images(folder / "val").fingerprint


def test_rand_augment_follows_from_the_place_in_the_order(folder: Path) -> None:
    plain = recipe(folder)
    settings = SCHEME.build(SCHEME.settings(plain), {"augmentation": {"rand_augment": 2, "rand_augment_magnitude": 20}})
    found = batches(stream(settings), settings, 0, 1)
    later = batches(stream(settings, 1, 2), settings, 1, 2, first=2)
    for place, batch in later.items():
        assert_equal(batch, found[place])
    unchanged = batches(stream(plain), plain, 0, 1)
    assert not any(torch.equal(batch[0], unchanged[place][0]) for place, batch in found.items())
    assert all(torch.equal(batch[1], unchanged[place][1]) for place, batch in found.items())
