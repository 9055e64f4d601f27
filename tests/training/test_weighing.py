"""Costs of trained networks that a search weighs fitness against: measured in the trainer, kept, and gone by; and a
plugin's of genotypes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import CONFIG, FACTS, SESSION, SPACE, evaluated, individual, population
from test_cpu_program import flat
from torch import nn
from trainer_runs import nothing

from hpcnas import plugins
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import search as search_config
from hpcnas.config.search import DataSettings, SearchConfig, TrainingSettings
from hpcnas.config.settings import ConfigError
from hpcnas.data import arrays
from hpcnas.data.datasets import load_training
from hpcnas.evolution import objectives
from hpcnas.evolution.registry import StrategyMissing, make_strategy
from hpcnas.messages import Evaluation, Failure, Task
from hpcnas.plugins import Objective, Plugin
from hpcnas.search import records, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.training import weighing
from hpcnas.training.cpu.compiled import on_threads
from hpcnas.training.evaluator import checked
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import TrainingData
from hpcnas.training.plain import PlainTraining

IMAGES = torch.zeros(3, 1, 8, 8)
GENOTYPE, SKELETON = flat("1-2 sep", 2), Skeleton(1, 8, 8, 10, 4, (1,))
SETTINGS = TrainingSettings(replicates=3, steps=2, batch_size=20, crop=1.0, flip=False)


class Counted(nn.Module):
    """Remembers how many images it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        assert not torch.is_grad_enabled()
        return images


def test_a_latency_is_of_one_image_after_others_that_do_not_count() -> None:
    network = Counted()
    median, spread = weighing.weigh("latency", network, IMAGES, half=False)
    assert network.batches == [1] * (weighing.WARM_UP + weighing.TIMES)
    assert median > 0 and spread is not None and spread >= 0


@pytest.fixture(scope="module")
def digits() -> TrainingData:
    return TrainingData.prepare(load_training("digits"), DataSettings(), torch.device("cpu"))


def brings(of: Any, trained: bool = True) -> Plugin:
    return Plugin(objectives={"own": Objective(of, trained, "a cost (€)")})


def test_a_plugins_cost_of_a_trained_network() -> None:
    with plugins.alone("mine", brings(lambda network, images: torch.tensor(len(images) - 5))):
        assert weighing.weigh("own", Counted(), IMAGES, half=False) == (-2.0, None)
        assert objectives.words("own") == "a cost (€)"
    for wrong in ("much", math.nan, 1e16):
        refusal = pytest.raises(plugins.PluginFault, match="plugin 'mine': objective 'own': expected a number from")
        with plugins.alone("mine", brings(lambda network, images, wrong=wrong: wrong)), refusal:
            weighing.weigh("own", Counted(), IMAGES, half=False)


def test_a_plugins_cost_of_a_genotype() -> None:
    found = population(evaluated(0), evaluated(1))
    with plugins.alone("mine", brings(lambda genotype: sum(genotype.codes), trained=False)):
        cost = objectives.cost("own", lambda genotype: pytest.fail("not counted"))
        assert [cost(found, id) for id in range(2)] == [0.0, 9.0]
    with plugins.alone("mine", brings(lambda genotype: None, trained=False)):
        cost = objectives.cost("own", lambda genotype: pytest.fail("not counted"))
        with pytest.raises(plugins.PluginFault, match="expected a number from -1e\\+15 to 1e\\+15, got None"):
            cost(found, 0)


def test_every_way_to_train_has_the_network_weighed_once(digits: TrainingData) -> None:
    torch.set_num_threads(1)
    seen: list[tuple[float, tuple[int, ...]]] = []

    def cost(network: nn.Module, images: torch.Tensor) -> int:
        assert not network.training
        seen.append((float(sum(one.double().sum() for one in network.parameters())), tuple(images.shape)))
        return 7

    with plugins.alone("mine", brings(cost)):
        for way in (PlainTraining, on_threads(1), on_threads(2)):
            evaluation = FitnessInProgress(
                GENOTYPE, (5, 6, 7), SKELETON, digits, SETTINGS, way, (), "own"
            ).run(nothing, nothing)
            assert isinstance(evaluation, Evaluation) and evaluation.objective == (7.0, None)
    assert [shape for _, shape in seen] == [(32, 1, 8, 8)] * 3
    assert seen[1][0] == seen[2][0] == pytest.approx(seen[0][0], rel=1e-3)


