"""--dry-run of a retraining: everything that a person would want to know before the cluster is asked, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcnas import plugins
from hpcnas.architecture import genotype
from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.data.datasets import load_training
from hpcnas.job.devices import Binding, Seat
from hpcnas.plugins import DataKind, Plugin
from hpcnas.retrain import dry_run
from hpcnas.retrain.record import Origin

CPU = Seat("node-1", (), frozenset({0, 1}), 2)


def recipe(preset: str, **settings: Any) -> RetrainingConfig:
    return SCHEME.build(SCHEME.preset(preset), settings)


def parts(settings: RetrainingConfig, *bindings: Binding) -> dict[str, list[str]]:
    """Lines by the title that they stand under."""
    origin, ranks = Origin("paper", "hierarchical"), bindings or (Binding(None, 2),)
    text = dry_run.text(settings, genotype.named("paper"), origin, [CPU] * len(ranks), ranks)
    _, *others = text.split("\n# ")
    return {title: lines.strip().splitlines() for title, _, lines in (one.partition("\n") for one in others)}


def test_the_papers_large_network() -> None:
    found = parts(recipe("cifar-large"))
    assert found["network"] == [
        "genotype paper, space hierarchical",
        "images of 32×32, 3 channels, 10 classes (CIFAR-10); trained on 24×24",
        "15,727,306 parameters, 4.61 GFLOPs a test image",
    ]
    assert found["training"] == [
        "1 × 80,000 steps of 256 images (409.6 epochs), batch statistics of all of them",
        "learning rate 0.1, divided by 10 after 40,000, 60,000, 70,000 steps",
    ]


def test_epochs_are_told_in_steps_and_steps_in_epochs(tmp_path: Path) -> None:
    short = {"epochs": 2.0, "warm_up": 0.1, "batch_size": 100, "micro_batch": 50}
    settings = recipe("cifar-large", training=short, data={"source": "synthetic:1000", "validation_fraction": 0.1})
    assert parts(settings)["training"][:2] == [
        "1 × 18 steps of 100 images (2 epochs), batch statistics of all of them",
        "learning rate 0.1, divided by 10 after 9, 14, 16 steps, rising in the first 2 steps",
    ]
    unknown = recipe("cifar-large", training=short, data={"source": f"imagefolder:{tmp_path}"})
    assert parts(unknown)["training"] == [
        "1 × 2 epochs in steps of 100 images, as many as the images make, batch statistics of all of them",
        "learning rate 0.1, divided by 10 after 0.5 of the, 0.75 of the, 0.875 of the steps, rising in the first 0.1 "
        "of the steps",
    ]


def test_memory_is_that_of_weights_maps_and_images() -> None:
    assert parts(recipe("cifar-large"))["memory of a rank, estimated"] == [
        "0.18 GiB weights, gradients and momentum",
        "27.05 GiB feature maps of 256 images at a time, in float32; 8.22 GiB where they are computed again "
        "(--recompute)",
        "a step takes up to 32.47 and 14.38 GiB, gradients and workspaces included",
        "0.14 GiB all 50,000 training images",
    ]
    padded = recipe("cifar-large", data={"source": "synthetic:1000000:3x32x32"}, augmentation={"padding": 4})
    assert parts(padded)["memory of a rank, estimated"][-1] == "4.48 GiB all 1,000,000 training images"
    assert len(parts(recipe("imagenet"))["memory of a rank, estimated"]) == 3  # they are streamed
    exact = parts(recipe("cifar-large", training={"precision": "fp64"}))["memory of a rank, estimated"]
    assert exact[0].startswith("0.35 GiB") and "of 256 images at a time, in float64; " in exact[1]


def test_images_of_a_folder_are_counted_by_their_names(tmp_path: Path) -> None:
    settings = recipe("cifar-large", data={"source": f"imagefolder:{tmp_path}"})
    known = parts(settings)
    assert "10 classes (the folder is not here: as CIFAR-10's)" in known["network"][1]
    assert known["memory of a rank, estimated"][-1] == "and all training images: how many there are is not known here"
    for name in ("ape/1.png", "ape/2.png", "bee/1.png"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    found = dry_run.expected(settings)
    assert (found.images, found.skeleton.classes) == (3, 2)


def test_what_a_plugin_brings_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(rest: str, split: str, download: bool) -> tuple[tuple[str, ...], Any, Any]:
        if rest != "7" or split != "train":
            raise DataError(f"expected dots:7, got {rest}")
        return ("one", "two", "six"), np.zeros((7, 20, 12, 1), dtype=np.uint8), np.arange(7) % 3

    monkeypatch.setattr(plugins, "_loaded", {"mine": Plugin(data={"dots": DataKind("dots:N", read)})})
    found = parts(recipe("cifar-large", data={"source": "dots:7"}))
    assert found["network"][1] == "images of 20×12, 1 channels, 3 classes (dots of a plugin); trained on 15×9"
    assert found["memory of a rank, estimated"][-1] == "0.00 GiB all 7 training images"
    unknown = parts(recipe("cifar-large", data={"source": "dots:8"}))["network"][1]
    assert "(as CIFAR-10's, since they cannot be read: dots:8: expected dots:7, got 8)" in unknown


def test_the_digits_are_as_many_as_come_with_the_package() -> None:
    assert dry_run.expected(recipe("quick")).images == len(load_training("digits").images.labels)


def test_it_begins_with_the_recipe_that_can_be_given_back() -> None:
    settings = recipe("quick")
    text = dry_run.text(settings, genotype.named("paper"), Origin("paper", "hierarchical"), [], [])
    assert SCHEME.build(SCHEME.parse_toml(text.partition("# network")[0], "")[0]) == settings


def test_ranks_are_listed_with_what_they_are_bound_to() -> None:
    assert parts(recipe("cifar-large"), Binding("0", 2, "GPU-7"), Binding("1", 2), Binding(None, 1))["ranks"] == [
        "rank 0  node-1  cuda:GPU-7, 2 threads, 85 images a step",
        "rank 1  node-1  cuda:1, 2 threads, 85 images a step",
        "rank 2  node-1  cpu, 1 threads, 86 images a step",
    ]


def test_made_up_images_stand_in_for_data_that_are_not_here(tmp_path: Path) -> None:
    weighed = SCHEME.build(
        SCHEME.preset("quick"),
        {"data": {"source": "cifar100:nowhere"}, "training": {"class_weights": "1,2"}, "run": {"download": True}},
    )
    here = dry_run.at_hand(weighed)
    assert here is not None and here.data.source == "synthetic:50000:3x32x32"
    assert here.training.class_weights is None and not here.run.download  # of ten classes, as many of each
    streamed = SCHEME.build(SCHEME.preset("imagenet"), {"data": {"source": "imagefolder:nowhere"}})
    assert dry_run.at_hand(streamed) is None
    there = SCHEME.build(SCHEME.preset("quick"), {"data": {"source": f"cifar10:{tmp_path}"}})
    assert dry_run.at_hand(there) == there
