"""The recipe of a retraining: the paper's numbers, what is refused, and what a continued one may change."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import retraining
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import ImageFacts
from hpcnas.config.options import parse
from hpcnas.config.retraining import RETRAINING, SCHEME
from hpcnas.config.settings import ConfigError


def preset(name: str) -> retraining.RetrainingConfig:
    return SCHEME.build(SCHEME.preset(name))


def milestones(found: retraining.RetrainingConfig) -> list[int]:
    return [round(share * found.training.steps) for share in found.training.milestones]


def test_cifar_large_is_the_papers() -> None:
    found = preset("cifar-large")
    skeleton = found.skeleton(ImageFacts(3, 32, 32, 10))
    assert skeleton == Skeleton(3, 32, 32, 10, channels=64, cells=(2, 2, 2), stem="plain")
    training = found.training
    assert (training.steps, training.batch_size, training.learning_rate) == (80_000, 256, 0.1)
    assert (training.momentum, training.weight_decay, training.schedule) == (0.9, 3e-4, "milestones")
    assert milestones(found) == [40_000, 60_000, 70_000]
    assert found.augmentation.crop * 32 == 24 and found.augmentation.flip and found.augmentation.padding == 0


def test_imagenet_is_the_papers() -> None:
    found = preset("imagenet")
    expected = Skeleton(3, 299, 299, 1000, channels=64, cells=(1, 2, 2, 2), stem="strided")
    assert found.skeleton(ImageFacts(3, found.data.image_size, found.data.image_size, 1000)) == expected
    training = found.training
    assert (training.steps, training.batch_size, training.learning_rate) == (200_000, 1024, 0.1)
    assert (training.momentum, training.weight_decay) == (0.9, 1e-4)
    assert milestones(found) == [100_000, 150_000, 175_000]
    assert found.data.loading == "stream" and found.augmentation.brightness and found.augmentation.contrast


@pytest.mark.parametrize("name", ["cifar-large", "imagenet"])
def test_the_papers_recipes_have_nothing_that_the_paper_has_not(name: str) -> None:
    found = preset(name)
    training = found.training
    assert (training.label_smoothing, training.drop_path, training.auxiliary_weight) == (0, 0, 0)
    assert (training.epochs, training.warm_up, training.freeze_cell, found.network.weights) == (None, 0, False, None)
    assert (found.augmentation.rand_augment, found.augmentation.mixup, training.class_weights) == (0, 0, None)
    assert (training.weight_averaging, found.augmentation.cutout, found.data.validation_fraction) == (0, 0, 0)


def test_a_recipe_survives_its_text() -> None:
    found = SCHEME.build(SCHEME.preset("imagenet"), {"data": {"mean": (1.5, 2.0, 3.0), "std": (1.0, 1.0, 2.0)}})
    settings, _ = SCHEME.parse_toml(found.toml(), "")
    assert SCHEME.build(settings) == found


def test_epochs_stand_in_place_of_steps() -> None:
    assert preset("quick").on_images(1442) == preset("quick")
    unknown = SCHEME.build(SCHEME.preset("quick"), {"training": {"epochs": 2.5}})
    known = unknown.on_images(1442)
    assert known.training.steps == 56  # 2.5 · 1442 / 64 = 56.3
    assert unknown.on_images(3).training.steps == 1
    assert known.on_images(64).training.steps == 2  # 2.5, and Python's rounding
    assert "steps" not in known.toml().replace("_steps", "") and "epochs = 2.5" in known.toml()
    settings, _ = SCHEME.parse_toml(known.toml(), "")
    assert SCHEME.build(settings).on_images(1442) == known
    assert SCHEME.build(SCHEME.lasting(known)).on_images(1442) == known


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"steps": 7}, {"epochs": 2}], (2, 3)),
        ([{"epochs": 2}, {"steps": 7}], (None, 7)),
        ([{"epochs": 2}, {"batch_size": 128}], (2, 2)),
        ([{"epochs": None, "steps": 7}], (None, 7)),
    ],
)
def test_of_epochs_and_steps_the_later_one_counts(
    layers: list[dict[str, object]], expected: tuple[float | None, int]
) -> None:
    found = SCHEME.build(SCHEME.preset("quick"), *({"training": layer} for layer in layers)).on_images(100).training
    assert (found.epochs, found.steps) == expected


def test_epochs_and_steps_at_once_are_refused() -> None:
    for given in (["--steps", "7", "--epochs", "2"], ["--epochs", "2", "--steps", "80000"]):
        with pytest.raises(ConfigError, match="expected training.epochs or training.steps, got both"):
            parse(given, RETRAINING)


def test_settings_stand_in_the_order_of_older_files() -> None:
    """Though the section of both programs is one: a run's configuration stays as it is, byte for byte."""
    search = "run device threads profile download progress max_attempts hang_timeout evaluation_timeout "
    search += "checkpoint_interval walltime grace device_failures max_failures compact_interval lock_wait "
    search += "tensorboard csv_log mlflow"
    ours = "run device threads loaders compile download address progress history_every validate_every "
    ours += "checkpoint_interval walltime grace lock_wait recompute smaller_batches tensorboard csv_log mlflow"
    assert list(search_config.SCHEME.settings(search_config.build())["run"]) == search.split()
    assert list(SCHEME.settings(SCHEME.build())["run"]) == ours.split()


