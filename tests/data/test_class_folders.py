"""What lies in folders of images by class: each file once, by the name at which it really lies."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from hpcnas.config.data_spec import DataError
from hpcnas.data.class_folders import images_by_class, require_same


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """cat/1.png, cat/deep/2.png, dog/1.png; files need no content here."""
    for name in ("cat/1.png", "cat/deep/2.png", "dog/1.png"):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "train"


PLAIN = {"cat": ["cat/1.png", "cat/deep/2.png"], "dog": ["dog/1.png"]}


def test_a_link_that_leads_back_brings_nothing(train: Path, caplog: pytest.LogCaptureFixture) -> None:
    (train / "cat" / "up").symlink_to("..")
    assert images_by_class(train) == PLAIN
    assert "2 names lead by links to images that have another name there, such as cat/up/" in caplog.text


@pytest.mark.parametrize(
    ("link", "target"),
    [("cat/a.png", "1.png"), ("cat/0.png", "../dog/1.png"), ("dog/a", "../cat/deep"), ("cat/deep/again", ".")],
)
def test_a_file_has_the_name_at_which_it_lies(
    link: str, target: str, train: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (train / link).symlink_to(target)
    assert images_by_class(train) == PLAIN
    assert f"1 names lead by links to images that have another name there, such as {link}: " in caplog.text


def test_links_to_files_elsewhere_are_images(train: Path, caplog: pytest.LogCaptureFixture) -> None:
    pool = train.parent / "pool"
    (pool / "more").mkdir(parents=True)
    for name in ("p.png", "q.png", "more/r.png"):
        (pool / name).touch()
    (train / "cat" / "0.png").symlink_to(pool / "p.png")
    (train / "cat" / "deep" / "pool").symlink_to(pool / "more")
    (train / "emu").symlink_to(pool / "more")  # a class that is a link
    (train / "cat" / "deep" / "pool").unlink()
    (train / "dog" / "2.png").symlink_to("3.png")  # of links to links
    (train / "dog" / "3.png").symlink_to(pool / "q.png")
    with caplog.at_level(logging.WARNING):
        found = images_by_class(train)
    assert found == {
        "cat": ["cat/0.png", "cat/1.png", "cat/deep/2.png"], "dog": ["dog/1.png", "dog/2.png"], "emu": ["emu/r.png"],
    }  # fmt: skip
    assert "1 names lead by links" in caplog.text and "such as dog/3.png" in caplog.text


def test_one_file_in_two_classes_is_refused(train: Path) -> None:
    (train.parent / "p.png").touch()
    for name in ("cat", "dog"):
        (train / name / "p.png").symlink_to("../../p.png")
    with pytest.raises(DataError, match="expected each image in one class, but cat/p.png and dog/p.png in .* one file"):
        images_by_class(train)


def test_a_class_of_links_to_another_one_has_no_images(train: Path) -> None:
    (train / "pet").symlink_to("cat")
    with pytest.raises(DataError, match=r"expected images \(.jpg, .* in .*train/pet, got none"):
        images_by_class(train)


def test_classes_that_one_folder_lacks_are_named(train: Path) -> None:
    val = train.parent / "val"
    for names, expected in {
        ("cat", "dog"): None,
        ("cat",): "val lacks dog",
        ("cat", "dog", "zebra"): "train lacks zebra",
        ("cat", "horse"): "val lacks dog, .*train lacks horse",
        (): "val lacks cat, dog",
    }.items():
        shutil.rmtree(val, ignore_errors=True)
        val.mkdir()
        for name in names:
            (val / name).mkdir()
        if expected is None:
            require_same(train, val)
        else:
            with pytest.raises(DataError, match=f"expected the same class folders in .*, but .*{expected}$"):
                require_same(train, val)
