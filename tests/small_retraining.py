"""A small retraining, for tests of what its ranks compute: threads (`rank_threads`) in float64, so that a difference of
arithmetic is not taken for noise."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from test_expansion import build
from torch import Tensor

from hpcnas.architecture.expansion import expand
from hpcnas.config.data_spec import ImageFacts
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain.feed import Resident
from hpcnas.retrain.loop import DistributedTraining

torch.set_num_threads(1)

GRAPH = expand(build("1x4", ["1-2 sep, 2-3 max, 1-3 dw, 3-4 1x1, 1-4 id"]))
STEPS = 6
REGULARISED = {"drop_path": 0.4, "auxiliary_weight": 0.4, "label_smoothing": 0.1, "weight_averaging": 0.9}
building = threading.Lock()  # initial weights are drawn from the process's generator


def recipe(**training: object) -> RetrainingConfig:
    settings: dict[str, dict[str, Any]] = {
        "network": {"channels": 4, "cells": (1, 1)},
        "training": {"steps": STEPS, "batch_size": 16, "micro_batch": 4, "precision": "fp64", **training},
        "augmentation": {"cutout": 2, "flip": True, "crop": 0.75},
        "data": {"source": "synthetic:50:3x8x8"},
        "run": {"history_every": 2},
    }
    return SCHEME.build(settings)


def made(settings: RetrainingConfig, group: ThreadGroup, recomputed: bool = False) -> DistributedTraining:
    feed = Resident(settings, group.rank, group.size, torch.device("cpu"))
    skeleton = settings.skeleton(ImageFacts(3, 8, 8, 10))
    with building:
        silent = _Silent(group)
        parts = (GRAPH, skeleton, settings, 5, feed, silent, torch.device("cpu"), pytest.fail, recomputed)
        training = DistributedTraining(*parts)  # type: ignore[arg-type]
    group.gather(None)  # what is drawn from the process's generator is drawn when all are built
    silent.copy_from_first = group.copy_from_first  # type: ignore[method-assign]
    return training


class _Silent:
    """The group, but that nothing is exchanged yet: ranks are built one after another."""

    def __init__(self, group: ThreadGroup) -> None:
        self._group = group

    def __getattr__(self, name: str) -> object:
        return getattr(self._group, name)

    def copy_from_first(self, tensors: list[Tensor]) -> None:
        pass


def run(training: DistributedTraining, until: int = STEPS) -> bool:
    return training.run(
        leave=lambda: training.step + 1 >= until and until < STEPS,
        save_due=lambda: False,
        save=lambda: None,
        made_step=lambda: None,
    )


def trained(ranks: int, settings: RetrainingConfig) -> tuple[DistributedTraining, dict[str, Tensor]]:
    """Rank 0's training to the end, after all ranks were compared, and its weights."""

    def work(group: ThreadGroup) -> DistributedTraining:
        training = made(settings, group)
        assert run(training)
        return training

    found = on_ranks(ranks, work)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0]._tensors(), other._tensors(), strict=True))
    return found[0], found[0].weights()


def continued(settings: RetrainingConfig) -> dict[str, Tensor]:
    """The weights of a training by one rank that leaves after three steps, and goes on from its state."""

    def work(group: ThreadGroup) -> dict[str, Tensor]:
        begun, other = made(settings, group), made(settings, group)
        run(begun, until=3)
        other.resume(copy.deepcopy(begun.state()))
        assert run(other)
        return other.weights()

    return on_ranks(1, work)[0]


def assert_close(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-9, atol=1e-12, msg=name)


def write_image(path: Path, mode: str, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(side).integers(0, 256, (side, side), dtype=np.uint8)
    PIL.Image.fromarray(pixels).convert(mode).save(path)
