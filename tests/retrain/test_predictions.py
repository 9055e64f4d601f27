"""predictions-SEED.h5: what is written is read back, and is what FORMAT.md says; and what a test puts into it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from sklearn.metrics import balanced_accuracy_score, f1_score
from small_retraining import made, recipe, run, write_image
from test_format import section, tables, type_of
from test_image_stream import folder as folder  # a fixture
from test_image_stream import recipe as streamed
from test_image_stream import stream
from test_record_file import RECORD
from test_resident import resident

from hpcnas.analysis import prediction
from hpcnas.retrain import predictions
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.scoring import Scorer
from hpcnas.retrain.scoring import Tested as Score
from hpcnas.storage.folder import StoreError

KEPT = Predictions(
    images=np.array([0, 2]),
    labels=np.array([0, 2], dtype=np.int32),
    label_probabilities=np.array([0.75, 0.25], dtype=np.float32),
    classes=np.array([[0, 2, 1], [1, 2, 0]], dtype=np.int32),
    probabilities=np.array([[0.75, 0.25, 0.0], [0.5, 0.25, 0.25]], dtype=np.float32),
    files=np.array([b"val/ape/1.jpg", b"val/gn\xfc/0.jpg"]),
)


def assert_same(one: Predictions | None, two: Predictions) -> None:
    assert one is not None
    for item in dataclasses.fields(Predictions):
        np.testing.assert_array_equal(getattr(one, item.name), getattr(two, item.name), item.name)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert predictions.read(tmp_path, RECORD, 3) is None  # of an earlier version
    predictions.write(tmp_path, RECORD, 3, KEPT)
    found = predictions.read(tmp_path, RECORD, 3)
    assert_same(found, KEPT)
    assert found is not None and found.file(1) == "val/gn\udcfc/0.jpg" and found.right.tolist() == [True, False]
    without = dataclasses.replace(KEPT, files=None)
    predictions.write(tmp_path, RECORD, 4, without)
    assert_same(predictions.read(tmp_path, RECORD, 4), without)


def test_predictions_of_another_training_are_refused(tmp_path: Path) -> None:
    predictions.write(tmp_path, RECORD, 3, KEPT)
    with pytest.raises(StoreError, match="seed 3 of the retraining beside it, got another one's"):
        predictions.read(tmp_path, dataclasses.replace(RECORD, run="7" * 32), 3)
    predictions.path(tmp_path, 3).rename(predictions.path(tmp_path, 4))
    with pytest.raises(StoreError, match="of seed 4 of the retraining beside it, got another one's"):
        predictions.read(tmp_path, RECORD, 4)


@pytest.mark.parametrize(
    ("name", "place", "value", "expected"),
    [
        ("label", 1, 3, "row 1: expected numbers of 3 classes, got 3"),
        ("label", 0, -1, "row 0: expected label an integer ≥ 0, got -1"),
        ("classes", (1, 2), 7, r"row 1: expected numbers of 3 classes, got \[1, 2, 7\]"),
        ("probabilities", (0, 0), 1.5, "row 0: expected probabilities a number from 0 to 1"),
        ("label_probability", 0, np.nan, "row 0: expected label_probability a number from 0 to 1"),
        ("image", 1, 0, "row 1: expected a later image than that of the row before, got 0"),
    ],
)
def test_what_no_training_has_written_is_refused(
    name: str, place: object, value: float, expected: str, tmp_path: Path
) -> None:
    predictions.write(tmp_path, RECORD, 3, KEPT)
    with h5py.File(predictions.path(tmp_path, 3), "r+") as file:
        file["images"][name][place] = value
    with pytest.raises(StoreError, match=rf"predictions-3.h5: images, {expected}"):
        predictions.read(tmp_path, RECORD, 3)


def test_a_test_of_no_image_is_refused(tmp_path: Path) -> None:
    parts = {item.name: getattr(KEPT, item.name)[:0] for item in dataclasses.fields(Predictions)}
    predictions.write(tmp_path, RECORD, 3, Predictions(**parts))
    with pytest.raises(StoreError, match="predictions-3.h5: images: expected an image or more, got 0"):
        predictions.read(tmp_path, RECORD, 3)


def test_damage_is_told_in_one_line(tmp_path: Path) -> None:
    predictions.write(tmp_path, RECORD, 3, KEPT)
    path = predictions.path(tmp_path, 3)
    whole = path.read_bytes()
    for damaged in (whole[:300], b"no file of predictions"):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="predictions-3.h5: expected predictions for test images, but they"):
            predictions.read(tmp_path, RECORD, 3)


def test_the_page_says_what_is_written(tmp_path: Path) -> None:
    predictions.write(tmp_path, RECORD, 3, KEPT)
    sizes = {"images": 2, "classes": 3, "kept": 3}
    documented = {}
    for group in ("/", "/images"):
        (table,) = tables(section(f"### predictions-SEED.h5: {group}"))
        documented |= {f"{group.strip('/')}/{row['dataset']}".strip("/"): row for row in table}
    with h5py.File(predictions.path(tmp_path, 3)) as file:
        written = [f"images/{name}" for name in file["images"]] + [name for name in file if name != "images"]
        assert sorted(documented) == sorted(written)
        for path, row in documented.items():
            dataset = file[path]
            assert row["type"] == type_of(dataset.dtype).split("(")[0], path
            names = re.findall(r"[a-z]+", row["shape"].replace("scalar", ""))
            assert dataset.shape == tuple(sizes[name] for name in names), path
            attributes = {name: value.decode() for name, value in dataset.attrs.items()}
            assert attributes == {"description": row["description"], "unit": row["unit"]}, path
        (table,) = tables(section("### Attributes of predictions-SEED.h5"))
        assert {row["attribute"] for row in table} == set(file.attrs)


# ── what a test puts into it ────────────────────────────────────────────────────────────────────────────────────────
def scores_of(ranks: int) -> Score:
    def work(group: ThreadGroup) -> Score:
        training = made(recipe(steps=2), group)
        assert run(training, until=2)
        found = training.test()
        assert found is not None
        return found

    first, *others = on_ranks(ranks, work)
    for other in others:
        assert_same(other.predictions, first.predictions)
    return first


def test_any_number_of_ranks_says_the_same_of_each_image_in_the_order_of_the_test_set() -> None:
    alone, together = scores_of(1), scores_of(3)  # 10 images: one rank has four of them
    one, two = alone.predictions, together.predictions
    assert one.images.tolist() == two.images.tolist() == list(range(10)) and one.files is None
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(one.classes, two.classes)
    np.testing.assert_allclose(one.probabilities, two.probabilities, rtol=1e-6)
    assert one.classes.shape == (10, 5) and (np.diff(one.probabilities, axis=1) <= 0).all()
    assert one.right.mean() == alone.accuracy
    assert (one.classes == one.labels[:, None]).any(axis=1).mean() == alone.top5
    balanced = balanced_accuracy_score(one.labels, one.classes[:, 0])
    assert alone.balanced_accuracy == pytest.approx(balanced) and together.balanced_accuracy == alone.balanced_accuracy
    assert alone.macro_f1 == pytest.approx(f1_score(one.labels, one.classes[:, 0], average="macro"))
    assert alone.auroc == pytest.approx(together.auroc or 0.0) and 0.0 < (alone.auroc or 0.0) < 1.0
    losses = -np.log(one.label_probabilities.astype(np.float64))
    assert losses.mean() == pytest.approx(alone.loss, rel=1e-5)


class Doubtful(torch.nn.Module):
    """Class 1 where an image's first value is high, else class 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = images[:, 0, 0, 0]
        return torch.stack([-first, first], dim=1)


