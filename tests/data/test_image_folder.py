"""A folder of images as one array: what is read, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import caches, draw, drawn, pixels_of, save, write_folder
from PIL import Image

from hpcnas.config.data_spec import DataError
from hpcnas.data import datasets, image_folder

ROOT = Path(datasets.__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


# What is read


def test_both_splits_are_read_in_order(root: Path) -> None:
    training, test = datasets.load_training(f"imagefolder:{root}"), datasets.load_test(f"imagefolder:{root}")
    np.testing.assert_array_equal(training.images.pixels, drawn(0, 1, 2, 3, 4, 5))
    np.testing.assert_array_equal(test.images.pixels, drawn(1000, 1001, 1002, 1003, 1004, 1005))
    assert training.images.labels.tolist() == test.images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert training.classes == ("cat", "dog")


def test_more_images_than_a_block_keep_their_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "_BLOCK", 4)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def test_the_order_is_torchvisions(root: Path) -> None:
    save(root / "train" / "cat" / "deeper" / "9.PNG", draw(9))
    save(root / "train" / "cat" / "0001-b.jpeg", draw(8))
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    from hpcnas.data.torchvision_shim import import_torchvision

    theirs = import_torchvision().datasets.ImageFolder(root / "train")
    ours = image_folder.list_split(root / "train")
    assert [str(root / "train" / file) for file in ours.files] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets and list(ours.classes) == theirs.classes


def test_hidden_files_and_folders_are_no_images(root: Path) -> None:
    (root / "train" / "cat" / "._0000.png").write_bytes(b"what a Mac leaves behind")
    save(root / "train" / ".checkpoints" / "x.png", draw(7))
    save(root / "train" / "dog" / ".thumbnails" / "x.png", draw(7))
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def test_grey_images_keep_one_channel_if_all_are_grey(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "grey", channels=1)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5, channels=1))


@pytest.mark.parametrize("odd", ["cat/0000.png", "dog/0005.png"])
def test_one_coloured_image_among_grey_ones_makes_three_channels(tmp_path: Path, odd: str) -> None:
    root = write_folder(tmp_path / "mixed", channels=1)
    save(root / "train" / odd, draw(42))
    expected = np.repeat(drawn(0, 1, 2, 3, 4, 5, channels=1), 3, axis=3)
    expected[int(odd[-5])] = draw(42)
    np.testing.assert_array_equal(pixels_of(root), expected)


# What is refused


def save_32_bit(path: Path) -> None:
    Image.fromarray(np.full((8, 10), 7, np.int32) - 8 * np.eye(8, 10, dtype=np.int32)).save(path)


def empty_class(root: Path) -> None:
    for path in (root / "train" / "dog").iterdir():
        path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda t: save(t / "dog" / "0004.png", draw(0, height=9)), r"dog/0004.png is 10×9 pixels, .*0000.png is 10×8"),
        (lambda t: empty_class(t.parent), r"expected images \(.jpg, .* in .*train/dog, got none"),
        (lambda t: shutil.rmtree(t / "dog"), "expected two class folders or more in .*train, got 1"),
        (lambda t: shutil.rmtree(t), "expected .*train to hold a folder of images for each class: No such file"),
        (lambda t: truncate(t / "dog" / "0003.png"), "cannot read the image .*dog/0003.png: .*; replace or remove it"),
        (lambda t: (t / "cat" / "0001.png").write_bytes(b""), "cannot read the image .*cat/0001.png"),
        (lambda t: (t / "cat" / "broken.png").symlink_to("nowhere"), "cannot look through .*train: .*broken.png"),
        (lambda t: save_32_bit(t / "cat" / "0002.tif"), "cat/0002.tif: expected values from 0 to 65535, got -1 to 7"),
    ],
)
def test_unusable_images_are_refused_in_one_line(root: Path, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(root / "train")
    with pytest.raises(DataError, match=expected) as caught:
        pixels_of(root)
    assert str(caught.value).startswith(f"imagefolder:{root}: ") and "\n" not in str(caught.value)
    assert not caches(root) and not list(root.glob("*.tmp"))


def test_a_folder_that_cannot_be_listed_is_not_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(root / "train" / "dog" / "locked" / "9.png", draw(9))
    original = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="cannot look through .*train: .*Permission denied: .*locked"):
        pixels_of(root)


def test_images_below_eight_pixels_are_refused(root: Path) -> None:
    for path in (root / "train").rglob("*.png"):
        save(path, draw(0, height=12, width=7))
    with pytest.raises(DataError, match="0000.png: expected sides of 8 pixels or more, got 7×12"):
        pixels_of(root)


def test_the_first_odd_image_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "_BLOCK", 2)
    for number in (5, 3, 4):
        save(root / "train" / "dog" / f"{number:04}.png", draw(0, width=20))
    with pytest.raises(DataError, match=r"dog/0003.png is 20×8"):
        pixels_of(root)


def test_other_classes_in_the_test_split_are_refused(root: Path) -> None:
    (root / "test" / "dog").rename(root / "test" / "horse")
    expected = "expected the same class folders in .*, but .*/test lacks dog, .*/train lacks horse"
    with pytest.raises(DataError, match=expected):
        datasets.load_test(f"imagefolder:{root}")


def test_val_is_tested_on_where_there_is_no_test_folder(root: Path) -> None:
    (root / "test").rename(root / "val")
    found = datasets.load_test(f"imagefolder:{root}")
    np.testing.assert_array_equal(found.images.pixels, drawn(1000, 1001, 1002, 1003, 1004, 1005))
    (root / "val").rename(root / "validation")
    with pytest.raises(DataError, match=r"expected .*/test \(or .*/val\) to hold a folder of images for each class"):
        datasets.load_test(f"imagefolder:{root}")


def test_photographs_that_are_stored_sideways_are_read_upright(root: Path) -> None:
    told = Image.Exif()
    told[0x112] = 6  # turned clockwise by 90 degrees when shown
    path = root / "train" / "cat" / "0001.png"
    Image.fromarray(np.rot90(draw(1))).save(path, exif=told)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    Image.fromarray(np.rot90(draw(1))).save(path)
    with pytest.raises(DataError, match="cat/0001.png is 8×10 pixels, .*0000.png is 10×8"):
        pixels_of(root)
