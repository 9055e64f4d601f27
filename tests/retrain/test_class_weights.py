"""Weights of classes: numbers, a file or by how few images there are; scaled, and the same however a step is cut."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_retraining import assert_close, continued, recipe, trained
from toolruns import retrained

from hpcnas.config import class_weights
from hpcnas.config.data_spec import DataError
from hpcnas.config.options import parse
from hpcnas.config.retraining import RETRAINING, SCHEME, RetrainingConfig
from hpcnas.config.settings import ConfigError
from hpcnas.data.datasets import load_training
from hpcnas.job.status import MORE_TO_DO
from hpcnas.retrain.feed import Resident
from hpcnas.retrain.regularisation import loss
from hpcnas.retrain.session import RetrainingRefused, open_retraining


def weighted(text: str) -> RetrainingConfig:
    return SCHEME.build({"training": {"class_weights": text}})


def written_out(text: str) -> str | None:
    return class_weights.written_out(text)


def test_numbers_are_those_of_the_text_or_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").write_text("# ape, bee\n1, 2  # the second\n\n0.5\n")
    assert written_out(str(tmp_path / "weights.txt")) == written_out("1,2,0.5") == "1.0,2.0,0.5"
    assert written_out("1.0,2.0,0.5") == "1.0,2.0,0.5"
    assert written_out("balanced") == "balanced"
    assert class_weights.written_out(None) is None


@pytest.mark.parametrize("text", ["", "1,-2", "nan,1", "1,inf", "0,0", "1,1e300", "1e-300,1", "# none"])
def test_what_are_no_weights_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").write_text(text)
    for given in (text, "weights.txt"):
        with pytest.raises(ConfigError, match="--class-weights .*: expected balanced,"):
            written_out(given)
    with pytest.raises(ConfigError, match="or a file to read: expected a regular file, got a folder"):
        written_out("..")


def test_a_training_image_weighs_1_on_average() -> None:
    assert class_weights.scaled(None, [3, 1]) is None
    assert class_weights.scaled("balanced", [6, 2, 0]) == pytest.approx((8 / 12, 2, 4))
    assert class_weights.scaled("1,3", [6, 2]) == pytest.approx((8 / 12, 2))
    assert class_weights.scaled("5,5", [6, 2]) == (1, 1)
    with pytest.raises(DataError, match="expected --class-weights of 3 classes, got 2"):
        class_weights.scaled("1,3", [6, 2, 1])
    with pytest.raises(DataError, match="not 0 for all classes with training images"):
        class_weights.scaled("0,3", [6, 0])


def test_the_images_of_each_class_are_those_that_are_trained_on() -> None:
    settings = SCHEME.build(SCHEME.settings(recipe()), {"data": {"validation_fraction": 0.2}})
    sizes = Resident(settings, 0, 1, torch.device("cpu")).appearance.class_sizes
    labels = np.bincount(load_training(settings.data.source).images.labels)
    assert sum(sizes) == 40 and all(size <= all_of_it for size, all_of_it in zip(sizes, labels, strict=True))


def test_a_weighted_loss_by_hand_is_divided_by_the_number_of_images() -> None:
    scores = torch.log(torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]))
    weights = torch.tensor([1.0, 4.0, 0.5])
    hard = -(math.log(0.6) + 4 * math.log(0.5)) / 2
    assert loss(scores, torch.tensor([0, 1]), 0.0, weights).item() == pytest.approx(hard)
    smooth = [math.log(0.6) * 0.8 + 4 * math.log(0.3) * 0.1 + 0.5 * math.log(0.1) * 0.1]
    smooth += [math.log(0.2) * 0.1 + 4 * math.log(0.5) * 0.8 + 0.5 * math.log(0.3) * 0.1]
    assert loss(scores, torch.tensor([0, 1]), 0.3, weights).item() == pytest.approx(-sum(smooth) / 2)
    certain = torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    assert loss(scores, certain, 0.3, weights).item() == pytest.approx(-sum(smooth) / 2)
    halves = [loss(scores[[n]], torch.tensor([n]), 0.3, weights).item() / 2 for n in (0, 1)]
    assert sum(halves) == pytest.approx(-sum(smooth) / 2)


def test_any_number_of_ranks_and_a_continued_training_compute_the_same() -> None:
    settings = recipe(class_weights="0,1,2,3,4,5,6,7,8,9", label_smoothing=0.1)
    alone, weights = trained(1, settings)
    together, others = trained(3, settings)
    assert_close(weights, others)
    assert [row.loss for row in together.history] == pytest.approx([row.loss for row in alone.history], rel=1e-11)
    assert_close(weights, continued(settings))
    plain, _ = trained(1, recipe(label_smoothing=0.1))
    assert plain.history[0].loss != alone.history[0].loss


def test_equal_weights_are_none_but_for_rounding() -> None:
    _, weights = trained(1, recipe(class_weights=",".join("7" * 10)))
    _, plain = trained(1, recipe())
    assert_close(plain, weights)


def test_a_continued_retraining_has_the_numbers_that_its_file_had(tmp_path: Path) -> None:
    file = tmp_path / "weights.txt"
    file.write_text("1\n2\n")
    folder = retrained(tmp_path / "run", [0.5], settings={"training": {"class_weights": "1.0,2.0"}})

    def opened(*options: str) -> None:
        open_retraining(parse(["--run", str(folder), "--runs", "2", *options], RETRAINING)).close(MORE_TO_DO)

    opened("--class-weights", str(file))
    file.write_text("1\n3\n")
    opened()
    with pytest.raises(RetrainingRefused, match=r"training\.class_weights: 1\.0,2\.0 → 1\.0,3\.0"):
        opened("--class-weights", str(file))
