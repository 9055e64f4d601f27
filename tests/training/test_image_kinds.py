"""Images of any number of channels and every type of values: plans learn from them what the plain network learns.

The same values in another type are the same images, to the last bit: what is cropped, mirrored and padded too.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cpu_program import flat

from hpcnas import plugins
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data import arrays
from hpcnas.data.arrays import TYPES
from hpcnas.data.augment import movable, padded
from hpcnas.data.datasets import DataSet, Images, load_training
from hpcnas.plugins import DataKind
from hpcnas.storage import allowed
from hpcnas.training import probing
from hpcnas.training.choice import fastest_method
from hpcnas.training.cpu.compiled import CompiledTraining
from hpcnas.training.method import OWN_VALIDATION, TrainingData
from hpcnas.training.plain import PlainTraining
from hpcnas.training.single import SingleTraining

GENOTYPE = flat("1-2 sep, 1-3 dw, 2-3 max, 3-4 1x1", 4)
SETTINGS = TrainingSettings(replicates=1, steps=3, batch_size=8, crop=0.875, padding=1, learning_rate=0.05)
CPU = torch.device("cpu")


def skeleton(channels: int) -> Skeleton:
    return Skeleton(channels, 8, 8, 3, 8, (1, 1))


def data(channels: int, kind: str, low: int = 0) -> TrainingData:
    """45 images for training and 15 for validation; values from `low` to `low` + 249 in steps of 2."""
    generator = np.random.default_rng(channels)
    pixels = 2 * generator.integers(0, 125, (60, 8, 8, channels)) + low
    labels = np.arange(60) % 3
    pixels[labels == 1, 2:5] //= 2
    images = Images(pixels.astype(kind), labels)
    return TrainingData.prepare(
        DataSet("x", ("a", "b", "c"), images, ""), DataSettings(validation_fraction=0.25), CPU, SETTINGS.padding
    )


def steps(method: type[SingleTraining], found: TrainingData) -> tuple[list[float], float]:
    torch.set_num_threads(1)
    training = method.of(GENOTYPE, skeleton(found.facts.image_channels), found, SETTINGS, (3,))
    assert isinstance(training, SingleTraining)
    return [float(training.make_step()) for _ in range(SETTINGS.steps)], training.validate(lambda: None).accuracy


@pytest.mark.parametrize("channels", [1, 3, 12, 64, 256])
def test_the_plan_learns_what_the_plain_network_learns(channels: int) -> None:
    found = data(channels, "float32")
    assert fastest_method(CPU, 1, SETTINGS, skeleton(channels)) is CompiledTraining
    plain, ours = steps(PlainTraining, found), steps(CompiledTraining, found)
    assert ours[0] == pytest.approx(plain[0], rel=1e-3)


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_values_in_another_type_learn_the_same(kind: str) -> None:
    found, expected = data(3, kind), data(3, "uint8")
    assert found.pixels.dtype is getattr(torch, kind)
    assert steps(CompiledTraining, found) == steps(CompiledTraining, expected)
    assert steps(PlainTraining, found) == steps(PlainTraining, expected)


def test_negative_values_are_what_others_are_once_they_are_normalised() -> None:
    whole, labels = np.random.default_rng(0).integers(0, 250, (60, 8, 8, 2)), np.arange(60) % 3
    found, expected = (
        TrainingData.prepare(DataSet("x", ("a", "b", "c"), Images(values, labels), ""), DataSettings(), CPU)
        for values in ((whole - 30_000).astype(np.int16), whole.astype(np.int16))
    )
    assert torch.allclose(found.normalise(found.pixels), expected.normalise(expected.pixels), atol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_padded_is_zero_in_every_type(kind: str) -> None:
    low = 0 if kind.startswith("u") else -50
    pixels = torch.as_tensor((np.arange(2 * 3 * 3 * 5).reshape(2, 3, 3, 5) + low + 1).astype(kind))
    found = padded(pixels, 2)
    assert found.dtype is pixels.dtype and found.shape == (2, 7, 7, 5)
    assert torch.equal(movable(found[:, 2:5, 2:5].contiguous()), movable(pixels))
    around = found.float()
    around[:, 2:5, 2:5] = 0
    assert not around.any()


def test_the_split_and_the_statistics_are_written_down() -> None:
    pixels = np.random.default_rng(0).normal(size=(60, 8, 8, 2)).astype(np.float32)
    images = Images(pixels, np.arange(60) % 3, np.arange(60) // 4)
    own = DataSet("x", ("a", "b", "c"), images, "", Images(images.pixels[:6], images.labels[:6]))
    grouped = TrainingData.prepare(dataclasses.replace(own, validation=None), DataSettings(), CPU).facts
    assert len(grouped.split) == 16 and grouped.validation_images + grouped.training_images == 60
    facts = TrainingData.prepare(own, DataSettings(), CPU).facts
    assert (facts.split, facts.training_images, facts.validation_images) == (OWN_VALIDATION, 60, 6)
    assert facts.mean == pytest.approx(pixels.mean((0, 1, 2)).tolist(), abs=1e-6)
    bytes_alone = data(3, "uint8").facts
    again = allowed.facts(json.loads(json.dumps(facts.record())))
    assert again == facts and (again.mean, again.std) == (facts.mean, facts.std)
    for wrong in ({"split": 3}, {"mean": [None]}, {"std": "1"}, {"more": 1}):
        with pytest.raises(ValueError, match="expected of the data"):
            allowed.facts(facts.record() | wrong)
    assert str(facts) == f"{facts!r} split by validation part" and str(bytes_alone) == repr(bytes_alone)
    assert set(bytes_alone.record()) == set(facts.record()) - {"split", "mean", "std"}


@pytest.mark.parametrize("own", [False, True])
def test_what_is_mapped_is_trained_on_as_what_is_copied(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file that a worker maps: the same steps and accuracies, to the last bit."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 60), ("validation", 9) if own else ("test", 9)):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "images.npy", generator.integers(0, 60_000, (count, 8, 8, 5), dtype=np.uint16))
        np.save(tmp_path / part / "labels.npy", np.arange(count) % 3)
    found = []
    for shared in (1 << 40, 0):
        monkeypatch.setattr(arrays, "_SHARED", shared)
        found.append(TrainingData.prepare(load_training(f"arrays:{tmp_path}"), DataSettings(), CPU, SETTINGS.padding))
    copied, mapped = found
    assert copied.places is None and mapped.places is not None and mapped.facts == copied.facts
    assert mapped.facts.mean == copied.facts.mean and mapped.pixels.shape == (60, 8, 8, 5)
    assert steps(CompiledTraining, mapped) == steps(CompiledTraining, copied)
    few, way = probing._few(mapped), probing.find(CPU, 1, SETTINGS, skeleton(5), mapped)
    assert way.slower == "" and len(few.validated(slice(None))) == len(few.validation_labels)


@pytest.mark.parametrize("kind", ["arrays", "plugin"])
def test_constant_channels_are_told_whenever_images_are_prepared(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where images come from a cache that another process has filled, and from a plugin."""
    pixels = np.random.default_rng(0).integers(0, 100, (12, 8, 8, 3), dtype=np.uint8)
    pixels[..., 1] = 7
    monkeypatch.setattr(arrays, "_SHARED", 0)
    np.savez_compressed(tmp_path / "x.npz", **{"train/images": pixels, "train/labels": np.arange(12) % 3})
    name = f"arrays:{tmp_path}/x.npz"
    if kind == "plugin":
        given = ("a", "b", "c"), pixels, np.arange(12) % 3
        name, known = "odd", {"odd": DataKind("odd", lambda rest, split, download: given)}
        monkeypatch.setattr(plugins, "data", lambda: known)
        monkeypatch.setattr(plugins, "bringer", lambda *_: "plugin 'mine'")
    for _ in range(2):
        caplog.clear()
        TrainingData.prepare(load_training(name), DataSettings(), CPU)
        assert caplog.messages[-1] == f"{name}, training images: constant channels tell a network nothing: 1 (7)"
    assert len(list(tmp_path.glob(".hpcnas-*.npy"))) == (kind == "arrays")
