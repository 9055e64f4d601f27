"""Images that all lie on the device: what is drawn for them, and those of a test as predict sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_retraining import (
    assert_close,
    recipe,
    trained,
    write_image,
)

from hpcnas.analysis import prediction
from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import SCHEME
from hpcnas.retrain.feed import Resident


def test_rand_augment_of_resident_images_does_not_depend_on_ranks_or_micro_batches() -> None:
    drawn = {"augmentation": {"rand_augment": 2, "crop": 1.0, "flip": False, "cutout": 0}}
    settings = SCHEME.build(SCHEME.settings(recipe()), drawn)
    _, weights = trained(1, settings)
    assert_close(weights, trained(3, settings)[1])
    images = []
    for micro_batch in (4, 8):
        cut = SCHEME.build(SCHEME.settings(settings), {"training": {"micro_batch": micro_batch}})
        feed = Resident(cut, 0, 1, torch.device("cpu"))
        feed.begin(5, 1)
        parts = [feed.next(1, number, torch.Generator())[0] for number in range(16 // micro_batch)]
        images.append(torch.cat(parts))
    assert torch.equal(*images)


def grey_and_colour(root: Path) -> Path:
    """Training images of 8×8, grey but for one, and test images of 16×16, all grey."""
    for name in ("a", "b"):
        write_image(root / "train" / name / "0.png", "L" if name == "a" else "RGB", 8)
        write_image(root / "test" / name / "0.png", "L", 16)
    return root


def resident(root: Path) -> Resident:
    plain = {"source": f"imagefolder:{root}", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return Resident(SCHEME.build(SCHEME.settings(recipe()), {"data": plain}), 0, 1, torch.device("cpu"))


def test_test_images_of_another_size_and_colour_are_seen_as_predict_sees_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = resident(grey_and_colour(tmp_path))
    assert list(feed.look()) == [None]
    assert (feed.test_images, feed.tested_on) == (2, f"2 test images of {tmp_path / 'test'}")
    assert "test images are of 16×16 pixels, training images of 8×8: they are resized" in caplog.text
    ((images, labels, _),) = feed.test()
    model = prediction.Model(lambda pixels: pixels, 3, feed.appearance.resize, 8, 8, ("a", "b"))
    assert labels.tolist() == [0, 1]
    assert np.array_equal(images[1].numpy(), prediction.pixels(model, tmp_path / "test" / "b" / "0.png"))


def test_colour_in_the_test_of_a_network_for_grey_images_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "train" / name / "0.png", "L", 8)
        write_image(tmp_path / "val" / name / "0.png", "L" if name == "a" else "RGB", 8)
    plain = {"source": f"imagefolder:{tmp_path}"}
    feed = Resident(SCHEME.build(SCHEME.settings(recipe()), {"data": plain}), 0, 1, torch.device("cpu"))
    with pytest.raises(DataError, match="expected grey test images, .*, got .*val/b/0.png in colour; make them grey"):
        list(feed.look())


def test_fewer_images_are_tested_at_a_time_where_memory_is_short() -> None:
    settings = recipe()
    feed = Resident(settings, 0, 1, torch.device("cpu"))
    sizes = []
    for scored in (None, 7, 900):
        feed.use(settings, scored)
        sizes.append([len(labels) for _, labels, _ in feed.test()])
    assert sizes == [[10], [7, 3], [10]]