def test_a_network_is_weighed_by_validation_images_of_mapped_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_SHARED", 0)
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train/images.npy", np.random.default_rng(0).integers(0, 60_000, (50, 8, 8, 1), dtype=np.uint16))
    np.save(tmp_path / "train/labels.npy", np.arange(50) % 10)
    data = TrainingData.prepare(load_training(f"arrays:{tmp_path}"), DataSettings(), torch.device("cpu"))
    seen: list[torch.Tensor] = []

    def cost(network: nn.Module, images: torch.Tensor) -> int:
        seen.append(images)
        return 1

    with plugins.alone("mine", brings(cost)):
        FitnessInProgress(GENOTYPE, (5,), SKELETON, data, SETTINGS, PlainTraining, (), "own").run(nothing, nothing)
    assert data.validation_places is not None
    assert torch.equal(seen[0], data.normalise(data.validated(slice(None)))) and len(seen[0]) == 10


def test_memory_that_ends_where_a_network_is_weighed_is_met_with_fewer_side_by_side(
    digits: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [torch.OutOfMemoryError("CUDA out of memory")]

    def cost(*_: object) -> weighing.Cost:
        if refusals:
            raise refusals.pop()
        return 7.0, None

    monkeypatch.setattr(weighing, "weigh", cost)
    found = FitnessInProgress(GENOTYPE, (5, 6, 7), SKELETON, digits, SETTINGS, on_threads(2), (), "own")
    evaluation = found.run(nothing, nothing)
    assert isinstance(evaluation, Evaluation) and len(evaluation.measures) == len(evaluation.accuracies) == 3


def weighed(id: int, *objective: float | None) -> Any:
    result = evaluated(id)
    return replace(result, outcome=replace(result.outcome, objective=objective))


def test_costs_are_kept_and_gone_by(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(SESSION)
    for id in range(3):
        store.birth(individual(id))
    store.settle(weighed(0, 0.25, 0.0625))
    store.compact()
    store.settle(weighed(1, -2.0, None))
    store.settle(evaluated(2))
    store.commit()
    store.close()
    again = FileStore.open(tmp_path / "run")  # the second from the journal
    again.compact()
    again.close()
    found = run_file.read(tmp_path / "run").population
    assert [found.objective(id) for id in range(3)] == [(0.25, 0.0625), (-2.0, None), None]
    assert found.result(1) == weighed(1, -2.0, None)
    cost = objectives.cost("latency", lambda genotype: pytest.fail("not counted"))
    assert [cost(found, id) for id in range(3)] == [0.25, -2.0, math.inf]


@pytest.mark.parametrize("wrong", [1.0, [1.0], [None, 1.0], [1.0, -1.0], [math.nan, None], ["1", None], [1, 2, 3]])
def test_wrong_costs_are_refused(wrong: object) -> None:
    record = json.loads(json.dumps(records.result(weighed(0, 1.0, None))))
    record["evaluation"]["objective"] = wrong
    with pytest.raises(records.ERRORS):
        records.outcome(record)
    outcome = replace(evaluated(0).outcome, objective=wrong)
    found = checked(outcome, Task(0, 1, individual(0).genotype, (1, 2)))
    assert isinstance(found, Failure) and "expected a cost and its spread, or None, as objective" in found.message


def searching(**search: object) -> SearchConfig:
    return search_config.build({"search": {"space": str(SPACE), "strategy": "nsga2", **search}})


def test_who_is_asked_for_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert searching(objective="latency").measured_objective == "latency"
    assert searching().measured_objective is None
    assert searching(strategy="aging", objective="latency").measured_objective is None
    with pytest.raises(ConfigError, match="search.objective: expected .*cheapness"):
        searching(objective="cheapness")
    with pytest.raises(ConfigError, match="no cost of trained networks with --evaluator synthetic, got latency"):
        search_config.build({"search": {"strategy": "nsga2", "objective": "latency"},
                             "evaluation": {"evaluator": "synthetic"}})  # fmt: skip
    with plugins.alone("mine", brings(lambda genotype: 1.0, trained=False)):
        config = searching(objective="own", plugins="mine")
        assert config.measured_objective is None and make_strategy(config, FACTS) is not None
    with pytest.raises(StrategyMissing, match="objective own is a plugin's, mine: not loaded"):
        make_strategy(config, FACTS)
