"""Weights of classes in the loss of a search (`--class-weights`): what they are, and that every way to train goes by
them. Kernels are held against autograd in `test_cpu_program` and `test_cuda_program`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_cpu_program import flat

from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import options
from hpcnas.config.data_spec import DataError
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.datasets import load_training
from hpcnas.search.session import SearchSession
from hpcnas.training.cpu.compiled import CompiledTraining
from hpcnas.training.method import TrainingData
from hpcnas.training.plain import PlainTraining, cross_entropy

SETTINGS = TrainingSettings(replicates=1, steps=3, batch_size=20, crop=1.0, flip=False)
CPU = torch.device("cpu")


def prepared(weights: str | None) -> TrainingData:
    return TrainingData.prepare(load_training("digits"), DataSettings(), CPU, weights=weights)


def test_a_training_image_weighs_1_on_average() -> None:
    data = prepared("balanced")
    sizes = torch.bincount(data.labels)
    assert data.class_weights is not None and prepared(None).class_weights is None
    torch.testing.assert_close(data.class_weights * sizes, torch.full((10,), len(data.labels) / 10))
    with pytest.raises(DataError, match="expected --class-weights of 10 classes, got 2"):
        prepared("1.0,2.0")


def test_weighted_terms_are_divided_by_the_number_of_images() -> None:
    scores, labels = torch.log(torch.tensor([[0.6, 0.4], [0.2, 0.8]])), torch.tensor([0, 1])
    each = -torch.log(torch.tensor([0.6, 0.8]))
    assert cross_entropy(scores, labels, torch.tensor([1.0, 4.0])) == pytest.approx((each[0] + 4 * each[1]) / 2)
    assert cross_entropy(scores, labels) == pytest.approx(each.mean())


def test_compiled_trainings_go_by_them_as_the_plain_one_does() -> None:
    torch.set_num_threads(1)
    even = prepared(None)
    data = replace(even, class_weights=torch.tensor([4.0, *[0.5] * 9]))
    losses = {}
    for way in (PlainTraining, CompiledTraining):
        for name, given in (("weighted", data), ("even", even)):
            training = way(flat("1-2 sep", 2), Skeleton(1, 8, 8, 10, 4, (1,)), given, SETTINGS, 3)
            losses[way, name] = [float(training.make_step()) for _ in range(2)]
    for name in ("weighted", "even"):
        assert losses[CompiledTraining, name] == pytest.approx(losses[PlainTraining, name], rel=1e-3)
    assert losses[PlainTraining, "weighted"][0] != pytest.approx(losses[PlainTraining, "even"][0], rel=0.02)


def test_a_run_keeps_the_numbers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.txt"
    file.write_text("1 2\n3 # the third\n")
    request = options.parse(["--dry-run", "--run", str(tmp_path / "run"), "--class-weights", str(file)])
    assert SearchSession.open(request).config.training.class_weights == "1.0,2.0,3.0"