def scored(feed: object, group: ThreadGroup) -> Score:
    parts = (Doubtful(), 2, feed, group, torch.device("cpu"), torch.float32, False)
    found = Scorer(*parts).test(max_broken=1)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_images_that_cannot_be_read_are_left_out_and_files_are_named(folder: Path) -> None:
    for ranks in (1, 2, 4):
        found = on_ranks(ranks, lambda group: scored(stream(streamed(folder), group.rank, group.size), group))[0]
        said = found.predictions
        assert (found.images, found.broken, said.images.tolist()) == (4, 1, [0, 1, 3, 4])
        assert said.labels.tolist() == [0, 0, 1, 1] and said.classes.shape == (4, 2)
        assert [said.file(row) for row in range(4)] == [
            "val/ape/0.png", "val/ape/2.png", "val/bee/1.png", "val/bee/2.png",
        ]  # fmt: skip
        model = prediction.Model(lambda pixels: pixels, 3, 18, 16, 16, ("ape", "bee"))
        first = [prediction.pixels(model, folder / (said.file(row) or ""))[0, 0, 0] for row in range(4)]
        assert said.classes[:, 0].tolist() == [int(value > 123.675) for value in first]


def test_files_of_a_folder_that_lies_on_the_device_are_named_too(tmp_path: Path) -> None:
    for name in ("train/a/0", "train/b/0", "test/a/1", "test/a/0", "test/b/x"):
        write_image(tmp_path / f"{name}.png", "RGB", 8)
    said = on_ranks(1, lambda group: scored(resident(tmp_path), group))[0].predictions
    assert [said.file(row) for row in range(3)] == ["test/a/0.png", "test/a/1.png", "test/b/x.png"]
    assert said.labels.tolist() == [0, 0, 1]