def test_every_setting_is_an_option() -> None:
    words = "--cells 1 2 2 --channels 8 --micro-batch 32 --genotype runs/x:17 --mean 1 2 3 --std 4 5 6"
    words += " --loaders 0 --compile"
    assert parse(words.split(), RETRAINING).layers[-1] == {
        "network": {"genotype": "runs/x:17", "channels": 8, "cells": (1, 2, 2)},
        "training": {"micro_batch": 32},
        "data": {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)},
        "run": {"loaders": 0, "compile": True},
    }


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            {"training": {"batch_size": 100, "batch_statistics": "micro-batch"}},
            "micro_batch: expected a divisor of the batch of 100 images, got 32",
        ),
        ({"network": {"stem": "strided", "channels": 5}}, "expected an even number for a strided stem, got 5"),
        ({"network": {"cells": ()}}, "network.cells: expected the cells of 1 to 20 groups, got 0"),
        ({"network": {"cells": (1, 2.5)}}, "network.cells: expected an integer from 1 to 10000, got 2.5"),
        ({"data": {"loading": "stream"}}, "expected imagefolder:DIR to stream from, got 'cifar10:data'"),
        ({"data": {"mean": (1.0,)}}, "data.mean, data.std: expected both"),
        ({"training": {"milestones": (0.5, 0.25)}}, "expected them in order"),
        ({"data": {"source": "cifar:x"}}, "did you mean cifar10:DIR?"),
        ({"training": {"epochs": 0}}, "training.epochs: expected a number from 0.001 to 1000000, got 0"),
        ({"training": {"epochs": math.inf}}, "training.epochs: expected a number from 0.001 to 1000000, got inf"),
        ({"training": {"warm_up": 1.5}}, "training.warm_up: expected a number from 0.0 to 1.0, got 1.5"),
        ({"training": {"freeze_cell": True}}, "training.freeze_cell: expected network.weights, to keep the cells of"),
        (
            {"network": {"weights": "a.pt"}, "training": {"freeze_cell": True, "drop_path": 0.1}},
            "training.drop_path: expected 0 beside freeze_cell",
        ),
        ({"augmentation": {"mixup": 0.001}}, "augmentation.mixup: expected 0 or at least 0.01, got 0.001"),
        ({"augmentation": {"rand_augment_magnitude": 31}}, "rand_augment_magnitude: expected an integer from 0 to 30"),
        ({"training": {"droppath": 0.1}}, "did you mean 'drop_path'?"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(layer: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SCHEME.build(layer)
    assert message in str(caught.value)


def test_what_is_computed_may_not_change_and_where_it_is_may() -> None:
    stored = preset("cifar-large")
    moved = dataclasses.replace(
        stored,
        data=dataclasses.replace(stored.data, source="imagefolder:elsewhere"),
        training=dataclasses.replace(stored.training, runs=5),
        run=dataclasses.replace(stored.run, device="cpu", checkpoint_interval=1.0),
    )
    assert SCHEME.differences(stored, moved) == []
    other = dataclasses.replace(stored, training=dataclasses.replace(stored.training, micro_batch=128))
    assert SCHEME.differences(stored, other) == ["training.micro_batch: 32 → 128"]
