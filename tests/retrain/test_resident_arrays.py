"""A retraining on arrays: their own validation images, groups that stay together, and test images of the same form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from array_content import Content, content, in_npz

from hpcnas.analysis.mistakes import NoPictures, _of_arrays
from hpcnas.analysis.prediction import AnalysisError, Model, classified_arrays, pictures
from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import SCHEME
from hpcnas.retrain import dry_run
from hpcnas.retrain.feed import Resident
from hpcnas.retrain.held_out import own_validation
from hpcnas.retrain.predictions import Predictions

CPU = torch.device("cpu")


def resident(folder: Path, arrays: Content, fraction: float = 0.0, **augmentation: object) -> Resident:
    data = {"source": f"arrays:{in_npz(folder, arrays)}", "validation_fraction": fraction}
    return Resident(SCHEME.build({"data": data, "augmentation": augmentation}), 0, 1, CPU)


def test_images_keep_their_type_until_they_are_normalised(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 60_000, (12, 8, 9, 4)).astype(np.uint16)
    feed = resident(tmp_path, content(train_images=images, test_images=images[:3]), padding=1, crop=1.0)
    assert feed._pixels.dtype is torch.uint16 and feed.appearance.type == "uint16"
    assert feed.appearance.mean == pytest.approx(images.mean((0, 1, 2)).tolist())
    feed.begin(0, 0)
    found, _ = feed.next(0, 0, torch.Generator().manual_seed(0))
    assert found.shape[1:] == (4, 8, 9) and float(found.abs().max()) < 4
    (tested,) = feed.test()
    torch.testing.assert_close(tested[0].var((0, 2, 3), correction=0), torch.ones(4), atol=0.3, rtol=0)


def test_a_group_is_held_out_as_a_whole(tmp_path: Path) -> None:
    feed = resident(tmp_path, content(), fraction=0.25)
    assert feed._validation is not None and len(set(feed._validation.images.groups.tolist())) == 1
    assert feed.validation_images == 3 and len(feed.appearance.facts.split) == 16


def test_validation_arrays_take_the_place_of_a_share(tmp_path: Path) -> None:
    own = content(validation_images=content()["test_images"], validation_labels=np.arange(3))
    feed = resident(tmp_path, own)
    assert feed.validated_on == f"3 images of validation/images in {tmp_path}/data.npz"
    assert feed.appearance.facts.training_images == 12 and len(list(feed.validate())) == 1
    with pytest.raises(DataError, match="expected no --validation-fraction beside validation/images in .*, got 0.5"):
        resident(tmp_path, own, fraction=0.5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"test_images": np.ones((3, 8, 9, 4), np.float16)}, r"test images of float32 \(8, 9, 4\), .* got float16 "),
        ({"test_images": np.ones((3, 9, 9, 4), np.float32)}, r"as those for training, got float32 \(9, 9, 4\)"),
        ({"test_images": np.ones((3, 8, 9, 1), np.float32)}, r"as those for training, got float32 \(8, 9, 1\)"),
        ({"test_images": None}, "test/images: expected this array, but there is none"),
        ({"test_labels": np.array([0, 3, 1])}, r"test/labels\[1\]: expected a class from 0 to 2, got 3"),
    ],
)
def test_tests_of_another_form_are_refused_before_the_training(
    changes: dict[str, object], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=expected):
        list(resident(tmp_path, content(**changes)).look())


def test_augmentation_of_pictures_is_for_pictures_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images of uint8 for --rand-augment, got float32; leave it out"):
        resident(tmp_path, content(), rand_augment=2)


def test_a_dry_run_reads_their_form_alone(tmp_path: Path) -> None:
    path = in_npz(tmp_path, content(validation_images=content()["test_images"]))
    recipe = SCHEME.build({"data": {"source": f"arrays:{path}"}})
    found = dry_run.expected(recipe)
    assert (found.images, found.value_bytes, found.known) == (12, 4, f"float32 of {path}")
    assert (found.skeleton.image_channels, found.skeleton.classes) == (4, 3)
    assert own_validation(recipe) == f"validation/images in {path}"
    nowhere = SCHEME.build({"data": {"source": f"arrays:{tmp_path}/nowhere.h5"}})
    assert dry_run.expected(nowhere).known.startswith("as CIFAR-10's, since they cannot be read: ")
    assert dry_run._validation(nowhere, dry_run.expected(nowhere)) == []


MODEL = Model(lambda pixels: pixels.mean((2, 3))[:, :3], 4, 8, 8, 9, ("oak", "elm", "ash"), type="float32")


def test_arrays_are_classified_as_they_are(tmp_path: Path) -> None:
    data = content()
    found = list(classified_arrays(MODEL, f"arrays:{in_npz(tmp_path, data)}"))
    assert [(str(one.picture.file), one.picture.label) for one in found] == [
        ("test/images[0]", "oak"), ("test/images[1]", "elm"), ("test/images[2]", "ash"),
    ]  # fmt: skip
    taken = [int(np.asarray(one.result).argmax()) for one in found]
    assert taken == data["test_images"].mean((1, 2))[:, :3].argmax(1).tolist()
    alone = {"images": data["test_images"][:1]}
    assert [one.picture.label for one in classified_arrays(MODEL, f"arrays:{in_npz(tmp_path, alone)}")] == [None]


def test_other_images_are_not_classified(tmp_path: Path) -> None:
    other = content(test_images=content()["test_images"].astype(np.float16))
    with pytest.raises(DataError, match=r"expected images of float32 \(8, 9, 4\), as for training, got float16 \(8, 9"):
        list(classified_arrays(MODEL, f"arrays:{in_npz(tmp_path, other)}"))
    with pytest.raises(AnalysisError, match="takes images of 4 channels of float32, which no picture files are"):
        pictures(MODEL, [(tmp_path, "")])


def test_no_pictures_are_made_of_them(tmp_path: Path) -> None:
    none, certain = np.zeros(1, np.int32), np.ones(1, np.float32)
    tested = Predictions(np.zeros(1, np.int64), none, certain, none[:, None], certain[:, None])
    with pytest.raises(NoPictures, match="images of 4 channels of float32 are none"):
        _of_arrays(f"arrays:{in_npz(tmp_path, content())}", tested, [])
